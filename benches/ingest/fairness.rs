//! Whether a noisy token raises the latency of another one: a quiet client sends a hundred requests a second, first
//! alone, then next to a client with 64 connections that is over its limit, then next to one without a limit.

use crate::Settings;
use crate::call::{new_token, request_as};
use crate::load::{self, Head, Workload};
use crate::measure::middle;
use crate::process::Server;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// The time between two requests of the quiet client.
const PERIOD: Duration = Duration::from_millis(10);
/// No limits except those of the tokens themselves.
const LIMITS: [(&str, &str); 3] = [
    ("FOREBAY_WAL__ARCHIVE_RETENTION", "0s"),
    ("FOREBAY_LIMITS__TINYBIRD__REQUESTS_PER_SECOND", "10000000"),
    ("FOREBAY_LIMITS__TINYBIRD__BYTES_PER_SECOND", "100GB"),
];

/// The load next to the quiet client.
const CASES: [(&str, Option<u32>); 4] = [
    ("alone", None),
    ("next to one limited to 1,000 requests/s", Some(1000)),
    ("next to one limited to 10 requests/s", Some(10)),
    ("next to one without a limit, at full speed", Some(10_000_000)),
];

/// Latencies in milliseconds, and the requests per second of the noisy client.
struct Figures {
    p50: f64,
    p99: f64,
    noisy: f64,
}

pub fn run(settings: &Settings, dir: &Path) {
    let server = Server::guarded(dir, &["--discard-log"], &LIMITS);
    let admin_token = server.token.clone().expect("the administrator's token");
    let admin = server.admin.expect("an admin address");
    let token = |name: &str, rps: u32| {
        let about = json!({"name": name, "rps": rps, "scopes": ["ingest:*", "create"]});
        new_token(admin, &admin_token, &about)
    };
    let quiet = token("quiet", 1000);
    let noisy: Vec<Option<String>> = CASES
        .iter()
        .map(|(name, rps)| rps.map(|rps| token(&name.replace([' ', ',', '/'], "-"), rps)))
        .collect();
    // Creates the streams.
    for (stream, token) in [("quiet", &quiet), ("noisy", &admin_token)] {
        let answer = request_as(server.ingest, token, &format!("POST /v0/events?name={stream}"), "{\"a\":1}");
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    }
    let mut all: Vec<Vec<Figures>> = CASES.iter().map(|_| Vec::new()).collect();
    for _ in 0..settings.rounds {
        for (figures, noisy) in all.iter_mut().zip(&noisy) {
            figures.push(measure(server.ingest, &quiet, noisy.as_deref(), settings.time));
        }
    }
    println!("\nA quiet token, one request in {PERIOD:?} (medians of {} rounds)", settings.rounds);
    println!("{:<52} {:>8} {:>8} {:>16}", "", "p50 ms", "p99 ms", "noisy requests/s");
    for ((name, _), figures) in CASES.iter().zip(&all) {
        let of = |value: fn(&Figures) -> f64| middle(&mut figures.iter().map(value).collect::<Vec<_>>());
        println!(
            "{name:<52} {:>8.2} {:>8.2} {:>16.0}",
            of(|figures| figures.p50),
            of(|figures| figures.p99),
            of(|figures| figures.noisy)
        );
    }
}

fn measure(ingest: SocketAddr, quiet: &str, noisy: Option<&str>, time: Duration) -> Figures {
    std::thread::scope(|scope| {
        let noise =
            noisy.map(|noisy| scope.spawn(|| make_noise(ingest, noisy, time + Duration::from_millis(700))));
        // Waits until the noisy client has started.
        std::thread::sleep(Duration::from_millis(500));
        let mut latencies = send_quietly(ingest, quiet, time);
        let noisy = noise.map_or(0.0, |noise| noise.join().expect("the noise"));
        latencies.sort_by(f64::total_cmp);
        let at = |part: usize| latencies[(latencies.len() * part / 100).min(latencies.len() - 1)];
        Figures { p50: at(50), p99: at(99), noisy }
    })
}

/// 64 connections, each of which sends as soon as it is answered.
fn make_noise(ingest: SocketAddr, token: &str, time: Duration) -> f64 {
    let workload = Workload { templates: 4, ..load::WORKLOADS[0] };
    let headers = format!("authorization: Bearer {token}\r\n");
    let head = Head { headers, ..Head::of("/v0/events?name=noisy") };
    let answers = load::run(ingest, &workload, &|_| head.clone(), Duration::ZERO, time, || {}, || {});
    (answers.requests + answers.refused) as f64 / time.as_secs_f64()
}

/// Latencies in milliseconds from the time at which a request was due, so that a late request includes its wait.
fn send_quietly(ingest: SocketAddr, token: &str, time: Duration) -> Vec<f64> {
    let mut stream = TcpStream::connect(ingest).expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    let request = format!(
        "POST /v0/events?name=quiet HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 7\r\n\r\n{{\"a\":1}}"
    );
    let mut latencies = Vec::new();
    let mut buffer = [0; 4096];
    let mut due = Instant::now();
    let until = due + time;
    while due < until {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request.as_bytes()).expect("a request sent");
        // The answer is small and arrives in one piece.
        let read = stream.read(&mut buffer).expect("an answer");
        assert!(buffer[..read].starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&buffer[..read]));
        latencies.push(due.elapsed().as_secs_f64() * 1000.0);
        due += PERIOD;
    }
    latencies
}
