//! `forebay serve`: runs the daemon.

use super::{ConfigArgs, EX_USAGE, output};
use crate::config::{self, Config, Flags, LogFormat};
use crate::daemon::{self, Addresses, DaemonError};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

/// Exit status if the log is poisoned, so that a supervisor restarts the daemon (`EX_SOFTWARE`).
const EX_SOFTWARE: u8 = 70;

/// Run the daemon.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Development mode: loopback only, no credentials, files are written after one idle second.
    #[arg(long)]
    dev: bool,
    /// Directory for all data of the daemon.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Listen address for events.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Listen address for health checks, metrics and administration.
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Print a configuration file with all defaults, and exit.
    #[arg(long)]
    print_default_config: bool,
    /// Read the log and discard it, for benchmarks.
    #[arg(long, hide = true)]
    discard_log: bool,
}

type Filter = reload::Handle<Targets, Registry>;

impl ServeArgs {
    pub(super) fn run(self) -> ExitCode {
        if self.print_default_config {
            print!("{}", config::DEFAULTS);
            return ExitCode::SUCCESS;
        }
        let config = match self.load() {
            Ok(config) => config,
            Err(error) => return output::fail(&error, EX_USAGE),
        };
        let filter = match start_logging(&config) {
            Ok(filter) => filter,
            Err(error) => return output::fail(&error, EX_USAGE),
        };
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.enable_all();
        if config.server.workers > 0 {
            runtime.worker_threads(config.server.workers);
        }
        let runtime = match runtime.build() {
            Ok(runtime) => runtime,
            Err(error) => return output::fail(&error, 1),
        };
        let dev = self.dev;
        let options = daemon::DaemonOptions { discard: self.discard_log, reload: Some(self.reload(filter)) };
        let ended =
            runtime.block_on(daemon::run(config, options, |addresses, token| greet(dev, addresses, token)));
        // Blocking tasks that hang on a dead destination must not keep the process alive.
        runtime.shutdown_background();
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error @ DaemonError::Poisoned) => output::fail(&error, EX_SOFTWARE),
            Err(error @ (DaemonError::Config(_) | DaemonError::Tls(_))) => output::fail(&error, EX_USAGE),
            Err(error) => output::fail(&error, 1),
        }
    }

    fn load(&self) -> Result<Config, config::ConfigError> {
        let flags = Flags {
            dev: self.dev,
            data_dir: self.data_dir.clone(),
            listen: self.listen,
            admin_listen: self.admin_listen,
        };
        Config::load(self.config.config.as_deref(), std::env::vars(), &flags)
    }

    /// The SIGHUP handler: reloads the log filter and hands the new configuration to the daemon, which applies what
    /// may change.
    fn reload(self, filter: Filter) -> daemon::Reload {
        Arc::new(move || {
            let reloaded = self.load().and_then(|config| Ok((log_filter(&config)?, config)));
            let reloaded = reloaded.map_err(|error| error.to_string()).and_then(|(new, config)| {
                filter.reload(new).map(|()| config).map_err(|error| error.to_string())
            });
            reloaded
                .inspect_err(|error| {
                    tracing::error!(
                        error,
                        "cannot reload the configuration; the daemon keeps its current settings"
                    );
                })
                .ok()
        })
    }
}

fn log_filter(config: &Config) -> Result<Targets, config::ConfigError> {
    config.telemetry.log.parse().map_err(|error| {
        config::ConfigError::Invalid(format!("telemetry.log {:?}: {error}", config.telemetry.log))
    })
}

/// Text on a terminal, JSON otherwise, always on standard error.
fn start_logging(config: &Config) -> Result<Filter, config::ConfigError> {
    let (filter, handle) = reload::Layer::new(log_filter(config)?);
    let terminal = std::io::stderr().is_terminal();
    let json = match config.telemetry.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).init();
    } else {
        registry
            .with(fmt::layer().with_ansi(terminal).with_target(false).with_writer(std::io::stderr))
            .init();
    }
    Ok(handle)
}

/// Prints the addresses, for people and for programs that asked for port 0.
fn greet(dev: bool, addresses: Addresses, token: Option<String>) {
    let Addresses { ingest, admin, ingest_tls, admin_tls } = addresses;
    tracing::info!(%ingest, %admin, "ready");
    let url = |tls, address| format!("{}://{address}", if tls { "https" } else { "http" });
    let (ingest, admin) = (url(ingest_tls, ingest), url(admin_tls, admin));
    println!("forebay {} is ready", env!("CARGO_PKG_VERSION"));
    println!("  events  {ingest}");
    println!("  admin   {admin}");
    if let Some(token) = token {
        println!("  token   {token}");
        println!("          The admin token. It is shown only once: Forebay stores only a hash of it.");
    }
    let credential = if dev { "" } else { " -H \"Authorization: Bearer $TOKEN\"" };
    let events = format!("{ingest}/v0/events?name=visits&wait=table");
    println!("  try     curl{credential} -d '{{\"city\":\"Chicago\"}}' '{events}'");
}
