//! `forebay token`: creates, lists, refreshes and revokes tokens.

use super::super::client::{Admin, path_segment};
use super::super::output::{self, TextTable, word};
use super::{seconds, show_once, words};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Create, list and revoke tokens.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TokenArgs {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TokenCommand {
    /// Create a token. It is printed once, alone on standard output.
    Create(CreateTokenArgs),
    /// List all tokens.
    List,
    /// Revoke a token at once.
    Revoke {
        /// ID or name of the token.
        #[arg(value_name = "TOKEN")]
        id: String,
    },
    /// Give a token a new value. The old value becomes invalid at once.
    Refresh {
        /// ID or name of the token.
        #[arg(value_name = "TOKEN")]
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct CreateTokenArgs {
    /// Name of the token.
    name: String,
    /// Scope to grant: ingest:STREAM, read:STREAM, drop:STREAM (STREAM may be *), create, tokens, metrics, admin.
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<String>,
    /// Kind of token.
    #[arg(long, value_enum, default_value = "token")]
    kind: TokenKindArg,
    /// Description of the token.
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Lifetime of the token, such as 12h or 30d.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<u64>,
    #[arg(
        long = "origin",
        value_name = "ORIGIN",
        help = "Origin whose pages may use the token, such as https://www.example.com; other clients then may not"
    )]
    origins: Vec<String>,
    /// Requests per second; overrides the configured limit.
    #[arg(long, value_name = "NUMBER")]
    rps: Option<u32>,
    /// Project that the token is bound to, for contracts that have projects.
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TokenKindArg {
    /// Sent as is with each request; only a hash of it is stored.
    Token,
    /// Like token, for contracts that call it an API key.
    ApiKey,
    /// A key to sign your own tokens with (HS256); it is stored as is.
    Signing,
    /// Signed by the daemon and not stored: it cannot be revoked, so it must expire.
    Jwt,
}

impl CreateTokenArgs {
    fn body(&self) -> Value {
        let mut body = json!({
            "name": self.name,
            "kind": match self.kind {
                TokenKindArg::Token => "token",
                TokenKindArg::ApiKey => "api_key",
                TokenKindArg::Signing => "signing",
                TokenKindArg::Jwt => "jwt",
            },
            "description": self.description,
            "scopes": self.scopes,
        });
        if let Some(seconds) = self.expires {
            body["expires_in"] = seconds.into();
        }
        if !self.origins.is_empty() {
            body["origins"] = json!(self.origins);
        }
        if let Some(rps) = self.rps {
            body["rps"] = rps.into();
        }
        if let Some(project) = &self.project {
            body["project"] = json!(project);
        }
        body
    }
}

impl TokenArgs {
    pub(in crate::cli) async fn run(self) -> ExitCode {
        const TOKENS: &str = "/admin/v1/tokens";
        let admin = &self.admin;
        let one = |id: &str| format!("{TOKENS}/{}", path_segment(id));
        match &self.command {
            TokenCommand::Create(create) => {
                let body = create.body();
                let kept = match create.kind {
                    TokenKindArg::Signing => "Shown only once. Anyone who has it can sign tokens.",
                    TokenKindArg::Jwt => "Shown only once: it is not stored.",
                    TokenKindArg::Token | TokenKindArg::ApiKey => {
                        "Shown only once: Forebay stores only a hash of it."
                    }
                };
                admin.run(Method::POST, TOKENS, Some(&body), |made| show_once(&made["token"], kept)).await
            }
            TokenCommand::List => {
                admin.run(Method::GET, TOKENS, None, |body| output::print(&list(body).to_string())).await
            }
            TokenCommand::Revoke { id } => admin.run(Method::DELETE, &one(id), None, |_| ()).await,
            TokenCommand::Refresh { id } => {
                let about = "Shown only once. The old value is revoked.";
                let show = |made: &Value| show_once(&made["token"], about);
                admin.run(Method::POST, &format!("{}/refresh", one(id)), None, show).await
            }
        }
    }
}

fn list(body: &Value) -> TextTable {
    let mut table = TextTable::new(&["name", "kind", "token", "scopes", "expires", "origins", "id"]);
    for token in body["tokens"].as_array().into_iter().flatten() {
        let expired = if token["expired"] == true { " (expired)" } else { "" };
        table.row([
            word(&token["name"]),
            word(&token["kind"]),
            word(&token["hint"]),
            words(&token["scopes"]),
            format!("{}{expired}", word(&token["expires_at"])),
            words(&token["origins"]),
            word(&token["id"]),
        ]);
    }
    table
}
