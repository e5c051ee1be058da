//! Samples: field order, inferred types, and samples without usable records.

use super::*;

const LIMITS: SampleLimits = SampleLimits { records: 1_000_000, fields: 1_000 };

fn nested(body: &str) -> Vec<String> {
    let sample = Sample::read(body.as_bytes(), BodyKind::Lines, LIMITS).unwrap();
    let shown =
        |field: SampleField| format!("{} {} {}", field.path.join("."), field.kind.name(), field.present);
    sample.nested().unwrap().into_iter().map(shown).collect()
}

fn flat(body: &str) -> Vec<String> {
    let sample = Sample::read(body.as_bytes(), BodyKind::Lines, LIMITS).unwrap();
    sample
        .flat()
        .unwrap()
        .into_iter()
        .map(|field| format!("{} {}", field.path.join("."), field.kind.name()))
        .collect()
}

fn refused(body: &[u8], limits: SampleLimits) -> String {
    Sample::read(body, BodyKind::Lines, limits).and_then(|sample| sample.nested()).unwrap_err().to_string()
}

#[test]
fn order_follows_the_first_values_and_types_all_of_them() {
    let body =
        "{\"b\":1,\"a\":null}\n\n{\"c\":\"2020-04-05\",\"a\":true,\"b\":2.5}\nno record\n{\"b\":null}\n";
    assert_eq!(nested(body), ["b float64 2", "a bool 1", "c date 1"]);
    let sample = Sample::read(body.as_bytes(), BodyKind::Lines, LIMITS).unwrap();
    assert_eq!((sample.records, sample.bad, sample.first.len()), (3, 1, 3));
}

#[test]
fn values_without_a_type_in_common_are_text_or_json() {
    assert_eq!(nested("{\"a\":1}\n{\"a\":\"x\"}"), ["a string 2"]);
    assert_eq!(nested("{\"a\":1}\n{\"a\":[1]}"), ["a json 2"]);
    assert_eq!(nested("{\"a\":{\"x\":1}}\n{\"a\":1}"), ["a json 2"]);
    assert_eq!(flat("{\"a\":{\"x\":1}}\n{\"a\":1}"), ["a json"]);
    assert_eq!(nested("{\"a\":18446744073709551615}"), ["a int64 1"]);
    assert_eq!(nested("{\"a\":1}\n{\"a\":99999999999999999999}"), ["a string 2"]);
    assert_eq!(nested("{\"a\":[1,99999999999999999999]}"), ["a list<string> 1"]);
}

#[test]
fn objects_are_followed_to_their_fields() {
    let body = "{\"o\":{\"x\":1,\"p\":{\"y\":[1,2]}},\"z\":null}\n{\"o\":{\"p\":null,\"w\":\"t\"}}";
    assert_eq!(nested(body), ["o struct<x: int64, p: struct<y: list<int64>>, w: string> 2"]);
    assert_eq!(flat(body), ["o.x int64", "o.p.y list<int64>", "o.w string"]);
    let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
    assert_eq!(flat(&deep), [format!("{} json", ["a"; 12].join("."))]);
}

#[test]
fn a_map_stays_one_field() {
    let wide: Vec<String> = (0..300).map(|n| format!("\"k{n}\":{n}")).collect();
    assert_eq!(flat(&format!("{{\"m\":{{{}}}}}", wide.join(","))), ["m json"]);
    let sparse: Vec<String> = (0..100).map(|n| format!("{{\"m\":{{\"k{n}\":1}}}}")).collect();
    assert_eq!(flat(&sparse.join("\n")), ["m json"]);
}

#[test]
fn integers_and_times_are_measured() {
    let body = "{\"n\":-5,\"t\":\"2024-01-01T00:00:00.120Z\"}\n{\"n\":70000,\"t\":\"2024-01-01T00:00:00Z\"}";
    let sample = Sample::read(body.as_bytes(), BodyKind::Lines, LIMITS).unwrap();
    let fields = sample.nested().unwrap();
    assert_eq!(fields[0].integers, Integers { min: -5, max: 70_000, unsigned: false, huge: false });
    assert_eq!((fields[1].kind.name().as_str(), fields[1].second_digits), ("timestamp", 2));
}

#[test]
fn a_line_that_was_cut_off_is_not_held_against_the_sample() {
    let body = b"{\"a\":1}\n{\"a\":2,\"b";
    let sample = Sample::read(body, BodyKind::Lines, LIMITS).unwrap();
    assert_eq!((sample.records, sample.bad), (1, 0));
    let sample = Sample::read(b"{\"a\":1}\n{\"a\":2,\"b\n", BodyKind::Lines, LIMITS).unwrap();
    assert_eq!((sample.records, sample.bad), (1, 1));
}

#[test]
fn a_document_is_a_sample_too() {
    let sample = Sample::read(b"[{\"a\":1},\n{\"b\":2},7]", BodyKind::Document, LIMITS).unwrap();
    assert_eq!((sample.records, sample.bad, sample.nested().unwrap().len()), (2, 1, 2));
}

#[test]
fn what_says_nothing_is_refused_with_the_reason() {
    assert_eq!(refused(b"", LIMITS), "the sample has no records");
    assert_eq!(refused(b" \n\r\n", LIMITS), "the sample has no records");
    assert_eq!(
        refused(b"\x00\xff\xfe", LIMITS),
        "no line of the sample is a JSON object (first bad line: 1: invalid UTF-8)"
    );
    assert_eq!(refused(b"{}\n{\"a\":null}\n{\"b\":[]}", LIMITS), "the records of the sample have no fields");
    let wide: Vec<String> = (0..10_000).map(|n| format!("\"c{n}\":1")).collect();
    let wide = format!("{{{}}}", wide.join(","));
    assert_eq!(refused(wide.as_bytes(), LIMITS), "the sample has more than 1000 fields");
    let exact = SampleLimits { fields: 2, ..LIMITS };
    assert!(Sample::read(b"{\"a\":1,\"b\":2}", BodyKind::Lines, exact).is_ok());
    assert_eq!(refused(b"{\"a\":1,\"b\":2,\"c\":3}", exact), "the sample has more than 2 fields");
}

#[test]
fn only_so_many_records_are_looked_at() {
    let limits = SampleLimits { records: 2, ..LIMITS };
    let sample = Sample::read(b"{\"a\":1}\n{\"a\":2}\n{\"b\":1}\nbad\n", BodyKind::Lines, limits).unwrap();
    assert_eq!((sample.records, sample.bad, sample.nested().unwrap().len()), (2, 0, 1));
}
