//! Responses sent without hyper: for too many connections, for bytes that are not HTTP, for a request head that timed
//! out. Closes connections so that the client can still read the response.

use super::connection::{OpenedConnection, open};
use super::{ConnectionOptions, signal::ConnectionSignal};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// The most excess connections that get a response in any second. Others are closed at once.
const REFUSALS_MAX: usize = 256;
const REFUSAL_KEEPS: Duration = Duration::from_secs(1);
/// The time that an excess connection has to open, including the TLS handshake.
const REFUSAL_OPEN_MAX: Duration = Duration::from_secs(2);
/// After closing, the connection is read for this long, and up to this many bytes.
const LINGER_MAX: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 << 20;

/// For HTTP/2 clients: empty SETTINGS, then GOAWAY (RFC 9113, 6.8) with `REFUSED_STREAM` and no accepted stream. The
/// client may retry everything it sent.
const HTTP2_TOO_MANY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x1c\x07\0\0\0\0\0\0\0\0\0\0\0\0\x07too many connections";

/// The excess connections that are being refused. Each costs a handshake and some bytes, so there are never more than
/// a few hundred at a time or per second.
pub(super) struct Refusals(Arc<Semaphore>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REFUSALS_MAX)))
    }
}

impl Refusals {
    pub(super) fn refuse(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        options: &Arc<ConnectionOptions>,
        signal: Arc<ConnectionSignal>,
    ) {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else { return };
        let options = Arc::clone(options);
        tokio::spawn(async move {
            let refused = too_many(stream, peer, &options, &signal);
            // The client may already be gone, so errors are ignored.
            drop(tokio::join!(refused, tokio::time::sleep(REFUSAL_KEEPS)));
            drop(permit);
        });
    }
}

async fn too_many(
    stream: TcpStream,
    peer: SocketAddr,
    options: &ConnectionOptions,
    signal: &ConnectionSignal,
) -> io::Result<()> {
    let opened = tokio::time::timeout(REFUSAL_OPEN_MAX, open(stream, peer, options, signal)).await;
    let Ok(Ok(OpenedConnection { mut socket, http2, .. })) = opened else { return Ok(()) };
    if http2 {
        socket.write_all(HTTP2_TOO_MANY).await?;
    } else {
        let answer = plain_answer("503 Service Unavailable", "too many connections", "retry-after: 1\r\n");
        socket.write_all(&answer).await?;
    }
    socket.shutdown().await?;
    close(socket.into_stream()).await
}

/// A complete HTTP/1.1 response that ends the connection.
pub(super) fn plain_answer(status: &str, error: &str, headers: &str) -> Vec<u8> {
    let body = serde_json::json!({ "error": error }).to_string();
    let len = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {len}\r\n{headers}connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Closes a connection without losing the response. If the client is still sending, its data must be read for a while;
/// otherwise it gets a reset that overtakes the response.
pub(super) async fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut sink = vec![0; 64 * 1024];
    let mut left = LINGER_BYTES_MAX;
    let listen = async {
        while let Ok(read @ 1..) = stream.read(&mut sink).await
            && left > read
        {
            left -= read;
        }
    };
    // The connection is closed either way.
    drop(tokio::time::timeout(LINGER_MAX, listen).await);
    Ok(())
}
