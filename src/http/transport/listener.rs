//! A listener, from bind to drain.

use super::connections::Connections;
use super::{ConnectionOptions, Handler};
use crate::error::{IoContext, IoError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

/// The most connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// A listener that accepts connections.
pub struct Listener {
    pub address: SocketAddr,
    connections: Arc<Connections>,
    accepting: JoinHandle<()>,
}

impl Listener {
    /// Binds the address. Connections are accepted only after [`Listener::start`].
    pub fn bind(address: SocketAddr) -> Result<TcpListener, IoError> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let listener = socket.and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        });
        listener.context("listen on", address.to_string())
    }

    pub fn start<H: Handler>(
        listener: TcpListener,
        handler: Arc<H>,
        options: ConnectionOptions,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let connections = Connections::new(options);
        let accepting = tokio::spawn(Arc::clone(&connections).accept(listener, handler));
        Ok(Self { address, connections, accepting })
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.connections.count()
    }

    /// Stops accepting and waits for running requests. Returns whether all were answered by the deadline.
    pub async fn drain(self, deadline: Instant) -> bool {
        let drained = self.connections.drain(deadline).await;
        self.accepting.abort();
        drained
    }
}
