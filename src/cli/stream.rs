//! `forebay stream`: streams, their schemas and their counts.

use super::EX_UNAVAILABLE;
use super::client::{Admin, AskError, path_segment};
use super::output::{self, Table, count, size, word};
use serde_json::Value;
use std::process::ExitCode;

/// Look at streams.
#[derive(Debug, clap::Args)]
pub(super) struct Stream {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List all streams with their counts.
    List,
    /// Show a stream's schema, counts, files and what did not fit.
    Show {
        /// Name or id of the stream.
        stream: String,
    },
}

impl Stream {
    pub(super) async fn run(self) -> ExitCode {
        let path = match &self.command {
            Command::List => "/admin/v1/streams".to_owned(),
            Command::Show { stream } => format!("/admin/v1/streams/{}", path_segment(stream)),
        };
        let client = match Admin::client() {
            Ok(client) => client,
            Err(error) => return output::fail(&error, 1),
        };
        let body = match self.admin.get(&client, &path).await {
            Ok(body) => body,
            Err(error @ AskError::Unreachable { .. }) => return output::fail(&error, EX_UNAVAILABLE),
            Err(error) => return output::fail(&error, 1),
        };
        match self.command {
            _ if self.admin.json => output::json(&body),
            Command::List => output::print(&list(&body)),
            Command::Show { .. } => output::print(&show(&body)),
        }
        ExitCode::SUCCESS
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn list(body: &Value) -> String {
    let mut table = Table::new(&["name", "policy", ">rows", ">quarantined", ">checkpoint", "created"]);
    for stream in items(&body["streams"]) {
        let rows = &stream["rows"];
        table.row([
            word(&stream["name"]),
            word(&stream["policy"]),
            count(&rows["stored"]),
            count(&rows["quarantined"]),
            count(&stream["checkpoint"]),
            word(&stream["created_at"]),
        ]);
    }
    table.to_string()
}

fn show(body: &Value) -> String {
    let mut parts = vec![format!("{}  {}\n\n", word(&body["name"]), word(&body["id"]))];
    let line = |name: &str, value: String| format!("{name:<16}{value}\n");
    parts.push(line("policy", word(&body["policy"])));
    parts.push(line("created", word(&body["created_at"])));
    parts.push(line("checkpoint", count(&body["checkpoint"])));
    let counts = body["rows"].as_object().into_iter().flatten();
    parts.extend(counts.map(|(name, value)| line(&name.replace('_', " "), count(value))));
    if !items(&body["files"]).is_empty() {
        parts.push(format!("\n{}", files(&body["files"])));
    }
    let mut columns = Table::new(&["column", "type"]);
    for column in items(&body["schema"]["columns"]) {
        columns.row([word(&column["name"]), word(&column["type"])]);
    }
    parts.push(format!("\nschema, version {}\n{columns}", count(&body["schema"]["version"])));
    if !items(&body["misfits"]).is_empty() {
        parts.push(format!("\nwhat did not fit, and is in _rescued\n{}", misfits(&body["misfits"])));
    }
    parts.concat()
}

fn files(totals: &Value) -> Table {
    let mut table = Table::new(&["files", "of", ">count", ">rows", ">size"]);
    for total in items(totals) {
        table.row([
            word(&total["state"]),
            word(&total["kind"]),
            count(&total["files"]),
            count(&total["rows"]),
            size(&total["bytes"]),
        ]);
    }
    table
}

fn misfits(misfits: &Value) -> Table {
    let mut table = Table::new(&["path", "values", ">count", "column", "would fit", "example"]);
    for misfit in items(misfits) {
        table.row([
            word(&misfit["path"]),
            word(&misfit["values"]),
            count(&misfit["count"]),
            word(&misfit["column_type"]),
            word(&misfit["proposed_type"]),
            word(&misfit["example"]),
        ]);
    }
    table
}
