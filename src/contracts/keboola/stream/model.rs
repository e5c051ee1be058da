//! Sources and sinks as the catalog stores them.

use super::settings::Overrides;
use crate::auth::Caller;
use crate::batch::StreamId;
use crate::catalog::CatalogError;
use crate::clock::Micros;
use crate::contracts::reject::Reject;
use crate::contracts::shared::collection::Collection;
use crate::contracts::shared::control::Control;
use crate::formats::otlp::OtlpSignal;
use crate::mapping::Mapping;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

/// The owner of this contract's documents in the catalog.
const CATALOG_NAME: &str = "keboola_stream";
const SOURCES: &str = "source";

/// Identifies a source, or one of its sinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntityPlace {
    pub(super) branch: u64,
    pub(super) source: String,
    pub(super) sink: Option<String>,
}

impl EntityPlace {
    /// The form used in the ids of tasks.
    pub(super) fn path(&self) -> String {
        let Self { branch, source, sink } = self;
        sink.as_ref().map_or_else(|| format!("{branch}/{source}"), |sink| format!("{branch}/{source}/{sink}"))
    }

    /// Parses the name of a source's document.
    fn of_name(name: &str) -> Option<Self> {
        let (branch, source) = name.split_once('/')?;
        Some(Self { branch: branch.parse().ok()?, source: source.to_owned(), sink: None })
    }

    /// The name of its document within its collection.
    fn name(&self) -> String {
        self.sink.clone().unwrap_or_else(|| self.path())
    }

    /// The source itself, or the source of a sink.
    pub(super) fn of_source(&self) -> Self {
        Self { sink: None, ..self.clone() }
    }

    /// The id of the source or sink.
    pub(super) fn id(&self) -> &str {
        self.sink.as_deref().unwrap_or(&self.source)
    }

    pub(super) fn is_sink(&self) -> bool {
        self.sink.is_some()
    }
}

/// The versioned part of an entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    /// Sinks of an OTLP source only: the signals that it takes. `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signals: Option<Vec<OtlpSignal>>,
    /// Sinks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) table: Option<SinkTable>,
    #[serde(default)]
    pub(super) settings: Overrides,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SinkTable {
    pub(super) table_id: String,
    pub(super) mapping: Mapping,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) hash: String,
    pub(super) description: String,
    pub(super) at: Micros,
    pub(super) by: Value,
}

/// The time and the author of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) at: Micros,
    pub(super) by: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// Sinks only: it was deleted with its source, and is undeleted with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) with_source: bool,
}

/// A source or a sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entity {
    #[serde(flatten)]
    pub(super) content: Content,
    pub(super) version: Version,
    pub(super) created: Mark,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deleted: Option<Mark>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) disabled: Option<Mark>,
    /// The stream of its records.
    pub(super) stream: StreamId,
    /// Sources only: the secret in its address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) secret: String,
    /// Sinks only: its statistics leave out everything up to this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cleared_at: Option<Micros>,
}

impl Entity {
    pub(super) fn is_live(&self) -> bool {
        self.deleted.is_none() && self.disabled.is_none()
    }
}

/// An entity with its place.
#[derive(Debug, Clone)]
pub(super) struct StoredEntity {
    pub(super) place: EntityPlace,
    pub(super) entity: Entity,
}

/// A past version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PastVersion {
    pub(super) content: Content,
    pub(super) version: Version,
}

/// The caller, as the contract shows users.
pub(super) fn by(caller: &Caller) -> Value {
    let id = caller.id.0.to_string();
    json!({"type": "user", "tokenId": id, "tokenDesc": &*caller.name, "userId": id, "userName": &*caller.name})
}

/// The documents of one project.
#[derive(Clone, Copy)]
pub(super) struct EntityStore<'a> {
    pub(super) control: &'a Arc<Control>,
    pub(super) project: &'a str,
}

fn collection<T: Serialize + DeserializeOwned>(
    control: &Arc<Control>,
    kind: impl Into<Cow<'static, str>>,
) -> Collection<T> {
    Collection::new(Arc::clone(control), CATALOG_NAME, kind)
}

/// The name of a version's document. Names sort in the order of the version numbers.
fn version_name(number: u32) -> String {
    format!("{number:010}")
}

impl EntityStore<'_> {
    /// The collection that holds an entity: all sources, or the sinks of one source.
    fn beside(&self, place: &EntityPlace) -> Collection<Entity> {
        match &place.sink {
            None => collection(self.control, SOURCES),
            Some(_) => collection(self.control, sinks_of(place)),
        }
    }

    /// The versions of an entity.
    fn past(&self, place: &EntityPlace) -> Collection<PastVersion> {
        collection(self.control, format!("version/{}", place.path()))
    }

    pub(super) fn find(&self, place: &EntityPlace) -> Result<Option<Entity>, Reject> {
        Ok(self.beside(place).get(self.project, &place.name())?.map(|found| found.value))
    }

    /// All sources of a branch, including deleted ones.
    pub(super) fn sources(&self, branch: u64) -> Result<Vec<StoredEntity>, Reject> {
        let found = collection::<Entity>(self.control, SOURCES).all(self.project)?;
        let kept = found.into_iter().filter_map(|source| {
            Some(StoredEntity { place: EntityPlace::of_name(&source.name)?, entity: source.value })
        });
        Ok(kept.filter(|kept| kept.place.branch == branch).collect())
    }

    /// All sinks of a source, including deleted ones.
    pub(super) fn sinks(&self, source: &EntityPlace) -> Result<Vec<StoredEntity>, Reject> {
        let found = collection::<Entity>(self.control, sinks_of(source)).all(self.project)?;
        let kept = found.into_iter().map(|sink| StoredEntity {
            place: EntityPlace { sink: Some(sink.name), ..source.clone() },
            entity: sink.value,
        });
        Ok(kept.collect())
    }

    /// Stores a new entity and its current version.
    pub(super) fn create(&self, place: &EntityPlace, entity: &Entity) -> Result<(), Reject> {
        let made = self.beside(place).create(self.project, &place.name(), entity);
        made.map_err(|error| Reject::internal(&error))?;
        self.save_version(place, entity)
    }

    pub(super) fn save(&self, place: &EntityPlace, entity: &Entity) -> Result<(), Reject> {
        let saved = self.beside(place).replace(self.project, &place.name(), None, entity);
        saved.map(drop).map_err(|error| Reject::internal(&error))
    }

    /// Stores the current version of an entity.
    pub(super) fn save_version(&self, place: &EntityPlace, entity: &Entity) -> Result<(), Reject> {
        let past = PastVersion { content: entity.content.clone(), version: entity.version.clone() };
        let made = self.past(place).create(self.project, &version_name(past.version.number), &past);
        made.map(drop).map_err(|error| Reject::internal(&error))
    }

    /// Oldest first.
    pub(super) fn versions(&self, place: &EntityPlace) -> Result<Vec<PastVersion>, Reject> {
        Ok(self.past(place).all(self.project)?.into_iter().map(|past| past.value).collect())
    }

    pub(super) fn version(&self, place: &EntityPlace, number: u32) -> Result<Option<PastVersion>, Reject> {
        Ok(self.past(place).get(self.project, &version_name(number))?.map(|past| past.value))
    }

    /// Deletes the documents of an entity and of its versions.
    pub(super) fn forget(&self, place: &EntityPlace) -> Result<(), Reject> {
        self.beside(place).delete(self.project, &place.name())?;
        let past = self.past(place);
        for version in past.all(self.project)? {
            past.delete(self.project, &version.name)?;
        }
        Ok(())
    }
}

fn sinks_of(source: &EntityPlace) -> String {
    format!("sink/{}", source.of_source().path())
}

/// Every stored source, with its project.
pub(super) fn every_source(control: &Arc<Control>) -> Result<Vec<(String, EntityPlace)>, CatalogError> {
    let found = collection::<Entity>(control, SOURCES).readable()?;
    let places = found
        .into_iter()
        .filter_map(|(project, source)| Some((project, EntityPlace::of_name(&source.name)?)));
    Ok(places.collect())
}
