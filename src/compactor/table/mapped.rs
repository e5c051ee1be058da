//! Frames of receivers in a table: the mapping turns their records into rows.

use super::{FinishedCut, StreamTable, TableConfig, TableError, counts_of};
use crate::batch::{Batch, Target};
use crate::columns::{BodyOrigin, RowCounts};
use crate::mapping::Mapping;
use crate::mapping::frames;
use std::sync::Arc;

impl StreamTable {
    /// Whether a frame was answered under this mapping.
    fn is_as_answered(
        &mut self,
        target: &Target,
        mapping: &Mapping,
        config: &TableConfig,
    ) -> Result<bool, TableError> {
        let Some(version) = target.version else { return Ok(false) };
        match self.answered {
            _ if version == self.schema().version => Ok(true),
            Some((known, is_same)) if known == version => Ok(is_same),
            _ => {
                let then = config.catalog.rules(self.stream.id, version)?;
                let is_same = then.is_some_and(|then| then.mapping.as_deref() == Some(mapping));
                self.answered = Some((version, is_same));
                Ok(is_same)
            }
        }
    }

    /// Takes the rows that the mapping produces from the records of a frame.
    pub(super) fn append_mapped(
        &mut self,
        origin: BodyOrigin,
        (batch, target): (&Batch<'_>, &Target),
        mapping: &Arc<Mapping>,
        config: &TableConfig,
    ) -> Result<(RowCounts, Vec<FinishedCut>), TableError> {
        let as_stored = self.is_as_answered(target, mapping, config)?;
        let mapped = frames::FrameMapper {
            stream: self.stream.id,
            mapping,
            log: config.log,
            evaluator: Some(&config.evaluator),
        };
        let mut counts = RowCounts::default();
        let before = self.rows.bytes();
        let (rows, first) = (&mut self.rows, self.numbered + 1);
        mapped.each(origin.lsn, origin.received_at, batch, as_stored, first, |record, raw, made| {
            counts = counts.plus(match made {
                Ok(values) => rows.append_texts(origin, record, values),
                Err(reason) => rows.append_unmapped(origin, record, raw, reason),
            });
        })?;
        self.numbered += counts.stored;
        let bytes = self.rows.bytes() - before;
        self.took(origin, counts, counts_of(counts, bytes), config)
    }
}
