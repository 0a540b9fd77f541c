//! What an operator sees on the same machine: health, metrics, a page. No secrets, and nobody's address.

mod figures;
mod metrics;
mod page;
mod process;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Instant, SystemTime},
};

use direc_smol::{Page, PageServer, RelayServer};

use super::config::Admin;
use crate::failure::Failure;
use figures::Figures;
use process::Process;

/// Serves the pages where the settings say, if they do.
///
/// # Errors
/// As [`address`]; [`Failure::Failed`] if the port cannot be had.
pub(super) fn serve(admin: &Admin, relay: &Arc<RelayServer>) -> Result<Option<PageServer>, Failure> {
    let Some(address) = address(admin)? else { return Ok(None) };
    let (relay, since, started) = (Arc::downgrade(relay), Instant::now(), SystemTime::now());
    let pages = move |path: &str| {
        let relay = relay.upgrade()?;
        let figures = || Figures::of(&relay, since, Process::now(started));
        Some(match path {
            "/healthz" => Page::text("200 OK", "ok\n"),
            "/readyz" if relay.stats().draining => Page::text("503 Service Unavailable", "draining\n"),
            "/readyz" => Page::text("200 OK", "ready\n"),
            "/metrics" => Page { kind: metrics::KIND, ..Page::text("200 OK", metrics::written(&figures())) },
            "/" => page::page(&figures()),
            _ => return None,
        })
    };
    PageServer::bind(address, pages).map(Some).map_err(Failure::of)
}

/// Where the pages are to be, if anywhere: they ask nobody who they are.
///
/// # Errors
/// [`Failure::Usage`] for an address that others reach, unless that is meant.
pub(super) fn address(admin: &Admin) -> Result<Option<SocketAddr>, Failure> {
    let Some(place) = admin.listen else { return Ok(None) };
    let address = place.at(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if address.ip().is_loopback() || admin.allow_remote {
        return Ok(Some(address));
    }
    let why = "others could reach it; a loopback address (127.0.0.1), or admin.allow_remote = true";
    Err(Failure::Usage(format!("--admin (admin.listen) '{address}': {why}")))
}
