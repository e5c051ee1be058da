//! The data model of Foundry's streams: schemas, the check of records, and the streams behind a dataset's branches.
//!
//! It does not know HTTP or the log. The contract around it has the words on the wire.

mod check;
mod dataset;
mod error;
mod fields;
mod schema;
#[cfg(test)]
mod tests;

pub use check::Mismatch;
pub use dataset::{Branch, DEFAULT_BRANCH, Dataset, Datasets, StreamType, View};
pub use error::{SchemaPlace, Wrong};
pub use fields::schema_of;
pub use schema::{ChangeDataCapture, FieldType, SchemaField, StreamSchema, ValueType};
