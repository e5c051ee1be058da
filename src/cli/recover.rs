//! `forebay recover`: publishes files that were held back, once the cause is fixed.

use super::client::{Admin, AskError, path_segment};
use super::output::{self, TextTable, word};
use reqwest::Method;
use serde_json::Value;
use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

/// How often the progress is polled.
const LOOK: Duration = Duration::from_millis(200);

/// Publish files that were held back because they did not fit their table, once the table or its mapping is fixed.
///
/// Files that fit the table now are published as they are. Where the mapping was changed to fit the table, files are
/// rebuilt under it. Waits for completion. Exits with 1 if files are still held back, and prints why.
#[derive(Debug, clap::Args)]
pub(super) struct RecoverArgs {
    #[command(flatten)]
    admin: Admin,
    /// Name or ID of the stream; all streams by default.
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Do not wait for completion.
    #[arg(long)]
    no_wait: bool,
}

impl RecoverArgs {
    pub(super) async fn run(self) -> ExitCode {
        let client = match Admin::client() {
            Ok(client) => client,
            Err(error) => return output::fail(&error, 1),
        };
        match self.recover(&client).await {
            Ok((outcome, failed)) => {
                if self.admin.json {
                    output::json(&outcome);
                } else {
                    output::print(&show(&outcome));
                }
                let all = outcome["held"].as_array().is_none_or(Vec::is_empty) && !failed;
                ExitCode::from(u8::from(!all))
            }
            Err(error) => error.fail(),
        }
    }

    async fn recover(&self, client: &reqwest::Client) -> Result<(Value, bool), AskError> {
        let query = |name: &str| format!("?stream={}", path_segment(name));
        let query = self.stream.as_deref().map_or_else(String::new, query);
        let path = format!("/admin/v1/staged/recover{query}");
        let outcome = self.admin.ask(client, Method::POST, &path, None).await?;
        let failed = !self.no_wait && !self.follow(client, &outcome).await?;
        Ok((outcome, failed))
    }

    /// Waits until all replays have ended and all files are published. Returns whether every replay succeeded.
    async fn follow(&self, client: &reqwest::Client, outcome: &Value) -> Result<bool, AskError> {
        let list = |what: &str| outcome[what].as_array().cloned().unwrap_or_default();
        let mut good = true;
        for replay in list("replays") {
            loop {
                let state = self.admin.get(client, &format!("/admin/v1/replay/{replay}")).await?;
                match state["state"].as_str() {
                    Some("waiting" | "running") => tokio::time::sleep(LOOK).await,
                    ended => {
                        good &= ended == Some("done");
                        break;
                    }
                }
            }
        }
        let wanted: HashSet<String> = list("published").iter().map(word).collect();
        loop {
            let staged = self.admin.get(client, "/admin/v1/staged").await?;
            let staged = staged["staged"].as_array().cloned().unwrap_or_default();
            if !staged.iter().any(|file| wanted.contains(&word(&file["object"]))) {
                return Ok(good);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn show(outcome: &Value) -> String {
    // What the answer does not list did not happen.
    let list = |what: &str| outcome[what].as_array().cloned().unwrap_or_default();
    let (published, replays, held) = (list("published"), list("replays"), list("held"));
    let mut text = format!("{} published, {} rebuilt\n", published.len(), replays.len());
    if !held.is_empty() {
        let mut table = TextTable::new(&["held back", "stream", "reason"]);
        for file in &held {
            table.row(["object", "stream", "reason"].map(|field| word(&file[field])));
        }
        text.push_str(&table.to_string());
    }
    text
}
