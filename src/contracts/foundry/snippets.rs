//! Sample code that publishes a record to a stream, with the stream's own address and fields.

use super::model::{DEFAULT_BRANCH, FieldType, SchemaField, StreamSchema, View, schema_of};
use super::{CATALOG_NAME, Foundry, rid};
use crate::catalog::Stream;
use crate::contracts::Extras;
use crate::schema::Column;
use serde_json::{Map, Value, json};

impl Extras for Foundry {
    fn code(&self, stream: &Stream, base: &str) -> Option<Value> {
        let about = stream.settings.vendor.get(CATALOG_NAME);
        let part = |name: &str| Some(about?.get(name)?.as_str()?.to_owned());
        let dataset = part("datasetRid").unwrap_or_else(|| rid::dataset(&stream.uuid));
        let branch = part("branchName").unwrap_or_else(|| DEFAULT_BRANCH.to_owned());
        let known = self.datasets.find(&dataset);
        let view = known.as_ref().and_then(|set| set.branch(&branch)).and_then(|branch| branch.current());
        let schema = view.and_then(View::schema).as_deref().cloned();
        let schema = schema.or_else(|| schema_of(&stream.schema.columns));
        Some(code(base, &dataset, &branch, schema.as_ref()))
    }

    /// The schema for the route that creates datasets.
    fn schema(&self, columns: &[Column]) -> Option<(&'static str, Value)> {
        Some(("foundry_schema", json!(schema_of(columns).map(|schema| schema.to_json()))))
    }

    fn new_stream(&self, _name: &str) -> Option<(String, Map<String, Value>)> {
        None
    }
}

fn code(base: &str, dataset: &str, branch: &str, schema: Option<&StreamSchema>) -> Value {
    let record = example(schema.map_or(&[], |schema| &schema.fields));
    let escaped = percent_encoding::utf8_percent_encode(branch, percent_encoding::NON_ALPHANUMERIC);
    let escaped = escaped.to_string().replace("%2D", "-").replace("%5F", "_").replace("%2E", ".");
    let url = format!("{base}/api/v2/highScale/streams/datasets/{dataset}/streams/{escaped}/publishRecord");
    let body = json!({"record": record}).to_string();
    let curl = format!(
        "curl -X POST \"{url}\" \\\n  -H \"Authorization: Bearer $TOKEN\" \\\n  -H \"Content-Type: \
         application/json\" \\\n  -d '{}'\n",
        body.replace('\'', "'\\''")
    );
    let python = format!(
        "import os\n\nfrom foundry_sdk import Config, UserTokenAuth\nfrom foundry_sdk.v2 import FoundryClient\n\n\
         client = FoundryClient(\n    auth=UserTokenAuth(token=os.environ[\"TOKEN\"]),\n    hostname={},\n    \
         config=Config(scheme={}),\n)\nclient.streams.Dataset.Stream.publish_record(\n    dataset_rid={},\n    \
         stream_branch_name={},\n    record={},\n)\n",
        text(host(base)),
        text(scheme(base)),
        text(dataset),
        text(branch),
        python_value(&record)
    );
    let javascript = format!(
        "const response = await fetch({}, {{\n  method: \"POST\",\n  headers: {{\n    Authorization: `Bearer \
         ${{process.env.TOKEN}}`,\n    \"Content-Type\": \"application/json\",\n  }},\n  body: \
         JSON.stringify({body}),\n}});\nif (response.status !== 204) throw new Error(await response.text());\n",
        text(&url)
    );
    let java = format!(
        "import java.net.URI;\nimport java.net.http.HttpClient;\nimport java.net.http.HttpRequest;\nimport \
         java.net.http.HttpResponse;\n\npublic class Publish {{\n    public static void main(String[] args) throws \
         Exception {{\n        String body = {};\n        HttpRequest request = HttpRequest.newBuilder(URI.create({}))\n                \
         .header(\"Authorization\", \"Bearer \" + System.getenv(\"TOKEN\"))\n                \
         .header(\"Content-Type\", \"application/json\")\n                \
         .POST(HttpRequest.BodyPublishers.ofString(body))\n                .build();\n        \
         HttpResponse<String> response =\n                HttpClient.newHttpClient().send(request, \
         HttpResponse.BodyHandlers.ofString());\n        if (response.statusCode() != 204) throw new \
         RuntimeException(response.body());\n    }}\n}}\n",
        ascii(&text(&body)),
        ascii(&text(&url))
    );
    json!({
        "dataset_rid": dataset,
        "branch": branch,
        "url": url,
        "curl": curl,
        "python": python,
        "javascript": javascript,
        "java": java,
    })
}

/// A string literal. One-line literals are the same in JSON and in all of these languages.
fn text(value: &str) -> String {
    Value::from(value).to_string()
}

/// Escapes a literal to ASCII, so that compilers read it correctly in any source encoding.
fn ascii(literal: &str) -> String {
    let mut units = [0; 2];
    literal.chars().fold(String::with_capacity(literal.len()), |mut text, letter| {
        if letter.is_ascii() {
            text.push(letter);
            return text;
        }
        letter.encode_utf16(&mut units).iter().fold(text, |text, unit| text + &format!("\\u{unit:04x}"))
    })
}

fn scheme(base: &str) -> &str {
    base.split_once("://").map_or("http", |(scheme, _)| scheme)
}

fn host(base: &str) -> &str {
    base.split_once("://").map_or(base, |(_, host)| host)
}

/// A value as a Python literal.
fn python_value(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(python_value).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{}: {}", text(key), python_value(value));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A record that is valid for the stream.
fn example(fields: &[SchemaField]) -> Value {
    let pairs = fields.iter().map(|field| (field.name.clone(), value(&field.item.kind)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn value(kind: &FieldType) -> Value {
    match kind {
        FieldType::Boolean => json!(true),
        FieldType::Byte | FieldType::Short | FieldType::Integer | FieldType::Long => json!(1),
        FieldType::Float | FieldType::Double => json!(1.5),
        FieldType::String => json!("text"),
        FieldType::Binary => json!("AA=="),
        FieldType::Date => json!("2026-01-31"),
        FieldType::Timestamp => json!(1_769_817_600_000_i64),
        FieldType::Decimal { scale: 0, .. } => json!("1"),
        FieldType::Decimal { precision, scale } if precision > scale => {
            json!(format!("1.{}", "0".repeat(usize::from(*scale))))
        }
        FieldType::Decimal { scale, .. } => json!(format!("0.{}", "0".repeat(usize::from(*scale)))),
        FieldType::Array(item) => json!([value(&item.kind)]),
        FieldType::Map(item) => json!({"key": value(&item.kind)}),
        FieldType::Struct(fields) => example(fields),
    }
}
