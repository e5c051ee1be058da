//! What the compactor is told: its settings, and when to stop.

use super::partition::PartitionBy;
use crate::columns::Limits;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of staged files, and below it of unfinished ones.
    pub staged_dir: PathBuf,
    /// Goes into object names: LSNs are per node.
    pub node: String,
    /// A file is closed when its first row is this old,
    pub max_age: Duration,
    /// or its last,
    pub max_idle: Option<Duration>,
    /// or it has this many encoded bytes,
    pub max_bytes: u64,
    /// or this many rows.
    pub max_rows: u64,
    /// Memory for rows and unfinished row groups of all streams.
    pub memory_max: usize,
    pub limits: Limits,
    pub partition_by: PartitionBy,
    /// How long a request that waits for its file gathers others.
    pub linger: Duration,
    /// How long a staged file is tried to be published.
    pub retention: Duration,
    /// Read the log and forget it: to measure the accept path alone.
    pub discard: bool,
}

/// What the loop is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Run,
    /// Read to the end of the closed log, register everything, and end.
    Drain,
    /// End as soon as possible; the next start reads again what is not registered.
    Now,
}
