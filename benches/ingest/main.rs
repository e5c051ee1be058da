//! `cargo bench --bench ingest`: the daemon and null servers, measured alternately in several rounds.
//!
//! The most reliable figure on a noisy machine is the server's CPU seconds per million rows. The table shows ratios of
//! it: 1.0 means as many rows per CPU second as the null server. Server and generator have a core each.
//!
//! Arguments: `--rounds N` (5), `--seconds N` (3), and names of sections (`accept`, `published`, `replay`, `lone`,
//! `convert`, `many`, `contracts`, `fairness`; `streams` and `offsets` run only if named). `--beside BINARY` only
//! compares this build with another binary of the daemon.

mod beside;
mod call;
#[path = "../common/mod.rs"]
mod common;
mod contracts;
mod convert;
mod fairness;
mod load;
mod many;
mod measure;
mod null;
mod offsets;
mod process;
mod sections;
mod streams;

use std::path::PathBuf;
use std::time::Duration;

/// The command line arguments.
#[derive(Debug, Clone)]
pub struct Settings {
    pub rounds: usize,
    pub time: Duration,
    pub sections: Vec<String>,
    pub workloads: Vec<load::Workload>,
    /// Another binary of the daemon, to compare this build with.
    pub beside: Option<PathBuf>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, mode, file] = &arguments[..]
        && flag == "--null-server"
    {
        return null::serve(mode, file);
    }
    if let [flag, from, to] = &arguments[..]
        && flag == "--convert"
    {
        return convert::child(from.as_ref(), to.as_ref());
    }
    let mut settings = Settings {
        rounds: 5,
        time: Duration::from_secs(3),
        sections: Vec::new(),
        workloads: load::WORKLOADS.to_vec(),
        beside: None,
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).expect("a number");
        match argument.as_str() {
            "--rounds" => settings.rounds = usize::try_from(number()).unwrap_or(1),
            "--seconds" => settings.time = Duration::from_secs(number()),
            "--workload" => {
                let name = arguments.next().expect("A, B or C");
                settings.workloads.retain(|workload| workload.name == name);
            }
            "--beside" => settings.beside = Some(arguments.next().expect("a binary").into()),
            // Added by cargo.
            "--bench" => {}
            section => settings.sections.push(section.to_owned()),
        }
    }
    sections::run(&settings);
}
