//! Asks the router for a port that leads to a peer, on a thread of its own: nothing waits for it.

mod exchange;
mod router;

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use async_io::{Async, Timer};
use direc_core::PortMapper;
use futures_lite::future::{or, pending};

use crate::{
    BindError,
    hub::PeerMachine,
    node::Node,
    provider,
    signal::{Bell, PeerSignals},
};

/// What a datagram of UPnP-IGD's search may have; PCP's are shorter (RFC 6887, section 7). A longer one is cut off.
const LONGEST: usize = 2048;

/// The thread that keeps a port mapped as long as the peer is there.
pub(crate) struct Mapper {
    ended: AtomicBool,
    bell: Bell,
}

impl Mapper {
    pub(crate) fn start(node: Arc<Node<PeerMachine>>, signals: Arc<PeerSignals>) -> Result<Arc<Self>, BindError> {
        let mapper = Arc::new(Self { ended: AtomicBool::new(false), bell: Bell::default() });
        let ended = Ended(mapper.clone());
        let work = move || {
            let _ended = ended;
            async_io::block_on(keep(&node, &signals));
        };
        thread::Builder::new().name("direc-portmap".into()).spawn(work).map_err(BindError::Thread)?;
        Ok(mapper)
    }

    /// Waits until what was mapped has been given back.
    pub(crate) async fn ended(&self) {
        self.bell.wait_for(|| self.ended.load(Ordering::Acquire).then_some(())).await;
    }
}

/// Tells whoever waits, also if the thread should panic.
struct Ended(Arc<Mapper>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.bell.tell();
    }
}

/// Where the peer's socket is, and by which router it gets out; another one is another mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    port: u16,
    router: Option<Ipv4Addr>,
    client: Option<Ipv4Addr>,
}

impl Place {
    /// Now; `None` once the peer is gone.
    fn now(node: &Node<PeerMachine>) -> Option<Self> {
        let port = node.look(|machine| machine.port())?;
        let router = router::router();
        Some(Self { port, router, client: router.and_then(|router| source(router).ok()) })
    }
}

/// The address that this machine has towards its router.
fn source(router: Ipv4Addr) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((router, 9))?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

async fn keep(node: &Node<PeerMachine>, signals: &PeerSignals) {
    while let Some(place) = Place::now(node) {
        let moved = signals.network.wait_for(|| (Place::now(node) != Some(place)).then_some(()));
        match talk(node, place) {
            Ok(mut talk) => {
                or(talk.run(), moved).await;
                talk.release().await;
            }
            Err(error) => {
                log::debug!("no port mapping: {error}");
                moved.await;
            }
        }
        node.call(|machine, now| machine.core.set_port_mapping(now, None));
    }
}

/// With one router, about one port.
struct Talk<'a> {
    node: &'a Node<PeerMachine>,
    socket: Async<UdpSocket>,
    mapper: PortMapper,
}

fn talk(node: &Node<PeerMachine>, place: Place) -> io::Result<Talk<'_>> {
    let (Some(router), Some(client)) = (place.router, place.client) else {
        return Err(io::Error::other("no router is known"));
    };
    let socket = Async::<UdpSocket>::bind(SocketAddr::from((client, 0)))?;
    let seed = provider::seed().map_err(io::Error::other)?;
    Ok(Talk { node, socket, mapper: PortMapper::new(router, client, place.port, seed, Instant::now()) })
}

/// What has come, or that the time has.
enum Input {
    Datagram(io::Result<(usize, SocketAddr)>),
    Answer(Vec<u8>),
    Time,
}

/// A request by TCP that is under way.
type Exchange = Option<Pin<Box<dyn Future<Output = Vec<u8>>>>>;

impl Talk<'_> {
    /// For ever.
    async fn run(&mut self) {
        let (mut room, mut exchange): (_, Exchange) = ([0; LONGEST], None);
        loop {
            self.mapper.handle_timeout(Instant::now());
            self.send().await;
            self.tell();
            if let Some(request) = self.mapper.poll_request() {
                exchange = Some(Box::pin(exchange::answer(request)));
            }
            match self.input(&mut room, &mut exchange).await {
                Input::Datagram(Ok((len, from))) => {
                    self.mapper.handle_datagram(Instant::now(), from, room.get(..len).unwrap_or_default());
                }
                // Nobody listens at the router's port: it has said so at once, and the next try is the timer's.
                Input::Datagram(Err(error)) => log::debug!("port mapping: {error}"),
                Input::Answer(bytes) => {
                    exchange = None;
                    self.mapper.handle_answer(Instant::now(), &bytes);
                }
                Input::Time => {}
            }
        }
    }

    async fn input(&self, room: &mut [u8], exchange: &mut Exchange) -> Input {
        let datagram = async { Input::Datagram(self.socket.recv_from(room).await) };
        let answer = async {
            match exchange {
                Some(exchange) => Input::Answer(exchange.await),
                None => pending().await,
            }
        };
        let time = async {
            let timer = self.mapper.poll_timeout().map_or_else(Timer::never, Timer::at);
            timer.await;
            Input::Time
        };
        or(datagram, or(answer, time)).await
    }

    async fn send(&mut self) {
        while let Some((to, bytes)) = self.mapper.poll_transmit() {
            if let Err(error) = self.socket.send_to(&bytes, to).await {
                log::debug!("port mapping: {error}");
            }
        }
    }

    fn tell(&mut self) {
        let mut news = false;
        while let Some(event) = self.mapper.poll_event() {
            log::debug!("port mapping: {event:?}");
            news = true;
        }
        if news {
            let mapping = self.mapper.mapping();
            self.node.call(|machine, now| machine.core.set_port_mapping(now, mapping));
        }
    }

    /// Said once: a router that does not hear it forgets by itself.
    async fn release(&mut self) {
        self.mapper.release();
        self.send().await;
        if let Some(request) = self.mapper.poll_request() {
            exchange::answer(request).await;
        }
    }
}
