//! Forebay: events in over HTTP, a write-ahead log before the answer, Parquet out.
//!
//! In reading order; `docs/ARCHITECTURE.md` draws the picture.

pub mod cli;
pub mod config;
pub mod daemon;

pub mod batch;
pub mod columns;
pub mod json;
pub mod mapping;
pub mod otlp;
pub mod sample;
pub mod schema;

pub mod storage;
pub mod wal;

pub mod catalog;
pub mod compactor;
pub mod idempotency;
pub mod limits;
pub mod mapped;
pub mod offsets;
pub mod preview;
pub mod progress;
pub mod quarantined;

pub mod auth;
pub mod console;
pub mod control;
pub mod feeds;
pub mod foundry;
pub mod http;
pub mod receivers;

pub mod clock;
pub mod error;
pub mod metrics;
