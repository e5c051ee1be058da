//! Tests of mappings that need no worker.

use super::*;
use std::net::Ipv4Addr;
use std::sync::Arc;

fn request<'a>(body: &'a str, content_type: &'a str, headers: &'a [(String, String)]) -> MappingRequest<'a> {
    MappingRequest {
        body: body.as_bytes(),
        content_type: Some(content_type),
        headers,
        ip: IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4)),
        received_at: 1_672_531_200_000_999,
    }
}

fn body(text: &str) -> Body<'_> {
    Body::parse(text.as_bytes(), Some("application/json")).unwrap()
}

/// The settings for mappings without templates.
fn no_workers() -> EvaluatorSettings {
    let program = "/nonexistent".into();
    EvaluatorSettings { program, workers: 1, memory_max: 0, deadline: std::time::Duration::ZERO }
}

#[test]
fn a_path_finds_values_as_they_stand_in_the_source() {
    let json =
        r#" {"a":{"b":[10,{"c":"x"}, [ 1, 2 ]]},"k]":1,"d":1.50,"é":{"\u0061b":true},"a.b":0,"n":null} "#;
    let at = |path: &str| body(json).at(&Path::parse(path)).map(str::to_owned);
    let check = |path: &str, expected: Option<&str>| assert_eq!(at(path).as_deref(), expected, "{path}");
    check("a.b[0]", Some("10"));
    check("a.b[1].c", Some("\"x\""));
    check("a.b[2]", Some("[ 1, 2 ]"));
    check("a.b[2][1]", Some("2"));
    check("a..b.[0]", Some("10"));
    check("a[b][0]", None);
    check("[k]", Some("1"));
    check("d", Some("1.50"));
    check("é.ab", Some("true"));
    check("n", Some("null"));
    check("", Some(json.trim()));
    for missing in ["x", "a.x", "a.b[3]", "a.b[99999999999999999999]", "d.e", "d[0]", "[0]", "n.x", "a.b.c"] {
        check(missing, None);
    }
    assert_eq!(body(r#"{"a":1,"a":2}"#).at(&Path::parse("a")), Some("2"), "the last one of a repeated key");
}

#[test]
fn a_body_is_an_object_of_json_or_a_form() {
    let parse = |text: &str, of: Option<&str>| {
        Body::parse(text.as_bytes(), of).map(|body| body.json().to_owned()).map_err(MappingFailure::from)
    };
    for of in [
        "application/json",
        "application/json; charset=utf-8",
        "application/vnd.api+json",
        "application/cloud-events.v1+json",
        "Application/JSON",
    ] {
        assert_eq!(parse("{\"a\":1}", Some(of)), Ok("{\"a\":1}".to_owned()), "{of}");
    }
    for of in
        ["", "text/plain", "application/+json", "application/a_b+json", "application/jsonp", "text/json"]
    {
        assert_eq!(parse("{}", Some(of)), Err(MappingFailure::ContentType(of.to_owned())), "{of}");
    }
    assert_eq!(
        MappingFailure::ContentType("text/plain".to_owned()).to_string(),
        "unsupported content type \"text/plain\", supported types: application/json and \
         application/x-www-form-urlencoded"
    );
    let json = Some("application/json");
    for (text, why) in [
        ("", "it is empty"),
        ("[1]", "expected a JSON object"),
        ("{\"a\":1", "expected ',' or '}'"),
        ("{\"a\":1}x", "trailing characters after the object"),
        ("{\"a\":NaN}", "expected a value"),
    ] {
        let expected = MappingFailure::Body(format!("cannot parse request body: {why}"));
        assert_eq!(parse(text, json), Err(expected), "{text}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert!(matches!(parse(&deep, json), Err(MappingFailure::Body(_))));
}

#[test]
fn a_form_repeats_names_as_arrays() {
    let parse = |text: &str| {
        Body::parse(text.as_bytes(), Some("application/x-www-form-urlencoded; charset=UTF-8"))
            .map(|body| body.json().to_owned())
            .map_err(|error| MappingFailure::from(error).to_string())
    };
    assert_eq!(parse("a=1&b=x+y%21&a=2&a=3&c").as_deref(), Ok(r#"{"a":["1","2","3"],"b":"x y!","c":""}"#));
    assert_eq!(parse("").as_deref(), Ok("{}"));
    assert_eq!(parse("&&a=%C3%A9").as_deref(), Ok(r#"{"a":"é"}"#));
    assert_eq!(parse("a=%3B").as_deref(), Ok(r#"{"a":";"}"#));
    let error = |what: &str| Err(format!("cannot parse request body as a form: {what}"));
    assert_eq!(parse("a=1;b=2"), error("invalid semicolon separator"));
    assert_eq!(parse("a=%zz"), error("invalid URL escape \"%zz\""));
    assert_eq!(parse("a=1&b=%4"), error("invalid URL escape \"%4\""));
}

#[test]
fn headers_have_canonical_names_and_escapes_of_go() {
    let all: [(&str, &[u8]); 5] = [
        ("user-agent", b"a<b>&c"),
        ("accept", b"first"),
        ("ACCEPT", b"second"),
        ("x-odd", b"\xff\"\\\t"),
        ("bad name", b""),
    ];
    let headers = headers(all);
    assert_eq!(
        go_json(&headers),
        "{\"Accept\":\"first\",\"User-Agent\":\"a\\u003cb\\u003e\\u0026c\",\
         \"X-Odd\":\"\u{fffd}\\\"\\\\\\t\",\"bad name\":\"\"}"
    );
    assert_eq!(canonical_name("x-real-ip"), "X-Real-Ip");
    assert_eq!(canonical_name("ETAG"), "Etag");
    assert_eq!(
        go_json(&[("\u{2028}".to_owned(), "\u{1}\u{7f}".to_owned())]),
        "{\"\\u2028\":\"\\u0001\u{7f}\"}"
    );
}

#[test]
fn a_row_has_the_values_of_all_columns_in_order() {
    let mapping: Mapping = serde_json::from_str(
        r#"{"columns":[{"primaryKey":true,"type":"id","name":"n"},{"type":"uuid","name":"u"},
            {"type":"datetime","name":"d"},{"type":"ip","name":"i"},{"type":"body","name":"b"},
            {"type":"headers","name":"h"},{"type":"path","name":"p","path":"a"},
            {"type":"template","name":"t","template":{"language":"jsonnet","content":"1"}}]}"#,
    )
    .unwrap();
    let headers = [("A".to_owned(), "<".to_owned())];
    let request = request("{\"a\":1}", "application/json", &headers);
    let id = RowId { number: 7, unique: RowId::unique(&[1; 16], 2, 3, 4) };
    let evaluated = ["1".to_owned(), "2".to_owned()];
    let row = super::row(&mapping, &request, &evaluated, id);
    let uuid = row[1].to_string();
    assert_eq!(
        row,
        ["7", &*uuid, "2023-01-01T00:00:00.000Z", "1.2.3.4", "{\"a\":1}", "{\"A\":\"\\u003c\"}", "1", "2"]
    );
    let parsed = uuid::Uuid::parse_str(&uuid).unwrap();
    assert_eq!(parsed.get_version_num(), 7);
    assert_eq!(parsed.get_timestamp().unwrap().to_unix().0, 1_672_531_200);
    let other = RowId::unique(&[1; 16], 2, 4, 4);
    assert_ne!(other, id.unique);
}

#[test]
fn mappings_are_read_and_written_as_the_contract_has_them() {
    let v1 = r#"{"primaryKey":false,"type":"template","template":{"language":"jsonnet","content":"Body(\"a.b\")"},"name":"t"}"#;
    let v2 = r#"{"type":"path","path":"a","defaultValue":"x","rawString":true,"name":"p"}"#;
    for text in [v1, v2, r#"{"primaryKey":true,"type":"id","name":"id"}"#, r#"{"type":"uuid","name":"u"}"#] {
        let column: MappedColumn = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&column).unwrap(), text);
    }
    let bad = serde_json::from_str::<MappedColumn>(r#"{"type":"other","name":"x"}"#).unwrap_err();
    assert!(bad.to_string().contains("unknown variant `other`"), "{bad}");
}

#[test]
fn a_path_column_has_json_or_text() {
    let value = |path: &str, default: Option<&str>, raw: bool| {
        let json = r#"{"s":"a\"\u00e9<","n":1e2,"o":{ "x" : 1 }}"#;
        path_value("c", (path, default, raw), &body(json)).map_err(|failure| failure.to_string())
    };
    assert_eq!(value("s", None, false).as_deref(), Ok(r#""a\"\u00e9<""#));
    assert_eq!(value("s", None, true).as_deref(), Ok("a\"é<"));
    assert_eq!(value("n", None, true).as_deref(), Ok("1e2"));
    assert_eq!(value("o", None, true).as_deref(), Ok("{ \"x\" : 1 }"));
    assert_eq!(value("x", Some("d\""), false).as_deref(), Ok(r#""d\"""#));
    assert_eq!(value("x", Some("d\""), true).as_deref(), Ok("d\""));
    assert_eq!(value("x", None, true), Err("path \"x\" not found in the body".to_owned()));
}

#[test]
fn a_row_over_one_mebibyte_is_refused() {
    let mapping: Mapping = serde_json::from_str(
        r#"{"columns":[{"type":"path","name":"p","path":""},{"type":"path","name":"q","path":"a"}]}"#,
    )
    .unwrap();
    let evaluate = |bytes: usize| {
        let text = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes));
        let request = request(&text, "application/json", &[]);
        let evaluator = Evaluator::new(no_workers());
        evaluator.evaluate_blocking(&[Arc::new(mapping.clone())], &[request])[0][0]
            .as_ref()
            .map(Vec::len)
            .map_err(Clone::clone)
    };
    assert_eq!(evaluate(500_000), Ok(2));
    assert_eq!(evaluate(600_000), Err(MappingFailure::TooLarge));
}

#[test]
fn messages_between_daemon_and_worker_are_read_as_they_were_written() {
    use message::{Evaluation, WorkerBatch, WorkerJob, WorkerReply};
    let headers = [("A".to_owned(), "ü".to_owned())];
    let request = request("body", "text/plain", &headers);
    let jobs =
        [message::encode_evaluation(&request, &[(7, true), (8, false)]), message::encode_check("1 + 1")];
    let encoded = message::encode_batch(true, &[(7, "seven"), (8, "eight")], jobs.iter().map(Vec::as_slice));
    let expected = WorkerBatch {
        hasty: true,
        new: vec![(7, "seven"), (8, "eight")],
        jobs: vec![
            WorkerJob::Evaluate(Evaluation {
                templates: vec![(7, true), (8, false)],
                body: b"body",
                content_type: Some("text/plain"),
                headers: headers.to_vec(),
                ip: request.ip,
                received_at: request.received_at,
            }),
            WorkerJob::Check("1 + 1"),
        ],
    };
    assert_eq!(encoded[..4], u32::try_from(encoded.len() - 4).unwrap().to_le_bytes());
    assert_eq!(message::decode_batch(&encoded[4..]), Ok(expected));
    for len in 4..encoded.len() {
        assert!(message::decode_batch(&encoded[4..len]).is_err(), "cut at {len}");
    }
    for reply in [
        WorkerReply::Value("é".to_owned()),
        WorkerReply::Failed(TemplateError::Template("x".to_owned())),
        WorkerReply::Failed(TemplateError::ContentType("x".to_owned())),
        WorkerReply::Failed(TemplateError::Body("x".to_owned())),
        WorkerReply::Failed(TemplateError::TooLarge),
        WorkerReply::Done { retiring: false },
        WorkerReply::Done { retiring: true },
    ] {
        assert_eq!(message::decode_reply(&message::encode_reply(&reply)[4..]), Ok(reply));
    }
    assert!(message::decode_reply(&[]).is_err());
    assert!(message::decode_reply(&[0, 0xff]).is_err());
    assert!(message::decode_reply(&[9]).is_err());
}

#[test]
fn without_workers_templates_are_not_available() {
    let mapping: Mapping = serde_json::from_str(
        r#"{"columns":[{"type":"template","name":"t","template":{"language":"jsonnet","content":"1"}}]}"#,
    )
    .unwrap();
    let evaluator = Evaluator::new(no_workers());
    let request = request("{}", "application/json", &[]);
    let outcomes = evaluator.evaluate_blocking(&[Arc::new(mapping)], &[request]);
    assert_eq!(
        outcomes,
        [[Err(MappingFailure::Unavailable("the template worker cannot be started".to_owned()))]]
    );
}
