//! What is known in advance about a document's text: XML itself has no types.

use std::collections::HashMap;

/// The required form of a field or a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// An array, even for a single value.
    pub list: bool,
    pub scalar: Scalar,
    /// An object, even if there is only text.
    pub object: bool,
    /// Nothing is known of other fields.
    pub fields: HashMap<Box<str>, Known>,
    /// The values of a map, whose keys are unknown.
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
