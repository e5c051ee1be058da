//! The compactor: follows the log, turns records into columns, and columns into files at their destination.
//!
//! It reads durable frames only, each once, and routes every record to its stream's [`table`]. A file that is
//! finished is synced, staged and registered together with its stream's checkpoint in one transaction, and from then
//! on belongs to the [`publish`]er; only then may the log be trimmed. When anything here fails, all that is not
//! registered is forgotten and read from the log again: the way of a crash is the only way of failing.

mod config;
mod dropped;
mod give;
mod handle;
pub mod landing;
mod metrics;
mod name;
pub mod parquet;
pub mod partition;
mod publish;
mod quarantine;
mod replay;
mod rules;
mod run;
pub mod sink;
mod table;

pub use config::Config;
pub use handle::{Compactor, Handles, StartError};
pub use metrics::Metrics;
pub use name::staged as staged_name;
