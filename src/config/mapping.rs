//! The section `[mapping]`: what the templates of mappings may take.

use super::{ConfigError, invalid};
use super::{Size, Span};
use crate::mapping;
use serde::Deserialize;
use std::time::Duration;

/// A worker needs as much before it has evaluated anything.
const MEMORY_MIN: u64 = 16 << 20;
/// Within which the limit of processor time can be told.
const DEADLINE_MAX: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    pub workers: usize,
    pub memory_max: Size,
    pub deadline: Span,
}

impl Mapping {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.memory_max.0 < MEMORY_MIN {
            return Err(invalid(format!("mapping.memory_max must be at least {}", Size(MEMORY_MIN))));
        }
        if self.deadline.0.is_zero() || self.deadline.0 > DEADLINE_MAX {
            return Err(invalid("mapping.deadline must be longer than nothing, at most 1m".to_owned()));
        }
        Ok(())
    }

    /// How templates are evaluated: by this program, whatever stands under its name by now.
    pub fn settings(&self) -> mapping::Settings {
        mapping::Settings {
            program: "/proc/self/exe".into(),
            workers: self.workers,
            memory_max: self.memory_max.0,
            deadline: self.deadline.0,
        }
    }
}
