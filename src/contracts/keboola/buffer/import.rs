//! The import route: the checks before the body is read, and the wording of the answer.

use crate::batch;
use crate::contracts::keboola::reply::{self, not_found};
use crate::contracts::keboola::validate::Findings;
use crate::contracts::keboola::{KeboolaContext, go, names, secrets};
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::receivers::Receiver;
use crate::contracts::{Accepted, Durability, Receive, Reply, RequestHead, Wait};
use crate::mapping::MappingFailure;
use http::{HeaderName, HeaderValue, header};
use std::borrow::Cow;

/// Finds the receiver that the path names. The secret in the path must match.
pub(super) fn receive(
    common: &KeboolaContext,
    head: &RequestHead<'_>,
    parameters: &[Cow<'_, str>],
) -> Result<Receive, Reject> {
    let parameter = |at: usize| parameters.get(at).map_or("", |parameter| &**parameter);
    let (project, id, secret) = (parameter(0), parameter(1), parameter(2));
    let mut findings = Findings::default();
    if project.parse::<i64>().is_err() {
        findings.wrong_type("projectId", &go::quote(project), "integer");
    }
    findings.length("receiverId", &(1..=names::ID_CHARS_MAX), &go::quote(id), id.chars().count());
    findings.length("secret", &(secrets::CHARS..=secrets::CHARS), &go::quote(secret), secret.chars().count());
    if !head.headers.contains_key(header::CONTENT_TYPE) {
        findings.missing("Content-Type", "header");
    }
    findings.finish()?;
    let Some(receiver) = common.control.receivers.find(batch::Tag::Keboola, project, id) else {
        return Err(not_found("receiverNotFound", format!("receiver \"{id}\" not found in the project")));
    };
    if !receiver.knows(secret) {
        let message = format!("receiver \"{id}\" with given secret not found");
        return Err(not_found("receiverNotFound", message));
    }
    has_room(common, id, &receiver)?;
    Ok(Receive { receiver, wait: Wait::Sync, hides: &[], unmapped })
}

/// Refuses an event if the receiver's backlog is over the limit. A request is stored once, so of several exports the
/// one that is furthest behind counts.
fn has_room(common: &KeboolaContext, id: &str, receiver: &Receiver) -> Result<(), Reject> {
    let open = receiver.exports.iter().filter_map(|export| common.control.progress.open(export.stream));
    let buffered = open.map(|open| open.bytes).max().unwrap_or(0);
    let limit = common.settings.receiver_buffer_max.0;
    if limit == 0 || buffered <= limit {
        return Ok(());
    }
    let (buffered, limit) = (go::Amount(buffered), go::Amount(limit));
    let why = format!("receiver \"{id}\" has \"{buffered}\" buffered for upload, limit is \"{limit}\"");
    Err(Reject::new(RejectKind::Full, why).retry_after(1))
}

/// 200 without a body: the event survives power loss. If the sync is late, the event is accepted all the same.
pub(super) fn accepted(accepted: &Accepted) -> Reply {
    let mut reply = reply::empty();
    let mut add = |name, value| reply.headers.push((HeaderName::from_static(name), value));
    add("forebay-receipt", HeaderValue::from(accepted.lsn));
    if accepted.state == Durability::SyncPending {
        add("forebay-durable", HeaderValue::from_static("false"));
    }
    reply
}

/// Refuses an event that does not become a row of every export. Nothing of it is stored.
pub(super) fn unmapped(failures: &[(String, MappingFailure)]) -> Reject {
    let message = |(label, failure): &(String, MappingFailure)| {
        reply::lines(&format!("Failed to format record for export \"{label}\""), &[failure_sentence(failure)])
    };
    match failures {
        // One export cannot use a body of this type.
        [(_, failure @ MappingFailure::ContentType(_)), ..] => {
            Reject::new(RejectKind::UnsupportedType, failure.to_string()).code("unsupportedMediaType")
        }
        [(_, failure @ MappingFailure::Unavailable(_)), ..] => {
            Reject::new(RejectKind::Unavailable, failure.to_string())
                .code("serviceUnavailable")
                .retry_after(1)
        }
        [one] => Reject::malformed(message(one)).code("badRequest"),
        many => {
            let messages: Vec<String> = many.iter().map(message).collect();
            Reject::malformed(messages.join("\n")).code("multipleErrors")
        }
    }
}

fn failure_sentence(failure: &MappingFailure) -> String {
    match failure {
        MappingFailure::Stopped { column, message } => format!("column \"{column}\": {message}"),
        failure => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_for_each_export() {
        let of = |label: &str, path: &str| {
            let (column, message) = ("c".to_owned(), format!("path \"{path}\" not found in the body"));
            (label.to_owned(), MappingFailure::Column { column, message })
        };
        let one = unmapped(&[of("export-1", "col1")]);
        assert_eq!(
            one.external,
            "Failed to format record for export \"export-1\":\n- path \"col1\" not found in the body"
        );
        assert_eq!((one.kind, one.code), (RejectKind::Malformed, Some("badRequest")));
        let two = unmapped(&[of("export-1", "a"), of("export-2", "b")]);
        assert_eq!(two.code, Some("multipleErrors"));
        assert_eq!(
            two.external,
            "Failed to format record for export \"export-1\":\n- path \"a\" not found in the body\nFailed to format record \
             for export \"export-2\":\n- path \"b\" not found in the body"
        );
        let unsupported = unmapped(&[("e".to_owned(), MappingFailure::ContentType("text/plain".to_owned()))]);
        assert_eq!(
            unsupported.external,
            "unsupported content type \"text/plain\", supported types: application/json and \
             application/x-www-form-urlencoded"
        );
    }
}
