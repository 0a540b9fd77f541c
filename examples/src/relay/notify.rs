//! What systemd is told (sd_notify(3)): a line to a datagram socket that it names. Without it nothing is said.

use std::{env, time::Duration};

use direc_smol::RelayServer;
use smol::Timer;

/// Tells systemd, if that has started this program and wants to know.
pub(super) fn say(state: &str) {
    if let Some(socket) = env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, state)
    {
        log::warn!("systemd could not be told {state}: {error}");
    }
}

#[cfg(target_os = "linux")]
fn send(socket: &std::ffi::OsStr, state: &str) -> std::io::Result<()> {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    };
    // A name that begins with an @ is none in the file system.
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(not(target_os = "linux"))]
fn send(_: &std::ffi::OsStr, _: &str) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Tells systemd in time that the relay still works: its lock can be had, and this task comes to its turn.
pub(super) async fn keep_watchdog(relay: &RelayServer) {
    let limit = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).map(Duration::from_micros);
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else { return std::future::pending().await };
    loop {
        Timer::after(limit / 2).await;
        relay.stats();
        say("WATCHDOG=1");
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    };

    fn heard(at: &UnixDatagram) -> String {
        let mut buf = [0; 100];
        let size = at.recv(&mut buf).unwrap();
        String::from_utf8_lossy(&buf[..size]).into_owned()
    }

    #[test]
    fn systemd_hears_by_a_path_and_by_an_abstract_name() {
        let name = format!("direc-test-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let at = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(heard(&at), "READY=1");
        std::fs::remove_file(path).unwrap();
        let at = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(format!("@{name}").as_ref(), "STOPPING=1").unwrap();
        assert_eq!(heard(&at), "STOPPING=1");
    }
}
