//! A strict, single-pass JSON parser that never recurses to a depth chosen by the client.
//!
//! The accept path checks every record, and the compactor turns it into columns. Both run the same code: the
//! grammar is in [`Parser`], the walk over an object's fields in [`Shape::object`], the walk over a body's records
//! in [`records`]. They differ only in what they do with a field's value, so they cannot disagree on what a record
//! is.

mod parser;
pub mod records;
mod shape;
#[cfg(test)]
mod tests;
mod write;

pub use parser::{DEPTH_MAX, JsonKind, Number, Parser, Str, Syntax};
pub use records::{RecordsVerdict, kind_of};
pub use shape::{FieldKey, FieldVisitor, Shape};
pub use write::{bytes, indented, text, value};
