//! Receivers: endpoints whose requests go to several streams at once, each with its own mapping. They are derived from
//! the documents of their contracts and held in memory for the lookup by requests.

use crate::auth::is_same;
use crate::batch::{StreamId, Tag};
use arc_swap::ArcSwap;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The stream that holds its requests as frames. It has no table (`landing.table = false`), and its frames are kept
    /// as long as the log and the archive reach back.
    pub stream: StreamId,
    /// The secret that a request must present.
    pub secret: String,
    /// The destinations of its requests, in the order in which answers list them. Their mappings are in the settings of
    /// their streams.
    pub exports: Vec<ReceiverExport>,
    /// Data that the contract needs when it handles a request.
    pub about: Value,
}

/// One destination of a receiver's requests: a stream of the policy `mapped`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverExport {
    pub stream: StreamId,
    /// Its name in the contract's answers.
    pub label: String,
}

/// Contract, project and id.
pub type Name = (Tag, String, String);

/// Every receiver, by contract, project and id.
#[derive(Debug, Default)]
pub struct Receivers(ArcSwap<HashMap<Name, Arc<Receiver>>>);

fn name(contract: Tag, project: &str, id: &str) -> Name {
    (contract, project.to_owned(), id.to_owned())
}

impl Receivers {
    pub fn find(&self, contract: Tag, project: &str, id: &str) -> Option<Arc<Receiver>> {
        self.0.load().get(&name(contract, project, id)).cloned()
    }

    /// The current receivers, ordered by contract, project and id.
    pub fn all(&self) -> Vec<(Name, Arc<Receiver>)> {
        let all = self.0.load();
        let mut all: Vec<_> =
            all.iter().map(|(name, receiver)| (name.clone(), Arc::clone(receiver))).collect();
        all.sort_by_cached_key(|((contract, project, id), _)| (*contract as u8, project.clone(), id.clone()));
        all
    }

    /// Adds a receiver or replaces it.
    pub fn set(&self, contract: Tag, project: &str, id: &str, receiver: Receiver) {
        let receiver = Arc::new(receiver);
        self.0.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(name(contract, project, id), Arc::clone(&receiver));
            all
        });
    }

    pub fn remove(&self, contract: Tag, project: &str, id: &str) {
        self.0.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.remove(&name(contract, project, id));
            all
        });
    }
}

impl Receiver {
    /// Returns whether the secret is correct.
    pub fn knows(&self, secret: &str) -> bool {
        is_same(secret, &self.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_one_of_its_contract_and_project() {
        let receivers = Receivers::default();
        let receiver = |id| Receiver {
            stream: StreamId(id),
            secret: "s3cret".to_owned(),
            exports: Vec::new(),
            about: Value::Null,
        };
        receivers.set(Tag::Keboola, "1", "a", receiver(1));
        receivers.set(Tag::KeboolaStream, "1", "a", receiver(2));
        receivers.set(Tag::Keboola, "2", "a", receiver(3));
        let find = |contract, project| receivers.find(contract, project, "a").map(|found| found.stream.0);
        assert_eq!(find(Tag::Keboola, "1"), Some(1));
        assert_eq!(find(Tag::KeboolaStream, "1"), Some(2));
        assert_eq!(find(Tag::Keboola, "2"), Some(3));
        receivers.remove(Tag::Keboola, "1", "a");
        assert_eq!((find(Tag::Keboola, "1"), find(Tag::Keboola, "2")), (None, Some(3)));
        let known = receivers.find(Tag::Keboola, "2", "a").unwrap();
        assert!(
            known.knows("s3cret") && !known.knows("s3creT") && !known.knows("s3cret2") && !known.knows("")
        );
    }
}
