//! Foundry's streams as data: their schemas, what a record must be, and which stream a branch of a data set stands for.
//!
//! Knows neither HTTP nor the log: the wire words are the contract's, around it.

mod check;
mod dataset;
mod error;
mod fields;
mod schema;
#[cfg(test)]
mod tests;

pub use check::Mismatch;
pub use dataset::{Branch, DEFAULT_BRANCH, Dataset, Datasets, StreamType, View};
pub use error::{Place, Wrong};
pub use fields::schema_of;
pub use schema::{ChangeDataCapture, Field, FieldType, Item, StreamSchema};
