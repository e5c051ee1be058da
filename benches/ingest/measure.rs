//! A measurement under load, and the summary of several.

use crate::load::{self, Answers, Head, Workload};
use crate::process::{Server, Usage};
use std::time::Duration;

const WARM_UP: Duration = Duration::from_millis(700);
/// Disables the archive, whose background work for earlier rounds would be counted in later ones.
pub const NO_ARCHIVE: (&str, &str) = ("FOREBAY_WAL__ARCHIVE_RETENTION", "0s");

/// One measurement under load.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub cpu_seconds_per_million: f64,
    pub rows_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub peak_rss_mb: f64,
    pub refused: u64,
}

pub fn sample(
    server: &Server,
    workload: &Workload,
    head: &dyn Fn(u64) -> Head,
    time: Duration,
) -> (Sample, Answers) {
    let (mut before, mut after) = (Usage::default(), Usage::default());
    let mut answers = load::run(
        server.ingest,
        workload,
        head,
        WARM_UP,
        time,
        || before = server.usage(),
        || after = server.usage(),
    );
    let used = after.since(before);
    let rows = answers.events.max(1) as f64;
    let sample = Sample {
        cpu_seconds_per_million: used.cpu_seconds / rows * 1e6,
        rows_per_second: rows / answers.elapsed.as_secs_f64(),
        p50_ms: answers.percentile_ms(0.5),
        p99_ms: answers.percentile_ms(0.99),
        peak_rss_mb: used.peak_rss_bytes as f64 / 1e6,
        refused: answers.refused,
    };
    if let Some(refusal) = &answers.first_refusal {
        eprintln!("refused: {}", refusal.lines().next().unwrap_or_default());
    }
    (sample, answers)
}

pub fn median(samples: &[Sample], value: fn(&Sample) -> f64) -> f64 {
    middle(&mut samples.iter().map(value).collect::<Vec<_>>())
}

pub fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
