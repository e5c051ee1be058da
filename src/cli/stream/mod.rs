//! `forebay stream`: shows and manages streams, their schemas and their policies.

mod create;
mod schema;

use super::client::Admin;
use super::output::{self, TextTable, count, size, word};
use reqwest::Method;
use serde_json::Value;
use std::process::ExitCode;

/// Show and manage streams, their schemas and their policies.
#[derive(Debug, clap::Args)]
pub(super) struct StreamArgs {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    command: StreamCommand,
}

#[derive(Debug, clap::Subcommand)]
enum StreamCommand {
    /// List all streams with their counts.
    List,
    /// Show the schema, counts, files and misfits of a stream.
    Show {
        /// Name or ID of the stream.
        stream: String,
    },
    /// Create a stream, optionally with columns derived from a file of records.
    Create(create::CreateStreamArgs),
    /// Show or change the columns of a stream.
    Schema(schema::SchemaArgs),
    /// Show the fields without a column that a stream with policy `propose` has received.
    Proposals {
        /// Name or ID of the stream.
        stream: String,
    },
    /// Accept proposed fields as columns: new records fill them from now on.
    Accept(schema::AcceptArgs),
    /// Stop proposing fields. Their values are still kept in `_rescued`.
    Dismiss(schema::DismissArgs),
    /// Change how a stream handles records that do not fit its columns.
    SetPolicy(schema::SetPolicyArgs),
    /// Print a code example that sends a record to a stream, with the stream's own address and fields.
    Snippet {
        /// Name or ID of the stream.
        stream: String,
        /// Language of the example.
        #[arg(long, value_enum, default_value_t = SnippetLanguage::Curl)]
        language: SnippetLanguage,
    },
    /// Delete a stream. Its records in the log are still written to files; published files stay.
    Delete {
        /// Name or ID of the stream.
        stream: String,
        /// Also drop the table: remove its files from the destination, and publish no more.
        #[arg(long)]
        drop: bool,
    },
}

/// The languages of code examples.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SnippetLanguage {
    Curl,
    Python,
    Javascript,
    Java,
}

impl SnippetLanguage {
    fn key(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Python => "python",
            Self::Javascript => "javascript",
            Self::Java => "java",
        }
    }
}

impl StreamArgs {
    pub(super) async fn run(self) -> ExitCode {
        let admin = &self.admin;
        match self.command {
            StreamCommand::List => {
                admin.run(Method::GET, "/admin/v1/streams", None, |answer| output::print(&list(answer))).await
            }
            StreamCommand::Show { stream } => {
                let path = schema::path_of(&stream);
                admin.run(Method::GET, &path, None, |answer| output::print(&show(answer))).await
            }
            StreamCommand::Create(create) => create.run(admin).await,
            StreamCommand::Schema(schema) => schema.run(admin).await,
            StreamCommand::Proposals { stream } => schema::proposals(&stream, admin).await,
            StreamCommand::Accept(accept) => accept.run(admin).await,
            StreamCommand::Dismiss(dismiss) => dismiss.run(admin).await,
            StreamCommand::SetPolicy(set) => set.run(admin).await,
            StreamCommand::Snippet { stream, language } => {
                let path = format!("{}/snippets", schema::path_of(&stream));
                let print = |answer: &Value| output::print(&word(&answer[language.key()]));
                admin.run(Method::GET, &path, None, print).await
            }
            StreamCommand::Delete { stream, drop } => schema::delete(&stream, drop, admin).await,
        }
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn list(body: &Value) -> String {
    let mut table = TextTable::new(&["name", "policy", ">rows", ">quarantined", ">checkpoint", "created"]);
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
        parts.push(format!("\nvalues that did not fit, kept in _rescued\n{}", misfits(&body["misfits"])));
    }
    parts.concat()
}

fn files(totals: &Value) -> TextTable {
    let mut table = TextTable::new(&["files", "kind", ">count", ">rows", ">size"]);
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

fn misfits(misfits: &Value) -> TextTable {
    let mut table = TextTable::new(&["path", "values", ">count", "column type", "proposed type", "example"]);
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
