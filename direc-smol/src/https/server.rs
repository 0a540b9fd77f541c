//! The relay's HTTPS port: describes the relay, and opens tunnels. One thread of tasks, each with a share and a deadline.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::future;
use rustls::ServerConfig;

#[cfg(feature = "acme")]
use super::acme::{ACME_TLS, Acme};
use super::{
    CurrentKey, HttpsKey, TUNNEL_PATH, TUNNEL_PROTOCOL, WELL_KNOWN,
    carry::Tunnel,
    http::{ALLOW, Bytes, HttpError, Inbox, Request, read_request, without_body},
    places::{Place, Places},
    stream::TlsStream,
    within::within,
};
use crate::{
    BindError,
    node::{Machine, Node},
};

/// Requests on one connection: a description, then a tunnel, and some to spare.
const MAX_REQUESTS: u32 = 8;
/// What a relay's HTTPS port takes upon itself at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsLimits {
    /// Connections in total, tunnels among them; beyond it new ones are closed at once. 10,000: as many as peers.
    pub connections: usize,
    /// Connections from one address, for IPv6 from one /64. 128: an office, or some homes behind one carrier's NAT.
    pub per_address: usize,
    /// How long TLS and the first request may take, and each request after it; who is slower is closed. 10 s.
    pub request: Duration,
    /// How long an answer may take to be sent. 10 s.
    pub answer: Duration,
}

impl Default for HttpsLimits {
    fn default() -> Self {
        let [request, answer] = [Duration::from_secs(10); 2];
        Self { connections: 10_000, per_address: 128, request, answer }
    }
}

/// A relay's HTTPS port in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpsStats {
    /// Connections that are open, tunnels among them.
    pub connections: u64,
    /// Tunnels that are open.
    pub tunnels: u64,
    /// Connections that were taken, ever.
    pub taken: u64,
    /// Connections that were closed as they came, for want of a place.
    pub crowded_out: u64,
    /// Connections that broke off or were too slow, or spoke no TLS or HTTP that is understood.
    pub failed: u64,
}

/// The same, as they are counted.
#[derive(Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    tunnels: AtomicU64,
    taken: AtomicU64,
    crowded_out: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> HttpsStats {
        let [connections, tunnels, taken, crowded_out, failed] =
            [&self.connections, &self.tunnels, &self.taken, &self.crowded_out, &self.failed]
                .map(|counter| counter.load(Ordering::Relaxed));
        HttpsStats { connections, tunnels, taken, crowded_out, failed }
    }
}

/// One more for as long as it stands.
struct Standing<'a>(&'a AtomicU64);

impl<'a> Standing<'a> {
    fn new(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// After an `accept` that failed, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// A TCP socket that waits for connections, and the key to answer with.
pub(crate) struct Listener {
    tcp: Async<TcpListener>,
    tls: Arc<ServerConfig>,
    local: SocketAddr,
    limits: HttpsLimits,
    pub(crate) key: Arc<CurrentKey>,
    pub(crate) counters: Arc<Counters>,
    #[cfg(feature = "acme")]
    acme: Option<Acme>,
}

impl Listener {
    pub(crate) fn bind(address: SocketAddr, key: &HttpsKey, limits: HttpsLimits) -> Result<Self, BindError> {
        let failed = |error| BindError::Https { address, error };
        let key = Arc::new(CurrentKey::new(key));
        let tls = key.server_config().map_err(|error| failed(io::Error::other(error)))?;
        let tcp = Async::<TcpListener>::bind(address).map_err(failed)?;
        let local = tcp.get_ref().local_addr().map_err(failed)?;
        Ok(Self {
            tcp,
            tls,
            local,
            limits,
            key,
            counters: Arc::default(),
            #[cfg(feature = "acme")]
            acme: None,
        })
    }

    /// The same, keeping its certificate good by itself.
    #[cfg(feature = "acme")]
    pub(crate) fn certified(mut self, acme: Acme) -> Self {
        self.tls = acme.answering(&self.tls);
        self.acme = Some(acme);
        self
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// Serves until the node has ended. `description` is what the relay says of itself.
pub(crate) fn serve<M: Machine>(node: Arc<Node<M>>, listener: Listener, description: String) -> Result<(), BindError> {
    let thread = thread::Builder::new().name("direc-https".into());
    let run = move || {
        let server = Server {
            node: &node,
            listener: &listener,
            description: &description,
            places: Places::new(listener.limits.connections, listener.limits.per_address),
            next: Cell::new(1),
        };
        // All connections end with it, their sockets with them.
        let executor = LocalExecutor::new();
        #[cfg(feature = "acme")]
        if let Some(acme) = &listener.acme {
            executor.spawn(acme.run()).detach();
        }
        async_io::block_on(executor.run(future::or(server.accept(&executor), node.ended())));
    };
    thread.spawn(run).map(|_| ()).map_err(BindError::Thread)
}

struct Server<'a, M: Machine> {
    node: &'a Node<M>,
    listener: &'a Listener,
    description: &'a str,
    places: Places,
    /// The next tunnel's number.
    next: Cell<u32>,
}

impl<'a, M: Machine> Server<'a, M> {
    async fn accept(&'a self, executor: &LocalExecutor<'a>) {
        loop {
            match self.listener.tcp.accept().await {
                Ok((socket, remote)) => {
                    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                    match self.places.enter(remote.ip()) {
                        Some(place) => executor.spawn(self.connection(socket, remote, place)).detach(),
                        None => {
                            self.listener.counters.crowded_out.fetch_add(1, Ordering::Relaxed);
                            log::debug!("too many connections from {remote}, or in total");
                        }
                    }
                }
                Err(error) => {
                    log::warn!("a connection to the HTTPS port was not taken: {error}");
                    Timer::after(PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, socket: Async<TcpStream>, remote: SocketAddr, _place: Place) {
        let counters = &self.listener.counters;
        let _standing = Standing::new(&counters.connections);
        counters.taken.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.talk(socket, remote).await {
            counters.failed.fetch_add(1, Ordering::Relaxed);
            // What strangers send is no reason to fill a log.
            log::debug!("HTTPS with {remote}: {error}");
        }
    }

    async fn talk(&self, socket: Async<TcpStream>, remote: SocketAddr) -> Result<(), HttpError> {
        let slow = || HttpError::Io(io::ErrorKind::TimedOut.into());
        socket.get_ref().set_nodelay(true)?;
        let mut stream = TlsStream::server(socket, self.listener.tls.clone())
            .map_err(|error| HttpError::Io(io::Error::other(error)))?;
        let mut inbox = Inbox::default();
        for count in 1..=MAX_REQUESTS {
            let request = async {
                poll_fn(|cx| stream.poll_handshake(cx)).await?;
                // The certificate was all there is to see (RFC 8737, section 3).
                #[cfg(feature = "acme")]
                if stream.protocol() == Some(ACME_TLS) {
                    return Ok(None);
                }
                read_request(&mut stream, &mut inbox).await
            };
            let (answer, tunnel, last) = match within(self.listener.limits.request, request).await.ok_or_else(slow)? {
                Ok(Some(request)) => (self.answer(&request), is_tunnel(&request), request.last),
                Ok(None) => break,
                Err(HttpError::HeadTooLong) => {
                    (plain("431 Request Header Fields Too Large", "headers too long\n"), false, true)
                }
                Err(HttpError::Malformed(_)) => (plain("400 Bad Request", "not understood\n"), false, true),
                Err(error) => return Err(error),
            };
            within(self.listener.limits.answer, stream.write_all(answer.as_bytes())).await.ok_or_else(slow)??;
            if tunnel {
                self.tunnel(&mut stream, remote, &inbox.into_rest()).await;
                break;
            }
            if last || count == MAX_REQUESTS {
                break;
            }
        }
        stream.say_goodbye();
        Ok(())
    }

    fn answer(&self, request: &Request) -> String {
        match request.method.as_str() {
            "HEAD" => without_body(self.answer_to("GET", request)),
            method => self.answer_to(method, request),
        }
    }

    fn answer_to(&self, method: &str, request: &Request) -> String {
        match (method, request.path.as_str()) {
            ("GET", TUNNEL_PATH) if is_tunnel(request) => {
                format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {TUNNEL_PROTOCOL}\r\n\r\n")
            }
            ("GET", TUNNEL_PATH) => {
                let answer = plain("426 Upgrade Required", "this is where tunnels begin\n");
                with(&answer, &format!("Upgrade: {TUNNEL_PROTOCOL}\r\n"))
            }
            ("GET", WELL_KNOWN) => body("200 OK", "application/json", self.description),
            (_, TUNNEL_PATH | WELL_KNOWN) => with(&plain("405 Method Not Allowed", "GET and HEAD alone\n"), ALLOW),
            _ => plain("404 Not Found", "a direc relay\n"),
        }
    }

    async fn tunnel(&self, stream: &mut TlsStream, remote: SocketAddr, early: &[u8]) {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let _standing = Standing::new(&self.listener.counters.tunnels);
        let tunnel = Tunnel::open(self.node, number, remote);
        let end = tunnel.carry(stream, early).await;
        log::debug!("the tunnel of {remote} has ended: {end}");
    }
}

fn is_tunnel(request: &Request) -> bool {
    request.method == "GET" && request.path == TUNNEL_PATH && request.upgrade.as_deref() == Some(TUNNEL_PROTOCOL)
}

/// An answer with one more header.
fn with(answer: &str, header: &str) -> String {
    answer.replacen("\r\n", &format!("\r\n{header}"), 1)
}

pub(super) fn plain(status: &str, text: &str) -> String {
    body(status, "text/plain", text)
}

pub(super) fn body(status: &str, kind: &str, text: &str) -> String {
    let length = text.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\r\n{text}"
    )
}
