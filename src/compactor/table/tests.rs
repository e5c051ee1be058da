//! A stream that is changed while frames answered earlier wait in its table.

use super::*;
use crate::batch::{BatchHead, StreamId, Tag};
use crate::catalog::Alter;
use crate::clock::FakeClock;
use crate::mapping::{EvaluatorSettings, Mapping};
use crate::schema::{ColumnType, Policy, StreamSettings};
use std::time::Duration;
use tempfile::TempDir;

const LIMITS: RowLimits =
    RowLimits { columns_max: 100, received_at_column: true, lsn_column: true, record_column: true };

/// A stream that evolves, and its table.
struct Fixture {
    config: TableConfig,
    stream: StreamId,
    table: StreamTable,
    lsn: u64,
    _dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Arc::new(Catalog::open(dir.path(), Arc::new(FakeClock::at(1_000))).unwrap());
        let stream = catalog.create_stream("s").unwrap();
        let evaluator = Evaluator::new(EvaluatorSettings {
            program: PathBuf::new(),
            workers: 1,
            memory_max: 0,
            deadline: Duration::ZERO,
        });
        let config = TableConfig {
            partition_by: PartitionBy::Nothing,
            scratch_dir: dir.path().to_owned(),
            node: "n".to_owned(),
            catalog,
            progress: Arc::default(),
            evaluator: Arc::new(evaluator),
            log: [0; 16],
        };
        let (id, table) = (stream.id, StreamTable::new(stream, Lsn::NONE, LIMITS));
        Self { config, stream: id, table, lsn: 0, _dir: dir }
    }

    fn alter(&self, alter: &Alter) -> Arc<Stream> {
        self.config.catalog.alter_stream(self.stream, None, &Alter { force: true, ..alter.clone() }).unwrap()
    }

    fn now(&self) -> Arc<Stream> {
        Arc::clone(self.config.catalog.streams().get(self.stream).unwrap())
    }

    /// Takes a frame of `good` records that was answered under a version; the table learns the streams' state from
    /// `stream`.
    fn take(
        &mut self,
        stream: &Arc<Stream>,
        version: Option<u32>,
        body: &str,
        good: u32,
    ) -> Vec<FinishedCut> {
        self.lsn += 1;
        let mut cuts = self.table.follow(stream, version, &self.config, LIMITS).unwrap();
        let head = BatchHead { good, ..BatchHead::new(self.stream, Tag::Tinybird, BodyKind::Lines) };
        let batch = Batch { head, body: body.as_bytes(), results: &[] };
        let target = Target { stream: self.stream, version, good, bad: 0 };
        let taken = self.table.append(Lsn(self.lsn), 1_000, (&batch, &target), &self.config);
        let (counts, ended) = taken.unwrap();
        assert_eq!((counts.stored, counts.quarantined.total()), (u64::from(good), 0));
        cuts.extend(ended);
        cuts
    }

    fn columns(&self) -> Vec<String> {
        self.now()
            .schema
            .columns
            .iter()
            .map(|column| format!("{} {}", column.name, column.kind.name()))
            .collect()
    }
}

fn int(name: &str) -> Column {
    Column::new(name, ColumnType::Int64)
}

fn policy(policy: Policy, columns: &[Column]) -> Alter {
    Alter { policy: Some(policy), columns: Some(columns.to_vec()), ..Alter::default() }
}

/// Rows and rescued rows of cuts.
fn counts(cuts: &[FinishedCut]) -> (u64, u64) {
    let of = |count: fn(&Counts) -> u64| cuts.iter().map(|cut| count(&cut.cut.counts)).sum();
    (of(|counts| counts.stored), of(|counts| counts.rescued))
}

#[test]
fn columns_that_waiting_rows_brought_have_no_place_in_a_schema_of_others() {
    let changes = [
        policy(Policy::Strict, &[int("a")]),
        policy(Policy::Propose, &[Column::new("b", ColumnType::String)]),
        policy(Policy::Raw, &[]),
        policy(Policy::Evolve, &[Column::new("b", ColumnType::Date)]),
    ];
    for change in changes {
        let mut it = Fixture::new();
        let before = it.now();
        it.take(&before, None, "{\"a\":1,\"b\":2}\n{\"a\":{}}", 2);
        let altered = it.alter(&change);
        let (version, columns) = (altered.schema.version, it.columns());
        let cuts = it.take(&altered, Some(version), "{\"a\":3}", 1);
        assert_eq!(counts(&cuts), (2, 2), "{change:?}");
        assert_eq!(cuts[0].cut.schema_version, 0, "{change:?}");
        assert_eq!((it.now().schema.version, it.columns()), (version, columns), "{change:?}");
        assert_eq!(counts(&it.table.finish(&it.config).unwrap()).0, 1);
    }
}

#[test]
fn columns_that_waiting_rows_brought_join_those_that_were_declared_meanwhile() {
    let mut it = Fixture::new();
    let before = it.now();
    it.take(&before, None, "{\"a\":1,\"b\":2}", 1);
    let altered = it.alter(&policy(Policy::Evolve, &[int("declared"), int("a")]));
    let cuts = it.take(&altered, None, "{\"declared\":3}", 1);
    assert_eq!(
        (counts(&cuts), it.columns()),
        ((1, 0), vec!["declared int64".to_owned(), "a int64".to_owned(), "b int64".to_owned()])
    );
}

#[test]
fn a_frame_of_many_records_whose_stream_is_changed_while_it_is_taken_is_stored_without_new_columns() {
    let many = (0..=BATCH_ROWS).fold(String::new(), |text, n| text + &format!("{{\"a\":{n},\"b\":\"x\"}}\n"));
    let rows = u32::try_from(BATCH_ROWS + 1).unwrap();
    let mut it = Fixture::new();
    let before = it.now();
    it.take(&before, None, "{\"a\":1}", 1);
    // The table learns of it with the next frame.
    it.alter(&policy(Policy::Strict, &[int("a")]));
    let mut cuts = it.take(&before, None, &many, rows);
    assert_eq!((it.now().schema.version, it.columns()), (1, vec!["a int64".to_owned()]));
    // The number of columns is unchanged.
    assert_eq!(it.table.rows.leaves(), 0);
    cuts.extend(it.table.finish(&it.config).unwrap());
    assert_eq!(counts(&cuts), (u64::from(rows) + 1, u64::from(rows) + 1));
}

#[test]
fn columns_that_were_declared_meanwhile_stay_when_a_frame_brings_more_twice() {
    let many = (0..=BATCH_ROWS).fold(String::new(), |text, n| text + &format!("{{\"c\":{n}}}\n"));
    let mut it = Fixture::new();
    let before = it.now();
    it.take(&before, None, "{\"a\":1}", 1);
    it.alter(&policy(Policy::Evolve, &[int("declared")]));
    it.take(&before, None, &many, u32::try_from(BATCH_ROWS + 1).unwrap());
    assert_eq!(it.columns(), ["declared int64", "a int64", "c int64"]);
}

#[test]
fn other_changes_that_come_with_new_columns_are_seen_by_the_next_frame() {
    let mut it = Fixture::new();
    let before = it.now();
    it.take(&before, None, "{\"a\":1}", 1);
    let settings = StreamSettings { directory: Some("elsewhere".to_owned()), ..StreamSettings::default() };
    it.alter(&Alter { settings: Some(settings), ..Alter::default() });
    it.table.encode(&it.config).unwrap();
    assert_eq!(it.columns(), ["a int64"]);
    let now = it.now();
    it.take(&now, None, "{\"a\":2}", 1);
    let cuts = it.table.finish(&it.config).unwrap();
    assert!(cuts[0].cut.files[0].object.starts_with("elsewhere/"), "{:?}", cuts[0].cut.files);
}

#[test]
fn records_that_were_answered_before_a_stream_was_mapped_are_stored_as_they_came() {
    let mapping: Mapping =
        serde_json::from_value(serde_json::json!({"columns": [{"type": "body", "name": "a"}]})).unwrap();
    let mut it = Fixture::new();
    let settings = StreamSettings { mapping: Some(Arc::new(mapping)), ..StreamSettings::default() };
    let alter = Alter { settings: Some(settings), ..policy(Policy::Mapped, &[]) };
    let mapped = it.alter(&alter);
    it.take(&mapped, None, "{\"a\":\"x\",\"b\":1}\n{\"a\":\"y\"}", 2);
    let cuts = it.table.finish(&it.config).unwrap();
    assert_eq!((counts(&cuts), it.columns()), ((2, 1), vec!["a string".to_owned()]));
}
