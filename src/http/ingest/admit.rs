//! Rate limits: decides whether a request is admitted, by its token, its stream and its project.

use super::{Arrival, IngestHandler};
use crate::auth::Caller;
use crate::batch;
use crate::catalog::Stream;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::{ContractEntry, Standing};
use crate::http::limits::{Asking, LimitExceeded};
use std::time::Instant;

/// The longest body of a refused request that is read and dropped, so that its connection can be reused.
const UNREAD_BYTES_MAX: u64 = 16 * 1024;

/// A request that asks for admission.
pub(super) struct Admission<'a> {
    asking: Asking<'a>,
    /// The body length that the request head declares.
    pub(super) declared: Option<u64>,
    /// The contract's own limit for bytes on the wire; it applies if it is below the configured limit.
    pub(super) body_max: Option<u64>,
    pub(super) asked_at: Instant,
}

impl<'a> Admission<'a> {
    pub(super) fn new(
        entry: &ContractEntry,
        caller: &'a Caller,
        arrival: &Arrival,
        body_max: Option<u64>,
    ) -> Self {
        let asking = Asking {
            contract: entry.tag,
            token: caller.id.0,
            token_per_second: caller.rps,
            project: caller.project.as_deref(),
        };
        Self { asking, declared: arrival.declared(), body_max, asked_at: arrival.at }
    }

    /// The contract of the request.
    pub(super) fn contract(&self) -> batch::Tag {
        self.asking.contract
    }

    /// Builds the refusal. Also sets `standing`, which is sent to the client.
    fn refuse(&self, refused: LimitExceeded, standing: &mut Option<Standing>) -> Reject {
        *standing = refused.standing.or(*standing);
        let seconds = refused.retry_seconds;
        let message = format!("rate limit exceeded, retry in {seconds} s");
        let reject = Reject::new(RejectKind::TooManyRequests, message).retry_after(seconds);
        let short = self.declared.is_some_and(|bytes| bytes <= UNREAD_BYTES_MAX);
        if short { reject } else { reject.close() }
    }
}

impl IngestHandler {
    /// Drops expired rate-limit and idempotency state. Call it periodically, and not on a request thread.
    pub fn forget(&self) {
        self.limits.load().forget_idle(&*self.clock);
        self.keys.expire(self.clock.now());
    }

    /// Counts a request against its limits. Sets `standing`, which is sent to the client whatever the outcome.
    pub(super) fn admit(
        &self,
        admission: &Admission<'_>,
        stream: Option<&Stream>,
        standing: &mut Option<Standing>,
    ) -> Result<(), Reject> {
        let stream = stream.map(|stream| stream.id.0);
        let limits = self.limits.load();
        match limits.admit(&admission.asking, stream, admission.asked_at, &*self.clock) {
            Ok(left) => {
                *standing = left;
                Ok(())
            }
            Err(refused) => Err(admission.refuse(refused, standing)),
        }
    }

    /// Counts a management call against the rate limit of its token.
    pub(super) fn admit_call(&self, admission: &Admission<'_>) -> Result<(), Reject> {
        let admitted = self.limits.load().admit_token(&admission.asking, admission.asked_at);
        admitted.map(drop).map_err(|refused| admission.refuse(refused, &mut None))
    }

    /// Counts body bytes, as they arrive on the wire.
    pub(super) fn charge(&self, admission: &Admission<'_>, bytes: u64, now: Instant) -> Result<(), Reject> {
        let charged = self.limits.load().charge(&admission.asking, bytes, now);
        charged.map_err(|refused| admission.refuse(refused, &mut None))
    }
}
