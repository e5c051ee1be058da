//! `forebay mapping-worker`: the process that the daemon starts to evaluate templates. It is not for use by hand.

use super::output;
use crate::mapping::worker;
use std::process::ExitCode;
use std::time::Duration;

/// Evaluate templates for the daemon.
#[derive(Debug, clap::Args)]
pub(super) struct MappingWorkerArgs {
    /// Memory limit in bytes, on top of what the process uses when it starts.
    #[arg(long)]
    memory_max: u64,
    /// Time limit for one template, in milliseconds.
    #[arg(long)]
    deadline_ms: u64,
    /// Process ID of the daemon; this process ends with it.
    #[arg(long)]
    parent: u32,
}

impl MappingWorkerArgs {
    pub(super) fn run(&self) -> ExitCode {
        let deadline = Duration::from_millis(self.deadline_ms);
        let limits = worker::WorkerLimits { memory_max: self.memory_max, deadline, parent: self.parent };
        match worker::run(limits) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error, 1),
        }
    }
}
