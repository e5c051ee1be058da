//! `forebay check`: is the configuration good?

use super::{ConfigArgs, EX_USAGE, output};
use crate::config::{Config, Flags};
use std::process::ExitCode;

/// Check the configuration without starting anything.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        match Config::load(self.config.config.as_deref(), std::env::vars(), &Flags::default()) {
            Ok(config) => {
                let server = &config.server;
                // `load` has checked it.
                let destination = config.destination().map(|destination| destination.url());
                output::print(&format!(
                    "data directory  {}\ningest          {}\nadmin           {}\ndestination     {}\nconfiguration is good\n",
                    server.data_dir.display(),
                    server.listen,
                    server.admin_listen,
                    destination.unwrap_or_default(),
                ));
                ExitCode::SUCCESS
            }
            Err(error) => output::fail(&error, EX_USAGE),
        }
    }
}
