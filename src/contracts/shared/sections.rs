//! The configuration sections of contracts. Each contract defines the content of its section with its own type.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Why a section is invalid: the path of the setting and the problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SectionError(String);

/// The sections by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sections(Table);

impl Sections {
    /// Moves the sections with these names out of the settings.
    pub fn take(settings: &mut Table, names: impl IntoIterator<Item = &'static str>) -> Self {
        let own = |name: &'static str| Some((name.to_owned(), settings.remove(name)?));
        Self(names.into_iter().filter_map(own).collect())
    }

    /// Parses a section as the type of its contract. A missing setting is an error too, because the documented defaults
    /// contain all of them.
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
