//! A management call: the whole body, then the dialect's own work, which may end in records for the log.

use super::super::dialect::{Call, Dialect, Managed, Reply, RequestHead};
use super::super::reject::Reject;
use super::IngestHandler;
use super::admit::Admission;
use super::received::{self, Manner, Received};
use super::store::{self, Origin};
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
        caller: &Caller,
        admission: &Admission<'_>,
        peer: SocketAddr,
    ) -> Result<Reply, Reject> {
        let key = store::key_of(&head.headers)?;
        let mut body = self.receive(dialect.id(), head, incoming, admission).await?;
        let control = Arc::clone(&self.control);
        let (moved, caller) = (head.clone(), caller.clone());
        // It may touch the catalog's disk.
        let worked = tokio::task::spawn_blocking(move || {
            body.decode()?;
            let whole = Bytes::from(body.pieces.concat());
            let call = Call { head: RequestHead::of(&moved), body: whole, caller, peer: peer.ip() };
            dialect.manage(&control, &call).map(|managed| (managed, body))
        });
        let (managed, body) = worked.await.unwrap_or_else(|error| Err(Reject::internal(&error)))?;
        match managed {
            Managed::Reply(reply) => Ok(reply),
            Managed::Append(append) => {
                let body = Received { pieces: vec![append.body], ..body };
                let manner = Manner {
                    kind: append.kind,
                    bodies: dialect.bodies(),
                    stream: Some(Arc::clone(&append.stream)),
                    received_at: self.clock.now(),
                };
                let body = received::check(body, manner).await?;
                let origin =
                    Origin { stream: &append.stream, dialect: dialect.id(), client_ip: peer.ip(), key };
                let outcome = self.store(&origin, &body, append.wait).await?;
                Ok(outcome.mark((append.reply)(&outcome.accepted)))
            }
        }
    }
}
