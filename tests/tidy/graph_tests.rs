//! Tests the graph and its rules on trees of a few lines: every form of import is found, and every rule can fail.

use crate::graph::Graph;
use crate::parse::Files;
use crate::rules;
use std::collections::BTreeSet;

fn graph(files: &[(&str, &str)]) -> Graph {
    let files: Files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    Graph::of(&files, &["std", "tokio", "hyper", "http"].map(str::to_owned).into())
}

/// The items that a module imports.
fn reached<'g>(graph: &'g Graph, from: &str) -> BTreeSet<&'g str> {
    assert!(graph.problems.is_empty(), "{:?}", graph.problems);
    let imports = graph.imports.iter().filter(|import| import.from == from);
    imports.flat_map(|import| &import.reaches).map(String::as_str).collect()
}

/// Asserts what a room `wal` with this text imports, in a library that also has a room `http`.
#[track_caller]
fn assert_reaches(text: &str, expected: &[&str]) {
    let lib = "mod wal; mod http { pub mod body { pub struct Body; pub fn read() {} pub enum Kind { A } } \
               macro_rules! log { () => {} } pub(crate) use log; }";
    let graph = graph(&[("src/lib.rs", lib), ("src/wal.rs", text)]);
    let found = reached(&graph, "crate::wal");
    for path in expected {
        assert!(found.contains(path), "{text}: {path} is not in {found:?}");
    }
    assert!(!expected.is_empty() || found.is_empty(), "{text}: {found:?}");
}

#[test]
fn every_form_of_use_is_found() {
    assert_reaches("use crate::http::body::Body;", &["crate::http::body::Body"]);
    assert_reaches(
        "use super::http::{self, body::{Body as B, read}};",
        &["crate::http", "crate::http::body::Body", "crate::http::body::read"],
    );
    assert_reaches("use crate::http as h; fn f(b: h::body::Body) {}", &["crate::http::body::Body"]);
    assert_reaches("use crate::http::body::*;", &["crate::http::body"]);
    assert_reaches("fn f() { use crate::http::body::read; read() }", &["crate::http::body::read"]);
    assert_reaches("use ::tokio::fs; use std::{fs as f, io};", &["tokio::fs", "std::fs", "std::io"]);
}

#[test]
fn paths_without_a_use_are_found() {
    assert_reaches("fn f() { super::http::body::read() }", &["crate::http::body::read"]);
    assert_reaches("fn f(_: Option<Vec<crate::http::body::Body>>) {}", &["crate::http::body::Body"]);
    assert_reaches("fn f() { match 1 { _ => tokio::spawn(async {}) } }", &["tokio::spawn"]);
    assert_reaches(
        "impl Drop for crate::http::body::Body { fn drop(&mut self) {} }",
        &["crate::http::body::Body"],
    );
    assert_reaches("#[serde(with = \"crate::http::body\")] struct A;", &["crate::http::body"]);
    assert_reaches("#[derive(hyper::Derived)] struct A;", &["hyper::Derived"]);
    assert_reaches("fn f(http: A) -> A { http.body; Vec::new(); Self::read(http) }", &[]);
}

#[test]
fn macros_and_their_arguments_are_found() {
    assert_reaches("fn f() { crate::http::log!() }", &["crate::http::log"]);
    assert_reaches("fn f() { vec![1, super::http::body::read()] }", &["crate::http::body::read"]);
    assert_reaches("fn f(k: u8) { matches!(k, crate::http::body::Kind::A) }", &["crate::http::body::Kind"]);
    assert_reaches("fn f() { x!(use crate::http::{body::Body}) }", &["crate::http::body::Body"]);
    assert_reaches("use crate::http::body::*; fn f() { x!(Body) }", &["crate::http::body::Body"]);
    assert_reaches("fn f() { x!(self.http::<A>(), \"crate::http\") }", &[]);
    let lib = "mod a { #[macro_export] macro_rules! m { () => {} } } mod b { fn f() { crate::m!() } }";
    assert!(reached(&graph(&[("src/lib.rs", lib)]), "crate::b").contains("crate::a::m"));
}

#[test]
fn local_names_hide_crates() {
    let lib =
        "mod http { pub struct A; } mod wal { use super::*; fn f(_: http::A) {} } mod batch { use http::B; }";
    let graph = graph(&[("src/lib.rs", lib)]);
    assert!(reached(&graph, "crate::wal").contains("crate::http::A"));
    assert_eq!(reached(&graph, "crate::batch"), BTreeSet::from(["http::B"]));
}

#[test]
fn super_can_leave_a_room() {
    let lib = "mod cli { pub struct Top; } mod wal { mod archive { mod file { use super::super::super::cli::Top; } } }";
    let graph = graph(&[("src/lib.rs", lib)]);
    let wrong = rules::upwards(&graph);
    assert!(wrong.len() == 1 && wrong[0].contains("wal must not import cli"), "{wrong:?}");
    assert!(
        wrong[0].starts_with("src/lib.rs:1: super::super::super::cli::Top (that is crate::cli::Top)"),
        "{wrong:?}"
    );
}

#[test]
fn importing_a_reexport_imports_both_modules() {
    let lib = "mod catalog { mod rows { pub struct Row; } pub use rows::Row; } \
               mod auth { pub use crate::catalog::Row as Line; } \
               mod read { pub use crate::auth::*; pub type Kept = crate::catalog::Row; } \
               mod offsets { fn f(_: crate::read::Line) {} } mod http { use crate::read::Kept; }";
    let graph = graph(&[("src/lib.rs", lib)]);
    let found = reached(&graph, "crate::offsets");
    let expected = ["crate::auth::Line", "crate::catalog::Row", "crate::catalog::rows::Row"];
    assert_eq!(found, BTreeSet::from(expected));
    assert!(reached(&graph, "crate::http").contains("crate::catalog::rows::Row"));
    assert_eq!(rules::forbidden(&graph, &[("crate::offsets", &["crate::catalog"])]).len(), 1);
    assert_eq!(rules::handed_on(&graph).len(), 2, "{:?}", rules::handed_on(&graph));
}

#[test]
fn a_glob_imports_the_names_that_are_used() {
    let lib = "mod wal { pub use crate::storage::Disk; use hyper::Body; mod a { use super::*; fn f(_: Disk, _: Body) {} } \
               mod b { use super::*; } } mod storage { pub struct Disk; } \
               mod batch { use crate::wal::*; fn f(_: Body, _: Disk) {} }";
    let graph = graph(&[("src/lib.rs", lib)]);
    assert_eq!(
        reached(&graph, "crate::wal::a"),
        BTreeSet::from([
            "crate::wal",
            "crate::wal::Disk",
            "crate::storage::Disk",
            "crate::wal::Body",
            "hyper::Body"
        ])
    );
    assert_eq!(reached(&graph, "crate::wal::b"), BTreeSet::from(["crate::wal"]));
    // A private import is visible in its own module only.
    assert_eq!(
        reached(&graph, "crate::batch"),
        BTreeSet::from(["crate::wal", "crate::wal::Disk", "crate::storage::Disk"])
    );
}

#[test]
fn cyclic_globs_terminate() {
    let lib = "mod a { pub use crate::b::*; pub struct A; } mod b { pub use crate::a::*; fn f(_: A, _: Nowhere) {} }";
    assert!(reached(&graph(&[("src/lib.rs", lib)]), "crate::b").contains("crate::a::A"));
}

#[test]
fn test_code_is_ignored() {
    let lib = "mod cli { pub struct Top; } mod wal;";
    let wal = "#[cfg(test)] mod tests; #[cfg(all(test, unix))] mod more { use crate::cli::Top; } \
               #[cfg(test)] use crate::cli::Top; #[cfg(test)] fn f(_: crate::cli::Top) {} \
               #[test] fn g() { crate::cli::Top; } struct A; impl A { #[cfg(test)] fn h(_: crate::cli::Top) {} }";
    let tests = "use crate::cli::Top; mod deep;";
    let files = [
        ("src/lib.rs", lib),
        ("src/wal/mod.rs", wal),
        ("src/wal/tests.rs", tests),
        ("src/wal/tests/deep.rs", "use crate::cli::Top;"),
    ];
    let found = graph(&files);
    assert!(rules::upwards(&found).is_empty() && found.problems.is_empty(), "{:?}", found.imports);
    assert!(found.files.contains("src/wal/tests/deep.rs"));
    // `cfg(not(test))` is not test code.
    let files = [("src/lib.rs", lib), ("src/wal/mod.rs", "#[cfg(not(test))] use crate::cli::Top;")];
    assert_eq!(rules::upwards(&graph(&files)).len(), 1);
}

#[test]
fn modules_are_found_where_rust_finds_them() {
    let files = [
        ("src/lib.rs", "pub mod wal; mod inline { mod within; #[path = \"named.rs\"] mod other; }"),
        ("src/main.rs", "use forebay::wal::a::A; fn main() {}"),
        ("src/wal.rs", "pub mod a; #[path = \"odd/place.rs\"] mod b; mod r#type;"),
        ("src/wal/a.rs", "pub struct A; use super::b::c::C;"),
        ("src/wal/type.rs", ""),
        ("src/odd/place.rs", "pub mod c;"),
        ("src/odd/c.rs", "pub struct C;"),
        ("src/inline/within.rs", ""),
        ("src/inline/named.rs", ""),
        ("src/wal/forgotten.rs", ""),
    ];
    let found = graph(&files);
    assert!(reached(&found, "main").contains("crate::wal::a::A"));
    assert!(reached(&found, "crate::wal::a").contains("crate::wal::b::c::C"));
    let files: Vec<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(rules::undeclared(&found, files.iter()), ["src/wal/forgotten.rs: no module declares it"]);
    assert_eq!(rules::started(&found).len(), 1);
}

#[test]
fn unresolved_code_is_reported() {
    let problems = |lib: &str| graph(&[("src/lib.rs", lib)]).problems.join("\n");
    assert!(problems("mod gone;").contains("`crate::gone` has no file"));
    assert!(problems("mod a {} fn f() { crate::a::nothing() }").contains("crate::a::nothing does not exist"));
    assert!(problems("#[macro_use] mod a {}").contains("macro_use"));
    assert!(problems("fn").contains("src/lib.rs: "));
}

#[test]
fn a_cycle_is_reported_with_its_imports() {
    let lib = "mod main; mod a { use crate::b::B; } mod b { pub struct B; use crate::c::C; } \
               mod c { pub struct C; use crate::a; } mod d { use crate::a; }";
    let lib = lib.replace("mod main; ", "");
    let wrong = rules::circles(&graph(&[("src/lib.rs", &lib)]));
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].starts_with("a -> b -> c -> a\n  a -> b: src/lib.rs:1: crate::b::B\n"), "{wrong:?}");
    let lib = lib.replace("use crate::a; } mod d", "} mod d");
    assert!(rules::circles(&graph(&[("src/lib.rs", &lib)])).is_empty());
}

#[test]
fn a_room_missing_in_the_order_is_reported() {
    let wrong = rules::upwards(&graph(&[("src/lib.rs", "mod cellar {} mod wal {}")]));
    assert_eq!(wrong, ["cellar: the room is missing in ORDER"]);
}

#[test]
fn forbidden_imports_of_contracts_are_reported() {
    let files = |one: &'static str| {
        [
            ("src/lib.rs", "mod contracts; mod wal { pub struct Lsn; }"),
            ("src/contracts/mod.rs", "mod one; mod two; mod shared;"),
            ("src/contracts/one/mod.rs", one),
            ("src/contracts/two/mod.rs", "pub struct Two;"),
            ("src/contracts/shared/mod.rs", "pub use crate::wal::Lsn; pub struct Control;"),
        ]
    };
    let wrong = |one| rules::contracts_apart(&graph(&files(one)));
    assert!(wrong("use super::shared::Control; mod own { pub struct O; } use own::O;").is_empty());
    for one in ["use super::two::Two;", "use super::shared::Lsn;", "fn f() { std::fs::read(\"\") }"] {
        assert_eq!(wrong(one).len(), 1, "{one}");
    }
}
