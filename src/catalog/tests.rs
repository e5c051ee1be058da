//! The catalog: what is registered is found again, once, also after a new start.

use super::*;
use crate::batch::StreamId;
use crate::clock::FakeClock;
use crate::schema::{Change, Column, ColumnType, Policy, StreamSettings, TimeRule};
use crate::wal::{Lsn, LsnRange};

fn open(dir: &Path) -> Catalog {
    Catalog::open(dir, Arc::new(FakeClock::at(1_000))).unwrap()
}

fn cut(stream: StreamId, first: u64, last: u64, version: u32) -> Cut {
    Cut {
        stream,
        lsns: LsnRange { first: Lsn(first), last: Lsn(last) },
        files: vec![NewFile {
            kind: FileKind::Rows,
            object: format!("t/{first}-{last}.parquet"),
            rows: 2,
            bytes: 3,
        }],
        counts: Counts { stored: 2, quarantined: 1, rescued: 0, duplicate_keys: 0 },
        schema_version: version,
        misfits: Vec::new(),
    }
}

#[test]
fn streams_are_made_once_and_found_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let made = catalog.create_stream("visits").unwrap();
    assert_eq!(catalog.create_stream("visits").unwrap(), made);
    assert_ne!(catalog.create_stream("Visits").unwrap().id, made.id);
    drop(catalog);
    let catalog = open(dir.path());
    assert_eq!(catalog.streams().named("visits"), Some(&made));
    assert_eq!(catalog.streams().find(&made.uuid), Some(&made));
    assert_eq!(catalog.streams().get(made.id), Some(&made));
}

#[test]
fn names_are_checked() {
    for good in ["a", "_", "a.b-c_D9", &"x".repeat(128)] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    for bad in ["", "9a", "-a", "a/b", "..", "a\0", "é", "a b", &"x".repeat(129), ".a"] {
        assert_eq!(check_name(bad), Err(NameError::Characters), "{bad:?}");
    }
    assert_eq!(check_name("a_quarantine"), Err(NameError::Reserved));
}

#[test]
fn a_cut_registers_files_and_checkpoint_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let stream = catalog.create_stream("s").unwrap().id;
    assert_eq!(catalog.floor().unwrap().consumed, Lsn(0));
    let files = catalog.register(&[cut(stream, 5, 9, 1), cut(stream, 10, 12, 2)], Lsn(11)).unwrap();
    assert_eq!(files.len(), 2);
    let floor = catalog.floor().unwrap();
    assert_eq!((floor.consumed, floor.highest), (Lsn(11), Lsn(12)));
    let progress = catalog.progress().unwrap();
    assert_eq!((progress[0].checkpoint, progress[0].counts.stored), (Lsn(12), 4));
    let again = catalog.register(&[cut(stream, 5, 9, 1)], Lsn(12));
    assert!(again.is_err(), "an object's name is registered once");
    assert_eq!(catalog.floor().unwrap().consumed, Lsn(11), "all or nothing");
}

#[test]
fn files_go_from_staged_to_published_or_expired() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let stream = catalog.create_stream("s").unwrap().id;
    let cuts = [cut(stream, 5, 9, 1), cut(stream, 10, 12, 1)];
    let files = catalog.register(&cuts, Lsn(12)).unwrap();
    catalog.mark_failed(files[0].id, "no route").unwrap();
    assert_eq!(catalog.staged().unwrap()[0].last_error.as_deref(), Some("no route"));
    catalog.mark_published(&[files[0].id]).unwrap();
    catalog.mark_expired(files[1].id).unwrap();
    assert!(catalog.staged().unwrap().is_empty());
    let with = catalog.files_with(stream, Lsn(7)).unwrap();
    assert_eq!((with.len(), with[0].state, with[0].published_at), (1, FileState::Published, Some(1_000)));
    assert_eq!(catalog.files_with(stream, Lsn(10)).unwrap()[0].state, FileState::Expired);
    assert!(catalog.files_with(stream, Lsn(13)).unwrap().is_empty());
}

#[test]
fn a_newer_catalog_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let db = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let opened = Catalog::open(dir.path(), Arc::new(FakeClock::at(0)));
    assert!(matches!(opened, Err(CatalogError::Newer { found: 99, .. })));
}

fn int(name: &str) -> Column {
    Column::new(name, ColumnType::Int64)
}

fn strict(name: &str, columns: Vec<Column>) -> NewStream {
    NewStream {
        name: name.to_owned(),
        policy: Policy::Strict,
        columns,
        settings: StreamSettings::default(),
        if_exists: IfExists::Error,
    }
}

#[test]
fn a_stream_is_altered_in_versions_that_stay() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let made = catalog.create_stream_with(strict("s", vec![int("a")])).unwrap();
    assert_eq!((made.schema.version, made.policy), (1, Policy::Strict));
    let again = catalog.create_stream_with(strict("s", vec![int("b")]));
    assert!(matches!(again, Err(CatalogError::Exists(name)) if name == "s"));
    let alter = Alter { columns: Some(vec![int("a"), int("b")]), ..Alter::default() };
    assert_eq!(catalog.changes(made.id, Some(1), &alter).unwrap().len(), 1);
    let altered = catalog.alter_stream(made.id, Some(1), &alter).unwrap();
    assert_eq!((altered.schema.version, altered.schema.columns.len()), (2, 2));
    let stale = catalog.alter_stream(made.id, Some(1), &alter);
    assert!(matches!(stale, Err(CatalogError::StaleVersion { expected: 1, found: 2 })));
    let same = catalog.alter_stream(made.id, None, &alter).unwrap();
    assert_eq!(same.schema.version, 2, "nothing changed");
    let drop_a = Alter { columns: Some(vec![int("b")]), ..Alter::default() };
    let refused = catalog.alter_stream(made.id, None, &drop_a);
    let lost = vec![Change::Removed { column: "a".to_owned() }];
    assert!(matches!(refused, Err(CatalogError::LosesData(changes)) if changes == lost));
    let forced = catalog.alter_stream(made.id, None, &Alter { force: true, ..drop_a }).unwrap();
    assert_eq!(catalog.streams().get(made.id), Some(&forced));
    let versions = catalog.schema_versions(made.id).unwrap();
    let columns: Vec<usize> = versions.iter().map(|version| version.rules.schema.columns.len()).collect();
    assert_eq!(columns, [1, 2, 1]);
    assert_eq!(catalog.rules(made.id, 2).unwrap(), Some(altered.rules()));
    assert_eq!(catalog.rules(made.id, 4).unwrap(), None);
    drop(catalog);
    assert_eq!(open(dir.path()).streams().named("s"), Some(&forced));
}

#[test]
fn settings_are_kept_and_a_time_rule_makes_a_version() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let at = Column::new("at", ColumnType::Timestamp);
    let made = catalog.create_stream_with(strict("s", vec![at])).unwrap();
    let described = StreamSettings { description: "visits".to_owned(), ..StreamSettings::default() };
    let alter = Alter { settings: Some(described.clone()), ..Alter::default() };
    let altered = catalog.alter_stream(made.id, None, &alter).unwrap();
    assert_eq!((altered.schema.version, &altered.settings.description), (1, &"visits".to_owned()));
    let time = TimeRule { column: "at".to_owned(), late: Some(60), early: None, required: true };
    let settings = StreamSettings { time: Some(time), ..described };
    let alter = Alter { settings: Some(settings.clone()), ..Alter::default() };
    let altered = catalog.alter_stream(made.id, None, &alter).unwrap();
    assert_eq!((altered.schema.version, &*altered.settings), (2, &settings));
    assert_eq!(catalog.rules(made.id, 1).unwrap().unwrap().time, None);
    drop(catalog);
    assert_eq!(open(dir.path()).streams().named("s"), Some(&altered));
}

#[test]
fn columns_that_records_bring_join_those_that_were_declared_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let made = catalog.create_stream("s").unwrap();
    let evolved = catalog.evolve_stream(made.id, 0, &[int("a")]).unwrap();
    assert_eq!(evolved.schema.version, 1);
    let alter = Alter { columns: Some(vec![int("a"), int("declared")]), ..Alter::default() };
    catalog.alter_stream(made.id, Some(1), &alter).unwrap();
    let evolved = catalog.evolve_stream(made.id, 1, &[int("a"), int("found")]).unwrap();
    let names: Vec<&str> = evolved.schema.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!((evolved.schema.version, names), (3, vec!["a", "declared", "found"]));
    let other = Column::new("declared", ColumnType::String);
    let conflict = catalog.evolve_stream(made.id, 1, &[other]);
    assert!(matches!(conflict, Err(CatalogError::Conflict)));
}

#[test]
fn a_deleted_stream_leaves_its_name_and_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let first = catalog.create_stream("s").unwrap();
    let deleted = catalog.delete_stream(first.id).unwrap();
    assert_eq!((deleted.name.as_str(), deleted.deleted_at), ("s", Some(1_000)));
    assert_eq!((catalog.streams().find("s"), catalog.streams().find(&first.uuid)), (None, None));
    assert!(matches!(catalog.delete_stream(first.id), Err(CatalogError::NoSuchStream)));
    let altered = catalog.alter_stream(first.id, None, &Alter::default());
    assert!(matches!(altered, Err(CatalogError::NoSuchStream)));
    let second = catalog.create_stream("s").unwrap();
    assert_ne!(second.id, first.id);
    for catalog in [catalog, open(dir.path())] {
        assert_eq!(catalog.streams().named("s"), Some(&second));
        assert_eq!(catalog.streams().get(first.id), Some(&deleted), "the log may still have records of it");
        assert_eq!(catalog.streams().all().len(), 1);
    }
}

#[test]
fn bad_columns_are_refused_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path()).with_columns_max(3);
    let default = Column { default: Some(serde_json::json!("x")), ..int("a") };
    let made = catalog.create_stream_with(strict("s", vec![default]));
    assert_eq!(made.unwrap_err().to_string(), "column 'a': its default \"x\" is no int64");
    let made = catalog.create_stream_with(strict("s", (0..4).map(|n| int(&format!("c{n}"))).collect()));
    assert_eq!(made.unwrap_err().to_string(), "the columns take 4 places of 3");
    let time = TimeRule { column: "a".to_owned(), late: None, early: None, required: true };
    let settings = StreamSettings { time: Some(time), ..StreamSettings::default() };
    let made = catalog.create_stream_with(NewStream { settings, ..strict("s", vec![int("a")]) });
    assert_eq!(
        made.unwrap_err().to_string(),
        "the time rule's column 'a' is no declared column of timestamps"
    );
    assert!(catalog.streams().is_empty());
}
