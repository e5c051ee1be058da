//! The rate-limit headers: the state of the narrowest limit, in whole numbers. They are set together, because a client
//! that sees one expects the others.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::contracts::{Reply, Standing};
use http::{HeaderName, HeaderValue};

static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// Seconds from now.
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

pub(super) fn tell(reply: &mut Reply, standing: &Standing) {
    let Standing { limit, remaining, reset_seconds } = *standing;
    for (name, value) in [(&LIMIT, limit), (&REMAINING, remaining), (&RESET, reset_seconds)] {
        reply.headers.push((name.clone(), HeaderValue::from(value)));
    }
}
