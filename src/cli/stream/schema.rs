//! `forebay stream schema|proposals|accept|dismiss|set-policy|delete`: manages the schema and policy of a stream.

use super::items;
use crate::cli::client::{Admin, path_segment};
use crate::cli::output::{self, TextTable, count, word};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit status if the input cannot be read (`sysexits.h`).
const EX_NOINPUT: u8 = 66;

#[derive(Debug, clap::Args)]
pub(super) struct SchemaArgs {
    /// Name or ID of the stream.
    stream: String,
    /// Show all versions.
    #[arg(long, conflicts_with = "set")]
    versions: bool,
    /// Replace the columns with those in a file (JSON: a list of columns, or the output of this command with --json).
    #[arg(long, value_name = "FILE")]
    set: Option<PathBuf>,
    /// Version that the change is based on; the current one by default.
    #[arg(long, value_name = "VERSION", requires = "set")]
    expect: Option<u32>,
    #[command(flatten)]
    how: ChangeArgs,
}

/// Options of a change.
#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// Print what would change, and change nothing.
    #[arg(long)]
    dry: bool,
    /// Apply even if values that are stored now would no longer be. Accepted requests stay in the log and the archive.
    #[arg(long)]
    force: bool,
}

impl ChangeArgs {
    fn query(&self) -> String {
        format!("?dry={}&force={}", self.dry, self.force)
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct AcceptArgs {
    /// Name or ID of the stream.
    stream: String,
    /// Proposed fields; `o.a` for field `a` within `o`, `FIELD=TYPE` to override the proposed type.
    #[arg(required_unless_present = "all")]
    fields: Vec<String>,
    /// Accept all proposed fields.
    #[arg(long, conflicts_with = "fields")]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DismissArgs {
    /// Name or ID of the stream.
    stream: String,
    /// Proposed fields; `o.a` for field `a` within `o`.
    #[arg(required_unless_present = "all")]
    fields: Vec<String>,
    /// Dismiss all fields that are proposed now.
    #[arg(long, conflicts_with = "fields")]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct SetPolicyArgs {
    /// Name or ID of the stream.
    stream: String,
    #[arg(value_parser = ["evolve", "propose", "strict", "raw"])]
    policy: String,
    #[command(flatten)]
    how: ChangeArgs,
}

pub(super) fn path_of(stream: &str) -> String {
    format!("/admin/v1/streams/{}", path_segment(stream))
}

impl SchemaArgs {
    pub(super) async fn run(self, admin: &Admin) -> ExitCode {
        let path = format!("{}/schema", path_of(&self.stream));
        if self.versions {
            let path = format!("{path}/versions");
            return admin.run(Method::GET, &path, None, |answer| output::print(&versions(answer))).await;
        }
        let Some(file) = &self.set else {
            return admin.run(Method::GET, &path, None, |answer| output::print(&columns(answer))).await;
        };
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                return output::fail_with(&format!("cannot read {}: {error}", file.display()), EX_NOINPUT);
            }
        };
        let declared: Value = match serde_json::from_str(&text) {
            // The daemon refuses null, and says what it expects.
            Ok(Value::Object(mut schema)) => schema.remove("columns").unwrap_or(Value::Null),
            Ok(columns) => columns,
            Err(error) => {
                return output::fail_with(
                    &format!("{} is not valid JSON: {error}", file.display()),
                    EX_NOINPUT,
                );
            }
        };
        let version = match self.expect {
            Some(version) => json!(version),
            None => match now(admin, &path).await {
                Ok(now) => now["version"].clone(),
                Err(failed) => return failed,
            },
        };
        let body = json!({"version": version, "columns": declared});
        let path = format!("{path}{}", self.how.query());
        admin
            .run(Method::PUT, &path, Some(&body), |answer| {
                output::print(&changed(answer, &answer["version"]));
            })
            .await
    }
}

/// Fetches the current state at a path.
async fn now(admin: &Admin, path: &str) -> Result<Value, ExitCode> {
    let client = Admin::client().map_err(|error| output::fail(&error, 1))?;
    admin.get(&client, path).await.map_err(|error| error.fail())
}

pub(super) async fn proposals(stream: &str, admin: &Admin) -> ExitCode {
    let path = format!("{}/schema/proposals", path_of(stream));
    admin.run(Method::GET, &path, None, |answer| output::print(&proposed(answer))).await
}

impl AcceptArgs {
    pub(super) async fn run(self, admin: &Admin) -> ExitCode {
        let path = format!("{}/schema/proposals", path_of(&self.stream));
        let answer = match now(admin, &path).await {
            Ok(answer) => answer,
            Err(failed) => return failed,
        };
        let mut accept = json!("all");
        if !self.all {
            let mut some = Vec::new();
            for field in &self.fields {
                match find(items(&answer["proposals"]), field) {
                    Some(one) => some.push(one),
                    None => return output::fail_with(&format!("field {field:?} is not proposed"), 1),
                }
            }
            accept = Value::Array(some);
        }
        let body = json!({"version": answer["version"], "accept": accept});
        admin.run(Method::POST, &path, Some(&body), |answer| output::print(&columns(answer))).await
    }
}

impl DismissArgs {
    pub(super) async fn run(self, admin: &Admin) -> ExitCode {
        let path = format!("{}/schema/proposals", path_of(&self.stream));
        if self.all {
            return admin.run(Method::DELETE, &path, None, |_| {}).await;
        }
        for field in &self.fields {
            let path = format!("{path}/{}", path_segment(field));
            let ended = admin.run(Method::DELETE, &path, None, |_| {}).await;
            if ended != ExitCode::SUCCESS {
                return ended;
            }
        }
        ExitCode::SUCCESS
    }
}

/// Finds the proposal for `FIELD` or `FIELD=TYPE`.
fn find(proposals: &[Value], field: &str) -> Option<Value> {
    let named = |name: &str| {
        proposals.iter().find(|proposal| {
            let keys: Vec<&str> = items(&proposal["path"]).iter().filter_map(Value::as_str).collect();
            keys.join(".") == name
        })
    };
    if let Some(proposal) = named(field) {
        return Some(json!({"path": proposal["path"]}));
    }
    let (name, kind) = field.rsplit_once('=')?;
    Some(json!({"path": named(name)?["path"], "type": kind}))
}

impl SetPolicyArgs {
    pub(super) async fn run(self, admin: &Admin) -> ExitCode {
        let path = format!("{}{}", path_of(&self.stream), self.how.query());
        let body = json!({"policy": self.policy});
        let show = |answer: &Value| output::print(&changed(answer, &answer["schema"]["version"]));
        admin.run(Method::PATCH, &path, Some(&body), show).await
    }
}

pub(super) async fn delete(stream: &str, drop: bool, admin: &Admin) -> ExitCode {
    let path = path_of(stream);
    let path = if drop { format!("{path}?drop=true") } else { path };
    admin.run(Method::DELETE, &path, None, |_| {}).await
}

/// The columns of a schema.
pub(super) fn columns(schema: &Value) -> String {
    let mut table = TextTable::new(&["column", "type", "nullable", "default", "path"]);
    for column in items(&schema["columns"]) {
        let keys: Vec<String> = items(&column["path"]).iter().map(word).collect();
        let nullable = if column["nullable"] == json!(false) { "no" } else { "yes" };
        let default = column.get("default").map_or("-".to_owned(), Value::to_string);
        let path = if keys.is_empty() { "-".to_owned() } else { keys.join(".") };
        table.row([word(&column["name"]), word(&column["type"]), nullable.to_owned(), default, path]);
    }
    format!("schema, version {}\n{table}", count(&schema["version"]))
}

fn versions(answer: &Value) -> String {
    let mut table = TextTable::new(&[">version", "policy", ">columns", "created"]);
    for version in items(&answer["versions"]) {
        let columns = items(&version["columns"]).len().to_string();
        table.row([
            count(&version["version"]),
            word(&version["policy"]),
            columns,
            word(&version["created_at"]),
        ]);
    }
    table.to_string()
}

fn proposed(answer: &Value) -> String {
    let mut table = TextTable::new(&["field", "type", ">count", "first", "last", "examples"]);
    for proposal in items(&answer["proposals"]) {
        let keys: Vec<String> = items(&proposal["path"]).iter().map(word).collect();
        let examples: Vec<String> = items(&proposal["examples"]).iter().map(word).collect();
        table.row([
            keys.join("."),
            word(&proposal["type"]),
            count(&proposal["count"]),
            word(&proposal["first_at"]),
            word(&proposal["last_at"]),
            examples.join("  "),
        ]);
    }
    table.to_string()
}

fn changed(answer: &Value, version: &Value) -> String {
    let mut lines: Vec<String> = Vec::new();
    for change in items(&answer["changes"]) {
        let loses = if change["loses_data"] == json!(true) { "  (loses data)" } else { "" };
        lines.push(format!("{}{loses}\n", word(&change["text"])));
    }
    lines.push(format!("version {}\n", count(version)));
    lines.concat()
}
