//! A client of the admin API, for the commands that query a running daemon.

use super::{EX_UNAVAILABLE, output};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

/// The timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(70);

/// Which daemon to query, and how to print its answer.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Admin {
    /// URL of the daemon's admin listener.
    #[arg(
        long = "admin-url",
        value_name = "URL",
        env = "FOREBAY_ADMIN_URL",
        default_value = "http://127.0.0.1:7172",
        global = true
    )]
    url: String,
    /// Admin token; not required by a daemon that runs with --dev.
    #[arg(long, value_name = "TOKEN", env = "FOREBAY_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("cannot reach the daemon at {url}")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("{url} answered {status}: {detail}")]
    Refused { url: String, status: u16, detail: String, problem: Box<Value> },
    #[error("the answer of {url} is not JSON; check that this is the admin listener")]
    NotJson { url: String },
}

impl AskError {
    /// Prints the error and returns the exit status.
    pub(super) fn fail(&self) -> ExitCode {
        output::fail(self, if matches!(self, Self::Unreachable { .. }) { EX_UNAVAILABLE } else { 1 })
    }
}

impl Admin {
    pub(super) fn client() -> reqwest::Result<reqwest::Client> {
        reqwest::Client::builder().timeout(TIMEOUT).build()
    }

    /// Sends one request and prints the answer: as JSON with `--json`, otherwise through `show`.
    pub(super) async fn run(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        show: impl FnOnce(&Value),
    ) -> ExitCode {
        self.run_as(method, path, |request| with_json(request, body), show).await
    }

    /// Like [`Self::run`], with bytes as the body.
    pub(super) async fn run_with(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        show: impl FnOnce(&Value),
    ) -> ExitCode {
        self.run_as(method, path, |request| request.body(body), show).await
    }

    async fn run_as(
        &self,
        method: Method,
        path: &str,
        body: impl FnOnce(RequestBuilder) -> RequestBuilder,
        show: impl FnOnce(&Value),
    ) -> ExitCode {
        let client = match Self::client() {
            Ok(client) => client,
            Err(error) => return output::fail(&error, 1),
        };
        match self.ask_as(&client, method, path, body).await {
            Ok(answer) if self.json => output::json(&answer),
            Ok(answer) => show(&answer),
            Err(error) => return error.fail(),
        }
        ExitCode::SUCCESS
    }

    /// Sends `GET` for a path such as `/admin/v1/status`.
    pub(super) async fn get(&self, client: &reqwest::Client, path: &str) -> Result<Value, AskError> {
        self.ask(client, Method::GET, path, None).await
    }

    /// Sends a request with an optional JSON body. An empty answer is returned as null.
    pub(super) async fn ask(
        &self,
        client: &reqwest::Client,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, AskError> {
        self.ask_as(client, method, path, |request| with_json(request, body)).await
    }

    async fn ask_as(
        &self,
        client: &reqwest::Client,
        method: Method,
        path: &str,
        body: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Value, AskError> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let mut request = client.request(method, &url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let request = body(request);
        let unreachable = |source| AskError::Unreachable { url: url.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        if status.is_success() && body.is_empty() {
            return Ok(Value::Null);
        }
        let Ok(body) = serde_json::from_slice::<Value>(&body) else {
            return Err(AskError::NotJson { url });
        };
        if status.is_success() {
            return Ok(body);
        }
        let detail = body["detail"].as_str().unwrap_or("").to_owned();
        Err(AskError::Refused { url, status: status.as_u16(), detail, problem: Box::new(body) })
    }
}

fn with_json(request: RequestBuilder, body: Option<&Value>) -> RequestBuilder {
    match body {
        Some(body) => request.json(body),
        None => request,
    }
}

/// Percent-encodes a text as one segment of a path.
pub(super) fn path_segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
