//! A relay's URL, `direc://HOST:PORT#FINGERPRINT`: where it is and which key it must prove.

mod https;

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::{IdError, NodeId};
pub use https::{HttpsUrl, HttpsUrlError, TlsPin};

/// What every URL begins with.
const SCHEME: &str = "direc://";

/// Longest host name, and longest label in it (RFC 1035, section 2.3.4, less the root's dot and length byte).
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

/// A relay's URL.
///
/// ```
/// let text = "direc://relay.example:4433#aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa";
/// let url: direc_core::RelayUrl = text.parse()?;
/// assert_eq!((url.host.as_str(), url.port), ("relay.example", 4433));
/// assert_eq!(url.to_string(), text);
/// # Ok::<(), direc_core::UrlError>(())
/// ```
///
/// Parsing is strict, and what it gives prints in one way only: names in lower case, IP addresses in their shortest
/// form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelayUrl {
    /// A name or an IP address; an IPv6 address without the brackets it wears in the text.
    pub host: String,
    /// The UDP port of the relay's QUIC socket.
    pub port: u16,
    /// The key that the relay must prove.
    pub key: NodeId,
}

impl RelayUrl {
    /// The URL of the relay with this key at `host`, which is checked as it would be in a text (an IPv6 address may
    /// wear brackets or not).
    ///
    /// # Errors
    /// The host is no name or address, or the port is 0.
    pub fn new(host: &str, port: u16, key: NodeId) -> Result<Self, UrlError> {
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => address.to_string(),
            Err(_) => parse_host(host, 0)?,
        };
        if port == 0 {
            return Err(UrlError::Port);
        }
        Ok(Self { host, port, key })
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, key } = self;
        if host.contains(':') {
            write!(f, "{SCHEME}[{host}]:{port}#{key}")
        } else {
            write!(f, "{SCHEME}{host}:{port}#{key}")
        }
    }
}

impl FromStr for RelayUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix(SCHEME).ok_or(UrlError::Scheme)?;
        let (authority, fingerprint) = match rest.split_once('#') {
            Some((authority, fingerprint)) => (authority, Some(fingerprint)),
            None => (rest, None),
        };
        if let Some((position, found)) = authority.char_indices().find(|(_, c)| matches!(c, '@' | '/' | '?')) {
            return Err(UrlError::Unexpected { position: SCHEME.len() + position, found });
        }
        let (host, port) = split_port(authority)?;
        let host = parse_host(host, SCHEME.len())?;
        let port = parse_port(port)?;
        let key = fingerprint.ok_or(UrlError::NoKey)?.parse().map_err(UrlError::Key)?;
        Ok(Self { host, port, key })
    }
}

/// Splits at the colon in front of the port: the first after an IPv6 address' brackets.
fn split_port(authority: &str) -> Result<(&str, &str), UrlError> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(UrlError::Address { position: SCHEME.len() })? + 1;
        let (host, rest) = authority.split_at(end);
        return Ok((host, rest.strip_prefix(':').ok_or(UrlError::NoPort)?));
    }
    match authority.split_once(':') {
        // A second colon: most likely an IPv6 address that lost its brackets.
        Some((_, port)) if port.contains(':') => Err(UrlError::Address { position: SCHEME.len() }),
        Some(parts) => Ok(parts),
        None if authority.is_empty() => Err(UrlError::NoHost),
        None => Err(UrlError::NoPort),
    }
}

/// A host in its one spelling. `at` is where it stands in the text, for the error.
fn parse_host(host: &str, at: usize) -> Result<String, UrlError> {
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        return Ok(address.ok_or(UrlError::Address { position: at })?.to_string());
    }
    let foreign = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if let Some((position, found)) = host.char_indices().find(|&(_, c)| foreign(c)) {
        return Err(UrlError::Unexpected { position: at + position, found });
    }
    let labels = || host.split('.');
    let fits = |label: &str| (1..=MAX_LABEL).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
    if host.len() > MAX_HOST || !labels().all(fits) {
        return Err(UrlError::Name { position: at });
    }
    // No top-level domain is a number, so this can only be meant as an IPv4 address.
    if labels().next_back().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        let address: Ipv4Addr = host.parse().map_err(|_| UrlError::Address { position: at })?;
        return Ok(address.to_string());
    }
    Ok(host.to_ascii_lowercase())
}

/// Digits only, and no leading zero: there is one spelling for each port.
fn parse_port(text: &str) -> Result<u16, UrlError> {
    if text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(UrlError::Port);
    }
    text.parse().map_err(|_| UrlError::Port)
}

/// A relay URL that does not parse: the caller's mistake. Positions are offsets in bytes from the start of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// It does not begin with `direc://`, in lower case.
    Scheme,
    /// There is no host.
    NoHost,
    /// There is no port, or something other than one follows the host.
    NoPort,
    /// The port is not a number from 1 to 65535, written without sign or leading zero.
    Port,
    /// Neither an IPv4 address nor an IPv6 address in brackets.
    Address {
        /// Where the host begins.
        position: usize,
    },
    /// A host name with an empty or overlong label, or one that begins or ends with a hyphen.
    Name {
        /// Where the host begins.
        position: usize,
    },
    /// A character that cannot stand there: no user, path or query belongs in this URL.
    Unexpected {
        /// Where it stands.
        position: usize,
        /// The character.
        found: char,
    },
    /// There is no `#` with the relay's key.
    NoKey,
    /// What follows the `#` is not an ID.
    Key(IdError),
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a relay URL (direc://HOST:PORT#FINGERPRINT): ")?;
        self.reason(f)
    }
}

impl UrlError {
    /// What is wrong, without what it is wrong for.
    fn reason(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str("it must begin with direc://"),
            Self::NoHost => f.write_str("the host is missing"),
            Self::NoPort => f.write_str("the port is missing after the host"),
            Self::Port => f.write_str("the port must be a number from 1 to 65535"),
            Self::Address { position } => write!(
                f,
                "the host from character {} on is no IP address (IPv6 addresses stand in brackets)",
                position + 1
            ),
            Self::Name { position } => write!(f, "the host from character {} on is no host name", position + 1),
            Self::Unexpected { position, found } => {
                write!(f, "{found:?} cannot stand at character {}", position + 1)
            }
            Self::NoKey => f.write_str("the relay's key is missing after a #"),
            Self::Key(error) => write!(f, "the relay's key after the #: {error}"),
        }
    }
}

impl std::error::Error for UrlError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa";

    fn parse(host_and_port: &str) -> Result<RelayUrl, UrlError> {
        format!("direc://{host_and_port}#{KEY}").parse()
    }

    #[test]
    fn names_and_addresses_print_as_they_parse() {
        for text in ["relay.example:4433", "a:1", "127.0.0.1:65535", "[::1]:4433", "[2001:db8::7]:80", "x-1.y2:443"] {
            let url = parse(text).unwrap();
            assert_eq!(url.to_string(), format!("direc://{text}#{KEY}"));
            assert_eq!(url.to_string().parse(), Ok(url));
        }
    }

    #[test]
    fn an_ipv6_host_has_no_brackets_in_the_field() {
        assert_eq!(parse("[::1]:5").unwrap().host, "::1");
    }

    #[test]
    fn other_spellings_of_a_host_become_the_one() {
        assert_eq!(parse("Relay.Example:1").unwrap().host, "relay.example");
        assert_eq!(parse("[2001:DB8:0:0:0:0:0:7]:1").unwrap().host, "2001:db8::7");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let key = NodeId::from_str(KEY).unwrap();
        assert_eq!(format!("https://a:1#{KEY}").parse::<RelayUrl>(), Err(UrlError::Scheme));
        assert_eq!(format!("DIREC://a:1#{KEY}").parse::<RelayUrl>(), Err(UrlError::Scheme));
        assert_eq!("direc://a:1".parse::<RelayUrl>(), Err(UrlError::NoKey));
        assert_eq!("direc://a:1#abc".parse::<RelayUrl>(), Err(UrlError::Key(IdError::Length { found: 3 })));
        assert_eq!(parse(":1"), Err(UrlError::NoHost));
        assert_eq!(parse(""), Err(UrlError::NoHost));
        assert_eq!(parse("a"), Err(UrlError::NoPort));
        assert_eq!(parse("[::1]"), Err(UrlError::NoPort));
        assert_eq!(parse("me@a:1"), Err(UrlError::Unexpected { position: 10, found: '@' }));
        assert_eq!(parse("a:1/"), Err(UrlError::Unexpected { position: 11, found: '/' }));
        assert_eq!(parse("a:1?x"), Err(UrlError::Unexpected { position: 11, found: '?' }));
        assert_eq!(parse("a_b:1"), Err(UrlError::Unexpected { position: 9, found: '_' }));
        assert_eq!(parse("ä:1"), Err(UrlError::Unexpected { position: 8, found: 'ä' }));
        assert_eq!(parse("::1:5"), Err(UrlError::Address { position: 8 }));
        assert_eq!(parse("[::1%eth0]:5"), Err(UrlError::Address { position: 8 }));
        assert_eq!(parse("[::1:5"), Err(UrlError::Address { position: 8 }));
        assert_eq!(parse("256.0.0.1:5"), Err(UrlError::Address { position: 8 }));
        assert_eq!(parse("1.2.3:5"), Err(UrlError::Address { position: 8 }));
        for name in ["a..b", ".a", "a.", "-a", "a-", &"x".repeat(64), &["abcdefgh"; 32].join(".")] {
            assert_eq!(parse(&format!("{name}:1")), Err(UrlError::Name { position: 8 }), "{name}");
        }
        for port in ["", "0", "00", "01", "+1", "-1", "65536", "1x", " 1"] {
            assert_eq!(parse(&format!("a:{port}")), Err(UrlError::Port), "{port:?}");
        }
        assert_eq!(RelayUrl::new("a", 0, key), Err(UrlError::Port));
        assert_eq!(RelayUrl::new("a b", 1, key), Err(UrlError::Unexpected { position: 1, found: ' ' }));
    }

    #[test]
    fn new_takes_an_ipv6_address_with_and_without_brackets() {
        let key = NodeId::from_str(KEY).unwrap();
        for host in ["::1", "[::1]"] {
            assert_eq!(RelayUrl::new(host, 7, key).unwrap().to_string(), format!("direc://[::1]:7#{KEY}"));
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_to_its_one_spelling_or_not_at_all(text in "(direc://)?\\PC{0,30}(#[a-z2-7]{52})?") {
            if let Ok(url) = text.parse::<RelayUrl>() {
                prop_assert_eq!(url.to_string().parse(), Ok(url));
            }
        }

        #[test]
        fn any_good_host_and_port_survive(host in "[a-z0-9]{1,9}(\\.[a-z][a-z0-9]{0,9}){0,3}|[0-9a-f]{1,4}::[0-9a-f]{1,4}",
                                          port in 1_u16.., key: [u8; 32]) {
            if let Ok(url) = RelayUrl::new(&host, port, NodeId::from_bytes(key)) {
                prop_assert_eq!(url.to_string().parse(), Ok(url));
            } else {
                prop_assert!(host.bytes().all(|b| b.is_ascii_digit()), "{}", host);
            }
        }
    }
}
