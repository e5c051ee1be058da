//! Reads the files that the rules check.

use crate::parse::Files;
use std::collections::BTreeSet;
use std::path::Path;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below these directories, with their contents.
pub fn files(dirs: &[&str]) -> Files {
    let mut found = Files::new();
    let mut paths: Vec<_> = dirs.iter().map(|dir| root().join(dir)).collect();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    assert!(!found.is_empty(), "no Rust files in {dirs:?}");
    found
}

/// The crates that the daemon may use, under the names used in code.
pub fn crates() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let named = manifest["dependencies"].as_table().unwrap().keys().map(|name| name.replace('-', "_"));
    named.chain(["std", "core", "alloc"].map(str::to_owned)).collect()
}
