//! The HTTP front end: two listeners, built directly on hyper.
//!
//! The ingest listener accepts records and appends them to the log; what happens to them afterwards is left to others.
//! The admin listener serves operators.

pub mod admin;
mod body;
pub mod console;
pub mod cors;
pub mod ingest;
pub mod limits;
mod metrics;
pub mod openapi;
pub mod transport;

pub use metrics::HttpMetrics;
pub use transport::{CertificateFiles, ConnectionOptions, Handler, Listener, Tls, TlsError};

use crate::contracts;
use crate::contracts::route::RouteInfo;

/// All routes of both listeners, for tests that compare them with the `OpenAPI` document.
pub fn routes() -> Vec<RouteInfo> {
    [admin::served(), contracts::routes()].concat()
}
