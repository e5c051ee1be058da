//! `/admin/v1/receivers`: endpoints whose requests go to several streams, and the backlog of each export.

use super::RunningDaemon;
use crate::batch::StreamId;
use serde_json::{Value, json};

impl RunningDaemon {
    pub(super) fn receivers(&self) -> Value {
        let streams = self.catalog.streams();
        let name = |id: StreamId| streams.get(id).map(|stream| stream.name.clone());
        let all = self.control.receivers.all();
        let shown = all.iter().map(|((contract, project, id), receiver)| {
            let exports = receiver.exports.iter().map(|export| {
                let open = self.progress.open(export.stream);
                json!({
                    "id": export.label,
                    "stream": name(export.stream),
                    "open_rows": open.map_or(0, |open| open.rows),
                    "open_bytes": open.map_or(0, |open| open.bytes),
                })
            });
            json!({
                "contract": contract.name(),
                "project": project,
                "id": id,
                "stream": name(receiver.stream),
                "exports": exports.collect::<Vec<_>>(),
            })
        });
        json!({"receivers": shown.collect::<Vec<_>>()})
    }
}
