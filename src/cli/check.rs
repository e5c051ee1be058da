//! `forebay check`: validates the configuration.

use super::{ConfigArgs, EX_USAGE, output};
use crate::config::{Config, Flags};
use crate::http::Tls;
use std::process::ExitCode;

/// Check the configuration without starting anything.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

impl CheckArgs {
    pub(super) fn run(self) -> ExitCode {
        let config = match Config::load(self.config.config.as_deref(), std::env::vars(), &Flags::default()) {
            Ok(config) => config,
            Err(error) => return output::fail(&error, EX_USAGE),
        };
        let tls = config.certificate().map(|files| Tls::load(files, config.tls.handshake_timeout.0));
        let tls = match tls.transpose() {
            Ok(tls) => tls.map_or("off".to_owned(), |tls| certificate(&config, &tls)),
            Err(error) => return output::fail(&error, EX_USAGE),
        };
        let server = &config.server;
        let destination = match config.destination() {
            Ok(destination) => destination.url(),
            Err(error) => return output::fail(&error, EX_USAGE),
        };
        output::print(&format!(
            "data directory  {}\ningest          {}\nadmin           {}\ntls             {tls}\ndestination     {}\nconfiguration is valid\n",
            server.data_dir.display(),
            server.listen,
            server.admin_listen,
            destination,
        ));
        ExitCode::SUCCESS
    }
}

/// The certificate file and its expiry.
fn certificate(config: &Config, tls: &Tls) -> String {
    let end = jiff::Timestamp::from_second(tls.not_after());
    let end = end.map_or_else(|_| "expiry unknown".to_owned(), |end| format!("valid until {end}"));
    format!("{}, {end}", config.tls.cert.display())
}
