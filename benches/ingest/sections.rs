//! The sections of the benchmark and their tables.

use crate::Settings;
use crate::beside;
use crate::call::{publish, published_rows, request};
use crate::contracts;
use crate::convert;
use crate::fairness;
use crate::load::{self, EVENTS, EVENTS_SYNCED, Head, WORKLOADS};
use crate::many;
use crate::measure::{NO_ARCHIVE, Sample, median, middle, sample};
use crate::offsets;
use crate::process::Server;
use crate::streams;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub fn run(settings: &Settings) {
    if let Some(other) = &settings.beside {
        beside::run(settings, other, &scratch);
        drop(std::fs::remove_dir_all(scratch()));
        return;
    }
    let wanted =
        |name: &str| settings.sections.is_empty() || settings.sections.iter().any(|section| section == name);
    if wanted("accept") {
        accept(settings);
    }
    if wanted("published") {
        published(settings);
    }
    if wanted("replay") {
        replay();
    }
    if wanted("lone") {
        lone();
    }
    if wanted("many") {
        many::run(settings, &scratch());
    }
    if settings.sections.iter().any(|section| section == "streams") {
        // Only if named, since it takes minutes.
        streams::run(settings, &scratch());
    }
    if settings.sections.iter().any(|section| section == "offsets") {
        // Only if named, as well.
        offsets::run(settings, &scratch());
    }
    if wanted("contracts") {
        contracts::run(settings, &scratch());
    }
    if wanted("fairness") {
        fairness::run(settings, &scratch());
    }
    if wanted("convert") {
        convert::run(&scratch(), settings.rounds);
    }
    // The contents are not needed any more.
    drop(std::fs::remove_dir_all(scratch()));
}

/// An empty directory for this run, on the disk of the build.
fn scratch() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ingest-{}", std::process::id()));
    // It may not exist.
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir_all(&dir).expect("a scratch directory");
    dir
}

/// A server and how requests are sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Null(&'static str),
    /// The daemon: answers 202, or 200 after the sync; with the compactor, or with a log that is read and discarded.
    Daemon {
        synced: bool,
        compacts: bool,
    },
}

const SUBJECTS: [Subject; 7] = [
    Subject::Null("discard"),
    Subject::Daemon { synced: false, compacts: false },
    Subject::Null("append"),
    Subject::Daemon { synced: false, compacts: true },
    Subject::Null("group-sync"),
    Subject::Daemon { synced: true, compacts: false },
    Subject::Daemon { synced: true, compacts: true },
];

impl Subject {
    fn name(self) -> String {
        match self {
            Self::Null(mode) => format!("null {mode}"),
            Self::Daemon { synced, compacts } => {
                let answer = if synced { "200" } else { "202" };
                format!("forebay {answer}{}", if compacts { " + compactor" } else { "" })
            }
        }
    }

    fn start(self, dir: &Path) -> (Server, &'static str) {
        match self {
            Self::Null(mode) => (Server::null(mode, dir), EVENTS),
            Self::Daemon { synced, compacts } => {
                let server = if compacts {
                    Server::daemon(dir, &[], &[])
                } else {
                    Server::daemon(dir, &["--discard-log"], &[NO_ARCHIVE])
                };
                (server, if synced { EVENTS_SYNCED } else { EVENTS })
            }
        }
    }
}

/// The accept path, compared with the null servers.
fn accept(settings: &Settings) {
    let mut samples: BTreeMap<(usize, Subject), Vec<Sample>> = BTreeMap::new();
    for round in 1..=settings.rounds {
        for (index, workload) in settings.workloads.iter().enumerate() {
            for subject in SUBJECTS {
                let dir = scratch();
                let (server, path) = subject.start(&dir);
                let (sample, _) = sample(&server, workload, &|_| Head::of(path), settings.time);
                eprintln!(
                    "round {round} {} {:<28} {:>8.3} CPU s/M rows {:>10.0} rows/s",
                    workload.name,
                    subject.name(),
                    sample.cpu_seconds_per_million,
                    sample.rows_per_second
                );
                samples.entry((index, subject)).or_default().push(sample);
            }
        }
    }
    for (index, workload) in settings.workloads.iter().enumerate() {
        println!("\n{}: {} (medians of {} rounds)", workload.name, workload.what, settings.rounds);
        println!(
            "{:<28} {:>12} {:>10} {:>10} {:>10} {:>11} {:>8} {:>8} {:>8} {:>8}",
            "server",
            "CPU s/M rows",
            "/discard",
            "/append",
            "/grp-sync",
            "rows/s",
            "p50 ms",
            "p99 ms",
            "RSS MB",
            "refused"
        );
        let of = |subject: Subject, value: fn(&Sample) -> f64| median(&samples[&(index, subject)], value);
        let cpu = |subject: Subject| of(subject, |sample| sample.cpu_seconds_per_million);
        for subject in SUBJECTS {
            // Compares within each round, so that a slow minute affects both.
            let ratio = |null: &'static str| {
                let pairs = samples[&(index, Subject::Null(null))].iter().zip(&samples[&(index, subject)]);
                let mut ratios: Vec<f64> = pairs
                    .map(|(null, ours)| null.cpu_seconds_per_million / ours.cpu_seconds_per_million)
                    .collect();
                middle(&mut ratios)
            };
            println!(
                "{:<28} {:>12.3} {:>10.2} {:>10.2} {:>10.2} {:>11.0} {:>8.2} {:>8.2} {:>8.0} {:>8.0}",
                subject.name(),
                cpu(subject),
                ratio("discard"),
                ratio("append"),
                ratio("group-sync"),
                of(subject, |sample| sample.rows_per_second),
                of(subject, |sample| sample.p50_ms),
                of(subject, |sample| sample.p99_ms),
                of(subject, |sample| sample.peak_rss_mb),
                of(subject, |sample| sample.refused as f64),
            );
        }
    }
}

/// Rows accepted and published, with all the work that the process does for them.
fn published(settings: &Settings) {
    println!(
        "\nAccepted and published as Parquet on local disk (all CPU of the process, start to last file)"
    );
    println!(
        "{:<10} {:>10} {:>12} {:>14} {:>12} {:>14} {:>10}",
        "workload", "rows", "rows/CPU-s", "CPU s/M rows", "rows/s", "bytes/byte", "RSS MB"
    );
    for workload in settings.workloads.iter().filter(|workload| workload.name != "A") {
        let mut results = Vec::new();
        for _ in 0..settings.rounds.min(3) {
            let dir = scratch();
            let server = Server::daemon(&dir, &[], &[]);
            let before = server.usage();
            let began = Instant::now();
            let time = settings.time.max(Duration::from_secs(8));
            let answers =
                load::run(server.ingest, workload, &|_| Head::of(EVENTS), Duration::ZERO, time, || {}, || {});
            publish(server.admin.expect("an admin address"));
            let elapsed = began.elapsed();
            let used = server.usage().since(before);
            let rows = published_rows(server.admin.expect("an admin address"));
            // Rows in flight at the end are published, too, so bytes are scaled to the published rows.
            let bytes = answers.bytes as f64 / answers.events as f64 * rows;
            results.push([
                rows,
                rows / used.cpu_seconds,
                used.cpu_seconds / rows * 1e6,
                rows / elapsed.as_secs_f64(),
                used.written_bytes as f64 / bytes,
                used.peak_rss_bytes as f64 / 1e6,
            ]);
        }
        let column = |at: usize| middle(&mut results.iter().map(|result| result[at]).collect::<Vec<_>>());
        println!(
            "{:<10} {:>10.0} {:>12.0} {:>14.3} {:>12.0} {:>14.2} {:>10.0}",
            workload.name,
            column(0),
            column(1),
            column(2),
            column(3),
            column(4),
            column(5)
        );
    }
}

/// A kill and a restart with two gigabytes in the log that are in no file.
fn replay() {
    const LOG_BYTES: u64 = 2 << 30;
    let dir = scratch();
    let settings = [
        ("FOREBAY_COMPACTOR__MAX_AGE", "1h"),
        ("FOREBAY_COMPACTOR__MAX_BYTES", "64GiB"),
        ("FOREBAY_COMPACTOR__MAX_ROWS", "1000000000"),
    ];
    let server = Server::daemon(&dir, &[], &settings);
    let mut bytes = 0;
    while bytes < LOG_BYTES {
        bytes += load::run(
            server.ingest,
            &WORKLOADS[1],
            &|_| Head::of(EVENTS),
            Duration::ZERO,
            Duration::from_secs(1),
            || {},
            || {},
        )
        .bytes;
    }
    server.kill();
    let server = Server::daemon(&dir, &[], &[]);
    let admin = server.admin.expect("an admin address");
    let began = Instant::now();
    let first = post_event(server.ingest, "wait=true");
    let accepts = server.started_in + began.elapsed();
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    let before = server.usage();
    let began = Instant::now();
    publish(admin);
    let elapsed = began.elapsed();
    let used = server.usage().since(before);
    println!("\nRestart with {:.2} GB in the log and no checkpoint", bytes as f64 / 1e9);
    println!(
        "accepts again after          {accepts:.2?} (of which the process start {:.2?})",
        server.started_in
    );
    println!(
        "replayed and published in    {elapsed:.2?}, {:.0} MB/s",
        bytes as f64 / 1e6 / elapsed.as_secs_f64()
    );
    println!("replay per CPU second        {:.0} MB", bytes as f64 / 1e6 / used.cpu_seconds);
    println!("peak RSS                     {:.0} MB", used.peak_rss_bytes as f64 / 1e6);
}

/// What a single small synced request costs the disk.
fn lone() {
    const REQUESTS: u32 = 100;
    let dir = scratch();
    let settings = [("FOREBAY_COMPACTOR__MAX_AGE", "1h")];
    let server = Server::daemon(&dir, &["--discard-log"], &settings);
    let body = format!("{{\"padding\":\"{}\"}}", "x".repeat(1000));
    post(server.ingest, "wait=true", &body);
    std::thread::sleep(Duration::from_secs(2));
    let before = server.usage();
    let mut latencies = Vec::new();
    for _ in 0..REQUESTS {
        std::thread::sleep(Duration::from_millis(20));
        let began = Instant::now();
        let answer = post(server.ingest, "wait=true", &body);
        latencies.push(began.elapsed().as_secs_f64() * 1000.0);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let written = server.usage().since(before).written_bytes;
    println!("\nA lone 1 KB request with wait=true");
    println!("written to disk              {:.1} KiB", written as f64 / f64::from(REQUESTS) / 1024.0);
    println!("latency, median              {:.2} ms", middle(&mut latencies));
}

fn post_event(address: SocketAddr, query: &str) -> String {
    post(address, query, "{\"a\":1}")
}

fn post(address: SocketAddr, query: &str, body: &str) -> String {
    request(address, &format!("POST /v0/events?name=bench&{query}"), body)
}
