//! The parser against `serde_json`, and the points where it is deliberately stricter.

use super::records::{BadRecord, RecordSink, check, walk};
use super::*;
use crate::batch::BodyKind;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

fn line(text: &[u8]) -> Result<(), Syntax> {
    let verdict = check(&[Bytes::copy_from_slice(text)], BodyKind::Lines)?;
    match verdict.first_bad {
        None if verdict.good == 1 => Ok(()),
        None => panic!("{} records in one line", verdict.good),
        Some((_, reason)) => Err(reason),
    }
}

#[test]
fn what_is_a_record() {
    let good = [
        r"{}",
        r#"{"a":1}"#,
        "  { \"a\" :\t1 , \"b\" : [ 1 , 2 ] }  \r",
        r#"{"a":null,"b":true,"c":false}"#,
        r#"{"a":-0,"b":0.5,"c":1e5,"d":-1.5E-10,"e":123456789012345678901234567890}"#,
        r#"{"a":{"b":{"c":[[],{},[{"d":""}]]}}}"#,
        r#"{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#,
        r#"{"":1,"a\u0000b":2}"#,
        r#"{"a":1,"a":2}"#,
        "{\"a\":\"0123456789abcdef0123456789abcdef0123456789\"}",
    ];
    for text in good {
        assert_eq!(line(text.as_bytes()), Ok(()), "{text}");
    }
    let bad: &[(&str, Syntax)] = &[
        ("1", Syntax::ExpectedObject),
        ("[1", Syntax::ExpectedObject),
        ("null", Syntax::ExpectedObject),
        ("{", Syntax::ExpectedKey),
        ("{a:1}", Syntax::ExpectedKey),
        (r#"{"a":1,}"#, Syntax::ExpectedKey),
        (r#"{,"a":1}"#, Syntax::ExpectedKey),
        (r#"{"a" 1}"#, Syntax::ExpectedColon),
        (r#"{"a":}"#, Syntax::ExpectedValue),
        (r#"{"a":1 "b":2}"#, Syntax::ExpectedCommaOrBrace),
        (r#"{"a":1{"b":2}"#, Syntax::ExpectedCommaOrBrace),
        (r#"{"a":1"#, Syntax::ExpectedCommaOrBrace),
        (r#"{"a":[1 2]}"#, Syntax::ExpectedCommaOrBracket),
        (r#"{"a":[1,]}"#, Syntax::ExpectedValue),
        (r#"{"a":"b}"#, Syntax::UnterminatedString),
        ("{\"a\":\"b\u{1}\"}", Syntax::ControlCharacter),
        (r#"{"a":"\x"}"#, Syntax::BadEscape),
        (r#"{"a":"\u12g4"}"#, Syntax::BadEscape),
        (r#"{"a":"\ud800"}"#, Syntax::LoneSurrogate),
        (r#"{"a":"\ude00\ud83d"}"#, Syntax::LoneSurrogate),
        (r#"{"a":01}"#, Syntax::BadNumber),
        (r#"{"a":1.}"#, Syntax::BadNumber),
        (r#"{"a":-}"#, Syntax::BadNumber),
        (r#"{"a":1e}"#, Syntax::BadNumber),
        (r#"{"a":.5}"#, Syntax::ExpectedValue),
        (r#"{"a":+1}"#, Syntax::ExpectedValue),
        (r#"{"a":NaN}"#, Syntax::ExpectedValue),
        (r#"{"a":truE}"#, Syntax::ExpectedValue),
        (r#"{"a":1}{"b":2}"#, Syntax::TrailingCharacters),
        (r#"{"a":1},"#, Syntax::TrailingCharacters),
        (r#"{"a":1x}"#, Syntax::ExpectedCommaOrBrace),
    ];
    for (text, reason) in bad {
        assert_eq!(line(text.as_bytes()), Err(*reason), "{text}");
        // The same at the start of a long body, where the vectorised paths run.
        let body = format!("{text}\n{}\n", r#"{"padding":"0123456789abcdef0123456789abcdef"}"#);
        let verdict = check(&[Bytes::from(body)], BodyKind::Lines).unwrap();
        assert_eq!((verdict.good, verdict.first_bad), (1, Some((0, *reason))), "{text}");
    }
    assert_eq!(line(b"{\"a\":\"\xff\"}"), Err(Syntax::InvalidUtf8));
}

#[test]
fn depth_is_limited_to_128_and_never_recursive() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert_eq!(line(nested(128).as_bytes()), Ok(()));
    assert_eq!(line(nested(129).as_bytes()), Err(Syntax::TooDeep));
    assert_eq!(line("[".repeat(2_000_000).as_bytes()), Err(Syntax::ExpectedObject));
    let deep = format!("{{\"a\":{}", "{\"a\":".repeat(400_000));
    assert_eq!(line(deep.as_bytes()), Err(Syntax::TooDeep));
}

#[test]
fn blank_lines_marks_and_carriage_returns_are_no_records() {
    let body = "\u{feff}\r\n\n  \t\n{\"a\":1}\r\n\r\n{\"a\":2}\n\n";
    let verdict = check(&[Bytes::from(body)], BodyKind::Lines).unwrap();
    assert_eq!(verdict, RecordsVerdict { good: 2, bad: 0, first_bad: None });
    assert_eq!(check(&[Bytes::new()], BodyKind::Lines).unwrap(), RecordsVerdict::default());
    assert_eq!(check(&[], BodyKind::Lines).unwrap(), RecordsVerdict::default());
}

#[test]
fn a_document_is_an_object_or_an_array_of_them() {
    let document = |text: &str| check(&[Bytes::copy_from_slice(text.as_bytes())], BodyKind::Document);
    assert_eq!(document("{\n  \"a\": [\n1\n]\n}\n").unwrap().good, 1);
    let verdict = document("\u{feff} [ {\"a\":1},\n 7, {\"b\":{}} , [] ] ").unwrap();
    assert_eq!((verdict.good, verdict.bad), (2, 2));
    assert_eq!(verdict.first_bad, Some((1, Syntax::ExpectedObject)));
    assert_eq!(document("[]").unwrap(), RecordsVerdict::default());
    assert_eq!(document("  ").unwrap(), RecordsVerdict::default());
    for (text, reason) in [
        ("[{\"a\":1}", Syntax::ExpectedCommaOrBracket),
        ("[{\"a\":1}] 2", Syntax::TrailingCharacters),
        ("{\"a\":1}{\"a\":1}", Syntax::TrailingCharacters),
    ] {
        assert_eq!(document(text), Err(reason), "{text}");
    }
    let depth = format!("[{{\"a\":{}{}}}]", "[".repeat(127), "]".repeat(127));
    assert_eq!(document(&depth).unwrap().good, 1, "the array around the records does not count");
    assert_eq!(kind_of(b"\xEF\xBB\xBF \n[1]".iter(), BodyKind::Lines), BodyKind::Document);
    assert_eq!(kind_of(b"{}".iter(), BodyKind::Lines), BodyKind::Lines);
}

#[test]
fn bad_records_keep_their_bytes_and_their_place() {
    #[derive(Default)]
    struct Collect(Vec<(u64, usize, Vec<u8>, Syntax)>);
    impl<'a> RecordSink<'a> for Collect {
        fn record(&mut self, parser: &mut Parser<'a>) -> Result<(), Syntax> {
            parser.skip_value().map(drop)
        }
        fn accept(&mut self, _index: u64) {}
        fn reject(&mut self, bad: BadRecord<'a>) {
            self.0.push((bad.index, bad.offset, bad.raw.to_owned(), bad.reason));
        }
    }
    let mut collect = Collect::default();
    let body = b"{\"a\":1}\nnot json\r\n\n{\"a\":\xff}\n{\"b\":2} x";
    assert_eq!(walk(body, BodyKind::Lines, 0, &mut collect).unwrap(), 4);
    let expected = [
        (1, 8, b"not json".to_vec(), Syntax::ExpectedValue),
        (2, 19, b"{\"a\":\xff}".to_vec(), Syntax::InvalidUtf8),
        (3, 27, b"{\"b\":2} x".to_vec(), Syntax::TrailingCharacters),
    ];
    assert_eq!(collect.0, expected);
}

#[test]
fn escapes_are_resolved() {
    let mut parser = Parser::line(br#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z""#);
    let text = parser.string().unwrap().text().into_owned();
    assert_eq!(String::from_utf8(text).unwrap(), "a\"\\/\u{8}\u{c}\n\r\t\u{e9}\u{1f600}z");
}

/// JSON objects, with odd spacing, as text.
fn json_line() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
        "[ -~é😀\\x00-\\x1f]{0,40}".prop_map(|s| serde_json::to_string(&s).unwrap()),
    ];
    let key = prop_oneof![Just("a".to_owned()), Just("city".to_owned()), "[a-z\"\\\\]{0,20}"];
    let key = key.prop_map(|k| serde_json::to_string(&k).unwrap());
    let space = prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\t ")];
    let value = leaf.prop_recursive(4, 40, 6, move |inner| {
        let space = space.clone();
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..5), space.clone())
                .prop_map(|(items, s)| format!("[{s}{}{s}]", items.join(&format!("{s},{s}")))),
            (prop::collection::vec((key.clone(), inner), 0..6), space).prop_map(|(fields, s)| {
                let fields: Vec<String> = fields.into_iter().map(|(k, v)| format!("{k}{s}:{s}{v}")).collect();
                format!("{{{s}{}{s}}}", fields.join(&format!("{s},{s}")))
            }),
        ]
    });
    prop::collection::vec(("[a-f]{1,12}", value), 0..8).prop_map(|fields| {
        let fields: Vec<String> = fields.into_iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

/// Whether `serde_json` accepts the line under our additional rules.
fn oracle(text: &[u8]) -> bool {
    // Number ranges are not part of the grammar: such numbers are kept.
    let grammar = serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    let value = match serde_json::from_slice::<Value>(text) {
        Ok(value) => value.is_object(),
        Err(error) => error.to_string().contains("number out of range"),
    };
    grammar && value && std::str::from_utf8(text).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_json_object_is_a_record(lines in prop::collection::vec(json_line(), 1..6)) {
        let body = lines.join("\n");
        let verdict = check(&[Bytes::from(body)], BodyKind::Lines).unwrap();
        prop_assert_eq!(verdict, RecordsVerdict { good: lines.len() as u64, bad: 0, first_bad: None });
    }

    #[test]
    fn a_damaged_line_is_judged_as_serde_json_judges_it(
        text in json_line(), at: prop::sample::Index, byte: u8, cut: bool
    ) {
        let mut text = text.into_bytes();
        let at = at.index(text.len());
        if cut { text.truncate(at) } else { text[at] = byte }
        prop_assume!(!text.contains(&b'\n') && !text.iter().all(u8::is_ascii_whitespace));
        prop_assert_eq!(line(&text).is_ok(), oracle(&text), "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn pieces_do_not_matter(
        lines in prop::collection::vec(prop_oneof![3 => json_line(), 1 => "[ -~]{0,30}", 1 => Just(String::new())], 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        crlf: bool,
    ) {
        let body = lines.join(if crlf { "\r\n" } else { "\n" }).into_bytes();
        let whole = check(&[Bytes::from(body.clone())], BodyKind::Lines).unwrap();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.push(0);
        cuts.push(body.len());
        cuts.sort_unstable();
        let pieces: Vec<Bytes> = cuts.windows(2).map(|w| Bytes::copy_from_slice(&body[w[0]..w[1]])).collect();
        prop_assert_eq!(check(&pieces, BodyKind::Lines).unwrap(), whole);
    }
}

#[test]
fn what_was_learnt_changes_no_verdict_about_white_space() {
    for space in ["", " ", "\r", "\t", " \r\t"] {
        let body = format!(
            "{{\"a\":1,\"b\":{{\"c\":2}}}}\n{{\"a\":{space}1,{space}\"b\"{space}:{space}{{\"c\":2}}{space}}}\n"
        );
        let whole = check(&[Bytes::from(body.clone())], BodyKind::Lines).unwrap();
        assert_eq!((whole.good, whole.bad), (2, 0), "{body:?}");
        let bad = body.replace("\"c\":2}", "\"c\u{1}\":2}");
        let verdict = check(&[Bytes::from(bad.clone())], BodyKind::Lines).unwrap();
        assert_eq!(verdict.first_bad.map(|(_, reason)| reason), Some(Syntax::ControlCharacter), "{bad:?}");
    }
}
