//! `cargo bench --bench ingest`: the daemon against null servers, side by side, in turn, again and again.
//!
//! The fairest figure on a noisy machine is the server's CPU seconds for a million rows; ratios of it are what the
//! table shows: 1.0 is as many rows for a CPU second as the null server. Server and generator have a core each.
//!
//! Arguments: `--rounds N` (5), `--seconds N` (3), and names of sections (`accept`, `published`, `replay`, `lone`,
//! `convert`, `many`, `contracts`, `fairness`; `streams` and `offsets` if they are named). `--beside BINARY` measures this
//! build and another binary of the daemon in turn, and nothing else.

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

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Settings {
    pub rounds: usize,
    pub time: Duration,
    pub sections: Vec<String>,
    pub workloads: Vec<load::Workload>,
    /// Another binary of the daemon, to be measured beside this build.
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
            // What cargo adds by itself.
            "--bench" => {}
            section => settings.sections.push(section.to_owned()),
        }
    }
    sections::run(&settings);
}
