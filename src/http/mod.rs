//! The HTTP front end: two listeners, hand-rolled on hyper.
//!
//! The ingest listener takes records for the log; it knows nothing of what becomes of them. The admin listener answers
//! operators.

pub mod admin;
mod body;
pub mod console;
pub mod cors;
pub mod ingest;
pub mod limits;
mod metrics;
pub mod openapi;
pub mod transport;

pub use metrics::Metrics;
pub use transport::{CertificateFiles, Handler, Listener, Options, Tls, TlsError};

use crate::contracts;
use crate::contracts::route::Served;

/// Every route served on either listener, for those who compare.
pub fn routes() -> Vec<Served> {
    [admin::served(), contracts::routes()].concat()
}
