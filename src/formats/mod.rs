//! Parses bytes into records, one module per input format. Pure: no I/O, no clock.

pub mod json;
pub mod otlp;
pub mod xml;
