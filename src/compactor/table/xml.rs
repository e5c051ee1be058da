//! A frame with an XML document: its records are treated as if they were JSON. It has not been parsed before.

use super::{FinishedCut, StreamTable, TableConfig, TableError, counts_of};
use crate::batch::{Batch, BodyKind};
use crate::columns::{self, BodyOrigin, Reason, RowCounts};
use crate::compactor::landing::xml_lines;
use crate::wal::Lsn;

impl StreamTable {
    pub(super) fn append_xml(
        &mut self,
        origin: BodyOrigin,
        batch: &Batch<'_>,
        config: &TableConfig,
    ) -> Result<(RowCounts, Vec<FinishedCut>), TableError> {
        let version = self.schema().version;
        let known = match self.known.take() {
            Some((of, known)) if of == version => known,
            _ => columns::known(&self.schema().columns),
        };
        let lines = xml_lines(batch, &self.stream, &known);
        self.known = Some((version, known));
        let readable = lines.as_ref().ok().map(Vec::as_slice);
        self.keep_raw(Lsn(origin.lsn), origin.received_at, batch, readable);
        let source_bytes = batch.body.len();
        let lines = match lines {
            Ok(lines) => lines,
            Err(error) => {
                let reason = Reason::Document(error.to_string());
                let counts = self.rows.append_bad(origin, 0, batch.body, reason);
                return self.took(origin, counts, counts_of(counts, source_bytes), config);
            }
        };
        let mut batch = Batch { body: &lines, ..batch.clone() };
        batch.head.kind = BodyKind::Lines;
        let records = memchr::memchr_iter(b'\n', &lines).count();
        if records > self.batch_rows() {
            return self.append_in_parts(origin, &batch, config);
        }
        let counts = self.rows.append(&lines, BodyKind::Lines, origin);
        self.took(origin, counts, counts_of(counts, source_bytes), config)
    }
}
