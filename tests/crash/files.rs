//! Kills at every step of a file's way from the log to its destination.

use super::support::{Setup, parquet_files, read_parquet};
use std::time::Duration;

/// If the daemon is killed between staging and registering a file, or between publishing it and recording that, the
/// next start writes the file again, under the same name and with the same bytes.
#[test]
fn files_are_published_once_if_killed_between_staging_and_publishing() {
    let home = tempfile::tempdir().unwrap();
    let tables = home.path().join("data/tables");
    let rounds = super::setting("FOREBAY_CRASH_ROUNDS", super::ROUNDS as u64);
    let mut sent = 0_u64;
    for number in 0..rounds {
        let daemon = Setup::dev("[compactor]\nmax_idle = \"20ms\"").start_at(home.path());
        let rows = (sent..sent + 50).fold(String::new(), |rows, n| rows + &format!("{{\"n\":{n}}}\n"));
        sent += 50;
        assert_eq!(daemon.post("name=t", rows).status, 202);
        // From before the file is finished until after it is published, in steps of 3 ms.
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
    assert_eq!(in_files as u64, sent, "no unregistered file remains");
}
