//! What can go wrong on the way to a relay's HTTPS port, in words that say what to do.

use std::{fmt, io, net::SocketAddr, time::Duration};

use direc_core::printable;
use rustls::{CertificateError, pki_types::UnixTime};
use time::OffsetDateTime;

use super::{HttpsKeyError, http::HttpError};

/// Why a relay could not be reached by HTTPS, or what answered is none.
#[derive(Debug)]
#[non_exhaustive]
pub enum HttpsError {
    /// The host's name does not resolve.
    Resolve {
        /// The name: the relay's, or the proxy's.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// Nobody takes TCP connections there.
    Connect {
        /// The last address that was tried.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The proxy would not let us through.
    Proxy {
        /// The proxy's host and port.
        proxy: String,
        /// What it said.
        status: u16,
    },
    /// The file of certificates to believe cannot be used.
    Ca(HttpsKeyError),
    /// This machine trusts no certificate authority.
    NoRoots,
    /// The relay's certificate is not believed, or TLS failed otherwise.
    Tls(rustls::Error),
    /// The connection broke.
    Io(io::Error),
    /// What answers speaks no HTTP, or not as it should.
    Http(String),
    /// It did not answer in time.
    TimedOut {
        /// How long it had.
        after: Duration,
    },
    /// It sends us elsewhere, as a network's log-in page does; a relay never does.
    Redirected {
        /// Where to, by its own word; at most 200 characters.
        to: String,
    },
    /// It answers, but not as a relay.
    NotARelay {
        /// The HTTP status.
        status: u16,
    },
    /// What it says of itself is no relay's description, as that of a network's log-in page.
    BadDescription(String),
}

impl fmt::Display for HttpsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { host, error } => write!(f, "the host {host:?} does not resolve: {error}"),
            Self::Connect { address, error } => write!(f, "no HTTPS connection to {address}: {error}"),
            Self::Proxy { proxy, status: 407 } => {
                write!(
                    f,
                    "the proxy {proxy} asks for a name and a password (https_proxy=http://NAME:PASSWORD@HOST:PORT)"
                )
            }
            Self::Proxy { proxy, status } => {
                write!(f, "the proxy {proxy} refuses the connection (HTTP status {status})")
            }
            Self::Ca(error) => write!(f, "{error}"),
            Self::NoRoots => f.write_str(
                "this machine trusts no certificate authority: install its ca-certificates, name a file, or use the \
                 URL with the relay's #sha256- pin",
            ),
            Self::Tls(error) => tls_words(error, f),
            Self::Io(error) => write!(f, "the HTTPS connection broke: {error}"),
            Self::Http(why) => write!(f, "what answers there is no relay: {why}"),
            Self::TimedOut { after } => write!(f, "no answer by HTTPS within {:.0} s", after.as_secs_f64()),
            Self::Redirected { to } => write!(
                f,
                "it sends us to {to:?}, which a relay never does (does this network want you to log in first?)"
            ),
            Self::NotARelay { status } => write!(f, "what answers there is no relay (HTTP status {status})"),
            Self::BadDescription(why) => write!(
                f,
                "what answers there does not describe a relay: {why} (does this network want you to log in first?)"
            ),
        }
    }
}

impl std::error::Error for HttpsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { error, .. } | Self::Connect { error, .. } | Self::Io(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Ca(error) => Some(error),
            _ => None,
        }
    }
}

fn tls_words(error: &rustls::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        rustls::Error::InvalidCertificate(why) => {
            write!(f, "the relay's certificate is not believed: {}", CertificateWords(why))
        }
        rustls::Error::InvalidMessage(_) => {
            write!(f, "TLS failed: what answers there does not speak it (is that port HTTPS?): {error}")
        }
        _ => write!(f, "TLS failed: {error}"),
    }
}

/// What is wrong with a certificate, and what a person can do about it.
pub(super) struct CertificateWords<'a>(pub(super) &'a CertificateError);

impl fmt::Display for CertificateWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CertificateError::ExpiredContext { time, not_after } => {
                write!(f, "it expired on {}; this machine's clock says {}, is that right?", day(*not_after), day(*time))
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                let (from, now) = (day(*not_before), day(*time));
                write!(f, "it is not valid before {from}; this machine's clock says {now}, is that right?")
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                write!(f, "it is another host's: of {}, not of {}", names(presented), expected.to_str())
            }
            // A root may have the name of the one that it is signed by, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => f.write_str(
                "nobody trusted here vouches for it (if it is self-signed, use the URL with its #sha256- pin)",
            ),
            CertificateError::ApplicationVerificationFailure => {
                f.write_str("its key is not the one that the URL's #sha256- names")
            }
            // webpki's word, which rustls passes on in no other form.
            other if other.to_string().contains("CaUsedAsEndEntity") => f.write_str(
                "it is an authority's certificate and no server's (make it with basicConstraints CA:FALSE: \
                 `openssl req -x509 -addext basicConstraints=CA:FALSE …`)",
            ),
            other => write!(f, "{other}"),
        }
    }
}

/// A moment, in UTC to the minute.
fn day(at: UnixTime) -> String {
    let date_time = i64::try_from(at.as_secs()).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    date_time.map_or_else(
        || "a day that no calendar has".to_owned(),
        |at| format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute()),
    )
}

/// Whose a certificate is, by its own word, which rustls gives as `DnsName("relay.example")`.
fn names(presented: &[String]) -> String {
    /// As many as are shown, and as much of each.
    const SHOWN: usize = 3;
    const LENGTH: usize = 100;
    if presented.is_empty() {
        return "nobody".into();
    }
    let bare = |name: &String| -> String {
        let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        printable(&inside.trim_matches('"').chars().take(LENGTH).collect::<String>())
    };
    let shown: Vec<String> = presented.iter().take(SHOWN).map(bare).collect();
    let more = if presented.len() > SHOWN { ", …" } else { "" };
    shown.join(", ") + more
}

impl From<io::Error> for HttpsError {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
        match tls {
            Some(tls) => Self::Tls(tls),
            None => Self::Io(error),
        }
    }
}

impl From<HttpError> for HttpsError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Io(error) => error.into(),
            other => Self::Http(other.to_string()),
        }
    }
}
