//! Wiring and order: the only module that knows both sides of the log.
//!
//! Start: lock, listen to operators, recover, compact, accept. Stop: readiness off, accept nothing, finish requests,
//! last sync, last files, exit.

use crate::auth::Auth;
use crate::batch::Dialect;
use crate::catalog::{Catalog, CatalogError};
use crate::clock::{self, Clock};
use crate::compactor::sink::{Sink, SinkError};
use crate::compactor::{Compactor, Handles, StartError};
use crate::config::{Config, ConfigError};
use crate::control::{Control, Datasets};
use crate::error::{IoContext, IoError};
use crate::feeds::Feeds;
use crate::http::admin::{AdminHandler, Phase, Running};
use crate::http::dialect;
use crate::http::ingest::{IngestHandler, SYNC_DEADLINE, Settings};
use crate::http::{Listener, Tls, TlsError};
use crate::idempotency;
use crate::limits::Limits;
use crate::mapping::Evaluator;
use crate::metrics::{self, Reading};
use crate::preview::Preview;
use crate::progress::Progress;
use crate::receivers::Receivers;
use crate::storage::{Storage, real::RealStorage};
use crate::wal::{self, Health, Lsn, OpenError};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sd_notify::NotifyState;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, atomic::Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the state of the disk and of the process is looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How often what was remembered for a time is looked through.
const EXPIRY: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("{} is in use by another forebay (process {holder})", .path.display())]
    Locked { path: std::path::PathBuf, holder: String },
    #[error("the catalog cannot be opened")]
    Catalog(#[from] CatalogError),
    #[error("the first token cannot be made")]
    Token(#[from] crate::auth::ManageError),
    #[error("the log cannot be opened")]
    Wal(#[from] OpenError),
    #[error("TLS cannot be spoken")]
    Tls(#[from] TlsError),
    #[error("the destination cannot be used")]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Compactor(#[from] StartError),
    #[error("cannot handle signals")]
    Signals(#[source] std::io::Error),
    #[error("a part of the start-up failed")]
    Task(#[from] tokio::task::JoinError),
    /// Exit with a status that makes a supervisor start it again: recovery keeps what was acknowledged.
    #[error("the log is poisoned: a sync failed and what it covered could not be written elsewhere")]
    Poisoned,
}

/// How the daemon is run beside its configuration.
#[derive(Clone, Default)]
pub struct Options {
    /// Reads the log and forgets it: to measure the accept path alone.
    pub discard: bool,
    /// Called on SIGHUP: reads the configuration again, does its own part, and hands it over if it is good.
    pub reload: Option<Reload>,
}

/// See [`Options::reload`].
pub type Reload = Arc<dyn Fn() -> Option<Config> + Send + Sync>;

/// Where a daemon listens, for those who asked for port 0.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub ingest: SocketAddr,
    pub admin: SocketAddr,
    /// Which of the two speak TLS.
    pub ingest_tls: bool,
    pub admin_tls: bool,
}

/// Runs until told to stop. `ready` is called once, when requests are accepted.
pub async fn run(
    config: Config,
    options: Options,
    ready: impl FnOnce(Addresses, Option<String>),
) -> Result<(), DaemonError> {
    let signals = Signals::listen()?;
    raise_open_files();
    RealStorage.create_dir(&config.server.data_dir)?;
    let _lock = lock(&config.server.data_dir)?;
    let tls = tls(&config)?;
    let ingest_socket = Listener::bind(config.server.listen)?;
    let admin_socket = Listener::bind(config.server.admin_listen)?;
    let listen_failed =
        |address: SocketAddr| move |source| IoError::new("listen on", address.to_string(), source);
    let ingest_address = ingest_socket.local_addr().map_err(listen_failed(config.server.listen))?;
    let ingest_url = public_url(&config).unwrap_or_else(|| {
        let scheme = if tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{ingest_address}")
    });
    let (drain, drain_asked) = watch::channel(false);
    let admin_handler =
        Arc::new(AdminHandler { phase: ArcSwap::from_pointee(Phase::Recovering), ingest_url, drain });
    let transport = config.admin_transport(tls.clone());
    let admin = Listener::start(admin_socket, Arc::clone(&admin_handler), transport)
        .map_err(listen_failed(config.server.admin_listen))?;
    let parts = Parts::open(&config, &options, tls.clone()).await?;
    let token = parts.auth.first_token()?;
    let transport = config.ingest_transport(tls.clone())?;
    let ingest = Listener::start(ingest_socket, Arc::clone(&parts.ingest), transport)
        .map_err(listen_failed(config.server.listen))?;
    admin_handler.phase.store(Arc::new(Phase::Running(Arc::clone(&parts.running))));
    let addresses = Addresses {
        ingest: ingest.address,
        admin: admin.address,
        ingest_tls: tls.is_some(),
        admin_tls: config.tls.admin,
    };
    ready(addresses, token);
    notify(&[NotifyState::Ready]);

    let housekeeping = tokio::spawn(parts.housekeeping(config.server.data_dir.clone()));
    let certificate = tls.map(|tls| tokio::spawn(tls.watch()));
    let outcome = wait_for_end(&parts, drain_asked, signals, &options).await;
    housekeeping.abort();
    if let Some(certificate) = certificate {
        certificate.abort();
    }
    notify(&[NotifyState::Stopping]);
    admin_handler.phase.store(Arc::new(Phase::Draining(Arc::clone(&parts.running))));
    let deadline = Instant::now() + config.server.drain_timeout.0;
    let wal = parts.wal.clone();
    tokio::select! {
        drained = parts.stop(ingest, deadline) => {
            if wal.watch().borrow().health == Health::Poisoned {
                tracing::error!("stopped; the next start syncs again what the last sync did not");
            } else if drained {
                tracing::info!("stopped; nothing is left to be read again or published");
            } else {
                tracing::warn!("stopped at the deadline; the next start goes on where this one ended");
            }
        }
        () = outcome.signals.again() => tracing::warn!("stopped at once; the next start recovers"),
    }
    admin.drain(Instant::now() + Duration::from_millis(200)).await;
    match wal.watch().borrow().health {
        // Also if it was the very last sync that failed.
        Health::Poisoned => outcome.result.and(Err(DaemonError::Poisoned)),
        Health::Good | Health::Closed => outcome.result,
    }
}

/// Everything behind the listeners.
struct Parts {
    wal: wal::Handle,
    log: Option<wal::Wal>,
    catalog: Arc<Catalog>,
    progress: Arc<Progress>,
    auth: Arc<Auth>,
    ingest: Arc<IngestHandler>,
    running: Arc<Running>,
    compactor: Option<Compactor>,
    tls: Option<Arc<Tls>>,
}

/// The certificate, if there is to be one.
fn tls(config: &Config) -> Result<Option<Arc<Tls>>, TlsError> {
    let load = |files| Tls::load(files, config.tls.handshake_timeout.0).map(Arc::new);
    let tls = config.certificate().map(load).transpose()?;
    if let Some(tls) = &tls
        && tls.not_after() < clock::system().now() / 1_000_000
    {
        tracing::warn!("the certificate is no longer valid; clients will refuse it");
    }
    Ok(tls)
}

/// What the configuration says, otherwise the beginning of the log's uuid.
fn node_name(config: &Config, log: [u8; 16]) -> String {
    match config.server.node.as_str() {
        "" => uuid::Uuid::from_bytes(log).simple().to_string()[..8].to_owned(),
        node => node.to_owned(),
    }
}

fn say_open(log: &wal::Wal, started: Instant) {
    let (report, status) = (&log.report, log.handle.status());
    tracing::info!(
        took = ?started.elapsed(), segments = report.segments, highest = %report.highest,
        backend = status.backend, "the log is open"
    );
}

fn open_auth(
    config: &Config,
    instance: &str,
    catalog: &Arc<Catalog>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Auth>, CatalogError> {
    let settings = config.auth(instance.to_owned());
    Auth::open(settings, Arc::clone(catalog), Arc::clone(clock)).map(Arc::new)
}

fn ingest_handler(
    config: &Config,
    wal: &wal::Handle,
    control: &Arc<Control>,
    keys: &Arc<idempotency::Index>,
) -> Result<Arc<IngestHandler>, ConfigError> {
    Ok(Arc::new(IngestHandler {
        wal: wal.clone(),
        catalog: Arc::clone(&control.catalog),
        progress: Arc::clone(&control.progress),
        clock: Arc::clone(&control.clock),
        auth: Arc::clone(&control.auth),
        control: Arc::clone(control),
        keys: Arc::clone(keys),
        metrics: Arc::default(),
        settings: ArcSwap::from_pointee(settings(config)),
        limits: ArcSwap::from_pointee(Limits::new(config.limits.rates())),
        cors: ArcSwap::from_pointee(config.cors()?),
        in_flight: Arc::default(),
    }))
}

fn public_url(config: &Config) -> Option<String> {
    let url = config.server.public_url.trim_end_matches('/');
    (!url.is_empty()).then(|| url.to_owned())
}

/// What requests are held to; may change while the daemon runs.
fn settings(config: &Config) -> Settings {
    Settings {
        body_max: Dialect::ALL.map(|dialect| config.limits.body_max(dialect)),
        decoded_max: config.limits.decoded_max.0,
        body_timeout: config.server.body_timeout.0,
        in_flight_max: config.limits.in_flight_max.0,
    }
}

impl Parts {
    async fn open(config: &Config, options: &Options, tls: Option<Arc<Tls>>) -> Result<Self, DaemonError> {
        let (clock, started) = (clock::system(), Instant::now());
        let wal_metrics = Arc::new(metrics::Wal::default());
        let Opened { catalog, mut log, keys, journal } = {
            let (config, clock, metrics) = (config.clone(), Arc::clone(&clock), Arc::clone(&wal_metrics));
            tokio::task::spawn_blocking(move || open_log(&config, clock, metrics)).await??
        };
        say_open(&log, started);
        let compactor_metrics = Arc::new(metrics::Compactor::default());
        record_losses(&log.report, &catalog, &compactor_metrics)?;
        let (node, destination) = (node_name(config, log.handle.uuid()), config.destination()?);
        let sink = Sink::open(&destination)?;
        let (progress, evaluator) = (Arc::new(Progress::default()), Arc::new(Evaluator::default()));
        let handles = Handles {
            reader: log.take_reader(),
            past: log.handle.past(),
            sink: sink.clone(),
            catalog: Arc::clone(&catalog),
            keys: journal,
            progress: Arc::clone(&progress),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&compactor_metrics),
            evaluator: Arc::clone(&evaluator),
            log: log.handle.uuid(),
        };
        let compacting = config.compactor(node.clone(), options.discard);
        let staged_dir = compacting.staged_dir.clone();
        let compactor = Compactor::start(compacting, handles, &tokio::runtime::Handle::current())?;
        let instance = uuid::Uuid::from_bytes(log.handle.uuid()).to_string();
        let auth = open_auth(config, &instance, &catalog, &clock)?;
        let preview = Preview { wal: log.handle.clone(), catalog: Arc::clone(&catalog), sink, staged_dir };
        let control = Arc::new(Control {
            catalog: Arc::clone(&catalog),
            auth: Arc::clone(&auth),
            progress: Arc::clone(&progress),
            clock: Arc::clone(&clock),
            instance,
            records: preview.clone().recent_records(),
            public_url: public_url(config),
            secure: tls.is_some(),
            errors: preview.recent_errors(&progress),
            feeds: Feeds::default(),
            datasets: Datasets::default(),
            receivers: Receivers::default(),
            evaluator,
            managing: Mutex::default(),
            polaris: config.polaris.settings(),
            amperity: config.amperity.settings(),
        });
        dialect::begin(&control)?;
        let ingest = ingest_handler(config, &log.handle, &control, &keys)?;
        let http_metrics = Arc::clone(&ingest.metrics);
        let gauges = gauges(log.handle.clone(), Arc::clone(&progress), Arc::clone(&clock), keys, tls.clone());
        let running = Arc::new(Running {
            wal: log.handle.clone(),
            recovery: log.report.clone(),
            catalog: Arc::clone(&catalog),
            progress: Arc::clone(&progress),
            auth: Arc::clone(&auth),
            control,
            clock,
            registry: metrics::registry(&http_metrics, &wal_metrics, &compactor_metrics, gauges),
            http_metrics,
            node,
            destination: destination.url(),
            started,
        });
        let (wal, compactor) = (log.handle.clone(), Some(compactor));
        Ok(Self { wal, log: Some(log), catalog, progress, auth, ingest, running, compactor, tls })
    }

    /// Puts the settings into force that may change while the daemon runs.
    async fn reload(&self, config: &Config) {
        self.ingest.settings.store(Arc::new(settings(config)));
        let rates = config.limits.rates();
        // Who was over a limit that has not changed stays over it.
        if *self.ingest.limits.load().settings() != rates {
            self.ingest.limits.store(Arc::new(Limits::new(rates)));
        }
        let limits = &config.limits;
        self.ingest.keys.configure(limits.idempotency_window.0, limits.idempotency_keys_max);
        // They were checked when they were read.
        if let Ok(cors) = config.cors() {
            self.ingest.cors.store(Arc::new(cors));
        }
        if let (Some(tls), Some(files)) = (self.tls.clone(), config.certificate()) {
            // A panic in there leaves the certificate as it was.
            drop(tokio::task::spawn_blocking(move || tls.reload(files)).await);
        }
    }

    /// In the order in which nothing is lost: requests, the last sync, the last files.
    async fn stop(mut self, ingest: Listener, deadline: Instant) -> bool {
        let answered = ingest.drain(deadline).await;
        self.wal.close();
        let settled = match self.compactor.take() {
            Some(compactor) => compactor.drain(deadline, &self.progress).await,
            None => true,
        };
        if let Some(log) = self.log.take() {
            // Its threads end after the sync that `close` asked for.
            drop(tokio::task::spawn_blocking(|| log.join()).await);
        }
        answered && settled
    }

    /// Feeds the watchdog while the log works, and keeps the ballast file.
    fn housekeeping(&self, data_dir: std::path::PathBuf) -> impl Future<Output = ()> + use<> {
        let wal = self.wal.clone();
        let catalog = Arc::clone(&self.catalog);
        let ingest = Arc::clone(&self.ingest);
        async move {
            let watchdog = sd_notify::watchdog_enabled().map_or(HOUSEKEEPING, |every| every / 3);
            let mut ticks = tokio::time::interval(watchdog.min(HOUSEKEEPING));
            let mut expired = Instant::now();
            loop {
                ticks.tick().await;
                wal.expire_waiters(SYNC_DEADLINE);
                if wal.watch().borrow().health == Health::Good {
                    notify(&[NotifyState::Watchdog]);
                }
                let (catalog, data_dir) = (Arc::clone(&catalog), data_dir.clone());
                let expires = (expired.elapsed() >= EXPIRY).then(|| Arc::clone(&ingest));
                if expires.is_some() {
                    expired = Instant::now();
                }
                let look = move || {
                    catalog.restore_ballast(RealStorage.free_bytes(&data_dir).unwrap_or(0));
                    if let Some(ingest) = expires {
                        ingest.forget();
                    }
                };
                // A panic in there is no reason to stop feeding the watchdog.
                drop(tokio::task::spawn_blocking(look).await);
            }
        }
    }
}

/// What is on disk.
struct Opened {
    catalog: Arc<Catalog>,
    log: wal::Wal,
    keys: Arc<idempotency::Index>,
    journal: idempotency::Journal,
}

fn open_log(
    config: &Config,
    clock: Arc<dyn Clock>,
    metrics: Arc<metrics::Wal>,
) -> Result<Opened, DaemonError> {
    let catalog = Catalog::open(&config.server.data_dir, Arc::clone(&clock))?;
    let catalog = Arc::new(catalog.with_columns_max(config.limits.columns_max));
    let floor = catalog.floor()?;
    let now = clock.now();
    let log = wal::open(Arc::new(RealStorage), clock, config.wal(), floor, metrics)?;
    catalog.set_wal_uuid(log.handle.uuid())?;
    let limits = &config.limits;
    let keys = Arc::new(idempotency::Index::new(limits.idempotency_window.0, limits.idempotency_keys_max));
    let dir = config.server.data_dir.join("keys");
    let journal = idempotency::Journal::open(&dir, Arc::clone(&keys), now)?;
    Ok(Opened { catalog, log, keys, journal })
}

/// Counts what recovery found to be gone; what is damaged inside a segment is counted when it is read.
fn record_losses(
    report: &wal::RecoveryReport,
    catalog: &Catalog,
    metrics: &metrics::Compactor,
) -> Result<(), CatalogError> {
    for range in &report.missing {
        metrics.corrupt_frames.inc_by(range.count());
        catalog.record_loss(*range, "missing")?;
    }
    for range in &report.torn {
        metrics.torn_frames.inc_by(range.count());
        catalog.record_loss(*range, "torn")?;
    }
    Ok(())
}

/// The archive's part of what `/metrics` reads.
fn archive_gauges(archive: &wal::archive::Status) -> [Reading; 4] {
    let reading = |name, help, value| Reading { name, help, value };
    [
        reading("wal_archive_bytes", "Size of the archive on disk", archive.bytes as f64),
        reading("wal_archive_segments", "Archived segments", archive.segments as f64),
        reading(
            "wal_archive_waiting_segments",
            "Consumed segments that are not archived yet",
            archive.waiting as f64,
        ),
        reading(
            "wal_archive_dropped_segments",
            "Segments gone from the archive before their time, or never archived, since the start",
            archive.dropped.segments() as f64,
        ),
    ]
}

/// What `/metrics` reads at each scrape.
fn gauges(
    wal: wal::Handle,
    progress: Arc<Progress>,
    clock: Arc<dyn Clock>,
    keys: Arc<idempotency::Index>,
    tls: Option<Arc<Tls>>,
) -> impl Fn() -> Vec<Reading> + Send + Sync + 'static {
    move || {
        let status = wal.status();
        let compactor = &progress.compactor;
        let checkpoint = Lsn(compactor.checkpoint_lsn.load(Ordering::Relaxed));
        let oldest = compactor.oldest_open.load(Ordering::Relaxed);
        let lag = if oldest == 0 { 0.0 } else { (clock.now() - oldest).max(0) as f64 / 1e6 };
        let reading = |name, help, value| Reading { name, help, value };
        let mut readings = vec![
            reading("wal_appended_lsn", "Last request in the log", status.appended.0 as f64),
            reading("wal_durable_lsn", "Last request that survives power loss", status.durable.0 as f64),
            reading(
                "compactor_checkpoint_lsn",
                "Everything up to here is in registered files",
                checkpoint.0 as f64,
            ),
            reading(
                "compactor_published_lsn",
                "Everything up to here is published",
                progress.published_through(checkpoint).0 as f64,
            ),
            reading("compactor_lag_seconds", "Age of the oldest request in no registered file", lag),
            reading(
                "compactor_staged_files",
                "Files that wait to be published",
                progress.staged_files() as f64,
            ),
            reading(
                "compactor_memory_bytes",
                "Rows and unfinished files in memory",
                compactor.memory_bytes.load(Ordering::Relaxed) as f64,
            ),
            reading(
                "compactor_open_files",
                "Unfinished files",
                compactor.open_files.load(Ordering::Relaxed) as f64,
            ),
            reading("http_idempotency_keys", "Idempotency keys that are remembered", keys.count() as f64),
            reading("wal_unsynced_bytes", "Bytes that no sync has covered", status.unsynced_bytes as f64),
            reading("wal_bytes", "Size of the log on disk", status.log_bytes as f64),
            reading("wal_segments", "Segments with requests", status.segments.len() as f64),
            reading("wal_prepared_segments", "Segments ready to be used", status.prepared as f64),
            reading(
                "wal_refusing",
                "1 while requests are refused for lack of room",
                f64::from(u8::from(status.refusing.is_some())),
            ),
            reading(
                "wal_poisoned",
                "1 after a failed sync that could not be made good",
                f64::from(u8::from(status.health == Health::Poisoned)),
            ),
        ];
        readings.extend(archive_gauges(&status.archive));
        if let Some(tls) = &tls {
            readings.push(reading(
                "http_certificate_not_after_seconds",
                "When the certificate ends, in seconds since 1970",
                tls.not_after() as f64,
            ));
            readings.push(reading(
                "http_certificate_stale",
                "1 while the files hold a certificate that cannot be used",
                f64::from(u8::from(tls.is_stale())),
            ));
        }
        readings
    }
}

/// Why the daemon ends, and the signals that may still come.
struct End {
    result: Result<(), DaemonError>,
    signals: Signals,
}

async fn wait_for_end(
    parts: &Parts,
    mut drain_asked: watch::Receiver<bool>,
    mut signals: Signals,
    options: &Options,
) -> End {
    let mut durable = parts.wal.watch();
    loop {
        let result = tokio::select! {
            _ = signals.terminate.recv() => { tracing::info!("SIGTERM: draining"); Ok(()) }
            _ = signals.interrupt.recv() => { tracing::info!("SIGINT: draining"); Ok(()) }
            _ = signals.hangup.recv() => {
                // A manager of `Type=notify-reload` wants to know which reload is meant.
                match NotifyState::monotonic_usec_now() {
                    Ok(now) => notify(&[NotifyState::Reloading, now]),
                    Err(_) => notify(&[NotifyState::Reloading]),
                }
                if let Some(config) = options.reload.as_ref().and_then(|reload| reload()) {
                    parts.reload(&config).await;
                    tracing::info!("what may change while the daemon runs was read again");
                }
                notify(&[NotifyState::Ready]);
                continue;
            }
            _ = drain_asked.wait_for(|drain| *drain) => { tracing::info!("asked to drain"); Ok(()) }
            _ = durable.wait_for(|durable| durable.health == Health::Poisoned) => Err(DaemonError::Poisoned),
        };
        return End { result, signals };
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, DaemonError> {
        let listen = |kind| signal(kind).map_err(DaemonError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// A second wish to stop.
    async fn again(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Takes the data directory for this process. The lock goes with the process.
pub fn lock(data_dir: &Path) -> Result<File, DaemonError> {
    let path = data_dir.join("LOCK");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.context("open lock file", &path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message.
            drop(file.read_to_string(&mut holder));
            return Err(DaemonError::Locked { path: data_dir.to_owned(), holder: holder.trim().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(IoError::new("lock", &path, source).into()),
    }
    let process = std::process::id().to_string();
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(process.as_bytes()));
    if let Err(error) = written {
        // It says who holds the lock, for a message only. A full disk must not keep the daemon from starting.
        tracing::warn!(%error, "the lock file does not say which process holds it");
    }
    Ok(file)
}

/// Thousands of connections need as many descriptors; the soft limit is usually 1024.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
