//! The accept path of a daemon with ten thousand streams and tokens, with limits that are checked but never reached,
//! compared with one stream under `--dev`, which checks neither; and the cost of an idempotency key.

use crate::Settings;
use crate::call::{new_token, request_as};
use crate::load::{Head, NUMBER, Workload};
use crate::measure::{NO_ARCHIVE, Sample, middle, sample};
use crate::process::Server;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of streams, and of tokens.
const MANY: u64 = 10_000;
/// The number of streams and tokens that each of 64 connections cycles through: together, all of them.
const TEMPLATES: u64 = MANY.div_ceil(64);
/// Limits that are never reached.
const LIMITS: [(&str, &str); 5] = [
    NO_ARCHIVE,
    ("FOREBAY_LIMITS__TOKEN_REQUESTS_PER_SECOND", "1000000"),
    ("FOREBAY_LIMITS__STREAM_REQUESTS_PER_SECOND", "1000000"),
    ("FOREBAY_LIMITS__TINYBIRD__REQUESTS_PER_SECOND", "10000000"),
    ("FOREBAY_LIMITS__TINYBIRD__BYTES_PER_SECOND", "100GB"),
];
const NO_LIMITS: [(&str, &str); 3] = [
    NO_ARCHIVE,
    ("FOREBAY_LIMITS__TINYBIRD__REQUESTS_PER_SECOND", "0"),
    ("FOREBAY_LIMITS__TINYBIRD__BYTES_PER_SECOND", "0"),
];
const MANY_KEYS: [(&str, &str); 2] = [NO_ARCHIVE, ("FOREBAY_LIMITS__IDEMPOTENCY_KEYS_MAX", "100000000")];

/// The first variant is the baseline for the others.
const SUBJECTS: [&str; 5] = [
    "--dev, one stream",
    "the same again",
    "10,000 streams and tokens",
    "... and limits",
    "--dev, an Idempotency-Key each",
];

pub fn run(settings: &Settings, dir: &Path) {
    let tokens = prepare(dir);
    let mut samples: BTreeMap<(&str, usize), Vec<Sample>> = BTreeMap::new();
    for round in 1..=settings.rounds {
        for workload in settings.workloads.iter().filter(|workload| workload.name != "C") {
            let workload = Workload { templates: TEMPLATES, ..*workload };
            for (subject, name) in SUBJECTS.iter().enumerate() {
                let sample = measure(subject, &workload, settings, dir, &tokens);
                eprintln!(
                    "round {round} {} {:<32} {:>8.3} CPU s/M rows",
                    workload.name, name, sample.cpu_seconds_per_million
                );
                samples.entry((workload.name, subject)).or_default().push(sample);
            }
        }
    }
    for workload in settings.workloads.iter().filter(|workload| workload.name != "C") {
        println!("\n{}: {} (medians of {} rounds)", workload.name, workload.what, settings.rounds);
        println!(
            "{:<32} {:>12} {:>12} {:>11} {:>8} {:>8} {:>8}",
            "daemon", "CPU s/M rows", "more than 1", "rows/s", "p50 ms", "p99 ms", "RSS MB"
        );
        for (subject, name) in SUBJECTS.iter().enumerate() {
            let of = |value: fn(&Sample) -> f64| {
                middle(&mut samples[&(workload.name, subject)].iter().map(value).collect::<Vec<_>>())
            };
            // Compares within each round, so that a slow minute affects both.
            let pairs = samples[&(workload.name, 0)].iter().zip(&samples[&(workload.name, subject)]);
            let more = pairs.map(|(dev, it)| it.cpu_seconds_per_million / dev.cpu_seconds_per_million - 1.0);
            println!(
                "{name:<32} {:>12.3} {:>11.1}% {:>11.0} {:>8.2} {:>8.2} {:>8.0}",
                of(|sample| sample.cpu_seconds_per_million),
                middle(&mut more.collect::<Vec<_>>()) * 100.0,
                of(|sample| sample.rows_per_second),
                of(|sample| sample.p50_ms),
                of(|sample| sample.p99_ms),
                of(|sample| sample.peak_rss_mb),
            );
        }
    }
}

fn measure(
    subject: usize,
    workload: &Workload,
    settings: &Settings,
    dir: &Path,
    tokens: &[String],
) -> Sample {
    let discard = ["--discard-log"];
    let one = Head::of("/v0/events?name=bench");
    let many = |n: u64| Head {
        path: format!("/v0/events?name=stream_{}", n % MANY),
        headers: format!("authorization: Bearer {}\r\n", tokens[usize::try_from(n % MANY).unwrap_or(0)]),
        ..one.clone()
    };
    let (sample, answers) = match subject {
        0 | 1 => {
            let server = Server::daemon(&dir.join("dev"), &discard, &[NO_ARCHIVE]);
            sample(&server, workload, &|_| one.clone(), settings.time)
        }
        2 => {
            let server = Server::guarded(&dir.join("many"), &discard, &NO_LIMITS);
            sample(&server, workload, &many, settings.time)
        }
        3 => {
            let server = Server::guarded(&dir.join("many"), &discard, &LIMITS);
            sample(&server, workload, &many, settings.time)
        }
        _ => {
            let server = Server::daemon(&dir.join("dev"), &discard, &MANY_KEYS);
            let headers = format!("idempotency-key: {}-{NUMBER}\r\n", run_number());
            sample(&server, workload, &|_| Head { headers: headers.clone(), ..one.clone() }, settings.time)
        }
    };
    assert_eq!(answers.refused, 0, "everything is accepted");
    sample
}

/// A different number each time, so that no run reuses the keys of an earlier one.
fn run_number() -> u64 {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    RUNS.fetch_add(1, Ordering::Relaxed)
}

/// Creates the streams and the tokens in a data directory. Returns the tokens.
fn prepare(dir: &Path) -> Vec<String> {
    for name in ["dev", "many"] {
        std::fs::create_dir_all(dir.join(name)).expect("a directory");
    }
    let server = Server::guarded(&dir.join("many"), &["--discard-log"], &NO_LIMITS);
    let (admin, ingest) = (server.admin.expect("an admin address"), server.ingest);
    let admin_token = server.token.clone().expect("the administrator's token");
    let began = std::time::Instant::now();
    let tokens = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for part in 0..8 {
            let (tokens, admin_token) = (&tokens, &admin_token);
            scope.spawn(move || {
                for n in (part..MANY).step_by(8) {
                    let token = make(admin, ingest, admin_token, n);
                    tokens.lock().expect("nobody panics with it").push((n, token));
                }
            });
        }
    });
    eprintln!("{MANY} streams and tokens created in {:.1?}", began.elapsed());
    let mut tokens = tokens.into_inner().expect("nobody panics with it");
    tokens.sort_unstable();
    tokens.into_iter().map(|(_, token)| token).collect()
}

fn make(admin: SocketAddr, ingest: SocketAddr, admin_token: &str, n: u64) -> String {
    let event = format!("POST /v0/events?name=stream_{n}");
    let answer = request_as(ingest, admin_token, &event, "{\"a\":1}");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    // Each token may send to its stream and to a few others.
    let scopes: Vec<String> = (0..4).map(|k| format!("ingest:stream_{}", (n + k) % MANY)).collect();
    new_token(admin, admin_token, &json!({"name": format!("token_{n}"), "scopes": scopes}))
}
