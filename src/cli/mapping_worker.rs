//! `forebay mapping-worker`: what the daemon starts to evaluate templates. Nobody else has a use for it.

use super::output;
use crate::mapping::worker;
use std::process::ExitCode;
use std::time::Duration;

/// Evaluate templates for the daemon.
#[derive(Debug, clap::Args)]
pub(super) struct MappingWorker {
    /// Memory in bytes, beyond what the process has when it starts.
    #[arg(long)]
    memory_max: u64,
    /// What one template may take, in milliseconds.
    #[arg(long)]
    deadline_ms: u64,
    /// The daemon's process, with which this one ends.
    #[arg(long)]
    parent: u32,
}

impl MappingWorker {
    pub(super) fn run(&self) -> ExitCode {
        let deadline = Duration::from_millis(self.deadline_ms);
        let limits = worker::Limits { memory_max: self.memory_max, deadline, parent: self.parent };
        match worker::run(limits) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error, 1),
        }
    }
}
