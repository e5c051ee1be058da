//! `/admin/v1/staged`: files that wait to be published, and files that are held back because they do not fit their
//! table. Once the cause is fixed, these are published or rebuilt.

use super::problem::{blocking, ok, parameter};
use super::state::file;
use super::{AdminRequest, AdminResult, RunningDaemon};
use crate::batch::StreamId;
use crate::catalog::{Catalog, CatalogError, NewReplay, RegisteredFile, Stream};
use crate::wal::{Lsn, LsnRange};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

const REPLAYS_LOOKED_AT: u32 = 1000;

impl RunningDaemon {
    pub(super) async fn staged(&self) -> AdminResult {
        let catalog = Arc::clone(&self.catalog);
        let files = blocking(move || catalog.staged()).await?;
        let streams = self.catalog.streams();
        let files: Vec<Value> = files
            .iter()
            .map(|staged| {
                let mut value = file(staged);
                value["stream"] = json!(streams.get(staged.stream).map(|stream| &stream.name));
                value
            })
            .collect();
        Ok(ok(&json!({"staged": files})))
    }

    /// Checks the held-back files again. Files that now fit their table are published; files that the current mapping
    /// would make fit are rebuilt.
    pub(super) async fn recover(&self, request: &AdminRequest<'_>) -> AdminResult {
        let only = parameter(request.query, "stream").map(|id| self.find(&id)).transpose()?;
        let only = only.map(|stream| stream.id);
        let catalog = Arc::clone(&self.catalog);
        let recovered = blocking(move || recover(&catalog, only)).await?;
        self.progress.release();
        self.progress.replay_asked.notify_one();
        Ok(ok(&recovered))
    }
}

fn recover(catalog: &Catalog, only: Option<StreamId>) -> Result<Value, CatalogError> {
    let replays = catalog.replays(REPLAYS_LOOKED_AT)?;
    let under_way = replays.iter().filter(|replay| !replay.state.is_over());
    let busy: HashMap<StreamId, i64> = under_way.map(|replay| (replay.asked.stream, replay.id)).collect();
    // A cut is rebuilt as a whole.
    let mut made_anew: HashSet<(StreamId, Lsn)> = HashSet::new();
    let (mut published, mut held, mut begun) = (Vec::new(), Vec::new(), Vec::new());
    let staged = catalog.staged()?;
    let of_it = |file: &&RegisteredFile| only.is_none_or(|only| only == file.stream) && file.held.is_some();
    for file in staged.iter().filter(of_it) {
        let Some(stream) = catalog.streams().get(file.stream).cloned() else { continue };
        let mut hold = |reason: String| {
            held.push(json!({"object": file.object, "stream": stream.name, "reason": reason}));
        };
        if let Some(replay) = busy.get(&file.stream) {
            hold(format!("replay {replay} is rebuilding files of the stream"));
            continue;
        }
        let then = catalog.rules(file.stream, file.schema_version)?;
        let Some(reason) = then.and_then(|then| then.misfit(&stream.rules())) else {
            catalog.hold(file.id, None)?;
            published.push(file.object.clone());
            continue;
        };
        if stream.rules().misfit(&stream.rules()).is_some() {
            catalog.hold(file.id, Some(&reason))?;
            hold(reason);
            continue;
        }
        let lsns = LsnRange { first: file.first_lsn, last: file.last_lsn };
        if !made_anew.insert((file.stream, lsns.first)) {
            continue;
        }
        match replay_of(catalog, &stream, lsns)? {
            Some(replay) => begun.push(replay),
            None => hold(reason),
        }
    }
    Ok(json!({"published": published, "replays": begun, "held": held}))
}

/// Queues a replay of one cut.
fn replay_of(catalog: &Catalog, stream: &Stream, lsns: LsnRange) -> Result<Option<i64>, CatalogError> {
    let Some(cut) = catalog.next_cut(stream.id, lsns, lsns.first.previous())? else { return Ok(None) };
    let replay = catalog.add_replay(&NewReplay {
        stream: stream.id,
        from: cut.first_at,
        // The time range is empty, so no further events are given to the export.
        to: cut.first_at,
        partial: false,
        lsns,
        first_at: cut.first_at,
        last_at: cut.last_at,
        cuts: 1,
        files: cut.files,
        rows: cut.rows,
        missing: Vec::new(),
        left_out: Vec::new(),
    })?;
    Ok(Some(replay.id))
}
