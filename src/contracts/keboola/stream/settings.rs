//! Settings of sources and sinks: which can be changed, their bounds, and the values in effect. A sink inherits the
//! settings of its source and can override them.

use super::shown::put;
use super::words::bad;
use crate::contracts::keboola::go::{GoDuration, GoSize};
use crate::contracts::keboola::validate::{Findings, ObjectNode};
use crate::contracts::reject::{Reject, RejectKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Overridden settings by key.
pub(super) type Overrides = BTreeMap<String, Value>;

const KEY_MAX: usize = 255;
/// Whether the answer waits for the sync.
const SYNC_WAIT: &str = "storage.level.local.encoding.sync.wait";
const UPLOAD: &str = "storage.level.staging.upload.trigger";
const IMPORT: &str = "storage.level.target.import.trigger";

/// The type of a setting's value, with its bounds.
#[derive(Debug, Clone, Copy)]
enum Type {
    Bool,
    Text,
    Count { max: u64 },
    Duration { min: &'static str, max: &'static str },
    Size { min: &'static str, max: &'static str },
}

struct Setting {
    key: &'static str,
    kind: Type,
    description: &'static str,
    default: fn() -> Value,
    protected: bool,
}

/// All settings, ordered by key.
static SETTINGS: [Setting; 9] = [
    Setting {
        key: "storage.level.local.encoding.sync.mode",
        kind: Type::Text,
        description: "Target of the sync: the log is synced to the disk itself.",
        default: || "disk".into(),
        protected: true,
    },
    Setting {
        key: SYNC_WAIT,
        kind: Type::Bool,
        description: "true: answer with 200 after the sync to disk. false: answer with 202 before it.",
        default: || true.into(),
        protected: false,
    },
    Setting {
        key: "storage.level.staging.upload.trigger.count",
        kind: Type::Count { max: 10_000_000 },
        description: "Number of records after which a file is staged.",
        default: || 10_000.into(),
        protected: false,
    },
    Setting {
        key: "storage.level.staging.upload.trigger.interval",
        kind: Type::Duration { min: "1s", max: "30m" },
        description: "Interval after which a file is staged.",
        default: || "30s".into(),
        protected: false,
    },
    Setting {
        key: "storage.level.staging.upload.trigger.size",
        kind: Type::Size { min: "100B", max: "50MB" },
        description: "Size after which a file is staged.",
        default: || "5MB".into(),
        protected: false,
    },
    Setting {
        key: "storage.level.target.format",
        kind: Type::Text,
        description: "File format of the table.",
        default: || "parquet".into(),
        protected: true,
    },
    Setting {
        key: "storage.level.target.import.trigger.count",
        kind: Type::Count { max: 10_000_000 },
        description: "Number of records after which a file is published.",
        default: || 50_000.into(),
        protected: false,
    },
    Setting {
        key: "storage.level.target.import.trigger.interval",
        kind: Type::Duration { min: "30s", max: "24h" },
        description: "Interval after which a file is published.",
        default: || "1m0s".into(),
        protected: false,
    },
    Setting {
        key: "storage.level.target.import.trigger.size",
        kind: Type::Size { min: "100B", max: "500MB" },
        description: "Size after which a file is published.",
        default: || "50MB".into(),
        protected: false,
    },
];

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Text => "string",
            Self::Count { .. } => "uint",
            Self::Duration { .. } => "duration",
            Self::Size { .. } => "size",
        }
    }

    fn validation(self) -> Option<String> {
        match self {
            Self::Bool | Self::Text => None,
            Self::Count { max } => Some(format!("required,min=1,max={max}")),
            Self::Duration { min, max } => Some(format!("required,minDuration={min},maxDuration={max}")),
            Self::Size { min, max } => Some(format!("required,minBytes={min},maxBytes={max}")),
        }
    }

    /// The value as stored, or the reason why it is invalid.
    fn check(self, value: &Value) -> Result<Value, String> {
        match self {
            Self::Bool => {
                value.is_boolean().then(|| value.clone()).ok_or_else(|| "must be true or false".into())
            }
            Self::Text => value.is_string().then(|| value.clone()).ok_or_else(|| "must be a string".into()),
            Self::Count { max } => match value.as_u64() {
                Some(count) if (1..=max).contains(&count) => Ok(value.clone()),
                _ => Err(format!("must be a number from 1 to {max}")),
            },
            Self::Duration { min, max } => {
                let wrong = || format!("must be a duration from {min} to {max}, such as \"1m30s\"");
                let span = value.as_str().and_then(GoDuration::parse).ok_or_else(wrong)?;
                let within = GoDuration::parse(min) <= Some(span) && Some(span) <= GoDuration::parse(max);
                if within { Ok(span.to_string().into()) } else { Err(wrong()) }
            }
            Self::Size { min, max } => {
                let wrong = || format!("must be a size from {min} to {max}, such as \"5MB\"");
                let size = value.as_str().and_then(GoSize::parse).ok_or_else(wrong)?;
                let within = GoSize::parse(min) <= Some(size) && Some(size) <= GoSize::parse(max);
                if within { Ok(size.to_string().into()) } else { Err(wrong()) }
            }
        }
    }
}

/// The overrides of a source and of its sink. The last layer that sets a key wins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layers<'a>(pub(super) &'a [&'a Overrides]);

impl Layers<'_> {
    fn value(&self, setting: &Setting) -> Value {
        let set = self.0.iter().rev().find_map(|layer| layer.get(setting.key));
        set.cloned().unwrap_or_else(setting.default)
    }

    fn get(&self, key: &str) -> Value {
        let setting = SETTINGS.iter().find(|setting| setting.key == key);
        self.value(setting.expect("only settings get the list are asked for"))
    }

    /// Returns whether the answer waits for the sync.
    pub(super) fn waits_for_sync(&self) -> bool {
        self.get(SYNC_WAIT) == true
    }

    /// When a file is written: records, bytes, seconds. A file is published as soon as it is staged, so the lower of
    /// the two triggers applies.
    pub(super) fn conditions(&self) -> (u64, u64, u64) {
        let least = |name: &str, read: &dyn Fn(&Value) -> Option<u64>| {
            let read = |level| read(&self.get(&format!("{level}.{name}")));
            read(UPLOAD).into_iter().chain(read(IMPORT)).min().unwrap_or(u64::MAX)
        };
        let count = least("count", &|value| value.as_u64());
        let bytes = least("size", &|value| Some(GoSize::parse(value.as_str()?)?.0));
        let seconds = least("interval", &|value| Some(GoDuration::parse(value.as_str()?)?.as_seconds()));
        (count, bytes, seconds)
    }

    /// The answer of `GET …/settings`. The last layer is that of the requested source or sink.
    pub(super) fn shown(&self) -> Value {
        let (own, below) = self.0.split_last().map_or((None, &[][..]), |(own, below)| (Some(*own), below));
        let item = |setting: &Setting| {
            let mut item = json!({
                "key": setting.key,
                "type": setting.kind.name(),
                "description": setting.description,
                "value": self.value(setting),
                "defaultValue": Layers(below).value(setting),
                "overwritten": own.is_some_and(|own| own.contains_key(setting.key)),
                "protected": setting.protected,
            });
            if let Some(validation) = setting.kind.validation() {
                put(&mut item, "validation", validation);
            }
            item
        };
        json!({"settings": SETTINGS.iter().map(item).collect::<Vec<_>>()})
    }
}

/// A setting to change. Null removes the override.
pub(super) struct SettingChange {
    key: String,
    value: Value,
}

impl SettingChange {
    pub(super) fn read(item: &ObjectNode<'_>, findings: &mut Findings) -> Self {
        item.require(&["key"], findings);
        let key = item.text("key", &(1..=KEY_MAX), findings).unwrap_or("").to_owned();
        // Null removes the override, and so does no value.
        Self { key, value: item.value("value").cloned().unwrap_or(Value::Null) }
    }
}

/// Applies changes to the overrides.
pub(super) fn change(own: &mut Overrides, items: &[SettingChange]) -> Result<(), Reject> {
    let mut protected = Vec::new();
    for SettingChange { key, value } in items {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            return Err(bad(format!("invalid key \"{key}\": unknown setting")));
        };
        if setting.protected {
            protected.push(format!("\"{key}\""));
        } else if value.is_null() {
            own.remove(key);
        } else {
            let value = setting.kind.check(value);
            let value = value.map_err(|why| bad(format!("invalid value for \"{key}\": {why}")))?;
            own.insert(key.clone(), value);
        }
    }
    if protected.is_empty() {
        return Ok(());
    }
    let message = format!("cannot modify protected keys: {}.", protected.join(", "));
    Err(Reject::new(RejectKind::Forbidden, message).code("forbidden"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(own: &mut Overrides, key: &str, value: Value) -> Result<(), String> {
        change(own, &[SettingChange { key: key.to_owned(), value }])
            .map_err(|reject| reject.external.into_owned())
    }

    #[test]
    fn a_sink_has_what_its_source_has_unless_it_has_its_own() {
        let (mut source, mut sink) = (Overrides::new(), Overrides::new());
        assert!(Layers(&[&source, &sink]).waits_for_sync());
        assert_eq!(Layers(&[&source, &sink]).conditions(), (10_000, 5 << 20, 30));
        changed(&mut source, SYNC_WAIT, json!(false)).unwrap();
        assert!(!Layers(&[&source, &sink]).waits_for_sync());
        changed(&mut sink, SYNC_WAIT, json!(true)).unwrap();
        changed(&mut sink, "storage.level.target.import.trigger.count", json!(7)).unwrap();
        changed(&mut source, "storage.level.staging.upload.trigger.size", json!("1kB")).unwrap();
        changed(&mut source, "storage.level.staging.upload.trigger.interval", json!("90s")).unwrap();
        let layers = [&source, &sink];
        assert!(Layers(&layers).waits_for_sync());
        assert_eq!(Layers(&layers).conditions(), (7, 1024, 60));
        let shown = Layers(&layers).shown();
        let item = |key: &str| {
            shown["settings"].as_array().unwrap().iter().find(|item| item["key"] == key).unwrap().clone()
        };
        let wait = item(SYNC_WAIT);
        assert_eq!(
            (&wait["value"], &wait["defaultValue"], &wait["overwritten"]),
            (&json!(true), &json!(false), &json!(true))
        );
        let interval = item("storage.level.staging.upload.trigger.interval");
        assert_eq!((&interval["value"], &interval["overwritten"]), (&json!("1m30s"), &json!(false)));
        changed(&mut sink, SYNC_WAIT, Value::Null).unwrap();
        assert!(!Layers(&[&source, &sink]).waits_for_sync());
    }

    #[test]
    fn values_have_bounds() {
        let mut own = Overrides::new();
        for (key, value) in [
            (SYNC_WAIT, json!("true")),
            ("storage.level.staging.upload.trigger.count", json!(0)),
            ("storage.level.staging.upload.trigger.count", json!(10_000_001)),
            ("storage.level.staging.upload.trigger.interval", json!("999ms")),
            ("storage.level.staging.upload.trigger.interval", json!("30m1s")),
            ("storage.level.staging.upload.trigger.size", json!("99B")),
            ("storage.level.target.import.trigger.interval", json!("29s")),
            ("storage.level.target.import.trigger.size", json!("501MB")),
            ("no.such.key", json!(1)),
        ] {
            assert!(changed(&mut own, key, value.clone()).is_err(), "{key} {value}");
        }
        assert!(own.is_empty());
        let refused = changed(&mut own, "storage.level.local.encoding.sync.mode", json!("cache"));
        let message = "cannot modify protected keys: \"storage.level.local.encoding.sync.mode\".";
        assert_eq!(refused.unwrap_err(), message);
    }
}
