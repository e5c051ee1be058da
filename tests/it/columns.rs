//! Columns: names, limits, types and how they grow.

use crate::support::{Daemon, Setup, fields};
use crate::wire::count;
use serde_json::{Map, Value, json};

fn schema(daemon: &Daemon, stream: &str) -> Value {
    daemon.get(&format!("/admin/v1/streams/{stream}")).json()["schema"].clone()
}

/// `name: type` of each column.
fn columns(daemon: &Daemon, stream: &str) -> Vec<String> {
    let schema = schema(daemon, stream);
    let columns = schema["columns"].as_array().unwrap().iter();
    let text = |column: &Value, key: &str| column[key].as_str().unwrap().to_owned();
    columns.map(|column| format!("{}: {}", text(column, "name"), text(column, "type"))).collect()
}

fn rows(daemon: &Daemon, stream: &str) -> Vec<Value> {
    daemon.rows(stream).iter().map(fields).collect()
}

#[test]
fn a_column_may_have_any_name() {
    let daemon = Daemon::dev();
    let long = "n".repeat(5_000);
    let names = [
        "",
        " ",
        "a",
        "A",
        "a.b",
        "a b",
        "a\"b",
        "a\\b",
        "a/b",
        "a\nb",
        "\u{0}",
        "\u{7f}",
        "ä",
        "日本語",
        "🦀",
        "1",
        "-",
        "$",
        "select",
        "true",
        "null",
        "list",
        "item",
        "_id",
        "_LSN",
        "_rescued_",
        "rescued",
        "..",
        &long,
    ];
    let record: Map<String, Value> =
        names.iter().enumerate().map(|(n, name)| ((*name).to_owned(), json!(n))).collect();
    let record = Value::from(record);
    for _ in 0..2 {
        let response = daemon.post("name=e&wait=table", record.to_string());
        assert_eq!((response.status, response.counts()), (200, (1, 0)), "{}", response.text());
    }
    assert_eq!(rows(&daemon, "e"), [record.clone(), record.clone()]);
    let expected: Vec<String> = names.iter().map(|name| format!("{name}: int64")).collect();
    assert_eq!(columns(&daemon, "e"), expected);
    // The same within a struct.
    daemon.post("name=nested", json!({"o": record}).to_string());
    assert_eq!(rows(&daemon, "nested"), [json!({"o": record})]);
}

#[test]
fn names_of_system_columns_are_reserved() {
    let daemon = Daemon::dev();
    let record =
        r#"{"_lsn":-1,"_record":"x","_received_at":null,"_rescued":{"a":[1,null]},"n":1,"o":{"_lsn":5}}"#;
    let receipt = daemon.post("name=e", record).receipt();
    let row = &daemon.rows("e")[0];
    assert_eq!((&row["_lsn"], &row["_record"]), (&json!(receipt), &json!(0)));
    assert!(row["_received_at"].as_str().unwrap().starts_with("20"), "{row}");
    let rescued = json!({"_lsn": -1, "_record": "x", "_rescued": {"a": [1, null]}});
    assert_eq!(fields(row), json!({"_rescued": rescued, "n": 1, "o": {"_lsn": 5}}));
    assert_eq!(columns(&daemon, "e"), ["n: int64", "o: struct<_lsn: int64>"]);
}

#[test]
fn fields_beyond_columns_max_are_rescued() {
    let daemon = Daemon::dev();
    let record: Map<String, Value> = (0..2_000).map(|n| (format!("c{n}"), json!(n))).collect();
    daemon.post("name=e", Value::from(record).to_string());
    daemon.post("name=e", r#"{"c1999":"late","c0":7,"new":null}"#);
    let rows = rows(&daemon, "e");
    for n in 0..2_000 {
        let name = format!("c{n}");
        let stored = if n < 1_000 { &rows[0][&name] } else { &rows[0]["_rescued"][&name] };
        assert_eq!(*stored, json!(n), "{name}");
    }
    assert_eq!(rows[0].as_object().unwrap().len(), 1_001);
    assert_eq!(rows[1], json!({"c0": 7, "_rescued": {"c1999": "late"}}));
    assert_eq!(columns(&daemon, "e").len(), 1_000);
    let counts = &daemon.get("/admin/v1/streams/e").json()["rows"];
    assert_eq!((&counts["stored"], &counts["rescued"]), (&json!(2), &json!(2)));
    assert_eq!(count(&daemon, "forebay_compactor_rescued_rows_total"), 2);
}

#[test]
fn the_fields_of_structs_count_as_columns() {
    let daemon = Setup::dev("[limits]\ncolumns_max = 5").start();
    let wide = json!({"a": 1, "o": {"x": 1, "y": 2, "z": 3}, "b": 2, "c": 3});
    let narrow = json!({"a": 1, "o": {"x": 1, "y": 2, "z": 3}, "b": 2});
    daemon.post("name=wide", wide.to_string());
    daemon.post("name=narrow", narrow.to_string());
    // A struct with more fields than the limit allows becomes one column of JSON text.
    assert_eq!(rows(&daemon, "wide"), [json!({"a": 1, "o": wide["o"].to_string(), "b": 2, "c": 3})]);
    assert_eq!(columns(&daemon, "wide"), ["a: int64", "o: json", "b: int64", "c: int64"]);
    assert_eq!(rows(&daemon, "narrow"), [narrow]);
}

#[test]
fn fields_without_a_type_take_no_column() {
    let daemon = Setup::dev("[limits]\ncolumns_max = 5").start();
    let body =
        "{\"j1\":1,\"j2\":2,\"j3\":3,\"j4\":4,\"j5\":5\n{\"n1\":null,\"n2\":{},\"n3\":[]}\n{\"a\":1}\n";
    let response = daemon.post("name=e&wait=table", body);
    assert_eq!(response.counts(), (2, 1));
    daemon.post("name=e&wait=table", r#"{"k1":null,"k2":null,"k3":null,"k4":null}"#);
    let full = json!({"a": 2, "b": 3, "c": 4, "d": 5, "e": 6});
    daemon.post("name=e", full.to_string());
    let rows = rows(&daemon, "e");
    assert_eq!(rows[1..], [json!({"a": 1}), json!({}), full]);
    assert_eq!(columns(&daemon, "e").len(), 5);
}

#[test]
fn the_first_batch_determines_types() {
    let daemon = Daemon::dev();
    let batches: [(&str, &[&str], &[Value], &str); 17] = [
        ("int", &["1", "null", "-2"], &[json!(1), Value::Null, json!(-2)], "int64"),
        ("float", &["1", "2.5"], &[json!(1.0), json!(2.5)], "float64"),
        ("bool", &["true", "false"], &[json!(true), json!(false)], "bool"),
        ("text", &["1.50", "\"a\"", "true"], &[json!("1.50"), json!("a"), json!("true")], "string"),
        ("empty", &["\"\"", "null"], &[json!(""), Value::Null], "string"),
        ("escapes", &[r#""\u00e4\n\ud83e\udd80\u0000""#], &[json!("ä\n🦀\0")], "string"),
        (
            "list",
            &["[1,null,2]", "[]", "null"],
            &[json!([1, null, 2]), json!([]), Value::Null],
            "list<int64>",
        ),
        (
            "lists",
            &["[[1],[]]", "[null,[2,3]]"],
            &[json!([[1], []]), json!([null, [2, 3]])],
            "list<list<int64>>",
        ),
        ("texts", &["[1,\"a\"]"], &[json!(["1", "a"])], "list<string>"),
        (
            "object",
            &[r#"{"b":1}"#, r#"{"c":"x"}"#],
            &[json!({"b": 1}), json!({"c": "x"})],
            "struct<b: int64, c: string>",
        ),
        ("objects", &[r#"[{"b":[1]},{}]"#], &[json!([{"b": [1]}, {}])], "list<struct<b: list<int64>>>"),
        (
            "null_in",
            &[r#"{"b":null,"c":1}"#, r#"{"b":2}"#],
            &[json!({"c": 1}), json!({"b": 2})],
            "struct<b: int64, c: int64>",
        ),
        ("mixed", &["[1]", "{\"b\": 1}", "5"], &[json!("[1]"), json!("{\"b\": 1}"), json!("5")], "json"),
        (
            "deep",
            &[r#"{"b":{"c":{"d":[true]}}}"#],
            &[json!({"b": {"c": {"d": [true]}}})],
            "struct<b: struct<c: struct<d: list<bool>>>>",
        ),
        ("date", &["\"2020-04-05\""], &[json!("2020-04-05")], "date"),
        ("time", &["\"2020-04-05 00:05:38\""], &[json!("2020-04-05T00:05:38Z")], "timestamp"),
        (
            "no_time",
            &["\"2020-04-05 00:05:38\"", "\"now\""],
            &[json!("2020-04-05 00:05:38"), json!("now")],
            "string",
        ),
    ];
    for (stream, values, ..) in &batches {
        let lines: Vec<String> = values.iter().map(|value| format!("{{\"a\":{value}}}\n")).collect();
        assert_eq!(daemon.post(&format!("name={stream}"), lines.concat()).counts().1, 0, "{stream}");
    }
    for (stream, _, expected, kind) in &batches {
        let stored: Vec<Value> = daemon.rows(stream).iter().map(|row| row["a"].clone()).collect();
        assert_eq!(stored, *expected, "{stream}");
        assert_eq!(columns(&daemon, stream), [format!("a: {kind}")]);
    }
}

#[test]
fn all_timestamp_formats_have_one_type() {
    let daemon = Daemon::dev();
    let times = [
        ("2020-04-05 00:05:38", "2020-04-05T00:05:38Z"),
        ("2020-04-05T00:05:38Z", "2020-04-05T00:05:38Z"),
        ("2020-04-05T00:05:38.5Z", "2020-04-05T00:05:38.500Z"),
        ("2020-04-05T00:05:38.123456", "2020-04-05T00:05:38.123456Z"),
        ("2020-04-05T00:05:38.123456000Z", "2020-04-05T00:05:38.123456Z"),
        ("2020-04-05T02:05:38+02:00", "2020-04-05T00:05:38Z"),
        ("2020-04-04T19:05:38-0500", "2020-04-05T00:05:38Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z"),
    ];
    let others = [
        "\"2023-02-29T12:00:00Z\"",
        "\"2020-04-05\"",
        "\"2020-04-05T24:00:00Z\"",
        "\"2020-04-05T00:05:38.123456789Z\"",
        "\"\"",
        "1586045138",
    ];
    let line = |value: &str| format!("{{\"at\":{value}}}\n");
    daemon.post("name=e&wait=table", times.map(|(text, _)| line(&format!("{text:?}"))).concat());
    daemon.post("name=e", others.map(line).concat());
    let rows = rows(&daemon, "e");
    for ((text, expected), row) in times.iter().zip(&rows) {
        assert_eq!(*row, json!({"at": expected}), "{text}");
    }
    for (value, row) in others.iter().zip(&rows[times.len()..]) {
        let value: Value = serde_json::from_str(value).unwrap();
        assert_eq!(*row, json!({"_rescued": {"at": value}}));
    }
    assert_eq!(columns(&daemon, "e"), ["at: timestamp"]);
}

#[test]
fn a_schema_only_grows() {
    let daemon = Daemon::dev();
    let batches = [
        "{\"a\":1,\"o\":{\"x\":1},\"l\":[1]}\n",
        "{\"a\":\"text\",\"b\":true}\n{\"a\":2,\"b\":null,\"o\":{\"x\":2,\"y\":3}}\n",
        "{\"a\":{\"deep\":[1]},\"b\":\"no\",\"c\":1.5,\"o\":5,\"l\":[1,\"x\"]}\n{\"c\":7,\"o\":{\"x\":\"x\"}}\n{}\n",
    ];
    for body in batches {
        assert_eq!(daemon.post("name=e&wait=table", body).status, 200);
    }
    let expected = [
        json!({"a": 1, "o": {"x": 1}, "l": [1]}),
        json!({"_rescued": {"a": "text"}, "b": true}),
        json!({"a": 2, "o": {"x": 2}, "_rescued": {"o": {"y": 3}}}),
        json!({"c": 1.5, "_rescued": {"a": {"deep": [1]}, "b": "no", "o": 5, "l": [1, "x"]}}),
        json!({"c": 7.0, "o": {}, "_rescued": {"o": {"x": "x"}}}),
        json!({}),
    ];
    assert_eq!(rows(&daemon, "e"), expected);
    let stream = daemon.get("/admin/v1/streams/e").json();
    assert_eq!(stream["schema"]["version"], 3);
    assert_eq!(
        columns(&daemon, "e"),
        ["a: int64", "o: struct<x: int64>", "l: list<int64>", "b: bool", "c: float64"]
    );
    assert_eq!((&stream["rows"]["stored"], &stream["rows"]["rescued"]), (&json!(6), &json!(4)));
    let misfit = |path: &str, values: &str| {
        let misfits = stream["misfits"].as_array().unwrap();
        let found = misfits.iter().find(|misfit| misfit["path"] == path && misfit["values"] == values);
        found.unwrap_or_else(|| panic!("{path} {values} is missing in {misfits:?}")).clone()
    };
    let text = misfit("a", "string");
    assert_eq!(
        (&text["count"], &text["example"], &text["column_type"], &text["proposed_type"]),
        (&json!(1), &json!("\"text\""), &json!("int64"), &json!("string"))
    );
    assert_eq!(misfit("a", "object")["proposed_type"], "json");
    assert_eq!(misfit("o.y", "number")["count"], 1);
}
