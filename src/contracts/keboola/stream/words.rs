//! Errors in the contract's words.

use crate::contracts::keboola::reply::{Service, not_found};
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::{Reply, RequestHead};

/// Error names of the control plane.
const API: Service = Service { errors: "stream.api.", exceptions: "keboola-stream-" };
/// Error names of the data plane, which takes records.
pub(super) const DATA: Service = Service { errors: "stream.in.", exceptions: "keboola-stream-" };

pub(super) fn bad(message: impl Into<String>) -> Reject {
    Reject::malformed(message.into()).code("badRequest")
}

pub(super) fn no_source(id: &str) -> Reject {
    not_found("sourceNotFound", format!("source \"{id}\" not found in the branch"))
}

pub(super) fn no_deleted_source(id: &str) -> Reject {
    not_found("deletedSourceNotFound", format!("deleted source \"{id}\" not found in the branch"))
}

pub(super) fn no_sink(id: &str) -> Reject {
    not_found("sinkNotFound", format!("sink \"{id}\" not found in the source"))
}

pub(super) fn no_deleted_sink(id: &str) -> Reject {
    not_found("deletedSinkNotFound", format!("deleted sink \"{id}\" not found in the source"))
}

pub(super) fn no_source_version(id: &str, number: u32) -> Reject {
    let message = format!("source version \"{id}/{number:010}\" not found in the branch");
    not_found("sourceVersionNotFound", message)
}

pub(super) fn no_sink_version(id: &str, number: u32) -> Reject {
    let message = format!("sink version \"{id}/{number:010}\" not found in the source");
    not_found("sinkVersionNotFound", message)
}

pub(super) fn no_branch(id: &str) -> Reject {
    not_found("branchNotFound", format!("branch \"{id}\" not found in the project"))
}

pub(super) fn source_exists(id: &str) -> Reject {
    let message = format!("source \"{id}\" already exists in the branch");
    Reject::new(RejectKind::Conflict, message).code("sourceAlreadyExists")
}

pub(super) fn sink_exists(id: &str) -> Reject {
    let message = format!("sink \"{id}\" already exists in the source");
    Reject::new(RejectKind::Conflict, message).code("sinkAlreadyExists")
}

pub(super) fn limit_reached(what: &str, within: &str, max: usize) -> Reject {
    let message = format!("{what} count limit reached in the {within}, the maximum is {max}");
    Reject::new(RejectKind::Unprocessable, message).code("resourceLimitReached")
}

pub(super) fn unprocessable(message: impl Into<String>) -> Reject {
    Reject::new(RejectKind::Unprocessable, message.into()).code("unprocessableContent")
}

/// An error of the control plane: its status, name and message.
pub(super) fn of_api(head: &RequestHead<'_>, reject: &Reject) -> Reply {
    let (status, code) = match reject.kind {
        RejectKind::Malformed => (400, "badRequest"),
        RejectKind::Unauthenticated | RejectKind::TokenExpired => (401, "storage.tokenInvalid"),
        // The contract's name for a valid token without the required scope.
        RejectKind::Forbidden if reject.lacks.is_some() => (401, "masterTokenRequired"),
        RejectKind::Forbidden => (403, "forbidden"),
        RejectKind::NoSuchRoute => (404, "endpointNotFound"),
        RejectKind::NoSuchStream | RejectKind::NotFound => (404, "notFound"),
        RejectKind::MethodNotAllowed => (405, "methodNotAllowed"),
        RejectKind::TooSlow => (408, "requestTimeout"),
        RejectKind::Conflict => (409, "conflict"),
        RejectKind::LengthRequired => (411, "lengthRequired"),
        RejectKind::TooLarge => (413, "payloadTooLarge"),
        RejectKind::UnsupportedType | RejectKind::UnsupportedEncoding => (415, "unsupportedMediaType"),
        RejectKind::Unprocessable => (422, "unprocessableContent"),
        RejectKind::TooManyRequests => (429, "tooManyRequests"),
        RejectKind::Full | RejectKind::Unavailable => (503, "serviceUnavailable"),
        RejectKind::Unknown | RejectKind::Internal => (500, "internalError"),
    };
    let message = match reject.kind {
        RejectKind::Unauthenticated | RejectKind::TokenExpired => "Invalid access token".to_owned(),
        RejectKind::Forbidden if reject.lacks.is_some() => {
            "Please provide a master token of a project administrator".to_owned()
        }
        RejectKind::NoSuchRoute => format!("no endpoint found for path \"{}\"", head.path),
        RejectKind::Internal | RejectKind::Unknown => API.application_error(&head.named),
        _ => reject.external.clone().into_owned(),
    };
    API.error(head, status, reject.code.unwrap_or(code), &message)
}
