//! A management call: the whole body, then the dialect's own work, which may end in records for the log.

use super::super::dialect::{Call, Dialect, Managed, Reply, RequestHead};
use super::super::reject::Reject;
use super::IngestHandler;
use super::received::{self, Received};
use super::store::Origin;
use crate::auth::Caller;
use bytes::Bytes;
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;

impl IngestHandler {
    pub(super) async fn manage(
        &self,
        dialect: &'static dyn Dialect,
        head: &http::request::Parts,
        incoming: Incoming,
        caller: Caller,
        peer: SocketAddr,
    ) -> Result<Reply, Reject> {
        let mut body = self.receive(dialect.id(), head, incoming).await?;
        let control = Arc::clone(&self.control);
        let head = head.clone();
        // It may touch the catalog's disk.
        let worked = tokio::task::spawn_blocking(move || {
            body.decode()?;
            let whole = Bytes::from(body.pieces.concat());
            let call = Call { head: RequestHead::of(&head), body: whole, caller, peer: peer.ip() };
            dialect.manage(&control, &call).map(|managed| (managed, body))
        });
        let (managed, body) = worked.await.unwrap_or_else(|error| Err(Reject::internal(&error)))?;
        match managed {
            Managed::Reply(reply) => Ok(reply),
            Managed::Append(append) => {
                let body = Received { pieces: vec![append.body], ..body };
                let body = received::check(body, append.kind, dialect.bodies()).await?;
                let origin = Origin { stream: &append.stream, dialect: dialect.id(), client_ip: peer.ip() };
                let accepted = self.store(&origin, &body, append.wait).await?;
                Ok((append.reply)(&accepted))
            }
        }
    }
}
