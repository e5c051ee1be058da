//! `Idempotency-Key`: repeated requests are stored once, also across kills, trims and restarts.

use crate::support::{Daemon, PATIENCE, Response, Setup, connect, eventually, fields, request, signal};
use crate::wire::{count, gzip, head};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// Files are written only on request, so that records stay in the log.
const NO_FILES: &str = "[compactor]\nmax_age = \"1h\"\nmax_idle = \"off\"\n";

fn send(daemon: &Daemon, query: &str, key: &str, body: &str) -> Response {
    daemon.post_with(query, &[("idempotency-key", key)], body)
}

fn is_replay(response: &Response) -> bool {
    match response.header("idempotency-replayed") {
        Some(value) => {
            assert_eq!(value, "true");
            true
        }
        None => false,
    }
}

/// Asserts that a response equals the first one, except for the header that marks a replay.
#[track_caller]
fn assert_repeats(again: &Response, first: &Response) {
    assert!(is_replay(again) && !is_replay(first), "{again:?}");
    assert_eq!((again.status, again.text()), (first.status, first.text()));
    assert_eq!(again.receipt(), first.receipt());
}

#[test]
fn a_repeat_gets_the_first_answer_and_stores_nothing() {
    let daemon = Daemon::dev();
    let body = "{\"n\":1}\nno event\n{\"n\":2}\n";
    for query in ["name=ev", "name=ev&wait=true", "name=ev&wait=table"] {
        let first = send(&daemon, query, query, body);
        assert_eq!(first.counts(), (2, 1), "{first:?}");
        for _ in 0..2 {
            assert_repeats(&send(&daemon, query, query, body), &first);
        }
        // Compression does not change the body.
        let headers = [("Idempotency-Key", query), ("content-encoding", "gzip")];
        assert_repeats(&daemon.post_with(query, &headers, gzip(body.as_bytes())), &first);
    }
    assert_eq!(daemon.rows("ev").len(), 6);
    assert_eq!(daemon.rows("ev_quarantine").len(), 3);
    assert_eq!(count(&daemon, "forebay_http_replayed_requests_total"), 9);
    assert!((daemon.metric("forebay_http_idempotency_keys") - 3.0).abs() < 0.1);
    assert_eq!(count(&daemon, "forebay_http_accepted_rows_total"), 6);
}

#[test]
fn a_repeat_may_wait_for_more_than_the_first_request() {
    let daemon = Setup::dev(NO_FILES).start();
    let first = send(&daemon, "name=ev", "k", "{\"n\":1}");
    assert_eq!(first.status, 202);
    let synced = send(&daemon, "name=ev&wait=true", "k", "{\"n\":1}");
    assert_eq!((synced.status, synced.receipt(), is_replay(&synced)), (200, first.receipt(), true));
    let published = send(&daemon, "name=ev&wait=table", "k", "{\"n\":1}");
    assert_eq!((published.status, published.receipt()), (200, first.receipt()));
    assert_eq!(published.json()["files"].as_array().unwrap().len(), 1);
}

#[test]
fn a_key_belongs_to_a_stream_and_a_body() {
    let daemon = Daemon::dev();
    let first = send(&daemon, "name=a", "k", "{\"n\":1}");
    let other = send(&daemon, "name=b", "k", "{\"n\":2}");
    assert!(!is_replay(&other) && other.receipt() != first.receipt());
    assert!(!is_replay(&send(&daemon, "name=a", "l", "{\"n\":1}")));
    let reused = send(&daemon, "name=a", "k", "{\"n\":2}");
    assert_eq!(reused.status, 422);
    assert!(reused.text().contains("already used with a different body"), "{}", reused.text());
    assert_eq!(reused.header("retry-after"), None);
    // The stream's id refers to the same stream as its name.
    let streams = daemon.get("/admin/v1/streams/a").json();
    let id = streams["id"].as_str().unwrap();
    assert_repeats(&send(&daemon, &format!("name={id}"), "k", "{\"n\":1}"), &first);
    assert_eq!(daemon.rows("a").iter().map(fields).collect::<Vec<_>>(), [json!({"n": 1}), json!({"n": 1})]);
}

#[test]
fn a_key_is_1_to_256_visible_ascii_characters() {
    let daemon = Daemon::dev();
    let longest = "x".repeat(256);
    for good in ["k", "\"quoted\"", "!~", &longest] {
        assert_eq!(send(&daemon, "name=ev", good, "{\"n\":1}").status, 202, "{good}");
    }
    let too_long = "x".repeat(257);
    for bad in ["", "two words", "\u{e9}", "a\tb", &too_long] {
        let refused = send(&daemon, "name=ev", bad, "{\"n\":1}");
        assert_eq!(refused.status, 400, "{bad:?}");
        assert!(refused.text().contains("1 to 256 visible ASCII characters"), "{}", refused.text());
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let refused = daemon.post_with("name=ev", &twice, "{\"n\":1}");
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("more than once"), "{}", refused.text());
    assert_eq!(daemon.rows("ev").len(), 4);
}

#[test]
fn refused_requests_are_not_remembered() {
    let daemon = Daemon::dev();
    assert_eq!(send(&daemon, "name=ev", "k", "no event").status, 400);
    let first = send(&daemon, "name=ev", "k", "{\"n\":1}");
    assert_eq!((first.status, is_replay(&first)), (202, false));
    assert_eq!(daemon.rows("ev").len(), 1);
}

#[test]
fn concurrent_repeats_are_one_request() {
    let daemon = Daemon::dev();
    for round in 0..20 {
        let key = format!("round {round}").replace(' ', "-");
        let answers: Vec<Response> = std::thread::scope(|scope| {
            let threads = (0..8).map(|n| {
                let query = if n % 2 == 0 { "name=ev" } else { "name=ev&wait=true" };
                scope.spawn(|| send(&daemon, query, &key, "{\"n\":1}"))
            });
            threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|answer| !is_replay(answer)).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.receipt() == answers[0].receipt()), "{answers:?}");
    }
    assert_eq!(daemon.rows("ev").len(), 20);
}

/// The keys are in the log, or in the journal because the log was trimmed, or the daemon stopped cleanly.
#[test]
fn keys_survive_kills_and_stops_wherever_their_records_are() {
    let home = tempfile::tempdir().unwrap();
    let mut first = Vec::new();
    for round in 0..4_usize {
        let daemon = Setup::dev(NO_FILES).start_at(home.path());
        for (n, answer) in first.iter().enumerate() {
            let body = format!("{{\"n\":{n}}}");
            assert_repeats(&send(&daemon, "name=ev", &n.to_string(), &body), answer);
            assert_eq!(send(&daemon, "name=ev", &n.to_string(), "{\"n\":\"other\"}").status, 422);
        }
        for n in round * 10..round * 10 + 10 {
            let answer = send(&daemon, "name=ev", &n.to_string(), &format!("{{\"n\":{n}}}"));
            assert_eq!((answer.status, is_replay(&answer)), (202, false), "{n}");
            first.push(answer);
        }
        match round {
            // The records are in the log only.
            0 => drop(daemon.kill()),
            // The records are in files and the log is consumed; then the daemon is killed.
            1 => {
                assert_eq!(daemon.rows("ev").len(), 20);
                let wal = daemon.get("/admin/v1/status").json();
                let marks = &wal["watermarks"];
                assert!(marks["checkpoint"].as_u64() >= marks["appended"].as_u64(), "{marks}");
                drop(daemon.kill());
            }
            _ => assert!(daemon.stop().status.success()),
        }
    }
    let daemon = Setup::dev(NO_FILES).start_at(home.path());
    let rows = daemon.rows("ev");
    let numbers: Vec<u64> = rows.iter().map(|row| row["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_kill_between_append_and_answer_stores_the_repeat_once() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Setup::dev(NO_FILES).start_at(home.path());
    let appended = |daemon: &Daemon| daemon.metric("forebay_wal_appended_lsn");
    assert_eq!(daemon.post("name=ev", "{\"n\":0}").status, 202);
    let before = appended(&daemon);
    let mut connection = connect(daemon.ingest);
    // The answer waits for the file, which is published at least a quarter of a second after the append.
    let head = head("name=ev&wait=table", "idempotency-key: k\r\ncontent-length: 7\r\n\r\n");
    connection.write_all(format!("{head}{{\"n\":1}}").as_bytes()).unwrap();
    eventually("the append", || (appended(&daemon) > before).then_some(()));
    drop(daemon.kill());
    let daemon = Setup::dev(NO_FILES).start_at(home.path());
    let again = send(&daemon, "name=ev&wait=table", "k", "{\"n\":1}");
    assert_eq!((again.status, is_replay(&again)), (200, true), "{again:?}");
    assert_eq!(daemon.rows("ev").len(), 2);
}

#[test]
fn after_the_window_a_key_is_new() {
    let daemon = Setup::dev("[limits]\nidempotency_window = \"2s\"").start();
    let first = send(&daemon, "name=ev", "k", "{\"n\":1}");
    let again = eventually("the end of the window", || {
        let again = send(&daemon, "name=ev", "k", "{\"n\":1}");
        std::thread::sleep(Duration::from_millis(100));
        (!is_replay(&again)).then_some(again)
    });
    assert!(again.status == 202 && again.receipt() != first.receipt());
    assert_eq!(daemon.rows("ev").len(), 2);
}

/// No key is forgotten to make room: requests with new keys are refused and told to retry.
#[test]
fn keys_beyond_the_limit_are_refused_until_others_expire() {
    let config = |keys: u32| format!("{NO_FILES}[limits]\nidempotency_keys_max = {keys}\n");
    let daemon = Setup::dev(&config(2)).start();
    let first = send(&daemon, "name=ev", "a", "{\"n\":1}");
    assert_eq!(send(&daemon, "name=ev", "b", "{\"n\":2}").status, 202);
    let refused = send(&daemon, "name=ev", "c", "{\"n\":3}");
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("limits.idempotency_keys_max"), "{}", refused.text());
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_repeats(&send(&daemon, "name=ev", "a", "{\"n\":1}"), &first);
    assert_eq!(daemon.post("name=ev", "{\"n\":4}").status, 202, "requests without a key must not be limited");
    std::fs::write(daemon.dir().join("forebay.toml"), config(3)).unwrap();
    signal(daemon.pid(), "HUP");
    eventually("more room", || (send(&daemon, "name=ev", "c", "{\"n\":3}").status == 202).then_some(()));
    assert_eq!(daemon.rows("ev").len(), 4);
}

/// Key files are removed once their keys expire, so there are always few of them.
#[test]
fn key_files_are_removed_with_the_window() {
    let home = tempfile::tempdir().unwrap();
    let config = "[limits]\nidempotency_window = \"3s\"\n[compactor]\nmax_idle = \"20ms\"";
    let files = || std::fs::read_dir(home.path().join("data/keys")).unwrap().count();
    let mut most = 0;
    for start in 0..3 {
        let daemon = Setup::dev(config).start_at(home.path());
        for n in 0..20 {
            assert_eq!(send(&daemon, "name=ev", &format!("{start}-{n}"), "{\"n\":1}").status, 202);
            std::thread::sleep(Duration::from_millis(20));
        }
        most = most.max(files());
        drop(daemon.kill());
    }
    assert!(most >= 1, "the keys must be kept");
    let daemon = Setup::dev(config).start_at(home.path());
    let deadline = std::time::Instant::now() + PATIENCE;
    while files() > 1 {
        assert!(std::time::Instant::now() < deadline, "{} key files remain", files());
        assert_eq!(daemon.post("name=ev", "{\"n\":1}").status, 202);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn every_contract_accepts_keys() {
    let daemon = Daemon::dev();
    let push = |body: &str| {
        let headers = [("idempotency-key", "k")];
        request(daemon.ingest, "POST", "/v1/events/visits", &headers, body.as_bytes())
    };
    let event = "{\"__time\":\"2024-01-01T00:00:00Z\",\"a\":1}";
    let first = push(event);
    assert_eq!((first.status, first.text().as_str()), (200, ""));
    assert_repeats(&push(event), &first);
    let reused = push("{\"__time\":\"2024-01-01T00:00:00Z\",\"a\":2}");
    assert_eq!((reused.status, reused.json()["code"].as_str()), (422, Some("UnprocessableEntity")));
    assert_eq!(daemon.rows("visits").len(), 1);
}
