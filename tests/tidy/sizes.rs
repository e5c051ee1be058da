//! Limits on the size of files, rooms and contracts, and which files may be at the top of `src`.

use crate::graph::Graph;
use crate::parse::{Files, is_test};
use std::ops::RangeInclusive;
use syn::Item;

/// The most lines of code in a file. (A function has at most 70, see `clippy.toml`.)
const LINES_MAX: usize = 600;

const ROOMS_MAX: usize = 25;

/// The files at the top of `src`; all others are in a room.
const TOP: &[&str] = &["src/main.rs", "src/lib.rs", "src/batch.rs", "src/clock.rs", "src/error.rs"];

/// The largest share of the lines of `src` that a folder may have, in percent. A larger one has taken on other work.
const HTTP_PERCENT_MAX: usize = 15;
const CONTRACT_PERCENT_MAX: usize = 10;

/// The lines of a file, not counting comments and test modules.
fn code_lines(text: &str) -> usize {
    let mut tests = Vec::new();
    // Most files are within the limit even with their tests, and need not be parsed.
    if text.lines().count() > LINES_MAX
        && let Ok(file) = syn::parse_file(text)
    {
        test_modules(&file.items, &mut tests);
    }
    let is_code = |(at, line): &(usize, &str)| {
        !line.trim_start().starts_with("//") && !tests.iter().any(|lines| lines.contains(&(at + 1)))
    };
    text.lines().enumerate().filter(is_code).count()
}

fn test_modules(items: &[Item], found: &mut Vec<RangeInclusive<usize>>) {
    for item in items {
        if let Item::Mod(module) = item
            && let Some((braces, within)) = &module.content
        {
            if is_test(&module.attrs) {
                let first =
                    module.attrs.first().map_or(module.mod_token.span, |attr| attr.pound_token.spans[0]);
                found.push(first.start().line..=braces.span.close().end().line);
            } else {
                test_modules(within, found);
            }
        }
    }
}

/// Files that are too long, or do not say what they are for.
pub fn files(files: &Files) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, text) in files {
        let lines = code_lines(text);
        if lines > LINES_MAX {
            wrong.push(format!("{path}: {lines} lines of code, the limit is {LINES_MAX}"));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{path}: must begin with a `//!` comment that says what the file is"));
        }
    }
    wrong
}

/// Too many rooms, or files outside of any room.
pub fn rooms(graph: &Graph, files: &Files) -> Vec<String> {
    let mut wrong = Vec::new();
    if graph.rooms.len() > ROOMS_MAX {
        wrong.push(format!("{} rooms, the limit is {ROOMS_MAX}", graph.rooms.len()));
    }
    let top = files.keys().filter(|path| path.matches('/').count() == 1 && !TOP.contains(&path.as_str()));
    wrong.extend(top.map(|path| format!("{path}: only {} are allowed at the top of src", TOP.join(", "))));
    wrong
}

/// Rooms and contracts with too large a share of the lines.
pub fn parts(files: &Files) -> Vec<String> {
    let lines = |below: &str| -> usize {
        let within = files.iter().filter(|(path, _)| path.starts_with(below));
        within.map(|(_, text)| text.lines().count()).sum()
    };
    let folders = files.keys().filter_map(|path| path.strip_prefix("src/contracts/")?.split_once('/'));
    let mut limits: Vec<(String, usize)> =
        folders.map(|(name, _)| (format!("src/contracts/{name}/"), CONTRACT_PERCENT_MAX)).collect();
    limits.dedup();
    limits.push(("src/http/".to_owned(), HTTP_PERCENT_MAX));
    let all = lines("src/");
    let over = limits.into_iter().filter(|(folder, percent)| lines(folder) * 100 > all * percent);
    over.map(|(folder, percent)| {
        format!("{folder}: {} of {all} lines, the limit is {percent} percent", lines(&folder))
    })
    .collect()
}

mod tests {
    use super::*;
    use crate::rules::tests::GRAPH;
    use crate::{holds, text};

    #[test]
    fn every_file_is_short_and_says_what_it_is() {
        holds(
            "every file must be short and say what it is",
            &files(&text::files(&["src", "tests", "benches", "fuzz/fuzz_targets"])),
        );
    }

    #[test]
    fn rooms_are_few_and_contain_every_file() {
        let all = text::files(&["src"]);
        holds("there must be few rooms, and every file must be in one", &rooms(&GRAPH, &all));
    }

    #[test]
    fn no_room_or_contract_is_too_large() {
        holds("no folder may have too large a share of src", &parts(&text::files(&["src"])));
    }

    #[test]
    fn tests_and_comments_do_not_count_as_code() {
        let code = "//! What.\n\nuse a::b;\n// Why.\nfn f() {}\n";
        let tests = "#[cfg(test)]\n#[expect(x)]\nmod tests {\n    fn g() {}\n}\nfn h() {}\n";
        let more = "fn i() {}\n".repeat(LINES_MAX);
        assert_eq!(code_lines(&format!("{code}{tests}{more}")), 4 + LINES_MAX);
        let long = format!("//! What.\n{}", "fn f() {}\n".repeat(LINES_MAX + 1));
        let wrong = files(&Files::from([("a.rs".into(), long), ("b.rs".into(), "fn f() {}".into())]));
        assert!(wrong.len() == 2 && wrong[0].contains("601 lines") && wrong[1].contains("//!"), "{wrong:?}");
    }

    #[test]
    fn large_rooms_and_files_outside_of_rooms_are_found() {
        let tree = |sizes: &[(&str, usize)]| -> Files {
            sizes.iter().map(|(path, lines)| ((*path).to_owned(), "\n".repeat(*lines))).collect()
        };
        let wrong =
            parts(&tree(&[("src/http/a.rs", 16), ("src/contracts/x/a.rs", 11), ("src/wal/a.rs", 73)]));
        assert!(
            wrong.len() == 2 && wrong[0].contains("contracts/x") && wrong[1].contains("http"),
            "{wrong:?}"
        );
        assert!(
            parts(&tree(&[("src/http/a.rs", 15), ("src/contracts/x/a.rs", 10), ("src/a.rs", 75)])).is_empty()
        );

        let many: Vec<String> = (0..=ROOMS_MAX).map(|at| format!("mod m{at} {{}}")).collect();
        let all =
            Files::from([("src/lib.rs".into(), many.join("\n")), ("src/extra.rs".into(), String::new())]);
        let wrong = rooms(&Graph::of(&all, &text::crates()), &all);
        assert!(wrong.len() == 2 && wrong[1].contains("src/extra.rs"), "{wrong:?}");
    }
}
