//! Converts OpenTelemetry's logs, metrics and traces to flat records: one JSON object per log record, data point
//! and span, with its resource and scope. Pure: bytes in, records out. Independent of HTTP.
//!
//! A body of one megabyte may hold half a million empty records. So bodies are walked and records are decoded one
//! at a time. Each record repeats the data of its resource, so the size of the output is bounded.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod json;
mod logs;
mod metrics;
mod protobuf;
#[cfg(test)]
mod tests;
mod traces;
mod wire;
mod write;

/// The signal that an export carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtlpSignal {
    Logs,
    Metrics,
    Traces,
}

impl OtlpSignal {
    pub const ALL: [Self; 3] = [Self::Logs, Self::Metrics, Self::Traces];

    /// The name in URLs: `logs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }
}

/// The encoding of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpEncoding {
    Protobuf,
    Json,
}

impl OtlpEncoding {
    /// By the content type, ignoring its parameters.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let media = content_type.split_once(';').map_or(content_type, |(media, _)| media).trim();
        match media.to_ascii_lowercase().as_str() {
            "application/x-protobuf" | "application/protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Why a body is not a valid export.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the body is not valid protobuf: it ends within a field")]
    Truncated,
    #[error("the body is not valid protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("the body is not valid protobuf: field {0} has an invalid wire type")]
    WireType(u32),
    #[error("the body is not valid protobuf: a text is not valid UTF-8")]
    Text,
    #[error("the body is not a valid JSON export: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the body is an export of {found}, expected {expected}")]
    OtherSignal { found: &'static str, expected: &'static str },
    #[error("the records of the body, each including its resource, exceed the limit of {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
}

/// Records, each a JSON object on one line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OtlpRecords {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl OtlpRecords {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// In the order of the body. The ends lie within the bytes: each was their length when a record ended.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or(&[]))
    }
}

/// The records of an export. Their total size is at most `bytes_max` bytes.
pub fn records(
    signal: OtlpSignal,
    form: OtlpEncoding,
    body: &[u8],
    bytes_max: usize,
) -> Result<OtlpRecords, DecodeError> {
    let mut out = Out { records: OtlpRecords::default(), bytes_max };
    match form {
        OtlpEncoding::Protobuf => protobuf::walk(signal, body, &mut out)?,
        OtlpEncoding::Json => json::walk(signal, body, &mut out)?,
    }
    Ok(out.records)
}

/// Collects the records.
struct Out {
    records: OtlpRecords,
    bytes_max: usize,
}

impl Out {
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), DecodeError> {
        write(&mut self.records.bytes);
        let end = self.records.bytes.len();
        if end > self.bytes_max {
            return Err(DecodeError::TooLarge { bytes_max: self.bytes_max });
        }
        self.records.ends.push(end);
        Ok(())
    }
}

/// The resource and scope that records share, as JSON.
#[derive(Clone, Copy)]
struct Context<'a> {
    resource: &'a [u8],
    scope: &'a [u8],
}
