//! Black-box tests: each starts the built daemon on ports of its own, talks to it over sockets, and reads the Parquet
//! that it wrote with the `parquet` crate's reader. One binary, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod analyze;
mod archive;
mod body;
mod bucket;
mod cli;
mod columns;
mod config;
mod connections;
mod cors;
mod damage;
mod datasources;
mod durability;
mod faults;
mod first;
mod http2;
mod idempotency;
mod identity;
mod idle;
mod limits;
mod memory;
mod metrics;
mod notify;
mod openapi;
mod polaris;
mod polaris_jobs;
mod polaris_tables;
mod polaris_time;
mod policies;
mod proposals;
mod proxy;
mod quarantine;
mod real;
mod records;
mod replay;
mod s3;
mod samples;
mod schema_api;
mod streams;
mod support;
mod tinybird;
mod tinybird_tokens;
mod tls;
mod wire;
