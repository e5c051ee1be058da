//! `forebay token`, `forebay client`, `forebay key`: who may do what.

mod client;
mod key;
mod token;

pub(super) use client::Client;
pub(super) use key::Key;
pub(super) use token::Token;

use super::output;
use crate::config::Span;
use serde_json::Value;

/// Prints a secret alone on standard output, for scripts, and what people must know beside it.
fn show_once(secret: &Value, about: &str) {
    output::print(&format!("{}\n", output::word(secret)));
    eprintln!("{about}");
}

/// Texts in a list, or `-`.
fn words(list: &Value) -> String {
    let words: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

/// `30d` as seconds.
fn seconds(text: &str) -> Result<u64, String> {
    text.parse::<Span>().map(|span| span.0.as_secs()).map_err(|error| error.to_string())
}
