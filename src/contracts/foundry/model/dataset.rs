//! Datasets and their branches: the stream of a branch now, and before each reset. They are in memory because every
//! published record needs them; the catalog stores them as one document per dataset.

use super::schema::StreamSchema;
use crate::batch::StreamId;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The branch of a dataset if no other is named.
pub const DEFAULT_BRANCH: &str = "master";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dataset {
    pub rid: String,
    pub name: String,
    pub folder: String,
    /// In the trash. This is final.
    #[serde(default)]
    pub trashed: bool,
    pub branches: Vec<Branch>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Branch {
    pub name: String,
    /// The name that access rights refer to, independent of the current view.
    pub handle: String,
    /// The last view is the current one.
    pub views: Vec<View>,
}

/// A branch between two resets: one stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct View {
    pub rid: String,
    pub stream: StreamId,
    pub partitions_count: u32,
    pub stream_type: StreamType,
    pub compressed: bool,
    /// The schema as the client sent it. The older catalog creates streams without a schema.
    pub schema: Option<Value>,
    #[serde(skip)]
    parsed: OnceLock<Option<Arc<StreamSchema>>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StreamType {
    #[default]
    LowLatency,
    HighThroughput,
}

impl View {
    pub fn new(
        rid: String,
        stream: StreamId,
        partitions_count: u32,
        stream_type: StreamType,
        compressed: bool,
        schema: Option<&StreamSchema>,
    ) -> Self {
        let schema = schema.map(StreamSchema::to_json);
        Self { rid, stream, partitions_count, stream_type, compressed, schema, parsed: OnceLock::new() }
    }

    /// The schema that the view was created with.
    pub fn schema(&self) -> Option<Arc<StreamSchema>> {
        // The stored schema was valid when the view was created; if it no longer is, records are only checked against
        // the columns of the stream.
        let told = |error: &_| {
            tracing::error!(view = self.rid, ?error, "cannot read the schema of a view in the catalog");
        };
        let parse = || StreamSchema::parse(self.schema.as_ref()?).inspect_err(told).ok().map(Arc::new);
        self.parsed.get_or_init(parse).clone()
    }
}

impl Branch {
    /// The current view. Every branch has one.
    pub fn current(&self) -> Option<&View> {
        self.views.last()
    }

    pub fn view(&self, rid: &str) -> Option<&View> {
        self.views.iter().find(|view| view.rid == rid)
    }
}

impl Dataset {
    pub fn branch(&self, name: &str) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.name == name)
    }

    /// Makes a view the current one of its branch. If the branch is new, access rights refer to it as `handle`.
    pub fn add(&mut self, branch: &str, handle: &str, view: View) {
        match self.branches.iter_mut().find(|known| known.name == branch) {
            Some(known) => known.views.push(view),
            None => self.branches.push(Branch {
                name: branch.to_owned(),
                handle: handle.to_owned(),
                views: vec![view],
            }),
        }
    }

    /// The branch whose view this is or was.
    pub fn branch_of(&self, view: &str) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.view(view).is_some())
    }
}

/// All datasets, by RID.
#[derive(Debug, Default)]
pub struct Datasets(RwLock<HashMap<String, Arc<Dataset>>>);

impl Datasets {
    pub fn find(&self, rid: &str) -> Option<Arc<Dataset>> {
        self.0.read().get(rid).cloned()
    }

    /// Inserts or replaces a dataset.
    pub fn put(&self, dataset: Dataset) -> Arc<Dataset> {
        let dataset = Arc::new(dataset);
        self.0.write().insert(dataset.rid.clone(), Arc::clone(&dataset));
        dataset
    }

    /// Finds a dataset by folder and name, except in the trash.
    pub fn named(&self, folder: &str, name: &str) -> Option<Arc<Dataset>> {
        let all = self.0.read();
        let found = all.values().find(|set| !set.trashed && set.folder == folder && set.name == name);
        found.cloned()
    }
}
