//! Compares this build with another binary of the daemon, alternating in one run: what a change costs or gains.

use crate::Settings;
use crate::call::{publish, published_rows};
use crate::load::{self, EVENTS, EVENTS_SYNCED, Head, Workload};
use crate::measure::{NO_ARCHIVE, middle, sample};
use crate::process::Server;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The minimum time over which published rows are counted.
const PUBLISH_TIME: Duration = Duration::from_secs(6);

/// CPU seconds per million rows, by workload and binary.
type Costs = BTreeMap<(String, usize), Vec<f64>>;

pub fn run(settings: &Settings, other: &Path, scratch: &dyn Fn() -> PathBuf) {
    let binaries = [other.to_str().expect("a UTF-8 path"), env!("CARGO_BIN_EXE_forebay")];
    let mut costs = Costs::new();
    for round in 1..=settings.rounds {
        for workload in &settings.workloads {
            // The first one runs on a colder machine, so the order alternates.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for (what, path) in [("202", EVENTS), ("200", EVENTS_SYNCED)] {
                for at in order {
                    let cost = accepted(binaries[at], &scratch(), workload, path, settings.time);
                    note(&mut costs, format!("{} {what}", workload.name), at, cost);
                }
            }
            if workload.name == "B" {
                for at in order {
                    let cost = published(binaries[at], &scratch(), workload, settings.time);
                    note(&mut costs, "B published".to_owned(), at, cost);
                }
            }
        }
    }
    println!("\nCPU seconds for a million rows, medians of {} rounds", settings.rounds);
    println!("{:<14} {:>12} {:>12} {:>10}", "what", "the other", "this build", "ratio");
    let names: Vec<String> = costs.keys().filter(|(_, at)| *at == 0).map(|(name, _)| name.clone()).collect();
    for name in names {
        let mut median = |at: usize| middle(costs.get_mut(&(name.clone(), at)).expect("both were measured"));
        let (before, now) = (median(0), median(1));
        println!("{name:<14} {before:>12.3} {now:>12.3} {:>10.3}", now / before);
    }
}

fn note(costs: &mut Costs, what: String, at: usize, cost: f64) {
    eprintln!("{what:<14} {} {cost:>10.3} CPU s/M rows", ["the other ", "this build"][at]);
    costs.entry((what, at)).or_default().push(cost);
}

fn accepted(binary: &str, dir: &Path, workload: &Workload, path: &'static str, time: Duration) -> f64 {
    let server = Server::of_binary(binary, dir, &["--dev", "--discard-log"], &[NO_ARCHIVE]);
    sample(&server, workload, &|_| Head::of(path), time).0.cpu_seconds_per_million
}

fn published(binary: &str, dir: &Path, workload: &Workload, time: Duration) -> f64 {
    let server = Server::of_binary(binary, dir, &["--dev"], &[]);
    let admin = server.admin.expect("an admin address");
    let (before, time) = (server.usage(), time.max(PUBLISH_TIME));
    load::run(server.ingest, workload, &|_| Head::of(EVENTS), Duration::ZERO, time, || {}, || {});
    publish(admin);
    server.usage().since(before).cpu_seconds / published_rows(admin) * 1e6
}
