//! The `OpenAPI` document of everything served, at `/openapi.json`. Kept by hand in `docs/openapi.yaml`, where people read
//! it; the tests compare it with the routes and with every answer they see.

use serde_json::{Value, json};

const SOURCE: &str = include_str!("../../docs/openapi.yaml");

/// Paths of the admin listener, which is where the document itself is served.
fn is_admin(path: &str) -> bool {
    path.starts_with("/admin/") || matches!(path, "/healthz" | "/readyz" | "/metrics" | "/openapi.json")
}

/// The document. Paths of the ingest listener name it as their server.
pub fn document(ingest_url: &str) -> Result<Value, serde_saphyr::Error> {
    let mut document: Value = serde_saphyr::from_str(SOURCE)?;
    document["servers"] = json!([{"url": "/", "description": "admin listener"}]);
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for (path, item) in paths.into_iter().flatten() {
        if is_admin(path) {
            // The document's own server.
            item.as_object_mut().and_then(|item| item.remove("servers"));
        } else {
            item["servers"] = json!([{"url": ingest_url, "description": "ingest listener"}]);
        }
    }
    Ok(document)
}

/// The part of the document that has a tag, with what it refers to: the document of one contract.
pub fn of_tag(tag: &str, url: &str) -> Result<Value, serde_saphyr::Error> {
    let mut document = document(url)?;
    document["servers"] = json!([{ "url": url }]);
    let is_tagged =
        |operation: &Value| operation["tags"].as_array().is_some_and(|tags| tags.contains(&tag.into()));
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.retain(|own| own["name"] == tag);
    }
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.retain(|_, item| item.as_object().is_some_and(|item| item.values().any(is_tagged)));
        for item in paths.values_mut().filter_map(Value::as_object_mut) {
            item.remove("servers");
        }
    }
    let mut used = Vec::new();
    references(&document["paths"], &mut used);
    let mut at = 0;
    while let Some(pointer) = used.get(at).cloned() {
        document.pointer(&pointer).into_iter().for_each(|part| references(part, &mut used));
        at += 1;
    }
    // How to authenticate is referred to by name.
    let names = security_schemes(&document["paths"]);
    document["security"] = json!([]);
    for (section, parts) in document["components"].as_object_mut().into_iter().flatten() {
        let Some(parts) = parts.as_object_mut() else { continue };
        parts.retain(|name, _| match section.as_str() {
            "securitySchemes" => names.contains(name),
            _ => used.contains(&format!("/components/{section}/{name}")),
        });
    }
    Ok(document)
}

/// Adds what a part of the document refers to, each once.
fn references(part: &Value, found: &mut Vec<String>) {
    match part {
        Value::Object(fields) => {
            let pointer = fields.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
            found.extend(
                pointer.filter(|pointer| !found.iter().any(|known| known == pointer)).map(str::to_owned),
            );
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn security_schemes(paths: &Value) -> Vec<String> {
    let items = paths.as_object().into_iter().flatten().filter_map(|(_, item)| item.as_object());
    let operations = items.flat_map(|item| item.values());
    let required = operations.filter_map(|operation| operation.get("security")?.as_array()).flatten();
    required.filter_map(Value::as_object).flat_map(|scheme| scheme.keys().cloned()).collect()
}

/// A document as YAML.
pub fn yaml(document: &Value) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_says_which_listener_serves_it() {
        let document = document("http://events:7171").unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(document["paths"]["/v0/events"]["servers"][0]["url"], "http://events:7171");
        assert_eq!(document["paths"]["/healthz"].get("servers"), None);
    }

    #[test]
    fn the_document_of_one_contract_is_whole() {
        let document = of_tag("polaris", "http://events:7171").unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.contains_key("/v1/events/{table}") && !paths.contains_key("/v0/events"));
        assert_eq!(document["servers"], json!([{"url": "http://events:7171"}]));
        let mut used = Vec::new();
        references(&document, &mut used);
        assert!(!used.is_empty());
        for pointer in used {
            assert!(document.pointer(&pointer).is_some(), "{pointer}");
        }
        let text = yaml(&document).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), document);
    }
}
