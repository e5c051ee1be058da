//! Sources and sinks as the catalog keeps them.

use super::settings::Overrides;
use crate::auth::Caller;
use crate::batch::StreamId;
use crate::contracts::reject::Reject;
use crate::contracts::shared::control::{Control, Micros, ObjectKey};
use crate::formats::otlp::Signal;
use crate::mapping::Mapping;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Whose documents ours are in the catalog.
const DIALECT: &str = "keboola_stream";
const SOURCES: &str = "source";

/// Names a source, or one of its sinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) branch: u64,
    pub(super) source: String,
    pub(super) sink: Option<String>,
}

impl Place {
    /// As it stands in the ids of tasks.
    pub(super) fn path(&self) -> String {
        let Self { branch, source, sink } = self;
        sink.as_ref().map_or_else(|| format!("{branch}/{source}"), |sink| format!("{branch}/{source}/{sink}"))
    }

    /// Its own id.
    pub(super) fn id(&self) -> &str {
        self.sink.as_deref().unwrap_or(&self.source)
    }

    pub(super) fn is_sink(&self) -> bool {
        self.sink.is_some()
    }
}

/// What versions are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: String,
    /// Of a sink below an OTLP source: which signals it takes. `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signals: Option<Vec<Signal>>,
    /// Of a sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) table: Option<Table>,
    #[serde(default)]
    pub(super) settings: Overrides,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Table {
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

/// When and by whom something was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) at: Micros,
    pub(super) by: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// Of a sink: it was deleted because its source was, and comes back with it.
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
    /// Where its records are.
    pub(super) stream: StreamId,
    /// Of a source: what stands in its address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) secret: String,
    /// Of a sink: everything up to this time is left out of its statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cleared_at: Option<Micros>,
}

impl Entity {
    pub(super) fn is_live(&self) -> bool {
        self.deleted.is_none() && self.disabled.is_none()
    }
}

/// One with its place.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) place: Place,
    pub(super) entity: Entity,
}

/// A version that was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Past {
    pub(super) content: Content,
    pub(super) version: Version,
}

/// Who does something, as the contract shows users.
pub(super) fn by(caller: &Caller) -> Value {
    let id = caller.id.0.to_string();
    json!({"type": "user", "tokenId": id, "tokenDesc": &*caller.name, "userId": id, "userName": &*caller.name})
}

/// The documents of one project.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) control: &'a Control,
    pub(super) project: &'a str,
}

/// The documents beside which one is kept: all sources, or the sinks of one source.
fn shelf(place: &Place) -> String {
    match &place.sink {
        None => SOURCES.to_owned(),
        Some(_) => sinks_of(place.branch, &place.source),
    }
}

fn sinks_of(branch: u64, source: &str) -> String {
    format!("sink/{branch}/{source}")
}

/// Where the versions of one are kept, by their numbers.
fn versions_of(place: &Place) -> String {
    format!("version/{}", place.path())
}

impl Store<'_> {
    fn key<'k>(&'k self, kind: &'k str, name: &'k str) -> ObjectKey<'k> {
        ObjectKey { dialect: DIALECT, project: self.project, kind, name }
    }

    fn read_all<T: serde::de::DeserializeOwned>(&self, kind: &str) -> Result<Vec<(String, T)>, Reject> {
        let found = self.control.catalog.objects(DIALECT, self.project, kind);
        let found = found.map_err(|error| Reject::internal(&error))?;
        found.into_iter().map(|object| Ok((object.name, read(object.document)?))).collect()
    }

    fn read_one<T: serde::de::DeserializeOwned>(&self, kind: &str, name: &str) -> Result<Option<T>, Reject> {
        let found = self.control.catalog.object(self.key(kind, name));
        let found = found.map_err(|error| Reject::internal(&error))?;
        found.map(|object| read(object.document)).transpose()
    }

    fn make<T: Serialize>(&self, kind: &str, name: &str, value: &T) -> Result<(), Reject> {
        let document = serde_json::to_value(value).unwrap_or_default();
        let made = self.control.catalog.create_object(self.key(kind, name), &document);
        made.map(drop).map_err(|error| Reject::internal(&error))
    }

    fn remove(&self, kind: &str, name: &str) -> Result<(), Reject> {
        let removed = self.control.catalog.delete_object(self.key(kind, name));
        removed.map(drop).map_err(|error| Reject::internal(&error))
    }

    pub(super) fn find(&self, place: &Place) -> Result<Option<Entity>, Reject> {
        self.read_one(&shelf(place), &name(place))
    }

    /// All sources, also those that are deleted.
    pub(super) fn every_source(&self) -> Result<Vec<Kept>, Reject> {
        let found = self.read_all(SOURCES)?;
        let kept = found.into_iter().filter_map(|(name, entity)| {
            let (branch, source) = name.split_once('/')?;
            let place = Place { branch: branch.parse().ok()?, source: source.to_owned(), sink: None };
            Some(Kept { place, entity })
        });
        Ok(kept.collect())
    }

    pub(super) fn sources(&self, branch: u64) -> Result<Vec<Kept>, Reject> {
        let mut all = self.every_source()?;
        all.retain(|kept| kept.place.branch == branch);
        Ok(all)
    }

    /// All sinks of a source, also those that are deleted.
    pub(super) fn sinks(&self, branch: u64, source: &str) -> Result<Vec<Kept>, Reject> {
        let found = self.read_all(&sinks_of(branch, source))?;
        let kept = found.into_iter().map(|(sink, entity)| {
            let place = Place { branch, source: source.to_owned(), sink: Some(sink) };
            Kept { place, entity }
        });
        Ok(kept.collect())
    }

    /// Makes it, with the version that it has.
    pub(super) fn create(&self, place: &Place, entity: &Entity) -> Result<(), Reject> {
        self.make(&shelf(place), &name(place), entity)?;
        self.save_version(place, entity)
    }

    pub(super) fn save(&self, place: &Place, entity: &Entity) -> Result<(), Reject> {
        let document = serde_json::to_value(entity).unwrap_or_default();
        let saved =
            self.control.catalog.replace_object(self.key(&shelf(place), &name(place)), None, &document);
        saved.map(drop).map_err(|error| Reject::internal(&error))
    }

    /// Notes the version that it has.
    pub(super) fn save_version(&self, place: &Place, entity: &Entity) -> Result<(), Reject> {
        let past = Past { content: entity.content.clone(), version: entity.version.clone() };
        self.make(&versions_of(place), &format!("{:010}", entity.version.number), &past)
    }

    /// Oldest first.
    pub(super) fn versions(&self, place: &Place) -> Result<Vec<Past>, Reject> {
        Ok(self.read_all(&versions_of(place))?.into_iter().map(|(_, past)| past).collect())
    }

    pub(super) fn version(&self, place: &Place, number: u32) -> Result<Option<Past>, Reject> {
        self.read_one(&versions_of(place), &format!("{number:010}"))
    }

    /// Forgets it and its versions.
    pub(super) fn forget(&self, place: &Place) -> Result<(), Reject> {
        self.remove(&shelf(place), &name(place))?;
        for past in self.versions(place)? {
            self.remove(&versions_of(place), &format!("{:010}", past.version.number))?;
        }
        Ok(())
    }
}

/// What it is called among those beside it.
fn name(place: &Place) -> String {
    place.sink.clone().unwrap_or_else(|| place.path())
}

/// The projects that have sources.
pub(super) fn projects(
    control: &Control,
) -> Result<Vec<String>, crate::contracts::shared::control::CatalogError> {
    let sources = control.catalog.objects_everywhere(DIALECT, SOURCES)?;
    let mut projects: Vec<String> = sources.into_iter().map(|(project, _)| project).collect();
    projects.dedup();
    Ok(projects)
}

fn read<T: serde::de::DeserializeOwned>(document: Value) -> Result<T, Reject> {
    serde_json::from_value(document).map_err(|error| Reject::internal(&error))
}
