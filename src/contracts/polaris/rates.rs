//! The five rate-limit headers. The window is the clock minute.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::contracts::Reply;
use crate::contracts::Standing;
use http::{HeaderName, HeaderValue};

static LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
/// Seconds until the end of the minute.
static RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
static LIMIT_MINUTE: HeaderName = HeaderName::from_static("x-ratelimit-limit-minute");
static REMAINING_MINUTE: HeaderName = HeaderName::from_static("x-ratelimit-remaining-minute");

pub(super) fn tell(reply: &mut Reply, standing: &Standing) {
    let Standing { limit, remaining, reset_seconds } = *standing;
    for (name, value) in [
        (&LIMIT, limit),
        (&REMAINING, remaining),
        (&RESET, reset_seconds),
        (&LIMIT_MINUTE, limit),
        (&REMAINING_MINUTE, remaining),
    ] {
        reply.headers.push((name.clone(), HeaderValue::from(value)));
    }
}
