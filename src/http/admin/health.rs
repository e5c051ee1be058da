//! Health and readiness: whether the process works, and whether it accepts events.

use super::DaemonPhase;
use super::problem::respond;
use crate::wal::{Full, Health};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full as FullBody;
use serde_json::json;

/// The reason why no requests are accepted, if there is one.
pub(super) fn not_ready(phase: &DaemonPhase) -> Option<&'static str> {
    match phase {
        DaemonPhase::Recovering => Some("recovering"),
        // The poisoned log is why it drains.
        DaemonPhase::Draining(running) if running.wal.status().health == Health::Poisoned => Some("poisoned"),
        DaemonPhase::Draining(_) => Some("draining"),
        DaemonPhase::Running(running) => {
            let status = running.wal.status();
            match (status.health, status.refusing) {
                (Health::Poisoned, _) => Some("poisoned"),
                (Health::Closed, _) => Some("draining"),
                (_, Some(Full::Log)) => Some("log full"),
                (_, Some(Full::Disk)) => Some("disk full"),
                _ => None,
            }
        }
    }
}

pub(super) fn healthz(phase: &DaemonPhase) -> Response<FullBody<Bytes>> {
    // A process that can no longer acknowledge must be restarted; one that waits for disk space must not.
    match not_ready(phase) {
        Some(reason @ "poisoned") => respond(
            StatusCode::SERVICE_UNAVAILABLE,
            "application/json",
            json!({"status": reason}).to_string(),
        ),
        _ => respond(StatusCode::OK, "application/json", json!({"status": "ok"}).to_string()),
    }
}

pub(super) fn readyz(phase: &DaemonPhase) -> Response<FullBody<Bytes>> {
    let reason = not_ready(phase);
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({"ready": reason.is_none(), "reason": reason});
    respond(status, "application/json", body.to_string())
}
