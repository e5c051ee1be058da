//! Rate limits of tokens, streams and projects, and each contract's headers.

use crate::faults::Faults;
use crate::identity::SMALL;
use crate::support::{Daemon, Response, Setup, eventually, request, signal};
use crate::wire::{Wire, refusals};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const EVENT: &str = "{\"__time\":\"2024-01-01T00:00:00Z\",\"n\":1}";
const TINYBIRD: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
const POLARIS: [&str; 5] = [
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-limit-minute",
    "x-ratelimit-remaining-minute",
];

/// The rate-limit headers, which must be whole numbers: all of them or none.
#[track_caller]
fn numbers<const N: usize>(response: &Response, names: [&str; N]) -> Option<[u32; N]> {
    let values = names.map(|name| response.header(name));
    if values.iter().all(Option::is_none) {
        return None;
    }
    Some(values.map(|value| value.unwrap().parse().unwrap()))
}

/// Asserts a refusal over the limit: `Retry-After` is a whole number of seconds, at least 1.
#[track_caller]
fn assert_over(response: &Response) -> u32 {
    assert_eq!(response.status, 429, "{response:?}");
    let seconds: u32 = response.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1);
    seconds
}

/// Asserts that no more was accepted than the burst and the rate allow in the elapsed time.
#[track_caller]
fn assert_within(rate: u32, began: Instant, accepted: u32) {
    let most = f64::from(rate) * (began.elapsed().as_secs_f64() + 1.0) + 1.0;
    assert!(accepted >= 1 && f64::from(accepted) <= most, "accepted {accepted}, the limit is {most}");
}

fn post(daemon: &Daemon, path: &str, body: &str) -> Response {
    let authorization = format!("Bearer {}", daemon.token.clone().unwrap_or_default());
    request(daemon.ingest, "POST", path, &[("authorization", &authorization)], body.as_bytes())
}

/// Waits until the limit has room again, by sending until a request is accepted.
fn settle(daemon: &Daemon, path: &str) -> Response {
    eventually("room", || Some(post(daemon, path, EVENT)).filter(|response| response.status < 300))
}

#[test]
fn tinybird_answers_report_the_rate_limit() {
    let daemon = Setup::dev("[limits.tinybird]\nrequests_per_second = 4").start();
    let events = "/v0/events?name=ev";
    let mut left = Vec::new();
    let refused = loop {
        let response = post(&daemon, events, EVENT);
        let [limit, remaining, reset] = numbers(&response, TINYBIRD).unwrap();
        assert_eq!((limit, reset), (4, 1));
        if response.status == 429 {
            break response;
        }
        assert!(response.status == 202 && response.header("retry-after").is_none());
        left.push(remaining);
    };
    assert_eq!(left[0], 3);
    assert_over(&refused);
    let body = refused.json();
    assert_eq!(body["error"], "rate limit exceeded, retry in 1 s");
    assert!(body["documentation"].is_string());
    // Other refusals have the headers as well, but no `Retry-After`.
    let malformed = eventually("room", || {
        Some(post(&daemon, events, "no event")).filter(|response| response.status != 429)
    });
    assert_eq!((malformed.status, malformed.header("retry-after")), (400, None));
    assert_eq!(numbers(&malformed, TINYBIRD).unwrap()[0], 4);
    assert!(refusals(&daemon, "too_many_requests") >= 1);
    let accepted = daemon.metric("forebay_http_accepted_rows_total");
    assert!((accepted - daemon.rows("ev").len() as f64).abs() < 0.1, "what is refused is not stored");
}

#[test]
fn without_a_limit_no_headers_are_sent() {
    let daemon = Daemon::dev();
    let response = post(&daemon, "/v0/events?name=ev", EVENT);
    assert_eq!((response.status, numbers(&response, TINYBIRD)), (202, None));
    let response = post(&daemon, "/v1/events/ev", EVENT);
    assert_eq!((response.status, numbers(&response, POLARIS)), (200, None));
}

#[test]
fn the_contracts_limits_are_the_default() {
    let daemon = Setup::with_config("").start();
    let response = post(&daemon, "/v0/events?name=ev", EVENT);
    assert_eq!((response.status, numbers(&response, TINYBIRD)), (202, Some([1000, 999, 1])));
    let response = post(&daemon, "/v1/events/ev", EVENT);
    let [limit, remaining, reset, limit_minute, remaining_minute] = numbers(&response, POLARIS).unwrap();
    assert_eq!((response.status, limit, remaining), (200, 83_334, 83_333));
    assert_eq!((limit_minute, remaining_minute), (limit, remaining));
    assert!((1..=60).contains(&reset));
    // Without a valid token, the answer has no headers.
    let unknown = daemon.post("name=ev", EVENT);
    assert_eq!((unknown.status, numbers(&unknown, TINYBIRD)), (403, None));
}

#[test]
fn polaris_counts_the_minutes_of_the_clock() {
    let faults = Faults::none();
    let config = "[limits.polaris]\nrequests_per_minute = 5";
    faults.set("clock", &to_next_minute(20).to_string());
    let daemon = faults.on(Setup::dev(config)).start();
    let events = "/v1/projects/p/events/ev";
    for left in (0..5).rev() {
        let response = post(&daemon, events, EVENT);
        let [limit, remaining, reset, limit_minute, remaining_minute] = numbers(&response, POLARIS).unwrap();
        assert_eq!((response.status, limit, remaining), (200, 5, left));
        assert_eq!((limit_minute, remaining_minute), (5, left));
        assert!((10..=40).contains(&reset), "{reset}");
    }
    let refused = post(&daemon, events, EVENT);
    assert_eq!(refused.text(), r#"{"message":"API rate limit exceeded"}"#);
    let [_, remaining, reset, ..] = numbers(&refused, POLARIS).unwrap();
    assert_eq!((remaining, reset), (0, assert_over(&refused)));
    // The older path belongs to the same contract and project; the other contract does not.
    assert_over(&post(&daemon, "/v1/events/ev", EVENT));
    assert_eq!(post(&daemon, "/v0/events?name=ev", EVENT).status, 202);
    faults.set("clock", &(to_next_minute(20) + 60).to_string());
    let response = post(&daemon, events, EVENT);
    assert_eq!((response.status, numbers(&response, POLARIS).unwrap()[1]), (200, 4));
}

/// The offset that sets the clock to this second of the next minute.
fn to_next_minute(second: i64) -> i64 {
    60 - jiff::Timestamp::now().as_second() % 60 + second
}

/// 83,334 calls in a minute are accepted; one more is refused.
#[test]
fn the_83_335th_call_of_a_minute_is_refused() {
    const LIMIT: u32 = 83_334;
    let faults = Faults::none();
    // The test keeps the clock in the same minute, however long this takes.
    let minute = jiff::Timestamp::now().as_second() / 60 * 60 + 80;
    let hold = || faults.set("clock", &(minute - jiff::Timestamp::now().as_second()).to_string());
    hold();
    let daemon = faults.on(Setup::with_config("[compactor]\nmax_age = \"1h\"")).start();
    let head = format!(
        "POST /v1/events/ev HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{EVENT}",
        daemon.token.as_deref().unwrap(),
        EVENT.len()
    );
    // Events of this contract do not create tables.
    assert_eq!(post(&daemon, "/v0/events?name=ev", EVENT).status, 202);
    assert_eq!(post(&daemon, "/v1/events/ev", EVENT).status, 200);
    let (accepted, refused) = (AtomicU32::new(1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !refused.load(Ordering::Relaxed) {
                hold();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        for _ in 0..64 {
            scope.spawn(|| {
                let mut wire = Wire::connect(daemon.ingest);
                while !refused.load(Ordering::Relaxed) {
                    wire.send(head.repeat(16));
                    for response in std::iter::repeat_with(|| wire.response()).take(16) {
                        if response.status == 200 {
                            accepted.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        assert_over(&response);
                        assert_eq!(numbers(&response, POLARIS).unwrap()[..2], [LIMIT, 0]);
                        refused.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(accepted.load(Ordering::Relaxed), LIMIT);
    let rows = daemon.metric("forebay_http_accepted_rows_total");
    assert!((rows - f64::from(LIMIT) - 1.0).abs() < 0.1, "{rows}");
}

#[test]
fn a_stream_has_its_own_limit() {
    let config =
        "[limits]\nstream_requests_per_second = 3\n[limits.tinybird]\nstream_requests_per_second = 2";
    let daemon = Setup::dev(config).start();
    for (path, limit) in [("/v0/events?name=a", 2), ("/v0/events?name=b", 2)] {
        // The request that creates the stream does not count for it.
        assert_eq!(post(&daemon, path, EVENT).status, 202);
        let first = settle(&daemon, path);
        assert_eq!(numbers(&first, TINYBIRD).unwrap()[0], limit);
        eventually("the limit", || (post(&daemon, path, EVENT).status == 429).then_some(()));
    }
    let polaris = "/v1/events/a";
    eventually("the limit", || {
        let response = post(&daemon, polaris, EVENT);
        assert_eq!(numbers(&response, POLARIS), None, "no headers for a stream's limit");
        (response.status == 429).then(|| assert_over(&response))
    });
}

#[test]
fn bytes_count_as_sent_on_the_wire() {
    let daemon = Setup::dev("[limits.tinybird]\nbytes_per_second = \"10kB\"").start();
    let body = format!("{{\"pad\":\"{}\"}}", "x".repeat(5000));
    let events = "/v0/events?name=ev";
    assert_eq!(post(&daemon, events, &body).status, 202);
    let refused = eventually("the limit", || {
        Some(post(&daemon, events, &body)).filter(|response| response.status == 429)
    });
    assert_over(&refused);
    assert_eq!(numbers(&refused, TINYBIRD), None, "requests must not be limited");
    // A body of unknown length is counted as it arrives.
    let chunked = || crate::wire::post_chunked(&daemon, "name=ev", "", &[body.as_bytes()]);
    eventually("room", || (chunked().status == 202).then_some(()));
    let refused = eventually("the limit", || Some(chunked()).filter(|response| response.status == 429));
    assert_over(&refused);
    // The body is small once compressed.
    let gzip = crate::wire::gzip(format!("{{\"pad\":\"{}\"}}", "x".repeat(6_000_000)).as_bytes());
    let small = || daemon.post_with("name=ev", &[("content-encoding", "gzip")], &gzip);
    // If decompressed bytes counted, the second would have to wait ten minutes.
    for _ in 0..2 {
        eventually("room", || (small().status == 202).then_some(()));
    }
    let accepted = daemon.metric("forebay_http_accepted_rows_total");
    assert!((accepted - daemon.rows("ev").len() as f64).abs() < 0.1, "what is refused is not stored");
}

/// A token's own limit overrides the configured one, and its refused requests do not count for others.
#[test]
fn a_noisy_token_does_not_affect_others() {
    let config = format!("{SMALL}[limits.tinybird]\nrequests_per_second = 50\n");
    let daemon = Setup::with_config(&config).start();
    assert_eq!(daemon.send_as(daemon.token.as_deref().unwrap(), "ev").status, 202);
    let token = |name: &str, rps: u32, project: &str| {
        let scopes = json!(["ingest:*"]);
        daemon.token_with(&json!({"name": name, "scopes": scopes, "rps": rps, "project": project}))
    };
    let (noisy, quiet, other) = (token("noisy", 2, "a"), token("quiet", 20, "a"), token("other", 1000, "b"));
    let (began, mut accepted) = (Instant::now(), 0);
    for _ in 0..200 {
        accepted += u32::from(daemon.send_as(&noisy, "ev").status == 202);
    }
    assert_within(2, began, accepted);
    for _ in 0..10 {
        let response = daemon.send_as(&quiet, "ev");
        assert_eq!((response.status, numbers(&response, TINYBIRD).unwrap()[0]), (202, 20));
    }
    // Another project has its own limit of fifty. The narrower limit is the one reported.
    let response = daemon.send_as(&other, "ev");
    assert_eq!((response.status, numbers(&response, TINYBIRD)), (202, Some([50, 49, 1])));
}

#[test]
fn a_refusal_keeps_the_connection_usable() {
    let daemon = Setup::dev("[limits.tinybird]\nrequests_per_second = 1").start();
    let mut wire = Wire::connect(daemon.ingest);
    let event = crate::wire::event("name=ev", EVENT);
    let began = Instant::now();
    wire.send(event.repeat(50));
    let statuses: Vec<u16> = (0..50).map(|_| wire.response().status).collect();
    assert!(statuses.iter().all(|status| [202, 429].contains(status)), "{statuses:?}");
    assert_within(1, began, statuses.iter().map(|status| u32::from(*status == 202)).sum());
}

#[test]
fn sighup_reloads_the_limits() {
    let config = |limit: u32| format!("[limits.tinybird]\nrequests_per_second = {limit}");
    let daemon = Setup::dev(&config(1)).start();
    let events = "/v0/events?name=ev";
    assert_eq!(numbers(&post(&daemon, events, EVENT), TINYBIRD).unwrap()[0], 1);
    std::fs::write(daemon.dir().join("forebay.toml"), config(100)).unwrap();
    signal(daemon.pid(), "HUP");
    let limit = || numbers(&post(&daemon, events, EVENT), TINYBIRD).unwrap()[0];
    eventually("the new limit", || (limit() == 100).then_some(()));
    for _ in 0..20 {
        assert_eq!(post(&daemon, events, EVENT).status, 202);
    }
}

/// A token's limit applies to management calls as well.
#[test]
fn a_tokens_limit_applies_to_all_its_calls() {
    let daemon = Setup::with_config("[limits]\ntoken_requests_per_second = 2").start();
    let workspace = || {
        let authorization = format!("Bearer {}", daemon.token.as_deref().unwrap());
        request(daemon.ingest, "GET", "/v0/workspace", &[("authorization", &authorization)], b"")
    };
    assert_eq!(workspace().status, 200);
    let refused = eventually("the limit", || Some(workspace()).filter(|response| response.status == 429));
    assert_over(&refused);
    let events = settle(&daemon, "/v0/events?name=ev");
    assert_eq!(numbers(&events, TINYBIRD).unwrap()[0], 2, "the narrowest limit must be reported");
}
