//! `forebay client`: OAuth clients, and API keys, which are the same.

use super::super::client::{Admin, path_segment};
use super::super::output::{self, Table, word};
use super::{seconds, show_once, words};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Make, list and delete OAuth clients (API keys), their secrets, and tokens for them.
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
                    AccessMetrics; streaming-ingest-api:write, api-token-issuer; or a scope such as ingest:STREAM"
        )]
        roles: Vec<String>,
        /// The project, or tenant, it is bound to.
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
    },
    /// List all clients.
    List,
    /// Make a token for a client that is good for days. It is printed this once, alone on standard output.
    Issue {
        /// Id or name of the client.
        client: String,
        /// How long it is good.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// List the tokens that were made for a client and have not expired.
    Tokens {
        /// Id or name of the client.
        client: String,
    },
    /// Put a new secret into use, which is printed this once. The one before, and the tokens made by it, stay good for a
    /// while; older ones cease at once.
    Rotate {
        /// Id or name of the client.
        client: String,
        /// How long the secret before stays good, such as 0s or 30d; otherwise as configured.
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        grace: Option<u64>,
    },
    /// Revoke at once the secrets before the one in use, with the tokens made by them.
    Revoke {
        /// Id or name of the client.
        client: String,
        /// The one in use as well: no token of the client is good until there is a new secret.
        #[arg(long)]
        all: bool,
    },
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
        let of = |client: &str, what: &str| format!("{CLIENTS}/{}/{what}", path_segment(client));
        let show_secret = |made: &Value| {
            let id = word(&made["client_id"]);
            let about = format!("The secret of client {id}, shown this once: it is stored as a hash only.");
            show_once(&made["client_secret"], &about);
        };
        match &self.command {
            Command::Create { name, roles, project } => {
                let body = json!({"name": name, "roles": roles, "project": project});
                admin.run(Method::POST, CLIENTS, Some(&body), show_secret).await
            }
            Command::List => {
                admin.run(Method::GET, CLIENTS, None, |body| output::print(&list(body).to_string())).await
            }
            Command::Issue { client, days } => {
                let show = |made: &Value| {
                    let about = format!(
                        "The token, good until {}, shown this once: it is not stored.",
                        word(&made["expires_at"])
                    );
                    show_once(&made["token"], &about);
                };
                admin.run(Method::POST, &of(client, "tokens"), Some(&json!({"days": days})), show).await
            }
            Command::Tokens { client } => {
                let show = |body: &Value| output::print(&tokens(body).to_string());
                admin.run(Method::GET, &of(client, "tokens"), None, show).await
            }
            Command::Rotate { client, grace } => {
                let body = json!({"grace": grace});
                admin.run(Method::POST, &of(client, "secrets"), Some(&body), show_secret).await
            }
            Command::Revoke { client, all } => {
                let path = format!("{}?all={all}", of(client, "secrets"));
                admin.run(Method::DELETE, &path, None, |_| ()).await
            }
            Command::Delete { client } => {
                let path = format!("{CLIENTS}/{}", path_segment(client));
                admin.run(Method::DELETE, &path, None, |_| ()).await
            }
        }
    }
}

fn tokens(body: &Value) -> Table {
    let mut table = Table::new(&["token", "secret", "made by", "made", "good until"]);
    for token in body["tokens"].as_array().into_iter().flatten() {
        let columns = ["id", "secret", "made_by", "created_at", "expires_at"];
        table.row(columns.map(|column| word(&token[column])));
    }
    table
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
