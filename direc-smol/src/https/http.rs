//! As much of HTTP/1.1 (RFC 9112) as a bootstrap and an upgrade need, with a limit on everything that comes.

use std::{fmt, future::poll_fn, io, net::TcpStream};

use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::stream::TlsStream;

/// A head, the first line and the headers, has at most this many bytes, and so many headers: what proxies add included.
pub(crate) const MAX_HEAD: usize = 8 << 10;
pub(super) const MAX_HEADERS: usize = 48;
/// A body has at most this many bytes: a hundred times what the relay's description takes.
pub(crate) const MAX_BODY: usize = 64 << 10;

/// What came and is no HTTP that is understood here.
#[derive(Debug)]
pub(crate) enum HttpError {
    Io(io::Error),
    /// It ended too early.
    Truncated,
    /// More than [`MAX_HEAD`] or [`MAX_HEADERS`].
    HeadTooLong,
    /// More than [`MAX_BODY`].
    BodyTooLong,
    /// It does not parse.
    Malformed(&'static str),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Truncated => f.write_str("it ended in the middle of an answer"),
            Self::HeadTooLong => write!(f, "its headers are longer than {MAX_HEAD} bytes or more than {MAX_HEADERS}"),
            Self::BodyTooLong => write!(f, "its answer is longer than {MAX_BODY} bytes"),
            Self::Malformed(what) => write!(f, "its answer is no HTTP: {what}"),
        }
    }
}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

/// What the two sides say to each other, and bytes beyond it that have come already.
pub(crate) trait Bytes {
    /// More bytes; 0 at the end.
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes all of it.
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Bytes for TlsStream {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.buffer(bytes)?;
            bytes = &bytes[written..];
            poll_fn(|cx| self.poll_flush(cx)).await?;
        }
        Ok(())
    }
}

impl Bytes for Async<TcpStream> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        AsyncReadExt::read(self, buf).await
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        AsyncWriteExt::write_all(self, bytes).await
    }
}

/// What has come and is not used up.
#[derive(Default)]
pub(crate) struct Inbox(pub(super) Vec<u8>);

impl Inbox {
    /// What came after the last thing that was read.
    pub(crate) fn into_rest(self) -> Vec<u8> {
        self.0
    }

    pub(super) async fn more(&mut self, from: &mut impl Bytes) -> Result<(), HttpError> {
        let mut buf = [0; 2048];
        match from.read(&mut buf).await? {
            0 => Err(HttpError::Truncated),
            count => {
                self.0.extend_from_slice(&buf[..count]);
                Ok(())
            }
        }
    }

    /// The next head, its closing empty line included; `None` if the other side has ended before it began one.
    pub(super) async fn head(&mut self, from: &mut impl Bytes) -> Result<Option<Vec<u8>>, HttpError> {
        loop {
            if let Some(end) = self.0.windows(4).position(|four| four == b"\r\n\r\n") {
                if end + 4 > MAX_HEAD {
                    return Err(HttpError::HeadTooLong);
                }
                let rest = self.0.split_off(end + 4);
                return Ok(Some(std::mem::replace(&mut self.0, rest)));
            }
            if self.0.len() > MAX_HEAD {
                return Err(HttpError::HeadTooLong);
            }
            match self.more(from).await {
                Err(HttpError::Truncated) if self.0.is_empty() => return Ok(None),
                result => result?,
            }
        }
    }

    /// A body of this length.
    pub(super) async fn body(&mut self, from: &mut impl Bytes, length: usize) -> Result<Vec<u8>, HttpError> {
        while self.0.len() < length {
            self.more(from).await?;
        }
        let rest = self.0.split_off(length);
        Ok(std::mem::replace(&mut self.0, rest))
    }
}

/// The headers that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Headers {
    upgrade: Option<String>,
    connection: String,
    length: Option<usize>,
    encoded: bool,
    host: Option<String>,
    location: Option<String>,
}

impl Headers {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Self, HttpError> {
        let mut found = Self::default();
        for header in headers {
            let value = String::from_utf8_lossy(header.value).trim().to_owned();
            match header.name.to_ascii_lowercase().as_str() {
                "upgrade" => found.upgrade = Some(value.to_ascii_lowercase()),
                "connection" => found.connection = value.to_ascii_lowercase(),
                "content-length" => {
                    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                    let length = value.parse().ok().filter(|_| digits);
                    let length = length.ok_or(HttpError::Malformed("a content length that is no number"))?;
                    if found.length.replace(length).is_some_and(|before| before != length) {
                        return Err(HttpError::Malformed("two content lengths"));
                    }
                }
                "transfer-encoding" => found.encoded = true,
                "host" => found.host = Some(value),
                "location" => found.location = Some(value),
                _ => {}
            }
        }
        Ok(found)
    }

    fn says(&self, token: &str) -> bool {
        self.connection.split(',').any(|said| said.trim() == token)
    }
}

/// An answer as HEAD has it: all its headers, the length of what GET would show among them, and nothing to see (RFC 9110,
/// section 9.3.2).
pub(super) fn without_body(mut answer: String) -> String {
    if let Some(end) = answer.find("\r\n\r\n") {
        answer.truncate(end + 4);
    }
    answer
}

/// What a request for anything else than to be shown a page gets with its 405 (RFC 9110, section 15.5.6).
pub(super) const ALLOW: &str = "Allow: GET, HEAD\r\n";

/// A request that has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The name by which the other side knows this one.
    pub(crate) host: Option<String>,
    /// The protocol asked for instead of HTTP.
    pub(crate) upgrade: Option<String>,
    /// The other side wants no more than this.
    pub(crate) last: bool,
}

/// The next request; `None` if there is none any more.
pub(crate) async fn read_request(from: &mut impl Bytes, inbox: &mut Inbox) -> Result<Option<Request>, HttpError> {
    let Some(head) = inbox.head(from).await? else { return Ok(None) };
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    complete(parsed.parse(&head))?;
    let found = Headers::read(parsed.headers)?;
    if found.encoded || found.length.is_some_and(|length| length > 0) {
        return Err(HttpError::Malformed("a body is not expected"));
    }
    Ok(Some(Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        host: found.host.clone(),
        last: found.says("close") || parsed.version == Some(0),
        upgrade: found.upgrade.clone().filter(|_| found.says("upgrade")),
    }))
}

/// An answer that has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) upgrade: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
    /// The connection takes no more requests.
    pub(crate) last: bool,
}

/// The answer to a request. `tunnel`: to one that turns the connection into something else, where what follows a
/// success is no body.
pub(crate) async fn read_answer(from: &mut impl Bytes, inbox: &mut Inbox, tunnel: bool) -> Result<Answer, HttpError> {
    let head = inbox.head(from).await?.ok_or(HttpError::Truncated)?;
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    complete(parsed.parse(&head))?;
    let found = Headers::read(parsed.headers)?;
    let status = parsed.code.unwrap_or_default();
    let bodiless = status == 101 || (tunnel && (200..300).contains(&status));
    let body = match found.length {
        _ if bodiless => Vec::new(),
        // A refusal's or a redirect's body says nothing that is understood here.
        _ if status != 200 => Vec::new(),
        Some(length) if length > MAX_BODY => return Err(HttpError::BodyTooLong),
        Some(length) => inbox.body(from, length).await?,
        None => return Err(HttpError::Malformed("an answer without a content length")),
    };
    let last = found.says("close") || (status != 200 && !bodiless);
    Ok(Answer { status, upgrade: found.upgrade, location: found.location, body, last })
}

pub(super) fn complete(parsed: httparse::Result<usize>) -> Result<(), HttpError> {
    match parsed {
        Ok(httparse::Status::Complete(_)) => Ok(()),
        Ok(httparse::Status::Partial) => Err(HttpError::Malformed("its head has no end")),
        Err(httparse::Error::TooManyHeaders) => Err(HttpError::HeadTooLong),
        Err(httparse::Error::Version) => Err(HttpError::Malformed("another version of HTTP")),
        Err(_) => Err(HttpError::Malformed("its head does not parse")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_io::block_on;

    /// Gives its bytes in pieces of this size, and then ends.
    struct Script(Vec<u8>, usize);

    impl Bytes for Script {
        async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buf.len()).min(self.0.len());
            buf[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }

        async fn write_all(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    fn request(text: &[u8], piece: usize) -> (Result<Option<Request>, HttpError>, Vec<u8>) {
        let mut inbox = Inbox::default();
        let result = block_on(read_request(&mut Script(text.to_vec(), piece), &mut inbox));
        (result, inbox.into_rest())
    }

    fn answer(text: &str) -> Result<Answer, HttpError> {
        block_on(read_answer(&mut Script(text.into(), 7), &mut Inbox::default(), false))
    }

    #[test]
    fn a_request_is_read_however_it_is_cut_and_what_follows_is_kept() {
        let text = b"GET /direc HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: Direc-Tunnel\r\n\r\n\0\x01x";
        for piece in [1, 2, 50, 1000] {
            let (result, rest) = request(text, piece);
            let request = result.unwrap().unwrap();
            assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/direc"));
            assert_eq!(request.upgrade.as_deref(), Some("direc-tunnel"));
            assert!(b"\0\x01x".starts_with(&rest));
        }
    }

    #[test]
    fn a_request_that_does_not_end_is_refused_after_some_kilobytes() {
        let endless = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 100_000]].concat();
        assert!(matches!(request(&endless, 1000).0, Err(HttpError::HeadTooLong)));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
        assert!(matches!(request(many.as_bytes(), 1000).0, Err(HttpError::HeadTooLong)));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let cases: [&[u8]; 5] = [
            b"\x16\x03\x01\x02\0\r\n\r\n",
            b"GET / HTTP/3\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: -0\r\n\r\n",
        ];
        for text in cases {
            assert!(matches!(request(text, 100).0, Err(HttpError::Malformed(_))), "{:?}", text.escape_ascii());
        }
        assert!(matches!(request(b"GET / HT", 100).0, Err(HttpError::Truncated)));
        assert!(request(b"", 100).0.unwrap().is_none());
    }

    #[test]
    fn an_answer_has_a_body_of_a_length_that_it_says_and_keeps_to() {
        let body =
            |length: &str, body: &str| answer(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
        assert_eq!(body("3", "abcd").unwrap().body, b"abc");
        assert!(matches!(body("5", "abcd"), Err(HttpError::Truncated)));
        assert!(matches!(body("65537", "abcd"), Err(HttpError::BodyTooLong)));
        assert!(matches!(body("99999999999999999999999", ""), Err(HttpError::Malformed(_))));
        assert!(matches!(body("3\r\nContent-Length: 4", "abcd"), Err(HttpError::Malformed(_))));
        assert!(matches!(answer("HTTP/1.1 200 OK\r\n\r\nabc"), Err(HttpError::Malformed(_))));
    }

    #[test]
    fn a_redirect_says_where_to() {
        let answer = answer("HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.location.as_deref()), (302, Some("http://login.example/")));
    }
}
