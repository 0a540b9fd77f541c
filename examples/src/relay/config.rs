//! What an operator can set. A key is a field here, a paragraph in `examples/relay.toml`, and nothing else: the file,
//! the environment and the command line all come in through [`layers`].

mod access;
mod acme;
mod layers;
mod values;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use direc_smol::{HttpsLimits, RelayLimits};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
pub(super) use access::names;
use access::{Access, Names, Quotas};
pub(super) use acme::Acme;
pub(super) use layers::{FILE_VARIABLE, Layers, differences};
pub(super) use values::{Format, Host, Millis, Place, Seconds};

/// All keys with their documentation, and at their defaults.
pub(super) const SAMPLE: &str = include_str!("../../relay.toml");

/// The core's limits: with fewer the relay cannot tell how a NAT maps, and one more is to knock from.
const PUNCH_PORTS: std::ops::RangeInclusive<usize> = 2..=7;

/// The file's keys outside any table, and its tables. What each means stands in the sample.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "tables and keys")]
pub(super) struct Config {
    pub(super) listen: SocketAddr,
    pub(super) public: Option<Host>,
    pub(super) punch_ports: Vec<u16>,
    pub(super) knock_port: Option<u16>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) delay_ms: Millis,
    pub(super) drain_seconds: Seconds,
    pub(super) log_format: Format,
    pub(super) https: Https,
    pub(super) acme: Acme,
    pub(super) admin: Admin,
    pub(super) access: Access,
    pub(super) names: Names,
    pub(super) quotas: Quotas,
    pub(super) limits: Limits,
}

/// The HTTPS port.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Https {
    pub(super) listen: Option<Place>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) max_connections: usize,
    pub(super) max_connections_per_address: usize,
    pub(super) request_seconds: Seconds,
    pub(super) answer_seconds: Seconds,
}

/// The pages for the operator.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Admin {
    pub(super) listen: Option<Place>,
    pub(super) allow_remote: bool,
}

/// What the relay takes upon itself at most.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) handshakes: usize,
    pub(super) introductions: usize,
    pub(super) introductions_per_peer: usize,
    pub(super) open_offers_per_peer: usize,
    pub(super) registered_per_address: usize,
    pub(super) forward_queue_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 4433).into(),
            public: None,
            punch_ports: Vec::new(),
            knock_port: None,
            data_dir: None,
            delay_ms: Millis(0),
            // Well within the 90 s that systemd waits.
            drain_seconds: Seconds(30.0),
            log_format: Format::Text,
            https: Https::default(),
            acme: Acme::default(),
            admin: Admin::default(),
            access: Access::default(),
            names: Names::new(),
            quotas: Quotas::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Https {
    fn default() -> Self {
        let limits = HttpsLimits::default();
        Self {
            listen: None,
            certificate: None,
            key: None,
            max_connections: limits.connections,
            max_connections_per_address: limits.per_address,
            request_seconds: limits.request.into(),
            answer_seconds: limits.answer.into(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let limits = RelayLimits::default();
        Self {
            connections: limits.connections,
            handshakes: limits.handshakes,
            introductions: limits.introductions,
            introductions_per_peer: limits.introductions_per_peer,
            open_offers_per_peer: limits.open_offers_per_peer,
            registered_per_address: limits.registered_per_address,
            forward_queue_bytes: limits.forward_queue,
        }
    }
}

impl Https {
    /// Certificate and key, if they come from files.
    pub(super) fn files(&self) -> Option<(&PathBuf, &PathBuf)> {
        self.certificate.as_ref().zip(self.key.as_ref())
    }

    pub(super) fn limits(&self) -> HttpsLimits {
        HttpsLimits {
            connections: self.max_connections,
            per_address: self.max_connections_per_address,
            request: self.request_seconds.duration(),
            answer: self.answer_seconds.duration(),
        }
    }
}

impl Limits {
    pub(super) fn of_the_core(&self) -> RelayLimits {
        RelayLimits {
            connections: self.connections,
            handshakes: self.handshakes,
            introductions: self.introductions,
            introductions_per_peer: self.introductions_per_peer,
            open_offers_per_peer: self.open_offers_per_peer,
            registered_per_address: self.registered_per_address,
            forward_queue: self.forward_queue_bytes,
            ..RelayLimits::default()
        }
    }
}

/// The UDP ports besides the one for QUIC.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) punch: Vec<u16>,
    pub(super) knock: u16,
}

impl Config {
    /// What no key says by itself: that they fit together.
    ///
    /// # Errors
    /// [`Failure::Usage`] names the keys.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.ports()?;
        self.access.rules(&self.names)?;
        self.acme.check(self)?;
        self.check_tcp_ports()?;
        let misfit = |what: &str| Err(Failure::Usage(what.into()));
        match (&self.https.certificate, &self.https.key) {
            (Some(_), _) | (_, Some(_)) if self.https.listen.is_none() => {
                misfit("--tls-cert and --tls-key belong to --https, which is missing (https.listen)")
            }
            (Some(_), None) => misfit("--tls-cert needs --tls-key: the certificate's private key (https.key)"),
            (None, Some(_)) => misfit("--tls-key needs --tls-cert: the key's certificate (https.certificate)"),
            _ => Ok(()),
        }
    }

    /// HTTPS and the pages cannot have the same port.
    fn check_tcp_ports(&self) -> Result<(), Failure> {
        let (Some(https), Some(admin)) = (self.https.listen, self.admin.listen) else { return Ok(()) };
        let (https, admin) = (https.at(self.listen.ip()), admin.at(Ipv4Addr::LOCALHOST.into()));
        let meet = https.ip() == admin.ip() || https.ip().is_unspecified() || admin.ip().is_unspecified();
        match https.port() == admin.port() && https.port() != 0 && meet {
            true => Err(Failure::Usage(format!(
                "--https (https.listen) and --admin (admin.listen) are both TCP port {}: name another one for either",
                https.port()
            ))),
            false => Ok(()),
        }
    }

    /// What the operator can hardly mean.
    pub(super) fn doubts(&self) -> Vec<String> {
        let nobody =
            (self.limits.connections == 0).then(|| "limits.connections is 0: the relay lets nobody in".to_owned());
        self.access.doubt().into_iter().chain(nobody).collect()
    }

    /// The ports that are named, or else those after [`Config::listen`]'s.
    ///
    /// # Errors
    /// [`Failure::Usage`] if they are too many or too few, or one is named twice.
    pub(super) fn ports(&self) -> Result<Ports, Failure> {
        let mut punch = self.punch_ports.clone();
        if punch.is_empty() {
            punch = match self.listen.port() {
                0 => vec![0, 0],
                port @ ..=65_533 => vec![port + 1, port + 2],
                port => return Err(Failure::Usage(format!("punch_ports: name them, none are left after {port}"))),
            };
        }
        if !PUNCH_PORTS.contains(&punch.len()) {
            return Err(Failure::Usage(format!("punch_ports (--punch-port): two to seven, not {}", punch.len())));
        }
        let mut ports = punch.clone();
        ports.push(self.listen.port());
        // Where the others are any, this one is; after the last port of all, the system picks.
        let next =
            if ports.contains(&0) { 0 } else { ports.iter().max().and_then(|last| last.checked_add(1)).unwrap_or(0) };
        let knock = self.knock_port.unwrap_or(next);
        ports.push(knock);
        ports.retain(|&port| port != 0);
        ports.sort_unstable();
        match ports.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Failure::Usage(format!("UDP port {} is named twice", pair[0]))),
            None => Ok(Ports { punch, knock }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_file_is_the_defaults() {
        assert_eq!(toml::from_str::<Config>(SAMPLE).unwrap(), Config::default());
    }

    /// A key that has no default stands in it as a comment: `#key = value` or `#"key" = value`, without a space.
    #[test]
    fn the_sample_file_with_all_its_keys_parses_and_has_every_key_there_is() {
        let is_key =
            |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase() || c == '"');
        let whole: Vec<_> = SAMPLE.lines().map(|line| if is_key(line) { &line[1..] } else { line }).collect();
        let table: toml::Table = toml::from_str(&whole.join("\n")).unwrap();
        toml::from_str::<Config>(&whole.join("\n")).unwrap();
        let documented = |table: &toml::Table, at: &str| {
            // What serde says of a key that there cannot be names those that there are.
            let error = toml::from_str::<Config>(&format!("{at}zz = 1")).unwrap_err();
            let known = error.message().split_once("expected ").unwrap().1;
            for key in known.split('`').skip(1).step_by(2) {
                assert!(table.contains_key(key), "the sample file does not document {at}{key}");
            }
        };
        documented(&table, "");
        for (name, inside) in &table {
            if let Some(inside) = inside.as_table() {
                documented(inside, &format!("{name}."));
            }
        }
    }

    #[test]
    fn ports_follow_the_first_unless_they_are_named() {
        let ports = |toml: &str| toml::from_str::<Config>(toml).unwrap().ports().map_err(|e| e.to_string());
        assert_eq!(ports(""), Ok(Ports { punch: vec![4434, 4435], knock: 4436 }));
        assert_eq!(ports("punch_ports = [7, 8, 9]"), Ok(Ports { punch: vec![7, 8, 9], knock: 4434 }));
        assert_eq!(ports("listen = '[::]:0'"), Ok(Ports { punch: vec![0, 0], knock: 0 }));
        assert!(ports("knock_port = 4433").unwrap_err().contains("4433 is named twice"));
        assert!(ports("listen = '[::]:65534'").unwrap_err().contains("none are left"));
        assert!(ports("punch_ports = [1]").unwrap_err().contains("two to seven, not 1"));
    }

    #[test]
    fn https_and_the_pages_have_ports_of_their_own() {
        let check = |toml: &str| toml::from_str::<Config>(toml).unwrap().check().map_err(|e| e.to_string());
        let same = "https.listen = 9000\nadmin.listen = 9000";
        assert!(check(same).unwrap_err().contains("both TCP port 9000"));
        assert_eq!(check("https.listen = 9000\nadmin.listen = 9001"), Ok(()));
        assert_eq!(check("https.listen = '192.0.2.1:9000'\nadmin.listen = 9000"), Ok(()), "on other addresses");
        assert_eq!(check("https.listen = 0\nadmin.listen = 0"), Ok(()), "whichever are free");
    }

    #[test]
    fn what_nobody_means_is_doubted() {
        let doubts = |toml: &str| toml::from_str::<Config>(toml).unwrap().doubts().join("; ");
        assert_eq!(doubts(""), "");
        assert!(doubts("access.mode = 'listed'").contains("the list is empty"));
        let id = "a".repeat(52);
        assert!(doubts(&format!("[access.peers]\n{id} = 'all'")).contains("change nothing"), "{id}");
        assert!(doubts("limits.connections = 0").contains("limits.connections"));
    }
}
