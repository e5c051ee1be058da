//! Receivers and exports as the catalog stores them: one document for a receiver and its exports, so that a change to
//! them is one transaction.

use super::conditions::ImportConditions;
use crate::contracts::keboola::names;
use crate::contracts::keboola::reply::not_found;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::collection::Document;
use crate::mapping::{ColumnKind, MappedColumn};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct BufferReceiver {
    #[serde(skip)]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) secret: String,
    /// UUID of the stream whose frames are its requests.
    pub(super) stream: String,
    pub(super) exports: Vec<BufferExport>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct BufferExport {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) mapping: ExportTable,
    pub(super) conditions: ImportConditions,
    /// The number of mappings so far.
    pub(super) revision: u32,
    /// UUID of the stream of its rows.
    pub(super) stream: String,
}

/// The table that the rows of an export go to, and their columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ExportTable {
    /// `in.c-bucket.table`
    pub(super) id: String,
    pub(super) incremental: bool,
    pub(super) columns: Vec<MappedColumn>,
}

impl ExportTable {
    fn shown(&self) -> Value {
        let columns: Vec<Value> = self.columns.iter().map(column).collect();
        json!({"tableId": self.id, "incremental": self.incremental, "columns": columns})
    }
}

/// A column, its fields in the contract's order.
fn column(column: &MappedColumn) -> Value {
    let (kind, template) = match &column.kind {
        ColumnKind::Template { template, .. } => ("template", Some(template)),
        ColumnKind::Id => ("id", None),
        ColumnKind::Datetime => ("datetime", None),
        ColumnKind::Ip => ("ip", None),
        ColumnKind::Body => ("body", None),
        ColumnKind::Headers => ("headers", None),
        ColumnKind::Uuid => ("uuid", None),
        ColumnKind::Path { .. } => ("path", None),
    };
    let primary_key = column.primary_key == Some(true);
    let mut shown = json!({"primaryKey": primary_key, "type": kind, "name": column.name});
    if let (Some(template), Some(shown)) = (template, shown.as_object_mut()) {
        shown.insert("template".to_owned(), json!({"language": "jsonnet", "content": template.content}));
    }
    shown
}

impl BufferReceiver {
    pub(super) fn from_document(document: Document<Self>) -> Self {
        Self { id: document.name, ..document.value }
    }

    pub(super) fn export(&self, id: &str) -> Result<&BufferExport, Reject> {
        self.exports
            .iter()
            .find(|export| export.id == id)
            .ok_or_else(|| not_found("exportNotFound", format!("export \"{id}\" not found in the receiver")))
    }

    /// The name of the stream of its requests.
    pub(super) fn stream_name(project: &str, id: &str) -> String {
        format!("keboola.{project}.{}", names::part(id))
    }

    pub(super) fn shown(&self, project: &str, base: &str) -> Value {
        let exports: Vec<Value> = self.exports.iter().map(|export| export.shown(&self.id)).collect();
        json!({
            "id": self.id,
            "url": format!("{base}/v1/import/{project}/{}/{}", self.id, self.secret),
            "name": self.name,
            "description": self.description,
            "exports": exports,
        })
    }
}

/// Refuses a receiver whose id already exists.
pub(super) fn exists(id: &str) -> Reject {
    let message = format!("receiver \"{id}\" already exists in the project");
    Reject::new(RejectKind::Conflict, message).code("receiverAlreadyExists")
}

impl BufferExport {
    /// The name of the stream of its rows.
    pub(super) fn stream_name(project: &str, receiver: &str, id: &str) -> String {
        format!("{}.{}", BufferReceiver::stream_name(project, receiver), names::part(id))
    }

    pub(super) fn shown(&self, receiver: &str) -> Value {
        json!({
            "id": self.id,
            "receiverId": receiver,
            "name": self.name,
            "mapping": self.mapping.shown(),
            "conditions": self.conditions.shown(),
        })
    }
}
