//! The sections of the configuration that belong to contracts. What is in one is the contract's business: it says so with a
//! type of its own.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Why a section is refused: where, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SectionError(String);

/// Sections by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sections(Table);

impl Sections {
    /// Takes the sections of these names out of all settings.
    pub fn take(settings: &mut Table, names: impl IntoIterator<Item = &'static str>) -> Self {
        let own = |name: &'static str| Some((name.to_owned(), settings.remove(name)?));
        Self(names.into_iter().filter_map(own).collect())
    }

    /// A section as its contract reads it. Settings that it lacks are refused as well: the documented defaults have all.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, SectionError> {
        let section = self.0.get(name).cloned().unwrap_or_else(|| Value::Table(Table::new()));
        serde_path_to_error::deserialize(section).map_err(|error| {
            let path = error.path().to_string();
            let message = error.into_inner().to_string();
            let place = if path == "." { name.to_owned() } else { format!("{name}.{path}") };
            SectionError(format!("{place}: {}", message.trim_end()))
        })
    }
}
