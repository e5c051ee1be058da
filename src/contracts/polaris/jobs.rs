//! The jobs routes. A job routes the events of a connection to a table. Its settings for columns and times are applied
//! to the table, which has at most one running job; the routing itself is in [`Feeds`](super::feeds::Feeds).

use super::fields::{self, RequestFields, wrong};
use super::job::Spec;
use super::request::PolarisRequest;
use super::table::{TableMetadata, check_name};
use super::tally::Tally;
use super::{CATALOG_NAME, Polaris, TIME, connections, reply, tables, types};
use crate::auth::Need;
use crate::catalog::{Alter, CatalogError, IfExists, NewStream, Stream};
use crate::clock::Micros;
use crate::contracts::Reply;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::collection::{Collection, Document};
use crate::contracts::shared::control::Control;
use crate::schema::{Change, Policy, StreamSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The most log entries of a job; the oldest are dropped.
const LOG_ENTRIES_MAX: usize = 100;

/// The state of a job that the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Desired {
    Running,
    Suspended,
    Canceled,
}

impl Desired {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Canceled => "canceled",
        }
    }
}

/// One log entry of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobLogEntry {
    pub(super) at: Micros,
    pub(super) code: String,
    pub(super) message: String,
}

/// The stored part of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredJob {
    /// The job as the client sent it.
    pub(super) spec: Value,
    /// The table's id, because a later table of the same name is a different one.
    pub(super) table: String,
    pub(super) desired: Desired,
    pub(super) created_by: Value,
    pub(super) modified_by: Value,
    pub(super) completed_at: Option<Micros>,
    /// The table's counts when the job began.
    pub(super) before: Tally,
    /// The table's counts when the job ended.
    pub(super) after: Option<Tally>,
    pub(super) log: Vec<JobLogEntry>,
}

#[derive(Debug, Clone)]
pub(super) struct PolarisJob {
    pub(super) id: String,
    pub(super) project: String,
    pub(super) kept: StoredJob,
    pub(super) created_at: Micros,
    pub(super) updated_at: Micros,
}

impl PolarisJob {
    fn from_document(project: &str, document: Document<StoredJob>) -> Self {
        let Document { name, value, created_at, updated_at, .. } = document;
        Self { id: name, project: project.to_owned(), kept: value, created_at, updated_at }
    }

    /// A text field of the job as the client sent it. It was checked on arrival.
    fn said(&self, pointer: &str) -> &str {
        self.kept.spec.pointer(pointer).and_then(Value::as_str).unwrap_or("")
    }

    /// The name of the user who created the job.
    pub(super) fn creator(&self) -> &str {
        self.kept.created_by.get("username").and_then(Value::as_str).unwrap_or("")
    }

    pub(super) fn connection(&self) -> &str {
        self.said("/source/connectionName")
    }

    pub(super) fn table_name(&self) -> &str {
        self.said("/target/tableName")
    }

    pub(super) fn is_running(&self) -> bool {
        self.kept.desired == Desired::Running
    }

    /// The job's own counts so far.
    pub(super) fn tally(&self, now: Option<&Tally>) -> Tally {
        let until = self.kept.after.as_ref().or(now);
        until.map_or_else(Tally::default, |until| until.since(&self.kept.before))
    }

    fn note(&mut self, at: Micros, code: &str, message: String) {
        let excess = self.kept.log.len().saturating_add(1).saturating_sub(LOG_ENTRIES_MAX);
        self.kept.log.drain(..excess);
        self.kept.log.push(JobLogEntry { at, code: code.to_owned(), message });
    }
}

/// The jobs by project and id.
pub(super) type JobStore = Collection<StoredJob>;

pub(super) fn store(control: &Arc<Control>) -> JobStore {
    Collection::new(Arc::clone(control), CATALOG_NAME, "job")
}

/// All jobs of the project, the oldest first.
pub(super) fn all(request: &PolarisRequest<'_>) -> Result<Vec<PolarisJob>, Reject> {
    let found = request.polaris.jobs.all(request.project())?;
    Ok(found.into_iter().map(|document| PolarisJob::from_document(request.project(), document)).collect())
}

/// Every job of every project.
pub(super) fn everywhere(polaris: &Polaris) -> Result<Vec<PolarisJob>, CatalogError> {
    let found = polaris.jobs.everywhere()?;
    Ok(found.into_iter().map(|(project, document)| PolarisJob::from_document(&project, document)).collect())
}

pub(super) fn running(request: &PolarisRequest<'_>) -> Result<Vec<PolarisJob>, Reject> {
    Ok(all(request)?.into_iter().filter(PolarisJob::is_running).collect())
}

pub(super) fn find(request: &PolarisRequest<'_>, id: &str) -> Result<PolarisJob, Reject> {
    let found = request.polaris.jobs.get(request.project(), id)?;
    let job = found.map(|document| PolarisJob::from_document(request.project(), document));
    job.ok_or_else(|| Reject::new(RejectKind::NotFound, format!("The job {id:?} does not exist")))
}

/// Updates the routing of every connection. Called at startup and after each change.
pub(super) fn load(polaris: &Polaris) -> Result<(), CatalogError> {
    let connections = polaris.connections.readable()?;
    let jobs = polaris.jobs.readable()?.into_iter();
    let jobs: Vec<PolarisJob> =
        jobs.map(|(project, document)| PolarisJob::from_document(&project, document)).collect();
    let streams = polaris.control.streams();
    polaris.feeds.replace(connections.into_iter().map(|(project, connection)| {
        let of_it = |job: &&PolarisJob| {
            job.is_running() && job.project == project && job.connection() == connection.name
        };
        let tables = jobs.iter().filter(of_it).filter_map(|job| streams.find(&job.kept.table));
        let tables = tables.map(|stream| stream.id).collect();
        (project, connection.name, tables)
    }));
    Ok(())
}

pub(super) fn create(request: &PolarisRequest<'_>) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let body = fields::parse(request.call)?;
    let spec = Spec::parse(&body)?;
    let _change = request.control().change();
    let connection = connections::find(request, &spec.connection);
    connection.map_err(|reject| wrong(reject.external.into_owned()))?;
    let held = request.control().streams().find(&spec.connection).cloned();
    if spec.from_earliest && held.is_some() {
        return Err(wrong(format!(
            "\"readFromPoint\": \"earliest\" is not supported for a connection that already received events; they are \
             in the table {:?}",
            spec.connection
        )));
    }
    let running = running(request)?;
    let replaced = running.into_iter().find(|job| job.table_name() == spec.table);
    if let Some(job) = replaced.as_ref().filter(|_| !spec.replace_running) {
        let message = format!(
            "the table {:?} already has the running job {}; cancel or replace it",
            spec.table, job.id
        );
        return Err(wrong(message));
    }
    let table = match request.control().streams().find(&spec.table).cloned() {
        Some(table) if request.sees(&table) => prepare(request, &table, &spec)?,
        Some(_) => return Err(wrong(format!("The table {:?} belongs to another project", spec.table))),
        None if spec.create_table => make(request, &spec, &body)?,
        None => return Err(wrong(format!("The table {:?} does not exist", spec.table))),
    };
    if let Some(job) = replaced {
        end(request, job, "replaced by a new job")?;
    }
    let user = request.user();
    let now = request.control().clock.now();
    let mut job = PolarisJob {
        id: request.control().new_id(),
        project: request.project().to_owned(),
        kept: StoredJob {
            spec: body,
            table: table.uuid.clone(),
            desired: Desired::Running,
            created_by: user.clone(),
            modified_by: user,
            completed_at: None,
            before: Tally::from_counts(&tables::counts(request, &table)?),
            after: None,
            log: Vec::new(),
        },
        created_at: now,
        updated_at: now,
    };
    job.note(now, "created", format!("events of {:?} are written to {:?}", spec.connection, spec.table));
    let made = request.polaris.jobs.create(&job.project, &job.id, &job.kept);
    let made = made.map_err(|error| Reject::internal(&error))?;
    (job.created_at, job.updated_at) = (made.created_at, made.updated_at);
    load(request.polaris)?;
    let location = format!("/v1/projects/{}/jobs/{}", job.project, job.id);
    Ok(reply::created(&location, &super::jobs_shown::whole(request, &job)?))
}

/// Applies the settings of a job to an existing table.
fn prepare(request: &PolarisRequest<'_>, table: &Stream, spec: &Spec) -> Result<Arc<Stream>, Reject> {
    let about = TableMetadata::from_stream(table)?;
    let mut known = table.schema.columns.clone();
    if !known.iter().any(|column| column.name == TIME) {
        known.insert(0, types::time());
    }
    if spec.discover && !about.flexible {
        return Err(wrong(format!(
            "\"useSchemaDiscovery\" is not supported: the table {:?} is strict",
            spec.table
        )));
    }
    let time = Some(tables::time_rule(Some(spec.late), Some(spec.early)));
    let settings = StreamSettings { time, ..(*table.settings).clone() };
    let mut alter = Alter {
        policy: Some(tables::policy(spec.discover)),
        columns: Some(spec.columns(&known, about.flexible)?),
        settings: Some(settings),
        force: false,
    };
    let control = request.control();
    // A mapping may move a column to another field; that is its purpose. Other changes must not lose data.
    let changes = control.changes(table.id, None, &alter).map_err(tables::refused)?;
    alter.force =
        !changes.iter().any(|change| change.loses_data() && !matches!(change, Change::Moved { .. }));
    control.alter_stream(table.id, None, &alter).map_err(tables::refused)
}

fn make(request: &PolarisRequest<'_>, spec: &Spec, body: &Value) -> Result<Arc<Stream>, Reject> {
    check_name(&spec.table)?;
    let job = RequestFields::from_value(body, "the job")?;
    let user = request.user();
    let mut about =
        TableMetadata { flexible: spec.discover, created_by: Some(user.clone()), ..TableMetadata::default() };
    about.modified_by = Some(user);
    if let Some(granularity) = job.text("partitionedBy")? {
        granularity.clone_into(&mut about.partitioning_granularity);
    }
    about.clustering_columns = job.texts("clusteringColumns")?.into_iter().map(str::to_owned).collect();
    let settings = tables::settings(request, "", &about);
    let time = Some(tables::time_rule(Some(spec.late), Some(spec.early)));
    let made = request.control().create_stream(NewStream {
        name: spec.table.clone(),
        policy: if spec.discover { Policy::Evolve } else { Policy::Strict },
        columns: spec.columns(&[], true)?,
        settings: StreamSettings { time, ..settings },
        if_exists: IfExists::Error,
    });
    made.map_err(tables::refused)
}

/// Changes the desired state of a job.
pub(super) fn update(request: &PolarisRequest<'_>, id: &str) -> Result<PolarisJob, Reject> {
    request.require(Need::Create)?;
    let body = fields::parse(request.call)?;
    let fields = RequestFields::from_value(&body, "the change")?.only(&["desiredExecutionStatus"])?;
    let wanted = fields.required("desiredExecutionStatus")?;
    let _change = request.control().change();
    let mut job = find(request, id)?;
    let desired = match wanted {
        "running" => Desired::Running,
        "suspended" => Desired::Suspended,
        "canceled" => Desired::Canceled,
        other => {
            return Err(wrong(format!(
                "\"desiredExecutionStatus\" must be running, suspended or canceled, not {other:?}"
            )));
        }
    };
    match (job.kept.desired, desired) {
        (Desired::Canceled, Desired::Canceled) => return Ok(job),
        (Desired::Canceled, _) => return Err(wrong("a canceled job cannot be run again")),
        (_, Desired::Canceled) => return end(request, job, "canceled"),
        (Desired::Suspended, Desired::Running) => {
            let running = running(request)?;
            let taken = running.into_iter().find(|other| other.table_name() == job.table_name());
            if let Some(other) = taken {
                return Err(wrong(format!(
                    "the table {:?} already has the running job {}",
                    job.table_name(),
                    other.id
                )));
            }
        }
        _ => {}
    }
    job.kept.desired = desired;
    job.note(request.control().clock.now(), desired.name(), format!("the job is {}", desired.name()));
    save(request, job)
}

/// Ends a job permanently.
fn end(request: &PolarisRequest<'_>, mut job: PolarisJob, message: &str) -> Result<PolarisJob, Reject> {
    let now = request.control().clock.now();
    job.kept.desired = Desired::Canceled;
    job.kept.completed_at = Some(now);
    job.kept.after = now_of(request, &job)?;
    job.note(now, "canceled", message.to_owned());
    save(request, job)
}

/// Resets the counts of a job.
pub(super) fn reset(request: &PolarisRequest<'_>, id: &str) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let _change = request.control().change();
    let mut job = find(request, id)?;
    // Without its table, the job counts nothing.
    job.kept.before = now_of(request, &job)?.unwrap_or_default();
    job.note(request.control().clock.now(), "reset", "the counts of the job were reset".to_owned());
    save(request, job)?;
    Ok(reply::empty())
}

/// The current counts of the job's table; `None` if the table was deleted.
pub(super) fn now_of(request: &PolarisRequest<'_>, job: &PolarisJob) -> Result<Option<Tally>, Reject> {
    let table = request.control().streams().find(&job.kept.table).cloned();
    table.map(|table| Ok(Tally::from_counts(&tables::counts(request, &table)?))).transpose()
}

fn save(request: &PolarisRequest<'_>, mut job: PolarisJob) -> Result<PolarisJob, Reject> {
    job.kept.modified_by = request.user();
    let stored = request.polaris.jobs.replace(&job.project, &job.id, None, &job.kept);
    job.updated_at = stored.map_err(|error| Reject::internal(&error))?.updated_at;
    load(request.polaris)?;
    Ok(job)
}
