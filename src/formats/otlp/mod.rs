//! OpenTelemetry's logs, metrics and traces as flat records: one JSON object for each log record, data point and span,
//! with the resource and the scope it came under. Pure: bytes in, records out. Knows nothing of HTTP.
//!
//! A body of a megabyte may hold half a million empty records. So bodies are walked, and one record at a time is
//! decoded; and what is said once of a resource is in each of its records, so the size of what comes out is bounded.
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

/// What an export is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    Logs,
    Metrics,
    Traces,
}

impl Signal {
    pub const ALL: [Self; 3] = [Self::Logs, Self::Metrics, Self::Traces];

    /// As it stands in addresses: `logs`.
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

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Protobuf,
    Json,
}

impl Form {
    /// By the content type, whatever its parameters.
    pub fn of(content_type: &str) -> Option<Self> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        match media.to_ascii_lowercase().as_str() {
            "application/x-protobuf" | "application/protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Why a body is no export.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the body is not protobuf: it ends within a field")]
    Truncated,
    #[error("the body is not protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("the body is not protobuf: field {0} has a wire type that it cannot have")]
    WireType(u32),
    #[error("the body is not protobuf: a text is not UTF-8")]
    Text,
    #[error("the body is not an export in JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the body is an export of {found}, and not of {expected}")]
    OtherSignal { found: &'static str, expected: &'static str },
    #[error("the records of the body, each with its resource, are larger than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
}

/// Records, each a JSON object on one line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// In the order of the body.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }
}

/// The records of an export. Together they are at most `bytes_max` bytes.
pub fn records(signal: Signal, form: Form, body: &[u8], bytes_max: usize) -> Result<Records, DecodeError> {
    let mut out = Out { records: Records::default(), bytes_max };
    match form {
        Form::Protobuf => protobuf::walk(signal, body, &mut out)?,
        Form::Json => json::walk(signal, body, &mut out)?,
    }
    Ok(out.records)
}

/// Where records are written.
struct Out {
    records: Records,
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

/// What records have in common: their resource and scope, as JSON.
#[derive(Clone, Copy)]
struct Context<'a> {
    resource: &'a [u8],
    scope: &'a [u8],
}
