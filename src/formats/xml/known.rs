//! What is known of a document's text beforehand: XML has no types of its own.

use std::collections::HashMap;

/// What a field is to be, or a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// An array, also if there is one.
    pub list: bool,
    pub scalar: Scalar,
    /// An object, also if there is but text.
    pub object: bool,
    /// Nothing is known of others.
    pub fields: HashMap<Box<str>, Known>,
    /// Of a map, whose keys are not known.
    pub values: Option<Box<Known>>,
}

/// How text is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scalar {
    #[default]
    Text,
    Number,
    Bool,
}

impl Known {
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        self.fields.get(name).or(self.values.as_deref())
    }
}
