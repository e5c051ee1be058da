//! Checks every response in the tests against `/openapi.json`, if the document describes its route.

use super::Response;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| forebay::http::openapi::document("http://ingest"));
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Checks a response against the document. Skips routes that it does not describe; another test finds those.
pub fn check(method: &str, target: &str, response: &Response) {
    let path = target.split('?').next().unwrap();
    let Some((template, operation)) = operation(method, path) else { return };
    // The request went to the other listener.
    if response.status == 404 && response.text().contains("no such route") {
        return;
    }
    let status = response.status.to_string();
    let class = format!("{}XX", &status[..1]);
    let responses = &operation["responses"];
    let described =
        [status.as_str(), class.as_str(), "default"].into_iter().find_map(|key| responses.get(key));
    let what = format!("{method} {template} answered {status}");
    let described = described
        .unwrap_or_else(|| panic!("{what}, which its openapi.json does not describe: {}", response.text()));
    let described = resolve(described);
    for (name, header) in described["headers"].as_object().into_iter().flatten() {
        let required = resolve(header)["required"] == json!(true);
        assert!(
            !required || response.header(&name.to_ascii_lowercase()).is_some(),
            "{what} without its header {name}"
        );
    }
    if method == "HEAD" {
        return;
    }
    let Some(content) = described.get("content").and_then(Value::as_object) else {
        assert!(response.body.is_empty(), "{what} with an undescribed body: {}", response.text());
        return;
    };
    let kind = response.header("content-type").unwrap_or("").split(';').next().unwrap().trim();
    let media = content.get(kind).unwrap_or_else(|| panic!("{what} as {kind:?}, which is not described"));
    let (Some(schema), true) = (media.get("schema"), kind.ends_with("json")) else { return };
    let validator = validator(&format!("{what} {kind}"), schema);
    let body = response.json();
    let errors: Vec<String> =
        validator.iter_errors(&body).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(
        errors.is_empty(),
        "{what} with a body that its openapi.json does not allow: {errors:#?}\n{body:#}"
    );
}

/// The described operation, if any; literal segments win over parameters.
fn operation(method: &str, path: &str) -> Option<(&'static str, &'static Value)> {
    let method = if method == "HEAD" { "get".to_owned() } else { method.to_ascii_lowercase() };
    let path = path.strip_suffix('/').unwrap_or(path);
    let fits = |template: &str| {
        let segments: Vec<_> = path.split('/').collect();
        let expected: Vec<_> = template.split('/').collect();
        let fits = |(expected, segment): (&&str, &&str)| {
            (expected.starts_with('{') && !segment.is_empty()) || expected == segment
        };
        segments.len() == expected.len() && expected.iter().zip(&segments).all(fits)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    // The last parameter of these templates matches the rest of the path.
    let takes_rest = |template: &str| path.starts_with(template.split('{').next().unwrap());
    let fitting = paths
        .iter()
        .filter(|(template, item)| fits(template) || (item["x-rest"] == json!(true) && takes_rest(template)));
    let (template, item) = fitting.min_by_key(|(template, _)| template.matches('{').count())?;
    Some((template, item.get(&method)?))
}

fn resolve(value: &'static Value) -> &'static Value {
    let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return value };
    let pointer = reference.strip_prefix('#').unwrap();
    DOCUMENT.pointer(pointer).unwrap_or_else(|| panic!("{reference} does not exist"))
}

fn validator(key: &str, schema: &Value) -> Arc<Validator> {
    let mut validators = VALIDATORS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let made = validators.entry(key.to_owned()).or_insert_with(|| {
        let whole = json!({"components": DOCUMENT["components"], "allOf": [schema]});
        Arc::new(jsonschema::draft202012::new(&whole).unwrap_or_else(|error| panic!("{key}: {error}")))
    });
    Arc::clone(made)
}
