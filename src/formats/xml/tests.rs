//! XML documents and the lines that they become, including hostile documents.

use super::*;

fn lines(document: impl AsRef<[u8]>) -> Result<String, XmlError> {
    with(document, XmlOptions::default())
}

fn with(document: impl AsRef<[u8]>, about: XmlOptions<'_>) -> Result<String, XmlError> {
    let lines = transcribe(document.as_ref(), about, &Known::default())?;
    Ok(String::from_utf8(lines).unwrap().trim_end().to_owned())
}

fn one(inside: &str) -> String {
    lines(format!("<records><record>{inside}</record></records>")).unwrap()
}

#[test]
fn children_of_the_root_are_records() {
    for (document, expected) in [
        ("<records><record><id>1</id></record></records>", "{\"id\":\"1\"}"),
        (
            "<records><record><id>1</id></record><record><id>2</id></record></records>",
            "{\"id\":\"1\"}\n{\"id\":\"2\"}",
        ),
        ("<?xml version='1.0'?>\n<r>\n <a x=\"1\"/>\n <!-- no -->\n <a/>\n</r>\n", "{\"_x\":\"1\"}\n{}"),
        ("<r><a>text</a></r>", "{\"_VALUE\":\"text\"}"),
    ] {
        assert_eq!(lines(document).as_deref(), Ok(expected), "{document}");
    }
}

#[test]
fn elements_and_attributes_become_fields() {
    for (inside, expected) in [
        ("<a>1</a><b>two</b>", r#"{"a":"1","b":"two"}"#),
        ("<a x='1' y='2'>3</a>", r#"{"a":{"_x":"1","_y":"2","_VALUE":"3"}}"#),
        ("<a><b>1</b><b>2</b></a>", r#"{"a":{"b":["1","2"]}}"#),
        ("<a><b>1</b></a><a><b>2</b><b>3</b></a>", r#"{"a":[{"b":["1"]},{"b":["2","3"]}]}"#),
        ("<a/><b></b><c>  </c>", r#"{"a":null,"b":null,"c":null}"#),
        ("<a> 1 </a>", r#"{"a":" 1 "}"#),
        ("<a><![CDATA[<x> & ]]>y</a>", r#"{"a":"<x> & y"}"#),
        ("<a><![CDATA[ ]]></a>", r#"{"a":" "}"#),
        ("<a>&lt;&#65;&#x42;&amp;&quot;&apos;&gt;</a>", r#"{"a":"<AB&\"'>"}"#),
        ("<p>Hello <b>world</b> !\n</p>", r#"{"p":{"b":"world","_VALUE":"Hello !"}}"#),
        ("<a>1</a><!-- c --><?go on?><a>2</a>", r#"{"a":["1","2"]}"#),
        ("<a>x<!-- c -->y<?pi?>z</a>", r#"{"a":"xyz"}"#),
        ("<n:a xmlns:n='urn:x' n:id='7'><n:b>1</n:b></n:a>", r#"{"a":{"_id":"7","b":"1"}}"#),
        ("<a>1</a><n:a>2</n:a>", r#"{"a":"1","n:a":"2"}"#),
        ("<a xsi:nil='true'/><b x='&lt;&#10;\n\"'/>", r#"{"a":null,"b":{"_x":"<\n \""}}"#),
        ("<a>1</a>\r\n<a x='1'>2</a>", r#"{"a":[{"_VALUE":"1"},{"_x":"1","_VALUE":"2"}]}"#),
        ("<a>line\r\nnext</a>", r#"{"a":"line\nnext"}"#),
    ] {
        assert_eq!(one(inside), expected, "{inside}");
    }
}

#[test]
fn values_of_a_field_are_together_wherever_they_stand() {
    for (inside, expected) in [
        ("<a>1</a><b/><a>2</a>", r#"{"a":["1","2"],"b":null}"#),
        ("<m:a>1</m:a><n:a>2</n:a><m:a>3</m:a><n:a>4</n:a>", r#"{"a":["1","3"],"n:a":["2","4"]}"#),
        ("<n:a>1</n:a><a>2</a><n:a>3</n:a>", r#"{"a":["1","2","3"]}"#),
        ("<p m:x='1' n:x='2'><_x>3</_x><n:x>4</n:x></p>", r#"{"p":{"_x":["1","3"],"n:x":"2","x":"4"}}"#),
        ("<p VALUE='1'><_VALUE>2</_VALUE>3</p>", r#"{"p":{"_VALUE":["1","2","3"]}}"#),
    ] {
        assert_eq!(one(inside), expected, "{inside}");
    }
    // As many names as are compared linearly, and more.
    for names in [15, 16, 17, 40] {
        let once: Vec<_> = (0..names).map(|n| format!("<a{n}>x</a{n}><n:a{n}>y</n:a{n}>")).collect();
        let fields: Vec<_> = (0..names).map(|n| format!(r#""a{n}":["x","x"],"n:a{n}":["y","y"]"#)).collect();
        assert_eq!(one(&once.concat().repeat(2)), format!("{{{}}}", fields.join(",")));
    }
}

#[test]
fn nothing_of_a_record_is_in_the_next() {
    let document = "<r><a x='1' y='2'><b z='3'>t<c/>u</b><![CDATA[ ]]></a><a/><a><b/></a><a y='4'> v</a></r>";
    let expected = "{\"_x\":\"1\",\"_y\":\"2\",\"b\":{\"_z\":\"3\",\"c\":null,\"_VALUE\":\"t u\"}}\n\
                    {}\n{\"b\":null}\n{\"_y\":\"4\",\"_VALUE\":\" v\"}";
    assert_eq!(lines(document).as_deref(), Ok(expected));
}

#[test]
fn all_records_of_a_document_agree_on_what_is_an_array_and_an_object() {
    let document = "<r><a><t>1</t></a><a><t>2</t><t>3</t></a><a><u>1</u></a><a><u k='1'>2</u></a></r>";
    let expected = "{\"t\":[\"1\"]}\n{\"t\":[\"2\",\"3\"]}\n{\"u\":{\"_VALUE\":\"1\"}}\n{\"u\":{\"_k\":\"1\",\"_VALUE\":\"2\"}}";
    assert_eq!(lines(document).as_deref(), Ok(expected));
}

#[test]
fn a_row_tag_names_the_records_wherever_they_are() {
    let about = XmlOptions { row_tag: Some("row"), ..XmlOptions::default() };
    let document = "<x>t<y><row><id>1</id></row></y><row><row>2</row></row></x>";
    assert_eq!(with(document, about).as_deref(), Ok("{\"id\":\"1\"}\n{\"row\":\"2\"}"));
    assert_eq!(with("<row><id>1</id></row>", about).as_deref(), Ok("{\"id\":\"1\"}"));
    assert_eq!(with("<x><id>1</id></x>", about), Err(XmlError::NoRecords));
}

#[test]
fn what_is_not_well_formed_has_no_records() {
    let syntax = [
        "<r><a></b></r>",
        "<r><a x='1' x='2'/></r>",
        "<r><a></a></r></r>",
        "<r><a/></r><r/>",
        "<r><a x=1/></r>",
        "<r><a>& b</a></r>",
        "<r><a></r>",
        "<r><a",
        "<r><![CDATA[x</r>",
        "<r><a/></r><!DOCTYPE r>",
        "<><a/></>",
        "{\"a\": 1",
    ];
    for document in syntax {
        let error = lines(document).unwrap_err();
        assert!(matches!(error, XmlError::Syntax { .. } | XmlError::Text(_)), "{document}: {error:?}");
    }
    for (document, error) in [
        ("<r><a>", XmlError::Unclosed("a".to_owned())),
        ("<r><a/>", XmlError::Unclosed("r".to_owned())),
        ("<r><a><b/>", XmlError::Unclosed("a".to_owned())),
        ("", XmlError::NoRoot),
        ("<!-- -->", XmlError::NoRoot),
        ("<r/>", XmlError::NoRecords),
        ("<r>\n</r>", XmlError::NoRecords),
        ("<r><a>&b;</a></r>", XmlError::UnknownEntity("b".to_owned())),
        ("<r><a>&#0;</a></r>", XmlError::UnknownEntity("#0".to_owned())),
        ("<r><a x='&b;'/></r>", XmlError::UnknownEntity("b".to_owned())),
    ] {
        assert_eq!(lines(document), Err(error), "{document}");
    }
}

#[test]
fn entities_are_text_of_the_document_and_nothing_else() {
    let document = |doctype: &str, inside: &str| format!("<!DOCTYPE r [{doctype}]><r><a>{inside}</a></r>");
    let co = "<!ENTITY co \"Acme &amp; Sons\">";
    assert_eq!(lines(document(co, "&co;!")).as_deref(), Ok("{\"_VALUE\":\"Acme & Sons!\"}"));
    assert_eq!(lines("<!DOCTYPE r SYSTEM 'x.dtd'><r><a>1</a></r>").as_deref(), Ok("{\"_VALUE\":\"1\"}"));
    let external = |name: &str| Err(XmlError::ExternalEntity(name.to_owned()));
    assert_eq!(lines(document("<!ENTITY x SYSTEM 'file:///etc/passwd'>", "&x;")), external("x"));
    assert_eq!(lines(document("<!ENTITY x PUBLIC 'p' 'http://localhost/'>", "1")), external("x"));
    assert_eq!(lines(document("<!ENTITY % x SYSTEM 'http://localhost/'> %x;", "1")), external("x"));
    let markup = Err(XmlError::MarkupEntity("x".to_owned()));
    assert_eq!(lines(document("<!ENTITY x '<b/>'>", "&x;")), markup);
    let within = lines(document("<!ENTITY x '&y;'><!ENTITY y '&x;'>", "&x;"));
    assert!(matches!(within, Err(XmlError::Expansion(_))), "{within:?}");
}

#[test]
fn a_billion_laughs_end_early() {
    for laugh in ["lol", ""] {
        let mut doctype = format!("<!ENTITY e0 \"{laugh}\">");
        for n in 1..10_u32 {
            let before = format!("&e{};", n - 1).repeat(10);
            doctype = [&*doctype, "<!ENTITY e", &n.to_string(), " \"", &before, "\">"].concat();
        }
        for inside in ["<a>&e9;</a>", "<a x=\"&e9;\"/>"] {
            let found = lines(format!("<!DOCTYPE r [{doctype}]><r>{inside}</r>"));
            assert!(matches!(found, Err(XmlError::Expansion(_))), "{found:?}");
        }
    }
}

#[test]
fn depth_width_and_size_are_bounded() {
    let nested = |depth: usize| format!("<r>{}{}</r>", "<a>".repeat(depth), "</a>".repeat(depth));
    assert!(lines(nested(DEPTH_MAX - 1)).is_ok());
    assert_eq!(lines(nested(DEPTH_MAX)), Err(XmlError::TooDeep));
    assert_eq!(lines(nested(10_000)), Err(XmlError::TooDeep));
    let unclosed = "<a>".repeat(10_000);
    assert_eq!(lines(unclosed), Err(XmlError::TooDeep));
    // The deepest record, with an array around each element, is accepted as JSON.
    let mut deep = "<b/>".to_owned();
    for _ in 0..DEPTH_MAX - 3 {
        deep = format!("<b/><b>{deep}</b>");
    }
    let json = lines(format!("<r><a>{deep}</a></r>")).unwrap();
    assert!(crate::formats::json::Parser::document(json.as_bytes()).skip_value().is_ok());
    let attributes: Vec<String> = (0..300).map(|n| format!(" a{n}=''")).collect();
    let attributes = attributes.concat();
    assert_eq!(lines(format!("<r><a{attributes}/></r>")), Err(XmlError::TooManyAttributes("a".to_owned())));
    assert_eq!(lines(format!("<r><a>{}</a></r>", "<b/>".repeat(100_000))), Err(XmlError::TooManyElements));
}

#[test]
fn encodings_are_those_that_the_document_or_the_request_says() {
    let utf16 = |text: &str, little: bool| -> Vec<u8> {
        text.encode_utf16()
            .flat_map(|unit| if little { unit } else { unit.swap_bytes() }.to_le_bytes())
            .collect()
    };
    let document = |label: &str| format!("<?xml version='1.0' encoding='{label}'?><r><a>é€</a></r>");
    let plain = "<r><a>é€</a></r>";
    let good = Ok("{\"_VALUE\":\"é€\"}");
    let marked = |mark: &[u8], bytes: Vec<u8>| [mark.to_vec(), bytes].concat();
    for body in [
        plain.as_bytes().to_vec(),
        marked(b"\xEF\xBB\xBF", plain.into()),
        document("utf-8").into_bytes(),
        utf16(&document("UTF-16"), true),
        utf16(&document("UTF-16"), false),
        utf16(&document("UTF-16BE"), false),
        marked(b"\xFF\xFE", utf16(&document("UTF-16"), true)),
        marked(b"\xFE\xFF", utf16(plain, false)),
    ] {
        assert_eq!(lines(&body).as_deref(), good, "{body:?}");
    }
    let latin = |text: &str| encoding_rs::WINDOWS_1252.encode(text).0.into_owned();
    assert_eq!(lines(latin(&document("ISO-8859-1"))).as_deref(), good);
    let about =
        XmlOptions { content_type: Some("text/xml; charset=\"iso-8859-1\""), ..XmlOptions::default() };
    assert_eq!(with(latin(plain), about).as_deref(), good);
    let undeclared = [
        (latin(plain), XmlError::Encoding("UTF-8")),
        (utf16(plain, true), XmlError::Undeclared),
        (utf16(plain, false), XmlError::Undeclared),
        (document("utf-16").into_bytes(), XmlError::Encoding("UTF-16LE")),
        (utf16(&document("utf-8"), true), XmlError::Encoding("UTF-8")),
        (document("x-none").into_bytes(), XmlError::UnknownEncoding("x-none".to_owned())),
    ];
    for (body, error) in undeclared {
        assert_eq!(lines(&body), Err(error), "{body:?}");
    }
}
