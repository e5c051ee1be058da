//! Requests that ordinary clients do not send: byte by byte, in pieces, several at once.

use crate::support::{Daemon, PATIENCE, Response};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection for several requests.
pub struct Wire(BufReader<TcpStream>);

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(crate::support::connect(address)))
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes and ignores errors, since the daemon may already have refused the request.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// The head and body of the next response, which may be an interim one (`100 Continue`).
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {head:?}"));
        let fields = lines.filter_map(|line| line.split_once(':'));
        let headers: Vec<(String, String)> =
            fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
        self.0.read_exact(&mut body).unwrap();
        Response { status, headers, body }
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            if line.trim_end().is_empty() {
                return head;
            }
            head.push_str(&line);
        }
    }

    /// Reads everything up to the end of the connection.
    pub fn raw(&mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        text
    }

    /// Whether the daemon has closed the connection, after at most [`PATIENCE`].
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Whether a response arrives within a moment.
    pub fn has_answer(&mut self) -> bool {
        self.0.get_mut().set_read_timeout(Some(std::time::Duration::from_millis(1))).unwrap();
        let answered = self.0.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        self.0.get_mut().set_read_timeout(Some(PATIENCE)).unwrap();
        answered
    }
}

/// The head of an event request, without the empty line that ends it.
pub fn head(query: &str, headers: &str) -> String {
    format!("POST /v0/events?{query} HTTP/1.1\r\nhost: forebay\r\n{headers}")
}

/// A complete event request.
pub fn event(query: &str, body: &str) -> String {
    format!("{}content-length: {}\r\n\r\n{body}", head(query, ""), body.len())
}

/// A body in chunked encoding, with one chunk per piece.
pub fn chunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for piece in pieces {
        body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        body.extend_from_slice(piece);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

pub fn post_chunked(daemon: &Daemon, query: &str, headers: &str, pieces: &[&[u8]]) -> Response {
    let mut wire = Wire::connect(daemon.ingest);
    wire.send(head(query, &format!("{headers}transfer-encoding: chunked\r\n\r\n")));
    wire.try_send(chunked(pieces));
    wire.response()
}

pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

pub fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).unwrap()
}

pub fn brotli(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    brotli::CompressorWriter::new(&mut bytes, 4096, 5, 22).write_all(text).unwrap();
    bytes
}

/// A counter of `/metrics`, summed over its labels.
pub fn count(daemon: &Daemon, name: &str) -> u64 {
    let metrics = daemon.get("/metrics").text();
    let of_name = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let values: Vec<u64> = of_name.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!values.is_empty(), "no {name} in:\n{metrics}");
    values.iter().sum()
}

/// `Some` if a metric has this value, for `eventually`.
pub fn reads(daemon: &Daemon, name: &str, value: f64) -> Option<()> {
    ((daemon.metric(name) - value).abs() < 0.5).then_some(())
}

/// How many requests were refused for this reason.
pub fn refusals(daemon: &Daemon, reason: &str) -> u64 {
    let metrics = daemon.get("/metrics").text();
    let line = format!("forebay_http_refusals_total{{reason=\"{reason}\"}} ");
    let count = metrics.lines().find_map(|metric| metric.strip_prefix(&line));
    count.unwrap_or_else(|| panic!("no refusals for {reason:?} in:\n{metrics}")).parse().unwrap()
}

/// The names of all streams.
pub fn streams(daemon: &Daemon) -> Vec<String> {
    let streams = daemon.get("/admin/v1/streams").json();
    let streams = streams["streams"].as_array().unwrap();
    streams.iter().map(|stream| stream["name"].as_str().unwrap().to_owned()).collect()
}

/// Peak memory of the daemon.
pub fn peak_bytes(daemon: &Daemon) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}
