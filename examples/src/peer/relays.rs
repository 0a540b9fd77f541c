//! Where the relays are: told outright, or by the relays themselves over HTTPS.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use direc_smol::{HttpsRelay, HttpsUrl, Proxy, RelayUrl, Trust, bootstrap};

use crate::{failure::Failure, out::Out};

/// A relay, as `--relay` names it.
#[derive(Clone, Debug)]
pub(super) enum RelayAt {
    /// With its key and its UDP port.
    Direc(RelayUrl),
    /// It says those itself.
    Https(HttpsUrl),
}

impl RelayAt {
    /// What no two relays have in common.
    pub(super) fn place(&self) -> (bool, &str, u16) {
        match self {
            Self::Direc(url) => (false, &url.host, url.port),
            Self::Https(url) => (true, &url.host, url.port),
        }
    }

    /// Whether somebody has to vouch for it.
    pub(super) fn needs_trust(&self) -> bool {
        matches!(self, Self::Https(url) if url.pin.is_none())
    }
}

impl FromStr for RelayAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // However it is written: that it must be in lower case is said then.
        if text.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("direc:")) {
            return text.parse().map(Self::Direc).map_err(|error: direc_smol::UrlError| error.to_string());
        }
        text.parse().map(Self::Https).map_err(|error: direc_smol::HttpsUrlError| error.to_string())
    }
}

impl fmt::Display for RelayAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direc(url) => write!(f, "{url}"),
            Self::Https(url) => write!(f, "{url}"),
        }
    }
}

/// The relays, in their order, each with its index; all are asked at once. What they say is kept beside the peer's key. One that does not
/// answer is left out, unless that leaves none.
pub(super) async fn find(
    relays: &[RelayAt],
    ca: Option<&Path>,
    key: &Path,
    out: Out,
) -> Result<Vec<(usize, RelayUrl, Option<HttpsRelay>)>, Failure> {
    let trust = ca.map_or(Trust::System, |file| Trust::File(file.to_owned()));
    let asking: Vec<_> =
        relays.iter().map(|relay| smol::spawn(ask(relay.clone(), trust.clone(), key.to_owned()))).collect();
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for (index, answer) in asking.into_iter().enumerate() {
        match answer.await {
            Ok((url, https)) => found.push((index, url, https)),
            Err(failure) => failures.push(failure),
        }
    }
    if found.is_empty() && !failures.is_empty() {
        return Err(failures.swap_remove(0));
    }
    for failure in failures {
        out.note(&format!("{failure}; going on without that relay"));
    }
    Ok(found)
}

async fn ask(relay: RelayAt, trust: Trust, key: PathBuf) -> Result<(RelayUrl, Option<HttpsRelay>), Failure> {
    let url = match relay {
        RelayAt::Direc(url) => return Ok((url, None)),
        RelayAt::Https(url) => url,
    };
    let failed = |error: &dyn fmt::Display| Failure::new(format!("relay {}", url.authority()), error);
    let proxy = Proxy::from_env(&url.host).map_err(|error| failed(&error))?;
    let https = HttpsRelay::new(url.clone(), &trust).map_err(|error| failed(&error))?.with_proxy(proxy);
    let found = bootstrap(&https, Some(&kept(&key, &url))).await.map_err(|error| failed(&error))?;
    Ok((found, Some(https)))
}

/// Where the answer of the relay at that URL is kept.
fn kept(key: &Path, url: &HttpsUrl) -> PathBuf {
    // In place of the colons that not every file system takes.
    let name = url.host.replace(':', "-");
    key.with_file_name("relays").join(format!("{name}_{}", url.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_host_means_https_and_everything_else_says_what_it_is() {
        let at = |text: &str| text.parse::<RelayAt>().map(|relay| relay.to_string());
        for (text, printed) in [
            ("relay.example", "https://relay.example"),
            ("relay.example/", "https://relay.example"),
            ("https://relay.example/", "https://relay.example"),
            ("relay.example:8443", "https://relay.example:8443"),
            ("203.0.113.10", "https://203.0.113.10"),
            ("[2001:db8::1]", "https://[2001:db8::1]"),
            ("localhost", "https://localhost"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(printed), "{text}");
        }
        let key = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa";
        let direc = format!("direc://relay.example:4433#{key}");
        assert_eq!(at(&direc), Ok(direc.clone()));
        for (text, words) in [
            (format!("relay.example:4433#{key}"), "write direc://HOST:PORT#KEY"),
            (format!("DIREC://relay.example:4433#{key}"), "must begin with direc://"),
            ("http://relay.example".into(), "must begin with https:// or with the host"),
            ("HTTPS://relay.example".into(), "must begin with https:// or with the host"),
            ("2001:db8::1".into(), "IPv6 addresses stand in brackets"),
            ("".into(), "the host is missing"),
        ] {
            let error = at(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
