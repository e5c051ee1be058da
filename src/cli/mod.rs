//! The command line, with one file per subcommand.

mod check;
mod client;
mod identity;
mod load;
mod manual;
mod mapping_worker;
mod output;
mod recover;
mod replay;
mod serve;
mod status;
mod stream;
mod wal;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// A durable ingestion daemon: events over HTTP, a write-ahead log before the answer, Parquet files after.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, arg_required_else_help = true, infer_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Serve(serve::ServeArgs),
    /// Check the configuration without starting anything.
    Check(check::CheckArgs),
    /// Show what a running daemon is doing.
    Status(status::StatusArgs),
    /// Show and manage streams, their schemas and their policies.
    Stream(stream::StreamArgs),
    /// Create, list and revoke tokens.
    Token(identity::TokenArgs),
    /// Create, list and delete OAuth clients.
    Client(identity::ClientArgs),
    /// List and rotate the keys that sign tokens.
    Key(identity::KeyArgs),
    /// Send NDJSON files to a stream.
    Load(load::LoadArgs),
    /// Rebuild the files of a stream for a time range, under its current schema.
    Replay(replay::ReplayArgs),
    /// Publish files that were held back, once the cause is fixed.
    Recover(recover::RecoverArgs),
    /// Inspect a write-ahead log, and repair one that is not in use.
    Wal(wal::WalArgs),
    /// Print shell completions.
    Completions(manual::CompletionsArgs),
    /// Write the manual pages to a directory.
    Man(manual::ManArgs),
    #[command(hide = true)]
    MappingWorker(mapping_worker::MappingWorkerArgs),
}

/// The source of the settings, for the commands that need them.
#[derive(Debug, Clone, clap::Args)]
struct ConfigArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    config: Option<PathBuf>,
}

/// Exit status for an invalid configuration or command line (`sysexits.h`).
const EX_USAGE: u8 = 64;
/// Exit status if the daemon cannot be reached (`sysexits.h`).
const EX_UNAVAILABLE: u8 = 69;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Check(check) => check.run(),
        Command::Status(status) => block_on(status.run()),
        Command::Stream(stream) => block_on(stream.run()),
        Command::Token(token) => block_on(token.run()),
        Command::Client(client) => block_on(client.run()),
        Command::Key(key) => block_on(key.run()),
        Command::Load(load) => block_on(load.run()),
        Command::Replay(replay) => block_on(replay.run()),
        Command::Recover(recover) => block_on(recover.run()),
        Command::Wal(wal) => wal.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
        Command::MappingWorker(worker) => worker.run(),
    }
}

/// Runs a command that talks to a daemon.
fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&error, 1),
    };
    let ended = runtime.block_on(command);
    // A thread that reads from a terminal must not keep the process alive.
    runtime.shutdown_background();
    ended
}
