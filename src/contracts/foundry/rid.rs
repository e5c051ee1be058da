//! Resource ids: `ri.foundry.main.dataset.<uuid>`.

use super::model::DEFAULT_BRANCH;
use crate::catalog::Stream;
use uuid::Uuid;

const DATASET: &str = "ri.foundry.main.dataset.";
const VIEW: &str = "ri.foundry-streaming.main.view.";

pub(super) fn dataset(uuid: &str) -> String {
    format!("{DATASET}{uuid}")
}

/// The RID of a view contains the UUID of its stream.
pub(super) fn view(stream: &Stream) -> String {
    format!("{VIEW}{}", stream.uuid)
}

/// The topic of a view, for older clients.
pub(super) fn topic(view: &str) -> String {
    format!("ri.foundry-streaming.main.topic.{}", view.rsplit_once('.').map_or(view, |(_, last)| last))
}

/// Returns whether a text is a well-formed resource id.
pub(super) fn is_rid(text: &str) -> bool {
    let mut parts = text.splitn(5, '.');
    let mut next = || parts.next();
    let (Some("ri"), Some(service), Some(instance), Some(kind), Some(locator)) =
        (next(), next(), next(), next(), next())
    else {
        return false;
    };
    let word = |text: &str| {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        first && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let is_instance = |text: &str| {
        !text.starts_with('-')
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let is_locator = |text: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !text.is_empty() && text.bytes().all(known)
    };
    word(service) && is_instance(instance) && word(kind) && is_locator(locator)
}

/// Returns whether a folder belongs to a user. The contract allows no streams there.
pub(super) fn is_of_user(folder: &str) -> bool {
    folder.starts_with("ri.multipass.") || folder.starts_with("ri.compass.main.user-folder.")
}

/// The UUID of the stream in the RID of a dataset that has no document.
pub(super) fn stream_of(dataset: &str) -> Option<Uuid> {
    Uuid::try_parse(dataset.strip_prefix(DATASET)?).ok()
}

/// The name of the stream that the first record for an unknown dataset creates, if that is allowed.
pub(super) fn name_of(dataset: &str, branch: &str) -> String {
    let locator = dataset.strip_prefix(DATASET).unwrap_or(dataset);
    let name = format!("dataset-{}", super::datasets::plain(locator));
    match branch {
        DEFAULT_BRANCH => name,
        branch => format!("{name}.{}", super::datasets::plain(branch)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_ids_have_five_parts() {
        for good in [
            "ri.foundry.main.dataset.0f2b1a9e-0000-4000-8000-000000000001",
            "ri.compass.main.folder.x",
            "ri.multipass..user.a_b.c",
        ] {
            assert!(is_rid(good), "{good}");
        }
        for bad in
            ["", "ri", "ri.a.b.c", "ri.a.b.c.", "ri.A.b.c.d", "ri.a.b.c.d/e", "xri.a.b.c.d", "ri..b.c.d"]
        {
            assert!(!is_rid(bad), "{bad}");
        }
        assert!(is_of_user("ri.multipass..user.x") && !is_of_user("ri.compass.main.folder.x"));
    }
}
