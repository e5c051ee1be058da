//! Forebay: events in over HTTP, a write-ahead log before the answer, Parquet out. See `docs/ARCHITECTURE.md`.

pub mod clock;
pub mod error;
pub mod json;
pub mod metrics;
pub mod storage;
pub mod wal;
