//! The command line: one file a subcommand.

mod check;
mod output;
mod serve;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// A durable ingestion daemon: events over HTTP, a write-ahead log before the answer, Parquet files after.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Serve(serve::Serve),
    /// Check the configuration without starting anything.
    Check(check::Check),
}

/// Where settings come from, for the commands that need them.
#[derive(Debug, Clone, clap::Args)]
struct ConfigArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    config: Option<PathBuf>,
}

/// Exit status for a bad configuration or command line (`sysexits.h`).
const EX_USAGE: u8 = 64;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Check(check) => check.run(),
    }
}
