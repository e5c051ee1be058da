//! A medium that does not return what was written to it.

use super::*;
use crate::wal::segment::Segment;

/// The DATA frames of a segment file: offset, bytes and LSN.
fn frames_of(segment: &Segment) -> Vec<(u64, u64, Lsn)> {
    let mut reader = segment.frames();
    let mut at = Segment::FIRST_OFFSET;
    let mut frames = Vec::new();
    while let Some((found, header)) = reader.next(at, segment.file.capacity()) {
        let bytes = header.frame_bytes() as u64;
        at = found + bytes;
        if header.kind == format::FrameKind::Data {
            frames.push((found, bytes, header.lsn));
        }
    }
    frames
}

/// Reads the whole log. Returns what was read, and what was reported as lost.
fn read_all(shared: &Arc<Shared>) -> (Vec<Lsn>, Vec<Damage>) {
    let mut reader = WalReader::new(Arc::clone(shared), Lsn::NONE);
    let (mut read, mut lost) = (Vec::new(), Vec::new());
    loop {
        match reader.poll() {
            Polled::Idle => return (read, lost),
            Polled::Damage(damage) => lost.push(damage),
            Polled::Frame(lsn) => read.push(lsn),
        }
    }
}

/// Whatever block of a segment with frames cannot be read: the frames that touch it are reported, by LSN, and all
/// others are read.
#[test]
fn an_unreadable_block_costs_its_frames_alone_and_they_are_reported() {
    let blocks = SEGMENT_BYTES / 512;
    for block in 8..blocks {
        let mut model = durable_log(20);
        model.append(10);
        model.sync();
        let segments = model.shared.segments.all();
        let segment = segments.last().unwrap();
        let bad = block * 512..(block + 1) * 512;
        let frames = frames_of(segment);
        let hit: Vec<Lsn> = frames
            .iter()
            .filter(|(at, bytes, _)| *at < bad.end && at + bytes > bad.start)
            .map(|(.., lsn)| *lsn)
            .collect();
        let path = segment.file.path().to_owned();
        drop(segments);
        model.disk.lose(&path, usize::try_from(bad.start).unwrap(), 512);
        let (shared, _, report) = open(&model.disk, Lsn::NONE, Lsn::NONE);
        let (read, lost) = read_all(&shared);
        let expected: Vec<Lsn> = model.sent.keys().filter(|lsn| !hit.contains(lsn)).copied().collect();
        assert_eq!(read, expected, "block {block}");
        let at_start = report.missing.iter().chain(&report.torn).map(|range| range.count());
        let reported: u64 = lost.iter().map(|damage| damage.lost.count()).chain(at_start).sum();
        let tail = model.sent.keys().last().is_some_and(|last| hit.contains(last));
        // Nothing follows the last frame, so only a mark could prove that it was there.
        assert!(
            reported == hit.len() as u64 || (tail && reported < hit.len() as u64),
            "block {block}: {lost:?}"
        );
        assert!(report.quarantined.is_empty(), "{report:?}");
    }
}

/// A consumed segment of which a part cannot be read is neither removed nor used again.
#[test]
fn a_segment_with_an_unreadable_block_is_kept() {
    let model = durable_log(60);
    let segment = Arc::clone(&model.shared.segments.all()[1]);
    let (at, ..) = frames_of(&segment)[1];
    let name = format::segment_name(segment.id());
    let path = segment.file.path().to_owned();
    drop(segment);
    model.disk.lose(&path, usize::try_from(at).unwrap(), 40);
    let (shared, mut reader, _) = open(&model.disk, Lsn::NONE, Lsn::NONE);
    while !matches!(reader.poll(), Polled::Idle) {}
    reader.trim(reader.position());
    while shared.archive_once() {}
    shared.prepare_once();
    assert!(model.disk.list(Path::new("/wal/quarantine")).unwrap().contains(&name));
}

/// A new segment that cannot be read back is kept apart, and another one is used.
#[test]
fn a_new_segment_that_cannot_be_read_is_not_used() {
    let model = Model::new(1);
    model.disk.lose_next_file(4096);
    model.shared.prepare_once();
    let kept = model.disk.list(Path::new("/wal/quarantine")).unwrap();
    assert_eq!(kept.len(), 1, "{kept:?}");
    model.shared.prepare_once();
    assert_eq!(model.shared.tail.lock().prepared.len(), config().prepared);
    let log = model.disk.list(Path::new("/wal")).unwrap();
    assert!(log.iter().all(|name| !kept[0].starts_with(name)), "{log:?}");
}

/// The kernel may drop the pages of a failed sync and read old ones back: their frames are not acknowledged.
#[test]
fn a_frame_whose_pages_reverted_is_not_acknowledged_by_a_rescue() {
    let mut model = durable_log(5);
    for len in [100, 900, 100] {
        model.append(len);
    }
    let last = *model.sent.keys().last().unwrap();
    model.disk.revert_on_failure();
    model.disk.fail_one_sync_after(0);
    model.sync();
    let durable = *model.shared.durable.borrow();
    assert!(durable.lsn < last, "{durable:?}");
    assert_eq!(durable.health, Health::Poisoned);
}

/// An append that fails leaves a hole; its caller was told. A later rescue keeps all other frames.
#[test]
fn a_hole_of_a_failed_append_does_not_stop_a_rescue() {
    let mut model = durable_log(2);
    model.append(100);
    model.disk.fail_one_write();
    let frame = NewFrame { ts: 7, ext: b"", head: b"head", body: &[] };
    assert!(matches!(model.shared.append(&frame), Err(AppendError::Unknown(_))));
    model.append(100);
    assert_eq!(model.sent.len(), 4, "all in the first segment");
    let last = *model.sent.keys().last().unwrap();
    let before = model.shared.pool.lock().log_bytes;
    model.disk.fail_one_sync_after(0);
    model.sync();
    let durable = *model.shared.durable.borrow();
    assert_eq!((durable.lsn, durable.health), (last, Health::Good));
    let files = model.disk.list(Path::new("/wal")).unwrap();
    let segments = files.iter().filter(|name| format::parse_segment_name(name).is_some());
    let bytes = |name: &String| model.disk.open_log(&Path::new("/wal").join(name)).unwrap().capacity();
    let on_disk: u64 = segments.map(bytes).sum();
    assert_eq!(model.shared.pool.lock().log_bytes, on_disk, "before the rescue: {before}");
}
