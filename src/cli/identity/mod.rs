//! `forebay token`, `forebay client`, `forebay key`: manage credentials.

mod client;
mod key;
mod token;

pub(super) use client::ClientArgs;
pub(super) use key::KeyArgs;
pub(super) use token::TokenArgs;

use super::output;
use crate::config::TimeSpan;
use serde_json::Value;

/// Prints a secret alone on standard output, for scripts, and a note for people on standard error.
fn show_once(secret: &Value, about: &str) {
    output::print(&format!("{}\n", output::word(secret)));
    eprintln!("{about}");
}

/// The strings of a list, separated by spaces, or `-` if it is empty.
fn words(list: &Value) -> String {
    let words: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

/// Parses a time such as `30d` into seconds.
fn seconds(text: &str) -> Result<u64, String> {
    text.parse::<TimeSpan>().map(|span| span.0.as_secs()).map_err(|error| error.to_string())
}
