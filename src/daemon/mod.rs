//! Wires the parts together, and starts and stops them in order. The only module that knows both sides of the log.
//!
//! Start: lock, open the admin listener, recover, compact, accept. Stop: report not ready, accept nothing, finish
//! requests, last sync, last files, exit.

mod process;

pub use process::lock;

use crate::auth::Auth;
use crate::batch::Tag;
use crate::catalog::{self, Catalog, CatalogError};
use crate::clock::{self, Clock};
use crate::compactor::sink::{Sink, SinkError};
use crate::compactor::{self, Compactor, Handles, StartError};
use crate::config::{Config, ConfigError};
use crate::contracts::shared::control::{self, Control};
use crate::contracts::{self, Contracts};
use crate::error::IoError;
use crate::http::admin::{AdminHandler, DaemonPhase, RunningDaemon};
use crate::http::ingest::{IngestHandler, IngestSettings, SYNC_DEADLINE};
use crate::http::limits::RateLimits;
use crate::http::{Listener, Tls, TlsError};
use crate::idempotency;
use crate::mapping::Evaluator;
use crate::metrics;
use crate::offsets::OffsetCounters;
use crate::progress::Progress;
use crate::read::RecordReader;
use crate::read::preview::Preview;
use crate::storage::{Storage, real::RealStorage};
use crate::wal::{self, Health, WalOpenError};
use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the state of the disk and of the process is checked.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How often expired entries are removed from memory.
const EXPIRY: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("{} is in use by another forebay (process {holder})", .path.display())]
    Locked { path: std::path::PathBuf, holder: String },
    #[error("cannot open the catalog")]
    Catalog(#[from] CatalogError),
    #[error("cannot set up a contract")]
    Contract(#[from] crate::contracts::ContractOpenError),
    #[error(
        "the log in {} has no catalog: restore catalog.db in that directory from a backup; to begin anew, move wal/, archive/, staged/ and keys/ away",
        .path.display()
    )]
    NoCatalog { path: std::path::PathBuf },
    #[error("cannot create the first admin token")]
    Token(#[from] crate::auth::ManageError),
    #[error("cannot open the log")]
    Wal(#[from] WalOpenError),
    #[error("TLS setup failed")]
    Tls(#[from] TlsError),
    #[error("cannot use the destination")]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Compactor(#[from] StartError),
    #[error("cannot handle signals")]
    Signals(#[source] std::io::Error),
    #[error("a startup task failed")]
    Task(#[from] tokio::task::JoinError),
    /// Exits with a status that makes a supervisor restart the daemon: recovery keeps everything acknowledged.
    #[error(
        "the log is poisoned: a sync failed and its data could not be rewritten; restart the daemon to recover"
    )]
    Poisoned,
}

/// Options of the daemon that are not part of its configuration.
#[derive(Clone, Default)]
pub struct DaemonOptions {
    /// Reads the log and discards it, to measure the accept path alone.
    pub discard: bool,
    /// Called on SIGHUP: reloads the configuration, applies its own part, and returns the configuration if it is valid.
    pub reload: Option<Reload>,
}

/// See [`DaemonOptions::reload`].
pub type Reload = Arc<dyn Fn() -> Option<Config> + Send + Sync>;

/// The addresses that a daemon listens on, for callers that asked for port 0.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub ingest: SocketAddr,
    pub admin: SocketAddr,
    /// Whether the ingest listener uses TLS; `admin_tls` is the same for the admin listener.
    pub ingest_tls: bool,
    pub admin_tls: bool,
}

/// Runs until told to stop. `ready` is called once, as soon as requests are accepted.
pub async fn run(
    config: Config,
    options: DaemonOptions,
    ready: impl FnOnce(Addresses, Option<String>),
) -> Result<(), DaemonError> {
    let signals = Signals::listen()?;
    process::raise_open_files();
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
    let admin_handler = Arc::new(AdminHandler::new(ingest_url, drain));
    let transport = config.admin_transport(tls.clone());
    let admin = Listener::start(admin_socket, Arc::clone(&admin_handler), transport)
        .map_err(listen_failed(config.server.admin_listen))?;
    let parts = DaemonParts::open(&config, &options, tls.clone()).await?;
    let token = parts.auth.first_token()?;
    let transport = config.ingest_transport(tls.clone())?;
    let ingest = Listener::start(ingest_socket, Arc::clone(&parts.ingest), transport)
        .map_err(listen_failed(config.server.listen))?;
    admin_handler.phase.store(Arc::new(DaemonPhase::Running(Arc::clone(&parts.running))));
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
    admin_handler.phase.store(Arc::new(DaemonPhase::Draining(Arc::clone(&parts.running))));
    let deadline = Instant::now() + config.server.drain_timeout.0;
    let wal = parts.wal.clone();
    tokio::select! {
        drained = parts.stop(ingest, deadline) => {
            if wal.watch().borrow().health == Health::Poisoned {
                tracing::error!("stopped after a failed sync; the next start syncs the affected data again");
            } else if drained {
                tracing::info!("stopped; nothing is left to recover or publish");
            } else {
                tracing::warn!("stopped at the drain deadline; the next start continues where this one ended");
            }
        }
        () = outcome.signals.again() => tracing::warn!("stopped at once; the next start recovers"),
    }
    admin.drain(Instant::now() + Duration::from_millis(200)).await;
    match wal.watch().borrow().health {
        // Also if only the very last sync failed.
        Health::Poisoned => outcome.result.and(Err(DaemonError::Poisoned)),
        Health::Good | Health::Closed => outcome.result,
    }
}

/// Everything behind the listeners.
struct DaemonParts {
    wal: wal::Handle,
    log: Option<wal::Wal>,
    catalog: Arc<Catalog>,
    progress: Arc<Progress>,
    auth: Arc<Auth>,
    ingest: Arc<IngestHandler>,
    running: Arc<RunningDaemon>,
    compactor: Option<Compactor>,
    tls: Option<Arc<Tls>>,
}

/// Loads the certificate, if TLS is configured.
fn tls(config: &Config) -> Result<Option<Arc<Tls>>, TlsError> {
    let load = |files| Tls::load(files, config.tls.handshake_timeout.0).map(Arc::new);
    let tls = config.certificate().map(load).transpose()?;
    if let Some(tls) = &tls
        && tls.not_after() < clock::system().now() / 1_000_000
    {
        tracing::warn!("the TLS certificate has expired; clients will refuse it");
    }
    Ok(tls)
}

/// The configured name, otherwise the first eight digits of the log's UUID.
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
        backend = status.backend, "opened the log"
    );
}

fn open_auth(
    config: &Config,
    instance: &str,
    catalog: &Arc<Catalog>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Auth>, CatalogError> {
    let settings = config.auth(instance.to_owned());
    Auth::open(settings, contracts::vocabulary(), Arc::clone(catalog), Arc::clone(clock)).map(Arc::new)
}

/// The UUID of the log, as text.
fn instance(wal: &wal::Handle) -> String {
    uuid::Uuid::from_bytes(wal.uuid()).to_string()
}

fn open_control(
    config: &Config,
    auth: &Arc<Auth>,
    preview: &Preview,
    offsets: Arc<OffsetCounters>,
    progress: &Arc<Progress>,
    evaluator: Arc<Evaluator>,
) -> Arc<Control> {
    Arc::new(Control::new(control::ControlParts {
        catalog: Arc::clone(&preview.catalog),
        auth: Arc::clone(auth),
        progress: Arc::clone(progress),
        clock: clock::system(),
        instance: instance(&preview.wal),
        public_url: public_url(config),
        secure: config.certificate().is_some(),
        errors: preview.clone().recent_errors(progress),
        newest: preview.clone().recent_records(),
        requests: preview.clone().recent_requests(),
        records: RecordReader::new(offsets, preview.clone()),
        evaluator,
    }))
}

fn ingest_handler(
    config: &Config,
    wal: &wal::Handle,
    (control, contracts): (&Arc<Control>, Contracts),
    (catalog, keys): (&Arc<Catalog>, &Arc<idempotency::KeyIndex>),
) -> Result<Arc<IngestHandler>, ConfigError> {
    Ok(Arc::new(IngestHandler {
        wal: wal.clone(),
        catalog: Arc::clone(catalog),
        progress: Arc::clone(&control.progress),
        clock: Arc::clone(&control.clock),
        auth: Arc::clone(&control.auth),
        control: Arc::clone(control),
        contracts,
        keys: Arc::clone(keys),
        metrics: Arc::default(),
        settings: ArcSwap::from_pointee(settings(config)),
        limits: ArcSwap::from_pointee(RateLimits::new(config.limits.rates())),
        cors: ArcSwap::from_pointee(config.cors()?),
        in_flight: Arc::default(),
    }))
}

fn public_url(config: &Config) -> Option<String> {
    let url = config.server.public_url.trim_end_matches('/');
    (!url.is_empty()).then(|| url.to_owned())
}

/// The limits of requests, which may change while the daemon runs.
fn settings(config: &Config) -> IngestSettings {
    IngestSettings {
        body_max: Tag::ALL.map(|contract| config.limits.body_max(contract)),
        decoded_max: config.limits.decoded_max.0,
        body_timeout: config.server.body_timeout.0,
        in_flight_max: config.limits.in_flight_max.0,
    }
}

impl DaemonParts {
    async fn open(
        config: &Config,
        options: &DaemonOptions,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, DaemonError> {
        let (clock, started) = (clock::system(), Instant::now());
        let wal_metrics = Arc::new(wal::WalMetrics::default());
        let OpenedState { catalog, mut log, keys, journal, offsets } = {
            let (config, clock, metrics) = (config.clone(), Arc::clone(&clock), Arc::clone(&wal_metrics));
            tokio::task::spawn_blocking(move || open_log(&config, clock, metrics)).await??
        };
        say_open(&log, started);
        let compactor_metrics = Arc::new(compactor::CompactorMetrics::default());
        record_losses(&log.report, &catalog, &compactor_metrics)?;
        let (node, destination) = (node_name(config, log.handle.uuid()), config.destination()?);
        let sink = Sink::open(&destination)?;
        let (progress, evaluator) = (Arc::default(), Arc::new(Evaluator::new(config.mapping.settings())));
        let handles = Handles {
            frames_lost: log.report.has_losses(),
            reader: log.take_reader(),
            past: log.handle.past(),
            sink: sink.clone(),
            catalog: Arc::clone(&catalog),
            keys: journal,
            offsets: Arc::clone(&offsets),
            progress: Arc::clone(&progress),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&compactor_metrics),
            evaluator: Arc::clone(&evaluator),
            log: log.handle.uuid(),
        };
        let compacting = config.compactor(node.clone(), options.discard);
        let staged_dir = compacting.staged_dir.clone();
        let compactor = Compactor::start(compacting, handles, &tokio::runtime::Handle::current())?;
        let auth = open_auth(config, &instance(&log.handle), &catalog, &clock)?;
        let preview = Preview { wal: log.handle.clone(), catalog: Arc::clone(&catalog), sink, staged_dir };
        let control = open_control(config, &auth, &preview, offsets, &progress, Arc::clone(&evaluator));
        let contracts = Contracts::open(&config.contracts, &control)?;
        let ingest = ingest_handler(config, &log.handle, (&control, contracts.clone()), (&catalog, &keys))?;
        let http_metrics = Arc::clone(&ingest.metrics);
        let mut registry = metrics::registry();
        http_metrics.register(&mut registry, tls.clone());
        idempotency::register(&mut registry, keys);
        wal_metrics.register(&mut registry, log.handle.clone());
        compactor_metrics.register(&mut registry, Arc::clone(&progress), Arc::clone(&clock));
        evaluator.metrics().register(&mut registry);
        let running = Arc::new(RunningDaemon {
            wal: log.handle.clone(),
            recovery: log.report.clone(),
            catalog: Arc::clone(&catalog),
            progress: Arc::clone(&progress),
            auth: Arc::clone(&auth),
            control,
            contracts,
            clock,
            registry,
            http_metrics,
            node,
            destination: destination.url(),
            started,
        });
        let (wal, compactor) = (log.handle.clone(), Some(compactor));
        Ok(Self { wal, log: Some(log), catalog, progress, auth, ingest, running, compactor, tls })
    }

    /// Applies the settings that may change while the daemon runs.
    async fn reload(&self, config: &Config) {
        self.ingest.settings.store(Arc::new(settings(config)));
        let rates = config.limits.rates();
        // New counters would forgive a client that is over an unchanged limit.
        if *self.ingest.limits.load().settings() != rates {
            self.ingest.limits.store(Arc::new(RateLimits::new(rates)));
        }
        let limits = &config.limits;
        self.ingest.keys.configure(limits.idempotency_window.0, limits.idempotency_keys_max);
        // The origins were validated when the configuration was read.
        if let Ok(cors) = config.cors() {
            self.ingest.cors.store(Arc::new(cors));
        }
        if let (Some(tls), Some(files)) = (self.tls.clone(), config.certificate()) {
            // After a panic, the previous certificate stays in use.
            drop(tokio::task::spawn_blocking(move || tls.reload(files)).await);
        }
    }

    /// Stops in the order in which nothing is lost: requests, the last sync, the last files. Returns whether all
    /// finished by the deadline.
    async fn stop(mut self, ingest: Listener, deadline: Instant) -> bool {
        let answered = ingest.drain(deadline).await;
        self.wal.close();
        let settled = match self.compactor.take() {
            Some(compactor) => compactor.drain(deadline, &self.progress).await,
            None => true,
        };
        if let Some(log) = self.log.take() {
            // The threads of the log end after the sync that `close` requested.
            drop(tokio::task::spawn_blocking(|| log.join()).await);
        }
        answered && settled
    }

    /// Feeds the watchdog while the log works, restores the ballast file, and expires waiters and old entries.
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
                    // A disk that does not tell, of which the log warns, is taken to have no room for the ballast.
                    catalog.restore_ballast(RealStorage.free_bytes(&data_dir).unwrap_or(0));
                    if let Some(ingest) = expires {
                        ingest.forget();
                    }
                };
                // A panic in this task must not stop the watchdog from being fed.
                drop(tokio::task::spawn_blocking(look).await);
            }
        }
    }
}

/// The state opened from disk.
struct OpenedState {
    catalog: Arc<Catalog>,
    log: wal::Wal,
    keys: Arc<idempotency::KeyIndex>,
    journal: idempotency::Journal,
    offsets: Arc<OffsetCounters>,
}

fn open_log(
    config: &Config,
    clock: Arc<dyn Clock>,
    metrics: Arc<wal::WalMetrics>,
) -> Result<OpenedState, DaemonError> {
    let data_dir = &config.server.data_dir;
    let log_exists = wal::exists(&RealStorage, &config.wal())?;
    let no_catalog = || DaemonError::NoCatalog { path: data_dir.clone() };
    // Before a new one is created: SQLite would fill it with what it finds beside it.
    if log_exists && !data_dir.join(catalog::FILE_NAME).is_file() {
        return Err(no_catalog());
    }
    let catalog = Catalog::open(data_dir, Arc::clone(&clock))?;
    let catalog = Arc::new(catalog.with_columns_max(config.limits.columns_max));
    if catalog.floor()?.wal_uuid.is_none() {
        // Frames hold the numbers of streams, which another catalog gives to other streams.
        if log_exists {
            return Err(no_catalog());
        }
        catalog.set_wal_uuid(*uuid::Uuid::new_v4().as_bytes())?;
    }
    let floor = catalog.floor()?;
    let now = clock.now();
    let log = wal::open(Arc::new(RealStorage), clock, config.wal(), &floor, metrics)?;
    let limits = &config.limits;
    let keys = Arc::new(idempotency::KeyIndex::new(limits.idempotency_window.0, limits.idempotency_keys_max));
    let dir = config.server.data_dir.join("keys");
    let journal = idempotency::Journal::open(&dir, Arc::clone(&keys), now)?;
    let offsets = Arc::new(OffsetCounters::new(&catalog.end_offsets()?));
    Ok(OpenedState { catalog, log, keys, journal, offsets })
}

/// Counts and records the frames that recovery found lost. Damage inside a segment is counted when it is read.
fn record_losses(
    report: &wal::RecoveryReport,
    catalog: &Catalog,
    metrics: &compactor::CompactorMetrics,
) -> Result<(), CatalogError> {
    let lost = [
        (&report.missing, "missing", &metrics.corrupt_frames),
        (&report.torn, "torn", &metrics.torn_frames),
        (&report.uncertain, "possibly acknowledged", &metrics.torn_frames),
    ];
    for (ranges, reason, counter) in lost {
        for range in ranges {
            if catalog.record_loss(*range, reason)? {
                counter.inc_by(range.count());
            }
        }
    }
    Ok(())
}

/// Why the daemon ends, and the signals that may still arrive.
struct Shutdown {
    result: Result<(), DaemonError>,
    signals: Signals,
}

async fn wait_for_end(
    parts: &DaemonParts,
    mut drain_asked: watch::Receiver<bool>,
    mut signals: Signals,
    options: &DaemonOptions,
) -> Shutdown {
    let mut durable = parts.wal.watch();
    loop {
        let result = tokio::select! {
            _ = signals.terminate.recv() => { tracing::info!("received SIGTERM, draining"); Ok(()) }
            _ = signals.interrupt.recv() => { tracing::info!("received SIGINT, draining"); Ok(()) }
            _ = signals.hangup.recv() => {
                // A service manager with `Type=notify-reload` requires the time of the reload.
                match NotifyState::monotonic_usec_now() {
                    Ok(now) => notify(&[NotifyState::Reloading, now]),
                    Err(_) => notify(&[NotifyState::Reloading]),
                }
                if let Some(config) = options.reload.as_ref().and_then(|reload| reload()) {
                    parts.reload(&config).await;
                    tracing::info!("configuration reloaded; settings that need a restart are unchanged");
                }
                notify(&[NotifyState::Ready]);
                continue;
            }
            _ = drain_asked.wait_for(|drain| *drain) => { tracing::info!("drain requested, draining"); Ok(()) }
            _ = durable.wait_for(|durable| durable.health == Health::Poisoned) => Err(DaemonError::Poisoned),
        };
        return Shutdown { result, signals };
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

    /// Waits for a second signal to stop.
    async fn again(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}
