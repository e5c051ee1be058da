//! One name, one type: whoever reads a name knows which type it is, whatever the file.

use crate::{holds, parse::Files, text};
use std::collections::BTreeMap;
use syn::Item;

/// Names that more than one type has, with their files. An alias is a type as well.
fn shared(files: &Files) -> Vec<String> {
    let mut places = BTreeMap::<String, Vec<&str>>::new();
    for (path, text) in files {
        for item in syn::parse_file(text).unwrap().items {
            let (Item::Enum(syn::ItemEnum { ident, .. })
            | Item::Struct(syn::ItemStruct { ident, .. })
            | Item::Trait(syn::ItemTrait { ident, .. })
            | Item::Type(syn::ItemType { ident, .. })) = item
            else {
                continue;
            };
            places.entry(ident.to_string()).or_default().push(path);
        }
    }
    let shared = places.iter().filter(|(_, files)| files.len() > 1);
    shared.map(|(name, files)| format!("{name}: {}", files.join(", "))).collect()
}

#[test]
fn a_type_has_a_name_of_its_own() {
    let mut files = text::files(&["src"]);
    files.retain(|path, _| !path.ends_with("tests.rs") && !path.contains("/tests/"));
    holds("two types must not have the same name", &shared(&files));
}
