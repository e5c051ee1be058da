//! Answers outside of hyper: one connection too many, a head that did not come; and closing without cutting them off.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections too many that are told so with patience; beyond it they are closed at once.
const REFUSALS_MAX: usize = 256;
/// A closed connection is listened to for this long, and for this many bytes.
const LINGER_MAX: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 << 20;

/// The connections too many that are being told so.
pub(super) struct Refusals(Arc<Semaphore>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REFUSALS_MAX)))
    }
}

impl Refusals {
    pub(super) fn refuse(&self, stream: TcpStream) {
        if let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() {
            tokio::spawn(async move {
                // The client may be gone already; there is nothing to be done about it.
                drop(too_many(stream).await);
                drop(permit);
            });
        }
    }
}

async fn too_many(mut stream: TcpStream) -> io::Result<()> {
    let answer = plain_answer("503 Service Unavailable", "too many connections", "retry-after: 1\r\n");
    stream.write_all(&answer).await?;
    close(stream).await
}

/// A whole answer of HTTP/1.1 that ends the connection.
pub(super) fn plain_answer(status: &str, error: &str, headers: &str) -> Vec<u8> {
    let body = serde_json::json!({ "error": error }).to_string();
    let len = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {len}\r\n{headers}connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Closes a connection without cutting off the answer: a client that is still sending must be listened to for a
/// while, or the reset that it gets overtakes the answer.
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
    // However it ends, the connection is over.
    drop(tokio::time::timeout(LINGER_MAX, listen).await);
    Ok(())
}
