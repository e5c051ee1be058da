//! Sockets: plain or TLS, with the bytes that were read to detect the protocol; and the wrapper that hyper uses, which
//! records when a request begins.

use super::signal::{ConnectionPhase, ConnectionSignal};
use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A TCP connection whose first bytes have already been read.
pub(super) struct Begun {
    pub(super) first: Bytes,
    pub(super) stream: TcpStream,
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let len = self.first.len().min(buffer.remaining());
        // Split off rather than advanced, so that the buffer is freed once it is used up.
        buffer.put_slice(&self.first.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }
}

/// A connection that is ready for HTTP.
pub(super) enum Socket {
    Plain(Begun),
    Tls(Box<TlsStream<Begun>>),
}

impl Socket {
    /// The underlying TCP connection, which is read for a while before it is closed.
    pub(super) fn into_stream(self) -> TcpStream {
        match self {
            Self::Plain(begun) => begun.stream,
            Self::Tls(tls) => tls.into_inner().0.stream,
        }
    }
}

/// Applies the same expression to either kind of socket.
macro_rules! either {
    ($socket:expr, $inner:ident => $work:expr) => {
        match $socket.get_mut() {
            Socket::Plain($inner) => $work,
            Socket::Tls($inner) => $work,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, inner => Pin::new(inner).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_shutdown(context))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(begun) => begun.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, inner => Pin::new(inner).poll_write_vectored(context, bytes))
    }
}

/// Where [`Io`] puts the socket when hyper drops it.
pub(super) type Returned = Arc<Mutex<Option<Socket>>>;

/// The socket that hyper reads and writes.
pub(super) struct Io {
    /// Present until it is handed back.
    inner: Option<TokioIo<Socket>>,
    /// Not set for HTTP/2, where bytes also arrive without a request; the idle timeout limits its heads.
    notes_heads: bool,
    signal: Arc<ConnectionSignal>,
    returned: Returned,
}

impl Io {
    pub(super) fn new(socket: Socket, notes_heads: bool, signal: &Arc<ConnectionSignal>) -> Self {
        let inner = Some(TokioIo::new(socket));
        Self { inner, notes_heads, signal: Arc::clone(signal), returned: Returned::default() }
    }

    pub(super) fn returned(&self) -> Returned {
        Arc::clone(&self.returned)
    }

    fn inner(&mut self) -> io::Result<Pin<&mut TokioIo<Socket>>> {
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
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.inner()?.poll_read(context, buffer);
        if read.is_ready() && self.notes_heads && self.signal.is(ConnectionPhase::Idle) {
            self.signal.enter(ConnectionPhase::Head);
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
