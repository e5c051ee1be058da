//! The workspace and the regions, which the vendor's command line requests first. There is one workspace, this daemon,
//! and one region, its own address.

use super::Tinybird;
use crate::contracts::Call;
use serde_json::{Value, json};

pub(super) const NAME: &str = "forebay";

pub(super) fn workspace(tinybird: &Tinybird) -> Value {
    let id = &tinybird.control.instance;
    json!({
        "id": id,
        "name": NAME,
        "user_id": id,
        "user_email": "",
        "scope": "admin",
        "main": null,
        "is_branch": false,
    })
}

pub(super) fn regions(tinybird: &Tinybird, call: &Call<'_>) -> Value {
    let url = tinybird.control.base_url(call.head.headers);
    json!({"regions": [{"name": NAME, "provider": NAME, "host": url, "api_host": url}]})
}
