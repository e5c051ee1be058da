//! Tinybird's data sources: created from a schema or from records, listed, shown, appended to, altered.

use crate::support::{Daemon, Response, Setup, fields, request};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;

const SCHEMA: &str =
    "store_id Int16 `json:$.store_id`, product String `json:$.product`, at DateTime `json:$.at`";

pub fn call(daemon: &Daemon, method: &str, path: &str, body: impl AsRef<[u8]>) -> Response {
    call_with(daemon, method, path, &[], body)
}

pub fn call_with(
    daemon: &Daemon,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Response {
    let authorization = format!("Bearer {}", daemon.token.clone().unwrap_or_default());
    let mut all = vec![("authorization", authorization.as_str())];
    all.extend(headers);
    request(daemon.ingest, method, path, &all, body.as_ref())
}

/// A value, encoded for a query or a form.
pub fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn create(daemon: &Daemon, name: &str, schema: &str) -> Response {
    call(daemon, "POST", &format!("/v0/datasources?name={name}&format=ndjson&schema={}", encoded(schema)), "")
}

fn error(response: &Response) -> String {
    response.json()["error"].as_str().unwrap_or_else(|| panic!("{}", response.text())).to_owned()
}

/// A body of `multipart/form-data` with one part.
fn multipart(part: &str, data: &[u8]) -> (String, Vec<u8>) {
    let mut body =
        format!("--XX\r\nContent-Disposition: form-data; name=\"{part}\"; filename=\"{part}\"\r\n\r\n")
            .into_bytes();
    body.extend_from_slice(data);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    ("multipart/form-data; boundary=XX".to_owned(), body)
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_data_source_is_created_from_a_schema_and_shown_as_declared() {
    let daemon = Setup::with_config("").start();
    let schema = "a Int16 `json:$.a`, `ts` DateTime64(3) `json:$.e.ts` DEFAULT now() CODEC(ZSTD(1)), \
                  s Nullable(String) `json:$.s`";
    let made = create(&daemon, "ev", schema);
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    assert_eq!(
        (&made["error"], &made["invalid_lines"], &made["quarantine_rows"]),
        (&json!(false), &json!(0), &json!(0))
    );
    let source = &made["datasource"];
    assert_eq!(
        (&source["name"], &source["type"], &source["engine"]["engine"]),
        (&json!("ev"), &json!("ndjson"), &json!("MergeTree"))
    );
    let id = source["id"].as_str().unwrap();
    assert!(id.starts_with("t_") && id.len() == 34, "{id}");
    assert_eq!(source["created_at"].as_str().unwrap().len(), "2026-01-01 00:00:00.000000".len());

    let shown = call(&daemon, "GET", &format!("/v0/datasources/{id}/?attrs="), "");
    assert_eq!(shown.status, 200, "{}", shown.text());
    let shown = shown.json();
    assert_eq!(call(&daemon, "GET", "/v0/datasources/ev", "").json(), shown);
    assert_eq!(
        shown["schema"]["sql_schema"],
        "`a` Int16 `json:$.a`, `ts` DateTime64(3) `json:$.e.ts` DEFAULT now() CODEC(ZSTD(1)), `s` Nullable(String) `json:$.s`"
    );
    assert_eq!(
        shown["schema"]["columns"],
        json!([
            {"name": "a", "type": "Int16", "jsonpath": "$.a", "nullable": false, "codec": null, "default_value": null,
             "normalized_name": "a", "auto": false},
            {"name": "ts", "type": "DateTime64(3)", "jsonpath": "$.e.ts", "nullable": false, "codec": "CODEC(ZSTD(1))",
             "default_value": "DEFAULT now()", "normalized_name": "ts", "auto": false},
            {"name": "s", "type": "String", "jsonpath": "$.s", "nullable": true, "codec": null, "default_value": null,
             "normalized_name": "s", "auto": false},
        ])
    );
    assert_eq!(
        (&shown["statistics"], &shown["new_columns_detected"]),
        (&json!({"row_count": 0, "bytes": 0}), &json!(false))
    );
    let stream = daemon.get("/admin/v1/streams/ev").json();
    assert_eq!(stream["policy"], "propose");

    let list = call(&daemon, "GET", "/v0/datasources/?attrs=used_by", "").json();
    assert_eq!(list["datasources"].as_array().unwrap().len(), 1);
    assert_eq!(list["datasources"][0]["id"], id);
    // Events can be sent to its id as well.
    let sent = call(&daemon, "POST", &format!("/v0/events?name={id}"), r#"{"a":1}"#);
    assert_eq!(sent.status, 202, "{}", sent.text());
}

#[test]
fn parameters_may_be_sent_as_a_form() {
    let daemon = Daemon::dev();
    let form =
        format!("name=ev&mode=create&description=d&engine_sorting_key=store_id&schema={}", encoded(SCHEMA));
    let header = [("content-type", "application/x-www-form-urlencoded")];
    let made = call_with(&daemon, "POST", "/v0/datasources", &header, form);
    assert_eq!(made.status, 200, "{}", made.text());
    let source = made.json()["datasource"].clone();
    assert_eq!((&source["description"], &source["engine"]["sorting_key"]), (&json!("d"), &json!("store_id")));
}

#[test]
fn a_data_source_is_created_from_its_first_records() {
    let daemon = Daemon::dev();
    let lines = "{\"b\":1,\"o\":{\"x\":[1,2]},\"at\":\"2024-01-01T00:00:00.000Z\"}\n{\"b\":70000,\"at\":\"2024-01-02 00:00:00\",\"s\":\"t\"}\n";
    let (kind, body) = multipart("ndjson", &gzip(lines.as_bytes()));
    let made =
        call_with(&daemon, "POST", "/v0/datasources?name=ev&mode=create", &[("content-type", &kind)], body);
    assert_eq!(made.status, 200, "{}", made.text());
    let shown = call(&daemon, "GET", "/v0/datasources/ev", "").json();
    assert_eq!(
        shown["schema"]["sql_schema"],
        "`b` Nullable(Int64) `json:$.b`, `o_x` Array(Int64) `json:$.o.x`, `at` DateTime64(3) `json:$.at`, \
         `s` Nullable(String) `json:$.s`"
    );
    assert_eq!(shown["statistics"]["row_count"], 2, "{shown}");
    let raw = call(&daemon, "POST", "/v0/datasources?name=raw&format=ndjson", "{\"n\":1}\n");
    assert_eq!(raw.status, 200, "{}", raw.text());
    assert_eq!(daemon.rows("raw").iter().map(fields).collect::<Vec<_>>(), [json!({"n": 1})]);
}

#[test]
fn csv_columns_match_by_position_or_name() {
    let daemon = Daemon::dev();
    let schema =
        "id Int32 `json:$.Id`, name String `json:$.Name`, score Nullable(Float64), tags Array(String)";
    create(&daemon, "ev", schema);
    let post = |query: &str, body: &str| {
        let header = [("content-type", "text/html; charset=utf-8")];
        let path = format!("/v0/datasources?mode=append&name=ev&{query}");
        call_with(&daemon, "POST", &path, &header, body)
    };
    let done = post("format=csv&dialect_delimiter=%2C", "1,\"a, \"\"b\"\"\n\",1.5,\"[\"\"x\"\"]\"\n2,,,[]\n");
    assert_eq!(done.json()["error"], false, "{}", done.text());
    let done = post("format=csv&dialect_delimiter=%3B", "name;id;tags;score\r\nc;3;[];\r\n");
    assert_eq!(done.json()["error"], false, "{}", done.text());
    let done = post("", "4,d,2.5,[]\n5,e\n").json();
    assert_eq!((&done["quarantine_rows"], &done["invalid_lines"]), (&json!(1), &json!(1)), "{done}");
    let rows: Vec<Value> = daemon.rows("ev").iter().map(fields).collect();
    assert_eq!(
        rows,
        [
            json!({"id": 1, "name": "a, \"b\"\n", "score": 1.5, "tags": ["x"]}),
            json!({"id": 2, "name": "", "tags": []}),
            json!({"id": 3, "name": "c", "tags": []}),
            json!({"id": 4, "name": "d", "score": 2.5, "tags": []}),
        ]
    );
    let made =
        call(&daemon, "POST", "/v0/datasources?name=made", "when,n,ok\n2024-01-01 00:00:00,7,true\n,8,\n");
    assert_eq!(made.json()["datasource"]["type"], "csv", "{}", made.text());
    assert_eq!(
        call(&daemon, "GET", "/v0/datasources/made", "").json()["schema"]["sql_schema"],
        "`when` Nullable(DateTime64(3)) `json:$.when`, `n` Nullable(Int64) `json:$.n`, `ok` Nullable(Bool) `json:$.ok`"
    );
    for (query, body, part) in [
        ("format=csv&dialect_delimiter=ab", "1", "'dialect_delimiter' must be one character"),
        ("format=csv&dialect_new_line=x", "1", "'dialect_new_line' must be a line feed"),
        ("format=csv", "\n", "The CSV has no lines"),
    ] {
        let refused = post(query, body);
        assert!(refused.status == 400 && error(&refused).contains(part), "{query}: {}", refused.text());
    }
}

#[test]
fn invalid_data_sources_are_refused_and_leave_nothing() {
    let daemon = Daemon::dev();
    let post = |query: &str, body: &str| {
        let refused = call(&daemon, "POST", &format!("/v0/datasources?{query}"), body);
        (refused.status, error(&refused))
    };
    let refused = |query: &str, body: &str, part: &str| {
        let (status, error) = post(query, body);
        assert!(status == 400 && error.contains(part), "{query}: {status} {error}");
    };
    refused("", "", "The 'name' parameter is required");
    refused("name=ev", "", "Either 'schema' or data to infer it from is required");
    refused("name=ev&mode=upsert", "", "mode 'upsert' is not supported");
    refused("name=ev&mode=replace", "{}", "Replacing rows is not supported");
    refused("name=ev&format=parquet", "PAR1", "format=parquet is not supported");
    refused("name=ev&format=xml", "<a/>", "format 'xml' is not supported");
    refused("name=ev&url=http://169.254.169.254/", "", "Forebay does not fetch URLs");
    refused(&format!("name=ev&schema={}", encoded("a Int17")), "", "column 'a': 'Int17' is not a type");
    refused(&format!("name=ev&schema={}", encoded("a Int8, a Int16")), "", "duplicate column name 'a'");
    refused(&format!("name=ev&schema={}", encoded("_lsn Int64")), "", "is reserved for a system column");
    refused(&format!("name=1st&schema={}", encoded("a Int8")), "", "stream's name starts with");
    refused(&format!("name=ev_quarantine&schema={}", encoded("a Int8")), "", "belong to quarantine tables");
    refused(&format!("name=ev&schema={}", encoded("a Int8 DEFAULT 'x'")), "", "default");
    refused("name=ev&format=ndjson", "\u{0}\u{1}\u{2}", "no line of the sample is a JSON object");
    refused("name=ev&format=ndjson", "\n\n", "no records");
    refused("name=ev&format=ndjson", "{}\n", "no fields");
    let wide: Vec<String> = (0..10_000).map(|n| format!("\"c{n}\":1")).collect();
    refused("name=ev&format=ndjson", &format!("{{{}}}", wide.join(",")), "more than 1000 fields");
    let wide: Vec<String> = (0..10_000).map(|n| format!("c{n} Int8")).collect();
    let header = [("content-type", "application/x-www-form-urlencoded")];
    let refused =
        call_with(&daemon, "POST", "/v0/datasources", &header, format!("name=ev&schema={}", wide.join(",")));
    assert_eq!((refused.status, error(&refused).as_str()), (400, "a schema has at most 1000 columns"));
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let (kind, body) = multipart("ndjson", &bomb);
    let refused = call_with(&daemon, "POST", "/v0/datasources?name=ev", &[("content-type", &kind)], body);
    assert_eq!(refused.status, 413, "{}", refused.text());
    let (kind, mut body) = multipart("ndjson", &gzip(b"{\"a\":1}"));
    let at = body.windows(2).position(|bytes| bytes == [0x1f, 0x8b]).unwrap();
    body[at + 12] ^= 0xff;
    let refused = call_with(&daemon, "POST", "/v0/datasources?name=ev", &[("content-type", &kind)], body);
    assert_eq!(refused.status, 400, "{}", refused.text());
    let header = [("content-type", "multipart/form-data; boundary=XX")];
    let refused = call_with(&daemon, "POST", "/v0/datasources?name=ev", &header, "no multipart");
    assert!(
        refused.status == 400 && error(&refused).contains("The upload cannot be read"),
        "{}",
        refused.text()
    );
    assert_eq!(call(&daemon, "GET", "/v0/datasources", "").json(), json!({"datasources": []}));
}

#[test]
fn a_name_is_created_once() {
    let daemon = Daemon::dev();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| create(&daemon, "ev", SCHEMA).status)).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
    assert_eq!(error(&create(&daemon, "ev", SCHEMA)), "Data Source \"ev\" already exists");
}

#[test]
fn missing_data_sources_and_jobs_are_reported() {
    let daemon = Daemon::dev();
    for (method, path) in [
        ("GET", "/v0/datasources/none"),
        ("GET", "/v0/datasources/t_00000000000000000000000000000000"),
        ("GET", "/v0/datasources/none_quarantine"),
        ("POST", "/v0/datasources?name=none&mode=append&format=ndjson"),
        ("POST", "/v1/datasources/none/append?format=ndjson"),
        ("POST", "/v0/datasources/none/alter?schema=a%20Int8"),
    ] {
        let refused = call(&daemon, method, path, "");
        assert_eq!(refused.status, 404, "{method} {path}: {}", refused.text());
        assert!(error(&refused).starts_with("Data Source \""), "{method} {path}: {}", refused.text());
    }
    let refused = call(&daemon, "GET", "/v0/jobs/none", "");
    assert_eq!((refused.status, error(&refused).as_str()), (404, "Job \"none\" does not exist"));
}

#[test]
fn records_are_appended_and_counted() {
    let daemon = Daemon::dev();
    create(&daemon, "ev", "a Int64 `json:$.a`, s Nullable(String) `json:$.s`");
    let path = "/v0/datasources?name=ev&mode=append&format=ndjson&debug=blocks_block_log";
    let (kind, body) = multipart("ndjson", b"{\"a\":1}\n{\"a\":2,\"s\":\"t\"}\n");
    let done = call_with(&daemon, "POST", path, &[("content-type", &kind)], body);
    assert_eq!(done.status, 200, "{}", done.text());
    let done = done.json();
    assert_eq!(
        (&done["error"], &done["quarantine_rows"], &done["invalid_lines"]),
        (&json!(false), &json!(0), &json!(0))
    );
    assert_eq!(
        (&done["datasource"]["name"], &done["blocks"][0]["process_return"][0]["lines"]),
        (&json!("ev"), &json!(2))
    );
    // Once the request is answered, the rows are readable.
    let shown = call(&daemon, "GET", "/v0/datasources/ev", "").json();
    assert_eq!(shown["statistics"]["row_count"], 2);
    let header = [("content-type", "application/x-ndjson; charset=utf-8")];
    let partly = call_with(&daemon, "POST", path, &header, "{\"a\":3}\nno record\n");
    let partly = partly.json();
    assert_eq!(
        (&partly["error"], &partly["quarantine_rows"], &partly["invalid_lines"]),
        (
            &json!("There was an error with file contents: 1 row in quarantine and 1 invalid line."),
            &json!(1),
            &json!(1)
        )
    );
    let rows: Vec<Value> = daemon.rows("ev").iter().map(fields).collect();
    assert_eq!(rows, [json!({"a": 1}), json!({"a": 2, "s": "t"}), json!({"a": 3})]);
    let quarantine = call(&daemon, "GET", "/v0/datasources/ev_quarantine", "").json();
    assert_eq!(
        (&quarantine["name"], &quarantine["statistics"]["row_count"]),
        (&json!("ev_quarantine"), &json!(1))
    );
    let names: Vec<&str> = quarantine["schema"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c__error_column", "c__error", "c__import_id", "insertion_date", "c__raw", "a", "s"]);
    let refused = call(&daemon, "POST", path, "");
    assert!(
        refused.status == 400 && error(&refused).contains("The request has no data"),
        "{}",
        refused.text()
    );
    let refused = call(&daemon, "POST", path, "no record\n");
    assert!(refused.status == 400 && error(&refused).starts_with("No line of the body is a JSON object"));
}

#[test]
fn an_import_may_run_as_a_job() {
    let daemon = Setup::with_config("").start();
    create(&daemon, "ev", "a Int64 `json:$.a`");
    let header = [("content-type", "application/x-ndjson"), ("content-encoding", "gzip")];
    let body = gzip(b"{\"a\":1}\n{\"a\":2}\nno record\n");
    let begun = call_with(&daemon, "POST", "/v1/datasources/ev/append?format=ndjson&from=cli", &header, body);
    assert_eq!(begun.status, 200, "{}", begun.text());
    let begun = begun.json();
    assert!(begun.get("error").is_none(), "{begun}");
    let id = begun["id"].as_str().unwrap();
    assert_eq!(
        (&begun["import_id"], begun["job_url"].as_str()),
        (&begun["id"], Some(&*format!("http://{}/v0/jobs/{id}", daemon.ingest)))
    );
    let job = crate::support::eventually("the end of the import", || {
        let job = call(&daemon, "GET", &format!("/v0/jobs/{id}?debug=blocks,block_log"), "").json();
        (job["status"] == "done").then_some(job)
    });
    let process = &job["blocks"][0]["process_return"][0];
    assert_eq!((&process["lines"], &process["quarantine"]), (&json!(2), &json!(1)), "{job}");
    assert_eq!(
        job["errors"],
        json!(["There was an error with file contents: 1 row in quarantine and 1 invalid line."])
    );
    // The job is done only when the rows are readable.
    assert_eq!(crate::support::read_table(&daemon.data_dir().join("tables/ev")).len(), 2);
    let jobs = call(&daemon, "GET", "/v0/jobs", "").json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1);
    let refused = call(&daemon, "POST", &format!("/v0/jobs/{id}/cancel"), "");
    assert!(refused.status == 400 && error(&refused).contains("cannot be cancelled"), "{}", refused.text());
    for (path, part) in [
        ("/v1/datasources/ev/replace?format=ndjson", "Replacing rows is not supported"),
        ("/v1/datasources/ev/delete", "runs no SQL"),
        ("/v0/datasources/ev/delete", "runs no SQL"),
    ] {
        let refused = call(&daemon, "POST", path, "delete_condition=1");
        assert!(refused.status == 400 && error(&refused).contains(part), "{path}: {}", refused.text());
    }
}

#[test]
fn columns_can_be_added_but_losing_data_is_refused() {
    let daemon = Daemon::dev();
    create(&daemon, "ev", "a Int16 `json:$.a`, b Nullable(String) `json:$.b`");
    let alter = |form: &str| {
        let header = [("content-type", "application/x-www-form-urlencoded")];
        call_with(&daemon, "POST", "/v0/datasources/ev/alter", &header, form)
    };
    let schema = |text: &str| format!("schema={}", encoded(text));
    let shown = || call(&daemon, "GET", "/v0/datasources/ev", "").json()["schema"]["sql_schema"].clone();
    let before = shown();
    let wider = schema("a Int32 `json:$.a`, b Nullable(String) `json:$.b`, c Nullable(Float64) `json:$.c`");
    let dry = alter(&format!("dry=true&{wider}"));
    assert_eq!(dry.status, 200, "{}", dry.text());
    assert_eq!(
        dry.json()["operations"],
        json!(["MODIFY COLUMN `a` Int32", "ADD COLUMN `c` Nullable(Float64)"])
    );
    assert_eq!(shown(), before);
    let done = alter(&format!("dry=false&description=more&{wider}"));
    assert_eq!((done.status, &done.json()["dry"]), (200, &json!(false)), "{}", done.text());
    assert_eq!(
        shown(),
        "`a` Int32 `json:$.a`, `b` Nullable(String) `json:$.b`, `c` Nullable(Float64) `json:$.c`"
    );
    let same = alter(&wider);
    assert_eq!((same.status, error(&same).as_str()), (400, "There were no operations to perform"));
    for lossy in [
        "a Int8 `json:$.a`, b Nullable(String) `json:$.b`, c Nullable(Float64) `json:$.c`",
        "a Int32 `json:$.a`",
    ] {
        for dry in ["dry=true&", ""] {
            let refused = alter(&format!("{dry}{}", schema(lossy)));
            assert!(
                refused.status == 400 && error(&refused).contains("would no longer be stored"),
                "{}",
                refused.text()
            );
        }
    }
    for (form, part) in [
        ("ttl=1".to_owned(), "'ttl' is not supported"),
        (String::new(), "There were no operations to perform"),
        (schema("a"), "it has no type"),
        (schema("a Int32, a Int32"), "duplicate column name 'a'"),
    ] {
        let refused = alter(&form);
        assert!(refused.status == 400 && error(&refused).contains(part), "{form}: {}", refused.text());
    }
    let forced = alter(&format!("force=true&{}", schema("a Int32 `json:$.a`")));
    assert_eq!(forced.status, 200, "{}", forced.text());
    assert_eq!(shown(), "`a` Int32 `json:$.a`");
}

/// The worked example of the vendor's guide.
#[test]
fn rows_that_break_a_type_are_quarantined_and_counted() {
    let daemon = Daemon::dev();
    let schema = "store_id Int16 `json:$.store_id`, purchase_product_name String `json:$.purchase_product_name`, \
                  purchase_datetime DateTime `json:$.purchase_datetime`";
    create(&daemon, "ev", schema);
    let body = "{\"store_id\":1,\"purchase_datetime\":\"2022-01-05 12:13:14\"}\n\
                {\"store_id\":\"3\",\"purchase_product_name\":\"x\",\"purchase_datetime\":\"2022-01-05 12:13:14\"}\n\
                {\"store_id\":2,\"purchase_product_name\":\"y\",\"purchase_datetime\":\"2022-01-05 12:13:14\",\"more\":[1]}\n";
    for (query, status) in [("name=ev", 202), ("name=ev&wait=true", 200)] {
        let sent = daemon.post(query, body);
        assert_eq!((sent.status, sent.counts()), (status, (1, 2)), "{query}");
    }
    let done = call(&daemon, "POST", "/v0/datasources?name=ev&mode=append&format=ndjson", body).json();
    assert_eq!(
        (&done["quarantine_rows"], &done["invalid_lines"], &done["error"]),
        (&json!(2), &json!(0), &json!("There was an error with file contents: 2 rows in quarantine."))
    );
    assert_eq!(daemon.rows("ev").len(), 3);
    let shown = call(&daemon, "GET", "/v0/datasources/ev", "").json();
    assert_eq!(
        (&shown["new_columns_detected"], &shown["statistics"]["row_count"]),
        (&json!(true), &json!(3))
    );
    let quarantine = &daemon.rows("ev_quarantine")[0];
    assert!(quarantine["c__error_column"].is_array() && quarantine["c__raw"].is_string(), "{quarantine}");
}

#[test]
fn missing_values_become_the_default_or_the_time_of_receipt() {
    let daemon = Daemon::dev();
    let schema = "n Int16 `json:$.n` DEFAULT 7, at DateTime64(3) `json:$.o.at` DEFAULT now(), day Date DEFAULT today()";
    assert_eq!(create(&daemon, "ev", schema).status, 200);
    let body = "{}\n{\"n\":1,\"o\":{\"at\":1704067200123},\"day\":\"2024-01-01\"}\n{\"n\":null,\"o\":{\"at\":null}}\n";
    assert_eq!(daemon.post("name=ev", body).counts(), (3, 0));
    let rows = daemon.rows("ev");
    assert_eq!((&rows[1]["n"], &rows[1]["day"]), (&json!(1), &json!("2024-01-01")));
    assert!(rows[1]["at"].as_str().unwrap().starts_with("2024-01-01T00:00:00.123"), "{}", rows[1]);
    for row in [&rows[0], &rows[2]] {
        assert_eq!((&row["n"], &row["at"]), (&json!(7), &row["_received_at"]), "{row}");
        assert!(row["_received_at"].as_str().unwrap().starts_with(row["day"].as_str().unwrap()), "{row}");
    }
}

#[test]
fn a_dropped_data_source_is_gone_and_its_name_is_free() {
    let daemon = Setup::with_config("").start();
    create(&daemon, "ev", "a Int64");
    let shown = call(&daemon, "DELETE", "/v0/datasources/ev?force=false&dry_run=true", "");
    assert_eq!((shown.status, &shown.json()["dependent_pipes"]), (200, &json!([])), "{}", shown.text());
    assert_eq!(call(&daemon, "GET", "/v0/datasources/ev", "").status, 200);
    for path in ["/v0/datasources/ev/truncate", "/v1/datasources/ev/replace"] {
        let refused = call(&daemon, "POST", path, "");
        assert!(
            refused.status == 400 && error(&refused).contains("not supported"),
            "{path}: {}",
            refused.text()
        );
    }
    let dropped = call(&daemon, "DELETE", "/v0/datasources/ev/?force=true", "");
    assert_eq!((dropped.status, dropped.body.len()), (204, 0));
    assert_eq!(call(&daemon, "DELETE", "/v0/datasources/ev", "").status, 404);
    assert_eq!(call(&daemon, "POST", "/v0/datasources/ev/truncate", "").status, 404);
    assert_eq!(call(&daemon, "GET", "/v0/datasources", "").json(), json!({"datasources": []}));
    assert_eq!(create(&daemon, "ev", "b String").status, 200);
}

/// Scopes apply to single data sources, in the contract's notation.
#[test]
fn a_token_may_do_what_its_scopes_allow() {
    let daemon = Setup::with_config("").start();
    create(&daemon, "mine", "a Int64 `json:$.a`");
    create(&daemon, "other", "a Int64 `json:$.a`");
    let token = |scope: &str| {
        let name = scope.replace(':', "_");
        let made = call(&daemon, "POST", &format!("/v0/tokens?name={name}&scope={scope}"), "");
        made.json()["token"].as_str().unwrap_or_else(|| panic!("{}", made.text())).to_owned()
    };
    let (append, read) = (token("DATASOURCES:APPEND:mine"), token("DATASOURCES:READ:mine"));
    let (maker, dropper) = (token("DATASOURCES:CREATE"), token("DATASOURCES:DROP:mine"));
    let status = |token: &str, method: &str, path: &str, body: &str| {
        let authorization = format!("Bearer {token}");
        let response =
            request(daemon.ingest, method, path, &[("authorization", &authorization)], body.as_bytes());
        if response.status == 403 {
            assert!(error(&response).starts_with("token lacks "), "{}", response.text());
        }
        response.status
    };
    let import = |name: &str| format!("/v0/datasources?name={name}&mode=append&format=ndjson");
    let lines = "{\"a\":1}\n";
    assert_eq!(status(&append, "POST", &import("mine"), lines), 200);
    assert_eq!(status(&append, "POST", &import("other"), lines), 403);
    assert_eq!(status(&append, "POST", "/v1/datasources/other/append?format=ndjson", lines), 403);
    assert_eq!(status(&read, "POST", &import("mine"), lines), 403);
    assert_eq!(status(&read, "GET", "/v0/datasources/mine", ""), 200);
    assert_eq!(status(&append, "GET", "/v0/datasources/other", ""), 403);
    assert_eq!(status(&append, "POST", "/v0/analyze", lines), 403);
    assert_eq!(status(&append, "POST", "/v0/datasources?name=third&format=ndjson", lines), 403);
    assert_eq!(status(&maker, "POST", "/v0/datasources?name=third&format=ndjson", lines), 200);
    assert_eq!(
        status(&append, "POST", "/v0/datasources/mine/alter?schema=a%20Int64,b%20Nullable(Int8)", ""),
        403
    );
    assert_eq!(status(&append, "DELETE", "/v0/datasources/mine", ""), 403);
    let listed = call_as(&daemon, &append, "/v0/datasources");
    assert_eq!(listed["datasources"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(status(&dropper, "DELETE", "/v0/datasources/mine", ""), 204);
    // Only tokens that may see a data source learn that it does not exist.
    assert_eq!(status(&append, "POST", "/v0/events?name=mine", lines), 404);
    assert_eq!(status(&append, "POST", "/v0/events?name=fourth", lines), 403);
    assert_eq!(status(&maker, "POST", "/v0/events?name=fourth", lines), 202);
}

fn call_as(daemon: &Daemon, token: &str, path: &str) -> Value {
    request(daemon.ingest, "GET", path, &[("authorization", &format!("Bearer {token}"))], b"").json()
}
