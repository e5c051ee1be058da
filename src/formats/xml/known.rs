//! What the columns of a table say of a document's text: XML has no types of its own.

use crate::schema::{Column, ColumnType};
use std::collections::HashMap;

/// What a field is to be. Nothing is known of one that has no column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// An array, also if there is one.
    pub(super) list: bool,
    pub(super) scalar: Scalar,
    /// An object, also if there is but text.
    pub(super) object: bool,
    fields: HashMap<Box<str>, Known>,
    /// Of a map, whose keys are not known.
    values: Option<Box<Known>>,
}

/// How text is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Scalar {
    #[default]
    Text,
    Number,
    Bool,
}

impl Known {
    pub fn of(columns: &[Column]) -> Self {
        let mut known = Self { object: true, ..Self::default() };
        for column in columns {
            let mut at = &mut known;
            for key in column.keys() {
                at = at.fields.entry(key.as_str().into()).or_default();
            }
            *at = Self::of_type(&column.kind);
        }
        known
    }

    fn of_type(kind: &ColumnType) -> Self {
        match kind {
            ColumnType::List(item) => Self { list: true, ..Self::of_type(item) },
            ColumnType::Struct(fields) => Self::of(fields),
            ColumnType::Map(value) => {
                Self { object: true, values: Some(Box::new(Self::of_type(value))), ..Self::default() }
            }
            ColumnType::Bool => Self { scalar: Scalar::Bool, ..Self::default() },
            ColumnType::Float32 | ColumnType::Float64 | ColumnType::Decimal { .. } => {
                Self { scalar: Scalar::Number, ..Self::default() }
            }
            kind if kind.integer_bits().is_some() => Self { scalar: Scalar::Number, ..Self::default() },
            _ => Self::default(),
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        self.fields.get(name).or(self.values.as_deref())
    }
}
