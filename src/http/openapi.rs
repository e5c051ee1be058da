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
}
