//! A sparse index of the offsets of a partition that are in the log and in no file yet. It stays small however much the
//! log holds.

use crate::wal::Lsn;
use std::collections::VecDeque;

/// Maximum number of entries of one partition, of 16 bytes each.
const ENTRIES_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct SparseIndex {
    /// The first offsets of some frames, with their LSNs.
    entries: VecDeque<(u64, Lsn)>,
    /// One frame in this many has an entry.
    stride: u32,
    /// Number of frames since the last entry.
    since: u32,
}

impl Default for SparseIndex {
    fn default() -> Self {
        Self { entries: VecDeque::new(), stride: 1, since: 0 }
    }
}

impl SparseIndex {
    /// Records that a frame holds the offsets from `first` on.
    pub(super) fn push(&mut self, first: u64, lsn: Lsn) {
        self.since += 1;
        if self.since < self.stride && !self.entries.is_empty() {
            return;
        }
        self.since = 0;
        self.entries.push_back((first, lsn));
        if self.entries.len() > ENTRIES_MAX {
            let mut odd = false;
            self.entries.retain(|_| {
                odd = !odd;
                odd
            });
            self.stride = self.stride.saturating_mul(2);
        }
    }

    /// Records that everything up to this frame is in files.
    pub(super) fn prune(&mut self, checkpoint: Lsn) {
        // The last entry below it also covers the frames after it.
        while self.entries.get(1).is_some_and(|(_, lsn)| *lsn <= checkpoint) {
            self.entries.pop_front();
        }
        if self.entries.len() < ENTRIES_MAX / 4 && self.stride > 1 {
            self.stride /= 2;
        }
    }

    /// A frame at or before the one that holds an offset. `None`: the log holds no rows of the partition.
    pub(super) fn locate(&self, offset: u64) -> Option<Lsn> {
        let above = self.entries.partition_point(|(first, _)| *first <= offset);
        self.entries.get(above.saturating_sub(1)).map(|(_, lsn)| *lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_stays_small_and_finds_a_frame_before() {
        let mut index = SparseIndex::default();
        assert_eq!(index.locate(0), None);
        // Frame n holds the offsets 3 n to 3 n + 2.
        for n in 0..100_000 {
            index.push(3 * n, Lsn(n));
            assert!(index.entries.len() <= ENTRIES_MAX);
        }
        for offset in [0, 1, 77, 150_000, 299_999] {
            let found = index.locate(offset).unwrap().0;
            assert!(found <= offset / 3 && offset / 3 - found <= 256, "{offset}: {found}");
        }
        assert_eq!(index.locate(u64::MAX), index.locate(299_999));
        index.prune(Lsn(60_000));
        assert!(index.locate(0).unwrap().0 <= 60_001, "what is not in files is found");
        assert!(index.locate(0).unwrap().0 > 59_000);
        index.prune(Lsn(200_000));
        assert_eq!(index.entries.len(), 1);
        for n in 100_000..100_100 {
            index.push(3 * n, Lsn(n));
        }
        index.prune(Lsn(100_000));
        assert!(index.stride < 128);
    }
}
