//! Parses and checks a job as a client sends it. Plain data, without I/O.

use super::expression::{ColumnSource, Conversion};
use super::fields::{RequestFields, wrong};
use super::{TIME, period, table, types};
use crate::contracts::reject::Reject;
use crate::schema::{Column, ColumnType};
use serde_json::Value;

/// The contract's defaults.
const LATE: &str = "P30D";
const EARLY: &str = "P2000D";
/// The value that means a job never fails because of events that cannot be parsed. In Forebay it never does.
const PARSE_EXCEPTIONS: u64 = 2_147_483_647;

const FIELDS: [&str; 17] = [
    "type",
    "source",
    "target",
    "createTableIfNotExists",
    "mappings",
    "readFromPoint",
    "lateMessageRejectionPeriod",
    "earlyMessageRejectionPeriod",
    "maxParseExceptions",
    "useSchemaDiscovery",
    "replaceRunning",
    "filterExpression",
    "dimensionExclusions",
    "enableUpserts",
    "upsertKeyColumns",
    "upsertVersionColumn",
    "clusteringColumns",
];
/// Fields that some clients always send, and that have no effect here.
const MORE_FIELDS: [&str; 2] = ["partitionedBy", "desiredExecutionStatus"];

/// A streaming job, which writes the events of a connection to a table.
#[expect(clippy::struct_excessive_bools, reason = "they are the contract's flags")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) connection: String,
    pub(super) table: String,
    pub(super) create_table: bool,
    pub(super) replace_running: bool,
    /// Includes events that arrived before the job.
    pub(super) from_earliest: bool,
    /// Fields without a mapping become columns.
    pub(super) discover: bool,
    /// Seconds.
    pub(super) late: u64,
    pub(super) early: u64,
    /// Columns and the sources of their values.
    mappings: Vec<(String, ColumnSource)>,
    /// Fields and their data types.
    input: Vec<(String, String)>,
}

impl Spec {
    pub(super) fn parse(body: &Value) -> Result<Self, Reject> {
        let fields = RequestFields::from_value(body, "the job")?;
        match fields.required("type")? {
            "streaming" => {}
            other => {
                return Err(wrong(format!("jobs of type {other:?} are not supported; use \"streaming\"")));
            }
        }
        let known: Vec<&str> = FIELDS.iter().chain(&MORE_FIELDS).copied().collect();
        let fields = fields.only(&known)?;
        refuse_unsupported(fields)?;
        let source = fields.get("source").ok_or_else(|| wrong("the job has no \"source\""))?;
        let source = RequestFields::from_value(source, "the job's source")?;
        let source = source.only(&["type", "connectionName", "formatSettings", "inputSchema"])?;
        if source.required("type")? != "connection" {
            return Err(wrong("the source of a streaming job must be a \"connection\""));
        }
        if let Some(format) = source.get("formatSettings") {
            let format = RequestFields::from_value(format, "the source's formatSettings")?;
            match format.required("format")? {
                "nd-json" if format.get("flattenSpec").is_none() => {}
                "nd-json" => {
                    return Err(wrong("a flattenSpec is not supported: use JSON_VALUE in a mapping"));
                }
                other => {
                    return Err(wrong(format!("the format {other:?} is not supported; use \"nd-json\"")));
                }
            }
        }
        let target = fields.get("target").ok_or_else(|| wrong("the job has no \"target\""))?;
        let target = RequestFields::from_value(target, "the job's target")?.only(&[
            "type",
            "tableName",
            "intervals",
        ])?;
        if target.required("type")? != "table" || !target.list("intervals")?.is_empty() {
            return Err(wrong("the target of a streaming job must be a \"table\" without intervals"));
        }
        let mappings = mappings(fields)?;
        let seconds = |key, default| period::seconds(fields.text(key)?.unwrap_or(default)).map_err(wrong);
        Ok(Self {
            connection: source.required("connectionName")?.to_owned(),
            table: target.required("tableName")?.to_owned(),
            create_table: fields.flag("createTableIfNotExists")?,
            replace_running: fields.flag("replaceRunning")?,
            from_earliest: fields.word("readFromPoint", &["latest", "earliest"])? == "earliest",
            discover: fields.flag("useSchemaDiscovery")?,
            late: seconds("lateMessageRejectionPeriod", LATE)?,
            early: seconds("earlyMessageRejectionPeriod", EARLY)?,
            mappings,
            input: input_schema(source)?,
        })
    }

    /// The table's columns under this job: the existing columns with the sources of the mappings, and new columns if
    /// the table accepts them.
    pub(super) fn columns(&self, known: &[Column], takes_new: bool) -> Result<Vec<Column>, Reject> {
        let mut columns = known.to_vec();
        for (name, source) in &self.mappings {
            match columns.iter_mut().find(|column| column.name == *name) {
                Some(column) => place(column, source)?,
                None if takes_new => {
                    let mut column = self.new_column(name, source)?;
                    place(&mut column, source)?;
                    columns.push(column);
                }
                None => {
                    let message =
                        format!("mappings: the table has no column {name:?} and accepts no new columns");
                    return Err(wrong(message));
                }
            }
        }
        Ok(columns)
    }

    fn new_column(&self, name: &str, source: &ColumnSource) -> Result<Column, Reject> {
        let said =
            self.input.iter().find(|(field, _)| field == source.field()).map(|(_, kind)| kind.as_str());
        let data_type = match &source.reading {
            Conversion::Iso | Conversion::Epoch(_) => "timestamp",
            Conversion::AsItIs if name == TIME => "timestamp",
            Conversion::AsItIs if source.path.len() > 1 => "string",
            Conversion::AsItIs => said.ok_or_else(|| {
                wrong(format!("inputSchema has no type for {:?}, the source of {name:?}", source.field()))
            })?,
            Conversion::Cast(sql_type) => types::of_sql(sql_type).ok_or_else(|| {
                wrong(format!("mapping of {name:?}: cannot cast to the unknown type {sql_type:?}"))
            })?,
        };
        types::column(name, data_type).map_err(wrong)
    }
}

/// Refuses unsupported fields that would change what is stored. They must not be ignored silently.
fn refuse_unsupported(fields: RequestFields<'_>) -> Result<(), Reject> {
    let given =
        |key| fields.get(key).is_some_and(|value| !matches!(value, Value::Bool(false)) && *value != "");
    for (key, instead) in [
        ("filterExpression", "all events of a connection are stored"),
        ("enableUpserts", "rows are added, never replaced"),
        ("upsertVersionColumn", "rows are added, never replaced"),
    ] {
        if given(key) {
            return Err(wrong(format!("{key:?} is not supported: {instead}")));
        }
    }
    for (key, instead) in [
        ("dimensionExclusions", "turn off useSchemaDiscovery and map the fields to store"),
        ("upsertKeyColumns", "rows are added, never replaced"),
    ] {
        if !fields.list(key)?.is_empty() {
            return Err(wrong(format!("{key:?} is not supported: {instead}")));
        }
    }
    if fields.number("maxParseExceptions")?.is_some_and(|max| max < PARSE_EXCEPTIONS) {
        return Err(wrong(
            "\"maxParseExceptions\" is not supported: a job never fails because of events that cannot be parsed; they \
             go to the quarantine table",
        ));
    }
    Ok(())
}

fn mappings(fields: RequestFields<'_>) -> Result<Vec<(String, ColumnSource)>, Reject> {
    let mut mappings: Vec<(String, ColumnSource)> = Vec::new();
    for mapping in fields.list("mappings")? {
        let mapping = RequestFields::from_value(mapping, "a mapping")?.only(&[
            "columnName",
            "expression",
            "isAggregation",
        ])?;
        let name = mapping.required("columnName")?;
        table::check_column_name(name)?;
        let source = ColumnSource::parse(mapping.required("expression")?);
        let source = source.map_err(|error| wrong(format!("mapping of {name:?}: {error}")))?;
        if mapping.flag("isAggregation")? {
            return Err(wrong(format!("mapping of {name:?}: events are stored as received, not aggregated")));
        }
        if mappings.iter().any(|(known, _)| known == name) {
            return Err(wrong(format!("the column {name:?} is mapped twice")));
        }
        mappings.push((name.to_owned(), source));
    }
    if !mappings.iter().any(|(name, _)| name == TIME) {
        return Err(wrong(format!("mappings must have an entry for {TIME:?}")));
    }
    Ok(mappings)
}

fn input_schema(source: RequestFields<'_>) -> Result<Vec<(String, String)>, Reject> {
    let field = |field: &Value| {
        let field =
            RequestFields::from_value(field, "a field of inputSchema")?.only(&["name", "dataType"])?;
        Ok((field.required("name")?.to_owned(), field.required("dataType")?.to_owned()))
    };
    source.list("inputSchema")?.iter().map(field).collect()
}

/// Sets the source of a column's values to that of its mapping.
fn place(column: &mut Column, source: &ColumnSource) -> Result<(), Reject> {
    let is_time = column.kind == ColumnType::Timestamp;
    let fits = match &source.reading {
        Conversion::AsItIs => true,
        Conversion::Iso | Conversion::Epoch(_) => is_time,
        Conversion::Cast(sql_type) => types::is_cast_to(sql_type, &column.kind),
    };
    if !fits {
        let (name, data_type) = (&column.name, types::data_type(column));
        return Err(wrong(format!(
            "mapping of {name:?}: the column is {data_type}, but the expression is not"
        )));
    }
    let own = source.path.as_slice() == std::slice::from_ref(&column.name);
    column.path = (!own).then(|| source.path.clone());
    if let Conversion::Epoch(digits) = source.reading {
        column.epoch_digits = Some(digits);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> Value {
        json!({
            "type": "streaming",
            "source": {
                "type": "connection",
                "connectionName": "demo",
                "formatSettings": {"format": "nd-json"},
                "inputSchema": [{"dataType": "string", "name": "__time"}, {"dataType": "long", "name": "n"}],
            },
            "target": {"type": "table", "tableName": "t"},
            "createTableIfNotExists": true,
            "mappings": [
                {"columnName": "__time", "expression": "TIME_PARSE(\"ts\")"},
                {"columnName": "count", "expression": "\"n\""},
            ],
            "readFromPoint": "latest",
            "maxParseExceptions": 2_147_483_647,
            "useSchemaDiscovery": false,
        })
    }

    #[test]
    fn a_job_is_understood() {
        let spec = Spec::parse(&spec()).unwrap();
        assert_eq!((spec.connection.as_str(), spec.table.as_str()), ("demo", "t"));
        assert_eq!((spec.late, spec.early), (30 * 86_400, 2_000 * 86_400));
        let time = types::column(TIME, "timestamp").unwrap();
        let columns = spec.columns(std::slice::from_ref(&time), true).unwrap();
        let found: Vec<_> =
            columns.iter().map(|c| (c.name.as_str(), c.kind.name(), c.keys().join("."))).collect();
        assert_eq!(
            found,
            [
                ("__time", "timestamp".to_owned(), "ts".to_owned()),
                ("count", "int64".to_owned(), "n".to_owned())
            ]
        );
        assert!(spec.columns(&[time], false).is_err(), "a strict table takes no new column");
    }

    #[test]
    fn what_is_not_done_is_refused() {
        let refused = |change: fn(&mut Value)| {
            let mut spec = spec();
            change(&mut spec);
            Spec::parse(&spec).unwrap_err().external.into_owned()
        };
        assert!(refused(|s| s["type"] = "batch".into()).contains("batch"));
        assert!(refused(|s| s["filterExpression"] = "\"a\" > 1".into()).contains("filterExpression"));
        assert!(refused(|s| s["enableUpserts"] = true.into()).contains("enableUpserts"));
        assert!(refused(|s| s["dimensionExclusions"] = json!(["a"])).contains("dimensionExclusions"));
        assert!(refused(|s| s["maxParseExceptions"] = 3.into()).contains("maxParseExceptions"));
        assert!(refused(|s| s["source"]["type"] = "s3".into()).contains("connection"));
        assert!(refused(|s| s["source"]["formatSettings"]["format"] = "csv".into()).contains("csv"));
        assert!(refused(|s| s["target"]["intervals"] = json!(["a/b"])).contains("intervals"));
        assert!(refused(|s| s["mappings"] = json!([])).contains("__time"));
        assert!(refused(|s| s["lateMessageRejectionPeriod"] = "P1M".into()).contains("P1M"));
        assert!(refused(|s| s["unknown"] = 1.into()).contains("unknown"));
        assert!(refused(|s| s["mappings"][1]["expression"] = "SUM(\"n\")".into()).contains("SUM"));
        assert!(refused(|s| s["mappings"][1]["columnName"] = "__time".into()).contains("twice"));
    }
}
