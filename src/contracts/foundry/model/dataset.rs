//! Data sets with their branches: which stream a branch stands for now, and stood for before it was reset. In memory,
//! as every published record asks for it; kept in the catalog as a document for each data set.

use super::schema::StreamSchema;
use crate::batch::StreamId;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The branch that a data set has unless another one is named.
pub const DEFAULT_BRANCH: &str = "master";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dataset {
    pub rid: String,
    pub name: String,
    pub folder: String,
    /// In the trash, for good.
    #[serde(default)]
    pub trashed: bool,
    pub branches: Vec<Branch>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Branch {
    pub name: String,
    /// What rights are for, whichever view is the present one.
    pub handle: String,
    /// The last is the present one.
    pub views: Vec<View>,
}

/// What a branch was between two resets: one stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct View {
    pub rid: String,
    pub stream: StreamId,
    pub partitions_count: u32,
    pub stream_type: StreamType,
    pub compressed: bool,
    /// As the client gave it; none was given by old clients.
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

    /// The schema that it was made with.
    pub fn schema(&self) -> Option<Arc<StreamSchema>> {
        // What is kept was good when it was made.
        let parse = || StreamSchema::parse(self.schema.as_ref()?).ok().map(Arc::new);
        self.parsed.get_or_init(parse).clone()
    }
}

impl Branch {
    /// The present view. Every branch has one.
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

    /// Makes a view the present one of its branch. `handle`: what rights are for, if there is no such branch yet.
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

    /// The branch that has, or had, this view.
    pub fn branch_of(&self, view: &str) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.view(view).is_some())
    }
}

/// All data sets, by their ids.
#[derive(Debug, Default)]
pub struct Datasets(RwLock<HashMap<String, Arc<Dataset>>>);

impl Datasets {
    pub fn find(&self, rid: &str) -> Option<Arc<Dataset>> {
        self.0.read().get(rid).cloned()
    }

    /// Puts a new one in, or one in the place of what it was.
    pub fn put(&self, dataset: Dataset) -> Arc<Dataset> {
        let dataset = Arc::new(dataset);
        self.0.write().insert(dataset.rid.clone(), Arc::clone(&dataset));
        dataset
    }

    /// One of that name in the folder that is not in the trash.
    pub fn named(&self, folder: &str, name: &str) -> Option<Arc<Dataset>> {
        let all = self.0.read();
        let found = all.values().find(|set| !set.trashed && set.folder == folder && set.name == name);
        found.cloned()
    }
}
