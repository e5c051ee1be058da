//! Streams whose tables are dropped: their files are removed from the destination as well.

use super::schemas::end_stream;
use super::{Catalog, CatalogError, RegisteredFile, Stream};
use crate::batch::StreamId;
use rusqlite::params;
use std::sync::Arc;

impl Catalog {
    /// Deletes a stream and its table: its published files are removed, and its staged files are never published.
    /// Blocks on the disk.
    pub fn drop_stream(&self, id: StreamId) -> Result<Arc<Stream>, CatalogError> {
        let now = self.clock.now();
        self.change_stream(|db| {
            db.execute("UPDATE streams SET dropped = 1 WHERE id = ?1", [id.0])?;
            end_stream(db, id, now)
        })
    }

    /// Published files of dropped streams that must be removed: at most `limit`.
    pub fn files_to_drop(&self, limit: u32) -> Result<Vec<RegisteredFile>, CatalogError> {
        let condition =
            "state = 'published' AND stream IN (SELECT id FROM streams WHERE dropped) ORDER BY id LIMIT ?1";
        self.files_where(condition, &[&limit])
    }

    /// Marks a file of a dropped stream as removed, or as never to be published.
    pub fn mark_dropped(&self, id: i64) -> Result<(), CatalogError> {
        let now = self.clock.now();
        // For readers of rows this is the same as an expired file.
        let sql = "UPDATE files SET state = 'expired', dropped_at = ?2, held = NULL WHERE id = ?1";
        self.transaction(|db| db.execute(sql, params![id, now]).map(drop))
    }
}
