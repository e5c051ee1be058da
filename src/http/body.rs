//! Reads a request body within limits of size and time, and decodes its content encoding.

use crate::contracts::reject::{Reject, RejectKind};
use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::io::Read;
use std::time::Duration;

/// Decoded output is collected in pieces of this size.
const PIECE_BYTES: usize = 256 * 1024;

/// Pieces smaller than this are merged with their neighbours.
const SMALL_BYTES_MAX: usize = 4096;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
    Brotli,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    /// Bytes on the wire.
    pub(super) body_max: u64,
    pub(super) body_timeout: Duration,
}

impl Encoding {
    /// Reads the `Content-Encoding` header.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, Reject> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(first) = values.next() else { return Ok(Self::Identity) };
        let mut name = first.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        // Several encodings are not supported; the refusal names the whole list.
        for next in values {
            name.push_str(", ");
            name.push_str(next.to_str().unwrap_or("?"));
        }
        match name.as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            "br" => Ok(Self::Brotli),
            _ => Err(Reject::new(
                RejectKind::UnsupportedEncoding,
                format!(
                    "Content-Encoding '{name}' is not supported; use gzip, zstd, br, deflate or identity"
                ),
            )
            .close()),
        }
    }
}

/// Collects the pieces of a body: large ones as they are, runs of small ones merged, so that a body in one-byte chunks
/// takes no more memory than any other.
#[derive(Default)]
struct BodyBuffer {
    pieces: Vec<Bytes>,
    small: Vec<u8>,
}

impl BodyBuffer {
    fn push(&mut self, piece: Bytes) {
        if piece.len() >= SMALL_BYTES_MAX || (self.pieces.is_empty() && self.small.is_empty()) {
            self.close_run();
            self.pieces.push(piece);
        } else {
            self.small.extend_from_slice(&piece);
            if self.small.len() >= PIECE_BYTES {
                self.close_run();
            }
        }
    }

    fn close_run(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(Bytes::from(std::mem::take(&mut self.small)));
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.close_run();
        self.pieces
    }
}

/// Reads the whole body, copying only small pieces. Calls `arrived` with the number of bytes so far; it may refuse the
/// rest.
pub(super) async fn read(
    mut body: Incoming,
    limits: &BodyLimits,
    mut arrived: impl FnMut(u64) -> Result<(), Reject>,
) -> Result<Vec<Bytes>, Reject> {
    let too_large = || too_large(limits.body_max, "").close();
    // Checked before the first read, so that a client waiting for `100 Continue` sends nothing.
    if body.size_hint().lower() > limits.body_max {
        return Err(too_large());
    }
    let mut deadline = None;
    let mut gathered = BodyBuffer::default();
    let mut bytes = 0_u64;
    loop {
        let mut next = std::pin::pin!(body.frame());
        // Most bodies arrive together with their head and need no timer.
        let frame = match futures_util::poll!(&mut next) {
            std::task::Poll::Ready(frame) => frame,
            std::task::Poll::Pending => {
                let due = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + limits.body_timeout);
                tokio::time::timeout_at(due, next).await.map_err(|_| too_slow(limits.body_timeout))?
            }
        };
        match frame {
            None => return Ok(gathered.finish()),
            Some(Ok(frame)) => {
                let Ok(piece) = frame.into_data() else { continue };
                bytes += piece.len() as u64;
                if bytes > limits.body_max {
                    return Err(too_large());
                }
                arrived(bytes)?;
                if !piece.is_empty() {
                    gathered.push(piece);
                }
            }
            Some(Err(error)) => {
                let reject = Reject::malformed("the request body ended early").close();
                return Err(Reject { internal: Some(crate::error::chain(&error).into()), ..reject });
            }
        }
    }
}

fn too_slow(timeout: Duration) -> Reject {
    Reject::new(RejectKind::TooSlow, format!("the request body did not arrive within {timeout:?}")).close()
}

fn too_large(limit: u64, when: &str) -> Reject {
    Reject::new(RejectKind::TooLarge, format!("request body exceeds {limit} bytes{when}"))
}

/// Decodes the body, with a limit on the output. Calls `decoded` with the bytes so far; it may refuse the rest.
pub(super) fn decode(
    pieces: Vec<Bytes>,
    encoding: Encoding,
    decoded_max: u64,
    decoded: impl FnMut(u64) -> Result<(), Reject>,
) -> Result<Vec<Bytes>, Reject> {
    let input = Pieces { pieces: pieces.iter(), current: &[] };
    match encoding {
        Encoding::Identity => Ok(pieces),
        Encoding::Gzip => inflate(MultiGzDecoder::new(input), "gzip", decoded_max, decoded),
        Encoding::Deflate => inflate(ZlibDecoder::new(input), "deflate", decoded_max, decoded),
        Encoding::Brotli => {
            inflate(brotli_decompressor::Decompressor::new(input, PIECE_BYTES), "br", decoded_max, decoded)
        }
        Encoding::Zstd => match zstd::Decoder::new(input) {
            Ok(decoder) => inflate(decoder, "zstd", decoded_max, decoded),
            Err(error) => Err(corrupt("zstd", &error)),
        },
    }
}

fn inflate(
    mut decoder: impl Read,
    name: &str,
    decoded_max: u64,
    mut decoded: impl FnMut(u64) -> Result<(), Reject>,
) -> Result<Vec<Bytes>, Reject> {
    let mut pieces = Vec::new();
    let mut total = 0_u64;
    loop {
        let mut piece = Vec::new();
        let read = decoder.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
        let read = read.map_err(|error| corrupt(name, &error))?;
        if read == 0 {
            return Ok(pieces);
        }
        total += read as u64;
        if total > decoded_max {
            return Err(too_large(decoded_max, " once decompressed"));
        }
        decoded(total)?;
        pieces.push(Bytes::from(piece));
    }
}

fn corrupt(name: &str, error: &std::io::Error) -> Reject {
    Reject::malformed(format!("the request body is not valid {name}: {error}"))
}

/// The pieces of a body as one reader.
struct Pieces<'p> {
    pieces: std::slice::Iter<'p, Bytes>,
    current: &'p [u8],
}

impl Read for Pieces<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        self.current.read(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decode_pieces(body: &[u8], cut: usize, encoding: Encoding, max: u64) -> Result<Vec<u8>, Reject> {
        let (head, tail) = body.split_at(cut.min(body.len()));
        let pieces = vec![Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail)];
        decode(pieces, encoding, max, |_| Ok(())).map(|pieces| pieces.concat())
    }

    #[test]
    fn every_encoding_is_undone_wherever_the_body_is_cut() {
        let text = b"{\"a\":1}\n".repeat(100);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&text).unwrap();
        let mut brotli = Vec::new();
        brotli::CompressorWriter::new(&mut brotli, 4096, 5, 22).write_all(&text).unwrap();
        let bodies = [
            (Encoding::Identity, text.clone()),
            (Encoding::Gzip, gzip(&text)),
            (Encoding::Gzip, [gzip(&text[..300]), gzip(&text[300..])].concat()),
            (Encoding::Deflate, zlib.finish().unwrap()),
            (Encoding::Zstd, zstd::encode_all(&text[..], 1).unwrap()),
            (
                Encoding::Zstd,
                [zstd::encode_all(&text[..8], 1).unwrap(), zstd::encode_all(&text[8..], 1).unwrap()].concat(),
            ),
            (Encoding::Brotli, brotli),
        ];
        for (encoding, body) in &bodies {
            for cut in [0, 1, 7, body.len() / 2, body.len()] {
                let decoded = decode_pieces(body, cut, *encoding, 10_000).unwrap();
                assert_eq!(decoded, text, "{encoding:?} cut at {cut}");
            }
            if *encoding != Encoding::Identity {
                let refused = decode_pieces(body, 5, *encoding, 100).unwrap_err();
                assert_eq!(refused.kind, RejectKind::TooLarge, "{encoding:?}");
                let refused = decode_pieces(&body[..body.len() - 3], 5, *encoding, 10_000).unwrap_err();
                assert_eq!(refused.kind, RejectKind::Malformed, "{encoding:?} cut short");
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_cap() {
        let bomb = gzip(&vec![b' '; 50 << 20]);
        assert!(bomb.len() < 1 << 20);
        let refused = decode_pieces(&bomb, 10, Encoding::Gzip, 1 << 20).unwrap_err();
        assert_eq!(refused.kind, RejectKind::TooLarge);
    }

    #[test]
    fn rubbish_is_malformed_and_unknown_names_are_named() {
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Brotli] {
            let refused = decode_pieces(b"this is not compressed at all", 3, encoding, 1000).unwrap_err();
            assert_eq!(refused.kind, RejectKind::Malformed, "{encoding:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "snappy".parse().unwrap());
        let refused = Encoding::from_headers(&headers).unwrap_err();
        assert_eq!(refused.kind, RejectKind::UnsupportedEncoding);
        assert!(refused.external.contains("snappy"));
    }
}
