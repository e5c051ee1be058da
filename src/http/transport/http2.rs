//! Serves an HTTP/2 connection.

use super::signal::{Active, ConnectionPhase, ConnectionSignal};
use super::socket::Io;
use super::{ConnectionOptions, Handler};
use crate::contracts::reject::RejectKind;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first bytes that an HTTP/2 client sends.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The most header fields of a request; the same limit as for HTTP/1.1.
const HEADERS_MAX: usize = 100;
/// How long a connection may take to finish after GOAWAY.
const GOODBYE_MAX: Duration = Duration::from_mins(1);
const GOODBYE_LOOK: Duration = Duration::from_secs(1);

pub(super) async fn serve<H: Handler>(
    io: Io,
    client: SocketAddr,
    options: Arc<ConnectionOptions>,
    signal: Arc<ConnectionSignal>,
    handler: Arc<H>,
) -> io::Result<()> {
    let mut http = Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .max_header_list_size(u32::try_from(options.head_max).unwrap_or(u32::MAX))
        .keep_alive_interval(None);
    let behind_proxy = options.proxies.trusts(client.ip());
    let of_request = Arc::clone(&signal);
    let service = service_fn(move |request| {
        let active = Active::new(&of_request);
        let handler = Arc::clone(&handler);
        let client =
            if behind_proxy { options.proxies.forwarded_for(request.headers(), client) } else { client };
        async move {
            let response = if request.headers().len() > HEADERS_MAX {
                handler.turned_away(RejectKind::Malformed, 431);
                let mut response = Response::default();
                *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                response
            } else {
                handler.handle(request, client).await
            };
            drop(active);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http.serve_connection(io, service);
    let mut connection = pin!(connection);
    if let Some(ended) = signal.unless_told(connection.as_mut()).await {
        return ended.map_err(io::Error::other);
    }
    // Idle for too long, or draining: send GOAWAY, finish the open streams and accept no more. A peer that does not
    // close the connection is cut off: once two checks in a row find it idle, or at the deadline.
    connection.as_mut().graceful_shutdown();
    let deadline = Instant::now() + GOODBYE_MAX;
    let mut was_idle = false;
    while Instant::now() < deadline {
        if let Ok(ended) = tokio::time::timeout(GOODBYE_LOOK, connection.as_mut()).await {
            return ended.map_err(io::Error::other);
        }
        let is_idle = signal.is(ConnectionPhase::Idle);
        if was_idle && is_idle {
            break;
        }
        was_idle = is_idle;
    }
    Err(io::ErrorKind::TimedOut.into())
}
