//! The HTTP front end: two listeners, hand-rolled on hyper.
//!
//! The ingest listener takes records for the log; it knows nothing of what becomes of them. The admin listener answers
//! operators.

pub mod admin;
mod body;
pub mod cors;
pub mod dialect;
pub mod ingest;
pub mod openapi;
pub mod reject;
pub mod request_id;
pub mod route;
pub mod transport;

pub use transport::{CertificateFiles, Handler, Listener, Options, Tls, TlsError};

/// Every route served on either listener, as method and template, for those who compare.
pub fn routes() -> Vec<(&'static str, &'static str)> {
    let admin = admin::ROUTES.iter().map(|route| (route.method, route.template));
    let dialects = dialect::DIALECTS.iter().flat_map(|dialect| dialect.routes());
    admin.chain(dialects).collect()
}
