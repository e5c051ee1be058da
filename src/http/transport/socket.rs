//! The socket as hyper sees it: with the bytes that were read before hyper was asked, and a note when a request begins.

use super::signal::{Phase, Signal};
use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// Where hyper's end of a socket puts it when it is done with it.
pub(super) type Returned = Arc<Mutex<Option<TcpStream>>>;

/// A socket whose first bytes were read already, and which notes when a request begins.
pub(super) struct Io {
    /// There until it is given back.
    inner: Option<TokioIo<TcpStream>>,
    first: Bytes,
    /// In HTTP/2 bytes come without a request too; its heads are bounded by the idle timeout.
    notes_heads: bool,
    signal: Arc<Signal>,
    returned: Returned,
}

impl Io {
    pub(super) fn new(stream: TcpStream, first: Bytes, notes_heads: bool, signal: Arc<Signal>) -> Self {
        Self { inner: Some(TokioIo::new(stream)), first, notes_heads, signal, returned: Returned::default() }
    }

    pub(super) fn returned(&self) -> Returned {
        Arc::clone(&self.returned)
    }

    fn inner(&mut self) -> io::Result<Pin<&mut TokioIo<TcpStream>>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        *self.returned.lock() = self.inner.take().map(TokioIo::into_inner);
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let len = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(len));
            return Poll::Ready(Ok(()));
        }
        let read = self.inner()?.poll_read(context, buffer);
        if read.is_ready() && self.notes_heads && self.signal.is(Phase::Idle) {
            self.signal.enter(Phase::Head);
        }
        read
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(Write::is_write_vectored)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write_vectored(context, bytes)
    }
}
