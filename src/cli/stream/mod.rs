//! `forebay stream`: streams, their schemas and their counts.

mod create;
mod schema;

use super::client::Admin;
use super::output::{self, Table, count, size, word};
use reqwest::Method;
use serde_json::Value;
use std::process::ExitCode;

/// Look at streams, and change what their records become.
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
    /// Make a stream, with the columns of a file of records if one is given.
    Create(create::Create),
    /// Show a stream's columns, or change them.
    Schema(schema::Schema),
    /// Show the fields without a column that came to a stream whose policy is `propose`.
    Proposals {
        /// Name or id of the stream.
        stream: String,
    },
    /// Make columns of proposed fields: new records fill them from now on.
    Accept(schema::Accept),
    /// Propose fields no more. Their values go on being kept in `_rescued`.
    Dismiss(schema::Dismiss),
    /// Change what becomes of records that do not fit a stream's columns.
    SetPolicy(schema::SetPolicy),
    /// Print ready code that sends a record to a stream, with its own address and fields.
    Snippet {
        /// Name or id of the stream.
        stream: String,
        /// The language of the code.
        #[arg(long, value_enum, default_value_t = Language::Curl)]
        language: Language,
    },
    /// Delete a stream. What the log has of it is still written; files that are published stay.
    Delete {
        /// Name or id of the stream.
        stream: String,
        /// Drop its table as well: remove its files from the destination, and publish no more.
        #[arg(long)]
        drop: bool,
    },
}

/// What code may be written in.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Language {
    Curl,
    Python,
    Javascript,
    Java,
}

impl Language {
    fn key(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Python => "python",
            Self::Javascript => "javascript",
            Self::Java => "java",
        }
    }
}

impl Stream {
    pub(super) async fn run(self) -> ExitCode {
        let admin = &self.admin;
        match self.command {
            Command::List => {
                admin.run(Method::GET, "/admin/v1/streams", None, |answer| output::print(&list(answer))).await
            }
            Command::Show { stream } => {
                let path = schema::path_of(&stream);
                admin.run(Method::GET, &path, None, |answer| output::print(&show(answer))).await
            }
            Command::Create(create) => create.run(admin).await,
            Command::Schema(schema) => schema.run(admin).await,
            Command::Proposals { stream } => schema::proposals(&stream, admin).await,
            Command::Accept(accept) => accept.run(admin).await,
            Command::Dismiss(dismiss) => dismiss.run(admin).await,
            Command::SetPolicy(set) => set.run(admin).await,
            Command::Snippet { stream, language } => {
                let path = format!("{}/snippets", schema::path_of(&stream));
                let print = |answer: &Value| output::print(&word(&answer[language.key()]));
                admin.run(Method::GET, &path, None, print).await
            }
            Command::Delete { stream, drop } => schema::delete(&stream, drop, admin).await,
        }
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
    parts.push(format!("\n{}", schema::columns(&body["schema"])));
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
