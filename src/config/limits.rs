//! The section `[limits]`: what requests are held to.

use super::units::{OptionalSpan, Size, Span};
use crate::control::PolarisSettings;
use crate::limits::{Profile, Settings};
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
    pub tinybird: Tinybird,
    pub polaris: Polaris,
}

/// For the paths of Tinybird's API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "settings have their unit in their name")]
pub struct Tinybird {
    pub requests_per_second: u32,
    pub stream_requests_per_second: u32,
    pub bytes_per_second: Size,
}

/// For the paths of Imply Polaris' API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polaris {
    pub body_max: Size,
    pub requests_per_minute: u32,
    pub bytes_per_second: Size,
    pub late_reject: OptionalSpan,
    pub early_reject: OptionalSpan,
}

impl Limits {
    /// Which times of events are taken at the paths of Imply Polaris' API.
    pub fn polaris(&self) -> PolarisSettings {
        let seconds = |span: OptionalSpan| span.0.map(|span| span.as_secs());
        PolarisSettings { late: seconds(self.polaris.late_reject), early: seconds(self.polaris.early_reject) }
    }

    /// How much may come from whom.
    pub fn rates(&self) -> Settings {
        Settings {
            token_per_second: self.token_requests_per_second,
            stream_per_second: self.stream_requests_per_second,
            tinybird: Profile {
                per_second: self.tinybird.requests_per_second,
                stream_per_second: self.tinybird.stream_requests_per_second,
                bytes_per_second: self.tinybird.bytes_per_second.0,
                ..Profile::default()
            },
            polaris: Profile {
                per_minute: self.polaris.requests_per_minute,
                bytes_per_second: self.polaris.bytes_per_second.0,
                ..Profile::default()
            },
        }
    }
}
