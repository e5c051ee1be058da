//! The compactor: follows the log, turns records into columns, and columns into files at their destination.
//!
//! It reads only durable frames, each once, and routes every record to its stream's [`table`]. A finished file is
//! synced, staged and registered together with its stream's checkpoint in one transaction; from then on it belongs
//! to the [`publish`]er, and only then may the log be trimmed. When anything here fails, everything that is not
//! registered is discarded and read from the log again: every failure takes the same path as a crash.

pub mod checksum;
mod config;
mod dropped;
mod give;
mod handle;
pub mod landing;
mod leftovers;
mod metrics;
mod name;
pub mod parquet;
pub mod partition;
mod publish;
mod quarantine;
mod remake;
mod replay;
mod rules;
mod run;
pub mod sink;
pub mod staged;
mod table;

pub use config::CompactorConfig;
pub use handle::{Compactor, Handles, StartError};
pub use metrics::CompactorMetrics;
pub use name::staged as staged_name;
