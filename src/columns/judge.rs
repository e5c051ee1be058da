//! Determines the outcome of records before they are in the log, with the same code that will turn them into rows.

use super::reason::ReasonCounts;
use super::rows::{RowLimits, Rows};
use crate::batch::{BodyKind, StreamId};
use crate::clock::Micros;
use crate::formats::json::Syntax;
use crate::schema::Rules;
use std::cell::RefCell;

/// The number of schemas whose columns each thread keeps ready; the least recently judged one is dropped first.
const KEPT_MAX: usize = 32;
/// Schemas with more columns are not kept.
const KEPT_COLUMNS_MAX: usize = 256;
/// After a larger body, the columns hold more memory than is worth keeping.
const KEPT_BODY_BYTES_MAX: usize = 1 << 20;
/// The maximum number of rows in memory at a time: what fits the cache.
const ROWS_MAX: usize = 128;

/// The outcome for the records of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub stored: u64,
    pub quarantined: ReasonCounts,
    /// The first record that is not a JSON object: its number and what is wrong with it.
    pub first_bad: Option<(u64, Syntax)>,
    /// The partition of each record that would be stored, if the stream has a key.
    pub partitions: Vec<u32>,
}

struct CachedRows {
    stream: StreamId,
    version: u32,
    rows: Rows,
}

thread_local! {
    /// The most recently used entry is last.
    static KEPT: RefCell<Vec<CachedRows>> = const { RefCell::new(Vec::new()) };
}

/// Judges a body under a version of a stream's rules, as if it were received at that time.
///
/// # Errors
/// For a document that is not valid JSON.
pub fn judge(
    stream: StreamId,
    rules: &Rules,
    body: &[u8],
    kind: BodyKind,
    received_at: Micros,
) -> Result<Judged, Syntax> {
    KEPT.with_borrow_mut(|kept| {
        let version = rules.schema.version;
        let known = kept.iter().position(|kept| kept.stream == stream && kept.version == version);
        let mut judge = match known {
            Some(at) => kept.remove(at),
            None => CachedRows { stream, version, rows: rows(rules) },
        };
        let (counts, first_bad) = judge.rows.judge(body, kind, received_at, ROWS_MAX)?;
        let partitions = judge.rows.take_partitions();
        if rules.schema.columns.len() <= KEPT_COLUMNS_MAX && body.len() <= KEPT_BODY_BYTES_MAX {
            if kept.len() >= KEPT_MAX {
                kept.remove(0);
            }
            kept.push(judge);
        }
        Ok(Judged { stored: counts.stored, quarantined: counts.quarantined, first_bad, partitions })
    })
}

fn rows(rules: &Rules) -> Rows {
    let limits =
        RowLimits { columns_max: 0, received_at_column: false, lsn_column: false, record_column: false };
    // Whether a new field becomes a column does not affect the outcome.
    Rows::new(rules, limits).frozen()
}
