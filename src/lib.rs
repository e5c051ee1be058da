//! Forebay: receives events over HTTP, writes them to a write-ahead log before it answers, and stores them as Parquet.
//!
//! The modules are in reading order; `docs/ARCHITECTURE.md` gives the overview.

pub mod cli;
pub mod config;
pub mod daemon;

pub mod contracts;
pub mod http;

pub mod columns;
pub mod formats;
pub mod mapping;
pub mod schema;

pub mod storage;
pub mod wal;

pub mod compactor;
pub mod read;

pub mod auth;
pub mod catalog;
pub mod idempotency;
pub mod offsets;
pub mod progress;

pub mod batch;
pub mod clock;
pub mod error;
pub mod metrics;
