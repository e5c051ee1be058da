//! Records: quarantined lines and how to find them, and unusual values.

use crate::support::{Daemon, fields};
use crate::wire::count;
use serde_json::{Value, json};

/// A record of the quarantine table: its index, offset, bytes and the reason.
type Bad = (u64, u64, Vec<u8>, String);

/// Decodes a binary column, which is shown as hexadecimal digits in JSON.
fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn quarantine(daemon: &Daemon, stream: &str) -> Vec<Bad> {
    let rows = daemon.rows(&format!("{stream}_quarantine"));
    let bad = rows.iter().map(|row| {
        assert!(row["_lsn"].as_u64().unwrap() > 0 && row["_received_at"].is_string(), "{row}");
        let raw = unhex(row["raw"].as_str().unwrap());
        let reason = row["reason"].as_str().unwrap().to_owned();
        (row["_record"].as_u64().unwrap(), row["offset"].as_u64().unwrap(), raw, reason)
    });
    bad.collect()
}

fn values(rows: &[Value], column: &str) -> Vec<Value> {
    rows.iter().map(|row| row[column].clone()).collect()
}

#[test]
fn bad_lines_are_quarantined_and_good_ones_stored() {
    let daemon = Daemon::dev();
    let good = "{\"n\":1}\n";
    let bad: [(&[u8], &str); 20] = [
        (b"hello", "expected a JSON object"),
        (b"5", "expected a JSON object"),
        (b"\"text\"", "expected a JSON object"),
        (b"null", "expected a JSON object"),
        (b"[{\"n\":1}]", "expected a JSON object"),
        (b"{", "expected a key in double quotes"),
        (b"{n:1}", "expected a key in double quotes"),
        (b"{\"n\" 1}", "expected ':' after a key"),
        (b"{\"n\":}", "expected a value"),
        (b"{\"n\":NaN}", "expected a value"),
        (b"{\"n\":1 \"m\":2}", "expected ',' or '}'"),
        (b"{\"n\":[1 2]}", "expected ',' or ']'"),
        (b"{\"n\":1,}", "expected a key in double quotes"),
        (b"{\"n\":1}}", "trailing characters after the record"),
        (b"{\"n\":1}{\"n\":2}", "trailing characters after the record"),
        (b"{\"n\":01}", "invalid number"),
        (b"{\"n\":\"a\tb\"}", "unescaped control character in a string"),
        (b"{\"n\":\"\\x\"}", "invalid escape in a string"),
        (b"{\"n\":\"\\ud800\"}", "lone surrogate in a string"),
        (b"{\"n\":\"a\xffb\"}", "invalid UTF-8"),
    ];
    let mut body = Vec::new();
    let mut expected = Vec::new();
    for (at, (line, reason)) in bad.iter().enumerate() {
        body.extend_from_slice(good.as_bytes());
        expected.push((2 * at as u64 + 1, body.len() as u64, line.to_vec(), (*reason).to_owned()));
        body.extend_from_slice(line);
        body.extend_from_slice(b"\r\n");
    }
    let response = daemon.post("name=e", &body);
    assert_eq!((response.status, response.counts()), (202, (20, 20)));
    assert_eq!(values(&daemon.rows("e"), "n"), vec![json!(1); 20]);
    for (found, expected) in quarantine(&daemon, "e").iter().zip(&expected) {
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(&expected.2));
    }
    assert_eq!(quarantine(&daemon, "e").len(), expected.len());
    let counts = &daemon.get("/admin/v1/streams/e").json()["rows"];
    assert_eq!((&counts["stored"], &counts["quarantined"]), (&json!(20), &json!(20)));
    assert_eq!(count(&daemon, "forebay_http_quarantined_rows_total"), 20);
    assert_eq!(count(&daemon, "forebay_compactor_quarantined_rows_total"), 20);
}

#[test]
fn elements_that_are_not_objects_are_quarantined() {
    let daemon = Daemon::dev();
    let response = daemon.post("name=e&format=json", "[{\"n\":1}, 5,\n{\"n\":2},[{}], null]");
    assert_eq!((response.status, response.counts()), (202, (2, 3)));
    assert_eq!(values(&daemon.rows("e"), "n"), [json!(1), json!(2)]);
    let no_object = "expected a JSON object".to_owned();
    let expected = [(1, 10, "5"), (3, 21, "[{}]"), (4, 27, "null")]
        .map(|(record, offset, raw)| (record, offset, raw.as_bytes().to_vec(), no_object.clone()));
    assert_eq!(quarantine(&daemon, "e"), expected);
}

#[test]
fn records_may_nest_128_levels_deep() {
    let daemon = Daemon::dev();
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let lists = |depth: usize| format!("{{\"b\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    let far = "[".repeat(100_000);
    let body = [objects(128), lists(128), objects(129), lists(129), far.clone(), format!("{{\"c\":{far}")]
        .join("\n");
    let response = daemon.post("name=e", &body);
    assert_eq!((response.status, response.counts()), (202, (2, 4)));
    // The first levels are columns, the rest is text, so the whole value is stored.
    let rows = daemon.rows("e");
    let (mut value, mut levels) = (rows[0]["a"].clone(), 1);
    let text = loop {
        if let Value::String(text) = value {
            break text;
        }
        (value, levels) = (value["a"].clone(), levels + 1);
    };
    assert_eq!(text, objects(128 - levels));
    let stored = rows[1].to_string().replace('"', "");
    assert!(stored.contains(&"[".repeat(127)), "{stored}");
    let bad = quarantine(&daemon, "e");
    let reasons: Vec<&str> = bad.iter().map(|(.., reason)| reason.as_str()).collect();
    let too_deep = "nesting deeper than 128";
    assert_eq!(reasons, [too_deep, too_deep, "expected a JSON object", too_deep]);
    assert_eq!(bad[3].2.len(), 100_005);
    // The array around the records does not count. With a record that is too deep, the document is invalid.
    let document = |depth| daemon.post("name=document", format!("[{}]", objects(depth)));
    assert_eq!((document(128).status, document(129).status), (202, 400));
}

#[test]
fn of_a_key_that_comes_twice_the_last_value_stands() {
    let daemon = Daemon::dev();
    daemon.post("name=e", r#"{"n":0,"text":"x","o":{"b":0},"l":[{"c":0}]}"#);
    let records = [
        (r#"{"n":1,"n":2}"#, json!({"n": 2}), 1),
        (r#"{"n":1,"text":"a","n":2,"text":"b","n":3}"#, json!({"n": 3, "text": "b"}), 3),
        (r#"{"n":"text","n":4}"#, json!({"n": 4}), 1),
        (r#"{"n":5,"n":"text"}"#, json!({"_rescued": {"n": "text"}}), 1),
        (r#"{"n":6,"n":null}"#, json!({}), 1),
        (r#"{"n":7,"\u006e":8}"#, json!({"n": 8}), 1),
        (r#"{"o":{"b":1,"b":2}}"#, json!({"o": {"b": 2}}), 1),
        (r#"{"o":{"b":1},"o":{"b":2,"b":3}}"#, json!({"o": {"b": 3}}), 2),
        (r#"{"l":[{"c":1,"c":2},{"c":3}]}"#, json!({"l": [{"c": 2}, {"c": 3}]}), 1),
        (r#"{"_lsn":1,"_lsn":2}"#, json!({"_rescued": {"_lsn": 2}}), 1),
        (r#"{"_lsn":1,"_lsn":null}"#, json!({}), 1),
        (r#"{"_lsn":1,"\u005flsn":2}"#, json!({"_rescued": {"_lsn": 2}}), 1),
        // The duplicate occurs in the first batch of its column.
        (r#"{"new":{"b":1,"b":2}}"#, json!({"new": {"b": 2}}), 1),
        (r#"{"new":{"b":3}}"#, json!({"new": {"b": 3}}), 0),
        (r#"{"list":[{"c":1,"c":2}]}"#, json!({"list": [{"c": 2}]}), 1),
        (r#"{"N":1,"n":2}"#, json!({"N": 1, "n": 2}), 0),
    ];
    daemon.admin_post("/admin/v1/publish");
    let body: String = records.iter().flat_map(|(record, ..)| [record, "\n"]).collect();
    let response = daemon.post("name=e", body);
    assert_eq!((response.status, response.counts()), (202, (records.len() as u64, 0)));
    let rows = daemon.rows("e");
    assert_eq!(rows.len(), records.len() + 1);
    for (row, (record, expected, _)) in rows[1..].iter().zip(&records) {
        assert_eq!(fields(row), *expected, "{record}");
    }
    let dropped: u64 = records.iter().map(|(.., dropped)| dropped).sum();
    let counts = &daemon.get("/admin/v1/streams/e").json()["rows"];
    assert_eq!(counts["duplicate_keys"], json!(dropped));
    assert_eq!(count(&daemon, "forebay_compactor_duplicate_keys_total"), dropped);
}

#[test]
fn a_wide_record_with_a_duplicate_key_is_fast() {
    let daemon = Daemon::dev();
    let keys: Vec<String> = (0..200_000).map(|n| format!("\"k{n}\":1")).collect();
    let response = daemon.post("name=e", format!("{{{},\"k7\":2}}", keys.join(",")));
    assert_eq!(response.counts(), (1, 0), "{}", response.text());
    let rows = daemon.rows("e");
    assert_eq!((rows[0]["k7"].clone(), rows[0]["_rescued"]["k199999"].clone()), (json!(2), json!(1)));
}

/// The `_rescued` column as stored, so that numbers are compared as text.
fn rescued_text(daemon: &Daemon, table: &str) -> Vec<Option<String>> {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    let published = daemon.admin_post("/admin/v1/publish");
    assert_eq!(published.status, 200);
    let mut texts = Vec::new();
    for path in crate::support::parquet_files(&daemon.data_dir().join("tables").join(table)) {
        let file = std::fs::File::open(path).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let column = batch.column_by_name("_rescued").unwrap().as_string::<i32>();
            texts.extend(column.iter().map(|text| text.map(str::to_owned)));
            assert_eq!(column.len(), batch.num_rows());
        }
    }
    texts
}

#[test]
fn numbers_are_stored_exactly_or_rescued_as_written() {
    let daemon = Daemon::dev();
    daemon.post("name=e&wait=table", "{\"int\":1,\"float\":1.5}\n");
    let numbers = [
        ("int", "9223372036854775807", Some(json!(i64::MAX))),
        ("int", "-9223372036854775808", Some(json!(i64::MIN))),
        ("int", "7.000", Some(json!(7))),
        ("int", "-0", Some(json!(0))),
        ("int", "9223372036854775808", None),
        ("int", "-9223372036854775809", None),
        ("int", "18446744073709551615", None),
        ("int", "18446744073709551616", None),
        ("int", "340282366920938463463374607431768211456", None),
        ("int", "1.5", None),
        ("int", "1e400", None),
        ("float", "-2e10", Some(json!(-2e10))),
        ("float", "9007199254740992", Some(json!(9_007_199_254_740_992.0))),
        ("float", "9007199254740993", None),
        ("float", "12345678901234567890123", None),
        ("float", "1e309", None),
        ("float", "-1e400", None),
    ];
    // In separate files, and in the batch that determines the type.
    for stream in ["e", "fresh"] {
        let first = "{\"int\":2,\"float\":2.5}\n".to_owned();
        let lines = numbers.iter().map(|(column, number, _)| format!("{{\"{column}\":{number}}}\n"));
        let body: String = std::iter::once(first).chain(lines).collect();
        assert_eq!(daemon.post(&format!("name={stream}"), body).status, 202);
    }
    let texts = rescued_text(&daemon, "e");
    let rows = daemon.rows("e");
    assert_eq!(rows.len(), numbers.len() + 2);
    for (at, (column, number, stored)) in numbers.iter().enumerate() {
        let (row, text) = (&rows[at + 2], &texts[at + 2]);
        assert_eq!(row.get(*column), stored.as_ref(), "{column} {number}");
        let rescued = stored.is_none().then(|| format!("{{\"{column}\":{number}}}"));
        assert_eq!(*text, rescued, "{column} {number}");
    }
    // If 1.5 determines the type, `int` is a column of doubles as well, and its values must not change either.
    for (at, text) in rescued_text(&daemon, "fresh").iter().enumerate().skip(1) {
        let (column, number, _) = numbers[at - 1];
        let row = &daemon.rows("fresh")[at];
        let exact = row
            .get(column)
            .is_some_and(|value| json!(number.parse::<f64>().unwrap()) == json!(value.as_f64()));
        let rescued = *text == Some(format!("{{\"{column}\":{number}}}"));
        assert!(exact != rescued, "{column} {number}: {row}");
    }
    // Each row is counted once, even if a value was rescued when the type was determined.
    let mut all = 0;
    for stream in ["e", "fresh"] {
        let rescued = rescued_text(&daemon, stream).iter().flatten().count();
        let stream = daemon.get(&format!("/admin/v1/streams/{stream}")).json();
        assert_eq!(stream["rows"]["rescued"], json!(rescued));
        all += rescued as u64;
    }
    assert_eq!(count(&daemon, "forebay_compactor_rescued_rows_total"), all);
    let misfits = daemon.get("/admin/v1/streams/fresh").json()["misfits"].clone();
    assert!(misfits.as_array().unwrap().iter().any(|misfit| misfit["path"] == "int"), "{misfits}");
}
