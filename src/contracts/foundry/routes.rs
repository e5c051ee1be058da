//! The routes, with the contract's error name for each call that is denied.

use super::envelope::EnvelopeForm;
use super::publish::Publish;
use super::read::{self, Readable};
use super::request::FoundryRequest;
use super::{catalog, datasets, oauth, subscribers, trash};
use crate::auth::Need;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::route::{self, Access, Route, RouteInfo, RouteMatch};
use crate::contracts::{Reply, RequestHead};
use std::borrow::Cow;

#[derive(Clone, Copy)]
pub(super) struct FoundryRoute {
    pub(super) answer: RouteAnswer,
    /// The contract's error name if the caller lacks the right, if the contract has one.
    pub(super) denied: Option<&'static str>,
}

/// The handler of a route.
#[derive(Clone, Copy)]
pub(super) enum RouteAnswer {
    /// A call that publishes records.
    Publish(Publish),
    Call(CallHandler),
}

/// The handler of a management call.
type CallHandler = fn(&FoundryRequest<'_>) -> Result<Reply, Reject>;

const fn call(handler: CallHandler) -> FoundryRoute {
    FoundryRoute { answer: RouteAnswer::Call(handler), denied: None }
}

const fn publish(form: Option<EnvelopeForm>, to_view: bool) -> FoundryRoute {
    let denied = match form {
        Some(EnvelopeForm::Record | EnvelopeForm::Bare) => "PublishRecordToStreamPermissionDenied",
        Some(EnvelopeForm::Records | EnvelopeForm::Values) => "PublishRecordsToStreamPermissionDenied",
        None => "PublishBinaryRecordToStreamPermissionDenied",
    };
    FoundryRoute { answer: RouteAnswer::Publish(Publish { form, to_view }), denied: Some(denied) }
}

impl FoundryRoute {
    const fn denied(self, name: &'static str) -> Self {
        Self { denied: Some(name), ..self }
    }
}

/// A valid credential. Further rights depend on the call.
const TOKEN: Access = Access::Token(Need::Any);
const CREATE: Access = Access::Token(Need::Create);

const RECORD: FoundryRoute = publish(Some(EnvelopeForm::Record), false);
const RECORDS: FoundryRoute = publish(Some(EnvelopeForm::Records), false);
const BINARY: FoundryRoute = publish(None, false);
/// Older proxy: one bare record for a branch.
const BARE: FoundryRoute = publish(Some(EnvelopeForm::Bare), false);
/// Older proxy: many records for a branch, each in its own envelope.
const VALUES: FoundryRoute = publish(Some(EnvelopeForm::Values), false);
/// Older proxy: one bare record for a view.
const VIEW_BARE: FoundryRoute = publish(Some(EnvelopeForm::Bare), true);
/// Older proxy: many records for a view, each in its own envelope.
const VIEW_VALUES: FoundryRoute = publish(Some(EnvelopeForm::Values), true);

const GET_RECORDS_DENIED: &str = "GetRecordsFromStreamPermissionDenied";
/// Older proxy: the newest records of a branch.
const NEWEST: FoundryRoute =
    call(|request| read::newest(request, &Readable::find(request, None)?)).denied(GET_RECORDS_DENIED);
/// Older proxy: the newest records of a view.
const VIEW_NEWEST: FoundryRoute =
    call(|request| read::newest(request, &Readable::of_view(request)?)).denied(GET_RECORDS_DENIED);
/// Older proxy: the records of a partition of a view.
const RECORDS_V2: FoundryRoute = call(read::records_v2).denied(GET_RECORDS_DENIED);

pub(super) static ROUTES: &[Route<FoundryRoute>] = &[
    Route::post(
        "/api/v2/streams/datasets/create",
        CREATE,
        call(datasets::create).denied("CreateStreamingDatasetPermissionDenied"),
    ),
    Route::post(
        "/api/v2/streams/datasets/{dataset}/streams",
        CREATE,
        call(datasets::create_stream).denied("CreateStreamPermissionDenied"),
    ),
    Route::get("/api/v2/streams/datasets/{dataset}/streams/{branch}", TOKEN, call(datasets::get)),
    Route::post(
        "/api/v2/streams/datasets/{dataset}/streams/{branch}/reset",
        CREATE,
        call(datasets::reset).denied("ResetStreamPermissionDenied"),
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/publishRecord",
        Access::Ingest,
        RECORD,
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/publishRecords",
        Access::Ingest,
        RECORDS,
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/publishBinaryRecord",
        Access::Ingest,
        BINARY,
    ),
    Route::post("/stream-proxy/api/streams/{dataset}/branches/{branch}/jsonRecord", Access::Ingest, BARE),
    Route::post("/stream-proxy/api/streams/{dataset}/branches/{branch}/jsonRecords", Access::Ingest, VALUES),
    Route::post("/stream-proxy/api/streams/{dataset}/branches/{branch}/records", Access::Ingest, VALUES),
    Route::post("/stream-proxy/api/streams/{dataset}/views/{view}/jsonRecord", Access::Ingest, VIEW_BARE),
    Route::post("/stream-proxy/api/streams/{dataset}/views/{view}/jsonRecords", Access::Ingest, VIEW_VALUES),
    Route::post("/stream-proxy/api/streams/{dataset}/views/{view}/records", Access::Ingest, VIEW_VALUES),
    Route::post("/stream/api/streams/{dataset}/branches/{branch}/jsonRecord", Access::Ingest, BARE),
    Route::post("/stream/api/streams/{dataset}/branches/{branch}/jsonRecords", Access::Ingest, VALUES),
    Route::post("/stream/api/streams/{dataset}/branches/{branch}/records", Access::Ingest, VALUES),
    Route::post("/stream/api/streams/{dataset}/views/{view}/jsonRecord", Access::Ingest, VIEW_BARE),
    Route::post("/stream/api/streams/{dataset}/views/{view}/jsonRecords", Access::Ingest, VIEW_VALUES),
    Route::post("/stream/api/streams/{dataset}/views/{view}/records", Access::Ingest, VIEW_VALUES),
    Route::get(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/getRecords",
        TOKEN,
        call(read::get_records).denied(GET_RECORDS_DENIED),
    ),
    Route::get(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/getEndOffsets",
        TOKEN,
        call(read::end_offsets).denied("GetEndOffsetsForStreamPermissionDenied"),
    ),
    Route::post(
        "/api/v2/streams/datasets/{dataset}/streams/{branch}/subscribers",
        TOKEN,
        call(subscribers::create).denied("CreateSubscriberPermissionDenied"),
    ),
    Route::delete(
        "/api/v2/streams/datasets/{dataset}/streams/{branch}/subscribers/{subscriber}",
        TOKEN,
        call(subscribers::delete).denied("DeleteSubscriberPermissionDenied"),
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/subscribers/{subscriber}/readRecords",
        TOKEN,
        call(subscribers::read_records).denied("ReadRecordsFromSubscriberPermissionDenied"),
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/subscribers/{subscriber}/commitOffsets",
        TOKEN,
        call(subscribers::commit).denied("CommitSubscriberOffsetsPermissionDenied"),
    ),
    Route::get(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/subscribers/{subscriber}/getReadPosition",
        TOKEN,
        call(subscribers::position).denied("GetSubscriberReadPositionPermissionDenied"),
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/subscribers/{subscriber}/resetOffsets",
        TOKEN,
        call(subscribers::reset).denied("ResetSubscriberOffsetsPermissionDenied"),
    ),
    Route::get("/stream-proxy/api/streams/{dataset}/branches/{branch}/records", TOKEN, NEWEST),
    Route::get("/stream-proxy/api/streams/{dataset}/views/{view}/records", TOKEN, VIEW_NEWEST),
    Route::get(
        "/stream-proxy/api/streams/{dataset}/views/{view}/partition/{partition}/recordsV2",
        TOKEN,
        RECORDS_V2,
    ),
    Route::get("/stream/api/streams/{dataset}/branches/{branch}/records", TOKEN, NEWEST),
    Route::get("/stream/api/streams/{dataset}/views/{view}/records", TOKEN, VIEW_NEWEST),
    Route::get(
        "/stream/api/streams/{dataset}/views/{view}/partition/{partition}/recordsV2",
        TOKEN,
        RECORDS_V2,
    ),
    Route::post(
        "/stream-catalog/api/catalog/streams2",
        TOKEN,
        call(catalog::create).denied("CreateStreamingDatasetPermissionDenied"),
    ),
    Route::get(
        "/stream-catalog/api/catalog/streams/{dataset}/branches/{branch}/views/latest",
        TOKEN,
        call(catalog::latest),
    ),
    Route::delete("/stream-catalog/api/catalog/streams/{dataset}", TOKEN, call(trash::delete)),
    Route::post("/multipass/api/oauth2/token", Access::Public, call(oauth::issue)),
    Route::post("/multipass/api/oauth2/revoke_token", Access::Public, call(oauth::revoke)),
];

/// The routes of this contract.
pub fn served() -> Vec<RouteInfo> {
    route::served(ROUTES)
}

pub(super) fn find<'a>(
    head: &RequestHead<'a>,
) -> Result<(&'static Route<FoundryRoute>, Vec<Cow<'a, str>>), Reject> {
    match route::find(ROUTES, head.method, head.path) {
        RouteMatch::Route(route, parameters) => Ok((route, parameters)),
        RouteMatch::OtherMethods(methods) => Err(Reject::method_not_allowed(head.method, methods)),
        RouteMatch::Nothing => {
            Err(Reject::new(RejectKind::NoSuchRoute, format!("no such route: {}", head.path)))
        }
    }
}
