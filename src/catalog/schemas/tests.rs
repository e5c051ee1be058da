//! Creating, altering and deleting streams, including after a restart.

use super::*;
use crate::clock::FakeClock;
use crate::schema::TimeRule;
use std::path::Path;

fn open(dir: &Path) -> Catalog {
    Catalog::open(dir, Arc::new(FakeClock::at(1_000))).unwrap()
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
    let evolved = catalog.evolve_stream(made.id, &[int("a")]).unwrap();
    assert_eq!(evolved.schema.version, 1);
    let alter = Alter { columns: Some(vec![int("a"), int("declared")]), ..Alter::default() };
    catalog.alter_stream(made.id, Some(1), &alter).unwrap();
    let evolved = catalog.evolve_stream(made.id, &[int("found")]).unwrap();
    let names: Vec<&str> = evolved.schema.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!((evolved.schema.version, names), (3, vec!["a", "declared", "found"]));
    let other = Column::new("declared", ColumnType::String);
    let conflict = catalog.evolve_stream(made.id, &[other]);
    assert!(matches!(conflict, Err(CatalogError::Conflict)));
    // The same type, but not the same values.
    let elsewhere = Column { path: Some(vec!["in".to_owned(), "b".to_owned()]), ..int("b") };
    let columns = [evolved.schema.columns.clone(), vec![elsewhere]].concat();
    let alter = Alter { columns: Some(columns), ..Alter::default() };
    catalog.alter_stream(made.id, Some(3), &alter).unwrap();
    assert!(matches!(catalog.evolve_stream(made.id, &[int("b")]), Err(CatalogError::Conflict)));
}

#[test]
fn records_bring_no_columns_to_a_stream_that_does_not_evolve_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    for policy in [Policy::Propose, Policy::Strict, Policy::Raw] {
        let made = catalog.create_stream(policy.name()).unwrap();
        catalog.evolve_stream(made.id, &[int("a")]).unwrap();
        let alter = Alter { policy: Some(policy), ..Alter::default() };
        let altered = catalog.alter_stream(made.id, None, &alter).unwrap();
        let conflict = catalog.evolve_stream(made.id, &[int("found")]);
        assert!(matches!(conflict, Err(CatalogError::Conflict)), "{policy}");
        assert_eq!(catalog.streams().get(made.id), Some(&altered));
    }
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
    assert_eq!(made.unwrap_err().to_string(), "column 'a': its default \"x\" is not a valid int64");
    let made = catalog.create_stream_with(strict("s", (0..4).map(|n| int(&format!("c{n}"))).collect()));
    assert_eq!(made.unwrap_err().to_string(), "too many Parquet columns: 4, the limit is 3");
    let time = TimeRule { column: "a".to_owned(), late: None, early: None, required: true };
    let settings = StreamSettings { time: Some(time), ..StreamSettings::default() };
    let made = catalog.create_stream_with(NewStream { settings, ..strict("s", vec![int("a")]) });
    assert_eq!(
        made.unwrap_err().to_string(),
        "the time rule's column 'a' is not a declared timestamp column"
    );
    assert!(catalog.streams().is_empty());
}
