//! The catalog: what was registered is found again, exactly once, even after a restart.

use super::*;
use crate::batch::StreamId;
use crate::clock::FakeClock;
use crate::wal::{Lsn, LsnRange};

fn open(dir: &Path) -> Catalog {
    Catalog::open(dir, Arc::new(FakeClock::at(1_000))).unwrap()
}

fn cut(stream: StreamId, first: u64, last: u64, version: u32) -> Cut {
    Cut {
        stream,
        first_at: 0,
        last_at: 0,
        lsns: LsnRange { first: Lsn(first), last: Lsn(last) },
        files: vec![StagedFile {
            kind: FileKind::Rows,
            object: format!("t/{first}-{last}.parquet"),
            rows: 2,
            bytes: 3,
            checksum: Some(u64::MAX),
            offsets: Vec::new(),
        }],
        counts: Counts { stored: 2, quarantined: 1, ..Counts::default() },
        schema_version: version,
        misfits: Vec::new(),
        proposals: Vec::new(),
        first_number: None,
        given: false,
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

#[test]
fn what_the_first_version_wrote_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let db = migrations::first(&dir.path().join(FILE_NAME));
    db.execute_batch(
        "INSERT INTO streams (uuid, name, policy, created_at, checkpoint_lsn) VALUES ('u', 'visits', 'evolve', 7, 9);
         INSERT INTO tokens (name, hash, scopes, created_at) VALUES ('admin', zeroblob(32), 'admin', 8);",
    )
    .unwrap();
    drop(db);
    let catalog = open(dir.path());
    let stream = catalog.streams().named("visits").cloned().unwrap();
    assert_eq!((&*stream.uuid, stream.created_at), ("u", 7));
    assert_eq!(catalog.stream_progress(stream.id).unwrap().checkpoint, Lsn(9));
    let [token] = &catalog.tokens().unwrap()[..] else { panic!("one token") };
    let new = &token.new;
    assert_eq!((token.id, &*new.name, &*new.scopes, new.value.hash), (1, "admin", "admin", [0; 32]));
    assert_eq!((token.created_at, &*new.kind, new.expires_at), (8, "token", None));
    assert!(uuid::Uuid::parse_str(&token.uuid).is_ok(), "{}", token.uuid);
}

#[test]
fn objects_change_only_as_their_version_says() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let key = |name| ObjectKey { contract: "d", project: "p", kind: "k", name };
    let value = |n: u32| serde_json::json!({ "n": n });
    assert_eq!(catalog.create_object(key("b"), &value(1)).unwrap().version, 1);
    assert!(matches!(catalog.create_object(key("b"), &value(2)), Err(ObjectError::Exists)));
    catalog.create_object(key("a"), &value(3)).unwrap();
    assert_eq!(catalog.replace_object(key("b"), Some(1), &value(4)).unwrap().version, 2);
    assert!(matches!(catalog.replace_object(key("b"), Some(1), &value(5)), Err(ObjectError::Stale(2))));
    assert!(matches!(catalog.replace_object(key("c"), None, &value(5)), Err(ObjectError::Missing)));
    drop(catalog);
    let catalog = open(dir.path());
    let names: Vec<_> =
        catalog.objects("d", "p", "k").unwrap().into_iter().map(|object| object.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(catalog.object(key("b")).unwrap().unwrap().document, value(4));
    assert!(catalog.objects("d", "q", "k").unwrap().is_empty());
    assert!(catalog.delete_object(key("b")).unwrap() && !catalog.delete_object(key("b")).unwrap());
}

#[test]
fn what_cannot_be_read_is_an_error_and_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let stream = catalog.create_stream("visits").unwrap().id;
    let lsns = LsnRange { first: Lsn(1), last: Lsn(2) };
    let new = NewReplay {
        stream,
        from: 0,
        to: 1,
        partial: false,
        lsns,
        first_at: 0,
        last_at: 1,
        cuts: 1,
        files: 1,
        rows: 2,
        missing: Vec::new(),
        left_out: Vec::new(),
    };
    let replay = catalog.add_replay(&new).unwrap().id;
    // Nothing is planned.
    catalog.swap(replay).unwrap();
    let db = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    db.execute("UPDATE replays SET swap = '{\"stream\":'", []).unwrap();
    catalog.swap(replay).unwrap_err();
    db.execute("UPDATE replays SET swap = NULL, left_out = ''", []).unwrap();
    catalog.replay(replay).unwrap_err();
    catalog.set_wal_uuid([7; 16]).unwrap();
    assert_eq!(catalog.floor().unwrap().wal_uuid, Some([7; 16]));
    db.execute("UPDATE meta SET value = x'0707' WHERE key = 'wal_uuid'", []).unwrap();
    catalog.floor().unwrap_err();
    catalog.set_wal_uuid([8; 16]).unwrap_err();
    wal_uuid(dir.path()).unwrap_err();
}
