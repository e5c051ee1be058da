//! Under which rules a frame becomes rows: those under which it was answered.

use crate::catalog::{Catalog, CatalogError, Stream};
use crate::schema::{Landing, Policy, QuarantineLayout, Rules};

/// Rules, as a table applies them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) rules: Rules,
    /// New fields are not made columns, although the policy would.
    pub(super) frozen: bool,
    pub(super) quarantine: QuarantineLayout,
    pub(super) landing: Landing,
}

impl Applied {
    /// What the stream says now.
    pub(super) fn now(stream: &Stream) -> Self {
        let (quarantine, landing) = (stream.settings.quarantine, stream.settings.landing);
        Self { rules: stream.rules().of_rows(), frozen: false, quarantine, landing }
    }

    /// For a frame that notes this version, or none. A frame without one was answered as if every record with a right
    /// form were stored, so it is.
    pub(super) fn to(stream: &Stream, version: Option<u32>, catalog: &Catalog) -> Result<Self, CatalogError> {
        let now = Self::now(stream);
        let Some(version) = version else {
            let is_other = now.rules.are_judged() || now.rules.policy == Policy::Mapped;
            return Ok(if is_other { now.leniently(None) } else { now });
        };
        if version == now.rules.schema.version {
            return Ok(now);
        }
        let Some(then) = catalog.rules(stream.id, version)? else {
            tracing::error!(
                stream = stream.name,
                version,
                "a frame notes a version of the schema that there is not"
            );
            return Ok(now.leniently(None));
        };
        Ok(if then.policy == Policy::Evolve {
            now.leniently(Some(&then))
        } else {
            Self { rules: then.of_rows(), ..now }
        })
    }

    /// Every record is stored that is one, unless its time is not right under the rules of `then`. The columns are
    /// those of now: they hold what came before.
    fn leniently(self, then: Option<&Rules>) -> Self {
        let frozen = self.rules.policy != Policy::Evolve;
        let time = then.and_then(|then| then.time.clone());
        // A time that is judged by needs its column as it was.
        let column = |rules: &Rules| time.as_ref().map(|time| rules.schema.named(&time.column).cloned());
        if let Some(then) = then.filter(|then| column(then) != column(&self.rules)) {
            return Self { rules: then.clone(), frozen: true, ..self };
        }
        let policy =
            if self.rules.policy == Policy::Raw && time.is_none() { Policy::Raw } else { Policy::Evolve };
        Self { rules: Rules { policy, time, mapping: None, ..self.rules }, frozen, ..self }
    }
}
