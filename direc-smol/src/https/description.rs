//! What a relay says of itself at its HTTPS port, so that a peer needs no more than a name; and what a peer keeps of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use direc_core::{NodeId, RelayUrl};
use serde::{Deserialize, Serialize};

use super::{HttpsError, HttpsRelay, within::within};
use crate::make_private_folder;

/// The only version there is.
const VERSION: u32 = 1;
/// Where there is a kept description, how long the relay has to give a new one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The document at `/.well-known/direc`. Fields that are not known are ignored.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    /// The version.
    direc: u32,
    /// The relay's key.
    key: String,
    /// Its QUIC socket's UDP port.
    port: u16,
    /// Where that is, if not at the host that answers HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Its hole-punch sockets' UDP ports: for firewalls and people. Peers are told them when they register.
    #[serde(default)]
    punch_ports: Vec<u16>,
}

/// The document, as the relay serves it.
pub(crate) fn describe(key: NodeId, port: u16, host: Option<String>, punch_ports: Vec<u16>) -> String {
    let description = Description { direc: VERSION, key: key.to_string(), port, host, punch_ports };
    // Numbers and text only: it cannot fail.
    serde_json::to_string(&description).unwrap_or_default() + "\n"
}

/// Reads the document that came from `host`.
fn read(document: &[u8], host: &str) -> Result<RelayUrl, HttpsError> {
    let bad = |why: String| HttpsError::BadDescription(why);
    let description: Description = serde_json::from_slice(document).map_err(|error| bad(error.to_string()))?;
    if description.direc != VERSION {
        return Err(bad(format!("it is of version {}, and this program knows {VERSION}", description.direc)));
    }
    let key = description.key.parse().map_err(|error| bad(format!("the relay's key is {error}")))?;
    let host = description.host.as_deref().unwrap_or(host);
    RelayUrl::new(host, description.port, key).map_err(|error| bad(error.to_string()))
}

/// What a relay has said of itself, and where that is kept.
pub(super) struct Said {
    url: RelayUrl,
    kept: Option<PathBuf>,
}

impl HttpsRelay {
    /// Whether this is what the relay has said of itself. Then it may say so anew; what a program knows from elsewhere,
    /// it may not.
    pub(crate) fn has_said(&self, url: &RelayUrl) -> bool {
        self.said().as_ref().is_some_and(|said| said.url == *url)
    }

    /// Asks the relay once more who it is and where, and keeps the answer in place of the one before.
    pub(super) async fn ask_again(&self) -> Result<RelayUrl, HttpsError> {
        let document = self.fetch().await;
        self.close_spare();
        let url = read(&document?, &self.url().host)?;
        let mut said = self.said();
        if let Some(said) = said.as_mut().filter(|said| said.url != url) {
            keep(said.kept.as_deref(), self, &url);
            said.url = url.clone();
        }
        Ok(url)
    }
}

/// Asks the relay who it is and where. `kept` is a file that the answer is kept in, and taken from when HTTPS does not
/// answer, or not within a second. A [`Peer`](crate::Peer) with the answer asks again when the relay proves another key or
/// is away for long, and keeps the new answer there.
///
/// # Errors
/// [`HttpsError`] if HTTPS does not answer as a relay does, and nothing is kept for this URL. A file that does not
/// parse counts as none.
pub async fn bootstrap(relay: &HttpsRelay, kept: Option<&Path>) -> Result<RelayUrl, HttpsError> {
    let before = kept.and_then(|path| load(path, relay));
    let fetch = async {
        let document = relay.fetch().await?;
        read(&document, &relay.url().host)
    };
    let found = match before {
        None => fetch.await,
        Some(_) => within(PATIENCE, fetch).await.unwrap_or(Err(HttpsError::TimedOut { after: PATIENCE })),
    };
    let url = match (found, before) {
        (Ok(url), before) => {
            keep(kept.filter(|_| before.as_ref() != Some(&url)), relay, &url);
            url
        }
        (Err(error), Some(before)) => {
            log::warn!("{}: {error}; going on with what it said the last time", relay.url());
            before
        }
        (Err(error), None) => return Err(error),
    };
    *relay.said() = Some(Said { url: url.clone(), kept: kept.map(Path::to_owned) });
    Ok(url)
}

/// Keeps a description; without, the relay is only asked once more.
fn keep(path: Option<&Path>, relay: &HttpsRelay, url: &RelayUrl) {
    if let Some(path) = path
        && let Err(error) = save(path, relay, url)
    {
        log::warn!("the relay's description cannot be kept in {}: {error}", path.display());
    }
}

/// A kept description: the relay's URL, behind the HTTPS URL that it is for.
fn load(path: &Path, relay: &HttpsRelay) -> Option<RelayUrl> {
    /// Longer than any two URLs.
    const MAX_FILE: u64 = 4 << 10;
    let about = fs::metadata(path).ok()?;
    if !about.is_file() || about.len() > MAX_FILE {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    let (https, url) = text.trim_end().split_once('\n')?;
    if https != relay.url().to_string() {
        return None;
    }
    url.parse().ok()
}

/// Whole or not at all: it replaces the file before.
fn save(path: &Path, relay: &HttpsRelay, url: &RelayUrl) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        make_private_folder(folder).map_err(io::Error::other)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", std::process::id()));
    let draft = PathBuf::from(draft);
    fs::write(&draft, format!("{}\n{url}\n", relay.url()))?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa";

    #[test]
    fn what_a_relay_says_is_what_a_peer_reads() {
        let key: NodeId = KEY.parse().unwrap();
        let here = describe(key, 4433, None, vec![4434, 4435]);
        // As it stands in docs/protocol.md.
        assert_eq!(here, format!("{{\"direc\":1,\"key\":\"{KEY}\",\"port\":4433,\"punch_ports\":[4434,4435]}}\n"));
        let url = |document: &str| read(document.as_bytes(), "relay.example").unwrap().to_string();
        assert_eq!(url(&here), format!("direc://relay.example:4433#{KEY}"));
        let there = describe(key, 4433, Some("2001:db8::1".into()), vec![]);
        assert_eq!(url(&there), format!("direc://[2001:db8::1]:4433#{KEY}"));
    }

    #[test]
    fn what_does_not_describe_a_relay_is_refused_and_what_is_more_is_ignored() {
        let read = |document: &str| read(document.as_bytes(), "relay.example");
        let good = format!(r#"{{"direc":1,"key":"{KEY}","port":4433,"motd":"hello"}}"#);
        assert!(read(&good).is_ok());
        for (what, bad) in [
            ("a page", "<!DOCTYPE html><html>Welcome to our hotel</html>".to_owned()),
            ("nothing", String::new()),
            ("half", good[..good.len() / 2].to_owned()),
            ("an array", "[]".to_owned()),
            ("version 2", good.replace(":1,", ":2,")),
            ("no key", good.replace("key", "yek")),
            ("a short key", good.replace("aeba", "a")),
            ("port 0", good.replace("4433", "0")),
            ("port 70000", good.replace("4433", "70000")),
            ("a host that is none", good.replace("\"motd\":\"hello\"", "\"host\":\"a b\"")),
            ("more behind it", good.clone() + "x"),
        ] {
            assert!(matches!(read(&bad), Err(HttpsError::BadDescription(_))), "{what}");
        }
    }
}
