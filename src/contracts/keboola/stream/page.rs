//! Pages of lists: the entries after an id, up to a limit.

use super::words::bad;
use crate::contracts::reject::Reject;
use serde_json::{Value, json};

const LIMIT_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageQuery {
    after: String,
    limit: usize,
}

impl PageQuery {
    /// Reads the parameters of a request.
    pub(super) fn parse(query: &str) -> Result<Self, Reject> {
        let mut page = Self { after: String::new(), limit: LIMIT_MAX };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "afterId" => page.after = value.into_owned(),
                "limit" => page.limit = limit(&value)?,
                _ => {}
            }
        }
        Ok(page)
    }

    /// Cuts the page out of all entries, ordered by id. Also returns the JSON object that describes the page.
    pub(super) fn cut<T>(&self, mut all: Vec<T>, id: impl Fn(&T) -> String) -> (Vec<T>, Value) {
        all.sort_by_key(&id);
        let total = all.len();
        let cut: Vec<T> = all.into_iter().filter(|item| id(item) > self.after).take(self.limit).collect();
        // An empty page has no last id.
        let last = cut.last().map(id).unwrap_or_default();
        let page = json!({"afterId": self.after, "limit": self.limit, "lastId": last, "totalCount": total});
        (cut, page)
    }
}

fn limit(text: &str) -> Result<usize, Reject> {
    let Ok(limit) = text.parse::<i64>() else {
        let message = format!("invalid value {} for \"limit\", must be a integer", Value::from(text));
        return Err(Reject::malformed(message).code("invalidFieldType"));
    };
    match usize::try_from(limit) {
        Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        _ => {
            let (what, bound) = if limit < 1 { ("greater", 1) } else { ("lesser", LIMIT_MAX) };
            let message = format!("limit must be {what} or equal than {bound} but got value {limit}");
            Err(bad(message).code("invalidRange"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(query: &str) -> (Vec<&'static str>, Value) {
        PageQuery::parse(query).unwrap().cut(vec!["c", "a", "b"], |id| (*id).to_owned())
    }

    #[test]
    fn pages_follow_each_other() {
        let page = |after: &str, limit: usize, last: &str| json!({"afterId": after, "limit": limit, "lastId": last, "totalCount": 3});
        assert_eq!(cut(""), (vec!["a", "b", "c"], page("", 100, "c")));
        assert_eq!(cut("limit=2"), (vec!["a", "b"], page("", 2, "b")));
        assert_eq!(cut("limit=2&afterId=b"), (vec!["c"], page("b", 2, "c")));
        assert_eq!(cut("afterId=c"), (vec![], page("c", 100, "")));
    }

    #[test]
    fn limits_are_bounded() {
        for (query, code) in [
            ("limit=0", "invalidRange"),
            ("limit=101", "invalidRange"),
            ("limit=-1", "invalidRange"),
            ("limit=x", "invalidFieldType"),
            ("limit=", "invalidFieldType"),
        ] {
            assert_eq!(PageQuery::parse(query).unwrap_err().code, Some(code), "{query}");
        }
    }
}
