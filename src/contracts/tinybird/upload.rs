//! The content of a data-source request: parameters from the query, a form or the fields of an upload, and data from a
//! part of the upload or from the body itself. The content type only tells uploads and forms from everything else,
//! because clients send data under any content type.

use crate::contracts::Call;
use crate::contracts::reject::{Reject, RejectKind};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header;
use std::collections::HashMap;

/// The most parts an upload may have.
const PARTS_MAX: usize = 64;
/// The longest parameter, in bytes.
const PARAMETER_BYTES_MAX: usize = 1 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Parameters that identify a form. curl sends data under the content type of a form, too.
const FORM_KEYS: [&str; 12] = [
    "name",
    "mode",
    "schema",
    "format",
    "url",
    "dry",
    "dry_run",
    "description",
    "delete_condition",
    "force",
    "engine",
    "ttl",
];

/// A parsed request.
#[derive(Debug)]
pub(super) struct Upload {
    parameters: HashMap<String, String>,
    /// The decompressed data; `None` if the request has none.
    pub(super) data: Option<Bytes>,
}

impl Upload {
    pub(super) fn from_call(call: &Call<'_>) -> Result<Self, Reject> {
        let mut upload = Self { parameters: HashMap::new(), data: None };
        upload.add_pairs(call.head.query.as_bytes());
        let kind =
            call.head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        if let Ok(boundary) = multer::parse_boundary(kind) {
            upload.add_parts(call, boundary)?;
        } else if is_form(kind, &call.body) {
            upload.add_pairs(&call.body);
        } else if !call.body.is_empty() {
            upload.data = Some(call.body.clone());
        }
        if let Some(data) = upload.data.take() {
            upload.data = Some(if data.starts_with(&GZIP_MAGIC) { (call.gunzip)(data)? } else { data });
        }
        Ok(upload)
    }

    /// The first parameter of that name; the query takes precedence.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Reject> {
        self.get(name).ok_or_else(|| Reject::malformed(format!("The '{name}' parameter is required")))
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.parameters
            .get(name)
            .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1"))
    }

    fn add_pairs(&mut self, pairs: &[u8]) {
        for (key, value) in form_urlencoded::parse(pairs) {
            self.parameters.entry(key.into_owned()).or_insert_with(|| value.into_owned());
        }
    }

    /// The parts of `multipart/form-data`: files are data, everything else is a parameter.
    fn add_parts(&mut self, call: &Call<'_>, boundary: String) -> Result<(), Reject> {
        let whole = call.body.clone();
        let body = futures_util::stream::once(std::future::ready(Ok::<_, std::convert::Infallible>(whole)));
        let mut parts = multer::Multipart::new(body, boundary);
        let broken = |error: multer::Error| Reject::malformed(format!("The upload cannot be read: {error}"));
        // The whole body is in memory, so no future is ever pending.
        let late = || Reject::new(RejectKind::Internal, "internal error");
        for _ in 0..PARTS_MAX {
            let part = parts.next_field().now_or_never().ok_or_else(late)?.map_err(broken)?;
            let Some(part) = part else { return Ok(()) };
            let name = part.name().unwrap_or("").to_owned();
            let is_file =
                part.file_name().is_some() || matches!(name.as_str(), "csv" | "ndjson" | "parquet" | "file");
            let bytes = part.bytes().now_or_never().ok_or_else(late)?.map_err(broken)?;
            if is_file {
                if self.data.replace(bytes).is_some() {
                    return Err(Reject::malformed("The upload has more than one file"));
                }
                // The name of the part is the format, unless a parameter sets it.
                if matches!(name.as_str(), "csv" | "ndjson" | "parquet") {
                    self.parameters.entry("format".to_owned()).or_insert(name);
                }
                continue;
            }
            if bytes.len() > PARAMETER_BYTES_MAX {
                return Err(Reject::new(
                    RejectKind::TooLarge,
                    format!("parameter '{name}' exceeds {PARAMETER_BYTES_MAX} bytes"),
                ));
            }
            let value = String::from_utf8(bytes.to_vec())
                .map_err(|_| Reject::malformed(format!("parameter '{name}' is not valid UTF-8")))?;
            self.parameters.entry(name).or_insert(value);
        }
        Err(Reject::malformed(format!("The upload has more than {PARTS_MAX} parts")))
    }
}

fn is_form(kind: &str, body: &[u8]) -> bool {
    let essence = kind.split_once(';').map_or(kind, |(essence, _)| essence).trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return false;
    }
    let key = body.split(|byte| matches!(byte, b'=' | b'&')).next().unwrap_or(body);
    FORM_KEYS.iter().any(|known| known.as_bytes() == key)
}
