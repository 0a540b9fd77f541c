//! SIGHUP: settings and certificates are read again, while everything goes on.

use std::time::Duration;

use direc_smol::RelayServer;

use super::{
    config::{self, Config, differences},
    options::Options,
    setup,
    telling::{complain, log, warn},
};
use crate::{failure::Failure, out::Out};

/// Keys that a reload puts to use, and tables of such, which end in a dot. All others wait for the next start.
const RELOADED: [&str; 6] = ["drain_seconds", "https.certificate", "https.key", "access.", "names.", "quotas."];

/// The settings, and where they come from.
pub(super) struct Settings {
    options: Options,
    started: Config,
    now: Config,
}

impl Settings {
    pub(super) fn new(options: Options, config: Config) -> Self {
        Self { options, started: config.clone(), now: config }
    }

    /// How long peers have to leave.
    pub(super) fn drain(&self) -> Duration {
        self.now.drain_seconds.duration()
    }

    /// Reads everything again. What is broken leaves what there was, and is told.
    pub(super) fn reload(&mut self, relay: &RelayServer, out: Out) {
        let config = match self.options.config() {
            Ok(config) => config,
            Err(why) => return complain(out, &format!("not reloaded, the settings stay as they are: {why}")),
        };
        match reload(relay, &self.started, &config, out) {
            Ok(()) => log(out, "reloaded"),
            Err(why) => complain(out, &format!("HTTPS goes on with the certificate that it has: {why}")),
        }
        let reloaded =
            |key: &String| RELOADED.iter().any(|name| key == name || name.ends_with('.') && key.starts_with(name));
        let later: Vec<_> = differences(&self.started, &config).into_iter().filter(|key| !reloaded(key)).collect();
        if !later.is_empty() {
            log(out, &format!("these settings take effect at the next start: {}", later.join(", ")));
        }
        self.now = config;
    }
}

/// Gives the running relay what it can take while it runs.
fn reload(relay: &RelayServer, started: &Config, config: &Config, out: Out) -> Result<(), Failure> {
    let rules = config.access.rules(&config.names)?;
    config.doubts().iter().for_each(|doubt| warn(out, doubt));
    relay.set_names(config::names(&config.names));
    relay.set_quotas(config.quotas.meters());
    relay.set_access(rules);
    // An authority's certificate is nobody's to replace, and to turn to one or away takes a new start.
    if relay.https_addr().is_some() && !started.acme.is_on() && !config.acme.is_on() {
        let key = setup::https_key(config)?;
        relay.set_https_key(&key);
        setup::doubts(config, &key).iter().for_each(|doubt| complain(out, doubt));
    }
    Ok(())
}
