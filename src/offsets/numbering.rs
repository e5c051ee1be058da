//! Assigns offsets: one counter per partition of a stream, under a lock that is held from reading the counters to the
//! append. So the frames of a stream are in the order of their offsets in the log, and a refused request uses no
//! offsets.

use super::index::SparseIndex;
use crate::batch::{Offsets, StreamId};
use crate::catalog::EndOffset;
use crate::wal::{AppendError, Lsn};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The counters of all streams with numbered rows.
pub struct OffsetCounters {
    streams: Mutex<HashMap<StreamId, Arc<Numbering>>>,
    /// Whether the frames that earlier starts left in the log have been scanned.
    complete: watch::Sender<bool>,
}

/// How the rows of a request are distributed among partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Division {
    /// This many rows, round-robin, continuing where the last request ended.
    Turn(u32),
    /// All rows into one partition.
    Into { partition: u32, rows: u32 },
    /// The partition of each row.
    Keyed(Vec<u32>),
}

/// The offsets assigned to the rows of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbered {
    pub ranges: Vec<Offsets>,
    /// The partition of each row, if the row determines it.
    partitions: Option<Vec<u32>>,
}

impl Numbered {
    /// `partitions`: the partition of each row, if the row determines it; otherwise `None`.
    pub fn new(ranges: Vec<Offsets>, partitions: &[u32]) -> Self {
        Self { ranges, partitions: (!partitions.is_empty()).then(|| partitions.to_vec()) }
    }

    /// Partition and offset of each row.
    pub fn each(&self) -> Vec<(u32, u64)> {
        let mut left = self.ranges.clone();
        let mut take = |at: usize| {
            let range = left.get_mut(at)?;
            range.first += 1;
            Some((range.partition, range.first - 1))
        };
        if let Some(partitions) = &self.partitions {
            let at = |partition: &u32| self.ranges.binary_search_by_key(partition, |range| range.partition);
            return partitions.iter().filter_map(|partition| take(at(partition).ok()?)).collect();
        }
        let rows: u32 = self.ranges.iter().map(|range| range.count).sum();
        (0..rows as usize).filter_map(|row| take(row % self.ranges.len())).collect()
    }
}

/// The counters of one stream.
#[derive(Debug)]
pub struct Numbering(Mutex<NumberingState>);

#[derive(Debug, Default)]
struct NumberingState {
    partitions: Vec<Partition>,
    /// The last frame with rows of the stream.
    last: Lsn,
    /// The next partition in the round-robin order.
    turn: u32,
}

#[derive(Debug, Default)]
struct Partition {
    /// The offset after the last one assigned.
    end: u64,
    index: SparseIndex,
}

impl OffsetCounters {
    /// `registered`: the end of each partition in the registered files.
    pub fn new(registered: &[EndOffset]) -> Self {
        let offsets = Self { streams: Mutex::default(), complete: watch::Sender::new(false) };
        for end in registered {
            let numbering = offsets.numbering(end.stream, end.partition + 1);
            let mut state = numbering.0.lock();
            if let Some(partition) = state.partition(end.partition) {
                partition.end = partition.end.max(end.end);
            }
        }
        offsets
    }

    /// The counters of a stream with this many partitions.
    pub fn numbering(&self, stream: StreamId, partitions: u32) -> Arc<Numbering> {
        let mut streams = self.streams.lock();
        let numbering = streams
            .entry(stream)
            .or_insert_with(|| Arc::new(Numbering(Mutex::new(NumberingState::default()))));
        numbering.0.lock().grow(partitions);
        Arc::clone(numbering)
    }

    /// Waits, up to `patience`, until the offsets of earlier starts are known. Returns whether they are.
    pub async fn ready(&self, patience: Duration) -> bool {
        if *self.complete.borrow() {
            return true;
        }
        let mut complete = self.complete.subscribe();
        // The sender lives as long as `self`.
        tokio::time::timeout(patience, complete.wait_for(|complete| *complete)).await.is_ok()
    }

    /// Records a frame with these offsets that an earlier start left in the log.
    pub fn found(&self, lsn: Lsn, stream: StreamId, ranges: &[Offsets]) {
        if let Some(partitions) = ranges.iter().map(|range| range.partition + 1).max() {
            self.numbering(stream, partitions).0.lock().took(lsn, ranges);
        }
    }

    /// Records that all frames of earlier starts have been scanned.
    pub fn complete(&self) {
        self.complete.send_replace(true);
    }

    /// Records that every frame of a stream up to this one is in a registered file.
    pub fn registered(&self, stream: StreamId, checkpoint: Lsn) {
        let numbering = self.streams.lock().get(&stream).cloned();
        if let Some(numbering) = numbering {
            for partition in &mut numbering.0.lock().partitions {
                partition.index.prune(checkpoint);
            }
        }
    }
}

impl Numbering {
    /// Assigns offsets to the rows of a request and appends it with them. A refused request leaves the counters
    /// unchanged.
    pub fn append(
        &self,
        division: &Division,
        append: impl FnOnce(&[Offsets]) -> Result<Lsn, AppendError>,
    ) -> Result<(Lsn, Numbered), AppendError> {
        let mut state = self.0.lock();
        let ranges = state.divide(division);
        match append(&ranges) {
            Ok(lsn) => {
                state.took(lsn, &ranges);
                if let (Division::Turn(rows), Ok(count)) = (division, u32::try_from(state.partitions.len())) {
                    state.turn = (u64::from(state.turn) + u64::from(*rows))
                        .checked_rem(count.into())
                        .and_then(|turn| u32::try_from(turn).ok())
                        .unwrap_or(0);
                }
                let partitions: &[u32] = match division {
                    Division::Keyed(partitions) => partitions,
                    Division::Turn(_) | Division::Into { .. } => &[],
                };
                Ok((lsn, Numbered::new(ranges, partitions)))
            }
            Err(error) => {
                if matches!(error, AppendError::Unknown(_)) {
                    // The frame may be in the log after all, so its offsets are not reused.
                    state.skip(&ranges);
                }
                Err(error)
            }
        }
    }

    /// The last frame, and for each partition the offset after its last row.
    pub fn ends(&self) -> (Lsn, Vec<u64>) {
        let state = self.0.lock();
        (state.last, state.partitions.iter().map(|partition| partition.end).collect())
    }

    /// A frame in the log at or before the one that holds an offset.
    pub fn locate(&self, partition: u32, offset: u64) -> Option<Lsn> {
        self.0.lock().partition(partition)?.index.locate(offset)
    }
}

impl NumberingState {
    fn grow(&mut self, partitions: u32) {
        if self.partitions.len() < partitions as usize {
            self.partitions.resize_with(partitions as usize, Partition::default);
        }
    }

    fn partition(&mut self, partition: u32) -> Option<&mut Partition> {
        self.partitions.get_mut(partition as usize)
    }

    /// The next offsets for rows that are distributed like this.
    fn divide(&self, division: &Division) -> Vec<Offsets> {
        let end = |partition: u32| self.partitions.get(partition as usize).map_or(0, |known| known.end);
        let range = |partition, count| Offsets { partition, count, first: end(partition) };
        let of = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX).max(1);
        match division {
            Division::Into { partition, rows } => vec![range(*partition, *rows)],
            Division::Turn(rows) => {
                let taking_part = of.min(*rows);
                let share = |at| rows / taking_part + u32::from(at < rows % taking_part);
                (0..taking_part).map(|at| range((self.turn + at) % of, share(at))).collect()
            }
            Division::Keyed(partitions) => {
                let mut counts = vec![0; of as usize];
                for partition in partitions {
                    counts[*partition as usize % of as usize] += 1;
                }
                let counted = (0..of).zip(counts).filter(|(_, count)| *count > 0);
                counted.map(|(partition, count)| range(partition, count)).collect()
            }
        }
    }

    fn took(&mut self, lsn: Lsn, ranges: &[Offsets]) {
        self.skip(ranges);
        self.last = self.last.max(lsn);
        for range in ranges {
            if let Some(partition) = self.partition(range.partition) {
                partition.index.push(range.first, lsn);
            }
        }
    }

    fn skip(&mut self, ranges: &[Offsets]) {
        for range in ranges {
            if let Some(partition) = self.partition(range.partition) {
                partition.end = partition.end.max(range.first + u64::from(range.count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::IoError;

    const STREAM: StreamId = StreamId(7);

    fn append(numbering: &Numbering, lsn: u64, division: &Division) -> Vec<(u32, u64)> {
        numbering.append(division, |_| Ok(Lsn(lsn))).unwrap().1.each()
    }

    #[test]
    fn rows_go_round_from_request_to_request() {
        let offsets = OffsetCounters::new(&[]);
        let numbering = offsets.numbering(STREAM, 3);
        assert_eq!(append(&numbering, 1, &Division::Turn(1)), [(0, 0)]);
        assert_eq!(append(&numbering, 2, &Division::Turn(4)), [(1, 0), (2, 0), (0, 1), (1, 1)]);
        assert_eq!(append(&numbering, 3, &Division::Turn(2)), [(2, 1), (0, 2)]);
        assert_eq!(append(&numbering, 4, &Division::Into { partition: 2, rows: 2 }), [(2, 2), (2, 3)]);
        assert_eq!(numbering.ends(), (Lsn(4), vec![3, 2, 4]));
    }

    #[test]
    fn keyed_rows_are_numbered_in_their_order() {
        let offsets = OffsetCounters::new(&[EndOffset { stream: STREAM, partition: 2, end: 10 }]);
        let numbering = offsets.numbering(STREAM, 4);
        let division = Division::Keyed(vec![2, 0, 2, 3]);
        assert_eq!(append(&numbering, 1, &division), [(2, 10), (0, 0), (2, 11), (3, 0)]);
        assert_eq!(numbering.ends().1, [1, 0, 12, 1]);
    }

    #[test]
    fn a_refused_request_takes_no_offsets_and_one_of_unknown_outcome_does() {
        let offsets = OffsetCounters::new(&[]);
        let numbering = offsets.numbering(STREAM, 2);
        let refused = numbering.append(&Division::Turn(3), |_| Err(AppendError::Closed));
        assert!(refused.is_err());
        assert_eq!(append(&numbering, 1, &Division::Turn(1)), [(0, 0)]);
        let failed = || IoError::new("write", "x", std::io::ErrorKind::Other.into());
        let unknown = numbering.append(&Division::Turn(2), |_| Err(AppendError::Unknown(failed())));
        assert!(unknown.is_err());
        assert_eq!(numbering.ends(), (Lsn(1), vec![2, 1]));
    }

    #[tokio::test]
    async fn what_earlier_starts_left_in_the_log_is_gone_on_from() {
        let offsets = OffsetCounters::new(&[EndOffset { stream: STREAM, partition: 0, end: 5 }]);
        assert!(!offsets.ready(Duration::ZERO).await);
        offsets.found(Lsn(8), STREAM, &[Offsets { partition: 0, count: 2, first: 5 }]);
        // In a file and still in the log.
        offsets.found(Lsn(7), STREAM, &[Offsets { partition: 1, count: 1, first: 0 }]);
        offsets.complete();
        assert!(offsets.ready(Duration::ZERO).await);
        let numbering = offsets.numbering(STREAM, 2);
        assert_eq!(numbering.ends(), (Lsn(8), vec![7, 1]));
        assert_eq!(numbering.locate(0, 6), Some(Lsn(8)));
        offsets.registered(STREAM, Lsn(8));
        offsets.registered(StreamId(99), Lsn(8));
    }

    #[test]
    fn threads_get_each_offset_once_and_in_the_order_of_frames() {
        let offsets = Arc::new(OffsetCounters::new(&[]));
        let next = Arc::new(std::sync::atomic::AtomicU64::new(1));
        let work = || {
            let (numbering, next) = (offsets.numbering(STREAM, 2), Arc::clone(&next));
            std::thread::spawn(move || {
                let one = |_| {
                    let append =
                        |_: &[Offsets]| Ok(Lsn(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)));
                    let (lsn, numbered) = numbering.append(&Division::Turn(3), append).unwrap();
                    (lsn, numbered.each())
                };
                (0..500).map(one).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..4).map(|_| work()).collect();
        let mut all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        all.sort_by_key(|(lsn, _)| *lsn);
        for partition in 0..2 {
            let numbers = all.iter().flat_map(|(_, numbers)| numbers).filter(|(p, _)| *p == partition);
            let numbers: Vec<u64> = numbers.map(|(_, offset)| *offset).collect();
            assert_eq!(numbers, (0..3000).collect::<Vec<_>>());
        }
    }
}
