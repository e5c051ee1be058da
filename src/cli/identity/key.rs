//! `forebay key`: lists, rotates and deletes the keys that sign tokens.

use super::super::client::{Admin, path_segment};
use super::super::output::{self, TextTable, word};
use super::seconds;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

/// List and rotate the keys that sign tokens.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct KeyArgs {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// List all keys, newest first.
    List,
    /// Create a new key, which signs tokens from now on.
    Rotate {
        /// How long tokens signed by older keys stay valid, such as 0s or 30d; by default as configured.
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        grace: Option<u64>,
    },
    /// Delete an old key. Tokens that it signed become invalid at once.
    Delete {
        /// ID of the key.
        kid: String,
    },
}

impl KeyArgs {
    pub(in crate::cli) async fn run(self) -> ExitCode {
        const KEYS: &str = "/admin/v1/keys";
        let admin = &self.admin;
        match &self.command {
            KeyCommand::List => {
                admin.run(Method::GET, KEYS, None, |body| output::print(&list(body).to_string())).await
            }
            KeyCommand::Rotate { grace } => {
                let body = json!({"grace": grace});
                let show = |key: &Value| output::print(&format!("{}\n", word(&key["kid"])));
                admin.run(Method::POST, &format!("{KEYS}/rotate"), Some(&body), show).await
            }
            KeyCommand::Delete { kid } => {
                admin.run(Method::DELETE, &format!("{KEYS}/{}", path_segment(kid)), None, |_| ()).await
            }
        }
    }
}

fn list(body: &Value) -> TextTable {
    let mut table = TextTable::new(&["key", "algorithm", "signs", "created", "valid until"]);
    for key in body["keys"].as_array().into_iter().flatten() {
        table.row([
            word(&key["kid"]),
            word(&key["algorithm"]),
            if key["signs"] == true { "yes" } else { "no" }.to_owned(),
            word(&key["created_at"]),
            word(&key["retires_at"]),
        ]);
    }
    table
}
