//! The documents' links: files and headings that they point to exist, and `docs/README.md` links every page.
//!
//! Covers the Markdown files of the repository root, `docs/`, `docs/api/` and `deploy/`. Links to other hosts are not
//! checked. Anchors of headings are derived as on GitHub.

use crate::holds;
use crate::text::root;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The index of all pages.
const INDEX: &str = "docs/README.md";

/// The folders whose Markdown files are checked.
const FOLDERS: &[&str] = &["", "docs", "docs/api", "deploy"];

/// Pages by their path relative to the root.
type Pages = BTreeMap<String, String>;

fn pages() -> Pages {
    let mut pages = Pages::new();
    for folder in FOLDERS {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                pages.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    pages
}

/// The numbered lines of a page outside of code blocks.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    page.lines().enumerate().filter_map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((number + 1, line))
    })
}

/// A line without its code spans.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchors of a page's headings: lower case, no punctuation, hyphens for spaces, a number after a repeated one.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(page).filter_map(|(_, line)| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len()).then(|| text.strip_prefix(' ')).flatten()
    });
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.flat_map(char::to_lowercase).collect();
        let anchor = anchor.replace(' ', "-");
        let count = seen.entry(anchor.clone()).or_default();
        *count += 1;
        if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
    };
    headings.map(anchor).collect()
}

/// The relative links of a page with their line: `](…)`, and `src`, `srcset` and `href` of HTML.
fn links(page: &str) -> Vec<(usize, String)> {
    const OPENINGS: [(&str, char); 4] = [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')];
    let mut found = Vec::new();
    for (number, line) in prose(page) {
        let line = without_code(line);
        for (opening, end) in OPENINGS {
            let targets = line.split(opening).skip(1).map(|rest| rest.split(end).next().unwrap_or(rest));
            let relative = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
            found.extend(relative.map(|target| (number, target.to_owned())));
        }
    }
    found
}

/// The target of a page's link, relative to the root. `None` if it is outside of the root.
fn resolve(page: &str, target: &str) -> Option<String> {
    if target.is_empty() {
        return Some(page.to_owned());
    }
    let mut path = PathBuf::from(page).parent()?.to_path_buf();
    for component in Path::new(target).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return None,
        }
    }
    path.to_str().map(str::to_owned)
}

/// The broken links of all pages.
fn broken(pages: &Pages) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, page) in pages {
        for (number, link) in links(page) {
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = resolve(name, target);
            let Some(path) = path.filter(|path| pages.contains_key(path) || root().join(path).exists())
            else {
                wrong.push(format!("{name}:{number}: {link}: file not found"));
                continue;
            };
            let is_known = pages.get(&path).is_none_or(|page| anchors(page).contains(anchor));
            if !anchor.is_empty() && !is_known {
                wrong.push(format!("{name}:{number}: {link}: no heading of {path} has this anchor"));
            }
        }
    }
    wrong
}

/// The pages below `docs/` that the index does not link.
fn unlisted(pages: &Pages) -> Vec<String> {
    let index = pages.get(INDEX).map(|page| links(page)).unwrap_or_default();
    let linked: BTreeSet<String> =
        index.iter().filter_map(|(_, link)| resolve(INDEX, link.split('#').next().unwrap_or(link))).collect();
    let below = pages.keys().filter(|name| name.starts_with("docs/") && *name != INDEX);
    below
        .filter(|name| !linked.contains(*name))
        .map(|name| format!("{name}: not linked from {INDEX}"))
        .collect()
}

#[test]
fn every_link_points_to_something() {
    holds("links must be valid", &broken(&pages()));
}

#[test]
fn the_index_links_every_page() {
    holds("the index must link every page", &unlisted(&pages()));
}

#[test]
fn a_broken_link_is_found() {
    const PAGE: &str = r#"# A `b`: c
## Twice
## Twice
```
[code](gone.md)
```
`[span](gone.md)` [valid](#a-b-c) [valid](#twice-1) [valid](https://example.com/gone) [valid](../Cargo.toml)
[file](gone.md) [heading](#gone) [outside](../../x.md) <img src="gone.svg">
"#;
    let pages = [("docs/a.md", PAGE), (INDEX, "[nothing](b.md#gone)"), ("docs/b.md", "")];
    let pages: Pages = pages.into_iter().map(|(name, page)| (name.to_owned(), page.to_owned())).collect();
    let expected = [
        "docs/README.md:1: b.md#gone: no heading of docs/b.md has this anchor",
        "docs/a.md:8: gone.md: file not found",
        "docs/a.md:8: #gone: no heading of docs/a.md has this anchor",
        "docs/a.md:8: ../../x.md: file not found",
        "docs/a.md:8: gone.svg: file not found",
    ];
    assert_eq!(broken(&pages), expected);
    assert_eq!(unlisted(&pages), ["docs/a.md: not linked from docs/README.md"]);
}
