//! `forebay client`: manages OAuth clients. An API key is also a client.

use super::super::client::{Admin, path_segment};
use super::super::output::{self, TextTable, word};
use super::{seconds, show_once, words};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Create, list and delete OAuth clients (API keys), and manage their secrets and tokens.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ClientArgs {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    command: ClientCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ClientCommand {
    /// Create a client. Its secret is printed once, alone on standard output.
    Create {
        /// Name of the client.
        name: String,
        #[arg(
            long = "role",
            value_name = "ROLE",
            required = true,
            help = "Role to grant: ManageStreams, ManageConnections, ManageTables, ManageIngestionJobs, \
                    AccessMetrics; streaming-ingest-api:write, api-token-issuer; or a scope such as ingest:STREAM"
        )]
        roles: Vec<String>,
        /// Project (tenant) that the client is bound to.
        #[arg(long, value_name = "PROJECT")]
        project: Option<String>,
    },
    /// List all clients.
    List,
    /// Issue a token for a client, valid for a number of days. It is printed once, alone on standard output.
    Issue {
        /// ID or name of the client.
        client: String,
        /// Validity of the token, in days.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// List the tokens that were issued for a client and have not expired.
    Tokens {
        /// ID or name of the client.
        client: String,
    },
    /// Create a new secret and print it once. The previous secret and the tokens issued with it stay valid for a while;
    /// older ones become invalid at once.
    Rotate {
        /// ID or name of the client.
        client: String,
        /// How long the previous secret stays valid, such as 0s or 30d; by default as configured.
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        grace: Option<u64>,
    },
    /// Revoke all secrets before the current one at once, with the tokens issued with them.
    Revoke {
        /// ID or name of the client.
        client: String,
        /// Revoke the current secret too: no token of the client is valid until it has a new secret.
        #[arg(long)]
        all: bool,
    },
    /// Delete a client. Its tokens become invalid at once.
    Delete {
        /// ID or name of the client.
        client: String,
    },
}

impl ClientArgs {
    pub(in crate::cli) async fn run(self) -> ExitCode {
        const CLIENTS: &str = "/admin/v1/clients";
        let admin = &self.admin;
        let of = |client: &str, what: &str| format!("{CLIENTS}/{}/{what}", path_segment(client));
        let show_secret = |made: &Value| {
            let id = word(&made["client_id"]);
            let about = format!(
                "The secret of client {id}. It is shown only once: Forebay stores only a hash of it."
            );
            show_once(&made["client_secret"], &about);
        };
        match &self.command {
            ClientCommand::Create { name, roles, project } => {
                let body = json!({"name": name, "roles": roles, "project": project});
                admin.run(Method::POST, CLIENTS, Some(&body), show_secret).await
            }
            ClientCommand::List => {
                admin.run(Method::GET, CLIENTS, None, |body| output::print(&list(body).to_string())).await
            }
            ClientCommand::Issue { client, days } => {
                let show = |made: &Value| {
                    let about = format!(
                        "The token is valid until {}. It is shown only once and is not stored.",
                        word(&made["expires_at"])
                    );
                    show_once(&made["token"], &about);
                };
                admin.run(Method::POST, &of(client, "tokens"), Some(&json!({"days": days})), show).await
            }
            ClientCommand::Tokens { client } => {
                let show = |body: &Value| output::print(&tokens(body).to_string());
                admin.run(Method::GET, &of(client, "tokens"), None, show).await
            }
            ClientCommand::Rotate { client, grace } => {
                let body = json!({"grace": grace});
                admin.run(Method::POST, &of(client, "secrets"), Some(&body), show_secret).await
            }
            ClientCommand::Revoke { client, all } => {
                let path = format!("{}?all={all}", of(client, "secrets"));
                admin.run(Method::DELETE, &path, None, |_| ()).await
            }
            ClientCommand::Delete { client } => {
                let path = format!("{CLIENTS}/{}", path_segment(client));
                admin.run(Method::DELETE, &path, None, |_| ()).await
            }
        }
    }
}

fn tokens(body: &Value) -> TextTable {
    let mut table = TextTable::new(&["token", "secret", "created by", "created", "valid until"]);
    for token in body["tokens"].as_array().into_iter().flatten() {
        let columns = ["id", "secret", "made_by", "created_at", "expires_at"];
        table.row(columns.map(|column| word(&token[column])));
    }
    table
}

fn list(body: &Value) -> TextTable {
    let mut table = TextTable::new(&["name", "client id", "roles", "scopes", "project", "created"]);
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
