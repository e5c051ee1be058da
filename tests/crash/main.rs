//! The crash suite: the daemon is killed under load again and again, and what is stored in the end is compared with
//! what clients sent and what was acknowledged to them.
//!
//! The oracle: acknowledged ⊆ stored ⊆ sent, and no row twice, for 202 and for 200 alike. `FOREBAY_CRASH_ROUNDS`
//! makes it longer, `FOREBAY_CRASH_SEED` repeats the pauses of a run (not the scheduling).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../it/support.rs"]
#[expect(dead_code, reason = "shared with the black-box tests, which use all of it")]
mod support;

use serde_json::Value;
use std::collections::HashSet;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Daemon, Setup, connect, parquet_files, read_parquet, read_table, try_read_response};

const STREAMS: [&str; 3] = ["visits", "orders", "clicks"];
const CLIENTS: u64 = 6;
/// Every so many rounds, the daemon is asked to end instead of being killed.
const DRAIN_EVERY: u64 = 4;

/// Small segments and short files, so that every round rolls, seals, trims, stages and publishes.
const CONFIG: &str = r#"
[limits]
body_max = "512KiB"
decoded_max = "512KiB"
[wal]
segment_bytes = "1MiB"
prepared_segments = 2
sync_interval = "5ms"
disk_reserve = "1MiB"
[compactor]
max_age = "150ms"
max_rows = 20000
"#;

/// What clients know.
#[derive(Default)]
struct Oracle {
    sent: HashSet<String>,
    acknowledged: HashSet<String>,
}

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A client on one connection: sends batches until the connection breaks or it is told to stop.
fn client(address: SocketAddr, name: &str, seed: u64, stop: &AtomicBool) -> Oracle {
    let mut random = Random(seed);
    let mut oracle = Oracle::default();
    let mut stream = connect(address);
    let mut batch = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        batch += 1;
        let most = if random.below(20) == 0 { 2000 } else { 20 };
        let rows = 1 + random.below(most);
        let table = STREAMS[usize::try_from(random.below(3)).unwrap()];
        let wait = if random.below(2) == 0 { "" } else { "&wait=true" };
        let mut body = String::new();
        let mut ids = Vec::new();
        for row in 0..rows {
            let id = format!("{table}/{name}/{batch}/{row}");
            let padding = "x".repeat(usize::try_from(random.below(200)).unwrap());
            body += &format!("{{\"id\":\"{id}\",\"n\":{row},\"padding\":\"{padding}\"}}\n");
            ids.push(id);
        }
        oracle.sent.extend(ids.iter().cloned());
        let head = format!(
            "POST /v0/events?name={table}{wait} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_err() {
            return oracle;
        }
        match try_read_response(&mut stream) {
            Ok(response) if matches!(response.status, 200 | 202) => {
                assert_eq!(response.counts(), (rows, 0));
                oracle.acknowledged.extend(ids);
            }
            Ok(response) if response.status == 503 => std::thread::sleep(Duration::from_millis(5)),
            Ok(response) => panic!("{}: {}", response.status, response.text()),
            Err(_) => return oracle,
        }
    }
    oracle
}

/// Load on a daemon until `end` has ended it.
fn round(daemon: Daemon, round: u64, random: &mut Random, oracle: &mut Oracle, end: impl FnOnce(Daemon)) {
    let stop = Arc::new(AtomicBool::new(false));
    let address = daemon.ingest;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (stop, seed) = (Arc::clone(&stop), random.next());
            std::thread::spawn(move || client(address, &format!("{round}-{number}"), seed, &stop))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(30 + random.below(500)));
    end(daemon);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let of_client = client.join().unwrap();
        oracle.sent.extend(of_client.sent);
        oracle.acknowledged.extend(of_client.acknowledged);
    }
}

/// The ids in all tables. None may be there twice.
fn stored(tables: &Path) -> HashSet<String> {
    let mut ids = HashSet::new();
    for stream in STREAMS {
        for row in read_table(&tables.join(stream)) {
            let Value::String(id) = &row["id"] else { panic!("a row without an id: {row}") };
            assert!(id.starts_with(stream), "{id} is in the table of {stream}");
            assert!(ids.insert(id.clone()), "{id} is stored twice");
        }
    }
    ids
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::vars().find(|(key, _)| key == name).map_or(default, |(_, value)| value.parse().unwrap())
}

#[test]
fn what_was_acknowledged_is_stored_once_however_the_daemon_dies() {
    let rounds = setting("FOREBAY_CRASH_ROUNDS", 16);
    let seed = setting("FOREBAY_CRASH_SEED", u64::from(std::process::id()));
    println!("{rounds} rounds, seed {seed}");
    let mut random = Random(seed);
    let home = tempfile::tempdir().unwrap();
    let tables = home.path().join("data/tables");
    let mut oracle = Oracle::default();
    for number in 1..=rounds {
        let daemon = Setup::dev(CONFIG).start_at(home.path());
        if number % DRAIN_EVERY == 0 {
            round(daemon, number, &mut random, &mut oracle, |daemon| {
                let stopped = daemon.stop();
                assert!(stopped.status.success(), "{}", stopped.log);
            });
            // Nothing is left to be read again or published: all is there while no daemon runs.
            let stored = stored(&tables);
            let missing = oracle.acknowledged.difference(&stored).count();
            assert_eq!(missing, 0, "of {} acknowledged rows after a drain", oracle.acknowledged.len());
        } else {
            round(daemon, number, &mut random, &mut oracle, |daemon| drop(daemon.kill()));
        }
    }
    // The last start replays; nothing of the ones before may get lost by that.
    let daemon = Setup::dev(CONFIG).start_at(home.path());
    assert_eq!(daemon.admin_post("/admin/v1/publish").status, 200);
    let stored = stored(&tables);
    let lost: Vec<_> = oracle.acknowledged.difference(&stored).take(10).collect();
    assert!(lost.is_empty(), "acknowledged but not stored: {lost:?}");
    let invented: Vec<_> = stored.difference(&oracle.sent).take(10).collect();
    assert!(invented.is_empty(), "stored but never sent: {invented:?}");
    let (sent, acknowledged) = (oracle.sent.len(), oracle.acknowledged.len());
    println!("{sent} rows sent, {acknowledged} acknowledged, {} stored", stored.len());
    assert!(acknowledged > 100, "the clients had no time");
    let recovery = daemon.get("/admin/v1/wal").json()["recovery"].clone();
    for nothing in ["missing", "torn", "quarantined", "mended", "foreign"] {
        assert_eq!(recovery[nothing], serde_json::json!([]), "{nothing} in {recovery}");
    }
    for name in ["forebay_compactor_corrupt_frames_total", "forebay_compactor_verdict_mismatches_total"] {
        assert!(daemon.get("/metrics").text().contains(name), "{name}");
        assert_eq!(daemon.metric(name) as u64, 0, "{name}");
    }
}

/// A daemon that dies between staging a file and registering it, or between publishing it and noting so, does that
/// file again, under the same name and with the same bytes.
#[test]
fn files_are_not_doubled_by_deaths_between_staging_and_publishing() {
    let home = tempfile::tempdir().unwrap();
    let tables = home.path().join("data/tables");
    let rounds = setting("FOREBAY_CRASH_ROUNDS", 16) * 2;
    let mut sent = 0_u64;
    for number in 0..rounds {
        let daemon = Setup::dev("[compactor]\nmax_idle = \"20ms\"").start_at(home.path());
        let rows: String = (sent..sent + 50).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        sent += 50;
        assert_eq!(daemon.post("name=t", rows).status, 202);
        // From before the file is cut to after it is published, in steps of 3 ms.
        std::thread::sleep(Duration::from_millis(number * 3 % 90));
        daemon.kill();
    }
    let daemon = Setup::dev("").start_at(home.path());
    let rows = daemon.rows("t");
    let mut numbers: Vec<u64> = rows.iter().map(|row| row["n"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    let listed = daemon.get("/admin/v1/streams/t/files?limit=1000").json();
    let registered: u64 =
        listed["files"].as_array().unwrap().iter().map(|file| file["rows"].as_u64().unwrap()).sum();
    assert_eq!(registered, sent);
    let in_files: usize = parquet_files(&tables).iter().map(|file| read_parquet(file).len()).sum();
    assert_eq!(in_files as u64, sent, "no file beside the registered ones");
}
