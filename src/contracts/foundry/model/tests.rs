//! Valid and invalid schemas and records.

use super::*;
use serde_json::{Value, json};

fn field(name: &str, data_type: impl Into<Value>, nullable: bool) -> Value {
    let data_type = data_type.into();
    json!({"name": name, "schema": {"nullable": nullable, "dataType": data_type}})
}

fn one(data_type: impl Into<Value>) -> StreamSchema {
    StreamSchema::parse(&json!({"fields": [field("f", data_type, true)]})).unwrap()
}

fn plain(kind: &str) -> Value {
    json!({"type": kind})
}

fn reasons(schema: &StreamSchema, record: &str) -> Vec<String> {
    schema.check(record.as_bytes()).map_or_else(|Mismatch(reasons)| reasons, |()| Vec::new())
}

#[test]
fn a_schema_comes_back_as_it_was_given() {
    let item = |data_type: Value, nullable: bool| json!({"nullable": nullable, "dataType": data_type});
    let schema = json!({
        "fields": [
            field("id", plain("string"), false),
            field("deleted", plain("boolean"), true),
            field("at", plain("timestamp"), true),
            field("price", json!({"type": "decimal", "precision": 10, "scale": 2}), true),
            field("tags", json!({"type": "array", "itemsSchema": item(plain("timestamp"), false)}), true),
            field("by", json!({
                "type": "map",
                "keySchema": item(plain("string"), false),
                "valueSchema": item(plain("long"), true),
            }), true),
            field("where", json!({"type": "struct", "subFields": [field("city", plain("string"), false)]}), true),
        ],
        "keyFieldNames": ["id"],
        "changeDataCapture": {"type": "fullRow", "deletionFieldName": "deleted", "orderingFieldName": "at"},
    });
    let parsed = StreamSchema::parse(&schema).unwrap();
    assert_eq!(parsed.to_json(), schema);
    let types: Vec<String> = parsed.columns().iter().map(|column| column.kind.name()).collect();
    assert_eq!(
        types,
        [
            "string",
            "bool",
            "timestamp",
            "decimal(10, 2)",
            "list<timestamp>",
            "map<string, int64>",
            "struct<city: string>",
        ]
    );
    assert_eq!(parsed.columns()[4].epoch_digits, Some(3));
    // A decimal without precision and scale.
    let decimal = one(plain("decimal"));
    assert_eq!(decimal.fields[0].item.kind, FieldType::Decimal { precision: 38, scale: 18 });
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let wrong = StreamSchema::parse(&json!({
        "fields": [
            field("a", plain("text"), true),
            field("b", json!({"type": "decimal", "precision": 39}), true),
            field("b", plain("double"), true),
            field("_lsn", plain("long"), true),
            {"schema": {"nullable": true, "dataType": {"type": "string"}}},
            {"name": "c"},
            field("d", json!({"type": "struct", "subFields": [field("x", plain("nope"), true)]}), true),
            field("e", json!({"type": "array"}), true),
            field("g", json!({
                "type": "map",
                "keySchema": {"nullable": false, "dataType": {"type": "long"}},
                "valueSchema": {"nullable": true, "dataType": {"type": "long"}},
            }), true),
        ],
        "keyFieldNames": ["b", "nothing"],
        "changeDataCapture": {"type": "other", "deletionFieldName": "b"},
    }))
    .unwrap_err();
    let texts: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    for expected in [
        "field 'a': unknown type \"text\"",
        "field 'b': a decimal needs",
        "field 'b': duplicate field name",
        "field '_lsn': the name is reserved",
        "field 5 has no \"name\"",
        "field 'c': \"schema\" is missing",
        "field 'd.x': unknown type \"nope\"",
        "field 'e': an array needs",
        "field 'g': the keys of a map must be strings",
        "field 'b': a field of type double cannot be a key",
        "key field 'nothing' is not in the schema",
        "the type \"fullRow\"",
        "deletionFieldName 'b' must be a boolean, not double",
        "change data capture has no \"orderingFieldName\"",
    ] {
        assert!(texts.iter().any(|text| text.contains(expected)), "{expected} in {texts:#?}");
    }
    assert_eq!(texts.len(), 14, "{texts:#?}");
    for none in [json!(null), json!([]), json!({}), json!({"fields": []}), json!({"fields": {}})] {
        assert_eq!(StreamSchema::parse(&none).unwrap_err().len(), 1, "{none}");
    }
    let mut deep = plain("long");
    for _ in 0..20 {
        deep = json!({"type": "array", "itemsSchema": {"nullable": true, "dataType": deep}});
    }
    let wrong = StreamSchema::parse(&json!({"fields": [field("f", deep, true)]})).unwrap_err();
    assert!(wrong[0].message.contains("nested"), "{wrong:?}");
}

#[test]
fn values_are_of_their_type_or_refused() {
    let decimal = json!({"type": "decimal", "precision": 5, "scale": 2});
    let cases: [(Value, &[&str], &[&str]); 12] = [
        (plain("boolean"), &["true", "false", "null"], &["1", "\"true\""]),
        (plain("byte"), &["127", "-128", "5.0"], &["128", "-129", "1.5", "\"1\"", "1e2"]),
        (plain("short"), &["32767", "-32768"], &["32768", "-32769"]),
        (plain("integer"), &["2147483647", "-2147483648"], &["2147483648", "-2147483649", "true"]),
        (plain("long"), &["9223372036854775807", "12345678901234567"], &["9223372036854775808", "\"1\""]),
        (plain("float"), &["1.5", "3.4e38"], &["3.5e38", "\"1\""]),
        (plain("double"), &["1.5", "1", "1e300"], &["1e309", "\"1\"", "{}"]),
        (plain("string"), &["\"\"", "\"\\u00e9\""], &["1", "true", "[]", "{}"]),
        (plain("binary"), &["\"\"", "\"AP8=\""], &["\"AP8\"", "\"?\"", "1"]),
        (plain("date"), &["\"2026-02-28\""], &["\"2026-02-30\"", "20260228", "\"2026-02-28T00:00:00Z\""]),
        (
            plain("timestamp"),
            &["1731426022784", "-1", "\"2026-01-31T12:00:00Z\"", "\"2026-01-31T12:00:00.123456789+02:00\""],
            &["1200951619200000", "\"40000-01-01T00:00:00Z\"", "1.5", "\"soon\"", "true"],
        ),
        (
            decimal,
            &["123.45", "\"123.45\"", "-1", "\"1.5\""],
            &["1000", "1.234", "\"x\"", "\"1000.00\"", "true"],
        ),
    ];
    for (data_type, good, bad) in cases {
        let schema = one(data_type.clone());
        for value in good {
            assert_eq!(reasons(&schema, &format!("{{\"f\":{value}}}")), [""; 0], "{data_type} {value}");
        }
        for value in bad {
            let reasons = reasons(&schema, &format!("{{\"f\": {value} }}"));
            assert!(reasons.len() == 1 && reasons[0].contains(value), "{data_type} {value}: {reasons:?}");
        }
    }
    let year = reasons(&one(plain("timestamp")), "{\"f\":1200951619200000}");
    assert!(year[0].contains("not within the years 1 to 9999"), "{year:?}");
}

#[test]
fn nested_values_and_missing_ones_are_looked_at() {
    let item = |data_type: Value, nullable: bool| json!({"nullable": nullable, "dataType": data_type});
    let schema = StreamSchema::parse(&json!({"fields": [
        field("id", plain("string"), false),
        field("n", json!({"type": "array", "itemsSchema": item(plain("integer"), false)}), true),
        field("m", json!({
            "type": "map",
            "keySchema": item(plain("string"), false),
            "valueSchema": item(plain("timestamp"), true),
        }), true),
        field("s", json!({"type": "struct", "subFields": [
            field("a", plain("long"), false), field("b", plain("timestamp"), true),
        ]}), true),
    ]}))
    .unwrap();
    let good = r#"{"s":{"b":1731426022784,"a":1},"m":{"x":1731426022784,"y":null},"n":[1,2],"id":"i"}"#;
    assert_eq!(reasons(&schema, good), [""; 0]);
    assert_eq!(reasons(&schema, "{\"id\":\"i\",\"other\":null}"), [""; 0]);
    let bad = r#"{"s":{"b":"x","c":2},"m":{"x":true},"n":[1,null,"2"],"id":null,"other":1}"#;
    assert_eq!(
        reasons(&schema, bad),
        [
            "field 's.b': \"x\" is not an RFC 3339 time within the years 1 to 9999, as required by type timestamp",
            "field 's.c': the field is not in the schema",
            "field 's.a': the field is missing and not nullable",
            "field 'm': true is not of type timestamp",
            "field 'n': the value is null, but its type is not nullable",
            "field 'n': \"2\" is not of type integer",
            "field 'id': the value is null, but its type is not nullable",
            "field 'other': the field is not in the schema",
        ]
    );
    assert_eq!(reasons(&schema, "{}"), ["field 'id': the field is missing and not nullable"]);
}

#[test]
fn what_is_taken_has_a_place_in_the_columns() {
    // The same code decides later how the record is stored.
    let item = |data_type: Value| json!({"nullable": true, "dataType": data_type});
    let schema = StreamSchema::parse(&json!({"fields": [
        field("t", plain("timestamp"), true),
        field("l", json!({"type": "array", "itemsSchema": item(plain("timestamp"))}), true),
        field("m", json!({"type": "map", "keySchema": item(plain("string")), "valueSchema": item(plain("timestamp"))}), true),
        field("s", json!({"type": "struct", "subFields": [field("t", plain("timestamp"), true)]}), true),
        field("d", json!({"type": "decimal", "precision": 38, "scale": 18}), true),
        field("b", plain("binary"), true),
    ]}))
    .unwrap();
    let record = r#"{"t":1731426022784,"l":[1731426022784,"2026-01-31T12:00:00Z"],"m":{"k":1731426022784},
        "s":{"t":1731426022784},"d":"12345678901234567890.123456789012345678","b":"AP8="}"#;
    schema.check(record.as_bytes()).unwrap();
    let rules = crate::schema::Rules {
        policy: crate::schema::Policy::Strict,
        schema: std::sync::Arc::new(crate::schema::Schema { version: 1, columns: schema.columns() }),
        ..crate::schema::Rules::default()
    };
    rules.check(100).unwrap();
    let stream = crate::batch::StreamId(1);
    let judged =
        crate::columns::judge(stream, &rules, record.as_bytes(), crate::batch::BodyKind::Document, 0)
            .unwrap();
    assert_eq!((judged.stored, judged.quarantined.total()), (1, 0));
}
