//! The routing of a contract's connections: maps the names in requests to streams. Every such request reads it, so it
//! is kept in memory and replaced as a whole. It is derived from the documents in the catalog.

use crate::batch::StreamId;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;

/// The streams of one connection. If empty, its events go to the stream of its own name.
type StreamIds = Arc<[StreamId]>;

/// Connections by name, each with its project.
type StreamsByConnection = HashMap<String, Vec<(String, StreamIds)>>;

#[derive(Debug, Default)]
pub struct Feeds(ArcSwap<StreamsByConnection>);

impl Feeds {
    /// Replaces everything: projects, connections and their streams.
    pub fn replace(&self, all: impl IntoIterator<Item = (String, String, StreamIds)>) {
        let mut connections = StreamsByConnection::new();
        for (project, name, streams) in all {
            connections.entry(name).or_default().push((project, streams));
        }
        self.0.store(Arc::new(connections));
    }

    /// The streams of a connection. Without a project, only a connection whose name is unique across projects is found.
    pub fn find(&self, project: Option<&str>, name: &str) -> Option<StreamIds> {
        let connections = self.0.load();
        match (connections.get(name)?.as_slice(), project) {
            ([(_, streams)], None) => Some(Arc::clone(streams)),
            (_, None) => None,
            (all, Some(project)) => {
                all.iter().find(|(own, _)| own == project).map(|(_, streams)| Arc::clone(streams))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_one_of_its_project() {
        let feeds = Feeds::default();
        let connection = |project: &str, name: &str, id| {
            (project.to_owned(), name.to_owned(), Arc::from([StreamId(id)].as_slice()))
        };
        feeds.replace([connection("p", "a", 1), connection("q", "a", 2), connection("p", "b", 3)]);
        let find = |project, name| feeds.find(project, name).map(|streams| streams[0].0);
        assert_eq!(find(Some("p"), "a"), Some(1));
        assert_eq!(find(Some("q"), "a"), Some(2));
        assert_eq!(find(Some("r"), "a"), None);
        assert_eq!((find(None, "a"), find(None, "b")), (None, Some(3)));
        feeds.replace([]);
        assert_eq!(find(Some("p"), "a"), None);
    }
}
