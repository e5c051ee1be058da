//! Errors of a schema. All errors are found at once.

/// The part of a schema that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaPlace {
    /// One field.
    Field,
    /// The list of fields, or the keys.
    Schema,
    ChangeDataCapture,
}

/// One error of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub place: SchemaPlace,
    /// The path of the field: `address.city`.
    pub field: Option<String>,
    pub message: String,
}

impl Wrong {
    pub(super) fn field(name: &str, message: impl Into<String>) -> Self {
        Self { place: SchemaPlace::Field, field: Some(name.to_owned()), message: message.into() }
    }

    pub(super) fn schema(message: impl Into<String>) -> Self {
        Self { place: SchemaPlace::Schema, field: None, message: message.into() }
    }

    pub(super) fn capture(message: impl Into<String>) -> Self {
        Self { place: SchemaPlace::ChangeDataCapture, field: None, message: message.into() }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.field {
            Some(field) => write!(f, "field '{field}': {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}
