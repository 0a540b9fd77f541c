//! As much of HTTP as a router is spoken to with: URLs that lead to itself, and answers, one a connection.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use crate::drops::DropReason;

/// An answer, head and all, has at most this many bytes: descriptions of whole routers have some 10,000.
pub(super) const MAX_ANSWER: usize = 64 << 10;
const MAX_HEADERS: usize = 32;
const MAX_URL: usize = 512;
const SCHEME: &str = "http://";

/// A place on the router itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) host: SocketAddrV4,
    path: String,
}

impl Url {
    /// An absolute URL, `http` at the address of `router`. Whoever names another place would have us speak to that.
    pub(super) fn parse(text: &str, router: Ipv4Addr) -> Result<Self, DropReason> {
        let text = text.trim();
        let scheme = text.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
        let rest = scheme.and_then(|scheme| text.get(scheme.len()..)).ok_or(DropReason::BadLocation)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (ip, port) = match authority.split_once(':') {
            Some((ip, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => (ip, port.parse().ok()),
            Some(_) => return Err(DropReason::BadLocation),
            None => (authority, Some(80)),
        };
        let port = port.filter(|port| *port != 0);
        match (ip.parse::<Ipv4Addr>(), port) {
            (Ok(ip), Some(port)) if ip == router => {
                Self { host: SocketAddrV4::new(ip, port), path: "/".into() }.at(path)
            }
            _ => Err(DropReason::BadLocation),
        }
    }

    /// What `reference` means in a document at this URL (RFC 3986, section 5, without `..`).
    pub(super) fn join(&self, reference: &str) -> Result<Self, DropReason> {
        let reference = reference.trim();
        let folder = self.path.rfind('/').map_or("", |end| self.path.get(..=end).unwrap_or_default());
        match reference {
            "" => Err(DropReason::BadAnswer),
            absolute if absolute.contains("://") => Self::parse(absolute, *self.host.ip()),
            // Another host of the same scheme.
            other if other.starts_with("//") => Err(DropReason::BadLocation),
            path if path.starts_with('/') => self.clone().at(path),
            relative => self.clone().at(&format!("{folder}{relative}")),
        }
    }

    /// Goes into a request's first line: nothing in it may end that.
    fn at(mut self, path: &str) -> Result<Self, DropReason> {
        if path.len() > MAX_URL || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(DropReason::BadLocation);
        }
        let path = path.split('#').next().unwrap_or_default();
        self.path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(self)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// A request without a body.
pub(super) fn get(url: &Url) -> Vec<u8> {
    format!("GET {url} HTTP/1.1\r\nHost: {}\r\nAccept: text/xml\r\nConnection: close\r\n\r\n", url.host).into_bytes()
}

/// A call of `action`, quoted as SOAP has it.
pub(super) fn post(url: &Url, action: &str, body: &str) -> Vec<u8> {
    let (host, length) = (url.host, body.len());
    format!(
        "POST {url} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"{action}\"\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// An answer that has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Where an answer's body ends.
enum End {
    After(usize),
    Chunks,
    /// With the connection.
    Close,
}

impl Answer {
    /// Reads what has come so far; `ended`: nothing more will. `None`: more has to come.
    pub(super) fn read(bytes: &[u8], ended: bool) -> Result<Option<Self>, DropReason> {
        if bytes.len() > MAX_ANSWER {
            return Err(DropReason::BadLength);
        }
        let more = if ended { Err(DropReason::BadAnswer) } else { Ok(None) };
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let Ok(head) = parsed.parse(bytes) else { return Err(DropReason::BadAnswer) };
        let httparse::Status::Complete(head) = head else { return more };
        let (status, rest) = (parsed.code.unwrap_or_default(), bytes.get(head..).unwrap_or_default());
        let body = match end(parsed.headers)? {
            End::After(length) => rest.get(..length).map(<[u8]>::to_vec),
            End::Chunks => chunks(rest)?,
            End::Close => ended.then(|| rest.to_vec()),
        };
        match body {
            Some(body) => Ok(Some(Self { status, body })),
            None => more,
        }
    }
}

/// RFC 9112, section 6.3.
fn end(headers: &[httparse::Header<'_>]) -> Result<End, DropReason> {
    let mut end = End::Close;
    for header in headers {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return if value.eq_ignore_ascii_case(b"chunked") { Ok(End::Chunks) } else { Err(DropReason::BadAnswer) };
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            let length = length.filter(|length| *length <= MAX_ANSWER).ok_or(DropReason::BadLength)?;
            end = End::After(length);
        }
    }
    Ok(end)
}

/// The body that came in chunks; `None` if the last one has not come.
fn chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, DropReason> {
    let mut body = Vec::new();
    loop {
        let (head, length) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(DropReason::BadAnswer),
        };
        if length == 0 {
            return Ok(Some(body));
        }
        let length =
            usize::try_from(length).ok().filter(|length| *length <= MAX_ANSWER).ok_or(DropReason::BadLength)?;
        let Some(chunk) = rest.get(head..head + length) else { return Ok(None) };
        body.extend_from_slice(chunk);
        match rest.get(head + length..head + length + 2) {
            Some(b"\r\n") => rest = rest.get(head + length + 2..).unwrap_or_default(),
            Some(_) => return Err(DropReason::BadAnswer),
            None => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    #[test]
    fn only_a_url_at_the_routers_own_address_is_one() {
        let fine = Url::parse(" HTTP://192.168.1.1:5000/rootDesc.xml#top ", ROUTER).unwrap();
        assert_eq!((fine.host.to_string(), fine.to_string()), ("192.168.1.1:5000".into(), "/rootDesc.xml".into()));
        assert_eq!(Url::parse("http://192.168.1.1", ROUTER).unwrap().host.port(), 80);
        for text in [
            "http://192.168.1.2/x",
            "http://127.0.0.1:8080/admin?delete=all",
            "http://169.254.169.254/latest/meta-data",
            "https://192.168.1.1/x",
            "ftp://192.168.1.1/x",
            "http://user@192.168.1.1/x",
            "http://192.168.1.1@127.0.0.1/x",
            "http://router.example/x",
            "http://[::1]/x",
            "http://192.168.1.1:0/x",
            "http://192.168.1.1:65536/x",
            "http://192.168.1.1:+80/x",
            "http://0300.0250.1.1/x",
            "http://192.168.1.1/x y",
            "http://192.168.1.1/x\r\nHost: other",
            "http://192.168.1.1/é",
            "/rootDesc.xml",
            "",
        ] {
            assert_eq!(Url::parse(text, ROUTER), Err(DropReason::BadLocation), "{text:?}");
        }
        assert!(Url::parse(&format!("http://192.168.1.1/{}", "x".repeat(MAX_URL)), ROUTER).is_err());
    }

    #[test]
    fn a_reference_stays_on_the_router() {
        let base = Url::parse("http://192.168.1.1:5000/igd/root.xml", ROUTER).unwrap();
        let join = |reference: &str| base.join(reference).map(|url| format!("{}{url}", url.host));
        assert_eq!(join("/ctl/IPConn").unwrap(), "192.168.1.1:5000/ctl/IPConn");
        assert_eq!(join(" ctl?x=1 ").unwrap(), "192.168.1.1:5000/igd/ctl?x=1");
        assert_eq!(join("http://192.168.1.1:49000/upnp").unwrap(), "192.168.1.1:49000/upnp");
        for text in ["http://127.0.0.1/x", "//127.0.0.1/x", "gopher://192.168.1.1/x", "/a\r\nb", "/a b"] {
            assert_eq!(join(text), Err(DropReason::BadLocation), "{text:?}");
        }
        assert_eq!(join(""), Err(DropReason::BadAnswer));
    }

    #[test]
    fn an_answer_ends_by_its_length_its_last_chunk_or_the_connection() {
        let read = |text: &str, ended| Answer::read(text.as_bytes(), ended);
        let whole = |body: &str| Ok(Some(Answer { status: 200, body: body.into() }));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", false), whole("ab"));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", false), Ok(None));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", true), Err(DropReason::BadAnswer));
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\nabc", false), Ok(None));
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\nabc", true), whole("abc"));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(read(chunked, false), whole("abc"));
        for cut in 0..chunked.len() - 4 {
            assert_eq!(read(&chunked[..cut], false), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_is_no_answer_or_too_long_is_dropped() {
        for text in [
            "SSH-2.0-dropbear\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            assert_eq!(Answer::read(text.as_bytes(), false), Err(DropReason::BadAnswer), "{text:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(100));
        assert_eq!(Answer::read(many.as_bytes(), false), Err(DropReason::BadAnswer));
        for length in ["65537", "99999999999999999999", "-1", ""] {
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(Answer::read(text.as_bytes(), false), Err(DropReason::BadLength), "{length}");
        }
        let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
        assert_eq!(Answer::read(chunk.as_bytes(), false), Err(DropReason::BadLength));
        assert_eq!(Answer::read(&[b'a'; MAX_ANSWER + 1], false), Err(DropReason::BadLength));
    }
}
