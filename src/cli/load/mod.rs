//! `forebay load`: sends NDJSON files to a stream, and waits until every record is accepted.

mod input;
mod send;

use super::output;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use input::{BatchLimits, Batches, InputFile, LineBatch};
use send::{SendError, Sender, Sent};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Exit status if everything was accepted, but some records went to the quarantine table.
const EXIT_QUARANTINED: u8 = 3;

/// Send NDJSON files, plain or gzip, to a stream.
///
/// A batch is retried after 429, a 5xx or a broken connection, with exponential backoff. A batch whose answer was lost
/// may have been stored: then the retry stores its records a second time.
///
/// Exits with 0 if every record was stored, 3 if some are in the quarantine table, 1 if some were
/// not accepted.
#[derive(Debug, clap::Args)]
pub(super) struct LoadArgs {
    /// Files to send; "-" is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Name of the stream.
    #[arg(long, short, value_name = "NAME")]
    stream: String,
    /// URL of the daemon.
    #[arg(long, value_name = "URL", env = "FOREBAY_URL", default_value = "http://127.0.0.1:7171")]
    url: String,
    /// Token; not required by a daemon that runs with --dev.
    #[arg(long, value_name = "TOKEN", env = "FOREBAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// When a batch counts as accepted: it survives a crash of the process, survives power loss, or is published.
    #[arg(long, value_enum, default_value_t = WaitArg::Sync)]
    wait: WaitArg,
    /// Maximum number of records in a batch.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    batch_rows: u64,
    /// Maximum size of a batch in bytes (a larger record is a batch by itself).
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    batch_bytes: u64,
    /// Send a batch that is not full after this many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    batch_wait: u64,
    /// Maximum number of batches in flight. With 1, records arrive in order.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// How long to retry one batch before giving up, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    retry_for: u64,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WaitArg {
    Append,
    Sync,
    Table,
}

/// The result of the command.
#[derive(Debug, Default, Serialize)]
struct LoadSummary {
    stream: String,
    stored: u64,
    quarantined: u64,
    batches: u64,
    /// How often a batch was sent again.
    retries: u64,
    bytes: u64,
    seconds: f64,
    /// Why some records were not accepted.
    error: Option<String>,
}

impl LoadArgs {
    pub(super) async fn run(self) -> ExitCode {
        let began = Instant::now();
        let mut summary = LoadSummary { stream: self.stream.clone(), ..LoadSummary::default() };
        let bar = self.progress_bar();
        let outcome = self.send_all(&mut summary, &bar).await;
        bar.finish_and_clear();
        summary.seconds = began.elapsed().as_secs_f64();
        summary.error = outcome.err();
        if self.json {
            output::json(&summary);
        } else {
            output::print(&text(&summary));
        }
        match summary.error {
            Some(error) => output::fail_with(&error, 1),
            None if summary.quarantined > 0 => ExitCode::from(EXIT_QUARANTINED),
            None => ExitCode::SUCCESS,
        }
    }

    async fn send_all(&self, summary: &mut LoadSummary, bar: &ProgressBar) -> Result<(), String> {
        let mut under_way = JoinSet::new();
        let mut outcome = self.send_files(&mut under_way, summary, bar).await;
        // Batches in flight are awaited even if a later one failed.
        while !under_way.is_empty() {
            outcome = outcome.and(settle(&mut under_way, summary, bar).await);
        }
        outcome
    }

    async fn send_files(
        &self,
        under_way: &mut UnderWay,
        summary: &mut LoadSummary,
        bar: &ProgressBar,
    ) -> Result<(), String> {
        let sender = Sender::new(self).map_err(|error| crate::error::chain(&error))?;
        let limits = BatchLimits {
            rows: self.batch_rows,
            bytes: usize::try_from(self.batch_bytes).unwrap_or(usize::MAX),
            wait: Duration::from_millis(self.batch_wait),
        };
        for path in &self.files {
            let source = InputFile::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let mut batches = Batches::new(source, limits);
            while let Some(batch) =
                batches.next().await.map_err(|error| format!("{}: {error}", path.display()))?
            {
                while under_way.len() >= usize::from(self.connections) {
                    settle(under_way, summary, bar).await?;
                }
                bar.set_position(batch.read_bytes);
                let (sender, bar, path) = (sender.clone(), bar.clone(), path.clone());
                under_way.spawn(async move { sender.send(batch, &path, &bar).await });
            }
        }
        Ok(())
    }

    /// A progress bar on standard error, visible only on a terminal. Its length is the size of the file, if it has one.
    fn progress_bar(&self) -> ProgressBar {
        let length = match &self.files[..] {
            [file] => std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file).map(|file| file.len()),
            _ => None,
        };
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        if self.json && !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let template = match length {
            Some(_) => {
                "{bar:30} {percent}%  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left  {msg}"
            }
            None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {msg}",
        };
        // The templates above are valid; otherwise the default would do.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar
    }
}

/// Batches in flight.
type UnderWay = JoinSet<Result<Sent, SendError>>;

/// Waits for one of the batches in flight.
async fn settle(
    under_way: &mut UnderWay,
    summary: &mut LoadSummary,
    bar: &ProgressBar,
) -> Result<(), String> {
    let Some(ended) = under_way.join_next().await else { return Ok(()) };
    let sent = ended.map_err(|error| error.to_string())?.map_err(|error| crate::error::chain(&error))?;
    summary.stored += sent.stored;
    summary.quarantined += sent.quarantined;
    summary.bytes += sent.bytes;
    summary.batches += 1;
    summary.retries += sent.retries;
    bar.set_message(format!("{} records", output::number(summary.stored + summary.quarantined)));
    Ok(())
}

fn text(summary: &LoadSummary) -> String {
    let LoadSummary { stream, stored, quarantined, batches, retries, bytes, seconds, error: _ } = summary;
    let took = HumanDuration(Duration::from_secs_f64(*seconds));
    let took = if *seconds < 1.0 { format!("{seconds:.2} seconds") } else { took.to_string() };
    let rate = (stored + quarantined) as f64 / seconds.max(1e-6);
    format!(
        "{stream}: {} records stored, {} quarantined, {} in {} batches ({} retries), {took}, {rate:.0} records/s\n",
        output::number(*stored),
        output::number(*quarantined),
        output::bytes(*bytes),
        output::number(*batches),
        output::number(*retries),
    )
}
