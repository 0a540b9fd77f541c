//! A proxy on the way to the relay's HTTPS port, by HTTP's CONNECT (RFC 9110, section 9.3.6), as the environment names
//! it.

use std::{env, fmt, net::IpAddr, str::FromStr};

use data_encoding::BASE64;

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// What stands in the header `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

/// A proxy in the environment that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// It is spoken to in another way than by HTTP.
    Scheme {
        /// The scheme in its URL.
        scheme: String,
    },
    /// It has no host, or something other than a port behind it.
    Address,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the proxy in https_proxy cannot be used: ")?;
        match self {
            Self::Scheme { scheme } => write!(f, "{scheme:?} is no HTTP proxy (http://HOST:PORT)"),
            Self::Address => f.write_str("it is no http://HOST:PORT"),
        }
    }
}

impl std::error::Error for ProxyError {}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Proxy {
    /// The proxy that `https_proxy` (or `HTTPS_PROXY`) names for this host, unless `no_proxy` (or `NO_PROXY`) exempts it.
    ///
    /// `no_proxy` is `*`, or names, domains with or without a dot in front, and IP addresses, with commas in between.
    ///
    /// # Errors
    /// [`ProxyError`] if there is one that cannot be used: going past it in silence would not be what was meant.
    pub fn from_env(host: &str) -> Result<Option<Self>, ProxyError> {
        let var = |name: &str| env::var(name).or_else(|_| env::var(name.to_ascii_uppercase())).unwrap_or_default();
        Self::choose(host, &var("https_proxy"), &var("no_proxy"))
    }

    fn choose(host: &str, proxy: &str, exempt: &str) -> Result<Option<Self>, ProxyError> {
        if proxy.is_empty() || exempt.split(',').any(|rule| matches(rule.trim(), host)) {
            return Ok(None);
        }
        proxy.parse().map(Some)
    }
}

/// `http://HOST:PORT`, with `NAME:PASSWORD@` in front of the host if the proxy wants them; `http://` may be missing.
impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => return Err(ProxyError::Scheme { scheme: scheme.to_owned() }),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (authorization, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(format!("Basic {}", BASE64.encode(&unescaped(user)))), rest),
            None => (None, rest),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| ProxyError::Address)?),
            // The port that curl takes.
            _ => (rest, 1080),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        if host.is_empty() || port == 0 || !host.chars().all(fit) {
            return Err(ProxyError::Address);
        }
        Ok(Self { host: host.to_owned(), port, authorization })
    }
}

/// Takes the %XX out of a name and password (RFC 3986, section 2.1).
fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|two| u8::from_str_radix(two, 16).ok());
        match hex.filter(|_| byte == b'%') {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn matches(rule: &str, host: &str) -> bool {
    if rule == "*" {
        return true;
    }
    if rule.is_empty() {
        return false;
    }
    if let (Ok(rule), Ok(host)) = (rule.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        return rule == host;
    }
    let (rule, host) = (rule.trim_start_matches('.').to_ascii_lowercase(), host.to_ascii_lowercase());
    host == rule || host.strip_suffix(&rule).is_some_and(|front| front.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(host: &str, port: u16) -> Proxy {
        Proxy { host: host.into(), port, authorization: None }
    }

    #[test]
    fn a_proxy_is_read_as_people_write_it() {
        for (text, expected) in [
            ("http://proxy.example:3128", proxy("proxy.example", 3128)),
            ("http://proxy.example:3128/", proxy("proxy.example", 3128)),
            ("10.0.0.1:8080", proxy("10.0.0.1", 8080)),
            ("http://[2001:db8::1]:8080", proxy("2001:db8::1", 8080)),
            ("proxy", proxy("proxy", 1080)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        let found = "http://me:p%40ss@proxy:1".parse::<Proxy>().unwrap();
        assert_eq!(found.authorization.as_deref(), Some("Basic bWU6cEBzcw=="));
        assert!(!format!("{found:?}").contains("Basic"));
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_no_reason_to_go_past_it() {
        let scheme = |scheme: &str| Err(ProxyError::Scheme { scheme: scheme.into() });
        assert_eq!(Proxy::choose("a", "socks5://proxy:1", ""), scheme("socks5"));
        assert_eq!(Proxy::choose("a", "https://proxy:1", ""), scheme("https"));
        for text in ["http://", "http://:80", "http://proxy:0", "http://proxy:x", "http://pro xy:1"] {
            assert_eq!(Proxy::choose("a", text, ""), Err(ProxyError::Address), "{text}");
        }
    }

    #[test]
    fn hosts_that_are_exempt_are_reached_straight() {
        for (host, rules, exempt) in [
            ("relay.example", "", false),
            ("relay.example", "*", true),
            ("relay.example", "example", true),
            ("relay.example", "other, .Example", true),
            ("relay.example", "relay.example", true),
            ("myrelay.example", "relay.example", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.11", "2.0.2.11", false),
            ("2001:db8::1", "2001:DB8:0::1", true),
        ] {
            let found = Proxy::choose(host, "http://proxy:1", rules).unwrap();
            assert_eq!(found.is_none(), exempt, "{host} with {rules:?}");
        }
    }
}
