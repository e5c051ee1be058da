//! Strings of Keboola's contracts: names become ids that are valid directory names; durations and sizes survive a round
//! trip.
#![no_main]

use forebay::contracts::keboola::go::{GoSize, GoDuration, quote};
use forebay::contracts::keboola::names;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let id = names::normalize(text);
    assert!(!id.starts_with('-') && !id.ends_with('-') && !id.contains("--"), "{id:?}");
    let part = names::part(text);
    assert!(part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')), "{part:?}");
    if let Some(span) = GoDuration::parse(text) {
        assert_eq!(GoDuration::parse(&span.to_string()), Some(span));
    }
    if let Some(size) = GoSize::parse(text) {
        assert_eq!(GoSize::parse(&size.to_string()), Some(size));
    }
    let quoted = quote(text);
    assert!(quoted.len() >= text.len() + 2);
});
