//! The output of commands: tables for people, JSON for programs.

use crate::error::chain;
use crate::formats::json::indented;
use serde::Serialize;
use serde_json::Value;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// Prints an error with its causes, and returns the exit status.
pub(super) fn fail(error: &dyn Error, status: u8) -> ExitCode {
    fail_with(&chain(error), status)
}

/// Like [`fail`], for a message.
pub(super) fn fail_with(message: &str, status: u8) -> ExitCode {
    eprintln!("forebay: {message}");
    ExitCode::from(status)
}

/// Prints text. A closed pipe is not an error: its reader has seen enough.
pub(super) fn print(text: &str) {
    try_print(text).ok();
}

/// Like `print`, for callers that must know whether it failed.
pub(super) fn try_print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Prints a value as indented JSON.
pub(super) fn json(value: &impl Serialize) {
    print(&format!("{}\n", indented(value)));
}

/// A table with aligned columns. A column whose heading starts with `>` is aligned to the right.
pub(super) struct TextTable {
    headings: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub(super) fn new(headings: &'static [&'static str]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl std::fmt::Display for TextTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let title = |heading: &'static str| heading.trim_start_matches('>');
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.chain(self.headings.get(at).map(|heading| title(heading).len())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let headings = self.headings.iter().map(|heading| title(heading).to_owned()).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), heading) in row.iter().zip(&widths).zip(self.headings) {
                let right = heading.starts_with('>');
                if right { write!(line, "{cell:>width$}  ")? } else { write!(line, "{cell:<width$}  ")? }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `12.3 MiB`
pub(super) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `1,234,567`
pub(super) fn number(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// `2026-11-20T12:00:00.000001Z`, from microseconds since the epoch.
pub(super) fn time(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |time| time.to_string())
}

/// Formats a string of the daemon's answer.
pub(super) fn word(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// Formats a number of the daemon's answer.
pub(super) fn count(value: &Value) -> String {
    number(value.as_u64().unwrap_or(0))
}

/// Formats a number of bytes of the daemon's answer.
pub(super) fn size(value: &Value) -> String {
    bytes(value.as_u64().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let mut table = TextTable::new(&["name", ">rows"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        table.row(["visits".to_owned(), "12,000".to_owned()]);
        assert_eq!(table.to_string(), "name      rows\na            1\nvisits  12,000\n");
    }

    #[test]
    fn quantities_are_for_people() {
        assert_eq!((bytes(1536), number(1_234_567)), ("1.50 KiB".to_owned(), "1,234,567".to_owned()));
        assert_eq!(time(1_000_001), "1970-01-01T00:00:01.000001Z");
    }
}
