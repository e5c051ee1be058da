//! `POST /v0/analyze`: describes a sample before a data source is created from it. Also infers the schema of a data
//! source that is created from its first records.
#![deny(clippy::wildcard_enum_match_arm)]

use super::upload::Upload;
use super::{Tinybird, csv, put, schema, types};
use crate::batch::BodyKind;
use crate::columns::sample::{Integers, Sample, SampleField, SampleLimits};
use crate::contracts::Call;
use crate::contracts::reject::{Reject, RejectKind};
use crate::formats::json::kind_of;
use crate::schema::{Column, ColumnType};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// The most records of a sample to inspect.
const RECORDS_MAX: u64 = 1_000_000;

/// Records, no matter in which format they were sent.
pub(super) struct SampleRecords {
    pub(super) body: Bytes,
    pub(super) kind: BodyKind,
}

/// The format of an upload's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Ndjson,
}

impl Format {
    /// The contract's type of a data source that was created from this format.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }

    /// The format that the request names.
    pub(super) fn from_upload(upload: &Upload) -> Result<Option<Self>, Reject> {
        match upload.get("format") {
            None => Ok(None),
            Some("csv") => Ok(Some(Self::Csv)),
            Some("ndjson" | "json" | "jsonl") => Ok(Some(Self::Ndjson)),
            Some("parquet") => Err(Reject::malformed(
                "format=parquet is not supported: send ndjson or csv, or copy the files to the destination",
            )),
            Some(other) => {
                Err(Reject::malformed(format!("format '{other}' is not supported; use 'csv' or 'ndjson'")))
            }
        }
    }

    /// Guesses the format from the data: records begin with a bracket, a line of CSV rarely does.
    pub(super) fn looks(data: &[u8]) -> Self {
        let data = data.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(data);
        match data.trim_ascii_start().first() {
            Some(b'{' | b'[') => Self::Ndjson,
            _ => Self::Csv,
        }
    }
}

pub(super) fn notation(upload: &Upload) -> Result<csv::Notation, Reject> {
    let one = |name: &str| match upload.get(name).map(|text| (text, text.as_bytes())) {
        None => Ok(None),
        Some(("\\t", _)) => Ok(Some(b'\t')),
        Some((_, [byte])) if byte.is_ascii() => Ok(Some(*byte)),
        Some((text, _)) => Err(Reject::malformed(format!("'{name}' must be one character, not '{text}'"))),
    };
    match upload.get("dialect_new_line") {
        None | Some("\n" | "\r\n" | "\\n" | "\\r\\n") => {}
        Some(other) => {
            return Err(Reject::malformed(format!("'dialect_new_line' must be a line feed, not {other:?}")));
        }
    }
    Ok(csv::Notation {
        delimiter: one("dialect_delimiter")?.unwrap_or(b','),
        escape: one("dialect_escapechar")?,
    })
}

/// Refuses `url`. The client can send the same data itself, and a server that fetches arbitrary URLs opens the network
/// behind it to its clients.
pub(super) fn refuse_url(upload: &Upload) -> Result<(), Reject> {
    match upload.get("url") {
        None => Ok(()),
        Some(_) => Err(Reject::malformed(
            "'url' is not supported: Forebay does not fetch URLs, send the data itself",
        )),
    }
}

pub(super) fn analyze(tinybird: &Tinybird, call: &Call<'_>) -> Result<Value, Reject> {
    let upload = Upload::from_call(call)?;
    refuse_url(&upload)?;
    let data = upload
        .data
        .as_ref()
        .ok_or_else(|| Reject::malformed("The request has no sample: send it as 'file' or as the body"))?;
    let (format, notation) =
        (Format::from_upload(&upload)?.unwrap_or_else(|| Format::looks(data)), notation(&upload)?);
    let body = match format {
        Format::Ndjson => data.clone(),
        Format::Csv => csv::guessed(data, notation, call.decoded_max)?.into(),
    };
    let kind = kind_of(body.iter(), BodyKind::Lines);
    let sample = sample(&body, kind, RECORDS_MAX, tinybird.control.columns_max())?;
    let fields = sample.flat().map_err(|error| Reject::malformed(error.to_string()))?;
    let columns = named(&fields);
    let shown: Vec<Value> = columns.iter().map(|(name, field)| column(name, field, sample.records)).collect();
    let schema: Vec<String> =
        columns.iter().map(|(name, field)| declaration(name, field, sample.records)).collect();
    let meta: Vec<Value> =
        columns.iter().map(|(name, field)| json!({"name": name, "type": recommended(field)})).collect();
    let data: Vec<Value> = sample.first.iter().map(|record| preview(record, &columns)).collect();
    let mut answer = json!({
        "analysis": {"columns": shown, "schema": schema.join(", ")},
        "preview": {"meta": meta, "data": data, "rows": data.len()},
    });
    if format == Format::Csv {
        let delimiter = char::from(notation.delimiter).to_string();
        put(&mut answer, "dialect", json!({"delimiter": delimiter, "new_line": "\n"}));
    }
    Ok(answer)
}

pub(super) fn sample(body: &[u8], kind: BodyKind, records: u64, fields: usize) -> Result<Sample<'_>, Reject> {
    Sample::read(body, kind, SampleLimits { records, fields })
        .map_err(|error| Reject::malformed(error.to_string()))
}

/// The fields with their column names: `a_b` for `$.a.b`.
fn named(fields: &[SampleField]) -> Vec<(String, &SampleField)> {
    let mut taken: HashSet<String> = HashSet::new();
    let name = |field: &SampleField| {
        let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
        let mut name: String = field.path.join("_").chars().map(plain).take(200).collect();
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            name.insert(0, '_');
        }
        if crate::schema::system::is_reserved(&name) {
            name.push('_');
        }
        let mut unique = name.clone();
        let mut n = 2_u32;
        while !taken.insert(unique.clone()) {
            unique = format!("{name}_{n}");
            n = n.saturating_add(1);
        }
        unique
    };
    fields.iter().map(name).zip(fields).collect()
}

fn column(name: &str, field: &SampleField, records: u64) -> Value {
    let list = matches!(field.kind, ColumnType::List(_));
    let path = schema::path_text(&field.path);
    json!({
        "path": if list { format!("{path}[:]") } else { path },
        "recommended_type": recommended(field),
        "present_pct": field.present as f64 / records.max(1) as f64,
        "name": name,
    })
}

/// The narrowest type that holds the sample, as in the contract's analysis.
fn recommended(field: &SampleField) -> String {
    let kind = integers(&field.kind, || match field.integers {
        Integers { unsigned: true, .. } => ColumnType::UInt64,
        Integers { min, max, .. } if i16::try_from(min).is_ok() && i16::try_from(max).is_ok() => {
            ColumnType::Int16
        }
        Integers { min, max, .. } if i32::try_from(min).is_ok() && i32::try_from(max).is_ok() => {
            ColumnType::Int32
        }
        _ => ColumnType::Int64,
    });
    let digits = match field.second_digits {
        0 => 0,
        1..=3 => 3,
        4..=6 => 6,
        _ => 9,
    };
    types::name(&text_for_objects(kind), Some(digits))
}

/// In this contract, a list of objects is a list of their JSON texts.
fn text_for_objects(kind: ColumnType) -> ColumnType {
    let ColumnType::List(item) = kind else { return kind };
    let is_object = matches!(*item, ColumnType::Struct(_) | ColumnType::Json);
    ColumnType::List(Box::new(if is_object { ColumnType::String } else { text_for_objects(*item) }))
}

/// Replaces integer types, also within lists, with the type that `of` returns.
fn integers(kind: &ColumnType, of: impl Fn() -> ColumnType + Copy) -> ColumnType {
    if let ColumnType::List(item) = kind {
        return ColumnType::List(Box::new(integers(item, of)));
    }
    if *kind == ColumnType::Int64 { of() } else { kind.clone() }
}

fn declaration(name: &str, field: &SampleField, records: u64) -> String {
    let list = matches!(field.kind, ColumnType::List(_));
    let path = schema::path_text(&field.path);
    let kind = recommended(field);
    let always = field.present == records;
    match (always, list) {
        (true, false) => format!("{name} {kind} `json:{path}`"),
        (false, false) => format!("{name} Nullable({kind}) `json:{path}`"),
        (true, true) => format!("{name} {kind} `json:{path}[:]`"),
        // A list cannot be null; a missing list is empty.
        (false, true) => format!("{name} {kind} `json:{path}[:]` DEFAULT []"),
    }
}

/// The columns that a data source gets from its first records. The types are wide, because nobody chose them.
pub(super) fn columns(sample: &Sample<'_>) -> Result<Vec<Column>, Reject> {
    let fields = sample.flat().map_err(|error| Reject::malformed(error.to_string()))?;
    let mut has_time = false;
    let columns = named(&fields).into_iter().map(|(name, field)| {
        let wide = || if field.integers.unsigned { ColumnType::UInt64 } else { ColumnType::Int64 };
        let kind = text_for_objects(integers(&field.kind, wide));
        // Tables are sorted by the time of the event, so the first timestamp that is always present is not nullable.
        let epoch_digits =
            (kind == ColumnType::Timestamp).then_some(if field.second_digits > 3 { 6 } else { 3 });
        let path = (field.path.len() != 1 || field.path.first() != Some(&name)).then(|| field.path.clone());
        let time = !has_time && kind == ColumnType::Timestamp && field.present == sample.records;
        has_time |= time;
        Column { nullable: !time, path, epoch_digits, ..Column::new(name, kind) }
    });
    Ok(columns.collect())
}

/// A record as a row of the columns.
fn preview(record: &[u8], columns: &[(String, &SampleField)]) -> Value {
    // A record may have a number out of this parser's range. It is then shown as empty.
    let record: Value = serde_json::from_slice(record).unwrap_or(Value::Null);
    let value =
        |field: &SampleField| field.path.iter().try_fold(&record, |value, key| value.get(key)).cloned();
    let row: Map<String, Value> =
        columns.iter().map(|(name, field)| (name.clone(), value(field).unwrap_or(Value::Null))).collect();
    Value::Object(row)
}

/// The records of an upload for an existing data source.
pub(super) fn records(
    data: &Bytes,
    format: Format,
    columns: &[Column],
    notation: csv::Notation,
    bytes_max: u64,
) -> Result<SampleRecords, Reject> {
    let body: Bytes = match format {
        Format::Ndjson => data.clone(),
        Format::Csv if columns.is_empty() => csv::guessed(data, notation, bytes_max)?.into(),
        Format::Csv => csv::records(data, columns, notation, bytes_max)?.into(),
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Reject::new(RejectKind::Malformed, "The data has no records"));
    }
    let kind = kind_of(body.iter(), BodyKind::Lines);
    Ok(SampleRecords { body, kind })
}
