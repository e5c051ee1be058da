//! `GET /v1/metrics/export`: the counts of jobs and tables as `OpenMetrics`, with the vendor's names.

use super::jobs;
use super::request::PolarisRequest;
use super::tally::Tally;
use crate::auth::Need;
use crate::contracts::Reply;
use crate::contracts::reject::Reject;
use http::{HeaderValue, StatusCode, header};
use std::collections::{BTreeMap, HashMap};

/// The region of all tables, which is this daemon.
const REGION: &str = "local";
const TYPE: &str = "push_streaming";
static OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Name, help text and value of a metric family.
type Family = (&'static str, &'static str, fn(&Tally) -> u64);

/// The values for one line of each event family.
struct Line {
    project: String,
    table: String,
    /// Empty for events that a table received without a job.
    job: String,
    tally: Tally,
}

pub(super) fn export(request: &PolarisRequest<'_>) -> Result<Reply, Reject> {
    request.require(Need::Metrics)?;
    let control = request.control();
    let progress = control.all_stream_progress()?;
    let counts: HashMap<_, _> = progress.iter().map(|progress| (progress.stream, progress.counts)).collect();
    let mut jobs_of: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut lines = Vec::new();
    // The counts of a table's jobs, to be subtracted from the table's own.
    let mut of_jobs: HashMap<String, Tally> = HashMap::new();
    for job in jobs::everywhere(request.polaris)? {
        let table = control.streams().find(&job.kept.table).cloned();
        let now = table.and_then(|table| counts.get(&table.id).map(Tally::from_counts));
        let tally = job.tally(now.as_ref());
        of_jobs.entry(job.kept.table.clone()).or_default().add(&tally);
        let (project, table) = (job.project.clone(), job.table_name().to_owned());
        if job.is_running() {
            let count = jobs_of.entry((project.clone(), table.clone())).or_default();
            *count = count.saturating_add(1);
        }
        lines.push(Line { project, table, job: job.id.clone(), tally });
    }
    for table in control.streams().all() {
        // A table made after the progress was read has stored nothing yet, and one without jobs nothing through them.
        let tally = counts.get(&table.id).map(Tally::from_counts).unwrap_or_default();
        let tally = tally.since(&of_jobs.get(&table.uuid).copied().unwrap_or_default());
        let project = table.settings.project.clone().unwrap_or_default();
        lines.push(Line { project, table: table.name.clone(), job: String::new(), tally });
    }
    let mut text = Vec::new();
    family(&mut text, "ingestion_job_count", "Running streaming ingestion jobs");
    for ((project, table), count) in &jobs_of {
        let labels = labels(project, table, "");
        text.push(format!("ingestion_job_count{{{labels}}} {count}"));
    }
    let families: [Family; 4] = [
        ("ingest_events_processed", "Events stored", |tally| {
            tally.processed.saturating_add(tally.with_warning)
        }),
        ("ingest_events_processedWithError", "Events stored with a value moved to _rescued", |tally| {
            tally.with_warning
        }),
        ("ingest_events_thrownAway", "Events quarantined because they were too late or too early", |tally| {
            tally.skipped_by_filter
        }),
        ("ingest_events_unparseable", "Events quarantined for another reason", |tally| {
            tally.skipped_by_error
        }),
    ];
    for (name, help, value) in families {
        family(&mut text, name, help);
        for line in &lines {
            let labels = labels(&line.project, &line.table, &line.job);
            text.push(format!("{name}{{{labels}}} {}", value(&line.tally)));
        }
    }
    text.push("# EOF\n".to_owned());
    let headers = vec![(header::CONTENT_TYPE, OPEN_METRICS.clone())];
    Ok(Reply { status: StatusCode::OK, headers, body: text.join("\n").into() })
}

fn family(text: &mut Vec<String>, name: &str, help: &str) {
    text.push(format!("# TYPE {name} gauge"));
    text.push(format!("# HELP {name} {help}"));
}

fn labels(project: &str, table: &str, job: &str) -> String {
    let labels =
        [("project_id", project), ("region", REGION), ("table", table), ("type", TYPE), ("job_id", job)];
    let said = labels.iter().filter(|(_, value)| !value.is_empty());
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<String> = said.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    labels.join(",")
}
