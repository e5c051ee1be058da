//! The HTTP front end: two listeners, hand-rolled on hyper.
//!
//! The ingest listener takes records for the log; it knows nothing of what becomes of them. The admin listener answers
//! operators.

pub mod admin;
pub mod auth;
mod body;
pub mod dialect;
pub mod ingest;
pub mod reject;
pub mod route;
mod transport;

pub use transport::{Handler, Listener, Options};
