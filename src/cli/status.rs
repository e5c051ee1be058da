//! `forebay status`: shows what a running daemon is doing.

use super::EX_UNAVAILABLE;
use super::client::{Admin, AskError};
use super::output::{self, count, size, word};
use indicatif::HumanDuration;
use serde_json::Value;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Erase the screen, go to its top left (ECMA-48).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Show what a running daemon is doing. Exits with 0 if it accepts requests, 1 if it does not,
/// 69 if it cannot be reached.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    admin: Admin,
    /// Refresh every SECONDS seconds, with rates.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

/// The counts that rates are computed from.
struct StatusSample {
    at: Instant,
    rows: u64,
    bytes: u64,
}

impl StatusArgs {
    pub(super) async fn run(self) -> ExitCode {
        let client = match Admin::client() {
            Ok(client) => client,
            Err(error) => return output::fail(&error, 1),
        };
        let mut before: Option<StatusSample> = None;
        loop {
            let outcome = match self.show(&client, &mut before).await {
                ControlFlow::Continue(outcome) => outcome,
                ControlFlow::Break(outcome) => return outcome,
            };
            let Some(seconds) = self.watch else { return outcome };
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }

    /// Shows the status once. Breaks if the reader has closed the pipe.
    async fn show(
        &self,
        client: &reqwest::Client,
        before: &mut Option<StatusSample>,
    ) -> ControlFlow<ExitCode, ExitCode> {
        let status = match self.admin.get(client, "/admin/v1/status").await {
            Ok(status) => status,
            // `detail` is the daemon's own reason for not being ready.
            Err(AskError::Refused { status: 503, detail, .. }) => {
                return ControlFlow::Continue(output::fail_with(&format!("not ready: {detail}"), 1));
            }
            Err(error @ AskError::Unreachable { .. }) => {
                return ControlFlow::Continue(output::fail(&error, EX_UNAVAILABLE));
            }
            Err(error) => return ControlFlow::Continue(output::fail(&error, 1)),
        };
        let count = |what: &str| status["accepted"][what].as_u64().unwrap_or(0);
        let now = StatusSample { at: Instant::now(), rows: count("rows"), bytes: count("bytes") };
        let text = match (self.admin.json, self.watch) {
            (true, None) => format!("{status:#}\n"),
            (true, Some(_)) => format!("{status}\n"),
            (false, Some(_)) if std::io::stdout().is_terminal() => {
                format!("{CLEAR}{}", text(&status, &now, before.as_ref()))
            }
            (false, _) => text(&status, &now, before.as_ref()),
        };
        if output::try_print(&text).is_err() {
            return ControlFlow::Break(ExitCode::SUCCESS);
        }
        *before = Some(now);
        ControlFlow::Continue(ExitCode::from(u8::from(status["ready"] != true)))
    }
}

/// The status as text for people.
fn text(status: &Value, now: &StatusSample, before: Option<&StatusSample>) -> String {
    let uptime = Duration::from_secs(status["uptime_seconds"].as_u64().unwrap_or(0));
    let state = match &status["reason"] {
        Value::String(reason) => format!("not ready: {reason}"),
        _ => "ready".to_owned(),
    };
    let (version, node) = (word(&status["version"]), word(&status["node"]));
    let mut text = format!("forebay {version} · node {node} · {state} · up {}\n\n", HumanDuration(uptime));
    for (name, value) in accepted(status, now, before).into_iter().chain(behind(status)) {
        text.push_str(&format_line(name, &value));
    }
    for (name, error) in
        [("refusing", &status["log"]["refusing"]), ("error", &status["compactor"]["last_error"])]
    {
        if let Some(error) = error.as_str() {
            text.push_str(&format_line(name, error));
        }
    }
    text
}

fn format_line(name: &str, value: &str) -> String {
    format!("{name:<13}{value}\n")
}

/// The accepted rows and bytes, with their rates, and the streams.
fn accepted(
    status: &Value,
    now: &StatusSample,
    before: Option<&StatusSample>,
) -> [(&'static str, String); 2] {
    let rate = before.map(|before| {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let (rows, bytes) = (per_second(now.rows, before.rows), per_second(now.bytes, before.bytes));
        format!("  {rows:.0} rows/s, {:.2} MB/s", bytes / 1e6)
    });
    // The first look has no rate.
    let (rows, bytes) = (output::number(now.rows), output::bytes(now.bytes));
    let accepted = format!("{rows} rows, {bytes} since the start{}", rate.unwrap_or_default());
    [("accepted", accepted), ("streams", count(&status["streams"]))]
}

/// How far records have come on their way from the log to the destination.
fn behind(status: &Value) -> [(&'static str, String); 8] {
    let [marks, lags, log, compactor, staged] =
        ["watermarks", "lag_seconds", "log", "compactor", "staged"].map(|part| &status[part]);
    let lag = |value: &Value| format!("{:.1} s behind", value.as_f64().unwrap_or(0.0));
    [
        ("appended", count(&marks["appended"])),
        ("durable", format!("{}  {} not synced", count(&marks["durable"]), size(&log["unsynced_bytes"]))),
        ("checkpoint", format!("{}  {}", count(&marks["checkpoint"]), lag(&lags["checkpoint"]))),
        ("published", format!("{}  {}", count(&marks["published"]), lag(&lags["published"]))),
        ("log", format!("{} in {} segments", size(&log["bytes"]), count(&log["segments"]))),
        (
            "compactor",
            format!(
                "{} open files, {} of memory",
                count(&compactor["open_files"]),
                size(&compactor["memory_bytes"])
            ),
        ),
        ("staged", format!("{} files, {}", count(&staged["files"]), size(&staged["bytes"]))),
        ("destination", word(&status["destination"])),
    ]
}
