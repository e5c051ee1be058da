//! The rules for imports. Each rule is a function from a graph to its violations, so that tests can show that it fails;
//! the tests at the end apply the rules to the source tree.

use crate::graph::{Graph, Import, is_within};
use crate::parse::Form;
use std::collections::{BTreeMap, BTreeSet};

/// The rooms, top first. A room imports only rooms below it.
pub const ORDER: &[&str] = &[
    "main",
    "cli",
    "daemon",
    "config",
    "http",
    "contracts",
    "read",
    "compactor",
    "idempotency",
    "offsets",
    "auth",
    "progress",
    "catalog",
    "wal",
    "storage",
    "columns",
    "schema",
    "mapping",
    "formats",
    "batch",
    "metrics",
    "error",
    "clock",
];

/// Imports that are forbidden although the order would allow them: modules, and the modules, items or crates that they
/// must not import.
pub const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "crate::http",
        &[
            "crate::compactor",
            "crate::wal::reader",
            "crate::wal::WalReader",
            "parquet",
            "arrow",
            "object_store",
        ],
    ),
    // It counts requests and must stay independent of their content.
    ("crate::http::limits", &["crate::http", "crate::catalog", "crate::wal", "crate::auth", "hyper", "http"]),
    (
        "crate::http::transport",
        &[
            "crate::wal",
            "crate::catalog",
            "crate::auth",
            "crate::batch",
            "crate::formats",
            "crate::contracts::shared",
        ],
    ),
    ("crate::compactor", &["crate::wal::handle", "crate::wal::Handle", "hyper"]),
    ("crate::idempotency", &["crate::catalog", "hyper", "rusqlite"]),
    ("crate::offsets", &["crate::auth", "hyper", "rusqlite"]),
    ("crate::auth", &["crate::wal", "crate::storage", "hyper", "tokio"]),
    ("crate::progress::quarantined", &["crate::wal", "crate::catalog", "crate::storage"]),
    ("crate::catalog", &["hyper", "arrow", "object_store"]),
    ("crate::wal", &["crate::batch", "hyper", "arrow", "serde_json"]),
    ("crate::storage", &["crate::batch"]),
    ("crate::mapping", &["hyper"]),
    ("crate::formats::otlp", &["hyper", "tokio"]),
];

/// What contracts must not import: they do no I/O and read no clock.
const NOT_FOR_CONTRACTS: &[&str] = &[
    "tokio",
    "std::fs",
    "std::time",
    "crate::wal",
    "crate::storage",
    "crate::compactor",
    // Its types are plain data. Contracts reach the catalog itself through `shared`.
    "crate::catalog::Catalog",
    "crate::http",
    // Times are numbers. Contracts get the current time through `shared`.
    "crate::clock::Clock",
    "crate::clock::SystemClock",
    "crate::clock::system",
];

/// What `shared`, the code that contracts share, must not import.
const NOT_FOR_SHARED: &[&str] = &["std::fs", "crate::storage", "crate::compactor", "crate::http"];

/// The code that contracts share; a folder next to theirs.
const SHARED: &str = "crate::contracts::shared";

fn tell(import: &Import, reached: &str, why: &str) -> String {
    let Import { file, line, written, .. } = import;
    let what = if written == reached { String::new() } else { format!(" (that is {reached})") };
    format!("{file}:{line}: {written}{what}: {why}")
}

/// Imports of rooms above, by [`ORDER`]: the first of each file and room.
pub fn upwards(graph: &Graph) -> Vec<String> {
    let mut told = BTreeSet::new();
    let mut wrong = Vec::new();
    let known: BTreeSet<&str> = ORDER.iter().copied().filter(|room| *room != "main").collect();
    for room in graph.rooms.iter().filter(|room| !known.contains(room.as_str())) {
        wrong.push(format!("{room}: the room is missing in ORDER"));
    }
    let place = |room: &str| ORDER.iter().position(|known| *known == room);
    for (from, to, import, reached) in graph.between_rooms() {
        let is_wrong = place(to) <= place(from);
        if is_wrong && told.insert((&import.file, to)) {
            wrong.push(tell(import, reached, &format!("{from} must not import {to}, which is above it")));
        }
    }
    wrong
}

/// A cycle of rooms that import one another, with an import for each step.
pub fn circles(graph: &Graph) -> Vec<String> {
    let mut steps: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for (from, to, import, _) in graph.between_rooms() {
        let said = || format!("  {from} -> {to}: {}:{}: {}", import.file, import.line, import.written);
        steps.entry(from).or_default().entry(to).or_insert_with(said);
    }
    // Repeatedly removes rooms that import no other, until only cycles and rooms that lead to them are left.
    loop {
        let rooms: Vec<&str> = steps.keys().copied().collect();
        steps.retain(|_, to| to.keys().any(|to| rooms.contains(to)));
        if steps.len() == rooms.len() {
            break;
        }
    }
    let Some(mut room) = steps.keys().next().copied() else { return Vec::new() };
    let mut way = Vec::new();
    while !way.contains(&room) {
        way.push(room);
        let next = steps[room].keys().find(|to| steps.contains_key(*to));
        room = next.expect("rooms that import no other were removed");
    }
    let circle: Vec<&str> = way.iter().copied().skip_while(|step| *step != room).chain([room]).collect();
    let shown = circle.windows(2).map(|step| steps[step[0]][step[1]].clone());
    vec![format!("{}\n{}", circle.join(" -> "), shown.collect::<Vec<_>>().join("\n"))]
}

/// Imports that these rules forbid.
pub fn forbidden(graph: &Graph, rules: &[(&str, &[&str])]) -> Vec<String> {
    rules.iter().flat_map(|(module, names)| kept_from(graph, module, None, names)).collect()
}

/// Forbidden imports by a module, except by the part `but` of it: the first of each file and name.
fn kept_from(graph: &Graph, module: &str, but: Option<&str>, names: &[&str]) -> Vec<String> {
    let of_part = |import: &Import| but.is_some_and(|part| is_within(&import.from, part));
    let by = graph.imports.iter().filter(|import| is_within(&import.from, module) && !of_part(import));
    let mut told = BTreeSet::new();
    let mut wrong = Vec::new();
    for import in by {
        for reached in import.reaches.iter().filter(|path| !is_within(path, module)) {
            for name in names.iter().filter(|name| is_within(reached, name)) {
                if told.insert((&import.file, *name)) {
                    wrong.push(tell(import, reached, &format!("{module} must not import {name}")));
                }
            }
        }
    }
    wrong
}

/// Imports of one contract by another, and forbidden imports by contracts.
pub fn contracts_apart(graph: &Graph) -> Vec<String> {
    let folders = graph.files.iter().filter_map(|file| file.strip_prefix("src/contracts/")?.split_once('/'));
    let all: BTreeSet<String> = folders.map(|(name, _)| format!("crate::contracts::{name}")).collect();
    let mut wrong = kept_from(graph, "crate::contracts", Some(SHARED), NOT_FOR_CONTRACTS);
    wrong.extend(kept_from(graph, SHARED, None, NOT_FOR_SHARED));
    for contract in all.iter().filter(|name| *name != SHARED) {
        let others = all.iter().filter(|other| *other != contract && *other != SHARED);
        wrong.extend(kept_from(graph, contract, None, &others.map(String::as_str).collect::<Vec<_>>()));
    }
    wrong
}

/// Re-exports of the catalog's items by other modules. Code that uses the catalog's types must import the catalog.
pub fn handed_on(graph: &Graph) -> Vec<String> {
    let public = graph.imports.iter().filter(|import| import.form == Form::HandedOn);
    let others = public.filter(|import| !is_within(&import.from, "crate::catalog"));
    let handed = others.filter_map(|import| {
        let reached = import.reaches.iter().find(|path| is_within(path, "crate::catalog"))?;
        Some(tell(import, reached, "only the catalog may export its items"))
    });
    handed.collect()
}

/// Imports by the binary other than the command line: it only starts the library.
pub fn started(graph: &Graph) -> Vec<String> {
    let of_main = graph.imports.iter().filter(|import| is_within(&import.from, "main"));
    let reached = of_main.flat_map(|import| import.reaches.iter().map(move |path| (import, path)));
    let wrong = reached.filter(|(_, path)| is_within(path, "crate") && !is_within(path, "crate::cli"));
    wrong.map(|(import, path)| tell(import, path, "main.rs only calls crate::cli")).collect()
}

/// Files below `src` that belong to no module.
pub fn undeclared<'f>(graph: &Graph, files: impl Iterator<Item = &'f String>) -> Vec<String> {
    files
        .filter(|file| !graph.files.contains(*file))
        .map(|file| format!("{file}: no module declares it"))
        .collect()
}

pub(crate) mod tests {
    use super::*;
    use crate::{holds, text};
    use std::sync::LazyLock;

    /// The graph of the source tree, built once.
    pub(crate) static GRAPH: LazyLock<Graph> =
        LazyLock::new(|| Graph::of(&text::files(&["src"]), &text::crates()));

    #[test]
    fn the_graph_is_complete() {
        holds("every path must resolve, or the other rules prove nothing", &GRAPH.problems);
        assert!(
            GRAPH.imports.len() > 1_000,
            "only {} imports were found, which cannot be all",
            GRAPH.imports.len()
        );
    }

    #[test]
    fn rooms_import_only_what_is_below_them() {
        holds(&format!("rooms, top first: {}", ORDER.join(", ")), &upwards(&GRAPH));
    }

    #[test]
    fn rooms_have_no_import_cycle() {
        holds("rooms must not import one another in a cycle", &circles(&GRAPH));
    }

    #[test]
    fn every_file_is_a_module() {
        holds(
            "a file that no module declares is not compiled",
            &undeclared(&GRAPH, text::files(&["src"]).keys()),
        );
    }

    #[test]
    fn modules_respect_forbidden_imports() {
        holds("see FORBIDDEN in tests/tidy/rules.rs", &forbidden(&GRAPH, FORBIDDEN));
    }

    #[test]
    fn the_binary_only_starts_the_library() {
        holds("main.rs must only start the library", &started(&GRAPH));
    }

    #[test]
    fn contracts_are_independent() {
        let rule = format!("a contract must not import another, nor {}", NOT_FOR_CONTRACTS.join(", "));
        holds(&rule, &contracts_apart(&GRAPH));
    }

    #[test]
    fn the_catalog_is_not_re_exported() {
        holds("`pub use` and type aliases must not re-export the catalog", &handed_on(&GRAPH));
    }
}
