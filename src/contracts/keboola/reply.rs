//! Answers in the format and wording of the vendor's services, for all of its contracts.

use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::{AnswerContext, Reply, RequestHead};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

static JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Length of a request id, in characters.
const REQUEST_ID_CHARS: usize = 15;

/// The prefixes that one of the services uses.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// The prefix of error names: `buffer.`
    pub errors: &'static str,
    /// The prefix of exception ids: `keboola-buffer-`
    pub exceptions: &'static str,
}

/// JSON as the service writes it: on several lines, indented by two spaces.
pub fn rendered(body: &Value) -> String {
    let text = serde_json::to_string_pretty(body).expect("a JSON value can always be serialized");
    // These characters occur only in strings, and the vendor's encoder escapes them.
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

pub fn json(status: StatusCode, body: &Value) -> Reply {
    Reply { status, headers: vec![(header::CONTENT_TYPE, JSON.clone())], body: rendered(body).into() }
}

pub fn ok(body: &Value) -> Reply {
    json(StatusCode::OK, body)
}

/// 200 without a body.
pub fn empty() -> Reply {
    Reply { status: StatusCode::OK, headers: Vec::new(), body: bytes::Bytes::new() }
}

/// 200 with a body that is not JSON.
pub fn text(kind: &'static str, body: impl Into<bytes::Bytes>) -> Reply {
    let kind = HeaderValue::from_static(kind);
    Reply { status: StatusCode::OK, headers: vec![(header::CONTENT_TYPE, kind)], body: body.into() }
}

impl Service {
    /// An error. A name without a dot gets the service's prefix. A server error has an exception id, by which the
    /// operator finds it in the log.
    pub fn error(self, head: &RequestHead<'_>, status: u16, name: &str, message: &str) -> Reply {
        let mut body = Map::new();
        body.insert("statusCode".to_owned(), status.into());
        let name = if name.contains('.') { name.to_owned() } else { format!("{}{name}", self.errors) };
        body.insert("error".to_owned(), name.into());
        body.insert("message".to_owned(), sentence(message).into());
        if status >= 500 {
            body.insert("exceptionId".to_owned(), self.exception(&head.named).into());
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        json(status, &Value::Object(body))
    }

    /// The message of an error that the client can do nothing about.
    pub fn application_error(self, named: &AnswerContext) -> String {
        let exception = self.exception(named);
        format!(
            "Application error. Please contact our support support@keboola.com with exception id ({exception}) attached."
        )
    }

    fn exception(self, named: &AnswerContext) -> String {
        format!("{}{}", self.exceptions, request_id(named))
    }
}

/// Refuses a request that names something that does not exist.
pub fn not_found(name: &'static str, message: String) -> Reject {
    Reject::new(RejectKind::NotFound, message).code(name)
}

/// The request id that answers contain.
fn request_id(named: &AnswerContext) -> String {
    named.id.letters(REQUEST_ID_CHARS)
}

/// Adds the request id to an answer.
pub fn name_request(reply: &mut Reply, named: &AnswerContext) {
    static NAME: HeaderName = HeaderName::from_static("x-request-id");
    if let Ok(id) = HeaderValue::from_str(&request_id(named)) {
        reply.headers.push((NAME.clone(), id));
    }
}

/// A message as it is sent: with a capital letter at the beginning, and a full stop after a word at the end.
fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let mut sentence: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    sentence.push_str(letters.as_str());
    if message.ends_with(|last: char| last.is_alphanumeric() || matches!(last, '\'' | '"')) {
        sentence.push('.');
    }
    sentence
}

/// A refusal with its reasons: a single reason on the same line, several on a line each.
pub fn reasons(what: &str, reasons: &[String]) -> String {
    match reasons {
        [reason] => format!("{what}: {reason}"),
        reasons => lines(what, reasons),
    }
}

/// Like [`reasons`], but even a single reason gets its own line.
pub fn lines(what: &str, reasons: &[String]) -> String {
    reasons.iter().fold(format!("{what}:"), |text, reason| text + "\n- " + reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sentences() {
        for (message, sent) in [
            ("receiver \"x\" not found", "Receiver \"x\" not found."),
            ("\"a\" is missing from body.exports[0]", "\"a\" is missing from body.exports[0]"),
            ("value \"\" (len=0)", "Value \"\" (len=0)"),
            ("say \"x\"", "Say \"x\"."),
            ("done.", "Done."),
            ("", ""),
        ] {
            assert_eq!(sentence(message), sent);
        }
        assert_eq!(reasons("invalid conditions", &["a".to_owned()]), "invalid conditions: a");
        assert_eq!(reasons("bad", &["a".to_owned(), "b".to_owned()]), "bad:\n- a\n- b");
    }

    #[test]
    fn errors_have_their_service_s_name_and_a_number_if_they_are_ours() {
        let service = Service { errors: "buffer.", exceptions: "keboola-buffer-" };
        let head = crate::contracts::tests::head();
        let reply = service.error(&head, 404, "receiverNotFound", "receiver \"x\" not found in the project");
        assert_eq!(
            std::str::from_utf8(&reply.body).unwrap(),
            "{\n  \"statusCode\": 404,\n  \"error\": \"buffer.receiverNotFound\",\n  \"message\": \"Receiver \\\"x\\\" not \
             found in the project.\"\n}"
        );
        let reply = service.error(&head, 401, "storage.tokenInvalid", "invalid access token");
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["error"], "storage.tokenInvalid");
        let reply = service.error(&head, 500, "internalError", &service.application_error(&head.named));
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["exceptionId"], "keboola-buffer-000000000000000");
        assert!(body["message"].as_str().unwrap().contains("(keboola-buffer-000000000000000)"));
    }
}
