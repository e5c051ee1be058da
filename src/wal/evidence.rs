//! What is known at a start of how far each run of the daemon was durable, from the frames and from outside the
//! segments: LSNs jump between runs, and the durable mark of a later run proves nothing about the lost tail of an
//! earlier one.

use super::format::SegmentStart;
use super::lsn::{Lsn, LsnRange};
use super::marks::DurableMark;
use super::segment::{Segment, SegmentEnd};

#[derive(Default)]
pub(super) struct Evidence {
    /// In order.
    runs: Vec<LsnRange>,
    hints: Vec<Lsn>,
    /// What the catalog and the marks say: the first LSN of a run, and how far it was durable.
    noted: Vec<LsnRange>,
    /// The first LSNs of the runs and of the segments that are noted.
    begun: Vec<Lsn>,
}

impl Evidence {
    pub(super) fn new(runs: &[LsnRange], marks: &[DurableMark]) -> Self {
        let begun =
            marks.iter().flat_map(|mark| [mark.run, mark.base]).chain(runs.iter().map(|run| run.first));
        let begun = begun.collect();
        let marks = marks.iter().map(|mark| LsnRange { first: mark.run, last: mark.durable });
        let noted = runs.iter().copied().chain(marks).filter(|run| run.first <= run.last).collect();
        Self { noted, begun, ..Self::default() }
    }

    /// The highest LSN that is known to have been assigned.
    pub(super) fn highest(&self) -> Lsn {
        self.noted.iter().map(|run| run.last).chain(self.begun.iter().copied()).max().unwrap_or(Lsn::NONE)
    }

    /// The first noted run or segment that begins above `reached` and not above `lsn`: LSNs jump between runs.
    pub(super) fn begun_between(&self, reached: Lsn, lsn: Lsn) -> Option<Lsn> {
        self.begun.iter().filter(|begun| (reached.next()..=lsn).contains(begun)).min().copied()
    }

    /// Adds a segment, in the order of the log.
    pub(super) fn segment(&mut self, start: &SegmentStart, end: SegmentEnd) {
        // Within one run, LSNs continue without a gap from segment to segment.
        let goes_on = start.predecessor.is_none_or(|before| before.last.next() == start.base);
        match self.runs.last_mut() {
            Some(run) if goes_on => run.last = run.last.max(end.last),
            _ => self.runs.push(LsnRange { first: start.base, last: end.last }),
        }
    }

    /// A frame records that everything of its run up to `hint` was durable when it was appended.
    pub(super) fn durable(&mut self, hint: Lsn) {
        self.hints.push(hint);
    }

    /// Everything of the run of `lsn` up to here was durable.
    pub(super) fn known_durable(&self, lsn: Lsn) -> Lsn {
        let run = self.runs.iter().rfind(|run| run.first <= lsn);
        let within = |hint: &&Lsn| run.is_some_and(|run| (run.first..=run.last).contains(*hint));
        let by_frames = self.hints.iter().filter(within).max().copied();
        let noted = self.noted.iter().filter(|run| (run.first..=run.last).contains(&lsn));
        by_frames.max(noted.map(|run| run.last).max()).unwrap_or(Lsn::NONE)
    }

    /// The durable mark of the latest run, by the best evidence.
    pub(super) fn latest(&self) -> Lsn {
        self.runs.last().map_or(Lsn::NONE, |run| self.known_durable(run.first))
    }

    /// What was durable, is not `consumed`, and is in none of the segments.
    pub(super) fn uncovered(&self, consumed: Lsn, segments: &[Segment]) -> Vec<LsnRange> {
        let mut covered: Vec<(Lsn, Lsn)> = segments
            .iter()
            .filter_map(|segment| Some((segment.base, segment.end()?.last)))
            .filter(|(base, last)| base <= last)
            .collect();
        covered.sort_unstable();
        let mut missing = Vec::new();
        for run in &self.noted {
            let mut next = run.first.max(consumed.next());
            for (base, last) in &covered {
                if next < *base && next <= run.last {
                    missing.push(LsnRange { first: next, last: base.previous().min(run.last) });
                }
                next = next.max(last.next());
            }
            if next <= run.last {
                missing.push(LsnRange { first: next, last: run.last });
            }
        }
        missing
    }
}
