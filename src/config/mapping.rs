//! The section `[mapping]`: the resources that templates of mappings may use.

use super::{ByteSize, TimeSpan};
use super::{ConfigError, invalid};
use crate::mapping;
use serde::Deserialize;
use std::time::Duration;

/// A worker needs this much before it evaluates anything.
const MEMORY_MIN: u64 = 16 << 20;
/// Up to this deadline, the limit of processor time can be enforced.
const DEADLINE_MAX: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingSection {
    pub workers: usize,
    pub memory_max: ByteSize,
    pub deadline: TimeSpan,
}

impl MappingSection {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.memory_max.0 < MEMORY_MIN {
            return Err(invalid(format!("mapping.memory_max must be at least {}", ByteSize(MEMORY_MIN))));
        }
        if self.deadline.0.is_zero() || self.deadline.0 > DEADLINE_MAX {
            return Err(invalid("mapping.deadline must be greater than zero, at most 1m".to_owned()));
        }
        Ok(())
    }

    /// The settings of the evaluator. It runs this very program, even if its file has been replaced since the start.
    pub fn settings(&self) -> mapping::EvaluatorSettings {
        mapping::EvaluatorSettings {
            program: "/proc/self/exe".into(),
            workers: self.workers,
            memory_max: self.memory_max.0,
            deadline: self.deadline.0,
        }
    }
}
