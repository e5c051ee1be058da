//! A batch: the records of one request, as stored in one frame of the log.
//!
//! The payload of a DATA frame is a small header (little-endian), tagged fields, and the body as received, after
//! content-decoding. The compactor applies types and schemas later, so that a corrected schema can be applied to
//! records that were accepted under the old one. The layout is part of the log's format: `docs/wal-format.md`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::IpAddr;

/// The newest layout that this code reads. A batch with neither targets nor results is written as version 1, which
/// every release reads; others as version 2.
pub const VERSION: u8 = 2;

const FIXED_BYTES: usize = 20;
/// Offset of the length of the tagged fields.
const TAGS_BYTES_AT: usize = 16;
const TAG_CLIENT_IP: u8 = 1;
const TAG_SCHEMA_VERSION: u8 = 2;
const TAG_IDEMPOTENCY_KEY: u8 = 3;
const TAG_TARGETS: u8 = 4;
const TAG_REQUEST: u8 = 5;
const TAG_OFFSETS: u8 = 6;
const TAG_BODY_BYTES: u8 = 7;
const TARGET_BYTES: usize = 16;
const OFFSETS_BYTES: usize = 16;

/// Maximum number of targets of one frame.
pub const TARGETS_MAX: usize = u16::MAX as usize / TARGET_BYTES;
/// Maximum length of [`BatchHead::request`] in bytes.
pub const REQUEST_BYTES_MAX: usize = u16::MAX as usize;

/// Identifies a stream within one daemon; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u32);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The wire contract of a request. The numbers are stored in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    Tinybird = 1,
    Polaris = 2,
    Amperity = 3,
    Keboola = 4,
    KeboolaStream = 5,
    Foundry = 6,
}

impl Tag {
    pub const ALL: [Self; 6] =
        [Self::Tinybird, Self::Polaris, Self::Amperity, Self::Keboola, Self::KeboolaStream, Self::Foundry];

    /// The name in the configuration and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tinybird => "tinybird",
            Self::Polaris => "polaris",
            Self::Amperity => "amperity",
            Self::Keboola => "keboola",
            Self::KeboolaStream => "keboola_stream",
            Self::Foundry => "foundry",
        }
    }
}

/// How a body is divided into records. The numbers are stored in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// One object per line. Blank lines are skipped, and so is a carriage return before the line feed.
    Lines = 0,
    /// One object, or an array of objects.
    Document = 1,
    /// One XML document.
    Xml = 2,
    /// One record of arbitrary bytes.
    Opaque = 3,
}

impl BodyKind {
    pub const ALL: [Self; 4] = [Self::Lines, Self::Document, Self::Xml, Self::Opaque];
}

/// An additional stream that receives the records of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub stream: StreamId,
    /// The version of its schema that decided which records are good and bad. `None`: every well-formed record is good.
    pub version: Option<u32>,
    pub good: u32,
    pub bad: u32,
}

/// The offsets of a frame's rows in one partition of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub partition: u32,
    pub count: u32,
    pub first: u64,
}

/// The header before the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHead<'a> {
    /// The stream that the request was sent to. Its records may go to `targets` as well, or only to them.
    pub stream: StreamId,
    pub contract: Tag,
    pub kind: BodyKind,
    /// Number of records that were good when the request was answered.
    pub good: u32,
    /// Number of invalid records.
    pub bad: u32,
    pub client_ip: Option<IpAddr>,
    /// The version of the stream's schema that decided `good` and `bad`. `None`: every well-formed record is good.
    pub schema_version: Option<u32>,
    /// The client's key for this request, so that it is stored once however often it is sent.
    pub idempotency_key: Option<&'a str>,
    /// At most [`TARGETS_MAX`].
    pub targets: Vec<Target>,
    /// What a mapping may use in addition to the body, as JSON; at most [`REQUEST_BYTES_MAX`].
    pub request: Option<&'a str>,
    /// The offsets of the rows in the stream, if its rows are numbered. At most 4095 partitions.
    pub offsets: Vec<Offsets>,
    /// Length of the body, if results follow it.
    pub body_bytes: Option<u32>,
}

/// A batch decoded from the payload of a frame.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    pub head: BatchHead<'a>,
    pub body: &'a [u8],
    /// The results of mappings that ran before the answer: for each target, in order, for each record, in order, one
    /// line with a JSON array. Empty if no mapping ran.
    pub results: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("batch format {0} is newer than {VERSION}, the newest that this version supports")]
    Newer(u8),
    #[error("the batch header is corrupted")]
    Damaged,
}

impl BatchHead<'_> {
    /// A head with these fields only.
    pub fn new(stream: StreamId, contract: Tag, kind: BodyKind) -> Self {
        Self {
            stream,
            contract,
            kind,
            good: 0,
            bad: 0,
            client_ip: None,
            schema_version: None,
            idempotency_key: None,
            targets: Vec::new(),
            request: None,
            offsets: Vec::new(),
            body_bytes: None,
        }
    }

    /// The stream's share of the frame: as a target, or as the stream that the request was sent to.
    pub fn share_of(&self, stream: StreamId) -> Option<Target> {
        let target = self.targets.iter().find(|target| target.stream == stream).copied();
        let own = Target { stream, version: self.schema_version, good: self.good, bad: self.bad };
        target.or_else(|| (self.stream == stream).then_some(own))
    }

    /// Encodes the bytes before the body.
    pub fn encode(&self) -> Vec<u8> {
        let text_bytes = |text: Option<&str>| text.map_or(0, |text| text.len().saturating_add(3));
        let lists = self.targets.len().saturating_add(self.offsets.len()).saturating_mul(TARGET_BYTES);
        let tags = text_bytes(self.idempotency_key).saturating_add(text_bytes(self.request));
        let mut bytes =
            Vec::with_capacity(FIXED_BYTES.saturating_add(40).saturating_add(tags).saturating_add(lists));
        let is_plain = self.targets.is_empty() && self.body_bytes.is_none();
        let version = if is_plain { 1 } else { VERSION };
        bytes.extend_from_slice(&[version, self.contract as u8, self.kind as u8, 0]);
        bytes.extend_from_slice(&self.stream.0.to_le_bytes());
        bytes.extend_from_slice(&self.good.to_le_bytes());
        bytes.extend_from_slice(&self.bad.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        match self.client_ip {
            Some(IpAddr::V4(ip)) => push_tag(&mut bytes, TAG_CLIENT_IP, &ip.octets()),
            Some(IpAddr::V6(ip)) => push_tag(&mut bytes, TAG_CLIENT_IP, &ip.octets()),
            None => {}
        }
        if let Some(version) = self.schema_version {
            push_tag(&mut bytes, TAG_SCHEMA_VERSION, &version.to_le_bytes());
        }
        if let Some(key) = self.idempotency_key {
            push_tag(&mut bytes, TAG_IDEMPOTENCY_KEY, key.as_bytes());
        }
        if !self.targets.is_empty() {
            let targets = self.targets.iter().take(TARGETS_MAX);
            push_tag(&mut bytes, TAG_TARGETS, &targets.flat_map(Target::encode).collect::<Vec<u8>>());
        }
        if let Some(request) = self.request {
            push_tag(&mut bytes, TAG_REQUEST, request.as_bytes());
        }
        if !self.offsets.is_empty() {
            let offsets = self.offsets.iter().flat_map(Offsets::encode);
            push_tag(&mut bytes, TAG_OFFSETS, &offsets.collect::<Vec<u8>>());
        }
        if let Some(body_bytes) = self.body_bytes {
            push_tag(&mut bytes, TAG_BODY_BYTES, &body_bytes.to_le_bytes());
        }
        let tags_bytes = u32::try_from(bytes.len().saturating_sub(FIXED_BYTES));
        let tags_bytes = tags_bytes.expect("a few tags of at most 64 KiB each");
        if let Some(to) = bytes.get_mut(TAGS_BYTES_AT..FIXED_BYTES) {
            to.copy_from_slice(&tags_bytes.to_le_bytes());
        }
        bytes
    }
}

/// Nothing is cut: half a request or half a target in the log would be read as a whole one.
fn push_tag(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let len = u16::try_from(value.len()).expect("every field is held to 64 KiB before it gets here");
    bytes.push(tag);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(value);
}

impl Target {
    fn encode(&self) -> [u8; TARGET_BYTES] {
        words([self.stream.0, self.version.unwrap_or(0), self.good, self.bad])
    }

    fn decode(bytes: [u8; TARGET_BYTES]) -> Self {
        let [stream, version, good, bad] = unwords(bytes);
        Self { stream: StreamId(stream), version: Some(version).filter(|version| *version != 0), good, bad }
    }
}

impl Offsets {
    fn encode(&self) -> [u8; OFFSETS_BYTES] {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        words([self.partition, self.count, self.first as u32, (self.first >> 32) as u32])
    }

    fn decode(bytes: [u8; OFFSETS_BYTES]) -> Self {
        let [partition, count, low, high] = unwords(bytes);
        Self { partition, count, first: u64::from(low) | u64::from(high) << 32 }
    }
}

fn words(words: [u32; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    bytes
}

fn unwords(bytes: [u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, from) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*from);
    }
    words
}

impl<'a> Batch<'a> {
    pub fn decode(payload: &'a [u8]) -> Result<Self, BatchError> {
        let (fixed, rest) = payload.split_first_chunk::<FIXED_BYTES>().ok_or(BatchError::Damaged)?;
        let [version, contract, kind, _, numbers @ ..] = fixed;
        if *version > VERSION {
            return Err(BatchError::Newer(*version));
        }
        let number = |at: usize| Some(u32::from_le_bytes(*numbers.get(at..)?.first_chunk()?));
        let head = (|| {
            let contract = Tag::ALL.into_iter().find(|known| *known as u8 == *contract)?;
            let kind = BodyKind::ALL.into_iter().find(|known| *known as u8 == *kind)?;
            let head = BatchHead::new(StreamId(number(0)?), contract, kind);
            Some(BatchHead { good: number(4)?, bad: number(8)?, ..head })
        })();
        let tags_bytes = number(12).and_then(|bytes| usize::try_from(bytes).ok());
        let split = tags_bytes.and_then(|bytes| rest.split_at_checked(bytes));
        let (Some(head), Some((tags, rest))) = (head, split) else { return Err(BatchError::Damaged) };
        let head = with_tags(head, tags)?;
        let body_bytes = match head.body_bytes {
            None => rest.len(),
            Some(bytes) => usize::try_from(bytes).map_err(|_| BatchError::Damaged)?,
        };
        let (body, results) = rest.split_at_checked(body_bytes).ok_or(BatchError::Damaged)?;
        Ok(Self { head, body, results })
    }
}

/// Adds the tagged fields and skips those with an unknown tag.
fn with_tags<'a>(mut head: BatchHead<'a>, mut tags: &'a [u8]) -> Result<BatchHead<'a>, BatchError> {
    while let Some((tag, rest)) = tags.split_first() {
        let (len, rest) = rest.split_first_chunk().ok_or(BatchError::Damaged)?;
        let value_and_rest = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)));
        let (value, rest) = value_and_rest.ok_or(BatchError::Damaged)?;
        match *tag {
            TAG_CLIENT_IP => {
                let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
                head.client_ip = v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok();
            }
            TAG_SCHEMA_VERSION => {
                let version = value.try_into().map_err(|_| BatchError::Damaged)?;
                head.schema_version = Some(u32::from_le_bytes(version));
            }
            TAG_IDEMPOTENCY_KEY => {
                head.idempotency_key = Some(std::str::from_utf8(value).map_err(|_| BatchError::Damaged)?);
            }
            TAG_TARGETS => head.targets = entries(value)?.iter().copied().map(Target::decode).collect(),
            TAG_REQUEST => {
                head.request = Some(std::str::from_utf8(value).map_err(|_| BatchError::Damaged)?);
            }
            TAG_OFFSETS => head.offsets = entries(value)?.iter().copied().map(Offsets::decode).collect(),
            TAG_BODY_BYTES => {
                let bytes = value.try_into().map_err(|_| BatchError::Damaged)?;
                head.body_bytes = Some(u32::from_le_bytes(bytes));
            }
            _ => {}
        }
        tags = rest;
    }
    Ok(head)
}

/// The value of a tag as entries of fixed length.
fn entries<const BYTES: usize>(value: &[u8]) -> Result<&[[u8; BYTES]], BatchError> {
    match value.as_chunks() {
        (entries, []) => Ok(entries),
        _ => Err(BatchError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(client_ip: Option<&str>, idempotency_key: Option<&'a str>) -> BatchHead<'a> {
        BatchHead {
            good: 3,
            bad: 1,
            client_ip: client_ip.map(|ip| ip.parse().unwrap()),
            // With a client IP and without.
            schema_version: client_ip.map(|_| 0x0102_0304),
            idempotency_key,
            ..BatchHead::new(StreamId(7), Tag::Tinybird, BodyKind::Document)
        }
    }

    #[test]
    fn a_batch_survives_the_round_trip() {
        let longest = "k".repeat(256);
        for ip in [None, Some("127.0.0.1"), Some("2001:db8::1")] {
            for key in [None, Some("k"), Some(longest.as_str())] {
                let mut payload = head(ip, key).encode();
                payload.extend_from_slice(b"body");
                let batch = Batch::decode(&payload).unwrap();
                assert_eq!((batch.head, batch.body), (head(ip, key), &b"body"[..]));
            }
        }
    }

    #[test]
    fn targets_and_results_survive_the_round_trip() {
        let target = |stream, version| Target { stream: StreamId(stream), version, good: 1, bad: u32::MAX };
        let mut head = BatchHead {
            targets: vec![target(8, Some(3)), target(u32::MAX, None)],
            request: Some(r#"{"headers":{"Accept":"*/*"}}"#),
            offsets: vec![Offsets { partition: 2, count: 5, first: 0x0102_0304_0506_0708 }],
            body_bytes: Some(4),
            ..BatchHead::new(StreamId(7), Tag::Keboola, BodyKind::Opaque)
        };
        let payload = [&head.encode()[..], b"body[\"a\"]\n"].concat();
        let batch = Batch::decode(&payload).unwrap();
        assert_eq!((&batch.head, batch.body, batch.results), (&head, &b"body"[..], &b"[\"a\"]\n"[..]));
        assert_eq!(batch.head.share_of(StreamId(8)), Some(target(8, Some(3))));
        assert_eq!(batch.head.share_of(StreamId(9)), None);
        // A body cannot be longer than the payload.
        head.body_bytes = Some(100);
        let payload = [&head.encode()[..], b"body"].concat();
        assert_eq!(Batch::decode(&payload).unwrap_err(), BatchError::Damaged);
    }

    #[test]
    fn what_is_not_new_is_written_as_it_always_was() {
        assert_eq!(head(None, None).encode()[0], 1);
        let target = Target { stream: StreamId(1), version: None, good: 0, bad: 0 };
        assert_eq!(BatchHead { targets: vec![target], ..head(None, None) }.encode()[0], 2);
    }

    #[test]
    fn short_and_newer_payloads_are_errors() {
        let payload = head(Some("127.0.0.1"), Some("key")).encode();
        for len in 0..payload.len() {
            assert_eq!(Batch::decode(&payload[..len]).unwrap_err(), BatchError::Damaged, "{len}");
        }
        let mut newer = payload;
        newer[0] = 9;
        assert_eq!(Batch::decode(&newer).unwrap_err(), BatchError::Newer(9));
    }
}
