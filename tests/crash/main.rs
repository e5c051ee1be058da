//! Kills the daemon under load, repeatedly on one data directory, and compares the rows stored at the end with the rows
//! sent and acknowledged: acknowledged ⊆ stored ⊆ sent, and no row twice. Half of the requests have an idempotency key
//! and are repeated across kills until they are answered, and some of them once more; of these, stored = sent.
//!
//! A kill loses no page of the page cache, so this tests framing, recovery and the order of the compactor's steps.
//! Power loss is tested on a simulated disk (`src/storage/sim.rs`).
//!
//! `FOREBAY_CRASH_ROUNDS` sets the number of rounds. `FOREBAY_CRASH_SEED` repeats the choices of a run, but not its
//! timing.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

#[expect(dead_code, reason = "shared with the other black-box tests, which use all of it")]
#[path = "../it/bucket.rs"]
mod bucket;
#[expect(dead_code, reason = "shared with the other black-box tests, which use all of it")]
#[path = "../it/faults.rs"]
mod faults;
mod files;
mod load;
mod oracle;
mod receivers;
mod replay;
#[expect(dead_code, reason = "shared with the other black-box tests, which use all of it")]
#[path = "../it/support.rs"]
mod support;

use bucket::{Bucket, Fault};
use faults::Faults;
use load::Load;
use oracle::Oracle;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use support::{Daemon, Setup, signal, wait_for_exit};

const ROUNDS: usize = 25;

/// Segments fill up after a few dozen requests, and files are closed several times per round, so that kills hit every
/// step of their lives.
const CONFIG: &str = r#"
[limits]
body_max = "256KiB"
decoded_max = "512KiB"
[wal]
segment_bytes = "1MiB"
prepared_segments = 2
sync_interval = "20ms"
[compactor]
max_age = "150ms"
max_idle = "60ms"
"#;

/// How a round ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// SIGKILL under load.
    Kill,
    /// SIGKILL while the daemon starts, before or after recovery.
    KillAtStart,
    /// SIGTERM under load: the next start has nothing to reread.
    Drain,
    /// SIGTERM, then SIGKILL during the drain.
    KillInDrain,
}

fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test")]
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Where rounds are run, and what may fail in them besides kills.
struct Course<'c> {
    dir: &'c Path,
    tables: &'c Path,
    rounds: usize,
    setup: &'c dyn Fn() -> Setup,
    /// Whether a drain always completes.
    reliable: bool,
    /// Called before and during each round, and before the last start, after which everything is published.
    begin: &'c dyn Fn(Round<'_>),
}

enum Round<'r> {
    Next(&'r mut fastrand::Rng),
    /// Under load.
    Underway(&'r mut fastrand::Rng),
    Last,
}

fn rounds() -> usize {
    usize::try_from(setting("FOREBAY_CRASH_ROUNDS", ROUNDS as u64)).unwrap()
}

#[test]
fn every_acknowledged_row_is_stored_once_however_often_the_daemon_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    run(&Course {
        dir: dir.path(),
        tables: &dir.path().join("data/tables"),
        rounds: rounds(),
        setup: &|| Setup::dev(CONFIG),
        reliable: true,
        begin: &|_| (),
    });
}

/// The same with a bucket that refuses requests or loses its answers in some rounds, so that kills hit running
/// transfers and files that may or may not have arrived.
#[test]
fn nothing_is_lost_or_duplicated_on_the_way_to_a_bucket() {
    let bucket = Bucket::start();
    let dir = tempfile::tempdir().unwrap();
    let config = format!("{CONFIG}{}", bucket.config("p"));
    run(&Course {
        dir: dir.path(),
        tables: &bucket.dir("p"),
        rounds: rounds().div_ceil(3),
        setup: &|| Setup::dev(&config).env("FOREBAY_SERVER__DRAIN_TIMEOUT", "1s"),
        reliable: false,
        begin: &|round| {
            let faults = [Fault::None, Fault::None, Fault::LostAnswer, Fault::Status(503), Fault::Down];
            match round {
                Round::Next(random) => bucket.set(*random.choice(&faults).unwrap()),
                Round::Underway(_) => {}
                Round::Last => bucket.set(Fault::None),
            }
        },
    });
}

/// The same with a disk that cannot sync, or is full, for some time under load.
#[test]
fn nothing_is_lost_or_duplicated_on_a_failing_disk() {
    let faults = Faults::none();
    let dir = tempfile::tempdir().unwrap();
    run(&Course {
        dir: dir.path(),
        tables: &dir.path().join("data/tables"),
        rounds: rounds().div_ceil(3),
        setup: &|| faults.on(Setup::dev(CONFIG).env("FOREBAY_SERVER__DRAIN_TIMEOUT", "1s")),
        reliable: false,
        begin: &|round| {
            let Round::Underway(random) = round else { return faults.end_all() };
            let names = ["sync-fails-once", "sync-fails-once", "sync-fails", "disk-full", "names-fail"];
            let name = random.choice(&names).unwrap();
            faults.begin(name);
            std::thread::sleep(Duration::from_millis(random.u64(0..200)));
            if random.bool() {
                faults.end_all();
            }
        },
    });
}

fn run(course: &Course<'_>) {
    let seed = setting("FOREBAY_CRASH_SEED", fastrand::u64(..));
    println!("FOREBAY_CRASH_SEED={seed} FOREBAY_CRASH_ROUNDS={}", rounds());
    let mut random = fastrand::Rng::with_seed(seed);
    let oracle = Arc::new(Oracle::default());
    let mut drained = false;
    for round in 0..course.rounds {
        (course.begin)(Round::Next(&mut random));
        let end = choose(&mut random);
        if matches!(end, End::KillAtStart) {
            kill_at_start(course, &mut random);
            drained = false;
            continue;
        }
        let daemon = (course.setup)().start_at(course.dir);
        check_recovery(&daemon, drained);
        let load = Load::start(daemon.ingest, &oracle, &mut random);
        load.until_acknowledged(random.usize(1..40));
        std::thread::sleep(Duration::from_millis(random.u64(0..400)));
        (course.begin)(Round::Underway(&mut random));
        drained = end_round(course, daemon, end, &mut random);
        load.stop();
        println!("round {round}: {end:?}, {} requests so far", oracle.sent());
    }
    (course.begin)(Round::Last);
    let daemon = (course.setup)().start_at(course.dir);
    check_recovery(&daemon, drained);
    Load::finish(daemon.ingest, &oracle, &mut random);
    let published = daemon.admin_post("/admin/v1/publish");
    assert_eq!(published.status, 200, "{}", published.text());
    for name in ["corrupt_frames", "unreadable_frames", "verdict_mismatches"] {
        assert!(daemon.metric(&format!("forebay_compactor_{name}_total")) < 1.0, "{name}");
    }
    let stopped = daemon.stop();
    assert!(stopped.status.success());
    oracle.compare(course.tables);
    nothing_is_left_over(&course.dir.join("data"));
}

fn choose(random: &mut fastrand::Rng) -> End {
    match random.u32(0..10) {
        0..=5 => End::Kill,
        6 => End::KillAtStart,
        7 => End::KillInDrain,
        _ => End::Drain,
    }
}

/// Ends the daemon. Returns whether it reports that nothing is left to recover or publish.
fn end_round(course: &Course<'_>, daemon: Daemon, end: End, random: &mut fastrand::Rng) -> bool {
    match end {
        End::Kill | End::KillAtStart => drop(daemon.kill()),
        End::KillInDrain => {
            signal(daemon.pid(), "TERM");
            std::thread::sleep(Duration::from_millis(random.u64(0..60)));
            // The drain may have been faster than the kill.
            drop(daemon.kill());
        }
        End::Drain => {
            let stopped = daemon.stop();
            let last = stopped.log.lines().rfind(|line| line.contains("\"stopped")).unwrap_or_default();
            let done = stopped.status.success() && last.contains("nothing is left");
            assert!(done || !course.reliable, "{:?}\n{}", stopped.status, stopped.log);
            return done;
        }
    }
    false
}

fn kill_at_start(course: &Course<'_>, random: &mut fastrand::Rng) {
    let mut command = (course.setup)().command(course.dir);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(random.u64(0..150)));
    child.kill().unwrap();
    wait_for_exit(&mut child);
}

/// After a kill nothing is damaged, and after a drain nothing is reread.
fn check_recovery(daemon: &Daemon, drained: bool) {
    let recovery = daemon.get("/admin/v1/wal").json()["recovery"].clone();
    for finding in ["missing", "torn", "foreign", "quarantined"] {
        assert_eq!(recovery[finding], Value::Array(Vec::new()), "{finding}: {recovery}");
    }
    if drained {
        let (consumed, highest) = (recovery["consumed"].as_u64(), recovery["highest"].as_u64());
        assert!(consumed.is_some() && consumed >= highest, "a drain leaves nothing to reread: {recovery}");
        let staged = daemon.get("/admin/v1/staged").json();
        assert_eq!(staged["staged"], Value::Array(Vec::new()), "a drain leaves nothing staged");
    }
}

/// Everything that kills left behind is gone: staged and unfinished files, old segments.
fn nothing_is_left_over(data: &Path) {
    let files = |dir: &str| {
        let entries = std::fs::read_dir(data.join(dir)).unwrap().flatten();
        entries.filter(|entry| entry.path().is_file()).map(|entry| entry.path()).collect::<Vec<_>>()
    };
    for dir in ["staged", "staged/unfinished", "wal/pool"] {
        assert_eq!(files(dir), Vec::<PathBuf>::new(), "{dir}");
    }
    // A request that was being copied when the daemon was killed is quarantined; a whole segment never is.
    let segment = |path: &PathBuf| path.extension().is_none_or(|extension| extension != "bytes");
    let aside: Vec<PathBuf> = files("wal/quarantine").into_iter().filter(segment).collect();
    assert_eq!(aside, Vec::<PathBuf>::new());
    assert!(files("wal").len() < 12, "consumed segments are removed: {:?}", files("wal"));
}
