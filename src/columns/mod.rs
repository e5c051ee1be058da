//! Records to columns: what comes as JSON goes out as Arrow arrays, row by row, losing nothing.
//!
//! A new field becomes a column; its type is settled by the values of the first batch it is in. A value that does
//! not fit its column goes to the row's `_rescued` object. A record that is none goes to quarantine with its bytes.

mod column;
mod declare;
mod dedupe;
mod infer;
mod learn;
mod rescue;
mod rows;
mod scalar;
#[cfg(test)]
mod tests;

pub use declare::check_defaults;
pub(crate) use infer::{Inferred, STRUCT_FIELDS_MAX, is_map};
pub use rows::{BadRow, Batch, Limits, MisfitSummary, Origin, RowCounts, Rows};
