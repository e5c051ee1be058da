//! Tests the log against an oracle, on a disk that loses power.

mod archiving;
mod medium;
mod rescue;

use super::*;
use crate::clock::FakeClock;
use crate::storage::sim::SimDisk;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SEGMENT_BYTES: u64 = 8 * 1024;

fn config() -> WalConfig {
    WalConfig {
        dir: PathBuf::from("/wal"),
        segment_bytes: SEGMENT_BYTES,
        first_segment_bytes: 6 * 1024,
        prepared: 2,
        sync_interval: Duration::from_millis(1),
        sync_bytes: 1 << 20,
        unsynced_max: 1 << 20,
        max_bytes: 40 * SEGMENT_BYTES,
        disk_reserve: 0,
        archive: Some(archive::ArchiveConfig {
            dir: PathBuf::from("/archive"),
            retention: Duration::from_hours(1),
            bytes_max: u64::MAX,
        }),
    }
}

/// A log without threads, and the state that it must match.
struct Model {
    disk: SimDisk,
    shared: Arc<Shared>,
    reader: WalReader,
    report: RecoveryReport,
    /// All frames ever appended.
    sent: BTreeMap<Lsn, Vec<u8>>,
    /// Frames that a crash may have undone.
    forgiven: BTreeMap<Lsn, Vec<u8>>,
    /// The contents of the "catalog", which survives everything.
    consumed: Lsn,
    durable: Lsn,
    read_to: Lsn,
    random: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new();
        let (shared, reader, report) = open(&disk, Lsn::NONE, Lsn::NONE);
        Self {
            disk,
            shared,
            reader,
            report,
            sent: BTreeMap::new(),
            forgiven: BTreeMap::new(),
            consumed: Lsn::NONE,
            durable: Lsn::NONE,
            read_to: Lsn::NONE,
            random: seed,
        }
    }

    fn append(&mut self, len: usize) {
        let mut payload = vec![0_u8; len];
        for byte in &mut payload {
            *byte = next_random(&mut self.random).to_le_bytes()[0];
        }
        let (head, rest) = payload.split_at(len / 3);
        let body = [Bytes::copy_from_slice(rest)];
        let frame = NewFrame { ts: 7, ext: b"", head, body: &body };
        match self.shared.append(&frame) {
            Ok(lsn) => {
                let highest = self.sent.keys().chain(self.forgiven.keys()).max().copied();
                assert!(highest.is_none_or(|highest| lsn > highest), "{lsn} was assigned before");
                self.sent.insert(lsn, payload);
            }
            Err(AppendError::Full(_)) => self.shared.prepare_once(),
            Err(AppendError::Poisoned) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn sync(&mut self) {
        self.shared.sync_once();
        self.observe_durable();
    }

    fn observe_durable(&mut self) {
        let durable = self.shared.durable.borrow().lsn;
        assert!(durable >= self.durable, "W2: the durable mark never shrinks");
        assert!(durable <= self.shared.tail.lock().last, "W2: durable <= appended");
        self.durable = durable;
    }

    /// Reads up to `n` frames and checks each against what was sent.
    fn read(&mut self, n: usize) {
        for _ in 0..n {
            match self.reader.poll() {
                Polled::Idle => return,
                Polled::Damage(damage) => check_torn(&self.sent, &damage),
                Polled::Frame(lsn) => {
                    assert!(lsn > self.read_to, "frames are read in order, each once");
                    assert!(lsn <= self.durable, "W1: readers see durable frames only");
                    let skipped = self.sent.range(self.read_to.next()..lsn).next();
                    assert_eq!(skipped, None, "a frame was skipped");
                    let frame = self.reader.frame().unwrap();
                    assert_eq!(frame.payload, &self.sent[&lsn][..]);
                    self.read_to = lsn;
                }
            }
        }
    }

    fn checkpoint(&mut self) {
        self.consumed = self.consumed.max(self.read_to);
        self.reader.trim(self.consumed);
        self.shared.archive_once();
        self.shared.prepare_once();
    }

    fn reopen(&mut self, disk: SimDisk, lost_power: bool) {
        if lost_power {
            // Un-synced frames may be lost; durable frames may not.
            let lost: Vec<Lsn> = self.sent.range(self.durable.next()..).map(|(lsn, _)| *lsn).collect();
            for lsn in lost {
                self.forgiven.extend(self.sent.remove_entry(&lsn));
            }
        }
        let highest = self.sent.keys().chain(self.forgiven.keys()).max().copied();
        let (shared, reader, report) = open(&disk, self.consumed, Lsn::NONE);
        assert_eq!(report.missing, [], "no segment is missing");
        (self.disk, self.shared, self.reader, self.report) = (disk, shared, reader, report);
        self.durable = self.shared.durable.borrow().lsn;
        assert!(
            highest.is_none_or(|highest| self.durable > highest),
            "LSNs continue above all that were assigned"
        );
        self.read_to = self.consumed;
        self.check_recovered();
    }

    /// Acknowledged ⊆ recovered ⊆ sent, in order, each once.
    fn check_recovered(&mut self) {
        let mut seen = self.consumed;
        let mut reader = WalReader::new(Arc::clone(&self.shared), self.consumed);
        loop {
            match reader.poll() {
                Polled::Idle => break,
                Polled::Damage(damage) => check_torn(&self.sent, &damage),
                Polled::Frame(lsn) => {
                    assert!(lsn > seen);
                    assert_eq!(
                        self.sent.range(seen.next()..lsn).next(),
                        None,
                        "an acknowledged frame is gone"
                    );
                    // A frame that could have been lost and was not counts from now on.
                    self.sent.extend(self.forgiven.remove_entry(&lsn));
                    let frame = reader.frame().unwrap();
                    assert_eq!(frame.payload, &self.sent[&lsn][..], "recovered as sent");
                    seen = lsn;
                }
            }
        }
        assert_eq!(self.sent.range(seen.next()..).next(), None, "an acknowledged frame is gone");
        self.check_past();
    }

    /// Consumed frames can be reread, in order, each once, from the log or the archive.
    fn check_past(&mut self) {
        let all = LsnRange { first: Lsn(1), last: self.consumed };
        let mut past = FrameHistory::new(Arc::clone(&self.shared)).read(all);
        let mut seen = Lsn::NONE;
        while let Some(frame) = past.next().unwrap() {
            assert!(frame.lsn > seen, "each once, in order");
            assert_eq!(self.sent.range(seen.next()..frame.lsn).next(), None, "a consumed frame is gone");
            seen = frame.lsn;
            let sent = self.sent.get(&seen).or_else(|| self.forgiven.get(&seen));
            assert_eq!(Some(frame.payload), sent.map(|payload| &payload[..]), "kept as sent");
        }
        let left = self.sent.range(seen.next()..).next().filter(|(lsn, _)| **lsn <= self.consumed);
        assert_eq!(left, None, "a consumed frame is gone");
        let missing = self.shared.missing(all).unwrap();
        let within = |range: &LsnRange| self.sent.range(range.first..=range.last).next().is_some();
        assert!(!missing.iter().any(within), "existing frames are not reported missing: {missing:?}");
    }
}

/// No lost frame was acknowledged as durable, and none is reported as damage to the medium.
fn check_torn(sent: &BTreeMap<Lsn, Vec<u8>>, damage: &Damage) {
    assert!(damage.corrupt.is_none(), "a torn tail is reported as corruption: {damage:?}");
    let lost = sent.range(damage.lost.first..=damage.lost.last).next();
    assert_eq!(lost, None, "an acknowledged frame is reported lost");
}

fn open(disk: &SimDisk, consumed: Lsn, highest: Lsn) -> (Arc<Shared>, WalReader, RecoveryReport) {
    let floor = Floor { consumed, highest, ..Floor::default() };
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let clock = Arc::new(FakeClock::at(1));
    let (shared, report) = open_shared(storage, clock, config(), &floor, Arc::default()).unwrap();
    let reader = WalReader::new(Arc::clone(&shared), consumed);
    (shared, reader, report)
}

/// splitmix64
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[derive(Debug, Clone)]
enum Op {
    Append(usize),
    Sync,
    Prepare,
    Read(usize),
    Checkpoint,
    PowerLoss,
    Kill,
    CleanStop,
    FailSyncsAfter(u32),
    FailOneSyncAfter(u32),
    RevertOnFailure,
    Heal,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (0_usize..700).prop_map(Op::Append),
        6 => Just(Op::Sync),
        4 => Just(Op::Prepare),
        6 => (1_usize..20).prop_map(Op::Read),
        3 => Just(Op::Checkpoint),
        2 => Just(Op::PowerLoss),
        1 => Just(Op::Kill),
        1 => Just(Op::CleanStop),
        1 => (0_u32..4).prop_map(Op::FailSyncsAfter),
        2 => (0_u32..4).prop_map(Op::FailOneSyncAfter),
        1 => Just(Op::RevertOnFailure),
        1 => Just(Op::Heal),
    ]
}

fn run(seed: u64, ops: &[Op]) {
    let mut model = Model::new(seed);
    // From then on a failed sync may cost frames even without power loss.
    let mut reverts = false;
    for op in ops {
        match op {
            Op::Append(len) => model.append(*len),
            Op::Sync => model.sync(),
            Op::Prepare => model.shared.prepare_once(),
            Op::Read(n) => model.read(*n),
            Op::Checkpoint => model.checkpoint(),
            Op::FailSyncsAfter(n) => model.disk.fail_syncs_after(*n),
            Op::FailOneSyncAfter(n) => model.disk.fail_one_sync_after(*n),
            Op::Heal => model.disk.heal(),
            Op::RevertOnFailure => {
                model.disk.revert_on_failure();
                reverts = true;
            }
            Op::PowerLoss => {
                let mut random = model.random;
                let disk = model.disk.crash(&mut || next_random(&mut random));
                model.random = random;
                model.reopen(disk, true);
            }
            Op::Kill => {
                let disk = model.disk.clone();
                disk.heal();
                // A failed sync in the killed process leaves the cache intact, so no loss is allowed.
                model.reopen(disk, reverts);
            }
            Op::CleanStop => {
                Handle::new(Arc::clone(&model.shared)).close();
                model.sync();
                let disk = model.disk.clone();
                disk.heal();
                model.reopen(disk, reverts);
            }
        }
    }
    // Recovering a recovered directory gives the same result.
    let disk = model.disk.clone();
    disk.heal();
    model.reopen(disk.clone(), reverts);
    model.reopen(disk, false);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 4, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_is_within_recovered_is_within_sent(seed: u64, ops in prop::collection::vec(op(), 1..120)) {
        run(seed, &ops);
    }
}

/// A log of sealed segments with durable frames, to be damaged by tests.
fn durable_log(frames: usize) -> Model {
    let mut model = Model::new(1);
    for _ in 0..frames {
        let before = model.sent.len();
        while model.sent.len() == before {
            model.append(300);
        }
        model.sync();
    }
    model
}

fn lost(model: &mut Model, consumed: Lsn) -> (Vec<Damage>, Vec<Lsn>) {
    let (shared, mut reader, report) = open(&model.disk, consumed, Lsn::NONE);
    (model.shared, model.report) = (shared, report);
    let (mut damages, mut frames) = (Vec::new(), Vec::new());
    loop {
        match reader.poll() {
            Polled::Idle => return (damages, frames),
            Polled::Damage(damage) => damages.push(damage),
            Polled::Frame(lsn) => frames.push(lsn),
        }
    }
}

fn nth_segment(model: &Model, n: usize) -> PathBuf {
    model.shared.segments.all()[n].file.path().to_owned()
}

#[test]
fn a_flipped_byte_loses_its_frame_alone_and_is_called_corruption() {
    let mut model = durable_log(60);
    let sent: Vec<Lsn> = model.sent.keys().copied().collect();
    model.disk.flip(&nth_segment(&model, 1), 5000);
    let (damages, frames) = lost(&mut model, Lsn::NONE);
    assert_eq!(damages.len(), 1);
    let damage = &damages[0];
    assert_eq!(damage.lost.count(), 1);
    assert_eq!(damage.corrupt, Some(damage.lost));
    let rest: Vec<Lsn> = sent.into_iter().filter(|lsn| *lsn != damage.lost.first).collect();
    assert_eq!(frames, rest, "no valid frame is dropped after an invalid one");
    let aside = model.disk.list(Path::new("/wal/quarantine")).unwrap();
    assert_eq!(aside.len(), 1, "W8: the bytes are quarantined");
}

#[test]
fn a_missing_segment_is_reported_with_its_numbers_and_the_others_are_read() {
    let mut model = durable_log(60);
    let gone = model.shared.segments.all()[2].clone();
    model.disk.remove(gone.file.path()).unwrap();
    let (damages, frames) = lost(&mut model, Lsn::NONE);
    let last = gone.end().unwrap().last;
    assert_eq!(model.report.missing, [LsnRange { first: gone.base, last }]);
    assert!(damages.is_empty());
    let expected = model.sent.keys().filter(|lsn| !(gone.base..=last).contains(*lsn));
    assert_eq!(frames, expected.copied().collect::<Vec<_>>());
}

#[test]
fn a_segment_of_a_newer_format_stops_the_start() {
    let model = durable_log(3);
    let path = nth_segment(&model, 0);
    // Version 1 becomes version 65.
    model.disk.flip(&path, 8);
    let storage: Arc<dyn Storage> = Arc::new(model.disk.clone());
    let clock = Arc::new(FakeClock::at(1));
    let opened = open_shared(storage, clock, config(), &Floor::default(), Arc::default());
    let Err(WalOpenError::NewerFormat { path: named, source }) = opened else { panic!("it must not start") };
    assert_eq!(named, path);
    assert!(source.to_string().contains("65"), "{source}");
    assert!(model.disk.list(Path::new("/wal")).unwrap().contains(&"0000000000000001.wal".to_owned()));
}

#[test]
fn a_damaged_segment_header_is_mended_if_its_frames_prove_it() {
    for offset in [16, 32, 40, 47, 56, 100, format::HEADER_BYTES - 1] {
        let mut model = durable_log(60);
        model.disk.flip(&nth_segment(&model, 1), offset);
        let (damages, frames) = lost(&mut model, Lsn::NONE);
        assert_eq!((model.report.mended.len(), model.report.quarantined.len()), (1, 0), "byte {offset}");
        assert!(damages.is_empty() && frames == model.sent.keys().copied().collect::<Vec<_>>());
    }
}

/// Its frames are found by themselves, and its salt follows from one of them.
#[test]
fn a_lost_segment_header_loses_nothing() {
    for segment in 0..3 {
        let mut model = durable_log(60);
        let path = nth_segment(&model, segment);
        for offset in 0..format::HEADER_BYTES {
            model.disk.flip(&path, offset);
        }
        let (damages, frames) = lost(&mut model, Lsn::NONE);
        assert_eq!((model.report.mended.len(), model.report.quarantined.len()), (1, 0));
        assert!(damages.is_empty() && frames == model.sent.keys().copied().collect::<Vec<_>>());
    }
}

#[test]
fn foreign_files_stay_and_another_logs_segment_stops_the_start() {
    let mut model = durable_log(3);
    model.disk.write_new(Path::new("/wal/notes.txt"), b"mine").unwrap();
    model.disk.write_new(Path::new("/wal/0000000000000099.wal"), b"not a segment").unwrap();
    let (damages, frames) = lost(&mut model, Lsn::NONE);
    assert_eq!((damages.len(), frames.len()), (0, 3));
    assert_eq!(model.report.foreign, ["0000000000000099.wal", "notes.txt"]);
    let floor = Floor { wal_uuid: Some([9; 16]), ..Floor::default() };
    let storage: Arc<dyn Storage> = Arc::new(model.disk.clone());
    let opened = open_shared(storage, Arc::new(FakeClock::at(1)), config(), &floor, Arc::default());
    assert!(matches!(opened, Err(WalOpenError::OtherLog { .. })));
}

#[test]
fn a_full_log_refuses_and_takes_again_after_a_trim() {
    let mut model = Model::new(1);
    let refused = loop {
        let body = [Bytes::from(vec![7; 600])];
        match model.shared.append(&NewFrame { ts: 0, ext: b"", head: b"", body: &body }) {
            Ok(lsn) => drop(model.sent.insert(lsn, vec![7; 600])),
            Err(AppendError::Full(Full::Preparing)) => model.shared.prepare_once(),
            Err(error) => break error,
        }
        model.sync();
    };
    assert!(matches!(refused, AppendError::Full(Full::Log)), "{refused}");
    model.read(usize::MAX);
    model.checkpoint();
    model.reader.poll();
    model.shared.prepare_once();
    let before = model.sent.len();
    model.append(600);
    assert_eq!(model.sent.len(), before + 1);
}

#[test]
fn a_full_disk_refuses_also_at_the_start_and_takes_again_when_there_is_room() {
    let model = durable_log(3);
    model.disk.set_capacity(Some(0));
    let (shared, mut reader, _) = open(&model.disk, Lsn::NONE, Lsn::NONE);
    let frame = NewFrame { ts: 0, ext: b"", head: b"x", body: &[] };
    assert!(matches!(shared.append(&frame), Err(AppendError::Full(Full::Disk))));
    for lsn in model.sent.keys() {
        assert!(matches!(reader.poll(), Polled::Frame(read) if read == *lsn), "recovery needs no space");
    }
    model.disk.set_capacity(None);
    shared.prepare_once();
    shared.append(&frame).unwrap();
}

#[test]
fn a_frame_that_never_fits_is_refused_for_good() {
    let model = Model::new(1);
    let body = [Bytes::from(vec![0; 8 * 1024])];
    let refused = model.shared.append(&NewFrame { ts: 0, ext: b"", head: b"", body: &body }).unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { .. }));
}

#[test]
fn after_a_second_failed_sync_nothing_is_taken_any_more() {
    let mut model = Model::new(1);
    model.append(10);
    model.disk.fail_syncs_after(0);
    model.sync();
    assert_eq!(model.shared.durable.borrow().health, Health::Poisoned);
    let frame = NewFrame { ts: 0, ext: b"", head: b"x", body: &[] };
    assert!(matches!(model.shared.append(&frame), Err(AppendError::Poisoned)));
}

#[test]
fn many_threads_append_and_everything_is_read_in_order() {
    let storage: Arc<dyn Storage> = Arc::new(crate::storage::real::RealStorage);
    let dir = tempfile::tempdir().unwrap();
    let config = WalConfig {
        dir: dir.path().to_owned(),
        archive: None,
        segment_bytes: 1 << 20,
        first_segment_bytes: 1 << 18,
        max_bytes: 1 << 30,
        unsynced_max: 1 << 30,
        ..config()
    };
    let clock = crate::clock::system();
    let mut wal = super::open(storage, clock, config, &Floor::default(), Arc::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let handle = wal.handle.clone();
            scope.spawn(move || {
                for n in 0..2_000_u32 {
                    let head = [thread.to_le_bytes(), n.to_le_bytes()].concat();
                    let body = [Bytes::from(vec![7; (n % 700) as usize])];
                    let frame = NewFrame { ts: 0, ext: b"", head: &head, body: &body };
                    while let Err(error) = handle.append(&frame) {
                        assert!(matches!(error, AppendError::Full(_)), "{error}");
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
    });
    wal.handle.close();
    let mut reader = wal.take_reader();
    let mut next = [0_u32; 8];
    let mut seen = 0;
    while seen < 16_000 {
        match reader.poll() {
            Polled::Idle => std::thread::sleep(Duration::from_millis(1)),
            Polled::Damage(damage) => panic!("{damage:?}"),
            Polled::Frame(_) => {
                let payload = reader.frame().unwrap().payload.to_owned();
                let thread = u32::from_le_bytes(payload[..4].try_into().unwrap()) as usize;
                let n = u32::from_le_bytes(payload[4..8].try_into().unwrap());
                assert_eq!(n, next[thread], "what one thread appends is read in its order");
                next[thread] += 1;
                seen += 1;
            }
        }
    }
    for thread in wal.threads {
        thread.join().unwrap();
    }
}

#[test]
fn what_was_appended_while_the_log_closed_is_durable_and_nobody_waits_for_ever() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let config = WalConfig {
            dir: dir.path().to_owned(),
            archive: None,
            segment_bytes: 16 << 20,
            first_segment_bytes: 16 << 20,
            max_bytes: 1 << 30,
            unsynced_max: 1 << 30,
            ..config()
        };
        let storage: Arc<dyn Storage> = Arc::new(crate::storage::real::RealStorage);
        let clock = crate::clock::system();
        let wal = super::open(storage, clock, config, &Floor::default(), Arc::default()).unwrap();
        let handle = wal.handle.clone();
        let last = std::thread::scope(|scope| {
            let append = || {
                let body = [Bytes::from(vec![7; 100_000])];
                let frame = NewFrame { ts: 0, ext: b"", head: b"", body: &body };
                let mut last = Lsn::NONE;
                loop {
                    match handle.append(&frame) {
                        Ok(lsn) => last = lsn,
                        Err(AppendError::Full(_)) => std::thread::yield_now(),
                        Err(AppendError::Closed) => return last,
                        Err(error) => panic!("{error}"),
                    }
                }
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(append)).collect();
            while handle.status().appended_frames < 20 {
                std::thread::yield_now();
            }
            handle.close();
            wal.join();
            threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
        });
        let wait = |lsn| {
            runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(10), handle.synced(lsn)).await.expect("an answer")
            })
        };
        assert_eq!(wait(last), Ok(()));
        assert_eq!(wait(last.next()), Err(SyncError::Late), "it will never be synced");
    }
}
