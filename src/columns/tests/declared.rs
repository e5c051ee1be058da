//! Declared columns: which values fit them, which are quarantined, and with what reason.

use super::*;
use crate::batch::StreamId;
use crate::columns::{Judged, judge};
use crate::schema::{Column, ColumnType, Policy, TimeRule};
use std::sync::Arc;

const NOW: i64 = 1_586_045_138_000_000;

/// `name type`, with `!` after the type of a non-nullable column.
fn columns(text: &str) -> Vec<Column> {
    let column = |text: &str| {
        let (name, kind) = text.trim().split_once(' ').unwrap();
        let (kind, nullable) = kind.strip_suffix('!').map_or((kind, true), |kind| (kind, false));
        Column { nullable, ..Column::new(name, kind.parse().unwrap()) }
    };
    text.split(';').map(column).collect()
}

fn rules(policy: Policy, columns: Vec<Column>) -> Rules {
    let rules = Rules { policy, schema: Arc::new(Schema { version: 1, columns }), ..Rules::default() };
    rules.check(1000).unwrap();
    check_defaults(&rules.schema.columns).unwrap();
    rules
}

/// The outcome of a body: rows as JSON and the reasons of the rejected records. Checks that the judge agrees.
fn take(rules: &Rules, body: &str) -> (Vec<Value>, Vec<String>, RowCounts) {
    let mut rows = Rows::new(rules, LIMITS);
    let origin = BodyOrigin { lsn: 7, received_at: NOW };
    let counts = rows.append(body.as_bytes(), BodyKind::Lines, origin);
    let reasons = rows.take_bad().into_iter().map(|bad| {
        assert_eq!(&body.as_bytes()[usize::try_from(bad.offset).unwrap()..][..bad.raw.len()], bad.raw);
        bad.reason.to_string()
    });
    let reasons = reasons.collect();
    // A number that no other stream here has: the judge keeps columns by stream.
    let id = StreamId(u32::try_from(rand_id()).unwrap());
    let judged = judge(id, rules, body.as_bytes(), BodyKind::Lines, NOW).unwrap();
    let Judged { stored, quarantined, .. } = judged;
    assert_eq!((stored, quarantined), (counts.stored, counts.quarantined), "{body}");
    (as_json(&rows.finish(1).unwrap().batch), reasons, counts)
}

fn rand_id() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Asserts that the value is stored as expected.
fn fits(kind: &str, value: &str, expected: impl Into<Value>) {
    let expected: Value = expected.into();
    let rules = rules(Policy::Strict, columns(&format!("v {kind}")));
    let (rows, reasons, _) = take(&rules, &format!("{{\"v\":{value}}}"));
    assert_eq!(rows, [json!({"v": expected})], "{value} into {kind}: {reasons:?}");
}

/// Asserts that the value is quarantined.
fn not(kind: &str, value: &str) {
    let rules = rules(Policy::Strict, columns(&format!("v {kind}")));
    let (rows, reasons, _) = take(&rules, &format!("{{\"v\":{value}}}"));
    assert!(rows.is_empty(), "{value} into {kind}: {rows:?}");
    assert_eq!(reasons.len(), 1);
}

#[test]
fn numbers_go_into_declared_types_or_into_quarantine() {
    fits("int16", "3", json!(3));
    fits("int16", "1.0", json!(1));
    for bad in ["\"3\"", "1.5", "32768", "-32769", "1e2", "true", "[]", "{}", "99999999999999999999999"] {
        not("int16", bad);
    }
    for (kind, min, max) in [
        ("int8", "-128", "127"),
        ("int32", "-2147483648", "2147483647"),
        ("int64", "-9223372036854775808", "9223372036854775807"),
        ("uint8", "0", "255"),
        ("uint16", "0", "65535"),
        ("uint32", "0", "4294967295"),
        ("uint64", "0", "18446744073709551615"),
    ] {
        for value in [min, max] {
            fits(kind, value, serde_json::from_str::<Value>(value).unwrap());
        }
        not(kind, &format!("{max}0"));
        not(kind, if min == "0" { "-1" } else { "-92233720368547758080" });
    }
    fits("float32", "1.5", json!(1.5));
    fits("float64", "9007199254740993", json!(9_007_199_254_740_992.0));
    not("float32", "1e39");
    not("float64", "1e999");
    not("float64", "\"1.5\"");
    fits("decimal(5, 2)", "1.25", json!(1.25));
    fits("decimal(5, 2)", "\"-999.99\"", json!(-999.99));
    for bad in ["1000", "1.255", "\"\"", "\"1,5\"", "true", "1e999999999"] {
        not("decimal(5, 2)", bad);
    }
    fits(
        "decimal(76, 10)",
        "\"123456789012345678901234567890.5\"",
        serde_json::from_str::<Value>("123456789012345678901234567890.5").unwrap(),
    );
    not("decimal(76, 0)", &"9".repeat(77));
}

#[test]
fn other_values_go_into_declared_types_or_into_quarantine() {
    fits("string", "5.50", json!("5.50"));
    fits("string", "true", json!("true"));
    fits("string", "{ \"a\" : [ 1, \" \" ] }", json!("{\"a\":[1,\" \"]}"));
    fits("fixedstring(3)", "\"abc\"", json!("abc"));
    not("fixedstring(3)", "\"abcd\"");
    not("fixedstring(3)", "\"éé\"");
    fits("uuid", "\"936DA01F9ABD4d9d80C702AF85C822A8\"", json!("936da01f-9abd-4d9d-80c7-02af85c822a8"));
    not("uuid", "\"936DA01F\"");
    for (text, value) in [("true", true), ("\"Yes\"", true), ("1", true), ("\"off\"", false), ("0", false)] {
        fits("bool", text, json!(value));
    }
    for bad in ["2", "\"maybe\"", "1.0", "\"\""] {
        not("bool", bad);
    }
    fits("date", "\"2020-04-05\"", json!("2020-04-05"));
    for bad in ["\"2020-04-31\"", "18357", "\"2020-04-05 00:00:00\"", "\"10000-01-01\""] {
        not("date", bad);
    }
    fits("binary", "\"AP8=\"", json!("00ff"));
    not("binary", "\"A\"");
    fits("json", "{ \"a\" : 1 }", json!("{ \"a\" : 1 }"));
    fits("list<int8>", "[1,null,3]", json!([1, null, 3]));
    not("list<int8>", "[1,300]");
    not("list<int8>", "1");
    fits("list<list<string>>", "[[\"a\"],[]]", json!([["a"], []]));
    fits("map<string, int8>", "{\"a\":1,\"b\":null}", json!({"a": 1}));
    fits(
        "map<string, map<string, list<date>>>",
        "{\"x\":{\"y\":[\"2020-04-05\"]}}",
        json!({"x": {"y": ["2020-04-05"]}}),
    );
    not("map<string, int8>", "{\"a\":1,\"b\":\"x\"}");
    not("map<string, int8>", "[1]");
    fits("struct<a: int8, b: string>", "{\"b\":\"x\",\"c\":1}", json!({"b": "x"}));
    not("struct<a: int8>", "{\"a\":\"x\"}");
}

#[test]
fn times_come_in_every_form() {
    let rules_of = |digits: Option<u8>| {
        let column = Column { epoch_digits: digits, ..Column::new("t", ColumnType::Timestamp) };
        rules(Policy::Strict, vec![column])
    };
    let check = |digits: Option<u8>, value: &str, expected: Option<&str>| {
        let (rows, reasons, _) = take(&rules_of(digits), &format!("{{\"t\":{value}}}"));
        let got = rows.first().map(|row| row["t"].as_str().unwrap().to_owned());
        assert_eq!(got.as_deref(), expected, "{value}: {reasons:?}");
    };
    check(None, "\"2020-04-05 00:05:38\"", Some("2020-04-05T00:05:38Z"));
    check(None, "\"2024-01-01T00:00:00.000Z\"", Some("2024-01-01T00:00:00Z"));
    check(None, "\"2024-01-23T10:30:00.123456\"", Some("2024-01-23T10:30:00.123456Z"));
    check(None, "\"2024-01-23T10:30:00.123456789\"", Some("2024-01-23T10:30:00.123456Z"));
    check(None, "\"2024-01-23 10:30:00 -8:00\"", None);
    check(None, "\"2024-01-23 10:30:00-8:00\"", Some("2024-01-23T18:30:00Z"));
    check(None, "\"2024-01-23\"", Some("2024-01-23T00:00:00Z"));
    check(Some(0), "1586045138", Some("2020-04-05T00:05:38Z"));
    check(Some(3), "1586045138500", Some("2020-04-05T00:05:38.500Z"));
    check(Some(0), "1586045138.0", Some("2020-04-05T00:05:38Z"));
    for (digits, bad) in [
        (None, "1586045138"),
        (Some(0), "1586045138.5"),
        (Some(0), "999999999999999"),
        (Some(0), "\"1586045138\""),
        (None, "\"soon\""),
        (None, "\"10000-01-01T00:00:00Z\""),
        (None, "true"),
        (None, "{}"),
    ] {
        check(digits, bad, None);
    }
}

#[test]
fn what_does_not_fit_is_said_column_by_column() {
    let rules = rules(
        Policy::Strict,
        columns("store_id int16!; purchase_product_name string!; purchase_datetime timestamp!"),
    );
    let body = r#"{"store_id":1,"purchase_datetime":"2022-01-05 12:13:14"}
{"store_id":"3","purchase_product_name":"x","purchase_datetime":"2022-01-05 12:13:14"}
{"store_id":2,"purchase_product_name":"y","purchase_datetime":"2022-01-05 12:13:14"}
{"store_id":null,"purchase_product_name":{},"purchase_datetime":"soon"}
{"store_id":2,"purchase_product_name":"y""#;
    let (rows, reasons, counts) = take(&rules, body);
    assert_eq!(rows.len(), 1);
    assert_eq!((counts.stored, counts.quarantined.total()), (1, 4));
    let kinds = ReasonKind::ALL.map(|kind| counts.quarantined.get(kind));
    assert_eq!(kinds, [1, 2, 1, 0, 0, 0, 0]);
    let required = "which is not nullable and has no default";
    assert_eq!(
        reasons,
        [
            format!("no value on column 'purchase_product_name', {required}"),
            "value '\"3\"' on column 'store_id' is not int16".to_owned(),
            format!(
                "null on column 'store_id', {required}; value '\"soon\"' on column 'purchase_datetime' is not timestamp"
            ),
            "expected ',' or '}'".to_owned(),
        ]
    );
}

#[test]
fn defaults_stand_for_what_is_missing_or_null() {
    let with = |name: &str, kind: &str, nullable: bool, default: Value| {
        let kind = kind.parse().unwrap();
        Column { nullable, default: Some(default), ..Column::new(name, kind) }
    };
    let columns = vec![
        with("n", "int8", false, json!(7)),
        with("s", "string", true, json!("none")),
        with("l", "list<int8>", false, json!([1])),
        Column::new("x", ColumnType::Int8),
    ];
    for policy in [Policy::Strict, Policy::Evolve] {
        let (rows, reasons, _) = take(
            &rules(policy, columns.clone()),
            "{\"x\":1}\n{\"n\":null,\"s\":null,\"l\":null}\n{\"n\":2,\"s\":\"a\",\"l\":[]}\n{}",
        );
        assert!(reasons.is_empty(), "{reasons:?}");
        let missing = json!({"n": 7, "s": "none", "l": [1]});
        let expected = [
            json!({"n": 7, "s": "none", "l": [1], "x": 1}),
            missing.clone(),
            json!({"n": 2, "s": "a", "l": []}),
            missing,
        ];
        assert_eq!(rows, expected);
    }
    let bad = with("n", "int8", false, json!(300));
    assert_eq!(
        check_defaults(&[bad]).unwrap_err().to_string(),
        "column 'n': its default 300 is not a valid int8"
    );
}

#[test]
fn columns_take_values_from_within() {
    let at = |name: &str, path: &[&str], kind: &str, nullable: bool| Column {
        nullable,
        path: Some(path.iter().map(|key| (*key).to_owned()).collect()),
        ..Column::new(name, kind.parse().unwrap())
    };
    let columns = vec![
        at("o_b", &["o", "b"], "int8", false),
        Column::new("z", ColumnType::String),
        at("deep", &["o", "p", "q"], "string", true),
        at("o_a", &["o", "a"], "int8", true),
        at("renamed", &["a.b \"c\""], "int8", true),
    ];
    let body = r#"{"z":"1","o":{"a":1,"b":2,"p":{"q":"x"}},"a.b \"c\"":5}
{"o":{"b":3,"c":{"d":1},"p":7},"y":null}
{"o":{"b":4,"a":1,"a":2}}
{"o":{"b":4,"a":"x"},"o":{"b":6}}
{"o":5}
{"o":{"b":1,"p":{"q":[1, 2]},"a":"no"}}
{}"#;
    let (rows, reasons, counts) = take(&rules(Policy::Propose, columns.clone()), body);
    assert_eq!(
        rows,
        [
            json!({"o_b": 2, "z": "1", "deep": "x", "o_a": 1, "renamed": 5}),
            json!({"o_b": 3, "_rescued": {"o": {"c": {"d": 1}, "p": 7}}}),
            json!({"o_b": 4, "o_a": 2}),
            json!({"o_b": 6}),
        ]
    );
    let missing = "no value on column 'o_b', which is not nullable and has no default";
    assert_eq!(reasons, [missing, "value '\"no\"' on column 'o_a' is not int8", missing]);
    assert_eq!((counts.rescued, counts.duplicate_keys), (1, 2));
    let (rows, _, counts) = take(&rules(Policy::Strict, columns), body);
    assert_eq!(rows[1], json!({"o_b": 3}), "fields without a column are ignored");
    assert_eq!((counts.rescued, counts.ignored_fields), (0, 2));
}

#[test]
fn new_fields_are_proposed_with_what_came() {
    let rules = rules(Policy::Propose, columns("a int8; o struct<x: int8>"));
    let mut rows = Rows::new(&rules, LIMITS);
    for (at, body) in [
        (5, r#"{"a":1,"n":1,"o":{"x":1,"y":"z"},"l":[{"k":1,"k2":2}],"_lsn":4}"#),
        (
            9,
            "{\"n\":2.5,\"e\":{}}\n{\"n\":1,\"l\":[]}\n{\"n\":null}\n{\"n\":3}\n{\"n\":4}\n{\"n\":5,\"a\":\"bad\"}\n{\"n\":6}\n{\"n\":7}",
        ),
    ] {
        rows.append(body.as_bytes(), BodyKind::Lines, BodyOrigin { lsn: 1, received_at: at });
    }
    let mut proposals = rows.take_proposals();
    proposals.sort_by(|a, b| a.path.cmp(&b.path));
    let shown: Vec<String> = proposals
        .iter()
        .map(|p| {
            format!(
                "{} {} {} {}-{} {}",
                p.path.join("."),
                p.kind.name(),
                p.count,
                p.first_at,
                p.last_at,
                p.examples.join(" ")
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "e json 1 9-9 {}",
            "l list<struct<k: int64, k2: int64>> 2 5-9 [{\"k\":1,\"k2\":2}] []",
            "n float64 7 5-9 1 2.5 3 4 6",
            "o.y string 1 5-5 \"z\"",
        ]
    );
    let first = as_json(&rows.finish(1).unwrap().batch)[0].clone();
    let rescued = json!({"n": 1, "o": {"y": "z"}, "l": [{"k": 1, "k2": 2}], "_lsn": 4});
    assert_eq!(first, json!({"a": 1, "o": {"x": 1}, "_rescued": rescued}));
    assert!(rows.take_proposals().is_empty());
    let both =
        proposals[2].clone().and(Proposal { kind: ColumnType::String, last_at: 20, ..proposals[2].clone() });
    assert_eq!((both.kind, both.count, both.last_at, both.examples.len()), (ColumnType::String, 14, 20, 5));
}

#[test]
fn times_out_of_bounds_are_told_by_the_time_of_receipt() {
    let time = TimeRule { column: "t".to_owned(), late: Some(60), early: Some(10), required: true };
    for policy in [Policy::Strict, Policy::Evolve] {
        let rules = Rules { time: Some(time.clone()), ..rules(policy, columns("t timestamp")) };
        let body = r#"{"t":"2020-04-05 00:05:38","k":1}
{"t":"2020-04-05 00:04:38"}
{"t":"2020-04-05 00:04:37.999999","new":1}
{"t":"2020-04-05 00:05:48"}
{"t":"2020-04-05 00:05:48.000001"}
{"t":null}
{"k":2}"#;
        let (rows, reasons, counts) = take(&rules, body);
        assert_eq!(rows.len(), 3, "{policy}");
        let kinds = ReasonKind::ALL.map(|kind| counts.quarantined.get(kind));
        assert_eq!(kinds, [0, 0, 0, 1, 1, 2, 0]);
        assert_eq!(
            reasons[..3],
            [
                "late: 't' is 2020-04-05T00:04:37.999999Z, more than 60 s before its arrival",
                "early: 't' is 2020-04-05T00:05:48.000001Z, more than 10 s after its arrival",
                "no time in column 't'"
            ]
        );
    }
    let lax = TimeRule { late: None, early: None, required: false, ..time };
    let lax = Rules { time: Some(lax), ..rules(Policy::Evolve, columns("t timestamp")) };
    let (rows, reasons, _) = take(&lax, "{\"t\":\"0001-01-01\"}\n{\"t\":\"9999-12-31T00:00:00Z\"}\n{}");
    assert_eq!((rows.len(), reasons.len()), (3, 0), "without a bound every time is accepted");
}

#[test]
fn a_raw_stream_keeps_the_record_as_it_came() {
    let raw = rules(Policy::Raw, columns("data json"));
    let body = "{ \"a\" : 1, \"a\":2.50 }\n[1]\n{\"data\":{}}\n{\"x\":}";
    let (rows, reasons, counts) = take(&raw, body);
    assert_eq!(rows, [json!({"data": "{ \"a\" : 1, \"a\":2.50 }"}), json!({"data": "{\"data\":{}}"})]);
    assert_eq!((reasons.len(), counts.duplicate_keys), (2, 0));
}

#[test]
fn keys_that_come_twice_are_settled_before_a_row_is_judged() {
    let rules = rules(Policy::Strict, columns("a int8!; m map<string, int8>"));
    let body = r#"{"a":"x","a":1}
{"a":1,"a":"x"}
{"a":1,"extra":1,"extra":2}
{"a":1,"m":{"k":1,"k":2}}
{"a":1,"a":null}"#;
    let (rows, reasons, counts) = take(&rules, body);
    assert_eq!(rows, [json!({"a": 1}), json!({"a": 1}), json!({"a": 1, "m": {"k": 2}})]);
    assert_eq!(reasons.len(), 2);
    assert_eq!(counts.duplicate_keys, 2);
}

fn lines_for_declared() -> impl Strategy<Value = Vec<String>> {
    let value = prop_oneof![
        Just("null".to_owned()),
        (-200_i32..200).prop_map(|n| n.to_string()),
        "\"[0-9a-c]{0,3}\"",
        Just("\"2020-04-05\"".to_owned()),
        Just("{\"x\":1,\"y\":\"z\"}".to_owned()),
        Just("[1,2]".to_owned()),
        Just("1.5e3".to_owned()),
    ];
    let field = ("[a-f]", value).prop_map(|(key, value)| format!("\"{key}\":{value}"));
    let record = prop::collection::vec(field, 0..6).prop_map(|fields| format!("{{{}}}", fields.join(",")));
    prop::collection::vec(prop_oneof![8 => record, 1 => Just("{\"a\":".to_owned())], 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_judge_and_the_rows_agree(lines in lines_for_declared(), policy in 0_usize..4) {
        let text = "a int8!; b string; c struct<x: int8, y: date>; d date; e list<int8>";
        let policy = Policy::ALL[policy];
        let columns = if policy == Policy::Raw { columns("data json") } else { columns(text) };
        // `take` asserts that both agree; here, that every record is in exactly one place.
        let (rows, reasons, _) = take(&rules(policy, columns), &lines.join("\n"));
        prop_assert_eq!(rows.len() + reasons.len(), lines.len());
    }
}
