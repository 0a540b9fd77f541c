//! What can go wrong on the way to a relay's HTTPS port, in words that say what to do.

use std::{fmt, io, net::SocketAddr, time::Duration};

use rustls::CertificateError;

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
    let rustls::Error::InvalidCertificate(why) = error else { return write!(f, "TLS failed: {error}") };
    f.write_str("the relay's certificate is not believed: ")?;
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            f.write_str("it has expired (is this machine's clock right?)")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            f.write_str("it is not valid yet (is this machine's clock right?)")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            f.write_str("it is another host's")
        }
        // A root may have the name of the one that it is signed by, and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            f.write_str("nobody trusted here vouches for it (if it is self-signed, use the URL with its #sha256- pin)")
        }
        CertificateError::ApplicationVerificationFailure => {
            f.write_str("its key is not the one that the URL's #sha256- names")
        }
        other => write!(f, "{other}"),
    }
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
