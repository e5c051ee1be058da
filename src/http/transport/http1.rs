//! Serves an HTTP/1 connection.

use super::refuse::{close, plain_answer};
use super::signal::{Active, ConnectionPhase, ConnectionSignal, DRAIN, RUN, TIMED_OUT};
use super::socket::Io;
use super::{ConnectionOptions, Handler};
use crate::contracts::reject::RejectKind;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::AsyncWriteExt;

pub(super) async fn serve<H: Handler>(
    io: Io,
    client: SocketAddr,
    options: Arc<ConnectionOptions>,
    signal: Arc<ConnectionSignal>,
    handler: Arc<H>,
) -> io::Result<()> {
    let returned = io.returned();
    let ended = answer_requests(io, client, &options, &signal, &handler).await;
    let slow = signal.is(ConnectionPhase::Head) && signal.told() == TIMED_OUT;
    let socket = returned.lock().take();
    if let Some(mut socket) = socket
        && !matches!(ended, Ok(Ended::Drained))
    {
        if slow {
            handler.turned_away(RejectKind::TooSlow, 408);
            let answer = plain_answer("408 Request Timeout", "the request head did not arrive in time", "");
            socket.write_all(&answer).await?;
        }
        socket.shutdown().await?;
        close(socket.into_stream()).await?;
    }
    ended.map(drop)
}

/// How a connection ended.
enum Ended {
    /// Answered the running request, then closed for the drain.
    Drained,
    Otherwise,
}

async fn answer_requests<H: Handler>(
    io: Io,
    client: SocketAddr,
    options: &ConnectionOptions,
    signal: &Arc<ConnectionSignal>,
    handler: &Arc<H>,
) -> io::Result<Ended> {
    let behind_proxy = options.proxies.trusts(client.ip());
    let service = service_fn(move |request| {
        let active = Active::new(signal);
        let handler = Arc::clone(handler);
        let client =
            if behind_proxy { options.proxies.forwarded_for(request.headers(), client) } else { client };
        async move {
            let response = handler.handle(request, client).await;
            drop(active);
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = Builder::new();
    http.writev(false).max_header_size(options.head_max);
    let mut connection = pin!(http.serve_connection(io, service));
    let mut heard = RUN;
    loop {
        let event = poll_fn(|context| {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Ok(ended));
            }
            signal.poll_told(context, heard).map(Err)
        });
        match event.await {
            Ok(Ok(())) if heard == DRAIN => return Ok(Ended::Drained),
            Ok(Err(error)) => {
                if error.is_parse() {
                    // hyper has already answered it.
                    let status = if error.is_parse_too_large() { 431 } else { 400 };
                    handler.turned_away(RejectKind::Malformed, status);
                }
                return Err(io::Error::other(error));
            }
            Err(DRAIN) => {
                heard = DRAIN;
                connection.as_mut().graceful_shutdown();
            }
            // A request arrived just as the timeout fired.
            Err(_) if signal.is(ConnectionPhase::Busy) => signal.forget_time_out(),
            Ok(Ok(())) | Err(_) => return Ok(Ended::Otherwise),
        }
    }
}
