//! Consumed segments in the archive.

use super::*;
use crate::wal::archive::ArchiveError;
use crate::wal::archive::file::ArchivedSegment;

/// A log whose segments are all consumed and archived, except the last.
fn archived_log(frames: usize) -> Model {
    let mut model = durable_log(frames);
    model.read(usize::MAX);
    model.checkpoint();
    model.check_past();
    model
}

fn archived(model: &Model) -> Vec<String> {
    model.disk.list(Path::new("/archive")).unwrap()
}

fn past(model: &Model) -> (Vec<Lsn>, Option<ArchiveError>) {
    let all = LsnRange { first: Lsn(1), last: model.consumed };
    let mut frames = FrameHistory::new(Arc::clone(&model.shared)).read(all);
    let mut seen = Vec::new();
    loop {
        match frames.next() {
            Ok(Some(frame)) => seen.push(frame.lsn),
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        }
    }
}

#[test]
fn consumed_segments_are_archived_before_they_are_used_again() {
    let mut model = archived_log(120);
    let files = archived(&model);
    assert!(files.len() >= 4, "{files:?}");
    assert_eq!(model.shared.metrics.segments_reused.get() > 0, model.shared.archive.status().waiting == 0);
    let sent: Vec<Lsn> = model.sent.keys().copied().collect();
    assert_eq!(past(&model).0, sent);
    // This includes frames looked up by LSN.
    for lsn in sent.iter().step_by(7) {
        let (_, ts, payload) = FrameHistory::new(Arc::clone(&model.shared)).find(*lsn).unwrap().unwrap();
        assert_eq!((ts, &payload), (7, &model.sent[lsn]));
    }
    let disk = model.disk.clone();
    model.reopen(disk, false);
    assert_eq!(archived(&model), files, "a start changes nothing");
}

#[test]
fn an_archived_segment_is_the_segment_for_a_plain_decompressor() {
    let model = archived_log(60);
    let name = archived(&model).remove(0);
    let path = Path::new("/archive").join(name);
    let bytes = model.disk.open(&path).unwrap();
    let bytes = bytes.read(0, usize::try_from(bytes.bytes().unwrap()).unwrap()).unwrap();
    let raw = zstd::stream::decode_all(&bytes[..]).unwrap();
    let archived = ArchivedSegment::open(&model.disk, &path).unwrap();
    assert_eq!(raw.len() as u64, archived.index.raw_bytes());
    let header = format::SegmentHeader::decode(&raw[..format::HEADER_BYTES]).unwrap();
    assert_eq!((header.id, header.generation), (archived.index.id, archived.index.generation));
    let start = format::frame_at(&raw, format::HEADER_BYTES, header.salt(), &header.wal_uuid).unwrap();
    assert_eq!(start.header.kind, format::FrameKind::Start);
}

#[test]
fn a_death_at_any_step_of_archiving_neither_loses_a_frame_nor_shows_one_twice() {
    // Far more steps than archiving takes.
    for step in 0..120 {
        for power in [false, true] {
            let mut model = durable_log(60);
            model.read(usize::MAX);
            model.consumed = model.read_to;
            model.disk.copy_after(step);
            model.checkpoint();
            let Some(copy) = model.disk.take_copy() else { continue };
            let mut random = u64::from(step);
            let disk = if power { copy.crash(&mut || next_random(&mut random)) } else { copy };
            model.reopen(disk, power);
            model.checkpoint();
            model.check_past();
            let left: Vec<String> =
                archived(&model).into_iter().filter(|name| !name.ends_with("wal.zst")).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

#[test]
fn a_failed_sync_of_an_archived_segment_is_tried_again() {
    let mut model = durable_log(60);
    model.read(usize::MAX);
    model.disk.fail_syncs_after(0);
    model.reader.trim(model.read_to);
    assert!(model.shared.archive_once(), "it must be retried");
    assert_eq!(archived(&model), Vec::<String>::new());
    assert!(model.shared.archive.status().waiting > 0);
    assert_eq!(model.shared.metrics.archive_errors.get(), 1);
    model.disk.heal();
    model.checkpoint();
    assert_eq!(model.shared.archive.status().waiting, 0);
    model.check_past();
}

#[test]
fn the_oldest_goes_when_the_archive_is_over_its_size_or_too_old() {
    let mut model = archived_log(120);
    let files = archived(&model);
    let mut config = config().archive.unwrap();
    let size = model.shared.archive.status().bytes;
    config.bytes_max = size / 2;
    let shared = Arc::get_mut(&mut model.shared);
    assert!(shared.is_none(), "the reader shares it");
    let storage: Arc<dyn Storage> = Arc::new(model.disk.clone());
    let clock = Arc::new(FakeClock::at(1));
    let floor = Floor { consumed: model.consumed, ..Floor::default() };
    let reopen = |archive: archive::ArchiveConfig| {
        let config = WalConfig { archive: Some(archive), ..super::config() };
        let clock: Arc<dyn Clock> = Arc::<FakeClock>::clone(&clock);
        let (shared, _) = open_shared(Arc::clone(&storage), clock, config, &floor, Arc::default()).unwrap();
        shared.archive_once();
        shared
    };
    let shared = reopen(config.clone());
    let kept = archived(&model);
    assert!(kept.len() < files.len() && !kept.is_empty());
    assert_eq!(kept[..], files[files.len() - kept.len()..], "the oldest go first");
    let status = shared.archive.status();
    assert!(status.bytes <= size / 2);
    assert_eq!(status.dropped.over_bytes_max, (files.len() - kept.len()) as u64);
    let range = LsnRange { first: *model.sent.keys().next().unwrap(), last: model.consumed };
    let missing = shared.missing(range).unwrap();
    // Consumed segments that were not reused are still in the log.
    assert!(missing.iter().all(|range| range.last <= status.dropped.last_lsn), "{missing:?}");
    assert!(missing.iter().any(|missing| missing.first == range.first), "{missing:?}");

    clock.set(7 + 3_600_000_000);
    reopen(config.clone());
    assert_eq!(archived(&model).len(), kept.len(), "an hour is not over");
    clock.set(7 + 3_600_000_001);
    let shared = reopen(config);
    assert_eq!(archived(&model), Vec::<String>::new());
    assert_eq!(shared.metrics.archive_expired_segments.get(), kept.len() as u64);
    assert_eq!(shared.archive.status().dropped.segments(), 0, "age is no loss");
}

#[test]
fn a_full_disk_takes_from_the_archive_and_never_from_accepting() {
    let mut model = archived_log(60);
    let files = archived(&model).len();
    // Not even the existing archive fits.
    model.disk.set_capacity(Some(0));
    for _ in 0..40 {
        let before = model.sent.len();
        while model.sent.len() == before {
            model.append(300);
            model.read(usize::MAX);
            model.reader.trim(model.read_to);
            model.shared.archive_once();
            model.shared.prepare_once();
        }
        model.sync();
    }
    let dropped = model.shared.archive.status().dropped;
    assert_eq!(dropped.disk_full, files as u64);
    assert!(dropped.unarchived > 0);
    assert_eq!(archived(&model), Vec::<String>::new());
}

#[test]
fn a_log_that_needs_its_room_back_does_not_wait_for_the_archive() {
    let mut model = Model::new(1);
    // No thread archives. All segments are consumed.
    for _ in 0..1500 {
        let before = model.sent.len();
        while model.sent.len() == before {
            model.append(300);
        }
        model.sync();
        model.read(usize::MAX);
        model.consumed = model.read_to;
        model.reader.trim(model.consumed);
    }
    let status = model.shared.archive.status();
    assert!(status.dropped.unarchived > 0 && status.waiting > 0, "{status:?}");
    assert!(model.shared.pool.lock().log_bytes <= config().max_bytes);
    let missing = model.shared.missing(LsnRange { first: Lsn(1), last: model.consumed }).unwrap();
    let gone = model.sent.range(..=status.dropped.last_lsn).map(|(lsn, _)| *lsn);
    let called_missing = |lsn: &Lsn| missing.iter().any(|range| (range.first..=range.last).contains(lsn));
    assert!(gone.clone().count() > 0);
    assert!(gone.clone().all(|lsn| called_missing(&lsn)), "{missing:?}");
    assert_eq!(
        past(&model).0,
        model.sent.keys().copied().filter(|lsn| !called_missing(lsn)).collect::<Vec<_>>()
    );
}

#[test]
fn damage_in_an_archived_segment_is_an_error_and_not_a_wrong_frame() {
    let mut model = archived_log(60);
    let path = Path::new("/archive").join(archived(&model).remove(1));
    model.disk.flip(&path, 2000);
    let (seen, error) = past(&model);
    assert!(matches!(error, Some(ArchiveError::Block { .. })), "{error:?}");
    assert!(!seen.is_empty());
    let bytes = usize::try_from(model.disk.open(&path).unwrap().bytes().unwrap()).unwrap();
    model.disk.flip(&path, bytes - 30);
    assert!(matches!(past(&model).1, Some(ArchiveError::Index { .. })));
    // It stays in place for the operator.
    let disk = model.disk.clone();
    let consumed = model.consumed;
    (model.shared, model.reader, model.report) = open(&disk, consumed, Lsn::NONE);
    model.shared.archive_once();
    assert!(model.disk.open(&path).is_ok());
}

#[test]
fn what_a_failed_sync_left_behind_is_not_archived_twice() {
    let mut model = durable_log(30);
    // The next frames are in the segment whose sync failed, and in the one that replaced it.
    for _ in 0..4 {
        model.append(300);
    }
    let last = *model.sent.keys().last().unwrap();
    assert_eq!(model.shared.rescue().unwrap(), last);
    let disk = model.disk.clone();
    model.reopen(disk, false);
    model.read(usize::MAX);
    model.checkpoint();
    model.check_past();
}
