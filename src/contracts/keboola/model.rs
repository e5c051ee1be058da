//! What is kept of receivers and exports: one document for a receiver with its exports, so that a change of them is one
//! transaction.

use super::conditions::Conditions;
use super::reply::not_found;
use super::{DIALECT, names};
use crate::contracts::reject::Reject;
use crate::contracts::shared::control::{CatalogError, Control, Object, ObjectError, ObjectKey};
use crate::mapping::{ColumnKind, MappedColumn};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const KIND: &str = "receiver";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Receiver {
    #[serde(skip)]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) secret: String,
    /// The stream that its requests are frames of, by its UUID.
    pub(super) stream: String,
    pub(super) exports: Vec<Export>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Export {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) mapping: Table,
    pub(super) conditions: Conditions,
    /// How many mappings it has had.
    pub(super) revision: u32,
    /// The stream of its rows, by its UUID.
    pub(super) stream: String,
}

/// Where the rows of an export go, and what they are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// `in.c-bucket.table`
    pub(super) id: String,
    pub(super) incremental: bool,
    pub(super) columns: Vec<MappedColumn>,
}

impl Table {
    pub(super) fn column_names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.name.as_str()).collect()
    }

    pub(super) fn key_names(&self) -> Vec<&str> {
        let of_key = self.columns.iter().filter(|column| column.primary_key == Some(true));
        of_key.map(|column| column.name.as_str()).collect()
    }

    fn shown(&self) -> Value {
        let columns: Vec<Value> = self.columns.iter().map(column).collect();
        json!({"tableId": self.id, "incremental": self.incremental, "columns": columns})
    }
}

/// A column in the order of the contract's fields.
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

fn key<'a>(project: &'a str, id: &'a str) -> ObjectKey<'a> {
    ObjectKey { dialect: DIALECT, project, kind: KIND, name: id }
}

impl Receiver {
    fn of(object: Object) -> Result<Self, serde_json::Error> {
        let receiver: Self = serde_json::from_value(object.document)?;
        Ok(Self { id: object.name, ..receiver })
    }

    /// In the order of their ids.
    pub(super) fn all(control: &Control, project: &str) -> Result<Vec<Self>, Reject> {
        let found =
            control.catalog.objects(DIALECT, project, KIND).map_err(|error| Reject::internal(&error))?;
        let receivers: Result<Vec<_>, _> = found.into_iter().map(Self::of).collect();
        receivers.map_err(|error| Reject::internal(&error))
    }

    /// Those of every project, with the project. What cannot be read is left out, and told.
    pub(super) fn everywhere(control: &Control) -> Result<Vec<(String, Self)>, CatalogError> {
        let found = control.catalog.objects_everywhere(DIALECT, KIND)?;
        let readable = |(project, object): (String, Object)| match Self::of(object) {
            Ok(receiver) => Some((project, receiver)),
            Err(error) => {
                tracing::error!(project, %error, "a receiver's document cannot be read");
                None
            }
        };
        Ok(found.into_iter().filter_map(readable).collect())
    }

    pub(super) fn get(control: &Control, project: &str, id: &str) -> Result<Option<Self>, Reject> {
        let found = control.catalog.object(key(project, id)).map_err(|error| Reject::internal(&error))?;
        found.map(Self::of).transpose().map_err(|error| Reject::internal(&error))
    }

    pub(super) fn find(control: &Control, project: &str, id: &str) -> Result<Self, Reject> {
        let found = Self::get(control, project, id)?;
        found.ok_or_else(|| {
            not_found("receiverNotFound", format!("receiver \"{id}\" not found in the project"))
        })
    }

    /// Stores a new one.
    pub(super) fn insert(&self, control: &Control, project: &str) -> Result<(), Reject> {
        match control.catalog.create_object(key(project, &self.id), &self.document()) {
            Ok(_) => Ok(()),
            Err(ObjectError::Exists) => Err(exists(&self.id)),
            Err(error) => Err(Reject::internal(&error)),
        }
    }

    pub(super) fn update(&self, control: &Control, project: &str) -> Result<(), Reject> {
        let stored = control.catalog.replace_object(key(project, &self.id), None, &self.document());
        stored.map(drop).map_err(|error| Reject::internal(&error))
    }

    pub(super) fn delete(&self, control: &Control, project: &str) -> Result<(), Reject> {
        let deleted = control.catalog.delete_object(key(project, &self.id));
        deleted.map(drop).map_err(|error| Reject::internal(&error))
    }

    fn document(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    pub(super) fn export(&self, id: &str) -> Result<&Export, Reject> {
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

/// The refusal of a second receiver of an id.
pub(super) fn exists(id: &str) -> Reject {
    let message = format!("receiver \"{id}\" already exists in the project");
    Reject::new(crate::contracts::reject::Kind::Conflict, message).code("receiverAlreadyExists")
}

impl Export {
    /// The name of the stream of its rows.
    pub(super) fn stream_name(project: &str, receiver: &str, id: &str) -> String {
        format!("{}.{}", Receiver::stream_name(project, receiver), names::part(id))
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
