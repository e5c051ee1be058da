//! Bytes to records, for each form in which records come. Pure: no I/O, no clock.

pub mod json;
pub mod otlp;
pub mod xml;
