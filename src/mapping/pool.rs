//! Worker processes and the threads that talk to them: one thread per process, since a process dies with the thread
//! that started it. No process is started before there is a template to evaluate.
//!
//! Waiting tasks go to a process together. If it ends before it has answered all of them, each unanswered one is
//! retried alone, so that only the task that killed it fails. The template of that task becomes a suspect: it never
//! again shares a batch with other tasks, and if there are at least two processes, one is kept free of suspects.

use super::TemplateError;
use super::message::{TemplateId, WorkerReply, encode_batch};
use super::metrics::MappingMetrics;
use super::process::{Ending, Process};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The limits of a batch: number of tasks, and their bytes.
const BATCH_TASKS: usize = 64;
const BATCH_BYTES: usize = 4 << 20;
/// The limits of the queue: number of tasks, and their bytes. Beyond them, tasks are rejected.
const WAITING_MAX: usize = 10_000;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// How long a task may wait for a worker.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Added to the deadline to allow for a busy machine.
const SLACK: Duration = Duration::from_millis(100);
/// The maximum number of templates with an id at the same time.
const NAMES_MAX: usize = 10_000;

/// How templates are evaluated.
#[derive(Debug, Clone)]
pub struct EvaluatorSettings {
    /// The program that is started with `mapping-worker` as its first argument.
    pub program: PathBuf,
    /// The number of processes; 0: one per core, at least two.
    pub workers: usize,
    /// The memory limit of a process, beyond what it has when it starts.
    pub memory_max: u64,
    /// The time limit of one template for one request.
    pub deadline: Duration,
}

/// Why a task has no values: the index of the template that failed, and the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) at: usize,
    pub(super) cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    Problem(TemplateError),
    Stopped(Ending),
    Unavailable(&'static str),
}

pub(super) type TemplateValues = Result<Vec<String>, Trouble>;

/// Templates to be evaluated for one request, or one template to be checked.
pub(super) struct EvaluatorTask {
    /// The job as encoded for the worker.
    pub(super) job: Vec<u8>,
    /// The templates that it refers to.
    pub(super) templates: Vec<(TemplateId, Arc<str>)>,
    /// The number of values expected.
    pub(super) values: usize,
    pub(super) since: Instant,
    /// Whether it waits as long as necessary, however long the queue is: for callers that can block and that bound
    /// their own requests.
    pub(super) patient: bool,
    pub(super) answer: oneshot::Sender<TemplateValues>,
}

pub(super) struct WorkerPool {
    pub(super) settings: EvaluatorSettings,
    metrics: Arc<MappingMetrics>,
    queue: Mutex<Queue>,
    /// Signals a task, or the end.
    ready: Condvar,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<EvaluatorTask>,
    suspects: VecDeque<EvaluatorTask>,
    bytes: usize,
    threads: usize,
    idle: usize,
    suspects_running: usize,
    closed: bool,
}

#[derive(Default)]
struct Names {
    templates: HashMap<Arc<str>, TemplateId>,
    next: TemplateId,
    suspects: HashSet<TemplateId>,
}

/// The tasks that a thread takes from the queue.
struct TaskBatch {
    tasks: Vec<EvaluatorTask>,
    suspect: bool,
}

impl WorkerPool {
    pub(super) fn new(mut settings: EvaluatorSettings, metrics: Arc<MappingMetrics>) -> Arc<Self> {
        if settings.workers == 0 {
            settings.workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        }
        let (queue, names) = (Mutex::default(), Mutex::default());
        Arc::new(Self { settings, metrics, queue, ready: Condvar::new(), names })
    }

    /// The id of a template: stable for the same text, until there are too many templates.
    pub(super) fn name(&self, text: &str) -> (TemplateId, Arc<str>) {
        let mut names = self.names.lock();
        if let Some((text, id)) = names.templates.get_key_value(text) {
            return (*id, Arc::clone(text));
        }
        if names.templates.len() >= NAMES_MAX {
            names.templates.clear();
            names.suspects.clear();
        }
        let (id, text) = (names.next, Arc::from(text));
        // Wraps only after four billion changes of mappings.
        names.next = names.next.wrapping_add(1);
        names.templates.insert(Arc::clone(&text), id);
        (id, text)
    }

    /// Submits a task. Either its answer arrives, or the answer's sender is dropped.
    pub(super) fn submit(self: &Arc<Self>, task: EvaluatorTask) {
        let suspect = {
            let names = self.names.lock();
            task.templates.iter().any(|(id, _)| names.suspects.contains(id))
        };
        let mut queue = self.queue.lock();
        let waiting = queue.tasks.len() + queue.suspects.len();
        let full = waiting >= WAITING_MAX || queue.bytes + task.job.len() > WAITING_BYTES_MAX && waiting > 0;
        if full && !task.patient {
            drop(queue);
            task.unavailable("too many requests are waiting for a template worker");
            return;
        }
        queue.bytes += task.job.len();
        if suspect {
            queue.suspects.push_back(task);
        } else {
            queue.tasks.push_back(task);
        }
        if queue.idle == 0 && queue.threads < self.settings.workers {
            let pool = Arc::clone(self);
            let thread = std::thread::Builder::new().name("mapping".to_owned());
            match thread.spawn(move || pool.run()) {
                Ok(_) => queue.threads += 1,
                Err(error) => tracing::error!(%error, "cannot start the thread of a template worker"),
            }
        }
        self.ready.notify_one();
    }

    /// Ends the threads, and with them the processes.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.ready.notify_all();
    }

    fn run(&self) {
        let mut process = None;
        while let Some(batch) = self.next() {
            if let Err(unanswered) = self.attempt(&mut process, batch.tasks, batch.suspect) {
                if batch.suspect {
                    self.condemn(unanswered);
                } else {
                    self.try_again(&mut process, unanswered.tasks);
                }
            }
            if batch.suspect {
                self.queue.lock().suspects_running -= 1;
                self.ready.notify_one();
            }
        }
    }

    /// Waits for tasks. `None` at the end.
    fn next(&self) -> Option<TaskBatch> {
        let mut queue = self.queue.lock();
        queue.idle += 1;
        while !queue.closed {
            if let Some(batch) = queue.take(self.settings.workers) {
                queue.idle -= 1;
                return Some(batch);
            }
            self.ready.wait(&mut queue);
        }
        None
    }

    /// Lets a process execute tasks, and starts one if there is none. An error returns the unanswered tasks; the
    /// process has then ended.
    fn attempt(
        &self,
        process: &mut Option<Process>,
        tasks: Vec<EvaluatorTask>,
        hasty: bool,
    ) -> Result<(), Unanswered> {
        let EvaluatorSettings { program, memory_max, deadline, .. } = &self.settings;
        let tasks: Vec<EvaluatorTask> = tasks.into_iter().filter(|task| !task.answer.is_closed()).collect();
        let worker = match process {
            Some(worker) => worker,
            None => match Process::start(program, *memory_max, *deadline) {
                Ok(started) => {
                    self.metrics.worker_starts.inc();
                    process.insert(started)
                }
                Err(error) => {
                    tracing::error!(%error, "cannot start a template worker");
                    for task in tasks {
                        task.unavailable("the template worker cannot be started");
                    }
                    return Ok(());
                }
            },
        };
        let done = converse(worker, tasks, hasty, *deadline + SLACK);
        match &done {
            Ok(retiring) if !retiring => {}
            Ok(_) => *process = None,
            Err(unanswered) => {
                self.metrics.worker_ended(unanswered.ending.reason());
                *process = None;
            }
        }
        done.map(drop)
    }

    /// Retries each task that a process left unanswered, one at a time.
    fn try_again(&self, process: &mut Option<Process>, tasks: Vec<EvaluatorTask>) {
        for task in tasks {
            if let Err(unanswered) = self.attempt(process, vec![task], true) {
                self.condemn(unanswered);
            }
        }
    }

    /// Fails the task, and marks the template over which a process ended while it did nothing else.
    fn condemn(&self, unanswered: Unanswered) {
        let Unanswered { tasks, at, ending } = unanswered;
        for task in tasks {
            if let Some((id, _)) = task.templates.get(at) {
                self.names.lock().suspects.insert(*id);
            }
            task.answer(Err(Trouble { at, cause: Cause::Stopped(ending) }));
        }
    }
}

impl Queue {
    /// Selects the next tasks that a thread may execute.
    fn take(&mut self, workers: usize) -> Option<TaskBatch> {
        let suspect_is_older = match (self.tasks.front(), self.suspects.front()) {
            (Some(task), Some(suspect)) => suspect.since < task.since,
            (task, _) => task.is_none(),
        };
        if suspect_is_older && self.suspects_running < (workers - 1).max(1) {
            let task = self.suspects.pop_front()?;
            self.bytes -= task.job.len();
            self.suspects_running += 1;
            return TaskBatch::from_tasks(vec![task], true);
        }
        // Leaves a share of the tasks for idle threads.
        let tasks_max = self.tasks.len().div_ceil(self.idle.max(1)).min(BATCH_TASKS);
        let (mut tasks, mut bytes) = (Vec::new(), 0);
        while let Some(task) = self.tasks.front() {
            let full = tasks.len() >= tasks_max || bytes + task.job.len() > BATCH_BYTES;
            if full && !tasks.is_empty() {
                break;
            }
            bytes += task.job.len();
            tasks.extend(self.tasks.pop_front());
        }
        self.bytes -= bytes;
        TaskBatch::from_tasks(tasks, false)
    }
}

impl TaskBatch {
    /// Fails tasks that have waited too long, and keeps the others.
    fn from_tasks(tasks: Vec<EvaluatorTask>, suspect: bool) -> Option<Self> {
        if tasks.is_empty() {
            return None;
        }
        let (late, tasks): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|task| task.since.elapsed() > WAIT_MAX && !task.patient);
        for task in late {
            task.unavailable("too many requests are waiting for a template worker");
        }
        Some(Self { tasks, suspect })
    }
}

impl EvaluatorTask {
    fn unavailable(self, why: &'static str) {
        self.answer(Err(Trouble { at: 0, cause: Cause::Unavailable(why) }));
    }

    fn answer(self, answer: TemplateValues) {
        // The requester may be gone.
        drop(self.answer.send(answer));
    }
}

/// The tasks that a process did not answer before it ended.
struct Unanswered {
    tasks: Vec<EvaluatorTask>,
    /// The number of values that it returned for the first of them.
    at: usize,
    ending: Ending,
}

/// Sends tasks to a process and passes its answers on. Returns whether it wants to retire.
fn converse(
    process: &mut Process,
    tasks: Vec<EvaluatorTask>,
    hasty: bool,
    deadline: Duration,
) -> Result<bool, Unanswered> {
    let mut new: Vec<(TemplateId, &str)> = Vec::new();
    for (id, text) in tasks.iter().flat_map(|task| &task.templates) {
        if process.knows.insert(*id) {
            new.push((*id, text));
        }
    }
    let message = encode_batch(hasty, &new, tasks.iter().map(|task| task.job.as_slice()));
    if let Err(ending) = process.send(&message, deadline) {
        return Err(Unanswered { tasks, at: 0, ending });
    }
    let mut tasks = tasks.into_iter();
    while let Some(task) = tasks.next() {
        let mut values = Vec::with_capacity(task.values);
        let mut problem = None;
        while values.len() < task.values && problem.is_none() {
            match process.receive(deadline) {
                Ok(WorkerReply::Value(value)) => values.push(value),
                Ok(WorkerReply::Failed(why)) => problem = Some(why),
                other => {
                    let ending = other.err().unwrap_or(Ending::Gone);
                    let tasks = std::iter::once(task).chain(tasks).collect();
                    return Err(Unanswered { tasks, at: values.len(), ending });
                }
            }
        }
        let at = values.len();
        task.answer(match problem {
            None => Ok(values),
            Some(problem) => Err(Trouble { at, cause: Cause::Problem(problem) }),
        });
    }
    match process.receive(deadline) {
        Ok(WorkerReply::Done { retiring }) => Ok(retiring),
        // Everything is answered; the next tasks get another process.
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_time_waits_for_as_long_as_it_takes() {
        let task = |patient| {
            let (answer, answered) = oneshot::channel();
            let since = Instant::now().checked_sub(2 * WAIT_MAX).unwrap();
            (
                EvaluatorTask { job: vec![1], templates: Vec::new(), values: 1, since, patient, answer },
                answered,
            )
        };
        let ((patient, mut waits), (hasty, mut refused)) = (task(true), task(false));
        let mut queue = Queue { tasks: [patient, hasty].into(), bytes: 2, ..Queue::default() };
        let batch = queue.take(2).unwrap();
        assert_eq!((batch.tasks.len(), queue.bytes), (1, 0));
        assert!(waits.try_recv().is_err());
        let cause = Cause::Unavailable("too many requests are waiting for a template worker");
        assert_eq!(refused.try_recv(), Ok(Err(Trouble { at: 0, cause })));
    }
}
