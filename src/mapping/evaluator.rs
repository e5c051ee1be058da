//! Evaluates mappings: paths here, templates in worker processes.

use super::{
    Body, CheckError, ColumnKind, Evaluated, Failure, Mapping, ROW_MAX, Request, go_json, path_value,
};
use std::cell::OnceCell;
use std::sync::Arc;

/// Evaluates mappings for requests before they are answered.
#[derive(Debug, Default)]
pub struct Evaluator {}

/// For each request, what became of it.
pub type Outcomes = Vec<Result<Evaluated, Failure>>;

impl Evaluator {
    /// Whether a mapping can be used: unique names, templates that compile and know their variables.
    #[expect(clippy::unused_async, reason = "workers answer later")]
    pub async fn check(&self, mapping: &Mapping) -> Result<(), Vec<CheckError>> {
        let errors = mapping.check_names();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Values of all columns of type `path` and `template`: for each mapping, for each request. A mapping without such
    /// columns is asked nothing, and one without templates takes no time of a worker.
    #[expect(clippy::unused_async, reason = "workers answer later")]
    pub async fn evaluate(&self, mappings: &[Arc<Mapping>], requests: &[Request<'_>]) -> Vec<Outcomes> {
        self.evaluate_here(mappings, requests)
    }

    /// The same for a thread that may wait.
    pub fn evaluate_blocking(&self, mappings: &[Arc<Mapping>], requests: &[Request<'_>]) -> Vec<Outcomes> {
        self.evaluate_here(mappings, requests)
    }

    #[expect(clippy::unused_self, reason = "templates need it")]
    fn evaluate_here(&self, mappings: &[Arc<Mapping>], requests: &[Request<'_>]) -> Vec<Outcomes> {
        let mut all: Vec<Outcomes> = mappings.iter().map(|_| Vec::with_capacity(requests.len())).collect();
        for request in requests {
            let body = OnceCell::new();
            for (mapping, outcomes) in mappings.iter().zip(&mut all) {
                outcomes.push(one(mapping, request, &body));
            }
        }
        all
    }
}

fn one<'a>(
    mapping: &Mapping,
    request: &Request<'a>,
    body: &OnceCell<Result<Body<'a>, Failure>>,
) -> Result<Evaluated, Failure> {
    let mut values = Vec::new();
    let mut bytes = 0;
    for column in &mapping.columns {
        match &column.kind {
            ColumnKind::Path { path, default_value, raw_string } => {
                let parse = || Body::parse(request.body, request.content_type).map_err(Failure::from);
                let body = body.get_or_init(parse).as_ref().map_err(Clone::clone)?;
                values.push(path_value(&column.name, (path, default_value.as_deref(), *raw_string), body)?);
                bytes += values.last().map_or(0, String::len);
            }
            ColumnKind::Template { .. } => {
                return Err(Failure::Unavailable("there are no workers".to_owned()));
            }
            ColumnKind::Body => bytes += request.body.len(),
            ColumnKind::Headers => bytes += go_json(request.headers).len(),
            ColumnKind::Id | ColumnKind::Uuid | ColumnKind::Datetime | ColumnKind::Ip => bytes += 40,
        }
    }
    if bytes > ROW_MAX { Err(Failure::TooLarge) } else { Ok(values) }
}
