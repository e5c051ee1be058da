//! Any single damage to the data directory: a bit, a byte, a sector, a page or a file. Whatever is hit, each
//! acknowledged row is in its table once, or its loss is reported by number, or the daemon refuses to start and says
//! why.
//!
//! The judge is the list of rows that the client got an answer for, never the daemon's own account.
//! `FOREBAY_DAMAGES=10000 cargo test --test it -- damages` tries that many; `FOREBAY_DAMAGES_SEED` repeats a run.

use crate::damage::CONFIG;
use crate::support::{Daemon, Setup, eventually};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How many damages a normal run tries.
const TRIALS: u64 = 30;

/// The stream of each acknowledged row, by its number, and the LSN of its request.
type Ledger = BTreeMap<u64, (&'static str, u64)>;

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Files in every state: published ones with an archived log, staged ones that cannot be published, and several
/// segments of requests that are not in files yet.
fn prepare(home: &Path) -> Ledger {
    let mut ledger = Ledger::new();
    let pad = "x".repeat(20_000);
    let tables = home.join("data/tables");
    std::fs::create_dir_all(&tables).unwrap();
    std::fs::write(tables.join("staged"), "in the way").unwrap();
    let quick = CONFIG.split("[compactor]").next().unwrap();
    let setup = Setup::dev(quick).env("FOREBAY_SERVER__DRAIN_TIMEOUT", "100ms");
    let daemon = setup.start_at(home);
    let mut send = |daemon: &Daemon, stream: &'static str, count: u64| {
        for _ in 0..count {
            let number = ledger.len() as u64;
            let sent = daemon
                .post(&format!("name={stream}&wait=true"), json!({"number": number, "pad": pad}).to_string());
            assert_eq!(sent.status, 200, "{}", sent.text());
            ledger.insert(number, (stream, sent.receipt()));
        }
    };
    send(&daemon, "published", 60);
    assert_eq!(daemon.admin_post("/admin/v1/publish?stream=published").status, 200);
    send(&daemon, "staged", 60);
    eventually("the staged file", || {
        let staged = daemon.get("/admin/v1/staged").json();
        (!staged["staged"].as_array().unwrap().is_empty()).then_some(())
    });
    daemon.stop();
    let daemon = Setup::dev(CONFIG).start_at(home);
    send(&daemon, "logged", 120);
    // Long enough for the log to be idle.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    drop(daemon.kill());
    std::fs::remove_file(tables.join("staged")).unwrap();
    ledger
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The files that may be damaged: all but the tables, which are the destination.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != "tables" {
                found.extend(files(&path));
            }
        } else if std::fs::metadata(&path).unwrap().len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Damages one file. Returns what was done.
fn damage(data: &Path, state: &mut u64) -> String {
    let files = files(data);
    // Every kind of file is hit about as often, however many there are of it.
    let kind =
        |path: &Path| path.strip_prefix(data).unwrap().components().next().unwrap().as_os_str().to_owned();
    let kinds: BTreeSet<_> = files.iter().map(|path| kind(path)).collect();
    let chosen = kinds.iter().nth(usize::try_from(random(state) % kinds.len() as u64).unwrap()).unwrap();
    let of_kind: Vec<_> = files.iter().filter(|path| kind(path) == *chosen).collect();
    let path = of_kind[usize::try_from(random(state) % of_kind.len() as u64).unwrap()];
    let name = path.strip_prefix(data).unwrap().display().to_string();
    let len = std::fs::metadata(path).unwrap().len();
    // Half of the places lie near the beginning, where headers are, or near the last byte that is not zero.
    let used = std::fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).map_or(1, |at| at as u64 + 1);
    let at = match random(state) % 4 {
        0 => random(state) % len.min(8192),
        1 => used - 1 - random(state) % used.min(4096),
        _ => random(state) % used,
    };
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    let zeros = |unit: u64| {
        let start = at / unit * unit;
        let bytes = vec![0; usize::try_from(unit.min(len - start)).unwrap()];
        file.write_all_at(&bytes, start).unwrap();
        format!("{name}: zeros in {start}..{}", start + bytes.len() as u64)
    };
    match random(state) % 8 {
        0..3 => {
            let bit = random(state) % 8;
            file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
            format!("{name}: bit {bit} of byte {at}")
        }
        3 => {
            file.write_all_at(&[!byte[0]], at).unwrap();
            format!("{name}: byte {at}")
        }
        4 => zeros(512),
        5 | 6 => zeros(4096),
        _ => {
            std::fs::remove_file(path).unwrap();
            format!("{name}: removed")
        }
    }
}

/// Numbers of the rows in the tables.
fn stored(daemon: &Daemon) -> Vec<u64> {
    ["published", "staged", "logged"]
        .iter()
        .flat_map(|stream| daemon.rows(stream))
        .map(|row| row["number"].as_u64().unwrap())
        .collect()
}

/// The LSNs that are reported as lost.
fn reported(daemon: &Daemon) -> Vec<(u64, u64)> {
    let wal = daemon.get("/admin/v1/wal").json();
    let losses = wal["losses"].as_array().unwrap().iter();
    losses.map(|loss| (loss["first"].as_u64().unwrap(), loss["last"].as_u64().unwrap())).collect()
}

fn judge(home: &Path, ledger: &Ledger, what: &str) {
    let daemon = match Setup::dev(CONFIG).try_start_at(home) {
        Ok(daemon) => daemon,
        Err(said) => {
            // It says which file is to blame.
            assert!(said.contains("forebay:") && said.contains("/data"), "{what}: {said}");
            return;
        }
    };
    let mut rows = stored(&daemon);
    let count = rows.len();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), count, "{what}: a row is stored twice");
    let rows: BTreeSet<u64> = rows.into_iter().collect();
    assert!(rows.iter().all(|row| ledger.contains_key(row)), "{what}: a row is foreign");
    let reported = reported(&daemon);
    let is_reported = |lsn: u64| reported.iter().any(|(first, last)| (*first..=*last).contains(&lsn));
    let silent: Vec<_> =
        ledger.iter().filter(|(row, (_, lsn))| !rows.contains(row) && !is_reported(*lsn)).collect();
    assert!(
        silent.is_empty(),
        "{what}: lost in silence: {silent:?}, reported {reported:?}\n{}",
        daemon.log()
    );
    let wrong: Vec<_> =
        ledger.iter().filter(|(row, (_, lsn))| rows.contains(row) && is_reported(*lsn)).collect();
    assert!(
        wrong.is_empty(),
        "{what}: reported and not lost: {wrong:?}, reported {reported:?}\n{}",
        daemon.log()
    );
}

#[test]
fn any_single_damage_is_harmless_or_reported() {
    let number = |name: &str, default: u64| {
        let text = std::env::vars().find(|(key, _)| key == name).map(|(_, value)| value);
        text.map_or(default, |text| text.parse().unwrap())
    };
    let base = tempfile::tempdir().unwrap();
    let ledger = prepare(base.path());
    let seed = number("FOREBAY_DAMAGES_SEED", u64::from(std::process::id()));
    for trial in 0..number("FOREBAY_DAMAGES", TRIALS) {
        let mut state = seed.wrapping_mul(1_000_003).wrapping_add(trial);
        let home = tempfile::tempdir().unwrap();
        copy(&base.path().join("data"), &home.path().join("data"));
        let what = damage(&home.path().join("data"), &mut state);
        judge(home.path(), &ledger, &format!("seed {seed}, trial {trial}: {what}"));
    }
}
