//! Where a relay answers HTTPS, `https://HOST[:PORT][#sha256-PIN]`: all that a peer needs to be told of it.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;

use super::{UrlError, parse_host, parse_port};
use crate::NodeId;

const SCHEME: &str = "https://";
/// The port that is not written.
const PORT: u16 = 443;
/// What stands in front of a pin: the hash it is made with.
const PIN: &str = "sha256-";

/// SHA-256 of the public key in a TLS certificate (RFC 7469, section 2.4: of its SubjectPublicKeyInfo in DER). Whoever
/// has it needs nobody to vouch for the certificate.
///
/// It prints as `sha256-` and 43 characters of base64url without padding (RFC 4648, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsPin(pub [u8; 32]);

impl fmt::Display for TlsPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PIN}{}", BASE64URL_NOPAD.encode_display(&self.0))
    }
}

impl FromStr for TlsPin {
    type Err = HttpsUrlError;

    fn from_str(text: &str) -> Result<Self, HttpsUrlError> {
        let digits = text.strip_prefix(PIN).ok_or(HttpsUrlError::Pin)?;
        let bytes = BASE64URL_NOPAD.decode(digits.as_bytes()).map_err(|_| HttpsUrlError::Pin)?;
        Ok(Self(bytes.try_into().map_err(|_| HttpsUrlError::Pin)?))
    }
}

/// Where a relay answers HTTPS.
///
/// ```
/// let url: direc_core::HttpsUrl = "https://relay.example".parse()?;
/// assert_eq!((url.host.as_str(), url.port, url.pin), ("relay.example", 443, None));
/// let text = "https://[2001:db8::1]:8443#sha256-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
/// assert_eq!(text.parse::<direc_core::HttpsUrl>()?.to_string(), text);
/// # Ok::<(), direc_core::HttpsUrlError>(())
/// ```
///
/// `https://` may be left out, and one slash may follow the host and the port. Beyond that parsing is strict, and what it
/// gives prints in one way only: with `https://`, names in lower case, IP addresses in their shortest form, port 443 and
/// the slash left out.
///
/// ```
/// let url: direc_core::HttpsUrl = "Relay.Example:443/".parse()?;
/// assert_eq!(url.to_string(), "https://relay.example");
/// assert_eq!(url, "relay.example".parse()?);
/// # Ok::<(), direc_core::HttpsUrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpsUrl {
    /// A name or an IP address; an IPv6 address without the brackets it wears in the text.
    pub host: String,
    /// The TCP port. 443 where the text names none.
    pub port: u16,
    /// The key of its certificate, where it is not to be taken on others' word.
    pub pin: Option<TlsPin>,
}

impl HttpsUrl {
    /// Host and port as they stand in the URL, and in HTTP's `Host` header.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if *port == PORT { host } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.authority())?;
        self.pin.map_or(Ok(()), |pin| write!(f, "#{pin}"))
    }
}

impl FromStr for HttpsUrl {
    type Err = HttpsUrlError;

    fn from_str(text: &str) -> Result<Self, HttpsUrlError> {
        let (at, rest) = match text.strip_prefix(SCHEME) {
            Some(rest) => (SCHEME.len(), rest),
            // Another scheme, or a slip in this one: no host is meant that happens to be called `https`.
            None if text.contains("://") || text.starts_with("https:") => return Err(HttpsUrlError::Scheme),
            None => (0, text),
        };
        let (authority, fragment) = match rest.split_once('#') {
            Some((authority, fragment)) => (authority, Some(fragment)),
            None => (rest, None),
        };
        // The path of the root, as browsers write it.
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if let Some((position, found)) = authority.char_indices().find(|(_, c)| matches!(c, '@' | '/' | '?')) {
            return Err(UrlError::Unexpected { position: at + position, found }.into());
        }
        let (host, port) = split_port(authority, at)?;
        let host = parse_host(host, at)?;
        let port = port.map_or(Ok(PORT), parse_port)?;
        Ok(Self { host, port, pin: fragment.map(parse_pin).transpose()? })
    }
}

/// What stands after the `#`.
fn parse_pin(text: &str) -> Result<TlsPin, HttpsUrlError> {
    match text.parse::<NodeId>() {
        Ok(_) => Err(HttpsUrlError::RelayKey),
        Err(_) => text.parse(),
    }
}

/// Splits at the colon in front of the port, if there is one. `at` is where the host stands in the text, for the error.
fn split_port(authority: &str, at: usize) -> Result<(&str, Option<&str>), UrlError> {
    let address = UrlError::Address { position: at };
    if authority.starts_with('[') {
        let (host, rest) = authority.split_at(authority.find(']').ok_or(address)? + 1);
        return match rest.strip_prefix(':') {
            None if !rest.is_empty() => Err(address),
            port => Ok((host, port)),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(address),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

/// An HTTPS URL of a relay that does not parse: the caller's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpsUrlError {
    /// It begins neither with `https://`, in lower case, nor with a host.
    Scheme,
    /// What follows the `#` is no pin: `sha256-` and 43 characters of base64url.
    Pin,
    /// What follows the `#` is a relay's key: that belongs to a [`RelayUrl`](crate::RelayUrl).
    RelayKey,
    /// Its host or its port.
    Part(UrlError),
}

impl From<UrlError> for HttpsUrlError {
    fn from(error: UrlError) -> Self {
        Self::Part(error)
    }
}

impl fmt::Display for HttpsUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an HTTPS URL of a relay (https://HOST[:PORT][#sha256-PIN]): ")?;
        match self {
            Self::Scheme => f.write_str("it must begin with https:// or with the host"),
            Self::Pin => f.write_str("after the # there must be sha256- and 43 characters of A-Z, a-z, 0-9, - and _"),
            Self::RelayKey => f.write_str("after the # there is a relay's key: write direc://HOST:PORT#KEY"),
            Self::Part(error) => error.reason(f),
        }
    }
}

impl std::error::Error for HttpsUrlError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<HttpsUrl, HttpsUrlError> {
        text.parse()
    }

    /// The vectors of docs/protocol.md.
    #[test]
    fn what_is_written_in_many_ways_is_printed_in_one() {
        for (text, printed) in [
            ("https://relay.example", "https://relay.example"),
            ("https://Relay.Example:443", "https://relay.example"),
            ("https://relay.example/", "https://relay.example"),
            ("relay.example", "https://relay.example"),
            ("relay.example:8443/", "https://relay.example:8443"),
            ("[2001:DB8:0:0::1]:8443", "https://[2001:db8::1]:8443"),
            (
                "relay.example/#sha256-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
                "https://relay.example#sha256-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            ),
            ("https://relay.example:8443", "https://relay.example:8443"),
            ("https://203.0.113.10", "https://203.0.113.10"),
            ("https://[2001:DB8:0:0::1]:443", "https://[2001:db8::1]"),
            (
                "https://relay.example:443#sha256-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
                "https://relay.example#sha256-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            ),
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.to_string(), printed);
            assert_eq!(parse(printed), Ok(url));
        }
        let mut counted = 0..;
        assert_eq!(
            parse("https://a#sha256-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8").unwrap().pin,
            Some(TlsPin([0; 32].map(|_: u8| counted.next().unwrap())))
        );
    }

    #[test]
    fn what_does_not_belong_there_is_refused() {
        use HttpsUrlError::{Part, Pin, RelayKey, Scheme};
        let address = Part(UrlError::Address { position: 8 });
        for (text, error) in [
            ("HTTPS://relay.example", Scheme),
            ("http://relay.example", Scheme),
            ("https://", Part(UrlError::NoHost)),
            ("https:relay.example", Scheme),
            ("https:443", Scheme),
            ("", Part(UrlError::NoHost)),
            ("/", Part(UrlError::NoHost)),
            (":443", Part(UrlError::NoHost)),
            ("relay example", Part(UrlError::Unexpected { position: 5, found: ' ' })),
            ("2001:db8::1", Part(UrlError::Address { position: 0 })),
            ("https://relay.example//", Part(UrlError::Unexpected { position: 21, found: '/' })),
            ("relay.example/direc", Part(UrlError::Unexpected { position: 13, found: '/' })),
            ("relay.example:4433#aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa", RelayKey),
            ("https://me@relay.example", Part(UrlError::Unexpected { position: 10, found: '@' })),
            ("https://relay.example:", Part(UrlError::Port)),
            ("https://relay.example:0", Part(UrlError::Port)),
            ("https://relay.example:0443", Part(UrlError::Port)),
            ("https://2001:db8::1", address),
            ("https://[2001:db8::1]8443", address),
            ("https://1.2.3", address),
            ("https://relay.example#", Pin),
            ("https://relay.example#AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", Pin),
            ("https://relay.example#sha256-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", Pin),
            ("https://relay.example#sha256-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9", Pin),
            ("https://relay.example#sha256-AAEC", Pin),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn pins_come_back_as_they_were(bytes in any::<[u8; 32]>()) {
            prop_assert_eq!(TlsPin(bytes).to_string().parse(), Ok(TlsPin(bytes)));
        }

        #[test]
        fn any_text_is_taken_or_refused_and_what_is_taken_prints_to_itself(text in "(https://)?[a-zA-Z0-9.:\\[\\]#/_-]{0,60}|.{0,30}") {
            if let Ok(url) = parse(&text) {
                prop_assert_eq!(parse(&url.to_string()), Ok(url));
            }
        }
    }
}
