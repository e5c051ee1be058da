//! The section `[limits]`: what requests are held to.

use super::units::{Size, Span};
use crate::batch::Dialect;
use crate::http::limits::{self, Profiles, Settings};
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub head_max: Size,
    pub body_max: Size,
    pub decoded_max: Size,
    pub in_flight_max: Size,
    pub columns_max: usize,
    pub idempotency_window: Span,
    pub idempotency_keys_max: usize,
    pub token_requests_per_second: u32,
    pub stream_requests_per_second: u32,
    tinybird: Profile,
    polaris: Profile,
    amperity: Profile,
    keboola: Profile,
    keboola_stream: Profile,
    foundry: Profile,
}

/// For the paths of one contract. What is not given is not limited, or as for every contract.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Instead of `limits.body_max`.
    pub body_max: Option<Size>,
    pub requests_per_second: u32,
    pub requests_per_minute: Option<u32>,
    pub stream_requests_per_second: u32,
    pub bytes_per_second: Size,
}

impl Limits {
    pub fn profile(&self, dialect: Dialect) -> &Profile {
        match dialect {
            Dialect::Tinybird => &self.tinybird,
            Dialect::Polaris => &self.polaris,
            Dialect::Amperity => &self.amperity,
            Dialect::Keboola => &self.keboola,
            Dialect::KeboolaStream => &self.keboola_stream,
            Dialect::Foundry => &self.foundry,
        }
    }

    /// Bytes of a body on the wire: never more than may be received at all.
    pub fn body_max(&self, dialect: Dialect) -> u64 {
        self.profile(dialect).body_max.unwrap_or(self.body_max).0.min(self.in_flight_max.0)
    }

    /// How much may come from whom.
    pub fn rates(&self) -> Settings {
        Settings {
            token_per_second: self.token_requests_per_second,
            stream_per_second: self.stream_requests_per_second,
            profiles: Profiles::new(|dialect| {
                let profile = self.profile(dialect);
                limits::Profile {
                    stream_per_second: profile.stream_requests_per_second,
                    per_second: profile.requests_per_second,
                    per_minute: profile.requests_per_minute,
                    bytes_per_second: profile.bytes_per_second.0,
                }
            }),
        }
    }
}
