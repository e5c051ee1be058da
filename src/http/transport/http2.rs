//! A connection of HTTP/2.

use super::Handler;
use super::signal::{Active, Signal};
use super::socket::Io;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// What a client of HTTP/2 sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests of one connection at a time.
const STREAMS_MAX: u32 = 256;
/// How long a connection may take to finish after it was told to.
const GOODBYE_MAX: Duration = Duration::from_mins(1);

pub(super) async fn serve<H: Handler>(
    io: Io,
    peer: SocketAddr,
    signal: Arc<Signal>,
    handler: Arc<H>,
) -> io::Result<()> {
    let of_request = Arc::clone(&signal);
    let service = service_fn(move |request| {
        let active = Active::new(&of_request);
        let handler = Arc::clone(&handler);
        async move {
            let response = handler.handle(request, peer).await;
            drop(active);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(None)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    if let Some(ended) = signal.unless_told(connection.as_mut()).await {
        return ended.map_err(io::Error::other);
    }
    // Idle for too long, or draining: finish the streams under way and take no more. A peer that does not go along
    // is left.
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(GOODBYE_MAX, connection).await {
        Ok(ended) => ended.map_err(io::Error::other),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
