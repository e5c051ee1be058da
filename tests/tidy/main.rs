//! The rules of this source tree, as a test: who may import whom ([`rules`], on the graph that [`graph`] makes of what
//! [`parse`] reads), how large everything may be ([`sizes`]), who decides on a new type ([`matches`]), where `unsafe`
//! may stand, and that documents and code do not drift apart.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod graph;
mod graph_tests;
mod links;
mod matches;
mod parse;
mod rules;
mod sizes;
mod text;

use sha2::{Digest, Sha256};
use text::{files, root};

/// Fails with everything that breaks a rule, if anything does.
fn holds(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}:\n{}\n", wrong.join("\n"));
}

#[test]
fn unsafe_code_stands_in_one_place() {
    let code = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
    };
    for (path, text) in files(&["src"]) {
        let allowed = path == "src/storage/mmap.rs";
        assert!(allowed || !code(&text).iter().any(|line| line.contains("unsafe ")), "unsafe in {path}");
    }
}

#[test]
fn nothing_is_left_to_do() {
    // Put together, so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|mark| mark.concat());
    for (path, text) in files(&["src", "tests", "benches"]) {
        let left = marks.iter().find(|mark| text.contains(*mark));
        assert!(left.is_none(), "{left:?} in {path}");
    }
}

/// `docs/wal-format.md` describes the bytes of the log, of its archive and of batches, and says which.
#[test]
fn the_format_and_its_document_change_together() {
    let document = std::fs::read_to_string(root().join("docs/wal-format.md")).unwrap();
    for file in ["src/wal/format.rs", "src/wal/archive/format.rs", "src/batch.rs"] {
        let hash = Sha256::digest(std::fs::read(root().join(file)).unwrap());
        let hash = hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let line = format!("| `{file}` | `{hash}` |");
        assert!(document.contains(&line), "docs/wal-format.md should say: {line} (is it still true?)");
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
    assert!(missing.is_empty(), "docs/operations.md says nothing of {missing:?}");
}

/// `docs/ARCHITECTURE.md` has one row for each room, in their order.
#[test]
fn the_architecture_lists_every_room() {
    let document = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let section =
        document.split("\n## The code, room by room\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.collect::<Vec<_>>(), rules::ORDER);
}
