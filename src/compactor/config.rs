//! The compactor's settings and its stop signal.

use super::partition::PartitionBy;
use crate::columns::RowLimits;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct CompactorConfig {
    /// The directory of staged files; unfinished files are in a subdirectory.
    pub staged_dir: PathBuf,
    /// Part of object names: LSNs are per node.
    pub node: String,
    /// A file is closed when its first row is this old.
    pub max_age: Duration,
    /// A file is closed when its last row is this old.
    pub max_idle: Option<Duration>,
    /// A file is closed when it has this many encoded bytes.
    pub max_bytes: u64,
    /// A file is closed when it has this many rows.
    pub max_rows: u64,
    /// The memory limit for rows and unfinished row groups of all streams.
    pub memory_max: usize,
    pub limits: RowLimits,
    pub partition_by: PartitionBy,
    /// How long a request that waits for its file lets others join.
    pub linger: Duration,
    /// How long the publisher retries a staged file.
    pub retention: Duration,
    /// Read the log and discard it: for benchmarks of the accept path alone.
    pub discard: bool,
}

/// What the loop should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Run,
    /// Read to the end of the closed log, register everything, and stop.
    Drain,
    /// Stop as soon as possible; the next start reads unregistered frames again.
    Now,
}
