//! The relay's HTTPS port: describes the relay, and opens tunnels. One thread of tasks, each with a share and a deadline.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::future;
use rustls::ServerConfig;

use super::{
    HttpsKey, TUNNEL_PATH, TUNNEL_PROTOCOL, WELL_KNOWN,
    carry::Tunnel,
    http::{Bytes, HttpError, Inbox, Request, read_request},
    stream::TlsStream,
    within::within,
};
use crate::{
    BindError,
    node::{Machine, Node},
};

/// Connections in total: as many as a relay has peers. Beyond it new ones are closed at once.
const MAX_CONNECTIONS: usize = 10_000;
/// Connections from one address, for IPv6 from one /64: an office, or some homes behind one carrier's NAT.
const MAX_PER_ADDRESS: usize = 128;
/// How long TLS and the first request may take, and each request after it. Who is slower is closed.
const REQUEST: Duration = Duration::from_secs(10);
/// How long an answer may take to be sent.
const ANSWER: Duration = Duration::from_secs(10);
/// Requests on one connection: a description, then a tunnel, and some to spare.
const MAX_REQUESTS: u32 = 8;
/// After an `accept` that failed, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// A TCP socket that waits for connections, and the key to answer with.
pub(crate) struct Listener {
    tcp: Async<TcpListener>,
    tls: Arc<ServerConfig>,
    local: SocketAddr,
}

impl Listener {
    pub(crate) fn bind(address: SocketAddr, key: &HttpsKey) -> Result<Self, BindError> {
        let failed = |error| BindError::Https { address, error };
        let tls = key.server_config().map_err(|error| failed(io::Error::other(error)))?;
        let tcp = Async::<TcpListener>::bind(address).map_err(failed)?;
        let local = tcp.get_ref().local_addr().map_err(failed)?;
        Ok(Self { tcp, tls, local })
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
            counts: Counts::default(),
            next: Cell::new(1),
        };
        // All connections end with it, their sockets with them.
        let executor = LocalExecutor::new();
        async_io::block_on(executor.run(future::or(server.accept(&executor), node.ended())));
    };
    thread.spawn(run).map(|_| ()).map_err(BindError::Thread)
}

struct Server<'a, M: Machine> {
    node: &'a Node<M>,
    listener: &'a Listener,
    description: &'a str,
    counts: Counts,
    /// The next tunnel's number.
    next: Cell<u32>,
}

impl<'a, M: Machine> Server<'a, M> {
    async fn accept(&'a self, executor: &LocalExecutor<'a>) {
        loop {
            match self.listener.tcp.accept().await {
                Ok((socket, remote)) => {
                    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                    match self.counts.enter(remote.ip()) {
                        Some(place) => executor.spawn(self.connection(socket, remote, place)).detach(),
                        None => log::debug!("too many connections from {remote}, or in total"),
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
        if let Err(error) = self.talk(socket, remote).await {
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
                read_request(&mut stream, &mut inbox).await
            };
            let (answer, tunnel, last) = match within(REQUEST, request).await.ok_or_else(slow)? {
                Ok(Some(request)) => (self.answer(&request), is_tunnel(&request), request.last),
                Ok(None) => break,
                Err(HttpError::HeadTooLong) => {
                    (plain("431 Request Header Fields Too Large", "headers too long\n"), false, true)
                }
                Err(HttpError::Malformed(_)) => (plain("400 Bad Request", "not understood\n"), false, true),
                Err(error) => return Err(error),
            };
            within(ANSWER, stream.write_all(answer.as_bytes())).await.ok_or_else(slow)??;
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
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", TUNNEL_PATH) if is_tunnel(request) => {
                format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {TUNNEL_PROTOCOL}\r\n\r\n")
            }
            ("GET", TUNNEL_PATH) => {
                let answer = plain("426 Upgrade Required", "this is where tunnels begin\n");
                answer.replacen("\r\n", &format!("\r\nUpgrade: {TUNNEL_PROTOCOL}\r\n"), 1)
            }
            ("GET", WELL_KNOWN) => body("200 OK", "application/json", self.description),
            (_, TUNNEL_PATH | WELL_KNOWN) => plain("405 Method Not Allowed", "GET alone\n"),
            _ => plain("404 Not Found", "a direc relay\n"),
        }
    }

    async fn tunnel(&self, stream: &mut TlsStream, remote: SocketAddr, early: &[u8]) {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let tunnel = Tunnel::open(self.node, number, remote);
        let end = tunnel.carry(stream, early).await;
        log::debug!("the tunnel of {remote} has ended: {end}");
    }
}

fn is_tunnel(request: &Request) -> bool {
    request.method == "GET" && request.path == TUNNEL_PATH && request.upgrade.as_deref() == Some(TUNNEL_PROTOCOL)
}

fn plain(status: &str, text: &str) -> String {
    body(status, "text/plain", text)
}

fn body(status: &str, kind: &str, text: &str) -> String {
    let length = text.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\r\n{text}"
    )
}

/// Who has how many connections.
#[derive(Clone, Default)]
struct Counts(Rc<RefCell<Taken>>);

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

impl Counts {
    /// A place, unless there is none left.
    fn enter(&self, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut taken = self.0.borrow_mut();
        let here = taken.by_address.get(&network).copied().unwrap_or(0);
        if taken.total >= MAX_CONNECTIONS || here >= MAX_PER_ADDRESS {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(network, here + 1);
        Some(Place { counts: self.clone(), network })
    }
}

/// A connection's place among all, free again when dropped.
struct Place {
    counts: Counts,
    network: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.counts.0.borrow_mut();
        taken.total -= 1;
        match taken.by_address.get_mut(&self.network) {
            Some(here) if *here > 1 => *here -= 1,
            _ => {
                taken.by_address.remove(&self.network);
            }
        }
    }
}

/// An IPv6 host has all addresses of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_of_the_places_and_gets_them_back() {
        let counts = Counts::default();
        let mut places: Vec<_> = (0..MAX_PER_ADDRESS)
            .map(|n| counts.enter(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, n as u16, 0, 0, 1).into()))
            .collect();
        assert!(places.iter().all(Option::is_some));
        let again = || counts.enter("2001:db8::7".parse().unwrap());
        assert!(again().is_none(), "all of one /64");
        assert!(counts.enter("2001:db8:0:1::7".parse().unwrap()).is_some());
        places.pop();
        assert!(again().is_some());
        drop(places);
        assert!(counts.0.borrow().by_address.is_empty());
        assert_eq!(counts.0.borrow().total, 0);
    }
}
