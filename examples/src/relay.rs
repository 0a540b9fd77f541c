//! `relay`: P3, the party that both peers can reach.

mod admin;
mod check;
mod config;
mod notify;
mod options;
mod reload;
mod setup;
mod telling;

use std::{process::ExitCode, sync::Arc, time::Instant};

use direc_smol::{HttpsUrl, RelayServer};
use smol::future::or;

use crate::{
    args,
    events::Event,
    failure::{self, Failure},
    logger,
    out::{self, Out},
    signals::{Call, Interrupted},
};
use config::Format;
use options::Parsed;
use reload::Settings;
use telling::{log, tell};

/// The program: its command line in, its exit code out.
pub fn main() -> ExitCode {
    let json = args::wants_json();
    failure::exit_code("relay", json, run(Out::new(json)))
}

fn run(out: Out) -> Result<(), Failure> {
    let options = match options::parse(lexopt::Parser::from_env())? {
        Parsed::Run(options) => options,
        Parsed::Say(text) => {
            Out::new(false).say(text.trim_end());
            return Ok(());
        }
    };
    let config = options.config()?;
    if options.only_check() {
        return check::run(&config, out);
    }
    if config.log_format == Format::Json {
        out::write_records_as_json();
    }
    logger::start();
    let mut interrupted = Interrupted::listen_and_reload().map_err(|e| Failure::new("cannot listen for signals", e))?;
    smol::block_on(async {
        let (relay, pin) = setup::bind(&config, out)?;
        let relay = Arc::new(relay);
        let watch = relay.watch();
        let pages = admin::serve(&config.admin, &relay)?;
        announce(&relay, pin, &config, out)?;
        if let Some(pages) = &pages {
            log(out, &format!("status and metrics at http://{}/", pages.local_addr()));
        }
        notify::say("READY=1");
        let mut settings = Settings::new(*options, config);
        let alive = or(notify::keep_watchdog(&relay), tell(watch, out));
        or(alive, until_told(&relay, &mut settings, &mut interrupted, out)).await;
        notify::say("STOPPING=1");
        let stats = relay.stats();
        log(out, &format!("ending; {} datagrams, {} bytes relayed", stats.relayed_datagrams, stats.relayed_bytes));
        relay.close().await;
        Ok(())
    })
}

/// Says where the relay is to be found.
fn announce(
    relay: &RelayServer,
    pin: Option<direc_smol::TlsPin>,
    config: &config::Config,
    out: Out,
) -> Result<(), Failure> {
    let url = setup::url(relay, config, out)?;
    let https = relay.https_addr().map(|at| HttpsUrl { host: url.host.clone(), port: at.port(), pin }.to_string());
    let url = url.to_string();
    out.event(&Event::RelayReady { url: url.clone(), https: https.clone() });
    if !out.json() {
        out.say(&url);
        https.iter().for_each(|https| out.say(https));
    }
    let ports: Vec<_> = relay.punch_addrs().iter().map(|address| address.port().to_string()).collect();
    let https = relay.https_addr().map_or(String::new(), |at| format!(", HTTPS at {at}"));
    let knock = relay.knock_addr().map_or("none".into(), |address| address.port().to_string());
    let (at, ports) = (relay.local_addr(), ports.join(", "));
    log(out, &format!("listening at {at}, hole-punch ports {ports}, knock port {knock}{https}"));
    Ok(())
}

/// Serves until it is told to end: at once, or after a drain that a second call cuts short.
async fn until_told(relay: &RelayServer, settings: &mut Settings, interrupted: &mut Interrupted, out: Out) {
    loop {
        match interrupted.wait().await {
            Call::Interrupt => return,
            Call::Terminate => break,
            Call::Reload => settings.reload(relay, out),
        }
    }
    notify::say("STOPPING=1");
    let drain = settings.drain();
    let began = Instant::now();
    let drained = async {
        relay.drain(drain).await;
        true
    };
    let told_again = async {
        while interrupted.wait().await == Call::Reload {}
        false
    };
    let end = match or(drained, told_again).await {
        true if began.elapsed() < drain => "everybody has left",
        true => "the time to leave is over",
        false => "told again: not waiting any longer",
    };
    log(out, end);
}
