//! Determines the rules by which a frame becomes rows: those that applied when it was answered.

use crate::catalog::{Catalog, CatalogError, Stream};
use crate::schema::{Landing, Policy, QuarantineLayout, Rules};

/// Rules as a table applies them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) rules: Rules,
    /// New fields do not become columns, although the policy would allow it.
    pub(super) frozen: bool,
    pub(super) quarantine: QuarantineLayout,
    pub(super) landing: Landing,
}

impl Applied {
    /// The stream's current rules.
    pub(super) fn now(stream: &Stream) -> Self {
        let (quarantine, landing) = (stream.settings.quarantine, stream.settings.landing);
        Self { rules: stream.rules().of_rows(), frozen: false, quarantine, landing }
    }

    /// The rules for a frame that notes this version, or none. A frame without a version was answered as if every
    /// well-formed record were stored, so all of them are stored.
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
                "a log frame refers to a schema version that is not in the catalog; storing its records under the current columns"
            );
            return Ok(now.leniently(None));
        };
        Ok(if then.policy == Policy::Evolve {
            now.leniently(Some(&then))
        } else {
            Self { rules: then.of_rows(), ..now }
        })
    }

    /// Stores every valid record unless its time is out of bounds under the rules of `then`. The columns are the
    /// current ones: they can hold earlier records.
    fn leniently(self, then: Option<&Rules>) -> Self {
        let frozen = self.rules.policy != Policy::Evolve;
        let time = then.and_then(|then| then.time.clone());
        // A time rule needs its column as it was.
        let column = |rules: &Rules| time.as_ref().map(|time| rules.schema.named(&time.column).cloned());
        if let Some(then) = then.filter(|then| column(then) != column(&self.rules)) {
            return Self { rules: then.clone(), frozen: true, ..self };
        }
        let policy =
            if self.rules.policy == Policy::Raw && time.is_none() { Policy::Raw } else { Policy::Evolve };
        Self { rules: Rules { policy, time, mapping: None, ..self.rules }, frozen, ..self }
    }
}
