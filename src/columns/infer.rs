//! Infers the type of a new column from its values. Inference never narrows a type.
#![deny(clippy::wildcard_enum_match_arm)]

use super::time;
use crate::formats::json::{JsonKind, Parser, Syntax};
use crate::schema::{Column, ColumnType};

/// The maximum nesting depth of objects and lists; deeper values become JSON text.
const TYPE_DEPTH_MAX: usize = 12;
/// An object with more fields than this is a map, not a struct, and becomes JSON text.
pub(crate) const STRUCT_FIELDS_MAX: usize = 200;
/// So is one whose fields appear, on average, in less than a tenth of the objects.
const APPEARANCE_MIN: f64 = 0.1;

/// What the values seen so far have in common.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Inferred {
    /// Only nulls: no type yet.
    Nothing,
    Bool,
    Int64,
    Float64,
    Date,
    Timestamp,
    String,
    List(Box<Inferred>),
    Struct(InferredFields),
    Json,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct InferredFields {
    objects: u64,
    fields: Vec<(String, u64, Inferred)>,
}

impl Inferred {
    /// Reads one value at the parser.
    pub(crate) fn value(parser: &mut Parser<'_>, depth: usize) -> Result<Self, Syntax> {
        let kind = parser.kind()?;
        match kind {
            JsonKind::Null => {
                parser.literal(kind);
                Ok(Self::Nothing)
            }
            JsonKind::True | JsonKind::False => {
                parser.literal(kind);
                Ok(Self::Bool)
            }
            JsonKind::Number => Ok(if parser.number()?.integer { Self::Int64 } else { Self::Float64 }),
            JsonKind::String => Ok(Self::text(&parser.string()?.text())),
            JsonKind::Object | JsonKind::Array if depth == TYPE_DEPTH_MAX => {
                parser.skip_value().map(|_| Self::Json)
            }
            JsonKind::Array => {
                let mut item = Self::Nothing;
                let mut more = parser.first_element();
                while more {
                    item = item.or(Self::value(parser, depth + 1)?);
                    more = parser.next_element()?;
                }
                Ok(Self::List(Box::new(item)))
            }
            JsonKind::Object => {
                let mut fields = InferredFields { objects: 1, fields: Vec::new() };
                let mut key = parser.first_key()?;
                while let Some(name) = key {
                    let name = String::from_utf8_lossy(&name.text()).into_owned();
                    let value = Self::value(parser, depth + 1)?;
                    fields.add(name, 1, value);
                    key = parser.next_key()?;
                }
                Ok(Self::Struct(fields))
            }
        }
    }

    /// What values of a type look like.
    pub(super) fn from_type(kind: &ColumnType) -> Self {
        match kind {
            ColumnType::Bool => Self::Bool,
            ColumnType::Float32 | ColumnType::Float64 | ColumnType::Decimal { .. } => Self::Float64,
            ColumnType::Date => Self::Date,
            ColumnType::Timestamp => Self::Timestamp,
            ColumnType::Json | ColumnType::Map(_) => Self::Json,
            ColumnType::List(item) => Self::List(Box::new(Self::from_type(item))),
            ColumnType::Struct(fields) => {
                let fields = fields.iter().map(|field| (field.name.clone(), 1, Self::from_type(&field.kind)));
                Self::Struct(InferredFields { objects: 1, fields: fields.collect() })
            }
            ColumnType::Int8
            | ColumnType::Int16
            | ColumnType::Int32
            | ColumnType::Int64
            | ColumnType::UInt8
            | ColumnType::UInt16
            | ColumnType::UInt32
            | ColumnType::UInt64 => Self::Int64,
            ColumnType::String | ColumnType::FixedString(_) | ColumnType::Uuid | ColumnType::Binary => {
                Self::String
            }
        }
    }

    fn text(text: &[u8]) -> Self {
        if time::timestamp(text).is_some() {
            Self::Timestamp
        } else if time::date(text).is_some() {
            Self::Date
        } else {
            Self::String
        }
    }

    /// The narrowest type that holds the values of both.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Int64, Self::Float64) | (Self::Float64, Self::Int64) => Self::Float64,
            (Self::List(a), Self::List(b)) => Self::List(Box::new(a.or(*b))),
            (Self::Struct(mut a), Self::Struct(b)) => {
                a.objects += b.objects;
                for (name, count, value) in b.fields {
                    a.add(name, count, value);
                }
                Self::Struct(a)
            }
            (a, b) if a == b => a,
            // A list or an object mixed with anything else.
            (Self::Json | Self::List(_) | Self::Struct(_), _)
            | (_, Self::Json | Self::List(_) | Self::Struct(_)) => Self::Json,
            // Any two scalars share a text form.
            _ => Self::String,
        }
    }

    /// The column type, or `None` if only nulls, empty lists and empty objects were seen.
    pub(crate) fn into_type(self, leaves_max: usize) -> Option<ColumnType> {
        let kind = match self {
            Self::Nothing => return None,
            Self::Bool => ColumnType::Bool,
            Self::Int64 => ColumnType::Int64,
            Self::Float64 => ColumnType::Float64,
            Self::Date => ColumnType::Date,
            Self::Timestamp => ColumnType::Timestamp,
            Self::String => ColumnType::String,
            Self::Json => ColumnType::Json,
            Self::List(item) => ColumnType::List(Box::new(item.into_type(leaves_max)?)),
            Self::Struct(fields) => fields.into_type()?,
        };
        Some(if kind.leaves() > leaves_max { ColumnType::Json } else { kind })
    }
}

impl InferredFields {
    fn add(&mut self, name: String, count: u64, value: Inferred) {
        if let Some((_, seen, known)) = self.fields.iter_mut().find(|(known, ..)| *known == name) {
            *seen += count;
            *known = std::mem::replace(known, Inferred::Nothing).or(value);
        } else if self.fields.len() <= STRUCT_FIELDS_MAX {
            // One more than allowed is enough to know.
            self.fields.push((name, count, value));
        }
    }

    fn into_type(self) -> Option<ColumnType> {
        let appearances: u64 = self.fields.iter().map(|(_, count, _)| count).sum();
        if is_map(self.fields.len(), appearances, self.objects) {
            return Some(ColumnType::Json);
        }
        let typed = self.fields.into_iter().filter_map(|(name, _, value)| {
            // The limit on leaves applies to the column as a whole.
            let kind = value.into_type(usize::MAX)?;
            Some(Column::new(name, kind))
        });
        let typed: Vec<Column> = typed.collect();
        (!typed.is_empty()).then_some(ColumnType::Struct(typed))
    }
}

/// Whether objects are maps rather than structures with that many fields, judged by how often their keys appear
/// overall.
pub(crate) fn is_map(fields: usize, appearances: u64, objects: u64) -> bool {
    let slots = objects.saturating_mul(fields as u64).max(1);
    fields > STRUCT_FIELDS_MAX || appearances > 0 && (appearances as f64 / slots as f64) < APPEARANCE_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(values: &[&str]) -> Option<String> {
        let mut inferred = Inferred::Nothing;
        for value in values {
            inferred = inferred.or(Inferred::value(&mut Parser::line(value.as_bytes()), 0).unwrap());
        }
        inferred.into_type(100).map(|kind| kind.name())
    }

    #[test]
    fn the_narrowest_type_that_holds_every_value() {
        let check = |values: &[&str], expected: &str| {
            assert_eq!(infer(values).as_deref(), Some(expected), "{values:?}");
        };
        check(&["1", "null", "-2"], "int64");
        check(&["1", "2.5"], "float64");
        check(&["true", "false"], "bool");
        check(&["1", "true"], "string");
        check(&["1", "\"a\""], "string");
        check(&["\"2020-04-05\""], "date");
        check(&["\"2020-04-05 00:05:38\"", "\"2020-04-05T00:05:38.5Z\""], "timestamp");
        check(&["\"2020-04-05 00:05:38\"", "\"soon\""], "string");
        check(&["\"2020-04-05\"", "\"2020-04-05 00:05:38\""], "string");
        check(&["[]", "[1]", "[2.5,null]"], "list<float64>");
        check(&["[1]", "1"], "json");
        check(&["{\"a\":1}", "{\"a\":2,\"b\":[\"x\"]}"], "struct<a: int64, b: list<string>>");
        check(&["{\"a\":1}", "{\"a\":{\"b\":1}}"], "struct<a: json>");
        check(&["{\"a\":1}", "7"], "json");
        check(&["null", "[]", "{}"], "json");
        assert_eq!(infer(&["null"]), None);
        assert_eq!(infer(&["[]", "[[]]"]), None);
        assert_eq!(infer(&["{}", "{\"a\":null}"]), None);
    }

    #[test]
    fn maps_and_depths_become_json() {
        let map: Vec<String> = (0..300).map(|n| format!("{{\"k{n}\":1}}")).collect();
        let map: Vec<&str> = map.iter().map(String::as_str).collect();
        assert_eq!(infer(&map).as_deref(), Some("json"));
        let deep = format!("{}1{}", "[".repeat(20), "]".repeat(20));
        let expected = format!("{}json{}", "list<".repeat(12), ">".repeat(12));
        assert_eq!(infer(&[&deep]), Some(expected));
        let wide: Vec<String> = (0..150).map(|n| format!("\"k{n}\":1")).collect();
        assert_eq!(
            infer(&[&format!("{{{}}}", wide.join(","))]).as_deref(),
            Some("json"),
            "more leaves than allowed"
        );
    }
}
