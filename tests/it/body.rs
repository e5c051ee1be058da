//! Bodies: records, encodings and limits.

use crate::support::{Daemon, Response, fields};
use crate::wire::{self, Wire, brotli, count, gzip, peak_bytes, post_chunked, refusals, streams, zlib, zstd};
use serde_json::json;

const MIB: usize = 1 << 20;

/// Asserts a refusal in the contract's format.
fn assert_refused(response: &Response, status: u16, part: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"));
    let body = response.json();
    assert!(body["documentation"].is_string(), "{body}");
    assert!(body["error"].as_str().unwrap().contains(part), "{part:?} is missing in {body}");
}

#[test]
fn a_body_without_records_is_refused_and_creates_no_stream() {
    let daemon = Daemon::dev();
    let bodies = [
        ("name=e", "", "no records"),
        ("name=e", "\n", "no records"),
        ("name=e", "\r\n \t\r\n\n", "no records"),
        ("name=e", "\u{feff}", "no records"),
        ("name=e", "\u{feff}\r\n\r\n", "no records"),
        ("name=e", "[]", "no records"),
        ("name=e", " \n [ ]\n", "no records"),
        ("name=e", "hello", "first bad line: 1: expected a JSON object"),
        ("name=e", "\n\n5\nnull\n\"text\"\n", "first bad line: 1: expected a JSON object"),
        ("name=e", "[1,\"a\",null]", "first bad line: 1: expected a JSON object"),
        ("name=e", "{\"a\":1", "first bad line: 1"),
        ("name=e&format=json", "", "no records"),
        ("name=e&format=json", " \n ", "no records"),
        ("name=e&format=json", "5", "first bad line: 1"),
        ("name=e&format=json", "{\"a\":1}\n{\"a\":2}", "not a JSON document: trailing characters"),
        ("name=e&format=json", "[{\"a\":1},", "not a JSON document"),
        ("name=e&format=json", "[{\"a\":1},]", "not a JSON document"),
        ("name=e&format=json", "{\"a\":\"\u{1}\"}", "not a JSON document: unescaped control"),
    ];
    for (query, body, error) in bodies {
        assert_refused(&daemon.post(query, body), 400, error);
    }
    assert_refused(&daemon.post("name=e&format=json", b"{\"a\":\"\xff\"}"), 400, "invalid UTF-8");
    assert_eq!(refusals(&daemon, "malformed"), bodies.len() as u64 + 1);
    assert_eq!(streams(&daemon), Vec::<String>::new());
}

#[test]
fn lines_and_documents_are_divided_into_records() {
    let daemon = Daemon::dev();
    let bodies = [
        ("name=e", "{\"n\":0}", 1),
        ("name=e", "{\"n\":1}\n", 1),
        ("name=e", "{\"n\":2}\r\n{\"n\":3}\r\n", 2),
        ("name=e", "\n\r\n \t\n{\"n\":4}\n\n\n{\"n\":5}\n \n", 2),
        ("name=e", "\u{feff}{\"n\":6}\n{\"n\":7}\n", 2),
        ("name=e", "  {\"n\":8}\t \r\n\t{ \"n\" : 9 }", 2),
        ("name=e", "[{\"n\":10},{\"n\":11}]", 2),
        ("name=e", "\u{feff} \n[{\"n\":12}]\n", 1),
        ("name=e&format=ndjson", "{\"n\":13}\n{\"n\":14}", 2),
        ("name=e&format=json", "{\"n\":15}", 1),
        ("name=e&format=json", "\u{feff}\r\n{\n  \"n\":\n16\n}\n", 1),
        ("name=e&format=json", "[\n{\"n\":17},\n{\"n\":18}\n]\n", 2),
    ];
    for (query, body, rows) in bodies {
        let response = daemon.post(query, body);
        assert_eq!(response.status, 202, "{body:?}: {}", response.text());
        assert_eq!(response.counts(), (rows, 0), "{body:?}");
    }
    let numbers: Vec<_> = daemon.rows("e").iter().map(|row| row["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..19).collect::<Vec<_>>());
}

#[test]
fn a_byte_order_mark_is_recognized_only_at_the_start_of_a_body() {
    let daemon = Daemon::dev();
    let pieces: [&[u8]; 3] = [b"\xef\xbb\xbf{\"n\":0}\n", b"\xef\xbb\xbf{\"n\":1}\n", b"{\"n\":2}\n"];
    for (at, body) in [vec![pieces.concat()], pieces.map(<[u8]>::to_vec).to_vec()].iter().enumerate() {
        let pieces: Vec<&[u8]> = body.iter().map(Vec::as_slice).collect();
        let response = post_chunked(&daemon, &format!("name=e{at}"), "", &pieces);
        assert_eq!((response.status, response.counts()), (202, (2, 1)), "{pieces:?}");
        assert_eq!(daemon.rows(&format!("e{at}")).len(), 2);
        assert_eq!(daemon.rows(&format!("e{at}_quarantine")).len(), 1);
    }
    assert_eq!(count(&daemon, "forebay_compactor_verdict_mismatches_total"), 0);
}

#[test]
fn lines_are_parsed_correctly_after_a_document() {
    // One thread, so that it checks the second body after the first.
    let daemon = crate::support::Setup::dev("[server]\nworkers = 1").start();
    let long = "x".repeat(40);
    let body = format!("{{\n\"a\":\"{long}\",\n\"b\":\"{long}\"}}");
    assert_eq!(daemon.post("name=document&format=json", &body).status, 202);
    assert_refused(&daemon.post("name=lines", &body), 400, "first bad line: 1");
    let mixed = daemon.post("name=lines", format!("{body}\n{{\"c\":3}}"));
    assert_eq!((mixed.status, mixed.counts()), (202, (1, 3)));
    assert_eq!(daemon.rows("lines").iter().map(fields).collect::<Vec<_>>(), [json!({"c": 3})]);
    assert_eq!(count(&daemon, "forebay_compactor_verdict_mismatches_total"), 0);
}

#[test]
fn the_content_type_is_ignored() {
    let daemon = Daemon::dev();
    let types = [
        "application/x-ndjson",
        "application/json; charset=utf-8",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "image/png",
        "",
        "no type at all / ;;",
    ];
    for content_type in types {
        let response = daemon.post_with("name=e", &[("content-type", content_type)], "{\"a\":1}\n");
        assert_eq!((response.status, response.counts()), (202, (1, 0)), "{content_type}");
    }
    assert_eq!(daemon.post("name=e", "{\"a\":1}").status, 202, "none");
    assert_eq!(daemon.rows("e").len(), types.len() + 1);
}

#[test]
fn every_content_encoding_is_decoded() {
    let daemon = Daemon::dev();
    let text = b"{\"city\":\"Chicago\"}\n{\"city\":\"Madrid\"}\n";
    let bodies = [
        ("identity", text.to_vec()),
        ("", text.to_vec()),
        ("gzip", gzip(text)),
        ("x-gzip", gzip(text)),
        ("GZip", gzip(text)),
        ("gzip", [gzip(&text[..10]), gzip(b""), gzip(&text[10..])].concat()),
        ("deflate", zlib(text)),
        ("zstd", zstd(text)),
        ("zstd", [zstd(&text[..5]), zstd(&text[5..])].concat()),
        ("br", brotli(text)),
    ];
    for (encoding, body) in &bodies {
        let headers = [("content-encoding", *encoding)];
        let response = daemon.post_with("name=e", &headers, body);
        assert_eq!((response.status, response.counts()), (202, (2, 0)), "{encoding:?}: {}", response.text());
    }
    let rows = daemon.rows("e");
    assert_eq!(rows.len(), 2 * bodies.len());
    for pair in rows.chunks(2) {
        assert_eq!((&pair[0]["city"], &pair[1]["city"]), (&json!("Chicago"), &json!("Madrid")));
    }
}

#[test]
fn unknown_or_invalid_encodings_are_refused() {
    let daemon = Daemon::dev();
    let text = b"{\"city\":\"Chicago\"}\n".repeat(50);
    let (good, mut corrupt) = (gzip(&text), gzip(&text));
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0x55;
    for encoding in ["snappy", "lz4", "compress", "gzip, zstd", "gzip,gzip", "*", "gzip;q=1"] {
        let response = daemon.post_with("name=e", &[("content-encoding", encoding)], &good);
        assert_refused(&response, 415, &format!("Content-Encoding '{encoding}' is not supported"));
    }
    let twice = [("content-encoding", "gzip"), ("content-encoding", "gzip")];
    assert_refused(&daemon.post_with("name=e", &twice, gzip(&good)), 415, "gzip, gzip");
    let wrong = [
        ("gzip", text.clone(), "not valid gzip"),
        ("gzip", zstd(&text), "not valid gzip"),
        ("gzip", corrupt, "not valid gzip"),
        ("gzip", good[..good.len() - 1].to_vec(), "not valid gzip"),
        ("gzip", good[..10].to_vec(), "not valid gzip"),
        ("gzip", [&good[..], &b"rubbish"[..]].concat(), "not valid gzip"),
        ("deflate", good.clone(), "not valid deflate"),
        ("zstd", good.clone(), "not valid zstd"),
        ("zstd", zstd(&text)[..20].to_vec(), "not valid zstd"),
        ("br", good.clone(), "not valid br"),
        ("br", brotli(&text)[..10].to_vec(), "not valid br"),
    ];
    for (encoding, body, error) in &wrong {
        let response = daemon.post_with("name=e", &[("content-encoding", encoding)], body);
        assert_refused(&response, 400, error);
    }
    assert_refused(&daemon.post("name=e", &good), 400, "No line of the body is a JSON object");
    assert_eq!(refusals(&daemon, "unsupported_encoding"), 8);
    assert_eq!(refusals(&daemon, "malformed"), wrong.len() as u64 + 1);
    assert_eq!(streams(&daemon), Vec::<String>::new());
}

#[test]
fn a_decompression_bomb_is_refused_in_bounded_memory() {
    let daemon = Daemon::dev();
    let line = [b"{\"a\":\"", &vec![b'x'; MIB][..], b"\"}\n"].concat();
    // Gigabytes once decompressed, in members of 1 MiB.
    let bombs = [("gzip", gzip(&line)), ("zstd", zstd(&line))];
    let before = peak_bytes(&daemon);
    for (encoding, member) in &bombs {
        let bomb = member.repeat((8 << 10).min(10 * MIB / member.len()));
        let response = daemon.post_with("name=e", &[("content-encoding", encoding)], &bomb);
        assert_refused(&response, 413, "exceeds 33554432 bytes once decompressed");
    }
    let grown = peak_bytes(&daemon) - before;
    assert!(grown < 128 * MIB, "the daemon's memory grew by {} MiB", grown / MIB);
    assert_eq!((refusals(&daemon, "too_large"), streams(&daemon).len()), (2, 0));
}

#[test]
fn one_byte_chunks_take_no_extra_memory() {
    let daemon = Daemon::dev();
    let text = format!("{{\"text\":\"{}\"}}", "x".repeat(MIB / 4));
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    let before = peak_bytes(&daemon);
    assert_eq!(post_chunked(&daemon, "name=e", "", &pieces).status, 202);
    let grown = peak_bytes(&daemon) - before;
    assert!(grown < 7 * MIB, "the daemon's memory grew by {} MiB", grown / MIB);
    assert_eq!(daemon.rows("e")[0]["text"].as_str().unwrap().len(), MIB / 4);
}

#[test]
fn the_body_limit_is_exactly_ten_mebibytes() {
    let daemon = Daemon::dev();
    let sized = |bytes: usize| format!("{{\"text\":\"{}\"}}\n", "x".repeat(bytes - 12));
    assert_eq!(sized(10 * MIB).len(), 10 * MIB);
    assert_eq!(daemon.post("name=e", sized(10 * MIB)).status, 202);
    let too_large = sized(10 * MIB + 1);
    let refused = daemon.post("name=e", &too_large);
    assert_refused(&refused, 413, "request body exceeds 10485760 bytes");
    assert_eq!(refused.header("connection"), Some("close"));
    let pieces: Vec<&[u8]> = too_large.as_bytes().chunks(MIB).collect();
    let refused = post_chunked(&daemon, "name=e", "", &pieces);
    assert_refused(&refused, 413, "request body exceeds 10485760 bytes");
    assert_eq!(refusals(&daemon, "too_large"), 2);
    let rows = daemon.rows("e");
    assert_eq!(
        rows.iter().map(|row| row["text"].as_str().unwrap().len()).collect::<Vec<_>>(),
        [10 * MIB - 12]
    );
}

#[test]
fn chunks_may_end_anywhere() {
    let daemon = Daemon::dev();
    let text = "{\"city\":\"Zürich\"}\r\n\r\nnot a record\n{\"city\":\"Málaga\"}".as_bytes();
    for size in [1, 2, 3, 7, text.len()] {
        let pieces: Vec<&[u8]> = text.chunks(size).collect();
        let response = post_chunked(&daemon, "name=e", "", &pieces);
        assert_eq!((response.status, response.counts()), (202, (2, 1)), "{size}");
    }
    let packed = gzip(text);
    let pieces: Vec<&[u8]> = packed.chunks(5).collect();
    let response = post_chunked(&daemon, "name=e", "content-encoding: gzip\r\n", &pieces);
    assert_eq!((response.status, response.counts()), (202, (2, 1)));
    let rows = daemon.rows("e");
    assert_eq!(rows.len(), 12);
    assert!(rows.chunks(2).all(|pair| pair[0]["city"] == "Zürich" && pair[1]["city"] == "Málaga"));
    assert_eq!(daemon.rows("e_quarantine").len(), 6);
    // A truncated chunk.
    let mut wire = Wire::connect(daemon.ingest);
    wire.send(wire::head("name=e", "transfer-encoding: chunked\r\n\r\nzz\r\n"));
    let refused = wire.response();
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(daemon.rows("e").len(), 12);
}
