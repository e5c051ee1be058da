//! Frames left by a failed sync are reread, whenever the process or the power fails.

use super::*;

#[test]
fn one_failed_sync_is_made_good_in_a_new_segment() {
    let mut model = durable_log(5);
    model.append(100);
    model.append(200);
    model.disk.fail_syncs_after(0);
    model.shared.rescued.store(false, std::sync::atomic::Ordering::SeqCst);
    // The sync fails; by the time of the rescue the disk works again.
    let error = model.shared.segments.all()[0].file.sync();
    assert!(error.is_err());
    model.disk.heal();
    let durable = model.shared.rescue().unwrap();
    assert_eq!(Some(&durable), model.sent.keys().last());
    let mut random = 3;
    let disk = model.disk.crash(&mut || next_random(&mut random));
    model.durable = durable;
    model.reopen(disk, true);
}

/// A process that dies at any moment of a rescue loses no frame; power loss at that moment loses only frames that were
/// not durable. `trimmed`: whether the earlier segments are trimmed; `after`: how many frames are appended afterwards.
fn check_deaths_in_a_rescue(trimmed: bool, after: usize) {
    for moment in 0.. {
        let mut model = durable_log(5);
        let append = |model: &mut Model, len| {
            let before = model.sent.len();
            while model.sent.len() == before {
                model.append(len);
            }
        };
        append(&mut model, 2500);
        append(&mut model, 2500);
        model.sync();
        if trimmed {
            model.read(usize::MAX);
            model.checkpoint();
        }
        for len in [100, 2500, 2500, 200] {
            append(&mut model, len);
        }
        let last = *model.sent.keys().last().unwrap();
        model.disk.copy_after(moment);
        model.shared.rescue().unwrap();
        for _ in 0..after {
            append(&mut model, 1500);
        }
        let Some(copy) = model.disk.take_copy() else {
            assert!(moment > 10, "a rescue consists of many changes");
            return;
        };
        model.forgiven = model.sent.split_off(&last.next());
        let mut random = u64::from(moment) + 1;
        let lost_power = copy.crash(&mut || next_random(&mut random));
        for (disk, power) in [(copy, false), (lost_power, true)] {
            let (sent, forgiven) = (model.sent.clone(), model.forgiven.clone());
            let (consumed, durable) = (model.consumed, model.durable);
            let mut restarted = Model { sent, forgiven, consumed, durable, ..Model::new(1) };
            restarted.reopen(disk, power);
        }
    }
}

#[test]
fn a_death_in_the_middle_of_a_rescue_loses_nothing() {
    check_deaths_in_a_rescue(false, 0);
}

#[test]
fn a_death_in_the_middle_of_a_rescue_loses_nothing_if_what_was_before_is_trimmed() {
    check_deaths_in_a_rescue(true, 0);
}

#[test]
fn a_death_after_a_rescue_loses_nothing() {
    check_deaths_in_a_rescue(false, 10);
    check_deaths_in_a_rescue(true, 10);
}

#[test]
fn a_segment_that_cannot_be_used_again_takes_no_room() {
    let mut model = durable_log(60);
    model.read(usize::MAX);
    model.disk.fail_syncs_after(0);
    model.checkpoint();
    model.disk.heal();
    let dir = PathBuf::from("/wal");
    let files = model.disk.list(&dir).unwrap();
    assert!(model.disk.list(&dir.join("pool")).unwrap().is_empty());
    let segments = files.iter().filter(|name| format::parse_segment_name(name).is_some());
    let bytes: u64 = segments.map(|name| model.disk.open_log(&dir.join(name)).unwrap().capacity()).sum();
    assert_eq!(model.shared.pool.lock().log_bytes, bytes);
}

#[test]
fn a_segment_prepared_during_a_rescue_is_not_taken_into_use() {
    let model = durable_log(5);
    {
        // This is the first step of a rescue.
        let mut tail = model.shared.tail.lock();
        tail.paused = true;
        tail.active = None;
        tail.prepared.clear();
    }
    model.shared.prepare_once();
    let tail = model.shared.tail.lock();
    assert!(tail.active.is_none() && tail.paused, "its frames would be replaced by the rescued ones");
    assert!(!tail.prepared.is_empty());
}

/// Segments that were prepared earlier have lower ids than the one that a rescue writes, and come after it.
#[test]
fn what_follows_a_rescue_in_segments_prepared_before_is_read_after_it() {
    let mut model = durable_log(5);
    model.read(usize::MAX);
    model.shared.prepare_once();
    let prepared = model.shared.tail.lock().prepared.len();
    assert_eq!(prepared, config().prepared);
    model.append(100);
    let rescued = model.shared.rescue().unwrap();
    let frames = model.sent.len() + 20;
    while model.sent.len() < frames {
        model.append(1500);
    }
    model.sync();
    let ids: Vec<SegmentId> = model.shared.segments.all().iter().map(|segment| segment.id()).collect();
    assert!(!ids.is_sorted(), "{ids:?}");
    model.read(usize::MAX);
    let last = model.sent.keys().last().copied();
    assert!(Some(model.read_to) == last && model.read_to > rescued, "this process reads all of it");
    let disk = model.disk.clone();
    model.reopen(disk, false);
    // Like a start after a checkpoint in the middle, and like a reader of consumed frames.
    model.read(model.sent.len() - 8);
    model.checkpoint();
    let disk = model.disk.clone();
    model.reopen(disk, false);
}
