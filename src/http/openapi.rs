//! The `OpenAPI` document of all routes, served at `/openapi.json`: the parts of the contracts and of the admin
//! listener. Each part is maintained by hand next to the routes that it describes; tests compare it with the routes
//! and with every response they see.

use super::admin;
use crate::contracts::{TABLE, openapi};
use serde_json::{Value, json};

/// Builds the document. Paths of the ingest listener name that listener as their server.
pub fn document(ingest_url: &str) -> Value {
    let mut document = openapi::shared();
    // The admin listener serves the document itself.
    document["servers"] = json!([{"url": "/", "description": "admin listener"}]);
    let ingest = json!([{"url": ingest_url, "description": "ingest listener"}]);
    for entry in TABLE {
        let mut part = openapi::parse(entry.openapi);
        let paths = part["paths"].as_object_mut();
        for item in paths.into_iter().flat_map(|paths| paths.values_mut()) {
            item["servers"] = ingest.clone();
        }
        openapi::add(&mut document, part);
    }
    openapi::add(&mut document, openapi::parse(admin::OPENAPI));
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_says_which_listener_serves_it() {
        let document = document("http://events:7171");
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(document["paths"]["/v0/events"]["servers"][0]["url"], "http://events:7171");
        assert_eq!(document["paths"]["/healthz"].get("servers"), None);
    }

    fn parts() -> Vec<Value> {
        let contracts = TABLE.iter().map(|entry| entry.openapi);
        contracts.chain([admin::OPENAPI]).map(openapi::parse).collect()
    }

    /// Pointers to the components that a part defines.
    fn brought(part: &Value) -> Vec<String> {
        let sections = part["components"].as_object().into_iter().flatten();
        let names = |(section, components): (&String, &Value)| {
            let names = components.as_object().unwrap().keys();
            names.map(|name| format!("/components/{section}/{name}")).collect::<Vec<_>>()
        };
        sections.flat_map(names).collect()
    }

    /// Otherwise the later definition would be merged into the earlier one.
    #[test]
    fn nothing_is_described_twice() {
        let whole = document("");
        let of_parts = || parts().into_iter().chain([openapi::shared()]);
        let paths: usize = of_parts().map(|part| part["paths"].as_object().unwrap().len()).sum();
        assert_eq!(whole["paths"].as_object().unwrap().len(), paths);
        let components: usize = of_parts().map(|part| brought(&part).len()).sum();
        assert_eq!(brought(&whole).len(), components);
    }

    #[test]
    fn components_stand_with_the_part_that_uses_them_and_are_shared_only_if_several_do() {
        let whole = document("");
        let parts = parts();
        let used: Vec<_> = parts.iter().map(|part| openapi::used(&whole, &part["paths"])).collect();
        let users = |pointer: &String| used.iter().filter(|used| used.contains(pointer)).count();
        for (part, used) in parts.iter().zip(&used) {
            for pointer in brought(part) {
                assert!(used.contains(&pointer) && users(&pointer) == 1, "{pointer}");
            }
        }
        for pointer in brought(&openapi::shared()) {
            assert!(users(&pointer) > 1, "{pointer} is shared, and used by {}", users(&pointer));
        }
    }
}
