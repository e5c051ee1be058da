//! Our own values as JSON.
//!
//! This cannot fail: the keys of all our maps are texts, none of our types refuses to be serialized, and memory takes
//! everything. A path can refuse, since it may not be UTF-8: it is turned into text first. So a value that does fail is
//! a bug, and one that stops the work is better than one that stores an empty text.

use serde::Serialize;
use serde_json::Value;

const WHY: &str = "our own types have text for keys and no value that JSON refuses";

/// A value of a type of ours as JSON: see the module.
pub fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect(WHY)
}

/// The same, indented for people.
pub fn indented(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect(WHY)
}

/// The same as bytes.
pub fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect(WHY)
}

/// The same as a part of a larger document.
pub fn value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect(WHY)
}
