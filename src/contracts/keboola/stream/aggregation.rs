//! `GET …/aggregation/sources`: sources with their sinks and the statistics of each, in one answer.

use super::model::StoredEntity;
use super::page::PageQuery;
use super::request::StreamRequest;
use super::shown::put;
use super::{shown, statistics};
use crate::contracts::Reply;
use crate::contracts::keboola::reply::ok;
use crate::contracts::reject::Reject;
use serde_json::{Value, json};

pub(super) fn show(request: &StreamRequest<'_>) -> Result<Reply, Reject> {
    let page = PageQuery::parse(request.call.head.query)?;
    let store = request.store();
    let mut all = store.sources(request.branch)?;
    all.retain(|kept| kept.entity.deleted.is_none());
    let (sources, page) = page.cut(all, |kept: &StoredEntity| kept.place.source.clone());
    let sources = sources.iter().map(|source| {
        let mut shown = shown::kept(request, source);
        let mut sinks = store.sinks(&source.place)?;
        sinks.retain(|sink| sink.entity.deleted.is_none());
        let sinks: Result<Vec<Value>, Reject> = sinks.iter().map(|sink| self::sink(request, sink)).collect();
        put(&mut shown, "sinks", sinks?);
        Ok(shown)
    });
    let sources: Result<Vec<Value>, Reject> = sources.collect();
    let (project, branch) = (request.project_id(), request.branch);
    Ok(ok(&json!({"projectId": project, "branchId": branch, "page": page, "sources": sources?})))
}

fn sink(request: &StreamRequest<'_>, sink: &StoredEntity) -> Result<Value, Reject> {
    let mut shown = shown::kept(request, sink);
    put(&mut shown, "statistics", statistics::all(request, &sink.entity)?);
    Ok(shown)
}
