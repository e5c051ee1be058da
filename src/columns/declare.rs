//! Columns that were declared rather than found.

use super::column::{Column, Fit, Row};
use crate::formats::json::Parser;
use crate::schema::{self, SchemaError};

/// Checks that the default of each column that has one is a value of that column.
///
/// # Errors
/// For the first that is none.
pub fn check_defaults(columns: &[schema::Column]) -> Result<(), SchemaError> {
    for column in columns {
        let Some(default) = &column.default else { continue };
        if column.is_receipt_time() {
            continue;
        }
        let text = default.to_string();
        let mut value = Column::defined(&schema::Column { default: None, ..column.clone() }, true, true);
        let fits = value.push(0, &mut Parser::document(text.as_bytes()), &mut Row::default());
        if fits != Ok(Fit::Stored) {
            let reason = format!("its default {text:.100} is no {}", column.type_name());
            return Err(SchemaError::column(column, reason));
        }
    }
    Ok(())
}
