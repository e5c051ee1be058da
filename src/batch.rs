//! A batch: the records of one request as they stand in one frame of the log.
//!
//! The payload of a DATA frame is a small header (little-endian), tagged fields, and the body as it came, after
//! content-decoding. Types and schemas are applied later, by the compactor, so that a mended schema can be applied to
//! what was accepted under the old one. The layout is part of the log's format: `docs/wal-format.md`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::json::BodyKind;
use std::net::IpAddr;

/// The layout that this code writes, and the newest it reads.
pub const VERSION: u8 = 1;

const FIXED_BYTES: usize = 20;
/// Where the length of the tagged fields stands.
const TAGS_BYTES_AT: usize = 16;
const TAG_CLIENT_IP: u8 = 1;
const TAG_SCHEMA_VERSION: u8 = 2;
const TAG_IDEMPOTENCY_KEY: u8 = 3;

/// Names a stream within one daemon, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u32);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which wire contract a request came by. The numbers are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    Tinybird = 1,
    Polaris = 2,
    Amperity = 3,
    Keboola = 4,
    KeboolaStream = 5,
    Foundry = 6,
}

impl Dialect {
    pub const ALL: [Self; 6] =
        [Self::Tinybird, Self::Polaris, Self::Amperity, Self::Keboola, Self::KeboolaStream, Self::Foundry];

    /// As the configuration and people call it.
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

/// What stands before the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHead<'a> {
    pub stream: StreamId,
    pub dialect: Dialect,
    pub kind: BodyKind,
    /// Records that were found good when the request was answered.
    pub good: u32,
    /// Records that were found to be none.
    pub bad: u32,
    pub client_ip: Option<IpAddr>,
    /// The version of the stream's schema under which `good` and `bad` were told. `None`: every record that is one is
    /// good.
    pub schema_version: Option<u32>,
    /// What the client calls this request, so that it is stored once however often it is sent.
    pub idempotency_key: Option<&'a str>,
}

/// A batch read back from a frame's payload.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    pub head: BatchHead<'a>,
    pub body: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("batch format {0} is newer than {VERSION}, the newest that this version reads")]
    Newer(u8),
    #[error("the batch header is damaged")]
    Damaged,
}

impl BatchHead<'_> {
    /// The bytes that go before the body.
    pub fn encode(&self) -> Vec<u8> {
        let key_bytes = self.idempotency_key.map_or(0, |key| key.len().saturating_add(3));
        let mut bytes = Vec::with_capacity(FIXED_BYTES.saturating_add(26).saturating_add(key_bytes));
        bytes.extend_from_slice(&[VERSION, self.dialect as u8, self.kind as u8, 0]);
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
        let tags_bytes = u32::try_from(bytes.len().saturating_sub(FIXED_BYTES)).unwrap_or(0);
        if let Some(to) = bytes.get_mut(TAGS_BYTES_AT..FIXED_BYTES) {
            to.copy_from_slice(&tags_bytes.to_le_bytes());
        }
        bytes
    }
}

fn push_tag(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    bytes.push(tag);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(value.get(..usize::from(len)).unwrap_or_default());
}

impl<'a> Batch<'a> {
    pub fn decode(payload: &'a [u8]) -> Result<Self, BatchError> {
        let (fixed, rest) = payload.split_first_chunk::<FIXED_BYTES>().ok_or(BatchError::Damaged)?;
        let [version, dialect, kind, _, numbers @ ..] = fixed;
        if *version > VERSION {
            return Err(BatchError::Newer(*version));
        }
        let number = |at: usize| Some(u32::from_le_bytes(*numbers.get(at..)?.first_chunk()?));
        let head = (|| {
            Some(BatchHead {
                stream: StreamId(number(0)?),
                dialect: Dialect::ALL.into_iter().find(|known| *known as u8 == *dialect)?,
                kind: match kind {
                    0 => BodyKind::Lines,
                    1 => BodyKind::Document,
                    _ => return None,
                },
                good: number(4)?,
                bad: number(8)?,
                client_ip: None,
                schema_version: None,
                idempotency_key: None,
            })
        })();
        let tags_bytes = number(12).and_then(|bytes| usize::try_from(bytes).ok());
        let split = tags_bytes.and_then(|bytes| rest.split_at_checked(bytes));
        let (Some(head), Some((tags, body))) = (head, split) else { return Err(BatchError::Damaged) };
        Ok(Self { head: with_tags(head, tags)?, body })
    }
}

/// Adds the tagged fields; those of a kind not known here are passed over.
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
            _ => {}
        }
        tags = rest;
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(client_ip: Option<&str>, idempotency_key: Option<&'a str>) -> BatchHead<'a> {
        BatchHead {
            stream: StreamId(7),
            dialect: Dialect::Tinybird,
            kind: BodyKind::Document,
            good: 3,
            bad: 1,
            client_ip: client_ip.map(|ip| ip.parse().unwrap()),
            // With one and without.
            schema_version: client_ip.map(|_| 0x0102_0304),
            idempotency_key,
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
