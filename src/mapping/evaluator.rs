//! Evaluates mappings for requests: paths in this process, templates in worker processes.

use super::message::{encode_check, encode_evaluation};
use super::metrics::MappingMetrics;
use super::pool::{Cause, EvaluatorSettings, EvaluatorTask, TemplateValues, Trouble, WorkerPool};
use super::process::Ending;
use super::{
    Body, CheckError, ColumnKind, Evaluated, MappedColumn, Mapping, MappingFailure, MappingRequest, ROW_MAX,
    TemplateError, go_json, path_value,
};
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// The size assumed for the value of each other column of a row.
const SHORT_VALUE_BYTES: usize = 40;
/// The maximum number of a caller's requests that are with the workers at the same time.
const UNDER_WAY_MAX: usize = 256;

/// Evaluates mappings for requests before they are answered. Its worker processes end with it.
pub struct Evaluator {
    pool: Arc<WorkerPool>,
    metrics: Arc<MappingMetrics>,
}

/// The outcome for each request.
pub type Outcomes = Vec<Result<Evaluated, MappingFailure>>;

/// The progress of one request under one mapping.
enum RequestState {
    Done(Result<Evaluated, MappingFailure>),
    Waiting { paths: Vec<String>, bytes: usize, answer: oneshot::Receiver<TemplateValues> },
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl Evaluator {
    pub fn new(settings: EvaluatorSettings) -> Self {
        let metrics = Arc::<MappingMetrics>::default();
        Self { pool: WorkerPool::new(settings, Arc::clone(&metrics)), metrics }
    }

    /// The evaluator's metrics.
    pub fn metrics(&self) -> &MappingMetrics {
        &self.metrics
    }

    /// Checks that a mapping is valid: unique names, and templates that compile and use only known variables.
    /// Returns all errors.
    pub async fn check(&self, mapping: &Mapping) -> Result<(), Vec<CheckError>> {
        let mut errors = mapping.check_names();
        let templates = mapping.templates().map(|(column, template)| {
            let (job, templates) = (encode_check(&template.content), Vec::new());
            (column, self.submit(job, templates, 1, false))
        });
        for (column, answer) in templates.collect::<Vec<_>>() {
            if let Err(trouble) = received(answer.await) {
                errors.push(self.check_error(column, trouble.cause));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn check_error(&self, column: &MappedColumn, cause: Cause) -> CheckError {
        let message = match cause {
            Cause::Unavailable(why) => return CheckError::Unavailable(why.to_owned()),
            Cause::Problem(TemplateError::Template(message)) => message,
            Cause::Problem(_) => String::new(),
            Cause::Stopped(ending) => self.stopped(ending),
        };
        CheckError::Template { column: column.name.clone(), message }
    }

    /// Evaluates all `path` and `template` columns, for each mapping and each request. A mapping without templates
    /// does not use a worker. Returns when all are done, so the slowest one determines the time.
    pub async fn evaluate(
        &self,
        mappings: &[Arc<Mapping>],
        requests: &[MappingRequest<'_>],
    ) -> Vec<Outcomes> {
        let since = Instant::now();
        let mut all: Vec<_> = mappings.iter().map(|_| Outcomes::with_capacity(requests.len())).collect();
        for requests in requests.chunks(UNDER_WAY_MAX) {
            let begun = self.begin(mappings, requests, false);
            for ((mapping, outcomes), states) in mappings.iter().zip(&mut all).zip(begun) {
                for state in states {
                    outcomes.push(match state {
                        RequestState::Done(outcome) => outcome,
                        RequestState::Waiting { paths, bytes, answer } => {
                            self.finish(mapping, paths, bytes, received(answer.await))
                        }
                    });
                }
            }
        }
        self.count(&all, since);
        all
    }

    /// Like [`Evaluator::evaluate`], for a thread that may block: it waits however busy the workers are.
    pub fn evaluate_blocking(
        &self,
        mappings: &[Arc<Mapping>],
        requests: &[MappingRequest<'_>],
    ) -> Vec<Outcomes> {
        let since = Instant::now();
        let mut all: Vec<_> = mappings.iter().map(|_| Outcomes::with_capacity(requests.len())).collect();
        for requests in requests.chunks(UNDER_WAY_MAX) {
            let begun = self.begin(mappings, requests, true);
            for ((mapping, outcomes), states) in mappings.iter().zip(&mut all).zip(begun) {
                outcomes.extend(states.into_iter().map(|state| match state {
                    RequestState::Done(outcome) => outcome,
                    RequestState::Waiting { paths, bytes, answer } => {
                        self.finish(mapping, paths, bytes, received(answer.blocking_recv()))
                    }
                }));
            }
        }
        self.count(&all, since);
        all
    }

    /// Evaluates what needs no worker, and submits the rest to the workers.
    fn begin(
        &self,
        mappings: &[Arc<Mapping>],
        requests: &[MappingRequest<'_>],
        patient: bool,
    ) -> Vec<Vec<RequestState>> {
        let mut all: Vec<_> = mappings.iter().map(|_| Vec::with_capacity(requests.len())).collect();
        for request in requests {
            let body = OnceCell::new();
            for (mapping, states) in mappings.iter().zip(&mut all) {
                let state = self.begin_one(mapping, request, &body, patient);
                states.push(state.unwrap_or_else(|failure| RequestState::Done(Err(failure))));
            }
        }
        all
    }

    fn begin_one<'a>(
        &self,
        mapping: &Mapping,
        request: &MappingRequest<'a>,
        body: &OnceCell<Result<Body<'a>, MappingFailure>>,
        patient: bool,
    ) -> Result<RequestState, MappingFailure> {
        let (mut paths, mut bytes) = (Vec::new(), 0);
        for column in &mapping.columns {
            bytes += match &column.kind {
                ColumnKind::Path { path, default_value, raw_string } => {
                    let parse =
                        || Body::parse(request.body, request.content_type).map_err(MappingFailure::from);
                    let body = body.get_or_init(parse).as_ref().map_err(Clone::clone)?;
                    let value =
                        path_value(&column.name, (path, default_value.as_deref(), *raw_string), body)?;
                    let bytes = value.len();
                    paths.push(value);
                    bytes
                }
                ColumnKind::Template { .. } => 0,
                ColumnKind::Body => request.body.len(),
                ColumnKind::Headers => go_json(request.headers).len(),
                _ => SHORT_VALUE_BYTES,
            };
        }
        if bytes > ROW_MAX {
            return Err(MappingFailure::TooLarge);
        }
        if !mapping.has_templates() {
            return Ok(RequestState::Done(Ok(paths)));
        }
        let (mut named, mut wanted) = (Vec::new(), Vec::new());
        for column in &mapping.columns {
            if let ColumnKind::Template { template, raw_string } = &column.kind {
                let (id, text) = self.pool.name(&template.content);
                named.push((id, text));
                wanted.push((id, *raw_string));
            }
        }
        let values = wanted.len();
        let answer = self.submit(encode_evaluation(request, &wanted), named, values, patient);
        Ok(RequestState::Waiting { paths, bytes, answer })
    }

    fn submit(
        &self,
        job: Vec<u8>,
        templates: Vec<(u32, Arc<str>)>,
        values: usize,
        patient: bool,
    ) -> oneshot::Receiver<TemplateValues> {
        let (answer, receiver) = oneshot::channel();
        self.pool.submit(EvaluatorTask { job, templates, values, since: Instant::now(), patient, answer });
        receiver
    }

    /// Puts the values into column order.
    fn finish(
        &self,
        mapping: &Mapping,
        paths: Vec<String>,
        bytes: usize,
        answer: TemplateValues,
    ) -> Result<Evaluated, MappingFailure> {
        let values = answer.map_err(|trouble| self.failure(mapping, trouble))?;
        if bytes + values.iter().map(String::len).sum::<usize>() > ROW_MAX {
            return Err(MappingFailure::TooLarge);
        }
        let (mut paths, mut values) = (paths.into_iter(), values.into_iter());
        let in_order = mapping.columns.iter().filter_map(|column| match &column.kind {
            ColumnKind::Path { .. } => paths.next(),
            ColumnKind::Template { .. } => values.next(),
            _ => None,
        });
        Ok(in_order.collect())
    }

    fn failure(&self, mapping: &Mapping, trouble: Trouble) -> MappingFailure {
        let column = mapping.templates().nth(trouble.at).map(|(column, _)| column.name.clone());
        // What failed before the first template, or had none, is told without a column.
        let column = column.unwrap_or_default();
        match trouble.cause {
            Cause::Problem(TemplateError::Template(message)) => MappingFailure::Column { column, message },
            Cause::Problem(TemplateError::ContentType(of)) => MappingFailure::ContentType(of),
            Cause::Problem(TemplateError::Body(message)) => MappingFailure::Body(message),
            Cause::Problem(TemplateError::TooLarge) => MappingFailure::TooLarge,
            Cause::Stopped(ending) => MappingFailure::Stopped { column, message: self.stopped(ending) },
            Cause::Unavailable(why) => MappingFailure::Unavailable(why.to_owned()),
        }
    }

    /// The message for the author of a template that was stopped.
    fn stopped(&self, ending: Ending) -> String {
        let settings = &self.pool.settings;
        match ending {
            Ending::Late => format!("template was stopped: it took more than {:?}", settings.deadline),
            Ending::Memory => {
                let mebibytes = settings.memory_max >> 20;
                format!("template was stopped: it took more than {mebibytes} MiB of memory")
            }
            Ending::Stack => "template was stopped: it nests too deeply".to_owned(),
            Ending::Gone => "template was stopped: its evaluation ended unexpectedly".to_owned(),
        }
    }

    fn count(&self, all: &[Outcomes], since: Instant) {
        for outcome in all.iter().flatten() {
            self.metrics.evaluations.inc();
            if let Err(failure) = outcome {
                self.metrics.failed(failure.reason());
            }
        }
        self.metrics.seconds.observe(since.elapsed());
    }
}

fn received(answer: Result<TemplateValues, oneshot::error::RecvError>) -> TemplateValues {
    let closed = |_| Err(Trouble { at: 0, cause: Cause::Unavailable("the daemon is stopping") });
    answer.unwrap_or_else(closed)
}
