//! Amperity's Streaming Ingest API: accepted and refused requests, and XML.

use crate::support::{Daemon, Response, Setup, connect, eventually, fields, read_response, request};
use serde_json::{Value, json};
use std::io::Write;

pub const STREAM: &str = "is-AbCDefGH";
pub const TENANT: (&str, &str) = ("x-amperity-tenant", "acme");

pub fn send(daemon: &Daemon, path: &str, kind: &str, body: impl AsRef<[u8]>) -> Response {
    request(daemon.ingest, "POST", path, &[TENANT, ("content-type", kind)], body.as_ref())
}

fn json_to(daemon: &Daemon, stream: &str, body: &str) -> Response {
    send(daemon, &format!("/stream/v0/data/{stream}"), "application/json", body)
}

pub fn xml_to(daemon: &Daemon, stream: &str, body: impl AsRef<[u8]>) -> Response {
    send(daemon, &format!("/stream/v0/data/{stream}"), "application/xml", body)
}

fn accepted(answer: &Response) {
    assert_eq!((answer.status, answer.text()), (202, String::new()), "{}", answer.text());
    assert!(answer.header("x-request-id").is_some());
}

/// Waits for this many rows of a stream and returns them.
fn rows(daemon: &Daemon, stream: &str, count: usize) -> Vec<Value> {
    eventually("rows", || Some(daemon.rows(stream)).filter(|rows| rows.len() >= count))
}

fn refused(answer: &Response, status: u16, says: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert!(body["message"].as_str().unwrap().contains(says), "{body}");
    assert!(answer.header("x-request-id").is_some());
}

#[test]
fn only_a_single_json_object_is_accepted() {
    let daemon = Daemon::dev();
    let id = ("x-request-id", "9d2c0b1e5a7f4c33");
    let path = format!("/stream/v0/data/{STREAM}");
    let headers = [TENANT, ("content-type", "application/json; charset=utf-8"), id];
    let answer = request(daemon.ingest, "POST", &path, &headers, b"{\"order_id\":\"o-1\",\n \"n\": 1}");
    accepted(&answer);
    assert_eq!(answer.header("x-request-id"), Some(id.1));
    accepted(&json_to(&daemon, STREAM, " {\"order_id\":\"o-2\"}\n"));
    // The other name of the header, in another case.
    let headers = [("Amperity-Tenant", "acme"), ("Content-Type", "application/json")];
    accepted(&request(daemon.ingest, "POST", &path, &headers, b"{\"order_id\":\"o-3\"}"));
    for (body, says) in [
        ("[{\"a\":1}]", "single JSON object"),
        ("{\"a\":1}\n{\"a\":2}", "not a JSON document"),
        ("1", "single JSON object"),
        ("{\"a\":", "not a JSON document"),
        ("", "no records"),
        (" \n", "no records"),
    ] {
        refused(&json_to(&daemon, STREAM, body), 400, says);
    }
    refused(&json_to(&daemon, "is-short", "{}"), 400, "Malformed stream id");
    refused(&json_to(&daemon, "AbCDefGH", "{}"), 400, "Malformed stream id");
    for kind in ["text/plain", "application/x-ndjson", ""] {
        refused(&send(&daemon, &path, kind, "{}"), 400, "Unsupported content type");
    }
    let headers = [("content-type", "application/json")];
    refused(&request(daemon.ingest, "POST", &path, &headers, b"{}"), 400, "X-Amperity-Tenant");
    for method in ["GET", "PUT", "DELETE"] {
        let answer = request(daemon.ingest, method, &path, &[TENANT], b"");
        refused(&answer, 405, "not allowed");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    refused(&send(&daemon, "/stream/v0/x", "application/json", "{}"), 404, "no such route");
    let found: Vec<Value> = rows(&daemon, STREAM, 3).iter().map(fields).collect();
    assert_eq!(
        found,
        [json!({"order_id": "o-1", "n": 1}), json!({"order_id": "o-2"}), json!({"order_id": "o-3"})]
    );
}

#[test]
fn a_content_length_is_required_and_limited() {
    let daemon = Setup::dev("[limits.amperity]\nbody_max = \"254KiB\"\n").start();
    let mut stream = connect(daemon.ingest);
    let head = format!(
        "POST /stream/v0/data/{STREAM} HTTP/1.1\r\nhost: x\r\nx-amperity-tenant: acme\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let answer = read_response(&mut stream);
    assert_eq!(answer.json()["message"], "Missing content-length header");
    refused(&answer, 411, "content-length");
    // `{"a":""}` around it.
    let body = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    accepted(&json_to(&daemon, STREAM, &body(254 * 1024)));
    refused(&json_to(&daemon, STREAM, &body(254 * 1024 + 1)), 413, "JSON content too large");
    refused(&xml_to(&daemon, "is-XmlXmlXml", body(254 * 1024 + 1)), 413, "Content too large");
    let event = |bytes| send(&daemon, "/prof/events/is-AbCDefGH", "application/json", body(bytes));
    assert_eq!(event(64 * 1024).status, 202);
    refused(&event(64 * 1024 + 1), 413, "JSON content too large");
}

#[test]
fn a_stream_accepts_one_type_of_body() {
    let daemon = Daemon::dev();
    accepted(&json_to(&daemon, STREAM, "{}"));
    refused(&xml_to(&daemon, STREAM, "<r><a/></r>"), 400, "takes JSON, not XML");
    accepted(&xml_to(&daemon, "is-XmlXmlXml", "<r><a/></r>"));
    refused(&json_to(&daemon, "is-XmlXmlXml", "{}"), 400, "takes XML, not JSON");
    let stream = daemon.get("/admin/v1/streams/is-XmlXmlXml").json();
    assert_eq!(
        (&stream["settings"]["payload"], &stream["settings"]["project"]),
        (&json!("xml"), &json!("acme"))
    );
}

#[test]
fn records_of_xml_become_rows() {
    let daemon = Daemon::dev();
    let document = "<?xml version=\"1.0\"?><!-- c --><?go on?>\n<records xmlns:x=\"urn:x\">\n\
        <record id=\"1\"><name>Ann &amp; Co</name><note><![CDATA[<b>]]></note>\
        <address><city>Oslo</city><zip>0001</zip></address><tag>a</tag><tag>b</tag></record>\n\
        <x:record id=\"2\"><x:name>Bob</x:name><p>Hi <b>you</b> !</p><tag>c</tag></x:record></records>";
    accepted(&xml_to(&daemon, STREAM, document));
    let found: Vec<Value> = rows(&daemon, STREAM, 2).iter().map(fields).collect();
    assert_eq!(
        found,
        [
            json!({"_id": "1", "name": "Ann & Co", "note": "<b>", "address": {"city": "Oslo", "zip": "0001"},
                   "tag": ["a", "b"]}),
            json!({"_id": "2", "name": "Bob", "p": {"b": "you", "_VALUE": "Hi !"}, "tag": ["c"]}),
        ]
    );
    let recent = daemon.get(&format!("/admin/v1/streams/{STREAM}/records")).json();
    assert_eq!(recent["records"][1]["name"], "Bob");
}

#[test]
fn bad_xml_is_accepted_and_then_quarantined_with_the_reason() {
    let daemon = Daemon::dev();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let latin = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<u8>>();
    let lol = "<!DOCTYPE r [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">\
               <!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;\">\
               <!ENTITY e \"&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;\"><!ENTITY f \"&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;\">]>\
               <r><a>&f;&f;</a></r>";
    let bad: Vec<(Vec<u8>, &str)> = vec![
        (lol.into(), "expand to more than"),
        ("<!DOCTYPE r [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><r><a>&x;</a></r>".into(), "external"),
        (format!("{}{}", "<a>".repeat(10_000), "</a>".repeat(10_000)).into(), "nested more than"),
        (utf16("<r><a>1</a></r>"), "UTF-16 but does not declare it"),
        (latin("<r><a>\u{e9}</a></r>"), "not valid UTF-8"),
        ("<records><record><id>1</id></record><record><id>".into(), "ends within <id>"),
        ("<records><record>".into(), "ends within <record>"),
        ("<records><record></records>".into(), "invalid XML document"),
        ("{\"not\":\"xml\"}".into(), "invalid XML document"),
        ("<records/>".into(), "no elements"),
    ];
    for (body, _) in &bad {
        accepted(&xml_to(&daemon, STREAM, body));
    }
    let quarantined = rows(&daemon, &format!("{STREAM}_quarantine"), bad.len());
    assert_eq!(quarantined.len(), bad.len());
    for ((body, says), row) in bad.iter().zip(&quarantined) {
        let reason = row["reason"].as_str().unwrap();
        assert!(
            reason.contains(says) || (*says == "invalid XML document" && reason.contains("text outside")),
            "{reason}"
        );
        let raw: String = body.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        assert_eq!(row["raw"], raw.as_str());
    }
    // A document that declares its encoding is converted.
    let declared =
        |label: &str| format!("<?xml version='1.0' encoding='{label}'?><r><a><v>\u{e9}</v></a></r>");
    accepted(&xml_to(&daemon, STREAM, utf16(&declared("UTF-16"))));
    accepted(&xml_to(&daemon, STREAM, latin(&declared("ISO-8859-1"))));
    let kind = "text/xml; charset=iso-8859-1";
    let path = format!("/stream/v0/data/{STREAM}");
    accepted(&send(&daemon, &path, kind, latin("<?pi?><r><a><v>\u{e9}</v></a></r>")));
    let found: Vec<Value> = rows(&daemon, STREAM, 3).iter().map(fields).collect();
    assert_eq!(found, [json!({"v": "é"}), json!({"v": "é"}), json!({"v": "é"})]);
    assert_eq!(daemon.metric("forebay_compactor_verdict_mismatches_total").to_string(), "0");
}

#[test]
fn columns_determine_the_types_of_xml_text() {
    let daemon = Daemon::dev();
    let columns = json!([
        {"name": "n", "type": "int64"}, {"name": "ok", "type": "bool"}, {"name": "tag", "type": "list<string>"},
    ]);
    let new = json!({"policy": "strict", "columns": columns, "settings": {"row_tag": "row"}});
    let made = daemon.administer("PUT", &format!("/admin/v1/streams/{STREAM}"), &new);
    assert_eq!(made.status, 201, "{}", made.text());
    accepted(&xml_to(
        &daemon,
        STREAM,
        "<x><meta>7</meta><rows><row><n>1</n><ok>true</ok><tag>a</tag></row><row><n>many</n></row></rows></x>",
    ));
    assert_eq!(fields(&rows(&daemon, STREAM, 1)[0]), json!({"n": 1, "ok": true, "tag": ["a"]}));
    let bad = &rows(&daemon, &format!("{STREAM}_quarantine"), 1)[0];
    assert!(bad["reason"].as_str().unwrap().contains("'n' is not int64"), "{bad}");
}

#[test]
fn a_missing_stream_is_created_or_refused() {
    let daemon = Setup::dev("[amperity]\nunknown_stream = \"reject\"\n").start();
    let answer = json_to(&daemon, STREAM, "{}");
    assert_eq!(answer.status, 404);
    let expected = json!({
        "error": "stream-not-found", "message": format!("No stream {STREAM} for acme"), "stream": STREAM,
    });
    assert_eq!(answer.json(), expected);
    // The newer route requires the stream to exist in any case.
    let daemon = Daemon::dev();
    let event = || send(&daemon, &format!("/prof/events/{STREAM}"), "application/json", "{}");
    assert_eq!((event().status, event().json()), (404, expected));
    accepted(&json_to(&daemon, STREAM, "{}"));
    accepted(&event());
    refused(&send(&daemon, &format!("/prof/events/{STREAM}"), "text/xml", "<a/>"), 415, "application/json");
    // Another tenant neither sees it nor can create it.
    let headers = [("x-amperity-tenant", "other"), ("content-type", "application/json")];
    let other = request(daemon.ingest, "POST", &format!("/stream/v0/data/{STREAM}"), &headers, b"{}");
    assert_eq!(other.status, 404, "{}", other.text());
}

#[test]
fn modes_of_a_stream() {
    let daemon = Daemon::dev();
    accepted(&json_to(&daemon, STREAM, "{\"n\":1}"));
    let set = |mode: &str| {
        let path = format!("/admin/v1/streams/{STREAM}");
        let settings = json!({"settings": {"mode": mode}});
        let answer = daemon.administer("PATCH", &path, &settings);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let event = || send(&daemon, &format!("/prof/events/{STREAM}"), "application/json", "{\"n\":2}");
    set("drop");
    assert_eq!((event().status, event().text()), (204, String::new()));
    accepted(&json_to(&daemon, STREAM, "{\"n\":3}"));
    assert_eq!(daemon.metric("forebay_http_dropped_requests_total").to_string(), "3");
    set("reject");
    let expected = json!({
        "error": "stream-rejected", "message": format!("Stream {STREAM} is not accepting events"), "stream": STREAM,
    });
    assert_eq!((event().status, event().json()), (409, expected.clone()));
    let old = json_to(&daemon, STREAM, "{\"n\":4}");
    assert_eq!((old.status, old.json()), (409, expected));
    set("active");
    accepted(&event());
    assert_eq!(rows(&daemon, STREAM, 2).len(), 2);
}

#[test]
fn a_repeated_request_id_is_stored_once_if_configured() {
    let daemon = Setup::dev("[amperity]\ndeduplicate = true\n").start();
    let headers = [TENANT, ("content-type", "application/json"), ("x-request-id", "r-1")];
    let path = format!("/stream/v0/data/{STREAM}");
    let post = |body: &[u8]| request(daemon.ingest, "POST", &path, &headers, body);
    accepted(&post(b"{\"n\":1}"));
    let again = post(b"{\"n\":1}");
    accepted(&again);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(post(b"{\"n\":2}").status, 422);
    accepted(&json_to(&daemon, STREAM, "{\"n\":3}"));
    assert_eq!(rows(&daemon, STREAM, 2).len(), 2);
}

#[test]
fn recent_events_can_be_listed() {
    let daemon = Setup::dev("[compactor]\nmax_idle = \"off\"\n").start();
    for n in 0..60 {
        let kind = if n % 2 == 0 { "even" } else { "odd" };
        accepted(&json_to(&daemon, STREAM, &json!({"n": n, "name": kind, "type": kind}).to_string()));
    }
    let get = |path: String| request(daemon.ingest, "GET", &path, &[TENANT], b"");
    // Only records that would survive power loss are shown.
    let recent = eventually("all events", || {
        Some(get(format!("/events/{STREAM}/recent")).json())
            .filter(|all| all["events"][0]["event"]["n"] == 59)
    });
    let events = recent["events"].as_array().unwrap();
    assert_eq!(
        (events.len(), &events[0]["event"]["n"], &events[0]["state"]),
        (50, &json!(59), &json!("accepted"))
    );
    let even = get(format!("/events/{STREAM}/recent?name=even&state=accepted")).json();
    assert_eq!(
        (even["events"].as_array().unwrap().len(), &even["events"][0]["event"]["n"]),
        (30, &json!(58))
    );
    let samples = get(format!("/streams/{STREAM}/sample-events?type=odd")).json();
    assert_eq!(samples["sample_events"].as_array().unwrap().len(), 10);
    refused(&get(format!("/events/{STREAM}/recent?state=x")), 400, "'state'");
    assert_eq!(get("/events/is-NotThere/recent".to_owned()).status, 404);
    accepted(&xml_to(&daemon, "is-XmlXmlXml", "<r>"));
    let rejected = eventually("the error", || {
        let found = get("/events/is-XmlXmlXml/recent?state=rejected".to_owned()).json();
        found["events"].get(0).cloned()
    });
    assert!(rejected["reason"].as_str().unwrap().contains("ends within <r>"), "{rejected}");
}

#[test]
fn a_tenant_over_its_limit_gets_retry_after() {
    let daemon = Setup::dev("[limits.amperity]\nrequests_per_second = 2\n").start();
    let limited = eventually("a refusal over the limit", || {
        Some(json_to(&daemon, STREAM, "{}")).filter(|answer| answer.status == 429)
    });
    refused(&limited, 429, "rate limit");
    assert_eq!(limited.header("retry-after"), Some("1"));
}

/// Files below a stream's directory with this extension.
pub fn raw_files(daemon: &Daemon, stream: &str, extension: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let days =
        std::fs::read_dir(daemon.data_dir().join("tables").join(stream)).into_iter().flatten().flatten();
    for day in days {
        let files = std::fs::read_dir(day.path()).into_iter().flatten().flatten();
        found
            .extend(files.map(|file| file.path()).filter(|path| path.to_string_lossy().ends_with(extension)));
    }
    found.sort();
    found
}

/// Requests that landed as CBOR.
fn requests(bytes: &[u8]) -> Vec<Value> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let mut requests = Vec::new();
    while decoder.position() < bytes.len() {
        assert_eq!(decoder.map().unwrap(), Some(4));
        let mut request = json!({});
        for key in ["received_at", "request_id", "content_type"] {
            assert_eq!(decoder.str().unwrap(), key);
            if decoder.datatype().unwrap() == minicbor::data::Type::Null {
                decoder.null().unwrap();
            } else {
                request[key] = decoder.str().unwrap().into();
            }
        }
        assert_eq!(decoder.str().unwrap(), "body");
        request["body"] = std::str::from_utf8(decoder.bytes().unwrap()).unwrap().into();
        requests.push(request);
    }
    requests
}

pub fn bodies(bytes: &[u8]) -> Vec<String> {
    requests(bytes).iter().map(|request| request["body"].as_str().unwrap().to_owned()).collect()
}

pub fn landing(daemon: &Daemon, stream: &str, landing: &Value) {
    let settings = json!({"settings": {"project": "acme", "landing": landing}});
    let answer = daemon.administer("PUT", &format!("/admin/v1/streams/{stream}"), &settings);
    assert_eq!(answer.status, 201, "{}", answer.text());
}

/// `…/2026-11-21/13-00000000000016777218.cbor`
fn named_by_the_hour(path: &std::path::Path, extension: &str) {
    let day = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    assert!(day.parse::<jiff::civil::Date>().is_ok(), "{day}");
    let name = path.file_name().unwrap().to_str().unwrap().strip_suffix(extension).unwrap();
    let (hour, lsn) = name.split_once('-').unwrap();
    assert!(hour.len() == 2 && hour.parse::<u8>().unwrap() < 24, "{name}");
    assert!(lsn.len() == 20 && lsn.parse::<u64>().unwrap() > 0, "{name}");
}

#[test]
fn raw_records_land_next_to_the_table_or_instead_of_it() {
    let daemon = Daemon::dev();
    landing(&daemon, STREAM, &json!({"raw": "ndjson"}));
    landing(&daemon, "is-OnlyCbor", &json!({"table": false, "raw": "cbor"}));
    for n in 0..3 {
        accepted(&json_to(&daemon, STREAM, &format!("{{\"n\":\n {n}}}")));
    }
    let good = "<r><a><v>1</v></a><a><v>2</v></a></r>";
    accepted(&xml_to(&daemon, "is-OnlyCbor", good));
    accepted(&xml_to(&daemon, "is-OnlyCbor", "<r>"));
    assert_eq!(rows(&daemon, STREAM, 3).len(), 3);
    let files =
        eventually("the file", || Some(raw_files(&daemon, STREAM, ".ndjson.zst")).filter(|f| !f.is_empty()));
    for file in &files {
        named_by_the_hour(file, ".ndjson.zst");
    }
    let text: Vec<u8> =
        files.iter().flat_map(|file| zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap()).collect();
    assert_eq!(String::from_utf8(text).unwrap(), "{\"n\":  0}\n{\"n\":  1}\n{\"n\":  2}\n");
    let bad = rows(&daemon, "is-OnlyCbor_quarantine", 1);
    assert_eq!(bad.len(), 1);
    let files =
        eventually("the file", || Some(raw_files(&daemon, "is-OnlyCbor", ".cbor")).filter(|f| !f.is_empty()));
    for file in &files {
        named_by_the_hour(file, ".cbor");
    }
    let bytes: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    assert_eq!(bodies(&bytes), [good, "<r>"]);
    for request in requests(&bytes) {
        let about = ["received_at", "request_id", "content_type"].map(|key| request[key].as_str());
        assert!(about.iter().all(|text| text.is_some_and(|text| !text.is_empty())), "{request}");
    }
    // Only the quarantine is Parquet.
    assert_eq!(daemon.rows("is-OnlyCbor").len(), 0);
    let counts = daemon.get("/admin/v1/streams/is-OnlyCbor").json();
    assert_eq!((&counts["rows"]["stored"], &counts["rows"]["quarantined"]), (&json!(2), &json!(1)));
    // Samples show the same.
    let sample =
        |stream: &str, query: &str| daemon.get(&format!("/admin/v1/streams/{stream}/sample?{query}"));
    assert_eq!(sample(STREAM, "n=2").json(), json!([{"n": 1}, {"n": 2}]));
    assert_eq!(sample(STREAM, "format=ndjson&n=1").text(), "{\"n\":2}\n");
    assert_eq!(bodies(&sample("is-OnlyCbor", "format=cbor").body), [good, "<r>"]);
    assert_eq!(sample("is-OnlyCbor", "format=json").json(), json!([{"v": "1"}, {"v": "2"}]));
    assert_eq!(sample(STREAM, "format=x").status, 400);
    assert_eq!(sample(STREAM, "n=0").status, 400);
}

#[test]
fn raw_files_are_exact_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Setup::dev("").start_at(dir.path());
    landing(&daemon, STREAM, &json!({"raw": "ndjson"}));
    for n in 0..20 {
        accepted(&json_to(&daemon, STREAM, &json!({"n": n}).to_string()));
    }
    daemon.kill();
    let daemon = Setup::dev("").start_at(dir.path());
    for n in 20..30 {
        accepted(&json_to(&daemon, STREAM, &json!({"n": n}).to_string()));
    }
    assert_eq!(rows(&daemon, STREAM, 30).len(), 30);
    let found = eventually("all files", || {
        let files = raw_files(&daemon, STREAM, ".ndjson.zst");
        let text: Vec<u8> = files
            .iter()
            .flat_map(|file| zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap())
            .collect();
        let text = String::from_utf8(text).unwrap();
        (text.lines().count() >= 30).then_some(text)
    });
    let mut numbers: Vec<i64> = found
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..30).collect::<Vec<i64>>());
}

#[test]
fn a_content_type_that_is_too_long_is_refused() {
    let daemon = Setup::dev("[limits]\nhead_max = \"256KiB\"\n").start();
    let send = |parameter: usize| {
        let content_type = format!("application/json; x=\"{}\"", "y".repeat(parameter));
        let headers = [
            ("x-amperity-tenant", "acme"),
            ("content-type", content_type.as_str()),
            ("authorization", "Bearer x"),
        ];
        request(daemon.ingest, "POST", &format!("/stream/v0/data/{STREAM}"), &headers, b"{}").status
    };
    assert_eq!((send(60_000), send(66_000)), (202, 413));
}
