//! `forebay completions` and `forebay man`: generated from the same definitions that parse the command line.

use super::{Cli, output};
use clap::CommandFactory;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print shell completions: `forebay completions bash > /etc/bash_completion.d/forebay`
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    shell: clap_complete::Shell,
}

impl CompletionsArgs {
    pub(super) fn run(self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "forebay", &mut script);
        output::print(&String::from_utf8_lossy(&script));
        ExitCode::SUCCESS
    }
}

/// Write the manual pages, one for each command: `forebay man /usr/local/share/man/man1`
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Directory to write to; created if it does not exist.
    directory: PathBuf,
}

impl ManArgs {
    pub(super) fn run(self) -> ExitCode {
        let written = std::fs::create_dir_all(&self.directory)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &self.directory));
        match written {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                output::fail_with(&format!("cannot write to {}: {error}", self.directory.display()), 1)
            }
        }
    }
}
