//! The conversion of NDJSON to Parquet alone, on one thread, compared with DuckDB's `COPY` of the same file.
//!
//! Runs DuckDB if `python3` (or `$PYTHON`) can import it: `pip install duckdb`.

use crate::common;
use crate::process;
use forebay::batch::BodyKind;
use forebay::columns::{BodyOrigin, RowLimits, Rows};
use forebay::compactor::parquet::FileWriter;
use forebay::schema::Rules;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const ROWS: u64 = 1_000_000;
const BATCH_ROWS: usize = 8192;
/// As many rows as in a request of workload B.
const REQUEST_ROWS: u64 = 60;
/// Prints the CPU seconds of the conversion, without the start of Python.
const DUCKDB: &str = "
import duckdb, sys, time
duckdb.execute('SET threads=1')
duckdb.execute('SET enable_progress_bar=false')
began = time.process_time()
duckdb.execute(f\"COPY (SELECT * FROM read_json('{sys.argv[1]}', format='newline_delimited')) \
TO '{sys.argv[2]}' (FORMAT parquet, COMPRESSION zstd)\")
print(time.process_time() - began)
";

/// Implements `--convert FROM TO`: reads a file, writes a file, prints the CPU seconds.
pub fn child(from: &Path, to: &Path) {
    let before = process::own_cpu_seconds();
    let text = std::fs::read(from).expect("the input");
    let limits =
        RowLimits { columns_max: 1000, received_at_column: false, lsn_column: false, record_column: false };
    let mut rows = Rows::new(&Rules::default(), limits);
    let mut file = None;
    let mut at = 0;
    let mut lsn = 0;
    while at < text.len() {
        let bytes: usize = text[at..]
            .split_inclusive(|byte| *byte == b'\n')
            .take(usize::try_from(REQUEST_ROWS).expect("a small number"))
            .map(<[u8]>::len)
            .sum();
        rows.append(&text[at..at + bytes], BodyKind::Lines, BodyOrigin { lsn, received_at: 0 });
        at += bytes;
        lsn += 1;
        if rows.len() >= BATCH_ROWS || at == text.len() {
            let batch = rows.finish(1).expect("a batch").batch;
            let file = file
                .get_or_insert_with(|| FileWriter::create(to.to_owned(), &batch, false).expect("a new file"));
            file.write(&batch).expect("a batch written");
        }
    }
    file.expect("a file").finish(&[]).expect("a finished file");
    println!("{}", process::own_cpu_seconds() - before);
}

pub fn run(dir: &Path, rounds: usize) {
    let (from, to) = (dir.join("events.ndjson"), dir.join("events.parquet"));
    let text = common::events(ROWS, 1);
    std::fs::write(&from, &text).expect("the input");
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let mut sizes = [0; 2];
    for _ in 0..rounds {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        ours.push(seconds(command.arg("--convert").args([&from, &to])).expect("our own conversion"));
        sizes[0] = size(&to);
        let began = Instant::now();
        let mut command = Command::new(&python);
        if let Some(seconds) = seconds(command.args(["-c", DUCKDB]).args([&from, &to])) {
            theirs.push(seconds);
            sizes[1] = size(&to);
        } else if theirs.is_empty() {
            eprintln!("no DuckDB in {} ({:.1?}): no comparison", python.display(), began.elapsed());
        }
    }
    println!("\nNDJSON to zstd Parquet, one thread, {ROWS} rows, {:.0} MB", text.len() as f64 / 1e6);
    let line = |name: &str, seconds: f64, size: u64| {
        println!("{name:<10} {seconds:>8.3} CPU s {:>12.0} rows/s {size:>12} bytes", ROWS as f64 / seconds);
    };
    let own = crate::measure::middle(&mut ours.clone());
    line("forebay", own, sizes[0]);
    if !theirs.is_empty() {
        line("duckdb", crate::measure::middle(&mut theirs.clone()), sizes[1]);
        let mut ratios: Vec<f64> = theirs.iter().zip(&ours).map(|(theirs, ours)| theirs / ours).collect();
        println!("ratio      {:>8.2}", crate::measure::middle(&mut ratios));
    }
}

fn seconds(command: &mut Command) -> Option<f64> {
    let output = command.stderr(std::process::Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |about| about.len())
}
