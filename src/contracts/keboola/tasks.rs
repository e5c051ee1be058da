//! Tasks: the vendor's contracts report changes as tasks that run in the background. Here the work is done before the
//! call is answered, so a change that was answered survives a crash. The answer shows the task as still running; a
//! later query shows its result.

use super::{KeboolaContext, reply};
use crate::auth;
use crate::clock::Micros;
use crate::contracts::reject::Reject;
use crate::mapping::datetime;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Random characters in an id.
const RANDOM_CHARS: usize = 5;
/// How long the result of a task is kept: a day.
const KEPT_MICROS: Micros = 24 * 3600 * 1_000_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeboolaTask {
    #[serde(skip)]
    pub id: String,
    /// `receiver.create`
    pub kind: String,
    pub created_at: Micros,
    /// `None`: the task is still running.
    pub end: Option<TaskEnd>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskEnd {
    pub at: Micros,
    pub result: Result<String, String>,
    /// The ids of the objects that it concerns: `{"receiverId": …}`
    pub outputs: Map<String, Value>,
}

/// The result of a successful task: a message, and the outputs.
pub type Done = (&'static str, Map<String, Value>);

/// Does the work of a new task, stores its result, and returns the task as still running. `path` is the part of its id
/// before the time: the object and the kind of task. A refusal becomes the error of the task.
pub fn run(
    common: &KeboolaContext,
    project: &str,
    path: &str,
    kind: &str,
    work: impl FnOnce() -> Result<Done, Reject>,
) -> Result<KeboolaTask, Reject> {
    let created_at = common.control.clock.now();
    common.tasks.forget(project, created_at.saturating_sub(KEPT_MICROS))?;
    let random = auth::alphanumeric(RANDOM_CHARS);
    let id = format!("{path}/{}_{random}", datetime(created_at));
    let begun = KeboolaTask { id, kind: kind.to_owned(), created_at, end: None };
    let (result, outputs) = match work() {
        Ok((result, outputs)) => (Ok(result.to_owned()), outputs),
        Err(reject) => {
            if let Some(internal) = &reject.internal {
                tracing::warn!(task = begun.id, error = %internal, "a Keboola task failed");
            }
            (Err(reject.external.into_owned()), Map::new())
        }
    };
    let end = Some(TaskEnd { at: common.control.clock.now(), result, outputs });
    let stored = common.tasks.create(project, &begun.id, &KeboolaTask { end, ..begun.clone() });
    stored.map_err(|error| Reject::internal(&error))?;
    Ok(begun)
}

/// Finds a task that ended less than a day ago.
pub fn find(common: &KeboolaContext, project: &str, id: &str) -> Result<KeboolaTask, Reject> {
    let found =
        common.tasks.get(project, id)?.map(|document| KeboolaTask { id: document.name, ..document.value });
    found.ok_or_else(|| reply::not_found("taskNotFound", format!("task \"{id}\" not found in the project")))
}

/// A task as a contract shows it. `id` is the contract's name for the id, `base` the URL of the service.
pub fn shown(task: &KeboolaTask, id: &str, base: &str) -> Value {
    let (status, is_finished) = match &task.end {
        None => ("processing", false),
        Some(TaskEnd { result: Ok(_), .. }) => ("success", true),
        Some(TaskEnd { result: Err(_), .. }) => ("error", true),
    };
    let mut shown = Map::new();
    shown.insert(id.to_owned(), task.id.as_str().into());
    let mut add = |key: &str, value: Value| drop(shown.insert(key.to_owned(), value));
    add("type", task.kind.as_str().into());
    add("url", format!("{base}/v1/tasks/{}", task.id).into());
    add("status", status.into());
    add("isFinished", is_finished.into());
    add("createdAt", datetime(task.created_at).into());
    if let Some(end) = &task.end {
        add("finishedAt", datetime(end.at).into());
        add("duration", json!(end.at.saturating_sub(task.created_at).max(0) / 1000));
        match &end.result {
            Ok(result) => add("result", result.as_str().into()),
            Err(error) => add("error", error.as_str().into()),
        }
        if !end.outputs.is_empty() {
            add("outputs", Value::Object(end.outputs.clone()));
        }
    }
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_shown_as_it_is_now() {
        let task = KeboolaTask {
            id: "r/receiver.create/2023-01-01T08:02:06.000Z_abcde".to_owned(),
            kind: "receiver.create".to_owned(),
            created_at: 1_672_560_126_000_000,
            end: None,
        };
        let begun = shown(&task, "id", "http://h");
        assert_eq!(
            begun.to_string(),
            "{\"id\":\"r/receiver.create/2023-01-01T08:02:06.000Z_abcde\",\"type\":\"receiver.create\",\"url\":\
             \"http://h/v1/tasks/r/receiver.create/2023-01-01T08:02:06.000Z_abcde\",\"status\":\"processing\",\
             \"isFinished\":false,\"createdAt\":\"2023-01-01T08:02:06.000Z\"}"
        );
        let outputs = Map::from_iter([("receiverId".to_owned(), "r".into())]);
        let end =
            TaskEnd { at: task.created_at + 1_234_567, result: Ok("receiver created".to_owned()), outputs };
        let ended = shown(&KeboolaTask { end: Some(end), ..task.clone() }, "taskId", "http://h");
        assert_eq!(ended["duration"], 1234);
        assert_eq!((&ended["status"], &ended["result"]), (&json!("success"), &json!("receiver created")));
        assert_eq!(ended["taskId"], task.id);
        let stored = serde_json::to_value(&task).unwrap();
        assert_eq!(serde_json::from_value::<KeboolaTask>(stored).unwrap().kind, task.kind);
    }
}
