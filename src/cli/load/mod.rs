//! `forebay load`: sends a file of NDJSON to a stream, and stays until every record is accepted.

mod input;
mod send;

use super::output;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use input::{Batch, Batches, Limits, Source};
use send::{SendError, Sender, Sent};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Everything was accepted, but some records went to the quarantine table.
const EXIT_QUARANTINED: u8 = 3;

/// Send a file of NDJSON, plain or gzip, to a stream.
///
/// A batch is sent again after 429, a 5xx or a broken connection, with exponential backoff. A batch whose answer was
/// lost may have been stored: then its records are there twice.
///
/// Exits with 0 if every record was stored, 3 if some are in the quarantine table, 1 if not everything was accepted.
#[derive(Debug, clap::Args)]
pub(super) struct Load {
    /// Files to send; "-" is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The stream.
    #[arg(long, short, value_name = "NAME")]
    stream: String,
    /// Address of the daemon.
    #[arg(long, value_name = "URL", env = "FOREBAY_URL", default_value = "http://127.0.0.1:7171")]
    url: String,
    /// A token; a daemon that runs with --dev needs none.
    #[arg(long, value_name = "TOKEN", env = "FOREBAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// What counts as accepted: survives the process, survives power loss, is published.
    #[arg(long, value_enum, default_value_t = Wait::Sync)]
    wait: Wait,
    /// Records of a batch, at most.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    batch_rows: u64,
    /// Bytes of a batch, at most (one larger record is a batch by itself).
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    batch_bytes: u64,
    /// A batch that is not full is sent after so many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    batch_wait: u64,
    /// Batches on their way at a time. With 1, records arrive in their order.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// How long one batch is tried again before the command gives up, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    retry_for: u64,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Wait {
    Append,
    Sync,
    Table,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Summary {
    stream: String,
    stored: u64,
    quarantined: u64,
    batches: u64,
    /// Batches that were sent again.
    retries: u64,
    bytes: u64,
    seconds: f64,
    /// Why not everything was accepted.
    error: Option<String>,
}

impl Load {
    pub(super) async fn run(self) -> ExitCode {
        let began = Instant::now();
        let mut summary = Summary { stream: self.stream.clone(), ..Summary::default() };
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

    async fn send_all(&self, summary: &mut Summary, bar: &ProgressBar) -> Result<(), String> {
        let mut under_way = JoinSet::new();
        let mut outcome = self.send_files(&mut under_way, summary, bar).await;
        // What was begun is seen through, whatever came after it.
        while !under_way.is_empty() {
            outcome = outcome.and(settle(&mut under_way, summary, bar).await);
        }
        outcome
    }

    async fn send_files(
        &self,
        under_way: &mut UnderWay,
        summary: &mut Summary,
        bar: &ProgressBar,
    ) -> Result<(), String> {
        let sender = Sender::new(self).map_err(|error| crate::error::chain(&error))?;
        let limits = Limits {
            rows: self.batch_rows,
            bytes: usize::try_from(self.batch_bytes).unwrap_or(usize::MAX),
            wait: Duration::from_millis(self.batch_wait),
        };
        for path in &self.files {
            let source = Source::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
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

    /// On standard error, and only if that is a terminal. Its length is that of the file, if it has one.
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
        // The templates above are good; a default would do as well.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar
    }
}

/// Batches that wait for their answers.
type UnderWay = JoinSet<Result<Sent, SendError>>;

/// Waits for one of the batches under way.
async fn settle(under_way: &mut UnderWay, summary: &mut Summary, bar: &ProgressBar) -> Result<(), String> {
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

fn text(summary: &Summary) -> String {
    let Summary { stream, stored, quarantined, batches, retries, bytes, seconds, error: _ } = summary;
    let took = HumanDuration(Duration::from_secs_f64(*seconds));
    let took = if *seconds < 1.0 { format!("{seconds:.2} seconds") } else { took.to_string() };
    let rate = (stored + quarantined) as f64 / seconds.max(1e-6);
    format!(
        "{stream}: {} records stored, {} quarantined, {} in {} batches ({} sent again), {took}, {rate:.0} records/s\n",
        output::number(*stored),
        output::number(*quarantined),
        output::bytes(*bytes),
        output::number(*batches),
        output::number(*retries),
    )
}
