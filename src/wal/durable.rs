//! How far the log has come, and how it is: what everybody who waits for it looks at.

use super::lsn::Lsn;

/// How far the log is durable, and whether it still takes frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// Everything up to here survives power loss.
    pub lsn: Lsn,
    pub health: Health,
}

/// Only gets worse in the life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Good,
    /// Shutting down; everything appended was synced.
    Closed,
    /// A sync failed and could not be made good.
    Poisoned,
}

/// Why a frame is not known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    #[error("the sync failed; the record may or may not survive power loss")]
    Poisoned,
    #[error("the sync takes long; the record may or may not survive power loss yet")]
    Late,
}
