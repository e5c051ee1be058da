//! Numbered rows: partitions and offsets. Reading by offset is in `read`.
//!
//! If a stream has partitions, each of its rows is in one of them and has an offset there, from 0 without gaps. Offsets
//! are assigned when the request is appended ([`Numbering`]), recorded in its frame, and kept from then on: the table
//! has them in `_partition` and `_offset`, and the register of files records which file holds which. So the counters
//! can be restored from files and log, and a row can be read by its offset wherever it is.

mod index;
mod numbering;

pub use numbering::{Division, Numbered, Numbering, OffsetCounters};
