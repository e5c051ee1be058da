//! A subscriber reads a stream incrementally; this is its position. Plain data, stored in the catalog as JSON.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Maximum number of views whose positions are kept.
const VIEWS_MAX: usize = 16;

/// An offset for each partition: the next one to read, unless stated otherwise.
pub type Positions = BTreeMap<u32, u64>;

/// Where to start reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ReadPosition {
    /// At the first record.
    #[default]
    Earliest,
    /// After the last record.
    Latest,
    /// At these offsets; other partitions start at their first record.
    Specific { offsets: Positions },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    pub dataset: String,
    pub branch: String,
    /// The current view when the subscriber was created.
    pub view: String,
    /// Where it started in that view.
    pub start: Positions,
    pub read_position: ReadPosition,
    /// Its positions in each view; the most recently read view is last.
    positions: Vec<(String, Positions)>,
}

/// Why offsets are not valid positions.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    #[error("partition {partition} does not exist: the stream has {partitions} partitions, numbered from 0")]
    NoPartition { partition: u32, partitions: usize },
    #[error("offset {offset} is beyond the end of partition {partition}, whose next offset is {end}")]
    BeyondEnd { partition: u32, offset: u64, end: u64 },
}

impl ReadPosition {
    /// The offsets of this position in a stream whose partitions end at `ends`.
    pub fn offsets(&self, ends: &[u64]) -> Result<Positions, PositionError> {
        let all = (0..).zip(ends.iter().copied());
        match self {
            Self::Earliest => Ok(all.map(|(partition, _)| (partition, 0)).collect()),
            Self::Latest => Ok(all.collect()),
            Self::Specific { offsets } => {
                for (partition, offset) in offsets {
                    check(*partition, *offset, ends)?;
                }
                Ok(all
                    .map(|(partition, _)| (partition, offsets.get(&partition).copied().unwrap_or(0)))
                    .collect())
            }
        }
    }
}

/// Checks whether `next` may be the next offset to read.
fn check(partition: u32, next: u64, ends: &[u64]) -> Result<(), PositionError> {
    match ends.get(partition as usize) {
        None => Err(PositionError::NoPartition { partition, partitions: ends.len() }),
        Some(end) if next > *end => Err(PositionError::BeyondEnd { partition, offset: next, end: *end }),
        Some(_) => Ok(()),
    }
}

impl Subscriber {
    pub fn new(
        dataset: &str,
        branch: &str,
        view: &str,
        read_position: ReadPosition,
        ends: &[u64],
    ) -> Result<Self, PositionError> {
        let start = read_position.offsets(ends)?;
        Ok(Self {
            dataset: dataset.to_owned(),
            branch: branch.to_owned(),
            view: view.to_owned(),
            positions: vec![(view.to_owned(), start.clone())],
            start,
            read_position,
        })
    }

    /// The next offset of each partition of a view. A view that is newer than the subscriber is read from its start.
    pub fn position(&self, view: &str, partitions: usize) -> Positions {
        let known = self.positions.iter().find(|(known, _)| known == view).map(|(_, positions)| positions);
        let next = |partition| known.and_then(|known| known.get(&partition)).copied().unwrap_or(0);
        (0..u32::try_from(partitions).unwrap_or(u32::MAX))
            .map(|partition| (partition, next(partition)))
            .collect()
    }

    /// Sets the next offsets in these partitions of a view.
    pub fn set(&mut self, view: &str, next: &Positions) {
        let mut positions = self
            .positions
            .iter()
            .position(|(known, _)| known == view)
            .map_or_else(|| (view.to_owned(), Positions::new()), |at| self.positions.remove(at));
        positions.1.extend(next);
        self.positions.push(positions);
        let over = self.positions.len().saturating_sub(VIEWS_MAX);
        self.positions.drain(..over);
    }

    /// Continues after the last offsets that were processed.
    pub fn commit(&mut self, view: &str, last: &Positions, ends: &[u64]) -> Result<(), PositionError> {
        let next: Positions =
            last.iter().map(|(partition, offset)| (*partition, offset.saturating_add(1))).collect();
        for (partition, offset) in last {
            // The error names the offset that the client sent.
            check(*partition, offset.saturating_add(1), ends).map_err(|error| match error {
                PositionError::BeyondEnd { partition, offset, end } => {
                    PositionError::BeyondEnd { partition, offset: offset.saturating_sub(1), end }
                }
                error @ PositionError::NoPartition { .. } => error,
            })?;
        }
        self.set(view, &next);
        Ok(())
    }

    /// Continues at another position.
    pub fn reset(&mut self, view: &str, to: &ReadPosition, ends: &[u64]) -> Result<(), PositionError> {
        let next = to.offsets(ends)?;
        self.set(view, &next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offsets: &[(u32, u64)]) -> Positions {
        offsets.iter().copied().collect()
    }

    #[test]
    fn positions_are_within_the_stream() {
        let ends = [5, 2];
        assert_eq!(ReadPosition::Earliest.offsets(&ends), Ok(at(&[(0, 0), (1, 0)])));
        assert_eq!(ReadPosition::Latest.offsets(&ends), Ok(at(&[(0, 5), (1, 2)])));
        let specific = |offsets| ReadPosition::Specific { offsets: at(offsets) }.offsets(&ends);
        assert_eq!(specific(&[(1, 2)]), Ok(at(&[(0, 0), (1, 2)])));
        assert_eq!(specific(&[(0, 6)]), Err(PositionError::BeyondEnd { partition: 0, offset: 6, end: 5 }));
        assert_eq!(specific(&[(2, 0)]), Err(PositionError::NoPartition { partition: 2, partitions: 2 }));
    }

    #[test]
    fn commits_name_what_was_processed_and_are_by_view() {
        let ends = [5, 2];
        let mut subscriber = Subscriber::new("d", "b", "v1", ReadPosition::Latest, &ends).unwrap();
        assert_eq!(subscriber.position("v1", 2), at(&[(0, 5), (1, 2)]));
        assert_eq!(subscriber.position("v2", 3), at(&[(0, 0), (1, 0), (2, 0)]), "all of it is new");
        subscriber.commit("v1", &at(&[(0, 3)]), &ends).unwrap();
        assert_eq!(subscriber.position("v1", 2), at(&[(0, 4), (1, 2)]));
        let beyond = subscriber.commit("v1", &at(&[(1, 2)]), &ends).unwrap_err();
        assert_eq!(beyond, PositionError::BeyondEnd { partition: 1, offset: 2, end: 2 });
        assert_eq!(subscriber.position("v1", 2), at(&[(0, 4), (1, 2)]), "nothing has changed");
        subscriber.reset("v1", &ReadPosition::Earliest, &ends).unwrap();
        let kept = serde_json::to_value(&subscriber).unwrap();
        let mut subscriber: Subscriber = serde_json::from_value(kept).unwrap();
        assert_eq!(subscriber.position("v1", 2), at(&[(0, 0), (1, 0)]));
        for n in 0..100 {
            subscriber.set(&format!("view {n}"), &at(&[(0, n)]));
        }
        assert_eq!(subscriber.position("view 99", 1), at(&[(0, 99)]));
        assert!(subscriber.positions.len() <= VIEWS_MAX);
    }
}
