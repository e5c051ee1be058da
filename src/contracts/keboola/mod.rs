//! Keboola's contracts: the Buffer API ([`buffer`]) and its successor, the Stream API ([`stream`]), and the parts that
//! both share: ids derived from names, validation of bodies, tasks, tables, and the format of answers.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod buffer;
pub mod go;
pub mod names;
mod reply;
mod secrets;
pub mod stream;
mod tables;
mod tasks;
mod validate;

use crate::auth::Caller;
use crate::auth::words::Words;
use crate::contracts::reject::Reject;
use crate::contracts::shared::collection::Collection;
use crate::contracts::shared::control::Control;
use crate::contracts::shared::units::ByteSize;
use serde::{Deserialize, Deserializer};
use std::sync::Arc;

/// The owner of the catalog documents of the Buffer API, and of those that both contracts share.
const CATALOG_NAME: &str = "keboola";

/// The header with the credential.
const TOKEN_HEADER: &str = "x-storageapi-token";

const SECTION: &str = "keboola";

/// The section `[keboola]`, for both contracts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeboolaSection {
    /// The project of credentials that are not bound to a project.
    #[serde(deserialize_with = "text_of_number")]
    project_id: String,
    /// The ids of its branches. The first is the default branch.
    branches: Vec<u64>,
    /// A receiver refuses events while more than this much of its data is not yet in a file. 0: no limit.
    receiver_buffer_max: ByteSize,
}

/// Project ids are numbers in the configuration and strings everywhere else.
fn text_of_number<'de, D: Deserializer<'de>>(number: D) -> Result<String, D::Error> {
    u32::deserialize(number).map(|number| number.to_string())
}

/// The contracts define no scopes of their own: Forebay's tokens are used as they are.
static WORDS: Words = Words { role: |_| None, claim: |_, _| None, token: None };

/// The state that both contracts share. Each sees the tasks and tables of the other.
struct KeboolaContext {
    control: Arc<Control>,
    settings: KeboolaSection,
    tasks: Collection<tasks::KeboolaTask>,
    tables: Collection<tables::StoredTable>,
}

impl KeboolaContext {
    fn new(settings: KeboolaSection, control: Arc<Control>) -> Self {
        Self {
            tasks: Collection::new(Arc::clone(&control), CATALOG_NAME, "task"),
            tables: Collection::new(Arc::clone(&control), CATALOG_NAME, "table"),
            settings,
            control,
        }
    }

    /// The caller's project: that of the credential, or the configured one.
    fn project<'a>(&'a self, caller: &'a Caller) -> &'a str {
        caller.project.as_deref().unwrap_or(&self.settings.project_id)
    }
}

/// Refuses a call without a credential.
fn no_token() -> Reject {
    Reject::malformed("\"X-StorageApi-Token\" is missing from header").code("missingField")
}
