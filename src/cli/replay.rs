//! `forebay replay`: rebuilds the files of a stream for a time range.

use super::client::{Admin, AskError};
use super::output::{self, TextTable, count, word};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::Method;
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// How often the progress is polled.
const LOOK: Duration = Duration::from_millis(200);

/// Rebuild the files of a stream for a time range from log and archive, under its current schema.
///
/// The files that hold rows received in that range are replaced, each in one step, with all their rows. Waits for
/// completion and shows the progress; the daemon continues the replay if this command is interrupted. Exits with 1 if
/// some files could not be rebuilt.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    admin: Admin,
    /// Name or ID of the stream.
    #[arg(long, value_name = "NAME")]
    stream: String,
    /// Start of the range, as receive time: RFC 3339, or without a zone (UTC), or a date.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// End of the range, as receive time, exclusive; now by default.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Proceed even if some of the files cannot be rebuilt because the archive does not reach back to them.
    #[arg(long)]
    partial: bool,
    /// Print the number of the replay and do not wait for its completion.
    #[arg(long)]
    no_wait: bool,
}

impl ReplayArgs {
    pub(super) async fn run(self) -> ExitCode {
        let client = match Admin::client() {
            Ok(client) => client,
            Err(error) => return output::fail(&error, 1),
        };
        let begun = match self.begin(&client).await {
            Ok(begun) => begun,
            Err(error) => {
                if let AskError::Refused { problem, .. } = &error {
                    eprint!("{}", missing(&problem["missing"]));
                }
                return error.fail();
            }
        };
        let ended = if self.no_wait { Ok(begun) } else { self.follow(&client, begun).await };
        let replay = match ended {
            Ok(replay) => replay,
            Err(error) => return error.fail(),
        };
        if self.admin.json {
            output::json(&replay);
        } else {
            output::print(&show(&replay));
        }
        let whole = replay["missing"].as_array().is_none_or(Vec::is_empty);
        match replay["state"].as_str() {
            Some("failed" | "cancelled") => ExitCode::from(1),
            _ => ExitCode::from(u8::from(!whole)),
        }
    }

    async fn begin(&self, client: &reqwest::Client) -> Result<Value, AskError> {
        let asked = json!({"stream": self.stream, "from": self.from, "to": self.to, "partial": self.partial});
        self.admin.ask(client, Method::POST, "/admin/v1/replay", Some(&asked)).await
    }

    /// Shows the progress until the replay has ended.
    async fn follow(&self, client: &reqwest::Client, mut replay: Value) -> Result<Value, AskError> {
        let path = format!("/admin/v1/replay/{}", replay["id"]);
        let bar = self.progress_bar(&replay);
        while matches!(replay["state"].as_str(), Some("waiting" | "running")) {
            tokio::time::sleep(LOOK).await;
            replay = self.admin.get(client, &path).await?;
            bar.set_position(replay["rows"]["done"].as_u64().unwrap_or(0));
            let waits = if replay["state"] == "waiting" { "waiting for other replays" } else { "" };
            bar.set_message(replay["error"].as_str().unwrap_or(waits).to_owned());
        }
        bar.finish_and_clear();
        Ok(replay)
    }

    fn progress_bar(&self, replay: &Value) -> ProgressBar {
        let bar =
            ProgressBar::with_draw_target(replay["rows"]["total"].as_u64(), ProgressDrawTarget::stderr());
        if self.admin.json && !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let template = "{bar:30} {percent}%  {human_pos}/{human_len} rows  {per_sec}  {eta} left  {msg}";
        // The template is valid; otherwise the default would do.
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    }
}

fn show(replay: &Value) -> String {
    let mut lines = String::new();
    let (range, cuts, rows) = (&replay["range"], &replay["cuts"], &replay["rows"]);
    let mut row = |name: &str, text: String| {
        writeln!(lines, "{name:<12} {text}").expect("a string takes everything");
    };
    row("replay", format!("{} of {}: {}", replay["id"], word(&replay["stream"]), word(&replay["state"])));
    row("received", format!("{} to {}", word(&range["from"]), word(&range["to"])));
    row("receipts", format!("{} to {}", range["first_lsn"], range["last_lsn"]));
    row("files", count(&replay["files"]));
    row(
        "rows",
        format!(
            "{} of {} in {} of {} ranges",
            count(&rows["done"]),
            count(&rows["total"]),
            cuts["done"],
            cuts["total"]
        ),
    );
    for name in ["stored", "quarantined", "rescued"] {
        let (before, after) = (&replay["before"][name], &replay["after"][name]);
        row(name, format!("{} (before: {})", count(after), count(before)));
    }
    if let Some(error) = replay["error"].as_str() {
        row("error", error.to_owned());
    }
    lines + &missing(&replay["missing"])
}

/// A table of the ranges that cannot be rebuilt and stay as they are.
fn missing(left: &Value) -> String {
    let Some(left) = left.as_array().filter(|left| !left.is_empty()) else { return String::new() };
    let mut table = TextTable::new(&["not rebuilt", "received from", "to", ">files", ">rows", "missing"]);
    for left in left {
        let lost = left["lost"].as_array().map_or(&[][..], Vec::as_slice);
        let lost: Vec<String> =
            lost.iter().map(|range| format!("{} to {}", range["first"], range["last"])).collect();
        table.row([
            format!("{} to {}", left["first_lsn"], left["last_lsn"]),
            word(&left["from"]),
            word(&left["to"]),
            count(&left["files"]),
            count(&left["rows"]),
            if lost.is_empty() { word(&left["reason"]) } else { lost.join(", ") },
        ]);
    }
    table.to_string()
}
