//! As much of HTTPS as an authority is spoken to with: a connection, a request, an answer.

use std::{future::poll_fn, io, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};

use super::{
    super::{
        HttpsError,
        client::connect,
        http::{Bytes, HttpError, Inbox, MAX_BODY, MAX_HEADERS, complete},
        stream::TlsStream,
    },
    within,
};

/// A chunk's length, with what authorities may say beside it.
const MAX_CHUNK_LINE: usize = 256;
/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// An `https://` URL.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    host: &'a str,
    port: u16,
    /// As it stands in the header `Host`.
    authority: &'a str,
    path: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("https://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // What is passed on stands in a request's first lines.
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains('#') || authority.contains(['@', '?']) {
            return None;
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => v6.split_once(']')?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port {
            "" => 443,
            port => port.strip_prefix(':')?.parse().ok().filter(|&port| port != 0)?,
        };
        let path = if path.is_empty() { "/" } else { path };
        (!host.is_empty()).then_some(Self { host, port, authority, path })
    }
}

/// What to ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    /// For what is there.
    Get,
    /// For the headers alone.
    Head,
    /// With this signed request.
    Post(&'a str),
}

/// What an authority answers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// For the next request (RFC 8555, section 6.5).
    pub(super) nonce: Option<String>,
    pub(super) location: Option<String>,
    /// How long to wait before asking again, if it is said in seconds.
    pub(super) wait: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// Asks what is at this URL.
pub(super) async fn ask(tls: &Arc<ClientConfig>, url: &str, ask: Ask<'_>) -> Result<Reply, HttpsError> {
    let url = Url::parse(url).ok_or_else(|| HttpsError::Http(format!("{url:?} is no https:// URL")))?;
    let exchange = async {
        let (socket, _) = connect(url.host, url.port).await?;
        socket.get_ref().set_nodelay(true)?;
        let bad_name = |_| HttpsError::Resolve { host: url.host.into(), error: io::ErrorKind::InvalidInput.into() };
        let name = ServerName::try_from(url.host.to_owned()).map_err(bad_name)?;
        let mut stream = TlsStream::client(socket, tls.clone(), name).map_err(HttpsError::Tls)?;
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        stream.write_all(request(&url, ask).as_bytes()).await?;
        let reply = read_reply(&mut stream, matches!(ask, Ask::Head)).await?;
        stream.say_goodbye();
        Ok(reply)
    };
    within(DEADLINE, exchange).await.unwrap_or(Err(HttpsError::TimedOut { after: DEADLINE }))
}

fn request(url: &Url<'_>, ask: Ask<'_>) -> String {
    let (method, body) = match ask {
        Ask::Get => ("GET", ""),
        Ask::Head => ("HEAD", ""),
        Ask::Post(body) => ("POST", body),
    };
    let content = match ask {
        // RFC 8555, section 6.2.
        Ask::Post(body) => format!("Content-Type: application/jose+json\r\nContent-Length: {}\r\n", body.len()),
        Ask::Get | Ask::Head => String::new(),
    };
    let Url { authority, path, .. } = url;
    let agent = concat!("direc/", env!("CARGO_PKG_VERSION"));
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {agent}\r\nConnection: close\r\n{content}\r\n{body}"
    )
}

/// The one answer of a connection; `bare`: it has no body, whatever its headers say.
async fn read_reply(from: &mut impl Bytes, bare: bool) -> Result<Reply, HttpError> {
    let mut inbox = Inbox::default();
    let head = inbox.head(from).await?.ok_or(HttpError::Truncated)?;
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    complete(parsed.parse(&head))?;
    let header = |name: &str| {
        let found = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok().map(|value| value.trim().to_owned())
    };
    let status = parsed.code.unwrap_or_default();
    let body = match (header("transfer-encoding"), header("content-length")) {
        _ if bare || status == 204 => Vec::new(),
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => chunks(from, &mut inbox).await?,
        (Some(_), _) => return Err(HttpError::Malformed("a coding that was not asked for")),
        (None, Some(length)) => match length.parse() {
            Ok(0..=MAX_BODY) => inbox.body(from, length.parse().unwrap_or_default()).await?,
            Ok(_) => return Err(HttpError::BodyTooLong),
            Err(_) => return Err(HttpError::Malformed("a content length that is no number")),
        },
        (None, None) => rest(from, &mut inbox).await?,
    };
    let wait = header("retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs);
    Ok(Reply { status, nonce: header("replay-nonce"), location: header("location"), wait, body })
}

/// A body that ends with its connection (RFC 9112, section 6.3).
async fn rest(from: &mut impl Bytes, inbox: &mut Inbox) -> Result<Vec<u8>, HttpError> {
    loop {
        match inbox.more(from).await {
            Ok(()) if inbox.0.len() <= MAX_BODY => {}
            Ok(()) => return Err(HttpError::BodyTooLong),
            Err(HttpError::Truncated) => return Ok(std::mem::take(&mut inbox.0)),
            Err(error) => return Err(error),
        }
    }
}

/// A body in chunks (RFC 9112, section 7.1). The connection ends with it: what follows the last one is not read.
async fn chunks(from: &mut impl Bytes, inbox: &mut Inbox) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    loop {
        let length = match httparse::parse_chunk_size(&inbox.0) {
            Ok(httparse::Status::Complete((used, length))) => {
                inbox.0.drain(..used);
                usize::try_from(length).unwrap_or(usize::MAX)
            }
            Ok(httparse::Status::Partial) if inbox.0.len() < MAX_CHUNK_LINE => {
                inbox.more(from).await?;
                continue;
            }
            _ => return Err(HttpError::Malformed("a chunk of no length")),
        };
        if length == 0 {
            return Ok(body);
        }
        if length > MAX_BODY - body.len() {
            return Err(HttpError::BodyTooLong);
        }
        body.append(&mut inbox.body(from, length).await?);
        if inbox.body(from, 2).await? != b"\r\n" {
            return Err(HttpError::Malformed("a chunk of another length"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_io::block_on;

    /// Gives its bytes in pieces of this size, and then ends.
    struct Script<'a>(&'a [u8], usize);

    impl Bytes for Script<'_> {
        async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self.0.split_at(self.1.min(buf.len()).min(self.0.len()));
            buf[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }

        async fn write_all(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    fn reply(text: &str, piece: usize) -> Result<Reply, HttpError> {
        block_on(read_reply(&mut Script(text.as_bytes(), piece), false))
    }

    #[test]
    fn a_url_is_taken_apart_and_what_could_be_two_lines_is_none() {
        let parsed = |text| Url::parse(text).map(|url| (url.host, url.port, url.path));
        assert_eq!(parsed("https://a.example/dir?x=1"), Some(("a.example", 443, "/dir?x=1")));
        assert_eq!(parsed("https://localhost:14000"), Some(("localhost", 14000, "/")));
        assert_eq!(parsed("https://[::1]:14000/dir"), Some(("::1", 14000, "/dir")));
        for bad in [
            "http://a.example/",
            "https://",
            "https:///dir",
            "https://a:0/",
            "https://a:/x:y",
            "https://a:70000/",
            "https://u@a/",
            "https://a?/",
            "https://a/#b",
            "https://a/b c",
            "https://a/\r\nX: y",
            "https://[::1",
            "a",
        ] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_answer_comes_whole_or_in_chunks_however_it_is_cut() {
        let head = "HTTP/1.1 201 Created\r\nReplay-Nonce: n1\r\nLocation: https://a/1\r\nRetry-After: 3\r\n";
        let whole = format!("{head}Content-Length: 11\r\n\r\nhello worldX");
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n006\r\n world\r\n0\r\n\r\n");
        let expected = Reply {
            status: 201,
            nonce: Some("n1".into()),
            location: Some("https://a/1".into()),
            wait: Some(Duration::from_secs(3)),
            body: b"hello world".into(),
        };
        for piece in [1, 2, 7, 1000] {
            assert_eq!(reply(&whole, piece).unwrap(), expected);
            assert_eq!(reply(&chunked, piece).unwrap(), expected);
        }
        let until_the_end = format!("{head}\r\nhello world");
        assert_eq!(reply(&until_the_end, 2).unwrap(), expected);
        let bare = block_on(read_reply(&mut Script(whole.as_bytes(), 1000), true)).unwrap();
        assert_eq!(bare, Reply { body: Vec::new(), ..expected });
    }

    #[test]
    fn an_answer_that_is_too_long_or_makes_no_sense_is_refused() {
        let body = |headers: &str, body: &str| reply(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n{body}"), 1000);
        let chunked = |text: &str| body("Transfer-Encoding: chunked", text);
        assert!(matches!(body("Content-Length: 65537", ""), Err(HttpError::BodyTooLong)));
        assert!(matches!(body("Content-Length: 3", "ab"), Err(HttpError::Truncated)));
        assert!(matches!(body("Content-Length: -3", "ab"), Err(HttpError::Malformed(_))));
        assert!(matches!(body("A: b", &"x".repeat(65_537)), Err(HttpError::BodyTooLong)));
        assert!(matches!(body("Transfer-Encoding: gzip, chunked", "ab"), Err(HttpError::Malformed(_))));
        assert!(matches!(chunked("10001\r\n"), Err(HttpError::BodyTooLong)));
        assert!(matches!(chunked("ffffffffffffffff\r\n"), Err(HttpError::BodyTooLong)));
        assert!(matches!(
            chunked(&format!("8000\r\n{0}\r\n8001\r\n{0}", "a".repeat(0x8000))),
            Err(HttpError::BodyTooLong)
        ));
        assert!(matches!(chunked("2\r\nabcd0\r\n"), Err(HttpError::Malformed(_))));
        assert!(matches!(chunked("x\r\n"), Err(HttpError::Malformed(_))));
        assert!(matches!(chunked("5\r\nabc"), Err(HttpError::Truncated)));
        assert!(matches!(chunked(&format!("1;{}", "a".repeat(20_000))), Err(HttpError::Malformed(_))));
    }
}
