//! `forebay client`.

use super::super::client::{Admin, path_segment};
use super::super::output::{self, Table, word};
use super::{show_once, words};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Make, list and delete OAuth clients, which get short-lived tokens for their id and secret.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Client {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a client. Its secret is printed this once, alone on standard output.
    Create {
        /// What it is for.
        name: String,
        #[arg(
            long = "role",
            value_name = "ROLE",
            required = true,
            help = "What it may do: ManageStreams, ManageConnections, ManageTables, ManageIngestionJobs, \
                    AccessMetrics, or a scope such as ingest:STREAM"
        )]
        roles: Vec<String>,
        /// The project it is bound to.
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
    },
    /// List all clients.
    List,
    /// Delete a client. The tokens that it got cease at once.
    Delete {
        /// Id or name of the client.
        client: String,
    },
}

impl Client {
    pub(in crate::cli) async fn run(self) -> ExitCode {
        const CLIENTS: &str = "/admin/v1/clients";
        let admin = &self.admin;
        match &self.command {
            Command::Create { name, roles, project } => {
                let body = json!({"name": name, "roles": roles, "project": project});
                let show = |made: &Value| {
                    let id = word(&made["client_id"]);
                    let about =
                        format!("The secret of client {id}, shown this once: it is stored as a hash only.");
                    show_once(&made["client_secret"], &about);
                };
                admin.run(Method::POST, CLIENTS, Some(&body), show).await
            }
            Command::List => {
                admin.run(Method::GET, CLIENTS, None, |body| output::print(&list(body).to_string())).await
            }
            Command::Delete { client } => {
                let path = format!("{CLIENTS}/{}", path_segment(client));
                admin.run(Method::DELETE, &path, None, |_| ()).await
            }
        }
    }
}

fn list(body: &Value) -> Table {
    let mut table = Table::new(&["name", "client id", "roles", "scopes", "project", "created"]);
    for client in body["clients"].as_array().into_iter().flatten() {
        table.row([
            word(&client["name"]),
            word(&client["client_id"]),
            words(&client["roles"]),
            words(&client["scopes"]),
            word(&client["project"]),
            word(&client["created_at"]),
        ]);
    }
    table
}
