//! Pages over plain HTTP, for an operator on the same machine: a thread of its own, GET and HEAD alone, few at a time.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::future;

use super::{
    http::{ALLOW, Bytes, HttpError, Inbox, Request, read_request, without_body},
    places::Places,
    within::within,
};
use crate::{BindError, signal::Bell};

/// Connections at once: a browser, a monitor and a few more.
const MAX_CONNECTIONS: usize = 32;
/// How long a request may take to come, and its answer to be sent.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests on one connection.
const MAX_REQUESTS: u32 = 100;
/// After an `accept` that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// What a path shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP's status: `200 OK`.
    pub status: &'static str,
    /// The content's type: `text/plain; charset=utf-8`.
    pub kind: &'static str,
    /// More headers, each with its line's end.
    pub headers: &'static str,
    /// What there is to see.
    pub body: String,
}

impl Page {
    /// A line of text.
    pub fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", headers: "", body: body.into() }
    }
}

/// A server of pages on plain TCP, for as long as this stands. Dropped, it closes all connections.
///
/// A listener on the loopback interface answers those only that know it by an address or as `localhost`: a web page whose
/// name has been turned to 127.0.0.1 is not to read it through a visitor's browser.
pub struct PageServer {
    local: SocketAddr,
    over: Arc<Bell>,
    stop: Arc<AtomicBool>,
}

type Pages = dyn Fn(&str) -> Option<Page> + Send;

impl PageServer {
    /// Listens at `address`; `pages` has the page of a path, if there is one.
    ///
    /// # Errors
    /// [`BindError`] if the address cannot be had.
    pub fn bind(address: SocketAddr, pages: impl Fn(&str) -> Option<Page> + Send + 'static) -> Result<Self, BindError> {
        let failed = |error| BindError::Pages { address, error };
        let tcp = Async::<TcpListener>::bind(address).map_err(failed)?;
        let local = tcp.get_ref().local_addr().map_err(failed)?;
        let (over, stop) = (Arc::<Bell>::default(), Arc::<AtomicBool>::default());
        let pages: Box<Pages> = Box::new(pages);
        let (bell, stopped) = (over.clone(), stop.clone());
        let run = move || {
            let server =
                Server { tcp, pages, places: Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS), local: local.ip() };
            let executor = LocalExecutor::new();
            let end = bell.wait_for(|| stopped.load(Ordering::Acquire).then_some(()));
            async_io::block_on(executor.run(future::or(server.accept(&executor), end)));
        };
        thread::Builder::new().name("direc-pages".into()).spawn(run).map_err(BindError::Thread)?;
        Ok(Self { local, over, stop })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.over.tell();
    }
}

impl fmt::Debug for PageServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageServer").field("local", &self.local).finish_non_exhaustive()
    }
}

struct Server {
    tcp: Async<TcpListener>,
    pages: Box<Pages>,
    places: Places,
    local: IpAddr,
}

impl Server {
    async fn accept<'a>(&'a self, executor: &LocalExecutor<'a>) {
        loop {
            match self.tcp.accept().await {
                Ok((mut socket, remote)) => {
                    let Some(place) = self.places.enter(remote.ip()) else { continue };
                    let talk = async move {
                        let _place = place;
                        if let Err(error) = self.talk(&mut socket).await {
                            log::debug!("HTTP with {remote}: {error}");
                        }
                    };
                    executor.spawn(talk).detach();
                }
                Err(error) => {
                    log::warn!("a connection to the admin port was not taken: {error}");
                    Timer::after(PAUSE).await;
                }
            }
        }
    }

    async fn talk(&self, socket: &mut Async<TcpStream>) -> Result<(), HttpError> {
        let slow = || HttpError::Io(io::ErrorKind::TimedOut.into());
        let mut inbox = Inbox::default();
        for count in 1..=MAX_REQUESTS {
            let mut head = false;
            let (page, last) = match within(PATIENCE, read_request(socket, &mut inbox)).await.ok_or_else(slow)? {
                Ok(Some(request)) => {
                    head = request.method == "HEAD";
                    (self.page(&request), request.last || count == MAX_REQUESTS)
                }
                Ok(None) => return Ok(()),
                Err(HttpError::HeadTooLong) => {
                    (Page::text("431 Request Header Fields Too Large", "headers too long\n"), true)
                }
                Err(HttpError::Malformed(_)) => (Page::text("400 Bad Request", "not understood\n"), true),
                Err(error) => return Err(error),
            };
            let answer = written(&page, last);
            let answer = if head { without_body(answer) } else { answer };
            within(PATIENCE, socket.write_all(answer.as_bytes())).await.ok_or_else(slow)??;
            if last {
                return Ok(());
            }
        }
        Ok(())
    }

    fn page(&self, request: &Request) -> Page {
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Page { headers: ALLOW, ..Page::text("405 Method Not Allowed", "GET and HEAD alone\n") };
        }
        if self.local.is_loopback() && !request.host.as_deref().is_none_or(is_local_name) {
            return Page::text("421 Misdirected Request", "known here by its address, or as localhost\n");
        }
        let path = request.path.split('?').next().unwrap_or_default();
        (self.pages)(path).unwrap_or_else(|| Page::text("404 Not Found", "no such page\n"))
    }
}

/// An address, or `localhost`, with a port or without.
fn is_local_name(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn written(page: &Page, last: bool) -> String {
    let Page { status, kind, headers, body } = page;
    let close = if last { "Connection: close\r\n" } else { "" };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n{headers}{close}\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn ask(server: &PageServer, request: &str) -> String {
        let mut socket = TcpStream::connect(server.local_addr()).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn pages_are_served_to_those_who_ask_for_them_by_address() {
        let pages = |path: &str| (path == "/page").then(|| Page::text("200 OK", "words"));
        let server = PageServer::bind("127.0.0.1:0".parse().unwrap(), pages).unwrap();
        let get = |path: &str, host: &str| {
            ask(&server, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
        };
        assert!(get("/page", "127.0.0.1:9090").starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(get("/page?a=b", "localhost").ends_with("\r\n\r\nwords"));
        assert!(get("/page", "[::1]:80").ends_with("words"));
        assert!(get("/other", "localhost").starts_with("HTTP/1.1 404 "));
        assert!(get("/page", "rebound.example").starts_with("HTTP/1.1 421 "));
        let post = "POST /page HTTP/1.0\r\n\r\n";
        assert!(
            ask(&server, post).starts_with("HTTP/1.1 405 ") && ask(&server, post).contains("\r\nAllow: GET, HEAD\r\n")
        );
        assert!(ask(&server, "what?\r\n\r\n").starts_with("HTTP/1.1 400 "));
        let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(9000));
        assert!(ask(&server, &long).starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn head_gets_what_get_gets_without_the_page_and_the_next_request_its_own() {
        let pages = |path: &str| (path == "/page").then(|| Page::text("200 OK", "words"));
        let server = PageServer::bind("127.0.0.1:0".parse().unwrap(), pages).unwrap();
        for path in ["/page", "/other"] {
            let ask = |method| ask(&server, &format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n\r\n"));
            let (get, head) = (ask("GET"), ask("HEAD"));
            let (headers, page) = get.split_at(get.find("\r\n\r\n").unwrap() + 4);
            assert_eq!(head, headers, "{path}");
            assert!(!page.is_empty() && headers.contains(&format!("\r\nContent-Length: {}\r\n", page.len())), "{get}");
        }
        let both = "HEAD /page HTTP/1.1\r\n\r\nGET /page HTTP/1.1\r\nConnection: close\r\n\r\n";
        let answers = ask(&server, both);
        assert_eq!((answers.matches("HTTP/1.1 200 OK").count(), answers.matches("words").count()), (2, 1), "{answers}");
    }

    #[test]
    fn a_server_that_is_dropped_takes_no_more_connections() {
        let server = PageServer::bind("127.0.0.1:0".parse().unwrap(), |_| None).unwrap();
        let at = server.local_addr();
        drop(server);
        while TcpStream::connect(at).is_ok() {
            thread::yield_now();
        }
    }
}
