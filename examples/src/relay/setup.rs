//! The relay that the settings ask for, and its URL.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

#[cfg(feature = "acme")]
use direc_smol::AcmeOptions;
use direc_smol::{
    FileTrouble, HttpsKey, NodeId, RelayOptions, RelayServer, RelayUrl, TlsPin, load_or_create_key, make_private_folder,
};

#[cfg(feature = "acme")]
use super::telling::log;
use super::{
    config::{self, Config},
    telling::{complain, warn},
};
use crate::{failure::Failure, home, out::Out};

/// The key's file in the data folder.
const KEY_FILE: &str = "relay.key";
/// The self-signed certificate's and its key's, there as well.
const HTTPS_FILE: &str = "relay-https.pem";
/// The folder of what there is by ACME, there as well.
#[cfg(feature = "acme")]
const ACME_FOLDER: &str = "acme";

/// The relay; and the pin of its TLS key, if nobody else vouches for that.
pub(super) fn bind(config: &Config, out: Out) -> Result<(RelayServer, Option<TlsPin>), Failure> {
    make_folder(config, out)?;
    let identity = load_or_create_key(&key_file(config)).map_err(Failure::of)?;
    let ports = config.ports()?;
    let mut relay = RelayOptions::new(identity, config.listen);
    relay.punch_ports = ports.punch;
    relay.knock_port = Some(ports.knock);
    relay.delay = config.delay_ms.duration();
    relay.public_host = config.public.as_ref().map(|host| host.0.clone());
    relay.access = config.access.rules(&config.names)?;
    config.doubts().iter().for_each(|doubt| warn(out, doubt));
    relay.names = config::names(&config.names);
    relay.quotas = config.quotas.meters();
    relay.limits = config.limits.of_the_core();
    relay.https_limits = config.https.limits();
    let mut pin = None;
    if let Some(place) = config.https.listen {
        let key = https_key(config)?;
        pin = (config.https.files().is_none() && !config.acme.is_on()).then(|| key.pin());
        doubts(config, &key).iter().for_each(|doubt| complain(out, doubt));
        relay.https = Some((place.at(config.listen.ip()), key));
    }
    #[cfg(feature = "acme")]
    {
        relay.acme = acme(config, out);
    }
    Ok((RelayServer::bind(relay).map_err(Failure::of)?, pin))
}

/// How the key of the self-signed certificate gets one of an authority's.
#[cfg(feature = "acme")]
fn acme(config: &Config, out: Out) -> Option<AcmeOptions> {
    let acme = config.acme.options(https_file(config), folder(config).join(ACME_FOLDER))?;
    if acme.kept().is_none() {
        log(out, &format!("no certificate yet: asking {} for one; HTTPS is self-signed until then", acme.directory));
    }
    Some(acme)
}

/// What the operator should mend: what peers will not like about a certificate that came from a file, since they are the
/// first to see; and a key that others can read.
pub(super) fn doubts(config: &Config, key: &HttpsKey) -> Vec<String> {
    let named = config.https.files();
    let disbelieved = named.and_then(|(file, _)| {
        let doubt = key.doubt(config.public.as_ref().map(|host| host.0.as_str()))?;
        Some(format!("peers will not believe the certificate in {}: {doubt}", file.display()))
    });
    let exposed = match named {
        Some((_, key)) => exposed(key),
        None => exposed(&https_file(config)),
    };
    disbelieved.into_iter().chain(exposed).collect()
}

/// A group of the system's may be meant to read a key, and everybody is not.
#[cfg(unix)]
fn exposed(key: &Path) -> Option<String> {
    let mode = std::os::unix::fs::MetadataExt::mode(&key.metadata().ok()?) & 0o777;
    let file = key.display();
    (mode & 0o007 != 0)
        .then(|| format!("everybody here can get at the secret key in {file} (mode {mode:03o}): chmod 600 {file}"))
}

/// Modes are Unix's.
#[cfg(not(unix))]
fn exposed(_key: &Path) -> Option<String> {
    None
}

/// The TLS key and certificate: from the files that are named, or made by the relay itself.
pub(super) fn https_key(config: &Config) -> Result<HttpsKey, Failure> {
    let key = match config.https.files() {
        Some((certificate, key)) => HttpsKey::from_files(certificate, key),
        None => {
            let host = config.public.as_ref().map_or("localhost", |host| &host.0);
            HttpsKey::load_or_create(&https_file(config), host)
        }
    };
    key.map_err(Failure::of)
}

/// The file of the relay's key.
pub(super) fn key_file(config: &Config) -> PathBuf {
    folder(config).join(KEY_FILE)
}

/// The file of the certificate that the relay makes for itself.
pub(super) fn https_file(config: &Config) -> PathBuf {
    folder(config).join(HTTPS_FILE)
}

/// Makes the data folder if it is missing, and says so: it may be mistyped.
fn make_folder(config: &Config, out: Out) -> Result<(), Failure> {
    check_folder(config)?;
    let folder = folder(config);
    if make_private_folder(&folder).map_err(Failure::of)? {
        out.note(&format!("made the folder {} for this relay's keys: it was not there", folder.display()));
    }
    Ok(())
}

/// Whether the data folder is there or may be made: the folder around one that a person has named must be there.
///
/// # Errors
/// [`Failure::Failed`] names the folder and what to do.
pub(super) fn check_folder(config: &Config) -> Result<(), Failure> {
    let folder = folder(config);
    let around = folder.parent().filter(|around| !around.as_os_str().is_empty());
    if config.data_dir.is_some()
        && let Some(around) = around.filter(|around| !around.is_dir())
    {
        let (folder, around) = (folder.display(), around.display());
        return Err(Failure::new(
            format!("data_dir {folder}"),
            format!("there is no folder {around}; correct the path, or make that folder (`mkdir -p {around}`)"),
        ));
    }
    Ok(())
}

/// Whether files can be made in the data folder, or the folder itself if it is not there.
///
/// # Errors
/// [`Failure::Failed`] names the folder and what to do.
#[cfg(unix)]
pub(super) fn check_writable(config: &Config) -> Result<(), Failure> {
    let folder = folder(config);
    let Some(there) = folder.ancestors().find(|path| path.exists()) else { return Ok(()) };
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let may = nix::unistd::access(there, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK);
    may.map_err(|error| {
        let error = error.into();
        Failure::of(FileTrouble { doing: "cannot make files in", path: there, error: &error })
    })
}

/// The system is not asked.
#[cfg(not(unix))]
pub(super) fn check_writable(_config: &Config) -> Result<(), Failure> {
    Ok(())
}

fn folder(config: &Config) -> PathBuf {
    config.data_dir.clone().unwrap_or_else(home::relay_data)
}

/// The URL for peers, by the best name of this machine that is known.
pub(super) fn url(relay: &RelayServer, config: &Config, out: Out) -> Result<RelayUrl, Failure> {
    if let Some(host) = &config.public {
        return public_url(&host.0, relay.local_addr().port(), relay.id());
    }
    let listen = relay.local_addr();
    if !listen.ip().is_unspecified() {
        return Ok(relay.url(None));
    }
    let guess = outgoing_address(listen);
    out.note("the URL's host is a guess; --public HOST sets the one that peers can reach");
    Ok(relay.url(guess.map(|address| address.to_string()).as_deref()))
}

/// Whether the host for the URL, if one is set, can stand in one.
///
/// # Errors
/// [`Failure::Usage`] names it.
pub(super) fn check_public(config: &Config) -> Result<(), Failure> {
    let Some(host) = &config.public else { return Ok(()) };
    // Any port and key will do: it is the host that is checked.
    public_url(&host.0, 1, NodeId::from_bytes([0; 32])).map(drop)
}

fn public_url(host: &str, port: u16, key: NodeId) -> Result<RelayUrl, Failure> {
    RelayUrl::new(host, port, key).map_err(|why| Failure::Usage(format!("--public '{host}': {why}")))
}

/// The address that this machine would speak to the internet from. Nothing is sent: connecting a UDP socket only asks
/// for the route (the targets are documentation addresses of RFC 5737 and RFC 3849).
fn outgoing_address(listen: SocketAddr) -> Option<IpAddr> {
    let target = if listen.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" };
    let socket = UdpSocket::bind(SocketAddr::new(listen.ip(), 0)).ok()?;
    socket.connect(target).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}
