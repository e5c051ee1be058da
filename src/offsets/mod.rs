//! Rows with numbers: partitions and offsets. Who reads by them stands above, in `read`.
//!
//! Where a stream has partitions, each of its rows is in one of them and has an offset there, from 0 without gaps. They
//! are given when the request is appended ([`Numbering`]), noted in its frame, and kept by whatever the frame becomes:
//! the table has them in `_partition` and `_offset`, the register of files knows which file has which. So counters are
//! found again from files and log, and a row can be read by its offset wherever it is.

mod index;
mod numbering;

pub use numbering::{Division, Numbered, Numbering, Offsets};
