//! Assembles the `OpenAPI` document from parts. Each contract describes its routes in the `openapi.json` next to them;
//! what several parts use is in the one next to this file. The parts are merged here, or one is rendered on its own.
//! Which listener serves the result, and at which path, is left to the caller.

use bytes::Bytes;
use serde_json::{Value, json};

const SHARED: &str = include_str!("openapi.json");

/// The document that parts are added to, without paths and servers.
pub fn shared() -> Value {
    parse(SHARED)
}

pub fn parse(part: &str) -> Value {
    serde_json::from_str(part).expect("parts are compiled in, and the tests parse each of them")
}

/// Adds a part to a document. The two must have no path and no component in common.
pub fn add(document: &mut Value, part: Value) {
    match (document, part) {
        (Value::Object(known), Value::Object(fields)) => {
            for (name, value) in fields {
                add(known.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(known), Value::Array(items)) => known.extend(items),
        (known, value) => *known = value,
    }
}

/// The document of a single part, with the shared components that it uses. It has no servers yet.
pub fn alone(part: &str) -> Value {
    let mut document = shared();
    add(&mut document, parse(part));
    let used = used(&document, &document["paths"]);
    if operations(&document["paths"]).all(|operation| operation.get("security").is_some()) {
        // No operation uses the default.
        document["security"] = json!([]);
    }
    for (section, components) in document["components"].as_object_mut().into_iter().flatten() {
        if let Some(components) = components.as_object_mut() {
            components.retain(|name, _| used.contains(&format!("/components/{section}/{name}")));
        }
    }
    document
}

/// Pointers to the components of a document that the paths use, without duplicates.
pub fn used(document: &Value, paths: &Value) -> Vec<String> {
    // Security schemes are referenced by name.
    let security =
        operations(paths).map(|operation| operation.get("security").unwrap_or(&document["security"]));
    let schemes = security.filter_map(Value::as_array).flatten().filter_map(Value::as_object);
    let mut used = Vec::new();
    for name in schemes.flat_map(|scheme| scheme.keys()) {
        note(format!("/components/securitySchemes/{name}"), &mut used);
    }
    references(paths, &mut used);
    let mut at = 0_usize;
    while let Some(pointer) = used.get(at) {
        if let Some(component) = document.pointer(pointer) {
            references(component, &mut used);
        }
        at = at.saturating_add(1);
    }
    used
}

/// A document rendered once: each answer is a copy with the server address that the client uses.
#[derive(Debug)]
pub struct Addressed {
    before: String,
    after: String,
    render: fn(&Value) -> String,
}

impl Addressed {
    /// Placeholder for the address while the document is rendered.
    const HOLE: &str = "address of the server";

    pub fn new(mut document: Value, render: fn(&Value) -> String) -> Self {
        document["servers"] = json!([{"url": Self::HOLE}]);
        let text = render(&document);
        let hole = render(&Self::HOLE.into());
        let (before, after) = text.split_once(&hole).expect("the rendered document has the placeholder");
        Self { before: before.to_owned(), after: after.to_owned(), render }
    }

    pub fn at(&self, address: &str) -> Bytes {
        // The address often comes from the `Host` header, which may hold anything.
        [&*self.before, &*(self.render)(&address.into()), &*self.after].concat().into()
    }
}

fn operations(paths: &Value) -> impl Iterator<Item = &Value> {
    let items = paths.as_object().into_iter().flat_map(|paths| paths.values()).filter_map(Value::as_object);
    // A path item also has parameters, which are not operations.
    items.flat_map(|item| item.values()).filter(|operation| operation.get("responses").is_some())
}

fn references(part: &Value, found: &mut Vec<String>) {
    match part {
        Value::Object(fields) => {
            let pointer = fields.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
            if let Some(pointer) = pointer {
                note(pointer.to_owned(), found);
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn note(pointer: String, found: &mut Vec<String>) {
    if !found.contains(&pointer) {
        found.push(pointer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::TABLE;

    fn part(name: &str) -> &'static str {
        TABLE.iter().find(|entry| entry.tag.name() == name).unwrap().openapi
    }

    #[test]
    fn the_document_of_one_contract_is_whole() {
        for entry in TABLE {
            let (contract, part) = (entry.tag, entry.openapi);
            let document = alone(part);
            assert_eq!(document["openapi"], "3.1.0");
            assert_eq!(document["paths"], parse(part)["paths"]);
            let used = used(&document, &document["paths"]);
            assert!(!used.is_empty(), "{contract:?}");
            for pointer in used {
                assert!(document.pointer(&pointer).is_some(), "{contract:?}: {pointer}");
            }
        }
    }

    #[test]
    fn how_to_authenticate_goes_with_the_operations_that_ask_for_it() {
        let document = alone(part("foundry"));
        assert!(document["components"]["securitySchemes"]["bearer"].is_object());
        assert_eq!(
            document["security"],
            json!([{"bearer": []}]),
            "most of its operations ask for the default"
        );
        let document = alone(part("keboola"));
        let schemes = document["components"]["securitySchemes"].as_object().unwrap();
        assert_eq!(schemes.keys().collect::<Vec<_>>(), ["storageApiToken"]);
        assert_eq!(document["security"], json!([]));
    }

    #[test]
    fn the_address_is_a_text_whatever_is_in_it() {
        let document = alone(part("keboola"));
        let text = Addressed::new(document.clone(), Value::to_string);
        for address in ["https://a.example.com", "http://a\"}],\"b\\"] {
            let filled: Value = serde_json::from_slice(&text.at(address)).unwrap();
            assert_eq!(filled["servers"], json!([{"url": address}]));
            assert_eq!((&filled["paths"], &filled["info"]), (&document["paths"], &document["info"]));
        }
    }
}
