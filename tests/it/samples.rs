//! Streams created from a sample of their records, through the admin API and the command line.

use crate::support::{Daemon, Response, Setup, fields, request};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Output};

const SAMPLE: &str = "{\"b\":1,\"o\":{\"x\":1},\"t\":\"2024-01-01T00:00:00Z\"}\n\
                      {\"a\":\"x\",\"b\":2.5,\"o\":{\"y\":[true]},\"t\":null}\nno record\n{\"n\":18446744073709551615}\n";

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn post(daemon: &Daemon, query: &str, body: impl AsRef<[u8]>) -> Response {
    let authorization = format!("Bearer {}", daemon.token.clone().unwrap_or_default());
    let headers = [("authorization", authorization.as_str())];
    request(daemon.admin, "POST", &format!("/admin/v1/streams?{query}"), &headers, body.as_ref())
}

fn columns(schema: &Value) -> Vec<String> {
    let column =
        |column: &Value| format!("{} {}", column["name"].as_str().unwrap(), column["type"].as_str().unwrap());
    schema["columns"].as_array().unwrap().iter().map(column).collect()
}

const COLUMNS: [&str; 5] =
    ["b float64", "o struct<x: int64, y: list<bool>>", "t timestamp", "a string", "n uint64"];

#[test]
fn columns_are_inferred_from_the_sample() {
    let daemon = Setup::with_config("").start();
    let dry = post(&daemon, "name=ev&dry=true", SAMPLE);
    assert_eq!((dry.status, columns(&dry.json()["schema"])), (200, COLUMNS.map(str::to_owned).to_vec()));
    // The dry run created nothing.
    let made = post(&daemon, "name=ev", SAMPLE);
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(
        (columns(&made["schema"]), &made["policy"]),
        (COLUMNS.map(str::to_owned).to_vec(), &json!("propose"))
    );
    let zipped = post(&daemon, "name=zipped&policy=strict", gzip(SAMPLE.as_bytes()));
    assert_eq!(zipped.status, 201, "{}", zipped.text());
    assert_eq!(
        (columns(&zipped.json()["schema"]), &zipped.json()["policy"]),
        (columns(&made["schema"]), &json!("strict"))
    );
    let document = post(&daemon, "name=document&policy=evolve", "[{\"a\":1},\n{\"a\":2.5}]");
    assert_eq!(columns(&document.json()["schema"]), ["a float64"]);
    // The sample is not stored, and its columns apply.
    let authorization = format!("Bearer {}", daemon.token.clone().unwrap());
    let body = "{\"b\":3,\"t\":\"2024-01-02\",\"new\":1}\n{\"b\":\"x\"}\n";
    let sent = daemon.post_with("name=ev", &[("authorization", &authorization)], body);
    assert_eq!(sent.counts(), (1, 1));
    let rows: Vec<Value> = daemon.rows("ev").iter().map(fields).collect();
    assert_eq!(rows, [json!({"b": 3.0, "t": "2024-01-02T00:00:00Z", "_rescued": {"new": 1}})]);
}

#[test]
fn invalid_samples_create_no_stream() {
    let daemon = Daemon::dev();
    let wide: Vec<String> = (0..10_000).map(|n| format!("\"c{n}\":1")).collect();
    let wide = format!("{{{}}}", wide.join(","));
    let refused = |query: &str, body: &[u8], status: u16, part: &str| {
        let refused = post(&daemon, query, body);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(refused.status == status && detail.contains(part), "{query}: {} {detail}", refused.status);
    };
    refused("", b"{}", 400, "'name' is required");
    refused("name=ev", b" \n", 400, "the sample has no records");
    refused("name=ev&policy=strict", b"", 400, "at least one column");
    refused("name=ev", b"\x00\x01\xff", 400, "no line of the sample is a JSON object");
    refused("name=ev", b"{}\n{\"a\":null}", 400, "have no fields");
    refused("name=ev", b"[{\"a\":1}", 400, "not a JSON document");
    refused("name=ev", wide.as_bytes(), 400, "more than 1000 fields");
    refused("name=ev&policy=freestyle", b"{\"a\":1}", 400, "unknown policy");
    refused("name=1st", b"{\"a\":1}", 400, "stream's name starts with");
    refused("name=ev_quarantine", b"{\"a\":1}", 400, "belong to quarantine tables");
    refused("name=ev", &gzip(&vec![b' '; 64 << 20]), 413, "exceeds");
    let mut corrupt = gzip(b"{\"a\":1}");
    corrupt[12] ^= 0xff;
    refused("name=ev", &corrupt, 400, "");
    assert_eq!(daemon.get("/admin/v1/streams").json(), json!({"streams": []}));
    assert_eq!(post(&daemon, "name=ev", b"{\"a\":1}").status, 201);
    refused("name=ev", b"{\"a\":1}", 409, "'ev'");
    refused("name=ev", b"", 409, "'ev'");
}

#[test]
fn the_command_line_creates_streams_from_samples() {
    let daemon = Setup::with_config("").start();
    let file = daemon.dir().join("sample.ndjson.gz");
    std::fs::write(&file, gzip(SAMPLE.as_bytes())).unwrap();
    let run = |arguments: &[&str]| -> Output {
        let url = format!("http://{}", daemon.admin);
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(["stream", "--admin-url", &url, "--token", &daemon.token.clone().unwrap()]);
        command.args(arguments).output().unwrap()
    };
    let made = run(&["create", "ev", "--from", file.to_str().unwrap(), "--json"]);
    assert!(made.status.success(), "{made:?}");
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(
        (columns(&made["schema"]), &made["policy"]),
        (COLUMNS.map(str::to_owned).to_vec(), &json!("propose"))
    );
    let shown = run(&["create", "other", "--from", file.to_str().unwrap(), "--policy", "strict"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("policy strict") && text.contains("uint64"), "{text}");
    let bare = run(&["create", "bare"]);
    assert!(bare.status.success(), "{bare:?}");
    assert_eq!(daemon.get("/admin/v1/streams/bare").json()["policy"], "evolve");
    for name in ["ev", "bare"] {
        let again = run(&["create", name]);
        assert!(!again.status.success() && !again.stderr.is_empty(), "{again:?}");
    }
    let again = run(&["create", "ev", "--from", file.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let missing = run(&["create", "none", "--from", "/nowhere/at/all"]);
    assert_eq!(missing.status.code(), Some(66), "{missing:?}");
    let none = run(&["create", "none", "--from", "/dev/null"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("the sample has no records"), "{none:?}");
}
