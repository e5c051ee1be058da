//! Columns against `serde_json`: every value of every record is in its column or in `_rescued`, unchanged.

use super::*;
use crate::batch::BodyKind;
use crate::schema::{Rules, Schema, system};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_json::LineDelimitedWriter;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

mod declared;

const LIMITS: RowLimits =
    RowLimits { columns_max: 100, received_at_column: false, lsn_column: false, record_column: false };

fn rows() -> Rows {
    Rows::new(&Rules::default(), LIMITS)
}

fn append(rows: &mut Rows, body: &str) -> RowCounts {
    rows.append(body.as_bytes(), BodyKind::Lines, BodyOrigin { lsn: 7, received_at: 1_000 })
}

/// A batch as JSON rows, with nulls left out and `_rescued` parsed.
fn as_json(batch: &RecordBatch) -> Vec<Value> {
    let mut text = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut text);
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    let mut rows: Vec<Value> =
        String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // The writer omits rows without a value.
    if batch.num_columns() == 1 && rows.len() < batch.num_rows() {
        rows = vec![json!({}); batch.num_rows()];
        let rescued = batch.column(0).as_string::<i32>();
        for (row, text) in rescued.iter().enumerate() {
            if let Some(text) = text {
                rows[row] = json!({ system::RESCUED: text });
            }
        }
    }
    for row in &mut rows {
        if let Some(Value::String(text)) = row.get(system::RESCUED) {
            // Numbers that serde_json cannot hold stay text.
            row[system::RESCUED] = serde_json::from_str(text).unwrap_or(Value::from(text.as_str()));
        }
    }
    rows
}

fn types(schema: &Schema) -> String {
    let columns: Vec<String> =
        schema.columns.iter().map(|c| format!("{} {}", c.name, c.kind.name())).collect();
    columns.join(", ")
}

#[test]
fn fields_become_columns_in_the_order_in_which_they_come() {
    let mut rows = rows();
    let counts = append(
        &mut rows,
        r#"{"date":"2020-04-05 00:05:38","city":"Chicago","n":1,"ok":true,"day":"2020-04-05","price":1.5}
{"city":"Madrid","date":"2020-04-05 00:07:22","extra":[1,2],"who":{"id":7,"tags":["a"]}}"#,
    );
    assert_eq!(counts, RowCounts { stored: 2, ..RowCounts::default() });
    let batch = rows.finish(1).unwrap();
    assert_eq!(
        types(&batch.schema),
        "date timestamp, city string, n int64, ok bool, day date, price float64, extra list<int64>, \
         who struct<id: int64, tags: list<string>>"
    );
    let expected = [
        json!({"date":"2020-04-05T00:05:38Z","city":"Chicago","n":1,"ok":true,"day":"2020-04-05","price":1.5}),
        json!({"date":"2020-04-05T00:07:22Z","city":"Madrid","extra":[1,2],"who":{"id":7,"tags":["a"]}}),
    ];
    assert_eq!(as_json(&batch.batch), expected);
}

#[test]
fn what_does_not_fit_a_settled_type_is_rescued_and_the_row_lands() {
    let mut rows = rows();
    append(
        &mut rows,
        r#"{"n":1,"f":0.5,"t":"2020-04-05 00:05:38","s":"x","b":true,"l":[1],"o":{"a":1,"b":{"c":"x"}}}"#,
    );
    let first = rows.finish(1).unwrap();
    let counts = append(
        &mut rows,
        r#"{"n":"one","f":true,"t":"soon","s":5,"b":0,"l":[1,"x"],"o":{"a":"y","b":{"c":"z","d":[null]},"e":{}}}
{"n":18446744073709551616,"f":1e999,"t":"2020-04-05T00:05:38.1234567Z","s":{"k":1},"b":null,"l":{},"o":[]}
{"n":9007199254740993,"f":9007199254740993,"s":true,"l":[]}"#,
    );
    assert_eq!(counts, RowCounts { stored: 3, rescued: 3, ..RowCounts::default() });
    let batch = rows.finish(1).unwrap();
    assert_eq!(batch.schema, first.schema, "the types stay");
    let got = as_json(&batch.batch);
    assert_eq!(
        got[0],
        json!({"s":"5","o":{"b":{"c":"z"}},"_rescued":
            {"n":"one","f":true,"t":"soon","b":0,"l":[1,"x"],"o":{"a":"y","b":{"d":[null]},"e":{}}}})
    );
    let rescued = batch.batch.column_by_name(system::RESCUED).unwrap().as_string::<i32>();
    assert_eq!(
        rescued.value(1),
        r#"{"n":18446744073709551616,"f":1e999,"t":"2020-04-05T00:05:38.1234567Z","s":{"k":1},"l":{},"o":[]}"#,
        "numbers are kept as written"
    );
    assert_eq!(
        got[2],
        json!({"n":9_007_199_254_740_993_i64,"s":"true","l":[],"_rescued":{"f":9_007_199_254_740_993_i64}})
    );
}

#[test]
fn bad_records_leave_no_trace_in_the_columns() {
    let mut rows = rows();
    let body = "{\"a\":1,\"l\":[1],\"o\":{\"x\":1}}\n{\"a\":2,\"l\":[2,3],\"o\":{\"x\":2},\"z\":}\nnope\n{\"a\":3,\"l\":[4],\"o\":{\"x\":5}}\n{\"l\":[9,{\"x\":1\n";
    let counts = append(&mut rows, body);
    assert_eq!(
        counts,
        RowCounts {
            stored: 2,
            quarantined: ReasonCounts::just(ReasonKind::Record, 3),
            ..RowCounts::default()
        }
    );
    let bad = rows.take_bad();
    assert_eq!(bad.iter().map(|bad| bad.record).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(bad[1].raw, b"nope");
    let batch = rows.finish(1).unwrap();
    assert_eq!(
        as_json(&batch.batch),
        [json!({"a":1,"l":[1],"o":{"x":1}}), json!({"a":3,"l":[4],"o":{"x":5}})]
    );
    // Again, now that the types are settled.
    append(&mut rows, body);
    let again = rows.finish(1).unwrap();
    assert_eq!(as_json(&again.batch), as_json(&batch.batch));
}

#[test]
fn of_a_key_that_comes_twice_the_last_value_stands() {
    let mut rows = rows();
    for _ in 0..2 {
        let counts = append(
            &mut rows,
            r#"{"a":1,"b":[{"x":1,"x":2}],"a":3,"_lsn":1,"_lsn":2,"o":{"k":1,"k":null},"s":"\u0061","s":"b"}"#,
        );
        assert_eq!(counts, RowCounts { stored: 1, rescued: 1, duplicate_keys: 5, ..RowCounts::default() });
    }
    let batch = rows.finish(1).unwrap();
    let expected = json!({"a":3,"b":[{"x":2}],"s":"b","_rescued":{"_lsn":2}});
    let got = as_json(&batch.batch);
    assert_eq!(got[0], json!({"a":3,"b":[{"x":2}],"s":"b","_rescued":{"_lsn":2,"o":{"k":null}}}));
    append(&mut rows, r#"{"a":1,"a":3,"b":[{"x":1}],"b":[{"x":2}],"s":"b","_lsn":1,"_lsn":2}"#);
    assert_eq!(as_json(&rows.finish(1).unwrap().batch), [expected]);
}

#[test]
fn nulls_and_empty_values_settle_nothing_and_lose_nothing() {
    let mut rows = rows();
    append(&mut rows, r#"{"a":null,"b":[],"c":{},"d":1}"#);
    let batch = rows.finish(1).unwrap();
    assert_eq!(types(&batch.schema), "d int64");
    assert_eq!(as_json(&batch.batch), [json!({"d":1,"_rescued":{"b":[],"c":{}}})]);
    append(&mut rows, r#"{"a":"x","b":["y"],"c":{"z":1},"d":1}"#);
    let batch = rows.finish(2).unwrap();
    assert_eq!(types(&batch.schema), "d int64, a string, b list<string>, c struct<z: int64>");
}

#[test]
fn names_may_be_anything_and_reserved_ones_are_rescued() {
    let mut rows = rows();
    append(
        &mut rows,
        r#"{"":1,"a":2,"A":3,"a.b":4,"\"\\\u00e9\n":5,"_lsn":6,"_rescued":{"x":7},"_record":null}"#,
    );
    let batch = rows.finish(1).unwrap();
    assert_eq!(batch.schema.columns.len(), 5);
    let expected = json!({"":1,"a":2,"A":3,"a.b":4,"\"\\é\n":5,"_rescued":{"_lsn":6,"_rescued":{"x":7}}});
    assert_eq!(as_json(&batch.batch), [expected]);
}

#[test]
fn columns_beyond_the_limit_are_rescued() {
    let mut rows = rows();
    let record: Map<String, Value> = (0..2000).map(|n| (format!("k{n:04}"), json!(n))).collect();
    append(&mut rows, &Value::from(record.clone()).to_string());
    let batch = rows.finish(1).unwrap();
    assert_eq!(batch.schema.columns.len(), 100);
    let got = &as_json(&batch.batch)[0];
    let mut merged = got.as_object().unwrap().clone();
    let Some(Value::Object(rescued)) = merged.remove(system::RESCUED) else { panic!("{got}") };
    assert_eq!(rescued.len(), 1900);
    merged.extend(rescued);
    assert_eq!(merged, record);
}

#[test]
fn system_columns_say_where_a_row_comes_from() {
    let limits = RowLimits { received_at_column: true, lsn_column: true, record_column: true, ..LIMITS };
    let mut rows = Rows::new(&Rules::default(), limits);
    let origin = |lsn| BodyOrigin { lsn, received_at: 1_586_045_138_000_000 };
    rows.append(b"{\"a\":1}\nbad\n{\"a\":2}\n", BodyKind::Lines, origin(5));
    rows.append(b"[{\"a\":3}]", BodyKind::Document, origin(6));
    let batch = rows.finish(1).unwrap();
    let at = "2020-04-05T00:05:38Z";
    assert_eq!(
        as_json(&batch.batch),
        [
            json!({"a":1,"_received_at":at,"_lsn":5,"_record":0}),
            json!({"a":2,"_received_at":at,"_lsn":5,"_record":2}),
            json!({"a":3,"_received_at":at,"_lsn":6,"_record":0}),
        ]
    );
}

/// Normalizes values that Forebay treats as equal: numbers by value, null fields absent.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(key, value)| (key.clone(), normal(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(normal).collect()),
        Value::Number(number) => number.as_f64().map_or(value.clone(), Value::from),
        other => other.clone(),
    }
}

/// Rebuilds the record from its columns: rescued values are put back, and a text column is parsed as JSON where the
/// record has no string.
fn reassemble(row: &Value, sent: &Value) -> Value {
    let mut row = row.as_object().unwrap().clone();
    if let Some(Value::Object(rescued)) = row.remove(system::RESCUED) {
        merge(&mut row, &rescued);
    }
    as_sent(&Value::Object(row), sent)
}

fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            _ => drop(into.insert(key.clone(), value.clone())),
        }
    }
}

fn as_sent(got: &Value, sent: &Value) -> Value {
    match (got, sent) {
        (Value::Object(got), Value::Object(sent)) => {
            let field = |(key, value): (&String, &Value)| {
                (key.clone(), sent.get(key).map_or(value.clone(), |sent| as_sent(value, sent)))
            };
            Value::Object(got.iter().map(field).collect())
        }
        (Value::Array(got), Value::Array(sent)) if got.len() == sent.len() => {
            Value::Array(got.iter().zip(sent).map(|(got, sent)| as_sent(got, sent)).collect())
        }
        // Text of a JSON value (also of a string, in a JSON column).
        (Value::String(text), sent) if text != sent.as_str().unwrap_or_default() => {
            serde_json::from_str(text).unwrap_or_else(|_| got.clone())
        }
        _ => got.clone(),
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000_i64..1000).prop_map(Value::from),
        (-1000_i32..1000).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        "[a-c\"\\\\é]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[x-z]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn record() -> impl Strategy<Value = Value> {
    prop::collection::hash_map("[a-e]|_lsn", value(), 0..6)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_is_in_its_column_or_rescued(batches in prop::collection::vec(prop::collection::vec(record(), 1..6), 1..4)) {
        let mut rows = Rows::new(&Rules::default(), RowLimits { columns_max: 6, ..LIMITS });
        for records in &batches {
            let body: Vec<String> = records.iter().map(Value::to_string).collect();
            append(&mut rows, &body.join("\n"));
            let batch = rows.finish(1).unwrap();
            prop_assert_eq!(batch.batch.num_rows(), records.len());
            for (row, sent) in as_json(&batch.batch).iter().zip(records) {
                let sent = normal(sent);
                let got = normal(&reassemble(row, &sent));
                prop_assert_eq!(&strip_empty(&got, &sent), &sent, "stored as {}", row);
            }
        }
    }
}

/// The lines of a body, some of them not records.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let good = record().prop_map(|record| record.to_string());
    let bad = record().prop_map(|record| format!("{record}}}"));
    prop::collection::vec(prop_oneof![4 => good, 1 => bad], 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_body_in_parts_is_stored_as_it_is_in_one(bodies in prop::collection::vec(lines(), 1..4), rows_max in 1_usize..5) {
        let limits = RowLimits { columns_max: 6, record_column: true, ..LIMITS };
        let (mut whole, mut parts) = (Rows::new(&Rules::default(), limits), Rows::new(&Rules::default(), limits));
        for body in &bodies {
            let body = body.join("\n");
            let counts = append(&mut whole, &body);
            let expected = whole.finish(1).unwrap();
            parts.learn(body.as_bytes(), BodyKind::Lines);
            prop_assert_eq!(&parts.columns(), &expected.schema.columns);
            let (mut stored, mut bad) = (Vec::new(), Vec::new());
            let mut take = |rows: &mut Rows| {
                assert!(rows.len() <= rows_max);
                stored.extend(as_json(&rows.finish(1).unwrap().batch));
                bad.extend(rows.take_bad().into_iter().map(|bad| (bad.record, bad.offset, bad.raw)));
            };
            let origin = BodyOrigin { lsn: 7, received_at: 1_000 };
            let in_parts = parts.append_in_parts(body.as_bytes(), BodyKind::Lines, origin, rows_max, &mut take);
            take(&mut parts);
            prop_assert_eq!(stored, as_json(&expected.batch));
            prop_assert_eq!(in_parts.rescued, counts.rescued + expected.late_rescued);
            let expected: Vec<_> =
                whole.take_bad().into_iter().map(|bad| (bad.record, bad.offset, bad.raw)).collect();
            prop_assert_eq!(bad, expected);
            prop_assert_eq!((in_parts.stored, in_parts.quarantined), (counts.stored, counts.quarantined));
            prop_assert_eq!(in_parts.duplicate_keys, counts.duplicate_keys);
        }
    }
}

/// A struct that holds only nulls reads back as an empty object or not at all.
fn strip_empty(got: &Value, sent: &Value) -> Value {
    match (got, sent) {
        (Value::Object(got), Value::Object(sent)) => {
            let mut fields = Map::new();
            for (key, value) in got {
                if let Some(sent) = sent.get(key) {
                    fields.insert(key.clone(), strip_empty(value, sent));
                } else if *value != json!({}) {
                    fields.insert(key.clone(), value.clone());
                }
            }
            Value::Object(fields)
        }
        _ => got.clone(),
    }
}
