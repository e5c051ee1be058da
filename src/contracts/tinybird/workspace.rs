//! The workspace and the regions: what the vendor's command line asks for before anything else. There is one workspace,
//! this daemon, and one region, its own address.

use super::reply;
use crate::contracts::shared::control::Control;
use crate::contracts::{Call, Managed};
use http::StatusCode;
use serde_json::json;

pub(super) const NAME: &str = "forebay";

pub(super) fn workspace(control: &Control) -> Managed {
    Managed::Reply(reply(
        StatusCode::OK,
        &json!({
            "id": control.instance,
            "name": NAME,
            "user_id": control.instance,
            "user_email": "",
            "scope": "admin",
            "main": null,
            "is_branch": false,
        }),
    ))
}

pub(super) fn regions(control: &Control, call: &Call<'_>) -> Managed {
    let url = control.base_url(call.head.headers);
    let region = json!({"name": NAME, "provider": NAME, "host": url, "api_host": url});
    Managed::Reply(reply(StatusCode::OK, &json!({ "regions": [region] })))
}
