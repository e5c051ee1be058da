//! A new column type must not compile until every match handles it: files that match on the types, or on the data of a
//! column, must deny wildcard arms through Clippy.

use crate::parse::{Files, is_test};
use syn::visit::{self, Visit};
use syn::{Attribute, Meta, Pat, Type};

/// The enums whose variants must be matched one by one.
const ENUMS: &[&str] = &["ColumnType", "Data"];

const LINT: &str = "clippy::wildcard_enum_match_arm";

/// Files that match on the enums without denying wildcard arms.
pub fn lenient(files: &Files) -> Vec<String> {
    let named = |text: &str| ENUMS.iter().any(|name| text.contains(name));
    let looked_at = files.iter().filter(|(_, text)| named(text));
    let wrong = looked_at.filter_map(|(path, text)| {
        let file = syn::parse_file(text).ok()?;
        let mut found = Matches::default();
        found.visit_file(&file);
        let line = found.first.filter(|_| !file.attrs.iter().any(denies))?;
        Some(format!(
            "{path}:{line}: matches on {}, so the file needs `#![deny({LINT})]`",
            ENUMS.join(" or ")
        ))
    });
    wrong.collect()
}

fn denies(attr: &Attribute) -> bool {
    let Meta::List(list) = &attr.meta else { return false };
    let lints = list.tokens.to_string().replace(' ', "");
    list.path.is_ident("deny") && lints.split(',').any(|lint| lint == LINT)
}

/// Finds matches with an arm that names a variant of the enums.
#[derive(Default)]
struct Matches {
    /// The line of the first such arm.
    first: Option<usize>,
    /// Inside an `impl` of one of the enums, where `Self` stands for it.
    of_self: bool,
    /// Inside the pattern of an arm.
    in_arm: bool,
}

impl Visit<'_> for Matches {
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &syn::ItemImpl) {
        let around = self.of_self;
        self.of_self = matches!(&*item.self_ty, Type::Path(of) if of.path.segments.last().is_some_and(|last| {
            ENUMS.iter().any(|name| last.ident == name)
        }));
        visit::visit_item_impl(self, item);
        self.of_self = around;
    }

    fn visit_arm(&mut self, arm: &syn::Arm) {
        self.in_arm = true;
        self.visit_pat(&arm.pat);
        self.in_arm = false;
        self.visit_expr(&arm.body);
    }

    fn visit_pat(&mut self, pat: &Pat) {
        let path = match pat {
            Pat::Path(pat) => Some(&pat.path),
            Pat::Struct(pat) => Some(&pat.path),
            Pat::TupleStruct(pat) => Some(&pat.path),
            _ => None,
        };
        if let Some(path) = path.filter(|path| self.in_arm && path.segments.len() > 1) {
            // The path names the enum before its variant.
            let of = path.segments.iter().rev().nth(1).map(|of| &of.ident);
            let is_named =
                of.is_some_and(|of| ENUMS.iter().any(|name| of == name) || (self.of_self && of == "Self"));
            if is_named {
                self.first.get_or_insert_with(|| path.segments[0].ident.span().start().line);
            }
        }
        visit::visit_pat(self, pat);
    }
}

mod tests {
    use super::*;
    use crate::{holds, text};

    #[test]
    fn matches_on_types_have_no_wildcard_arms() {
        let mut files = text::files(&["src"]);
        files.retain(|path, _| !path.ends_with("tests.rs") && !path.contains("/tests/"));
        holds("a new column type must not compile until every match handles it", &lenient(&files));
    }

    #[test]
    fn matches_are_found_in_every_form() {
        let found = |code: &str| !lenient(&Files::from([("src/a.rs".into(), code.into())])).is_empty();
        assert!(found("fn f() { match k { ColumnType::Int8 => 1, _ => 2 } }"));
        assert!(found("fn f() { match k { (crate::schema::ColumnType::List(_), 1) => 1, _ => 2 } }"));
        assert!(found("fn f() { match d { Some(Data::Map(..)) => 1, _ => 2 } }"));
        assert!(found(
            "impl ColumnType { fn f(&self) { match self { Self::Decimal { .. } => 1, _ => 2 } } }"
        ));
        assert!(found("fn f() { g(|| match 1 { _ => match k { ColumnType::Int8 => 1, _ => 2 } }) }"));

        assert!(!found(
            "#![deny(a, clippy::wildcard_enum_match_arm)] fn f() { match k { Data::Map(..) => 1, _ => 2 } }"
        ));
        assert!(found(
            "#![warn(clippy::wildcard_enum_match_arm)] fn f() { match k { Data::Map(..) => 1, _ => 2 } }"
        ));
        assert!(!found("fn f() { let a = ColumnType::Int8; match 1 { 1 => Data::Int8, _ => Data::Map } }"));
        assert!(!found(
            "impl Kind { fn f(&self) { match self { Self::Data => ColumnType::Int8, _ => 2 } } }"
        ));
        assert!(!found("#[cfg(test)] mod tests { fn f() { match k { ColumnType::Int8 => 1, _ => 2 } } }"));
    }
}
