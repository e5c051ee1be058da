//! The rules of this source tree, as tests: which module may import which ([`rules`], on the graph that [`graph`]
//! builds from the files that [`parse`] reads), size limits ([`sizes`]), matches that must handle every column type
//! ([`matches`]), where `unsafe` is allowed, and that documents and code agree.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod graph;
mod graph_tests;
mod links;
mod matches;
mod names;
mod parse;
mod rules;
mod sizes;
mod text;

use sha2::{Digest, Sha256};
use text::{files, root};

/// Fails if the rule is violated, and lists every violation.
fn holds(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}:\n{}\n", wrong.join("\n"));
}

#[test]
fn only_one_file_has_unsafe_code() {
    let code = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
    };
    for (path, text) in files(&["src"]) {
        let allowed = path == "src/storage/mmap.rs";
        assert!(
            allowed || !code(&text).iter().any(|line| line.contains("unsafe ")),
            "{path}: unsafe code is allowed in src/storage/mmap.rs only"
        );
    }
}

#[test]
fn no_unfinished_work_is_marked() {
    // Assembled, so that this file does not match.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|mark| mark.concat());
    for (path, text) in files(&["src", "tests", "benches"]) {
        let left = marks.iter().find(|mark| text.contains(*mark));
        assert!(left.is_none(), "{path} contains the mark {left:?}: finish the work or open an issue");
    }
}

/// `docs/wal-format.md` describes the bytes of the log, its archive and its batches, and lists the hashes of the files
/// that define them.
#[test]
fn the_format_document_matches_the_code() {
    let document = std::fs::read_to_string(root().join("docs/wal-format.md")).unwrap();
    for file in ["src/wal/format.rs", "src/wal/archive/format.rs", "src/batch.rs"] {
        let hash = Sha256::digest(std::fs::read(root().join(file)).unwrap());
        let hash = hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let line = format!("| `{file}` | `{hash}` |");
        assert!(
            document.contains(&line),
            "{file} changed: update docs/wal-format.md, then its hash there: {line}"
        );
    }
}

#[test]
fn every_metric_and_setting_is_documented() {
    let operations = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut missing = Vec::new();
    for (_, text) in text::files(&["src"]).iter().filter(|(file, _)| file.ends_with("/metrics.rs")) {
        for word in text.split('"').filter(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
            let metric =
                ["wal_", "http_", "compactor_", "mapping_"].iter().any(|prefix| word.starts_with(prefix));
            if metric && !operations.contains(&format!("forebay_{word}")) {
                missing.push(word.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "docs/operations.md does not list these metrics: {missing:?}");
}

/// `docs/ARCHITECTURE.md` has one row per room, in the order of [`rules::ORDER`].
#[test]
fn the_architecture_lists_every_room() {
    let document = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let section =
        document.split("\n## The code, room by room\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.collect::<Vec<_>>(), rules::ORDER);
}
