//! What can come between a relay and its certificate, in words that say what to do.

use std::{fmt, path::PathBuf, time::Duration};

use direc_core::printable;
use rustls::CertificateError;
use serde::Deserialize;

use super::super::{HttpsError, HttpsKeyError, error::CertificateWords};
use crate::KeyFileError;

/// What passes by itself, as a network that is away, is tried again after this.
const SHORT: Duration = Duration::from_secs(10);
/// What the authority does not want is not asked for at once: Let's Encrypt bears with five failures an hour.
const LONG: Duration = Duration::from_secs(900);
/// However long an authority says, a day is enough: the certificate has an end.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What an authority says is wrong (RFC 7807; RFC 8555, section 6.7).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
    subproblems: Vec<Problem>,
}

impl Problem {
    /// Whether it is this one of RFC 8555's.
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.strip_prefix("urn:ietf:params:acme:error:") == Some(kind)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// As many of several as are shown.
        const SEVERAL: usize = 3;
        let kind = self.kind.rsplit(':').next().unwrap_or_default();
        match (self.detail.as_str(), kind) {
            ("", "") => f.write_str("it does not say why")?,
            ("", kind) => f.write_str(&shown(kind))?,
            (detail, "") => f.write_str(&shown(detail))?,
            (detail, kind) => write!(f, "{} ({})", shown(detail), shown(kind))?,
        }
        for problem in self.subproblems.iter().take(SEVERAL).filter(|problem| !problem.detail.is_empty()) {
            write!(f, "; {}", shown(&problem.detail))?;
        }
        Ok(())
    }
}

/// As much of a foreign text as is shown.
fn shown(text: &str) -> String {
    const SHOWN: usize = 300;
    printable(&text.chars().take(SHOWN).collect::<String>())
}

/// Why there is no certificate.
#[derive(Debug)]
pub(super) enum AcmeError {
    /// The authority could not be asked.
    Reach(HttpsError),
    /// What it says is not what RFC 8555 has.
    Foreign { what: &'static str, why: String },
    /// It refuses a request.
    Refused { what: &'static str, status: u16, problem: Problem, wait: Option<Duration> },
    /// It takes only accounts that it has been told of by other ways (RFC 8555, section 7.3.4).
    ExternalAccount,
    /// It would have a host shown by other ways only.
    Challenge { host: String, kinds: Vec<String> },
    /// It does not believe that the host is this relay.
    Host { host: String, problem: Problem },
    /// The order came to nothing.
    Order(Problem),
    /// Nothing came of the order in time.
    Slow { after: Duration },
    /// What came is no certificate that peers would believe.
    Useless(String),
    /// The same, when the authority had already been told to certify, and may have.
    Late(Box<Self>),
    /// A key file cannot be read.
    File(HttpsKeyError),
    /// A file cannot be written.
    Store(KeyFileError),
    /// The account's key is none.
    AccountKey { path: PathBuf },
    /// A signing request or a challenge's answer could not be made.
    Make(String),
    /// The system gives no randomness.
    Randomness,
}

impl AcmeError {
    pub(super) fn foreign(what: &'static str, why: &str) -> Self {
        Self::Foreign { what, why: why.to_owned() }
    }

    /// A certificate that does not belong to the key.
    pub(super) fn unfit(error: HttpsKeyError) -> Self {
        match error {
            HttpsKeyError::Unfit(why) => Self::Useless(why),
            other => Self::File(other),
        }
    }

    /// How long to wait at least before all is tried again.
    pub(super) fn pause(&self) -> Duration {
        match self {
            Self::Reach(_) | Self::Foreign { .. } | Self::Slow { .. } | Self::Randomness => SHORT,
            // Another one would be no better, and authorities give few.
            Self::Useless(_) => LONGEST,
            Self::Late(error) => error.pause().max(LONG),
            Self::Refused { status: 500.., wait, .. } => wait.unwrap_or_default().clamp(SHORT, LONGEST),
            Self::Refused { problem, .. } if problem.is("badNonce") => SHORT,
            Self::Refused { wait, .. } => wait.unwrap_or_default().clamp(LONG, LONGEST),
            _ => LONG,
        }
    }
}

impl fmt::Display for AcmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reach(error) => reach_words(error, f),
            Self::Foreign { what, why } => {
                write!(f, "what answers there is no ACME authority: its {what}: {}", shown(why))
            }
            Self::Refused { what, status, problem, .. } => {
                write!(f, "it refuses the {what}, with HTTP status {status}: {problem}")
            }
            Self::ExternalAccount => {
                f.write_str("it takes only accounts that it knows from elsewhere (external account binding)")
            }
            Self::Challenge { host, kinds } => {
                let kinds = if kinds.is_empty() { "nothing".into() } else { shown(&kinds.join(", ")) };
                write!(f, "it does not offer tls-alpn-01 for {host}, which is all that a relay can do, but {kinds}")
            }
            Self::Host { host, problem } => {
                write!(f, "it does not see this relay at TCP port 443 of {host}: {problem}")
            }
            Self::Order(problem) => write!(f, "the order came to nothing: {problem}"),
            Self::Slow { after } => write!(f, "nothing came of the order within {} min", after.as_secs() / 60),
            Self::Late(error) => write!(f, "{error}"),
            Self::Useless(why) => write!(f, "the certificate that came cannot be used: {why}"),
            Self::File(error) => write!(f, "{error}"),
            Self::Store(error) => write!(f, "{error}"),
            Self::AccountKey { path } => {
                write!(f, "{}: no key of the kind that the account has, ECDSA P-256 in PKCS#8", path.display())
            }
            Self::Make(why) => write!(f, "no signing request or answer could be made: {why}"),
            Self::Randomness => f.write_str("the system gives no randomness"),
        }
    }
}

/// [`HttpsError`] speaks of relays.
fn reach_words(error: &HttpsError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        HttpsError::Tls(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => f.write_str("nobody trusted here vouches for its own certificate"),
        HttpsError::Tls(rustls::Error::InvalidCertificate(why)) => {
            write!(f, "its own certificate is not believed: {}", CertificateWords(why))
        }
        HttpsError::NoRoots => f.write_str("this machine trusts no certificate authority: install its ca-certificates"),
        HttpsError::Http(why) => write!(f, "what answers there is no ACME authority: {}", shown(why)),
        other => f.write_str(&shown(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Problem {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_the_authority_says_is_passed_on_without_tricks() {
        let said = problem(
            r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many\u001b[31m orders",
                "subproblems": [{"detail": "for a.example", "identifier": {"type": "dns", "value": "a.example"}}]}"#,
        );
        assert!(said.is("rateLimited") && !said.is("badNonce"));
        assert_eq!(said.to_string(), r"too many\x1b[31m orders (rateLimited); for a.example");
        assert_eq!(problem("{}").to_string(), "it does not say why");
        assert_eq!(problem(r#"{"type": "about:blank"}"#).to_string(), "blank");
        assert!(problem(&format!(r#"{{"detail": "{}"}}"#, "x".repeat(5000))).to_string().len() <= 300);
    }

    #[test]
    fn what_was_refused_waits_longer_than_what_was_not_heard() {
        let refused = |status, kind: &str, wait: Option<u64>| AcmeError::Refused {
            what: "order",
            status,
            problem: problem(&format!(r#"{{"type": "urn:ietf:params:acme:error:{kind}"}}"#)),
            wait: wait.map(Duration::from_secs),
        };
        let silent = AcmeError::Reach(HttpsError::TimedOut { after: Duration::from_secs(30) });
        let seconds = |error: &AcmeError| error.pause().as_secs();
        assert_eq!(seconds(&silent), 10);
        assert_eq!(seconds(&refused(400, "badNonce", None)), 10);
        assert_eq!(seconds(&refused(503, "serverInternal", Some(60))), 60);
        assert_eq!(seconds(&refused(429, "rateLimited", None)), 900);
        assert_eq!(seconds(&refused(429, "rateLimited", Some(7200))), 7200);
        assert_eq!(seconds(&refused(429, "rateLimited", Some(u64::MAX))), 86_400);
    }
}
