//! The command line of `relay`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use lexopt::{Arg, Parser, ValueExt};

use crate::{
    args::{self, misfit},
    failure::Failure,
};

const HELP: &str = "\
relay: introduces peers to each other, and forwards for those whose NATs refuse

usage: relay [--listen ADDR] [--public HOST] [--punch-port N]... [--knock-port N] [--https [IP:]PORT]
             [--tls-cert FILE --tls-key FILE] [--data-dir DIR] [--delay-ms N] [--drain-seconds N] [--json]

  --listen ADDR    IP address and UDP port of the QUIC socket (default: 0.0.0.0:4433)
  --public HOST    the host name or IP address by which peers reach this machine, for the URL
  --punch-port N   a UDP port for hole punching, two to seven of them, 0 for any (default: the two after ADDR's)
  --knock-port N   a UDP port for the packets that peers ask for to learn how their NATs filter, 0 for any
                   (default: the one after the last of those)
  --https [IP:]PORT
                   answers HTTPS there as well: `peer --relay https://HOST` needs to be told nothing else, and works
                   where UDP is blocked (IP is ADDR's unless it is given; 443 is the port that URLs need not name)
  --tls-cert FILE  the certificate for it, with those that vouch for it behind it, in PEM
  --tls-key FILE   and its private key; without the two, a self-signed certificate is made on first use, and the URL
                   names its key
  --data-dir DIR   where the relay's keys are kept, made on first use
                   (default: $XDG_DATA_HOME/direc or ~/.local/share/direc)
  --delay-ms N     wait between telling the server about the client and the other way round (default: 0)
  --drain-seconds N
                   on SIGTERM, how long those that are here may take to move elsewhere (default: 30)
  --json           standard output carries JSON lines, and nothing else
  -h, --help       this text
  -V, --version    the version

Prints the URL that peers need, direc://HOST:PORT#FINGERPRINT, on standard output, and with --https another one, either of
which will do; what happens, on standard error.
SIGTERM drains: all peers are told to be elsewhere within N seconds, nobody new is introduced, and what there is goes on
being forwarded until everybody has left or the time is over. Ctrl-C, or a second SIGTERM, ends it at once.
Open the UDP ports in the firewall: ADDR's, those for hole punching, and the one to knock from; and the TCP port of --https.
DIREC_LOG=debug (error, warn, info, trace) shows the libraries' log.";

const VERSION: &str = concat!("relay ", env!("CARGO_PKG_VERSION"));

/// The port unless another is asked for.
const PORT: u16 = 4433;
/// How long a drain takes at most unless something else is asked for: well within the 90 s that systemd waits.
const DRAIN: Duration = Duration::from_secs(30);
/// The core's limits: with fewer the relay cannot tell how a NAT maps, and one more is to knock from.
const PUNCH_PORTS: std::ops::RangeInclusive<usize> = 2..=7;

/// What the command line asks for.
pub(super) enum Parsed {
    Run(Box<Options>),
    Say(&'static str),
}

#[derive(Debug)]
pub(super) struct Options {
    pub(super) listen: SocketAddr,
    pub(super) public: Option<String>,
    pub(super) punch_ports: Vec<u16>,
    pub(super) knock_port: u16,
    pub(super) https: Option<SocketAddr>,
    /// Certificate and key.
    pub(super) tls: Option<(PathBuf, PathBuf)>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) delay: Duration,
    pub(super) drain: Duration,
}

pub(super) fn parse(mut parser: Parser) -> Result<Parsed, Failure> {
    let mut options = Options {
        listen: (Ipv4Addr::UNSPECIFIED, PORT).into(),
        public: None,
        punch_ports: Vec::new(),
        knock_port: 0,
        https: None,
        tls: None,
        data_dir: None,
        delay: Duration::ZERO,
        drain: DRAIN,
    };
    let mut knock_port = None;
    let (mut https, mut certificate, mut key) = (None, None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Parsed::Say(HELP)),
            Arg::Short('V') | Arg::Long("version") => return Ok(Parsed::Say(VERSION)),
            Arg::Long("json") => {}
            Arg::Long("listen") => options.listen = args::value(&mut parser, "--listen")?,
            Arg::Long("public") => options.public = Some(host(parser.value()?.string()?)),
            Arg::Long("punch-port") => options.punch_ports.push(args::value(&mut parser, "--punch-port")?),
            Arg::Long("knock-port") => knock_port = Some(args::value(&mut parser, "--knock-port")?),
            Arg::Long("https") => https = Some(args::value::<String>(&mut parser, "--https")?),
            Arg::Long("tls-cert") => certificate = Some(parser.value()?.into()),
            Arg::Long("tls-key") => key = Some(parser.value()?.into()),
            Arg::Long("data-dir") => options.data_dir = Some(parser.value()?.into()),
            Arg::Long("delay-ms") => options.delay = Duration::from_millis(args::value(&mut parser, "--delay-ms")?),
            Arg::Long("drain-seconds") => options.drain = args::duration_or_zero(&mut parser, "--drain-seconds")?,
            _ => return Err(arg.unexpected().into()),
        }
    }
    options.https = https.map(|text| place(&text, options.listen.ip())).transpose()?;
    options.tls = match (certificate, key) {
        (Some(_), _) | (_, Some(_)) if options.https.is_none() => {
            return misfit("--tls-cert and --tls-key belong to --https, which is missing");
        }
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return misfit("--tls-cert needs --tls-key: the certificate's private key"),
        (None, Some(_)) => return misfit("--tls-key needs --tls-cert: the key's certificate"),
    };
    if options.punch_ports.is_empty() {
        options.punch_ports = match options.listen.port() {
            0 => vec![0, 0],
            port @ ..=65_533 => vec![port + 1, port + 2],
            port => {
                return misfit(format!("--listen: no two ports are left after {port}; name them with --punch-port"));
            }
        };
    }
    if !PUNCH_PORTS.contains(&options.punch_ports.len()) {
        return misfit(format!("--punch-port: two to seven, not {}", options.punch_ports.len()));
    }
    let mut ports = options.punch_ports.clone();
    ports.push(options.listen.port());
    // Where the others are any, this one is; after the last port of all, the system picks.
    let next =
        if ports.contains(&0) { 0 } else { ports.iter().max().and_then(|last| last.checked_add(1)).unwrap_or(0) };
    options.knock_port = knock_port.unwrap_or(next);
    ports.push(options.knock_port);
    ports.retain(|&port| port != 0);
    ports.sort_unstable();
    if let Some(port) = ports.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]) {
        return misfit(format!("UDP port {port} is named twice"));
    }
    Ok(Parsed::Run(Box::new(options)))
}

/// A TCP port, and perhaps the address that it is on.
fn place(text: &str, ip: IpAddr) -> Result<SocketAddr, Failure> {
    let port = text.parse::<u16>().map(|port| SocketAddr::new(ip, port));
    port.or_else(|_| text.parse()).map_err(|_| {
        Failure::Usage(format!("--https '{text}': a TCP port, or an IP address, a colon and a port (IPv6 in brackets)"))
    })
}

/// IPv6 addresses may come with the brackets they have in URLs.
fn host(text: String) -> String {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.to_owned(),
        None => text,
    }
}
