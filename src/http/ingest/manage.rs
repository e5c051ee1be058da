//! A management call: reads the whole body, then runs the contract's own work, which may append records to the log.

use super::super::body::{self, Encoding};
use super::admit::Admission;
use super::fan::{Come, ReceiverRecords};
use super::received::{self, CheckOptions, Received};
use super::store::{self, BatchOrigin};
use super::{Arrival, IngestHandler};
use crate::auth::Caller;
use crate::contracts::reject::Reject;
use crate::contracts::shared::target::check_takes_requests;
use crate::contracts::{Call, CallDestination, Made, Managed, Reply, RequestHead};
use bytes::Bytes;
use hyper::body::Incoming;
use std::cell::RefCell;
use std::sync::Arc;

impl IngestHandler {
    pub(super) async fn manage(
        &self,
        made: &Made,
        arrival: &Arrival,
        incoming: Incoming,
        caller: &Caller,
        admission: &Admission<'_>,
    ) -> Result<Reply, Reject> {
        let (head, peer) = (&arrival.head, arrival.peer);
        let key = store::key_of(&head.headers)?;
        let mut body = self.receive(head, incoming, admission).await?;
        let working = Arc::clone(&made.contract);
        let (moved, caller) = (head.clone(), caller.clone());
        // The work may access the catalog on disk.
        let worked = tokio::task::spawn_blocking(move || {
            body.decode()?;
            let whole = Bytes::from(body.pieces.concat());
            let (arrived, decoded_max) = (whole.len() as u64, body.decoded_max);
            let in_flight = RefCell::new(&mut body.in_flight);
            let gunzip = |file: Bytes| {
                let grow = |decoded: u64| in_flight.borrow_mut().grow_to(arrived + decoded);
                let pieces = body::decode(vec![file], Encoding::Gzip, decoded_max, grow)?;
                Ok(Bytes::from(pieces.concat()))
            };
            let call = Call {
                head: RequestHead::from_parts(&moved),
                body: whole,
                decoded_max,
                gunzip: &gunzip,
                caller,
                peer: peer.ip(),
            };
            let managed = working.manage(&call)?;
            if let Managed::Append(append) = &managed {
                body.in_flight.grow_to(append.body.len() as u64)?;
            }
            Ok((managed, body))
        });
        let (managed, body) = worked.await.unwrap_or_else(|error| Err(Reject::internal(&error)))?;
        match managed {
            Managed::Reply(reply) => Ok(reply),
            Managed::Append(append) => {
                let body = Received { pieces: vec![append.body], ..body };
                let received_at = self.clock.now();
                let (stream, body) = match &append.to {
                    CallDestination::Stream(stream) => {
                        let (kind, bodies) = (append.kind, append.bodies);
                        check_takes_requests(stream)?;
                        let stream = Arc::clone(stream);
                        let known = Some(Arc::clone(&stream));
                        let manner = CheckOptions {
                            kind,
                            bodies,
                            stream: known,
                            others: Vec::new(),
                            received_at,
                            open: None,
                        };
                        (stream, received::check(body, manner).await?)
                    }
                    CallDestination::Receiver(receive) => {
                        let come = Come { headers: &head.headers, ip: peer.ip(), received_at };
                        let records = ReceiverRecords { kind: append.kind, partly: true };
                        self.fan_out(receive, body, records, &come).await?
                    }
                };
                let origin =
                    BatchOrigin { stream: &stream, contract: made.entry.tag, client_ip: peer.ip(), key };
                let outcome = self.store(&origin, &body, append.wait).await?;
                let accepted = outcome.accepted.clone();
                let reply = tokio::task::spawn_blocking(move || (append.reply)(&accepted));
                let reply = reply.await.map_err(|error| Reject::internal(&error))?;
                Ok(outcome.mark(reply))
            }
        }
    }
}
