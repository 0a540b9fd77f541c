//! Values that not every number or text is.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A day: longer is a mistake.
const LONGEST: f64 = 86_400.0;

/// A time from 0 to a day, fractions allowed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "f64")]
pub(in super::super) struct Seconds(pub(super) f64);

impl Seconds {
    pub(in super::super) fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }
}

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs_f64())
    }
}

impl TryFrom<f64> for Seconds {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, String> {
        let fits = (0.0..=LONGEST).contains(&seconds);
        fits.then_some(Self(seconds)).ok_or_else(|| format!("0 to {LONGEST} seconds, not {seconds}"))
    }
}

/// A time from 0 to a minute.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "u64")]
pub(in super::super) struct Millis(pub(super) u64);

impl Millis {
    pub(in super::super) fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl TryFrom<u64> for Millis {
    type Error = String;

    fn try_from(ms: u64) -> Result<Self, String> {
        (ms <= 60_000).then_some(Self(ms)).ok_or_else(|| format!("0 to 60000 milliseconds, not {ms}"))
    }
}

/// A host's name or address; IPv6 addresses may come with the brackets they have in URLs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(from = "String")]
pub(in super::super) struct Host(pub(in super::super) String);

impl From<String> for Host {
    fn from(text: String) -> Self {
        match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            Some(inner) => Self(inner.to_owned()),
            None => Self(text),
        }
    }
}

/// A name that an authority could certify: of a host, and no address.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub(in super::super) struct Domain(pub(in super::super) String);

impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_label = |label: &str| {
            let bare = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            bare && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
        };
        let is_name = text.len() <= 253 && text.split('.').all(is_label) && text.parse::<IpAddr>().is_err();
        let name = is_name.then(|| Self(text.to_ascii_lowercase()));
        name.ok_or_else(|| format!("expected a host's name, as relay.example.org, not {text:?}"))
    }
}

/// An `https://` URL.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub(in super::super) struct Https(pub(in super::super) String);

impl TryFrom<String> for Https {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let host = text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
        let bare = text.bytes().all(|byte| byte.is_ascii_graphic());
        (host && bare).then(|| Self(text.clone())).ok_or_else(|| format!("expected an https:// URL, not {text:?}"))
    }
}

/// A TCP port, and perhaps the IP address that it is on.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "Written", into = "String")]
pub(in super::super) struct Place {
    ip: Option<IpAddr>,
    port: u16,
}

/// As people write it: 443 or "0.0.0.0:443".
#[derive(Deserialize)]
#[serde(untagged, expecting = "a TCP port, or an IP address, a colon and a port (IPv6 in brackets)")]
enum Written {
    Port(u16),
    Text(String),
}

impl Place {
    /// With the address that it is on unless it says which.
    pub(in super::super) fn at(self, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(self.ip.unwrap_or(ip), self.port)
    }
}

impl TryFrom<Written> for Place {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let text = match written {
            Written::Port(port) => return Ok(Self { ip: None, port }),
            Written::Text(text) => text,
        };
        let port = text.parse().map(|port| Self { ip: None, port });
        let place = || text.parse().map(|at: SocketAddr| Self { ip: Some(at.ip()), port: at.port() });
        port.or_else(|_| place()).map_err(|_| "a TCP port, or an IP address, a colon and a port (IPv6 in brackets)")
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        match place.ip {
            Some(ip) => SocketAddr::new(ip, place.port).to_string(),
            None => place.port.to_string(),
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Format {
    /// For people.
    Text,
    /// One object a line, for programs.
    Json,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}
