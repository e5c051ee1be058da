//! What is served, and what each call is to the contract's errors.

use crate::contracts::route::Route;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    CreateDataset,
    CreateStream,
    GetStream,
    ResetStream,
    PublishRecord,
    PublishRecords,
    PublishBinary,
    /// The older proxy: one bare record for a branch.
    JsonRecord,
    /// Many records, each in an envelope of its own.
    JsonRecords,
    /// The same for a view.
    ViewJsonRecord,
    ViewJsonRecords,
    GetRecords,
    GetEndOffsets,
    /// The older proxy: the newest records of a branch,
    Records,
    /// and of a view.
    ViewRecords,
    /// The older proxy: those of a partition of a view.
    RecordsV2,
    CreateSubscriber,
    DeleteSubscriber,
    ReadRecords,
    CommitOffsets,
    ReadPosition,
    ResetOffsets,
    CatalogCreate,
    CatalogLatest,
    CatalogDelete,
    Token,
    Revoke,
}

pub const ROUTES: &[Route<Action>] = &[
    Route::post("/api/v2/streams/datasets/create", Action::CreateDataset),
    Route::post("/api/v2/streams/datasets/{dataset}/streams", Action::CreateStream),
    Route::get("/api/v2/streams/datasets/{dataset}/streams/{branch}", Action::GetStream),
    Route::post("/api/v2/streams/datasets/{dataset}/streams/{branch}/reset", Action::ResetStream),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/publishRecord",
        Action::PublishRecord,
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/publishRecords",
        Action::PublishRecords,
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/publishBinaryRecord",
        Action::PublishBinary,
    ),
    Route::post("/stream-proxy/api/streams/{dataset}/branches/{branch}/jsonRecord", Action::JsonRecord),
    Route::post("/stream-proxy/api/streams/{dataset}/branches/{branch}/jsonRecords", Action::JsonRecords),
    Route::post("/stream-proxy/api/streams/{dataset}/branches/{branch}/records", Action::JsonRecords),
    Route::post("/stream-proxy/api/streams/{dataset}/views/{view}/jsonRecord", Action::ViewJsonRecord),
    Route::post("/stream-proxy/api/streams/{dataset}/views/{view}/jsonRecords", Action::ViewJsonRecords),
    Route::post("/stream-proxy/api/streams/{dataset}/views/{view}/records", Action::ViewJsonRecords),
    Route::post("/stream/api/streams/{dataset}/branches/{branch}/jsonRecord", Action::JsonRecord),
    Route::post("/stream/api/streams/{dataset}/branches/{branch}/jsonRecords", Action::JsonRecords),
    Route::post("/stream/api/streams/{dataset}/branches/{branch}/records", Action::JsonRecords),
    Route::post("/stream/api/streams/{dataset}/views/{view}/jsonRecord", Action::ViewJsonRecord),
    Route::post("/stream/api/streams/{dataset}/views/{view}/jsonRecords", Action::ViewJsonRecords),
    Route::post("/stream/api/streams/{dataset}/views/{view}/records", Action::ViewJsonRecords),
    Route::get(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/getRecords",
        Action::GetRecords,
    ),
    Route::get(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/getEndOffsets",
        Action::GetEndOffsets,
    ),
    Route::post("/api/v2/streams/datasets/{dataset}/streams/{branch}/subscribers", Action::CreateSubscriber),
    Route::delete(
        "/api/v2/streams/datasets/{dataset}/streams/{branch}/subscribers/{subscriber}",
        Action::DeleteSubscriber,
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/subscribers/{subscriber}/readRecords",
        Action::ReadRecords,
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/subscribers/{subscriber}/commitOffsets",
        Action::CommitOffsets,
    ),
    Route::get(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/subscribers/{subscriber}/getReadPosition",
        Action::ReadPosition,
    ),
    Route::post(
        "/api/v2/highScale/streams/datasets/{dataset}/streams/{branch}/subscribers/{subscriber}/resetOffsets",
        Action::ResetOffsets,
    ),
    Route::get("/stream-proxy/api/streams/{dataset}/branches/{branch}/records", Action::Records),
    Route::get("/stream-proxy/api/streams/{dataset}/views/{view}/records", Action::ViewRecords),
    Route::get(
        "/stream-proxy/api/streams/{dataset}/views/{view}/partition/{partition}/recordsV2",
        Action::RecordsV2,
    ),
    Route::get("/stream/api/streams/{dataset}/branches/{branch}/records", Action::Records),
    Route::get("/stream/api/streams/{dataset}/views/{view}/records", Action::ViewRecords),
    Route::get(
        "/stream/api/streams/{dataset}/views/{view}/partition/{partition}/recordsV2",
        Action::RecordsV2,
    ),
    Route::post("/stream-catalog/api/catalog/streams2", Action::CatalogCreate),
    Route::get(
        "/stream-catalog/api/catalog/streams/{dataset}/branches/{branch}/views/latest",
        Action::CatalogLatest,
    ),
    Route::delete("/stream-catalog/api/catalog/streams/{dataset}", Action::CatalogDelete),
    Route::post("/multipass/api/oauth2/token", Action::Token),
    Route::post("/multipass/api/oauth2/revoke_token", Action::Revoke),
];

impl Action {
    /// Whether records come with it.
    pub(super) fn publishes(self) -> bool {
        matches!(self, Self::PublishRecord | Self::PublishRecords | Self::PublishBinary) || self.is_proxied()
    }

    /// Whether it is one of the older proxy.
    pub(super) fn is_proxied(self) -> bool {
        matches!(self, Self::JsonRecord | Self::JsonRecords | Self::ViewJsonRecord | Self::ViewJsonRecords)
    }

    /// Whether the second of its parameters is a view rather than a branch.
    pub(super) fn is_for_view(self) -> bool {
        matches!(self, Self::ViewJsonRecord | Self::ViewJsonRecords | Self::ViewRecords | Self::RecordsV2)
    }

    /// What the contract calls it when the caller lacks the right.
    pub(super) fn denied(self) -> Option<&'static str> {
        Some(match self {
            Self::CreateDataset | Self::CatalogCreate => "CreateStreamingDatasetPermissionDenied",
            Self::CreateStream => "CreateStreamPermissionDenied",
            Self::ResetStream => "ResetStreamPermissionDenied",
            Self::PublishRecord | Self::JsonRecord | Self::ViewJsonRecord => {
                "PublishRecordToStreamPermissionDenied"
            }
            Self::PublishRecords | Self::JsonRecords | Self::ViewJsonRecords => {
                "PublishRecordsToStreamPermissionDenied"
            }
            Self::PublishBinary => "PublishBinaryRecordToStreamPermissionDenied",
            Self::GetRecords | Self::Records | Self::ViewRecords | Self::RecordsV2 => {
                "GetRecordsFromStreamPermissionDenied"
            }
            Self::GetEndOffsets => "GetEndOffsetsForStreamPermissionDenied",
            Self::CreateSubscriber => "CreateSubscriberPermissionDenied",
            Self::DeleteSubscriber => "DeleteSubscriberPermissionDenied",
            Self::ReadRecords => "ReadRecordsFromSubscriberPermissionDenied",
            Self::CommitOffsets => "CommitSubscriberOffsetsPermissionDenied",
            Self::ReadPosition => "GetSubscriberReadPositionPermissionDenied",
            Self::ResetOffsets => "ResetSubscriberOffsetsPermissionDenied",
            Self::GetStream | Self::CatalogLatest | Self::CatalogDelete | Self::Token | Self::Revoke => {
                return None;
            }
        })
    }

    /// Whether it is about one subscriber, the third of its parameters.
    pub(super) fn is_of_subscriber(self) -> bool {
        matches!(
            self,
            Self::DeleteSubscriber
                | Self::ReadRecords
                | Self::CommitOffsets
                | Self::ReadPosition
                | Self::ResetOffsets
        )
    }

    /// Whether an error of it names the stream: the data set and the branch of the path.
    pub(super) fn names_stream(self) -> bool {
        !matches!(self, Self::CreateDataset | Self::CatalogCreate | Self::Token | Self::Revoke)
    }
}
