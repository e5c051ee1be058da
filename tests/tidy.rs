//! The rules of this source tree, as a test: who may import whom, how large a file may be, where `unsafe` may stand,
//! and that documents and code do not drift apart.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Lines of a file, tests aside.
const LINES_MAX: usize = 600;

/// What no contract knows of.
const CONTRACTS: &[&str] =
    &["tokio", "crate::wal", "crate::clock", "crate::storage", "crate::catalog", "std::fs", "std::time"];

/// Modules, and what they must not know of.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("batch.rs", &["crate::wal", "crate::http", "crate::compactor", "crate::catalog", "crate::storage"]),
    (
        "formats/otlp",
        &[
            "crate::wal",
            "crate::http",
            "crate::compactor",
            "crate::catalog",
            "crate::storage",
            "hyper",
            "tokio",
        ],
    ),
    ("formats/json", &["crate::wal", "crate::http", "crate::compactor", "crate::catalog", "crate::storage"]),
    (
        "mapping",
        &["crate::wal", "crate::http", "crate::compactor", "crate::catalog", "crate::storage", "hyper"],
    ),
    (
        "columns/sample",
        &["crate::wal", "crate::http", "crate::compactor", "crate::catalog", "crate::storage"],
    ),
    ("columns", &["crate::wal", "crate::http", "crate::compactor", "crate::catalog", "crate::storage"]),
    ("formats/xml", &["crate::wal", "crate::http", "crate::compactor", "crate::catalog", "crate::storage"]),
    ("storage", &["crate::wal", "crate::http", "crate::compactor", "crate::catalog", "crate::batch"]),
    (
        "wal",
        &[
            "crate::batch",
            "crate::http",
            "crate::compactor",
            "crate::catalog",
            "hyper",
            "arrow::",
            "serde_json",
        ],
    ),
    (
        "http/limits",
        &[
            "crate::http",
            "crate::compactor",
            "crate::catalog",
            "crate::wal",
            "crate::auth",
            "hyper",
            "http::",
        ],
    ),
    ("offsets", &["crate::http", "crate::auth", "crate::contracts::shared", "hyper", "rusqlite"]),
    ("idempotency", &["crate::http", "crate::compactor", "crate::catalog", "hyper", "rusqlite"]),
    ("auth", &["crate::http", "crate::compactor", "crate::wal", "crate::storage", "hyper", "tokio"]),
    ("catalog", &["crate::auth", "crate::http", "crate::compactor", "hyper::", "arrow::", "object_store"]),
    ("contracts/amperity", CONTRACTS),
    ("contracts/foundry", CONTRACTS),
    ("contracts/keboola", CONTRACTS),
    ("contracts/polaris", CONTRACTS),
    ("contracts/tinybird", CONTRACTS),
    (
        "progress/quarantined.rs",
        &["crate::wal", "crate::http", "crate::compactor", "crate::catalog", "crate::storage"],
    ),
    (
        "http/transport",
        &[
            "crate::wal",
            "crate::catalog",
            "crate::auth",
            "crate::batch",
            "crate::json",
            "crate::contracts::shared",
            "crate::config",
        ],
    ),
    (
        "contracts/foundry/model",
        &[
            "crate::wal",
            "crate::http",
            "crate::compactor",
            "crate::catalog",
            "crate::storage",
            "crate::clock",
        ],
    ),
    (
        "contracts/polaris/feeds.rs",
        &["crate::wal", "crate::http", "crate::compactor", "crate::catalog", "crate::storage"],
    ),
    ("http", &["crate::compactor", "wal::Reader", "parquet::", "arrow::", "object_store"]),
    ("compactor", &["crate::http", "wal::Handle", "hyper"]),
    ("main.rs", &["crate::"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Rust files below a directory, with their text.
fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut paths = vec![root().join(dir)];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
    assert!(!found.is_empty(), "no sources in {dir}");
    found.sort();
    found
}

/// The code of a file without its tests and comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let text = text.split("#[cfg(test)]\n#[expect").next().unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn modules_know_only_what_they_may() {
    let mut wrong = String::new();
    for (path, text) in sources("src") {
        let within = path.strip_prefix("src").unwrap();
        if within.ends_with("tests.rs") {
            continue;
        }
        let rules = FORBIDDEN.iter().filter(|(module, _)| within.starts_with(module));
        for name in rules.flat_map(|(_, names)| *names) {
            for line in code(&text).lines().filter(|line| line.contains(name)) {
                writeln!(wrong, "{}: {}", path.display(), line.trim()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "these modules must not know of this:\n{wrong}");
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    let mut wrong = String::new();
    for dir in ["src", "tests", "benches", "fuzz/fuzz_targets"] {
        for (path, text) in sources(dir) {
            let lines = code(&text).lines().count();
            if lines > LINES_MAX {
                writeln!(wrong, "{}: {lines} lines", path.display()).unwrap();
            }
            if !text.starts_with("//!") {
                writeln!(wrong, "{}: does not begin with what it is for", path.display()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "at most {LINES_MAX} lines, and `//!` first:\n{wrong}");
}

#[test]
fn unsafe_code_stands_in_one_place() {
    for (path, text) in sources("src") {
        let allowed = path == Path::new("src/storage/mmap.rs");
        assert!(allowed || !code(&text).contains("unsafe "), "unsafe in {}", path.display());
    }
}

#[test]
fn nothing_is_left_to_do() {
    // Put together, so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|mark| mark.concat());
    for dir in ["src", "tests", "benches"] {
        for (path, text) in sources(dir) {
            let left = marks.iter().find(|mark| text.contains(*mark));
            assert!(left.is_none(), "{left:?} in {}", path.display());
        }
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
    for room in ["http", "idempotency", "wal", "compactor", "mapping"] {
        let text = std::fs::read_to_string(root().join(format!("src/{room}/metrics.rs"))).unwrap();
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
