//! Reads rows back: the newest of a stream ([`preview`]), and those of a partition by offset ([`RecordReader`]), from
//! files, log and archive.

mod file;
pub mod preview;
mod records;
mod shown;
mod source;
mod subscriber;
mod value;

pub use records::{Range, ReadError, Record, RecordReader};
pub use subscriber::{PositionError, Positions, ReadPosition, Subscriber};
