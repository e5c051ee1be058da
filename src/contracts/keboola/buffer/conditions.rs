//! The conditions of an export: when its file is written.

use crate::contracts::keboola::go::{GoDuration, GoSize};
use crate::contracts::keboola::reply;
use crate::contracts::keboola::validate::{Findings, ObjectNode};
use crate::contracts::reject::Reject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Display;
use std::ops::RangeInclusive;

const COUNT: RangeInclusive<i64> = 1..=10_000_000;
const SIZE: RangeInclusive<GoSize> = GoSize(100)..=GoSize(50 << 20);
const TIME: RangeInclusive<GoDuration> = GoDuration::seconds(30)..=GoDuration::seconds(24 * 3600);

/// The file is written as soon as one of them is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImportConditions {
    /// Rows.
    pub(super) count: u64,
    /// Bytes.
    pub(super) size: u64,
    /// Nanoseconds since the first row.
    pub(super) time: u64,
}

impl Default for ImportConditions {
    fn default() -> Self {
        Self { count: 10_000, size: 5 << 20, time: GoDuration::seconds(300).0 }
    }
}

/// The conditions in a request body, before their bounds are checked.
#[derive(Debug, Clone, Default)]
pub(super) struct Said<'v> {
    count: Option<i64>,
    size: Option<&'v str>,
    time: Option<&'v str>,
}

impl<'v> Said<'v> {
    pub(super) fn is_nothing(&self) -> bool {
        self.count.is_none() && self.size.is_none() && self.time.is_none()
    }

    pub(super) fn read(node: &ObjectNode<'v>, findings: &mut Findings) -> Self {
        let any = 0..=usize::MAX;
        Self {
            count: node.integer("count", findings),
            size: node.text("size", &any, findings),
            time: node.text("time", &any, findings),
        }
    }
}

impl ImportConditions {
    /// Returns these conditions with the given ones in their place.
    pub(super) fn with(self, said: &Said<'_>) -> Result<Self, Reject> {
        let mut wrong = Vec::new();
        let mut conditions = self;
        if let Some(count) = said.count {
            check("count", count, &COUNT, grouped, &mut wrong);
            conditions.count = count.unsigned_abs();
        }
        if let Some(text) = said.size {
            match GoSize::parse(text) {
                Some(size) => {
                    check("size", size, &SIZE, |size| size.to_string(), &mut wrong);
                    conditions.size = size.0;
                }
                None => wrong.push(format!(
                    "value \"{text}\" is not a valid size in bytes, allowed units: B, kB, MB, for example: \"5MB\""
                )),
            }
        }
        if let Some(text) = said.time {
            match GoDuration::parse(text) {
                Some(time) => {
                    check("time", time, &TIME, |time| time.to_string(), &mut wrong);
                    conditions.time = time.0;
                }
                None => wrong.push(format!(
                    "value \"{text}\" is not a valid time duration, allowed units: s, m, h, for example: \"30s\""
                )),
            }
        }
        if wrong.is_empty() {
            return Ok(conditions);
        }
        Err(Reject::malformed(reply::reasons("invalid conditions", &wrong)).code("badRequest"))
    }

    /// The time in whole seconds.
    pub(super) fn seconds(self) -> u64 {
        GoDuration(self.time).as_seconds()
    }

    pub(super) fn shown(self) -> Value {
        json!({
            "count": self.count,
            "size": GoSize(self.size).to_string(),
            "time": GoDuration(self.time).to_string(),
        })
    }
}

fn check<T: PartialOrd + Copy>(
    field: &str,
    value: T,
    range: &RangeInclusive<T>,
    written: impl Fn(T) -> String,
    wrong: &mut Vec<String>,
) {
    let mut add =
        |bound: T, than: &str| wrong.push(format!("\"{field}\" must be {} or {than}", written(bound)));
    if value < *range.start() {
        add(*range.start(), "greater");
    } else if value > *range.end() {
        add(*range.end(), "less");
    }
}

/// `10,000,000`
fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().wrapping_sub(at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(body: &Value) -> Result<Value, String> {
        let mut findings = Findings::default();
        let said = ObjectNode::root(body, &mut findings).map(|node| Said::read(&node, &mut findings));
        findings.finish().map_err(|reject| reject.external.into_owned())?;
        let conditions = ImportConditions::default().with(&said.unwrap());
        conditions.map(ImportConditions::shown).map_err(|reject| reject.external.into_owned())
    }

    #[test]
    fn conditions_have_defaults_and_bounds() {
        assert_eq!(with(&json!({})), Ok(json!({"count": 10_000, "size": "5MB", "time": "5m0s"})));
        assert_eq!(
            with(&json!({"count": 1, "size": "100B", "time": "30s"})),
            Ok(json!({"count": 1, "size": "100B", "time": "30s"}))
        );
        assert_eq!(
            with(&json!({"count": 10_000_000, "size": "51200KB", "time": "24h"})),
            Ok(json!({"count": 10_000_000, "size": "50MB", "time": "24h0m0s"}))
        );
        for (body, message) in [
            (json!({"time": "29s"}), "invalid conditions: \"time\" must be 30s or greater"),
            (json!({"time": "24h1s"}), "invalid conditions: \"time\" must be 24h0m0s or less"),
            (json!({"count": 0}), "invalid conditions: \"count\" must be 1 or greater"),
            (json!({"count": -1}), "invalid conditions: \"count\" must be 1 or greater"),
            (json!({"count": 10_000_001}), "invalid conditions: \"count\" must be 10,000,000 or less"),
            (json!({"size": "99B"}), "invalid conditions: \"size\" must be 100B or greater"),
            (json!({"size": "51MB"}), "invalid conditions: \"size\" must be 50MB or less"),
            (
                json!({"count": 0, "time": "1s"}),
                "invalid conditions:\n- \"count\" must be 1 or greater\n- \"time\" must be 30s or greater",
            ),
            (
                json!({"time": "soon"}),
                "invalid conditions: value \"soon\" is not a valid time duration, allowed units: s, m, h, for example: \
                 \"30s\"",
            ),
            (json!({"count": "x"}), "invalid value \"x\" for \"body.count\", must be a integer"),
        ] {
            assert_eq!(with(&body), Err(message.to_owned()), "{body}");
        }
    }
}
