//! Keboola's contracts: the Buffer API ([`buffer`]) and its successor, the Stream API ([`stream`]). Here is what both
//! share: how names become ids, how bodies are read and refused, tasks, tables, and the shape of answers.
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
use crate::contracts::shared::units::Size;
use serde::{Deserialize, Deserializer};
use std::sync::Arc;

/// Whose documents those of the Buffer API, and those that both share, are in the catalog.
const CATALOG_NAME: &str = "keboola";

/// The header with the credential.
const TOKEN_HEADER: &str = "x-storageapi-token";

const SECTION: &str = "keboola";

/// The section `[keboola]`, for both contracts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The number of the project that credentials without one are for.
    #[serde(deserialize_with = "text_of_number")]
    project_id: String,
    /// The numbers of its branches. The first is the default one.
    branches: Vec<u64>,
    /// Size of the rows of one export that may be in no file yet, above which its receiver takes no more. 0: no limit.
    receiver_buffer_max: Size,
}

/// Projects are numbers in the configuration, and texts everywhere else.
fn text_of_number<'de, D: Deserializer<'de>>(number: D) -> Result<String, D::Error> {
    u32::deserialize(number).map(|number| number.to_string())
}

/// The contracts have no words for rights: a token is one of Forebay's.
static WORDS: Words = Words { role: |_| None, claim: |_, _| None, token: None };

/// What both contracts work with. Tasks and tables of the one are also those of the other.
struct Common {
    control: Arc<Control>,
    settings: Settings,
    tasks: Collection<tasks::Task>,
    tables: Collection<tables::Kept>,
}

impl Common {
    fn new(settings: Settings, control: Arc<Control>) -> Self {
        Self {
            tasks: Collection::new(Arc::clone(&control), CATALOG_NAME, "task"),
            tables: Collection::new(Arc::clone(&control), CATALOG_NAME, "table"),
            settings,
            control,
        }
    }

    /// The project of who calls: that of the credential, or the configured one.
    fn project<'a>(&'a self, caller: &'a Caller) -> &'a str {
        caller.project.as_deref().unwrap_or(&self.settings.project_id)
    }
}

/// The refusal of a call that shows no credential.
fn no_token() -> Reject {
    Reject::malformed("\"X-StorageApi-Token\" is missing from header").code("missingField")
}
