//! What a table's columns determine about the text of an XML document.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::formats::xml::{Known, Scalar};
use crate::schema::{Column, ColumnType};

/// Derives it from these columns.
pub fn known(columns: &[Column]) -> Known {
    let mut known = Known { object: true, ..Known::default() };
    for column in columns {
        let mut at = &mut known;
        for key in column.keys() {
            at = at.fields.entry(key.as_str().into()).or_default();
        }
        *at = of_type(&column.kind);
    }
    known
}

fn of_type(kind: &ColumnType) -> Known {
    match kind {
        ColumnType::List(item) => Known { list: true, ..of_type(item) },
        ColumnType::Struct(fields) => known(fields),
        ColumnType::Map(value) => {
            Known { object: true, values: Some(Box::new(of_type(value))), ..Known::default() }
        }
        ColumnType::Bool => Known { scalar: Scalar::Bool, ..Known::default() },
        ColumnType::Int8
        | ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::UInt8
        | ColumnType::UInt16
        | ColumnType::UInt32
        | ColumnType::UInt64
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. } => Known { scalar: Scalar::Number, ..Known::default() },
        ColumnType::String
        | ColumnType::FixedString(_)
        | ColumnType::Uuid
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::Binary
        | ColumnType::Json => Known::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::xml::{XmlOptions, transcribe};

    #[test]
    fn columns_say_what_text_is() {
        let columns = [
            Column::new("n", ColumnType::Int64),
            Column::new("f", ColumnType::Float64),
            Column::new("b", ColumnType::Bool),
            Column::new("s", ColumnType::String),
            Column::new("l", ColumnType::List(Box::new(ColumnType::Int64))),
            Column::new("o", ColumnType::Struct(vec![Column::new("_VALUE", ColumnType::Int64)])),
            Column::new("m", ColumnType::Map(Box::new(ColumnType::Bool))),
        ];
        let inside = "<n> 12 </n><f>-1.5e3</f><b>1</b><s>007</s><l>7</l><o>8</o><m><k>true</k></m>";
        let document = format!("<r><a>{inside}</a><a><n>12kg</n><b>yes</b></a></r>");
        let expected = "{\"n\":12,\"f\":-1.5e3,\"b\":true,\"s\":\"007\",\"l\":[7],\"o\":{\"_VALUE\":8},\"m\":{\"k\":true}}\n\
                        {\"n\":\"12kg\",\"b\":\"yes\"}";
        let lines = transcribe(document.as_bytes(), XmlOptions::default(), &known(&columns)).unwrap();
        assert_eq!(String::from_utf8(lines).unwrap().trim_end(), expected);
    }
}
