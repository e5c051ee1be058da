//! The numbers of the log as distinct types, so that they cannot be confused.

use std::fmt;

/// Log sequence number: identifies one frame, that is one accepted request. Assigned once and never reused, even
/// across restarts and power loss. The first is 1; 0 means "none yet".
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    pub const NONE: Self = Self(0);

    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 requests take longer than the sun has left"))
    }

    /// The number before this one; `NONE` stays `NONE`.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies one segment file. Unique within a directory and never reused; it does not define the order, the LSN
/// does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}", self.0)
    }
}

/// An inclusive range of LSNs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LsnRange {
    pub first: Lsn,
    pub last: Lsn,
}

impl LsnRange {
    /// How many LSNs the range holds.
    pub fn count(self) -> u64 {
        (self.last.0 + 1).saturating_sub(self.first.0)
    }
}
