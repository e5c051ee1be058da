//! Reads the bodies of management calls.

use super::conditions::Said;
use super::model::ExportTable;
use crate::contracts::keboola::names;
use crate::contracts::keboola::validate::{Findings, ObjectNode};
use crate::contracts::reject::Reject;
use crate::mapping::{COLUMNS_MAX, ColumnKind, MappedColumn, MappingLanguage, TEMPLATE_MAX, Template};
use serde_json::Value;
use std::ops::RangeInclusive;

const ID: RangeInclusive<usize> = 1..=names::ID_CHARS_MAX;
const NAME: RangeInclusive<usize> = 1..=40;
const DESCRIPTION: RangeInclusive<usize> = 0..=4096;
const COLUMNS: RangeInclusive<usize> = 1..=COLUMNS_MAX;
const CONTENT: RangeInclusive<usize> = 1..=TEMPLATE_MAX;
const TYPES: [&str; 6] = ["id", "datetime", "ip", "body", "headers", "template"];

#[derive(Debug, Default)]
pub(super) struct CreateReceiver<'v> {
    pub(super) id: Option<&'v str>,
    pub(super) name: &'v str,
    pub(super) description: &'v str,
    pub(super) exports: Vec<CreateExport<'v>>,
}

#[derive(Debug, Default)]
pub(super) struct UpdateReceiver<'v> {
    pub(super) name: Option<&'v str>,
    pub(super) description: Option<&'v str>,
}

#[derive(Debug)]
pub(super) struct CreateExport<'v> {
    pub(super) id: Option<&'v str>,
    pub(super) name: &'v str,
    pub(super) mapping: ExportTable,
    pub(super) conditions: Said<'v>,
}

#[derive(Debug)]
pub(super) struct UpdateExport<'v> {
    pub(super) name: Option<&'v str>,
    pub(super) mapping: Option<ExportTable>,
    pub(super) conditions: Said<'v>,
}

/// Reads a body. The result is used only if the body has no error.
fn whole<'v, T>(
    body: &'v Value,
    read: impl FnOnce(&ObjectNode<'v>, &mut Findings) -> Option<T>,
) -> Result<T, Reject> {
    let mut findings = Findings::default();
    let said = ObjectNode::root(body, &mut findings).and_then(|root| read(&root, &mut findings));
    findings.finish()?;
    said.ok_or_else(|| Reject::malformed("missing required payload").code("missingPayload"))
}

pub(super) fn create_receiver(body: &Value) -> Result<CreateReceiver<'_>, Reject> {
    whole(body, |root, findings| {
        root.require(&["name"], findings);
        let id = root.text("id", &ID, findings);
        let name = root.text("name", &NAME, findings);
        let description = root.text("description", &DESCRIPTION, findings).unwrap_or("");
        // A receiver may be made without exports.
        let exports = root.list("exports", findings).unwrap_or_default();
        let exports = exports.iter().filter_map(|node| export(node, findings)).collect();
        Some(CreateReceiver { id, name: name?, description, exports })
    })
}

pub(super) fn update_receiver(body: &Value) -> Result<UpdateReceiver<'_>, Reject> {
    whole(body, |root, findings| {
        let name = root.text("name", &NAME, findings);
        let description = root.text("description", &DESCRIPTION, findings);
        Some(UpdateReceiver { name, description })
    })
}

pub(super) fn create_export(body: &Value) -> Result<CreateExport<'_>, Reject> {
    whole(body, export)
}

pub(super) fn update_export(body: &Value) -> Result<UpdateExport<'_>, Reject> {
    whole(body, |root, findings| {
        let name = root.text("name", &NAME, findings);
        let mapping = root.object("mapping", findings);
        let mapping = mapping.map(|node| table(&node, findings));
        let conditions = conditions(root, findings);
        // A mapping that cannot be read is already a finding.
        Some(UpdateExport { name, mapping: mapping.flatten(), conditions })
    })
}

fn export<'v>(node: &ObjectNode<'v>, findings: &mut Findings) -> Option<CreateExport<'v>> {
    node.require(&["name", "mapping"], findings);
    let id = node.text("id", &ID, findings);
    let name = node.text("name", &NAME, findings);
    let mapping = node.object("mapping", findings);
    let mapping = mapping.and_then(|node| table(&node, findings));
    let conditions = conditions(node, findings);
    Some(CreateExport { id, name: name?, mapping: mapping?, conditions })
}

fn conditions<'v>(node: &ObjectNode<'v>, findings: &mut Findings) -> Said<'v> {
    let node = node.object("conditions", findings);
    node.map(|node| Said::read(&node, findings)).unwrap_or_default()
}

fn table(node: &ObjectNode<'_>, findings: &mut Findings) -> Option<ExportTable> {
    node.require(&["tableId", "columns"], findings);
    let table_id = node.text("tableId", &(0..=usize::MAX), findings);
    let incremental = node.flag("incremental", findings).unwrap_or(true);
    let columns = node.list("columns", findings)?;
    let written = if columns.is_empty() { "{}" } else { "{…}" };
    let value = format!("[]*server.ColumnRequestBody{written}");
    findings.length(&node.path("columns"), &COLUMNS, &value, columns.len());
    let columns = columns.iter().filter_map(|node| column(node, findings)).collect();
    Some(ExportTable { id: table_id?.to_owned(), incremental, columns })
}

fn column(node: &ObjectNode<'_>, findings: &mut Findings) -> Option<MappedColumn> {
    node.require(&["type", "name"], findings);
    let primary_key = Some(node.flag("primaryKey", findings).unwrap_or(false));
    let kind = node.word("type", &TYPES, findings);
    let name = node.text("name", &(0..=usize::MAX), findings);
    let template = node.object("template", findings);
    let template = template.and_then(|node| read_template(&node, findings));
    let kind = match kind? {
        "id" => ColumnKind::Id,
        "datetime" => ColumnKind::Datetime,
        "ip" => ColumnKind::Ip,
        "body" => ColumnKind::Body,
        "headers" => ColumnKind::Headers,
        "template" => {
            node.require(&["template"], findings);
            ColumnKind::Template { template: template?, raw_string: false }
        }
        _ => return None,
    };
    Some(MappedColumn { primary_key, kind, name: name?.to_owned() })
}

fn read_template(node: &ObjectNode<'_>, findings: &mut Findings) -> Option<Template> {
    node.require(&["language", "content"], findings);
    let language = node.word("language", &["jsonnet"], findings);
    let content = node.text("content", &CONTENT, findings);
    language?;
    Some(Template { language: MappingLanguage::Jsonnet, content: content?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(body: &Value) -> String {
        create_receiver(body).unwrap_err().external.into_owned()
    }

    #[test]
    fn a_receiver_with_exports_is_read() {
        let body = json!({"name": "R", "exports": [{"exportId": "ignored", "name": "E", "mapping": {
            "tableId": "in.c-b.t",
            "columns": [
                {"type": "id", "name": "id", "primaryKey": true},
                {"type": "template", "name": "t", "template": {"language": "jsonnet", "content": "1"}},
            ],
        }}]});
        let read = create_receiver(&body).unwrap();
        assert_eq!((read.id, read.name, read.description, read.exports.len()), (None, "R", "", 1));
        let export = &read.exports[0];
        assert_eq!((export.id, export.name), (None, "E"));
        assert!(export.mapping.incremental);
        let columns = export.mapping.columns.iter();
        let columns: Vec<_> = columns.map(|column| (column.name.as_str(), column.primary_key)).collect();
        assert_eq!(columns, [("id", Some(true)), ("t", Some(false))]);
        assert_eq!(
            serde_json::to_value(&export.mapping).unwrap().to_string(),
            "{\"id\":\"in.c-b.t\",\"incremental\":true,\"columns\":[{\"primaryKey\":true,\"type\":\"id\",\"name\":\"id\"},\
             {\"primaryKey\":false,\"type\":\"template\",\"template\":{\"language\":\"jsonnet\",\"content\":\"1\"},\
             \"name\":\"t\"}]}"
        );
    }

    #[test]
    fn findings_name_their_place() {
        assert_eq!(
            refused(&json!({"name": "R", "exports": [{}]})),
            "\"name\" is missing from body.exports[0]; \"mapping\" is missing from body.exports[0]"
        );
        let with_columns = |columns: Value| json!({"name": "R", "exports": [{"name": "E", "mapping": {"tableId": "in.c-b.t", "columns": columns}}]});
        assert_eq!(
            refused(&with_columns(json!([]))),
            "length of body.exports[0].mapping.columns must be greater or equal than 1 but got value \
             []*server.ColumnRequestBody{} (len=0)"
        );
        assert_eq!(
            refused(&with_columns(json!([{"type": "foo", "name": "x"}]))),
            "value of body.exports[0].mapping.columns[0].type must be one of \"id\", \"datetime\", \"ip\", \"body\", \
             \"headers\", \"template\" but got value \"foo\""
        );
        assert_eq!(
            refused(&with_columns(json!([{"type": "template", "name": "x"}]))),
            "\"template\" is missing from body.exports[0].mapping.columns[0]"
        );
        assert_eq!(
            refused(&with_columns(
                json!([{"type": "template", "name": "x", "template": {"language": "js", "content": ""}}])
            )),
            "value of body.exports[0].mapping.columns[0].template.language must be one of \"jsonnet\" but got value \
             \"js\"; length of body.exports[0].mapping.columns[0].template.content must be greater or equal than 1 but got \
             value \"\" (len=0)"
        );
    }
}
