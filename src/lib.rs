//! Forebay: events in over HTTP, a write-ahead log before the answer, Parquet out. See `docs/ARCHITECTURE.md`.

pub mod batch;
pub mod catalog;
pub mod clock;
pub mod compactor;
pub mod error;
pub mod json;
pub mod metrics;
pub mod progress;
pub mod schema;
pub mod storage;
pub mod wal;
