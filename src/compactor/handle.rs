//! The handle that starts and stops the compactor.

use super::config::{CompactorConfig, Stop};
use super::leftovers::Leftovers;
use super::metrics::CompactorMetrics;
use super::publish::Publisher;
use super::remake::{Remaker, remake_dir};
use super::replay::{Replayer, replay_dir};
use super::run::{CompactorLoop, scratch_dir};
use super::sink::Sink;
use super::table::TableConfig;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::error::IoError;
use crate::idempotency::Journal;
use crate::mapping::Evaluator;
use crate::offsets::OffsetCounters;
use crate::progress::Progress;
use crate::storage::Storage;
use crate::storage::real::RealStorage;
use crate::wal::{FrameHistory, WalReader};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The divisor of the compactor's memory limit that gives the limit of a replay, and that of a file that is made anew,
/// which come on top.
const REPLAY_MEMORY_PART: usize = 4;
/// The maximum number of files handed to the publisher but not yet taken by it.
const PUBLISH_QUEUE: usize = 1024;

/// Everything the compactor needs from the rest of the daemon.
pub struct Handles {
    pub reader: WalReader,
    /// The start found that frames of the log are lost.
    pub frames_lost: bool,
    pub past: FrameHistory,
    pub sink: Sink,
    pub catalog: Arc<Catalog>,
    pub keys: Journal,
    pub offsets: Arc<OffsetCounters>,
    pub progress: Arc<Progress>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<CompactorMetrics>,
    pub evaluator: Arc<Evaluator>,
    /// The log's identity.
    pub log: [u8; 16],
}

/// A running compactor.
pub struct Compactor {
    thread: std::thread::JoinHandle<()>,
    replayer: std::thread::JoinHandle<()>,
    publisher: JoinHandle<()>,
    stop: watch::Sender<Stop>,
    stop_publisher: watch::Sender<bool>,
}

impl Compactor {
    /// Starts the compactor's thread and the publisher.
    ///
    /// # Errors
    /// If the staging directory cannot be created.
    pub fn start(config: CompactorConfig, handles: Handles, runtime: &Runtime) -> Result<Self, StartError> {
        let directories = [scratch_dir, replay_dir, remake_dir].map(|of| of(&config.staged_dir));
        RealStorage.create_dir(&config.staged_dir)?;
        directories.iter().try_for_each(|dir| RealStorage.create_dir(dir))?;
        let [scratch_dir, replay_dir, remake_dir] = directories;
        let (stop, stopped) = watch::channel(Stop::Run);
        let (stop_publisher, publisher_stopped) = watch::channel(false);
        let (to_publish, publish_queue) = mpsc::channel(PUBLISH_QUEUE);
        let table_config = TableConfig {
            partition_by: config.partition_by.clone(),
            scratch_dir,
            node: config.node.clone(),
            catalog: Arc::clone(&handles.catalog),
            progress: Arc::clone(&handles.progress),
            evaluator: Arc::clone(&handles.evaluator),
            log: handles.log,
        };
        // Neither a replay nor a file that is made anew reports quarantined records: that happened before.
        let again =
            |scratch_dir| TableConfig { scratch_dir, progress: Arc::default(), ..table_config.clone() };
        let remaker = remaker(&config, &handles, again(remake_dir), stopped.clone());
        let publisher = Publisher {
            sink: handles.sink.clone(),
            catalog: Arc::clone(&handles.catalog),
            progress: Arc::clone(&handles.progress),
            clock: Arc::clone(&handles.clock),
            metrics: Arc::clone(&handles.metrics),
            staged_dir: config.staged_dir.clone(),
            retention: config.retention,
            remaker: Arc::new(remaker),
        };
        let publisher = runtime.spawn(publisher.run(publish_queue, publisher_stopped));
        let staging = Arc::default();
        let replayer = Replayer {
            past: handles.past,
            catalog: Arc::clone(&handles.catalog),
            progress: Arc::clone(&handles.progress),
            metrics: Arc::clone(&handles.metrics),
            sink: handles.sink,
            to_publish: to_publish.clone(),
            staged_dir: config.staged_dir.clone(),
            staging: Arc::clone(&staging),
            runtime: runtime.clone(),
            stopped: stopped.clone(),
            table_config: again(replay_dir),
            limits: config.limits,
            memory_max: config.memory_max / REPLAY_MEMORY_PART,
        };
        let mut running = CompactorLoop {
            table_config,
            reader: handles.reader,
            catalog: handles.catalog,
            keys: handles.keys,
            offsets: handles.offsets,
            clock: handles.clock,
            progress: handles.progress,
            metrics: handles.metrics,
            runtime: runtime.clone(),
            stopped,
            to_publish,
            staging,
            tables: HashMap::new(),
            checkpoints: HashMap::new(),
            durable: super::run::NotedDurable::new(),
            leftovers: Leftovers::new(config.staged_dir.clone(), handles.frames_lost),
            config,
        };
        let thread = std::thread::Builder::new().name("compactor".to_owned()).spawn(move || running.run());
        let thread = thread.map_err(StartError::Thread)?;
        let replayer = std::thread::Builder::new().name("replay".to_owned()).spawn(move || replayer.run());
        let replayer = replayer.map_err(StartError::Thread)?;
        Ok(Self { thread, replayer, publisher, stop, stop_publisher })
    }

    /// Reads the closed log to its end, registers everything, and publishes as much as possible until `deadline`.
    /// Returns whether nothing is left to be read again or published.
    pub async fn drain(self, deadline: Instant, progress: &Progress) -> bool {
        self.stop.send_replace(Stop::Drain);
        let (thread, replayer) = (self.thread, self.replayer);
        let thread = tokio::task::spawn_blocking(|| {
            drop(thread.join());
            drop(replayer.join());
        });
        let in_time = tokio::time::timeout_at(deadline.into(), thread).await.is_ok();
        if !in_time {
            self.stop.send_replace(Stop::Now);
        }
        let mut publisher = self.publisher;
        if tokio::time::timeout_at(deadline.into(), &mut publisher).await.is_err() {
            self.stop_publisher.send_replace(true);
            // Also ends a file that is being made anew.
            self.stop.send_replace(Stop::Now);
            // It returns at once; the next start repeats the interrupted work.
            drop(publisher.await);
        }
        in_time && progress.staged_files() == 0
    }
}

fn remaker(
    config: &CompactorConfig,
    handles: &Handles,
    table_config: TableConfig,
    stopped: watch::Receiver<Stop>,
) -> Remaker {
    Remaker {
        past: handles.past.clone(),
        catalog: Arc::clone(&handles.catalog),
        metrics: Arc::clone(&handles.metrics),
        staged_dir: config.staged_dir.clone(),
        stopped,
        table_config,
        limits: config.limits,
        memory_max: config.memory_max / REPLAY_MEMORY_PART,
        turn: Mutex::new(()),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("cannot start the compactor's thread")]
    Thread(#[source] std::io::Error),
}
