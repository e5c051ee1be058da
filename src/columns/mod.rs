//! Turns records into columns: JSON in, Arrow arrays out, row by row and without loss.
//!
//! The stream's [`Rules`](crate::schema::Rules) decide what happens to a record. Where columns evolve, a new field
//! becomes a column; the values in the first batch that contains it determine its type, and a value that does not
//! fit goes to the row's `_rescued` object. Where columns are declared, a record that does not fit them goes to
//! quarantine with its bytes and the reason. The accept path and the compactor run the same code, so they cannot
//! disagree.

mod column;
mod data;
mod declare;
mod dedupe;
mod infer;
mod judge;
mod known;
mod learn;
mod placement;
mod proposal;
mod reason;
mod receipt;
mod rescue;
mod rows;
pub mod sample;
mod scalar;
mod set;
#[cfg(test)]
mod tests;
pub mod time;
mod walk;

pub use declare::check_defaults;
pub(crate) use infer::{Inferred, STRUCT_FIELDS_MAX, is_map};
pub use judge::{Judged, judge};
pub use known::known;
pub use proposal::{EXAMPLES_MAX, Proposal};
pub use reason::{ColumnFailure, Reason, ReasonCounts, ReasonKind};
pub use rows::{BadRow, BodyOrigin, MisfitSummary, RowBatch, RowCounts, RowLimits, Rows};
pub(crate) use scalar::{decimal, int64};

use column::ColumnBuilder;
