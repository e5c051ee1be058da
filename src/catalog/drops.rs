//! Streams whose tables are dropped: their files go from the destination as well.

use super::schemas::end_stream;
use super::{Catalog, CatalogError, RegisteredFile, Stream};
use crate::batch::StreamId;
use rusqlite::params;
use std::sync::Arc;

impl Catalog {
    /// Deletes a stream and its table: what is published of it is removed, and what is not published yet never is. Blocks
    /// on the disk.
    pub fn drop_stream(&self, id: StreamId) -> Result<Arc<Stream>, CatalogError> {
        let now = self.clock.now();
        self.change_stream(|db| {
            db.execute("UPDATE streams SET dropped = 1 WHERE id = ?1", [id.0])?;
            end_stream(db, id, now)
        })
    }

    /// Published files of dropped streams, which are to be removed: at most `limit`.
    pub fn files_to_drop(&self, limit: u32) -> Result<Vec<RegisteredFile>, CatalogError> {
        let condition =
            "state = 'published' AND stream IN (SELECT id FROM streams WHERE dropped) ORDER BY id LIMIT ?1";
        self.files_where(condition, &[&limit])
    }

    /// A file of a dropped stream is gone, or will never be published.
    pub fn mark_dropped(&self, id: i64) -> Result<(), CatalogError> {
        let now = self.clock.now();
        // To whoever reads rows it is as gone as one that expired.
        let sql = "UPDATE files SET state = 'expired', dropped_at = ?2, held = NULL WHERE id = ?1";
        self.transaction(|db| db.execute(sql, params![id, now]).map(drop))
    }
}
