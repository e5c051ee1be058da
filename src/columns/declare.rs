//! Columns that were declared rather than discovered.

use super::column::{ColumnBuilder, Fit, Row};
use crate::formats::json::Parser;
use crate::schema::{self, SchemaError};

/// Checks that each column's default, if any, is a valid value of the column.
///
/// # Errors
/// For the first default that is not valid.
pub fn check_defaults(columns: &[schema::Column]) -> Result<(), SchemaError> {
    for column in columns {
        let Some(default) = &column.default else { continue };
        if column.is_receipt_time() {
            continue;
        }
        let text = default.to_string();
        let mut value =
            ColumnBuilder::defined(&schema::Column { default: None, ..column.clone() }, true, true);
        let fits = value.push(0, &mut Parser::document(text.as_bytes()), &mut Row::default());
        if fits != Ok(Fit::Stored) {
            let reason = format!("its default {text:.100} is not a valid {}", column.type_name());
            return Err(SchemaError::column(column, reason));
        }
    }
    Ok(())
}
