//! A stream's schema: parses its JSON, reports all of its errors, and converts it to columns.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::error::Wrong;
use crate::schema::{Column, ColumnType, system};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Maximum nesting of types.
const DEPTH_MAX: usize = 15;
/// Maximum length of a field's name.
const NAME_BYTES_MAX: usize = 255;
/// Maximum digits of a decimal.
const DECIMAL_DIGITS_MAX: u64 = 38;
/// Default precision and scale of a decimal.
const DECIMAL_DEFAULT: (u64, u64) = (38, 18);
/// Integers in a timestamp field are milliseconds.
const EPOCH_MILLIS: u8 = 3;

/// The schema of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSchema {
    pub fields: Vec<SchemaField>,
    /// Names of the fields that determine a record's partition.
    pub keys: Vec<String>,
    pub capture: Option<ChangeDataCapture>,
}

/// The fields that identify the newest state of a row. Rows are only ever appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeDataCapture {
    pub deletion_field: String,
    pub ordering_field: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SchemaField {
    pub name: String,
    pub item: ValueType,
    /// Returned unchanged.
    pub metadata: Option<Value>,
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueType {
    pub nullable: bool,
    pub kind: FieldType,
}

#[derive(Debug, Clone, PartialEq)]
pub enum FieldType {
    Boolean,
    Byte,
    Short,
    Integer,
    Long,
    Float,
    Double,
    String,
    Binary,
    Date,
    Timestamp,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Array(Box<ValueType>),
    /// Strings to values.
    Map(Box<ValueType>),
    Struct(Vec<SchemaField>),
}

/// The contract's names of the types without parameters.
const SIMPLE: [(&str, FieldType); 11] = [
    ("boolean", FieldType::Boolean),
    ("byte", FieldType::Byte),
    ("short", FieldType::Short),
    ("integer", FieldType::Integer),
    ("long", FieldType::Long),
    ("float", FieldType::Float),
    ("double", FieldType::Double),
    ("string", FieldType::String),
    ("binary", FieldType::Binary),
    ("date", FieldType::Date),
    ("timestamp", FieldType::Timestamp),
];

impl StreamSchema {
    /// Parses a schema.
    ///
    /// # Errors
    /// All errors, in the order of the schema; at least one.
    pub fn parse(schema: &Value) -> Result<Self, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let Some(object) = schema.as_object() else {
            return Err(vec![Wrong::schema("the schema must be an object with \"fields\"")]);
        };
        let fields = match object.get("fields") {
            Some(Value::Array(fields)) if !fields.is_empty() => fields_of(fields, "", 0, &mut wrong),
            Some(Value::Array(_)) => {
                wrong.push(Wrong::schema("the schema must have at least one field"));
                Vec::new()
            }
            _ => {
                wrong.push(Wrong::schema("\"fields\" must be a list of fields"));
                Vec::new()
            }
        };
        let keys = keys_of(object.get("keyFieldNames"), &fields, &mut wrong);
        let capture = capture_of(object.get("changeDataCapture"), &fields, &keys, &mut wrong);
        if wrong.is_empty() { Ok(Self { fields, keys, capture }) } else { Err(wrong) }
    }

    /// The schema in the contract's JSON.
    pub fn to_json(&self) -> Value {
        let mut schema = Map::new();
        schema.insert("fields".to_owned(), self.fields.iter().map(SchemaField::to_json).collect());
        if !self.keys.is_empty() {
            schema.insert("keyFieldNames".to_owned(), json!(self.keys));
        }
        if let Some(capture) = &self.capture {
            let capture = json!({
                "type": "fullRow",
                "deletionFieldName": capture.deletion_field,
                "orderingFieldName": capture.ordering_field,
            });
            schema.insert("changeDataCapture".to_owned(), capture);
        }
        Value::Object(schema)
    }

    /// The columns of its table.
    pub fn columns(&self) -> Vec<Column> {
        self.fields.iter().map(SchemaField::column).collect()
    }

    pub fn field(&self, name: &str) -> Option<&SchemaField> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The binary field, if it is the only field.
    pub fn only_binary(&self) -> Option<&SchemaField> {
        match self.fields.as_slice() {
            [field] if field.item.kind == FieldType::Binary => Some(field),
            _ => None,
        }
    }
}

impl SchemaField {
    fn to_json(&self) -> Value {
        let mut schema = self.item.to_json();
        if let (Some(metadata), Some(schema)) = (&self.metadata, schema.as_object_mut()) {
            schema.insert("customMetadata".to_owned(), metadata.clone());
        }
        json!({"name": self.name, "schema": schema})
    }

    fn column(&self) -> Column {
        let kind = self.item.kind.column_type();
        let epoch_digits = self.item.kind.has_times().then_some(EPOCH_MILLIS);
        let declared = Some(self.item.kind.word());
        let nullable = self.item.nullable;
        Column { nullable, declared, epoch_digits, ..Column::new(self.name.clone(), kind) }
    }
}

impl ValueType {
    pub(super) fn to_json(&self) -> Value {
        json!({"nullable": self.nullable, "dataType": self.kind.to_json()})
    }
}

impl FieldType {
    /// The contract's name, without parameters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Decimal { .. } => "decimal",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Struct(_) => "struct",
            simple => SIMPLE.iter().find(|(_, kind)| kind == simple).map_or("", |(name, _)| name),
        }
    }

    /// The name for messages, with parameters: `decimal(10, 2)`.
    pub fn word(&self) -> String {
        match self {
            Self::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
            Self::Array(item) => format!("array<{}>", item.kind.word()),
            Self::Map(value) => format!("map<string, {}>", value.kind.word()),
            other => other.name().to_owned(),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Decimal { precision, scale } => {
                json!({"type": "decimal", "precision": precision, "scale": scale})
            }
            Self::Array(item) => json!({"type": "array", "itemsSchema": item.to_json()}),
            Self::Map(value) => {
                let key = json!({"nullable": false, "dataType": {"type": "string"}});
                json!({"type": "map", "keySchema": key, "valueSchema": value.to_json()})
            }
            Self::Struct(fields) => {
                let fields: Vec<Value> = fields.iter().map(SchemaField::to_json).collect();
                json!({"type": "struct", "subFields": fields})
            }
            simple => json!({"type": simple.name()}),
        }
    }

    fn column_type(&self) -> ColumnType {
        match self {
            Self::Boolean => ColumnType::Bool,
            Self::Byte => ColumnType::Int8,
            Self::Short => ColumnType::Int16,
            Self::Integer => ColumnType::Int32,
            Self::Long => ColumnType::Int64,
            Self::Float => ColumnType::Float32,
            Self::Double => ColumnType::Float64,
            Self::String => ColumnType::String,
            Self::Binary => ColumnType::Binary,
            Self::Date => ColumnType::Date,
            Self::Timestamp => ColumnType::Timestamp,
            Self::Decimal { precision, scale } => {
                ColumnType::Decimal { precision: *precision, scale: *scale }
            }
            Self::Array(item) => ColumnType::List(Box::new(item.kind.column_type())),
            Self::Map(value) => ColumnType::Map(Box::new(value.kind.column_type())),
            Self::Struct(fields) => ColumnType::Struct(fields.iter().map(SchemaField::column).collect()),
        }
    }

    fn has_times(&self) -> bool {
        match self {
            Self::Timestamp => true,
            Self::Array(item) | Self::Map(item) => item.kind.has_times(),
            // The fields of a struct carry this themselves.
            _ => false,
        }
    }

    fn may_be_key(&self) -> bool {
        matches!(
            self,
            Self::Boolean
                | Self::Byte
                | Self::Date
                | Self::Decimal { .. }
                | Self::Integer
                | Self::Long
                | Self::Short
                | Self::String
                | Self::Timestamp
        )
    }
}

fn fields_of(fields: &[Value], within: &str, depth: usize, wrong: &mut Vec<Wrong>) -> Vec<SchemaField> {
    let mut names = HashSet::new();
    let mut found = Vec::with_capacity(fields.len());
    for (place, field) in fields.iter().enumerate() {
        let named = field.get("name").and_then(Value::as_str);
        let Some(name) = named else {
            let number = place.saturating_add(1);
            let of = if within.is_empty() { String::new() } else { format!(" of '{within}'") };
            wrong.push(Wrong::schema(format!("field {number}{of} has no \"name\"")));
            continue;
        };
        let path = if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") };
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            wrong.push(Wrong::field(&path, format!("the name must have 1 to {NAME_BYTES_MAX} bytes")));
        }
        if within.is_empty() && system::is_reserved(name) {
            wrong.push(Wrong::field(&path, "the name is reserved for a system column"));
        }
        if !names.insert(name) {
            wrong.push(Wrong::field(&path, "duplicate field name"));
        }
        let Some(schema) = field.get("schema").filter(|schema| schema.is_object()) else {
            wrong.push(Wrong::field(
                &path,
                "\"schema\" is missing: expected an object with \"nullable\" and \"dataType\"",
            ));
            continue;
        };
        if let Some(item) = item_of(schema, &path, depth, wrong) {
            let metadata = schema.get("customMetadata").filter(|metadata| !metadata.is_null()).cloned();
            found.push(SchemaField { name: name.to_owned(), item, metadata });
        }
    }
    found
}

fn item_of(schema: &Value, path: &str, depth: usize, wrong: &mut Vec<Wrong>) -> Option<ValueType> {
    let nullable = match schema.get("nullable") {
        Some(Value::Bool(nullable)) => *nullable,
        None | Some(Value::Null) => true,
        Some(_) => {
            wrong.push(Wrong::field(path, "\"nullable\" must be true or false"));
            true
        }
    };
    let Some(data_type) = schema.get("dataType") else {
        wrong.push(Wrong::field(path, "\"dataType\" is missing"));
        return None;
    };
    type_of(data_type, path, depth, wrong).map(|kind| ValueType { nullable, kind })
}

fn type_of(data_type: &Value, path: &str, depth: usize, wrong: &mut Vec<Wrong>) -> Option<FieldType> {
    let mut refuse = |message: String| {
        wrong.push(Wrong::field(path, message));
        None
    };
    if depth >= DEPTH_MAX {
        return refuse(format!("types are nested too deep: the limit is {DEPTH_MAX} levels"));
    }
    let Some(word) = data_type.get("type").and_then(Value::as_str) else {
        return refuse("\"dataType\" must be an object with a \"type\"".to_owned());
    };
    if let Some((_, kind)) = SIMPLE.iter().find(|(name, _)| *name == word) {
        return Some(kind.clone());
    }
    let below = depth.saturating_add(1);
    let part = |name: &str| data_type.get(name).filter(|schema| schema.is_object());
    match word {
        "decimal" => decimal_of(data_type).or_else(|| {
            refuse(format!(
                "a decimal needs a \"precision\" from 1 to {DECIMAL_DIGITS_MAX} and a \"scale\" from 0 to the precision"
            ))
        }),
        "array" => match part("itemsSchema") {
            Some(schema) => {
                item_of(schema, path, below, wrong).map(|item| FieldType::Array(Box::new(item)))
            }
            None => refuse("an array needs an \"itemsSchema\"".to_owned()),
        },
        "map" => {
            let (Some(key), Some(value)) = (part("keySchema"), part("valueSchema")) else {
                return refuse("a map needs a \"keySchema\" and a \"valueSchema\"".to_owned());
            };
            let key = item_of(key, path, below, wrong);
            let value = item_of(value, path, below, wrong);
            match (key, value) {
                (Some(key), Some(value)) if key.kind == FieldType::String => {
                    Some(FieldType::Map(Box::new(value)))
                }
                (Some(_), Some(_)) => {
                    wrong.push(Wrong::field(path, "the keys of a map must be strings, as in JSON"));
                    None
                }
                _ => None,
            }
        }
        "struct" => match data_type.get("subFields").and_then(Value::as_array) {
            Some(fields) if !fields.is_empty() => {
                let before = wrong.len();
                let fields = fields_of(fields, path, below, wrong);
                (wrong.len() == before).then_some(FieldType::Struct(fields))
            }
            _ => refuse("a struct needs \"subFields\"".to_owned()),
        },
        unknown => {
            let known: Vec<&str> = SIMPLE.iter().map(|(name, _)| *name).collect();
            let known = known.join(", ");
            refuse(format!("unknown type {unknown:?}, expected {known}, decimal, array, map or struct"))
        }
    }
}

fn decimal_of(data_type: &Value) -> Option<FieldType> {
    let number = |name: &str, default: u64| match data_type.get(name) {
        None | Some(Value::Null) => Some(default),
        Some(value) => value.as_u64(),
    };
    let precision = number("precision", DECIMAL_DEFAULT.0)?;
    let scale = number("scale", DECIMAL_DEFAULT.1.min(precision))?;
    if !(1..=DECIMAL_DIGITS_MAX).contains(&precision) || scale > precision {
        return None;
    }
    Some(FieldType::Decimal { precision: u8::try_from(precision).ok()?, scale: u8::try_from(scale).ok()? })
}

fn keys_of(names: Option<&Value>, fields: &[SchemaField], wrong: &mut Vec<Wrong>) -> Vec<String> {
    let names = match names {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(names)) => names,
        Some(_) => {
            wrong.push(Wrong::schema("\"keyFieldNames\" must be a list of field names"));
            return Vec::new();
        }
    };
    let mut keys: Vec<String> = Vec::new();
    for name in names {
        let Some(name) = name.as_str() else {
            wrong.push(Wrong::schema("\"keyFieldNames\" must be a list of field names"));
            continue;
        };
        if keys.iter().any(|key| key == name) {
            wrong.push(Wrong::schema(format!("duplicate key field '{name}'")));
        }
        match fields.iter().find(|field| field.name == name) {
            None => wrong.push(Wrong::schema(format!("key field '{name}' is not in the schema"))),
            Some(field) if !field.item.kind.may_be_key() => {
                let kind = field.item.kind.name();
                let message = format!("a field of type {kind} cannot be a key");
                wrong.push(Wrong::field(name, message));
            }
            Some(_) => {}
        }
        keys.push(name.to_owned());
    }
    keys
}

fn capture_of(
    capture: Option<&Value>,
    fields: &[SchemaField],
    keys: &[String],
    wrong: &mut Vec<Wrong>,
) -> Option<ChangeDataCapture> {
    let capture = capture.filter(|capture| !capture.is_null())?;
    if capture.get("type").and_then(Value::as_str) != Some("fullRow") {
        wrong.push(Wrong::capture("change data capture must have the type \"fullRow\""));
    }
    if keys.is_empty() {
        wrong.push(Wrong::capture(
            "change data capture needs \"keyFieldNames\" to tell which rows are the same",
        ));
    }
    let mut named = |name: &str, allowed: fn(&FieldType) -> bool, kinds: &str| {
        let Some(field) = capture.get(name).and_then(Value::as_str) else {
            wrong.push(Wrong::capture(format!("change data capture has no {name:?}")));
            return String::new();
        };
        match fields.iter().find(|known| known.name == field) {
            None => wrong.push(Wrong::capture(format!("{name} '{field}' is not in the schema"))),
            Some(known) if !allowed(&known.item.kind) => {
                let kind = known.item.kind.name();
                wrong.push(Wrong::capture(format!("{name} '{field}' must be {kinds}, not {kind}")));
            }
            Some(_) => {}
        }
        field.to_owned()
    };
    let deletion_field = named("deletionFieldName", |kind| *kind == FieldType::Boolean, "a boolean");
    let ordering = |kind: &FieldType| kind.may_be_key() && *kind != FieldType::Boolean;
    let ordering_field = named(
        "orderingFieldName",
        ordering,
        "a byte, date, decimal, integer, long, short, string or timestamp",
    );
    Some(ChangeDataCapture { deletion_field, ordering_field })
}
