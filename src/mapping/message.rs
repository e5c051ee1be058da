//! The messages in the pipes between the daemon and a worker process, each preceded by its length in little-endian.
//!
//! The worker receives a [`WorkerBatch`]. It replies to each job with the values of its templates, in order, up to the
//! first that fails, and at the end with [`WorkerReply::Done`].

use super::{MappingRequest, TemplateError};
use std::net::{IpAddr, Ipv6Addr};

/// The maximum size of a message to the worker, in bytes: the largest body, and the same again for everything else.
pub(super) const BATCH_MAX: usize = 1 << 30;
/// The maximum size of a message from the worker, in bytes: one value.
pub(super) const REPLY_MAX: usize = 2 << 20;

/// Identifies a template for as long as the daemon runs.
pub(super) type TemplateId = u32;

/// Work for a worker.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WorkerBatch<'a> {
    /// Whether every answer is flushed at once, so that the daemon knows which template killed a worker.
    pub(super) hasty: bool,
    /// Templates that the worker does not have yet.
    pub(super) new: Vec<(TemplateId, &'a str)>,
    pub(super) jobs: Vec<WorkerJob<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum WorkerJob<'a> {
    /// Checks whether a template compiles.
    Check(&'a str),
    Evaluate(Evaluation<'a>),
}

/// One request under one mapping.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Evaluation<'a> {
    /// The templates, and whether their texts are wanted without quotes.
    pub(super) templates: Vec<(TemplateId, bool)>,
    pub(super) body: &'a [u8],
    pub(super) content_type: Option<&'a str>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) ip: IpAddr,
    pub(super) received_at: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WorkerReply {
    Value(String),
    Failed(TemplateError),
    /// All jobs are answered. If `retiring`, the worker asks to be replaced.
    Done {
        retiring: bool,
    },
}

/// A message that cannot be decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode a message between the daemon and a template worker")]
pub(super) struct Unreadable;

/// One encoded job: batches are composed of these.
pub(super) fn encode_evaluation(request: &MappingRequest<'_>, templates: &[(TemplateId, bool)]) -> Vec<u8> {
    let mut out = MessageWriter(Vec::with_capacity(request.body.len() + 512));
    out.byte(1);
    out.number(templates.len());
    for (id, raw) in templates {
        out.0.extend_from_slice(&id.to_le_bytes());
        out.byte(u8::from(*raw));
    }
    out.bytes(request.body);
    out.byte(u8::from(request.content_type.is_some()));
    out.bytes(request.content_type.unwrap_or("").as_bytes());
    out.number(request.headers.len());
    for (name, value) in request.headers {
        out.bytes(name.as_bytes());
        out.bytes(value.as_bytes());
    }
    let ip = match request.ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.0.extend_from_slice(&ip.octets());
    out.0.extend_from_slice(&request.received_at.to_le_bytes());
    out.0
}

pub(super) fn encode_check(text: &str) -> Vec<u8> {
    let mut out = MessageWriter(Vec::with_capacity(text.len() + 8));
    out.byte(0);
    out.bytes(text.as_bytes());
    out.0
}

/// A batch of encoded jobs, preceded by its length.
pub(super) fn encode_batch<'a>(
    hasty: bool,
    new: &[(TemplateId, &str)],
    jobs: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut out = MessageWriter(vec![0; 4]);
    out.byte(u8::from(hasty));
    out.number(new.len());
    for (id, text) in new {
        out.0.extend_from_slice(&id.to_le_bytes());
        out.bytes(text.as_bytes());
    }
    out.number(jobs.len());
    jobs.for_each(|job| out.0.extend_from_slice(job));
    out.finish()
}

pub(super) fn decode_batch(message: &[u8]) -> Result<WorkerBatch<'_>, Unreadable> {
    let mut from = MessageReader(message);
    let hasty = from.byte()? == 1;
    let new = (0..from.number()?).map(|_| Ok((from.number()?, from.text()?))).collect::<Result<_, _>>()?;
    let jobs = (0..from.number()?).map(|_| decode_job(&mut from)).collect::<Result<_, _>>()?;
    if from.0.is_empty() { Ok(WorkerBatch { hasty, new, jobs }) } else { Err(Unreadable) }
}

fn decode_job<'a>(from: &mut MessageReader<'a>) -> Result<WorkerJob<'a>, Unreadable> {
    if from.byte()? == 0 {
        return Ok(WorkerJob::Check(from.text()?));
    }
    let templates =
        (0..from.number()?).map(|_| Ok((from.number()?, from.byte()? == 1))).collect::<Result<_, _>>()?;
    let body = from.bytes()?;
    let has_type = from.byte()? == 1;
    let content_type = Some(from.text()?).filter(|_| has_type);
    let headers = (0..from.number()?)
        .map(|_| Ok((from.text()?.to_owned(), from.text()?.to_owned())))
        .collect::<Result<_, _>>()?;
    let ip = IpAddr::V6(Ipv6Addr::from(from.array::<16>()?)).to_canonical();
    let received_at = i64::from_le_bytes(from.array()?);
    Ok(WorkerJob::Evaluate(Evaluation { templates, body, content_type, headers, ip, received_at }))
}

/// A reply, preceded by its length.
pub(super) fn encode_reply(reply: &WorkerReply) -> Vec<u8> {
    let (tag, text) = match reply {
        WorkerReply::Value(text) => (0, text.as_str()),
        WorkerReply::Failed(TemplateError::Template(text)) => (1, text.as_str()),
        WorkerReply::Failed(TemplateError::ContentType(text)) => (2, text.as_str()),
        WorkerReply::Failed(TemplateError::Body(text)) => (3, text.as_str()),
        WorkerReply::Failed(TemplateError::TooLarge) => (4, ""),
        WorkerReply::Done { retiring: false } => (5, ""),
        WorkerReply::Done { retiring: true } => (6, ""),
    };
    let mut out = MessageWriter(vec![0; 4]);
    out.byte(tag);
    out.0.extend_from_slice(text.as_bytes());
    out.finish()
}

pub(super) fn decode_reply(message: &[u8]) -> Result<WorkerReply, Unreadable> {
    let (tag, text) = message.split_first().ok_or(Unreadable)?;
    let text = || std::str::from_utf8(text).map(str::to_owned).map_err(|_| Unreadable);
    Ok(match tag {
        0 => WorkerReply::Value(text()?),
        1 => WorkerReply::Failed(TemplateError::Template(text()?)),
        2 => WorkerReply::Failed(TemplateError::ContentType(text()?)),
        3 => WorkerReply::Failed(TemplateError::Body(text()?)),
        4 => WorkerReply::Failed(TemplateError::TooLarge),
        5 => WorkerReply::Done { retiring: false },
        6 => WorkerReply::Done { retiring: true },
        _ => return Err(Unreadable),
    })
}

struct MessageWriter(Vec<u8>);

impl MessageWriter {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// A count or length. Anything longer than 4 GiB is truncated, and the reader then rejects the message.
    fn number(&mut self, number: usize) {
        self.0.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Writes the length into the four bytes reserved for it.
    fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_le_bytes());
        self.0
    }
}

struct MessageReader<'a>(&'a [u8]);

impl<'a> MessageReader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_le_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable)
    }
}
