//! Sends one batch to the daemon, with retries until it is accepted.

use super::{LineBatch, LoadArgs, WaitArg};
use indicatif::ProgressBar;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The first and the longest backoff before a retry. Each wait is drawn at random between half of it and all of it.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// Longer than the daemon takes to answer `wait=table`.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Sends batches to one stream.
#[derive(Clone)]
pub(super) struct Sender {
    client: reqwest::Client,
    url: reqwest::Url,
    token: Option<String>,
    retry_for: Duration,
}

/// The result of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) stored: u64,
    pub(super) quarantined: u64,
    pub(super) bytes: u64,
    pub(super) retries: u64,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("{0:?} is not a valid URL of a daemon")]
    Url(String),
    #[error("cannot create an HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("{}: the daemon refused the batch that starts at line {line}: {status}: {message}", .path.display())]
    Refused { path: PathBuf, line: u64, status: StatusCode, message: String },
    #[error("{}: the batch that starts at line {line}: gave up after {tries} tries: {last}", .path.display())]
    GaveUp { path: PathBuf, line: u64, tries: u64, last: String },
}

/// The daemon's answer to an accepted batch.
#[derive(Deserialize)]
struct BatchAnswer {
    successful_rows: u64,
    quarantined_rows: u64,
}

/// The outcome of one attempt.
enum SendOutcome {
    Accepted(BatchAnswer),
    Refused(StatusCode, String),
    /// Retry, after this pause if the daemon asked for one.
    Later(String, Option<Duration>),
}

impl Sender {
    pub(super) fn new(load: &LoadArgs) -> Result<Self, SendError> {
        let base = load.url.trim_end_matches('/');
        let mut url = reqwest::Url::parse(&format!("{base}/v0/events"))
            .ok()
            .filter(reqwest::Url::has_host)
            .ok_or_else(|| SendError::Url(load.url.clone()))?;
        url.query_pairs_mut().append_pair("name", &load.stream);
        match load.wait {
            WaitArg::Append => {}
            WaitArg::Sync => drop(url.query_pairs_mut().append_pair("wait", "true")),
            WaitArg::Table => drop(url.query_pairs_mut().append_pair("wait", "table")),
        }
        let client = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(SendError::Client)?;
        let retry_for = Duration::from_secs(load.retry_for);
        Ok(Self { client, url, token: load.token.clone(), retry_for })
    }

    /// Sends a batch until it is accepted or refused for good, or `retry_for` is over.
    pub(super) async fn send(
        &self,
        batch: LineBatch,
        path: &Path,
        bar: &ProgressBar,
    ) -> Result<Sent, SendError> {
        let began = Instant::now();
        let body = bytes::Bytes::from(batch.body);
        let mut retries = 0;
        let mut backoff = BACKOFF_MIN;
        loop {
            let (last, pause) = match self.try_once(body.clone()).await {
                SendOutcome::Accepted(counts) => {
                    return Ok(Sent {
                        stored: counts.successful_rows,
                        quarantined: counts.quarantined_rows,
                        bytes: body.len() as u64,
                        retries,
                    });
                }
                SendOutcome::Refused(status, message) => {
                    let (path, line) = (path.to_owned(), batch.first_line);
                    return Err(SendError::Refused { path, line, status, message });
                }
                SendOutcome::Later(last, pause) => (last, pause),
            };
            let pause = pause.unwrap_or(Duration::ZERO).max(backoff.mul_f64(0.5 + 0.5 * fastrand::f64()));
            retries += 1;
            if began.elapsed() + pause > self.retry_for {
                let (path, line) = (path.to_owned(), batch.first_line);
                return Err(SendError::GaveUp { path, line, tries: retries, last });
            }
            bar.set_message(format!("retry in {:.1} s: {last}", pause.as_secs_f64()));
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn try_once(&self, body: bytes::Bytes) -> SendOutcome {
        let mut request = self.client.post(self.url.clone()).body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return SendOutcome::Later(crate::error::chain(&error), None),
        };
        let status = response.status();
        let pause = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        let pause = pause.map(Duration::from_secs);
        let text = match response.text().await {
            Ok(text) => text,
            Err(error) => return SendOutcome::Later(crate::error::chain(&error), pause),
        };
        if status.is_success() {
            return match serde_json::from_str(&text) {
                Ok(counts) => SendOutcome::Accepted(counts),
                Err(_) => SendOutcome::Refused(
                    status,
                    "the answer has no row counts; check that the URL is that of a Forebay daemon".to_owned(),
                ),
            };
        }
        let message = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|answer| answer["error"].as_str().map(str::to_owned))
            .unwrap_or(text);
        if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
            SendOutcome::Later(format!("{status}: {message}"), pause)
        } else {
            SendOutcome::Refused(status, message)
        }
    }
}
