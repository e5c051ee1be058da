//! Opens one connection: reads the PROXY header, runs the TLS handshake, if configured, and detects the HTTP version
//! from the first bytes. Then hands the connection to [`http1`] or [`http2`].

use super::proxies::{self, ProxyHeader};
use super::refuse::{close, plain_answer};
use super::signal::{ConnectionPhase, ConnectionSignal, TIMED_OUT};
use super::socket::{Begun, Io, Socket};
use super::{ConnectionOptions, Handler, http1, http2};
use crate::contracts::reject::RejectKind;
use bytes::{Buf, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The size of a read before the HTTP version is known.
const FIRST_READ_BYTES: usize = 16 * 1024;
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection whose client and HTTP version are known.
pub(super) struct OpenedConnection {
    pub(super) socket: Socket,
    pub(super) http2: bool,
    pub(super) client: SocketAddr,
}

/// Why a connection could not be opened.
pub(super) enum Unopened {
    /// Closed, by the client or by the network.
    Closed(io::Error),
    /// Its first bytes are invalid; the client is sent the reason.
    Refused(TcpStream, &'static str),
    /// The TLS handshake failed; the client has been sent an alert.
    Handshake(TcpStream, io::Error),
}

impl From<io::Error> for Unopened {
    fn from(error: io::Error) -> Self {
        Self::Closed(error)
    }
}

pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    options: Arc<ConnectionOptions>,
    signal: Arc<ConnectionSignal>,
    handler: Arc<H>,
) -> io::Result<()> {
    match signal.unless_told(open(stream, peer, &options, &signal)).await {
        Some(Ok(OpenedConnection { socket, http2: true, client })) => {
            let io = Io::new(socket, false, &signal);
            http2::serve(io, client, options, signal, handler).await
        }
        Some(Ok(OpenedConnection { socket, http2: false, client })) => {
            let io = Io::new(socket, true, &signal);
            http1::serve(io, client, options, signal, handler).await
        }
        Some(Err(Unopened::Closed(error))) => Err(error),
        Some(Err(Unopened::Refused(mut stream, why))) => {
            handler.turned_away(RejectKind::Malformed, 400);
            stream.write_all(&plain_answer("400 Bad Request", why, "")).await?;
            close(stream).await?;
            Err(io::Error::other(why))
        }
        Some(Err(Unopened::Handshake(stream, error))) => {
            handler.handshake_failed();
            close(stream).await?;
            Err(error)
        }
        // Timed out before the first request, or draining.
        None => {
            if signal.is(ConnectionPhase::Handshake) && signal.told() == TIMED_OUT {
                handler.handshake_failed();
            }
            Ok(())
        }
    }
}

/// Reads until the client and the HTTP version are known.
pub(super) async fn open(
    mut stream: TcpStream,
    peer: SocketAddr,
    options: &ConnectionOptions,
    signal: &ConnectionSignal,
) -> Result<OpenedConnection, Unopened> {
    stream.set_nodelay(true)?;
    let mut first = BytesMut::new();
    let mut client = proxies::canonical(peer);
    let expects_header = options.proxies.protocol && options.proxies.trusts(client.ip());
    if expects_header {
        let (len, said) = loop {
            read(&mut stream, &mut first).await?;
            begin_head(signal);
            match proxies::header(&first) {
                ProxyHeader::Partial => {}
                ProxyHeader::Whole(len, said) => break (len, said),
                ProxyHeader::Bad(why) => return Err(Unopened::Refused(stream, why)),
            }
        };
        first.advance(len);
        client = said.unwrap_or(client);
        signal.enter(ConnectionPhase::Idle);
    }
    if let Some(tls) = &options.tls {
        signal.enter(ConnectionPhase::Handshake);
        if first.is_empty() {
            read(&mut stream, &mut first).await?;
        }
        if first.first() != Some(&TLS_HANDSHAKE) {
            return Err(Unopened::Refused(stream, not_tls(&first)));
        }
        let begun = Begun { first: first.freeze(), stream };
        let accepted = tls.acceptor().accept(begun).into_fallible().await;
        let socket = accepted.map_err(|(error, begun)| Unopened::Handshake(begun.stream, error))?;
        signal.enter(ConnectionPhase::Idle);
        let http2 = socket.get_ref().1.alpn_protocol() == Some(b"h2");
        return Ok(OpenedConnection { socket: Socket::Tls(Box::new(socket)), http2, client });
    }
    while first.len() < http2::PREFACE.len() && http2::PREFACE.starts_with(&first) {
        if !first.is_empty() {
            begin_head(signal);
        }
        read(&mut stream, &mut first).await?;
    }
    if proxies::is_header(&first) {
        return Err(Unopened::Refused(stream, UNASKED_HEADER));
    }
    if first.first() == Some(&TLS_HANDSHAKE) {
        return Err(Unopened::Refused(stream, "this port does not use TLS: use http://"));
    }
    let http2 = first.starts_with(http2::PREFACE);
    if http2 {
        signal.enter(ConnectionPhase::Idle);
    } else {
        begin_head(signal);
    }
    let first = first.freeze();
    Ok(OpenedConnection { socket: Socket::Plain(Begun { first, stream }), http2, client })
}

/// Starts the header timeout at the first byte; later reads do not restart it.
fn begin_head(signal: &ConnectionSignal) {
    if signal.is(ConnectionPhase::Idle) {
        signal.enter(ConnectionPhase::Head);
    }
}

const UNASKED_HEADER: &str = "PROXY headers are accepted from trusted proxies only";

fn not_tls(first: &[u8]) -> &'static str {
    if proxies::is_header(first) { UNASKED_HEADER } else { "this port requires TLS: use https://" }
}

async fn read(stream: &mut TcpStream, first: &mut BytesMut) -> io::Result<()> {
    // A silent connection allocates no buffer.
    stream.readable().await?;
    first.reserve(FIRST_READ_BYTES);
    match stream.read_buf(first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
