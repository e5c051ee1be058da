//! The section `[limits]`: the limits of requests.

use super::{ByteSize, TimeSpan, of_table};
use crate::batch::Tag;
use crate::http::limits::{self, Profiles, RateLimitSettings};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::{Table, Value};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsSection {
    pub head_max: ByteSize,
    pub body_max: ByteSize,
    pub decoded_max: ByteSize,
    pub in_flight_max: ByteSize,
    pub columns_max: usize,
    pub idempotency_window: TimeSpan,
    pub idempotency_keys_max: usize,
    pub token_requests_per_second: u32,
    pub stream_requests_per_second: u32,
    /// The profiles of the contracts, by contract name.
    #[serde(skip)]
    pub(super) profiles: BTreeMap<&'static str, ProfileSection>,
}

/// Limits for the paths of one contract. A missing value means no limit, or the limit for all contracts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileSection {
    /// Overrides `limits.body_max`.
    pub body_max: Option<ByteSize>,
    pub requests_per_second: u32,
    pub requests_per_minute: Option<u32>,
    pub stream_requests_per_second: u32,
    pub bytes_per_second: ByteSize,
}

static UNLIMITED: ProfileSection = ProfileSection {
    body_max: None,
    requests_per_second: 0,
    requests_per_minute: None,
    stream_requests_per_second: 0,
    bytes_per_second: ByteSize(0),
};

/// Takes the profiles of the contracts out of the section `[limits]`.
pub(super) fn profiles(settings: &mut Table) -> Result<BTreeMap<&'static str, ProfileSection>, String> {
    let mut found = BTreeMap::new();
    let Some(Value::Table(limits)) = settings.get_mut("limits") else { return Ok(found) };
    for contract in Tag::ALL {
        let name = contract.name();
        match limits.remove(name) {
            Some(Value::Table(profile)) => {
                found.insert(name, of_table(profile, &format!("limits.{name}."))?);
            }
            Some(other) => return Err(format!("limits.{name}: expected a table, found {other}")),
            None => {}
        }
    }
    Ok(found)
}

/// Removes the rate limits of all contracts, as `--dev` does.
pub(super) fn lift(settings: &mut Table) {
    let Some(Value::Table(limits)) = settings.get_mut("limits") else { return };
    for contract in Tag::ALL {
        let Some(Value::Table(profile)) = limits.get_mut(contract.name()) else { continue };
        for (key, rate) in profile.iter_mut() {
            match key.as_str() {
                "requests_per_second" | "requests_per_minute" | "stream_requests_per_second" => {
                    *rate = Value::Integer(0);
                }
                "bytes_per_second" => *rate = Value::String("0".to_owned()),
                _ => {}
            }
        }
    }
}

impl LimitsSection {
    pub fn profile(&self, contract: Tag) -> &ProfileSection {
        self.profiles.get(contract.name()).unwrap_or(&UNLIMITED)
    }

    /// Maximum bytes of a body on the wire, never more than `in_flight_max`.
    pub fn body_max(&self, contract: Tag) -> u64 {
        self.profile(contract).body_max.unwrap_or(self.body_max).0.min(self.in_flight_max.0)
    }

    /// The rate limits of tokens, streams and contracts.
    pub fn rates(&self) -> RateLimitSettings {
        RateLimitSettings {
            token_per_second: self.token_requests_per_second,
            stream_per_second: self.stream_requests_per_second,
            profiles: Profiles::new(|contract| {
                let profile = self.profile(contract);
                limits::RateProfile {
                    stream_per_second: profile.stream_requests_per_second,
                    per_second: profile.requests_per_second,
                    per_minute: profile.requests_per_minute,
                    bytes_per_second: profile.bytes_per_second.0,
                }
            }),
        }
    }
}
