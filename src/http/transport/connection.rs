//! One connection: the first bytes tell which HTTP it is.

use super::signal::{Phase, Signal};
use super::socket::Io;
use super::{Handler, http1, http2};
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Read at once before it is known which HTTP it is.
const FIRST_READ_BYTES: usize = 16 * 1024;

pub(super) async fn serve<H: Handler>(
    mut stream: TcpStream,
    peer: SocketAddr,
    signal: Arc<Signal>,
    handler: Arc<H>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let first = match signal.unless_told(first_bytes(&mut stream, &signal)).await {
        Some(first) => first?,
        // Too slow even for its first bytes, or no longer wanted.
        None => return Ok(()),
    };
    if first.is_empty() {
        return Ok(());
    }
    if first.starts_with(http2::PREFACE) {
        signal.enter(Phase::Idle);
        let io = Io::new(stream, Bytes::from(first), false, Arc::clone(&signal));
        http2::serve(io, peer, signal, handler).await
    } else {
        let io = Io::new(stream, Bytes::from(first), true, Arc::clone(&signal));
        http1::serve(io, peer, signal, handler).await
    }
}

/// Enough of them to tell which HTTP it is; nothing if the client has closed the connection.
async fn first_bytes(stream: &mut TcpStream, signal: &Signal) -> io::Result<Vec<u8>> {
    // A connection that says nothing costs no buffer.
    stream.readable().await?;
    let mut first = Vec::with_capacity(FIRST_READ_BYTES);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Ok(Vec::new());
        }
        signal.enter(Phase::Head);
        if first.len() >= http2::PREFACE.len() || !http2::PREFACE.starts_with(&first) {
            return Ok(first);
        }
    }
}
