//! The counts of a table's events, in the contract's terms.

use crate::catalog::Counts;
use serde::{Deserialize, Serialize};

/// Events by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tally {
    /// Stored as received.
    pub(super) processed: u64,
    /// Stored, with a value moved to `_rescued`.
    pub(super) with_warning: u64,
    /// Quarantined because they could not be parsed.
    pub(super) skipped_by_error: u64,
    /// Quarantined because they were too late or too early.
    pub(super) skipped_by_filter: u64,
    /// The size of the events' JSON.
    pub(super) bytes: u64,
}

impl Tally {
    /// The counts since the table was created.
    pub(super) fn from_counts(counts: &Counts) -> Self {
        let out_of_time = counts.late.saturating_add(counts.early);
        Self {
            processed: counts.stored.saturating_sub(counts.rescued),
            with_warning: counts.rescued,
            skipped_by_error: counts.quarantined.saturating_sub(out_of_time),
            skipped_by_filter: out_of_time,
            bytes: counts.source_bytes,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.processed = self.processed.saturating_add(other.processed);
        self.with_warning = self.with_warning.saturating_add(other.with_warning);
        self.skipped_by_error = self.skipped_by_error.saturating_add(other.skipped_by_error);
        self.skipped_by_filter = self.skipped_by_filter.saturating_add(other.skipped_by_filter);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            processed: self.processed.saturating_sub(before.processed),
            with_warning: self.with_warning.saturating_sub(before.with_warning),
            skipped_by_error: self.skipped_by_error.saturating_sub(before.skipped_by_error),
            skipped_by_filter: self.skipped_by_filter.saturating_sub(before.skipped_by_filter),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }
}
