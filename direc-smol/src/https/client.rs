//! A peer's way to its relay's HTTPS port: TCP, perhaps through a proxy, TLS, and the upgrade to a tunnel.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    thread,
    time::Duration,
};

use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use direc_core::{HttpsUrl, printable};
use futures_lite::future;
use rustls::{ClientConfig, pki_types::ServerName};

use super::{
    HttpsError, Proxy, TUNNEL_PATH, TUNNEL_PROTOCOL, Trust, WELL_KNOWN,
    carry::Tunnel,
    description::Said,
    http::{Answer, Bytes, Inbox, read_answer},
    renew::Renewer,
    stream::TlsStream,
    trust::client_config,
    within::within,
};
use crate::{
    BindError, PeerNews,
    hub::PeerMachine,
    node::Node,
    signal::{Bell, Wakes},
};

/// How long all may take until the answer has come.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between the tries of a host's addresses (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one host that are tried.
const MAX_ADDRESSES: usize = 6;
/// How long a connection is kept by which the relay has described itself: if UDP does not pass, a tunnel is wanted soon.
const SPARE: Duration = Duration::from_secs(5);
/// Pause before a tunnel is tried again, doubled each time up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Where a relay answers HTTPS, and how to get there.
#[derive(Clone)]
pub struct HttpsRelay {
    url: HttpsUrl,
    tls: Arc<ClientConfig>,
    proxy: Option<Proxy>,
    /// The connection by which it has described itself.
    spare: Arc<Mutex<Option<Open>>>,
    /// What it has said then, or since.
    said: Arc<Mutex<Option<Said>>>,
}

/// TLS to the relay: what has come by it and is not used up, and where its other end is.
type Open = (TlsStream, Inbox, SocketAddr);

impl HttpsRelay {
    /// The relay at this URL. `trust` says who vouches for its certificate; a pin in the URL needs nobody.
    ///
    /// # Errors
    /// [`HttpsError::Ca`] or [`HttpsError::NoRoots`] if there is nobody to trust.
    pub fn new(url: HttpsUrl, trust: &Trust) -> Result<Self, HttpsError> {
        let tls = client_config(trust, url.pin)?;
        Ok(Self { url, tls, proxy: None, spare: Arc::default(), said: Arc::default() })
    }

    /// The same, through this proxy.
    #[must_use]
    pub fn with_proxy(mut self, proxy: Option<Proxy>) -> Self {
        self.proxy = proxy;
        self
    }

    /// Its URL.
    pub fn url(&self) -> &HttpsUrl {
        &self.url
    }

    /// What the relay says of itself.
    pub(crate) async fn fetch(&self) -> Result<Vec<u8>, HttpsError> {
        let fetch = async {
            let (mut stream, mut inbox, remote) = self.open().await?;
            let answer = self.ask(&mut stream, &mut inbox, WELL_KNOWN, "Accept: application/json\r\n").await?;
            if answer.status != 200 {
                return Err(refusal(answer));
            }
            if !answer.last {
                *self.spare() = Some((stream, inbox, remote));
            }
            Ok(answer.body)
        };
        within(DEADLINE, fetch).await.unwrap_or(Err(HttpsError::TimedOut { after: DEADLINE }))
    }

    /// A tunnel, and what has come through it already.
    async fn tunnel(&self) -> Result<(TlsStream, Vec<u8>, SocketAddr), HttpsError> {
        let upgrade = async {
            let spare = self.spare().take();
            if let Some(spare) = spare
                && let Ok(tunnel) = self.upgrade(spare).await
            {
                return Ok(tunnel);
            }
            self.upgrade(self.open().await?).await
        };
        within(DEADLINE, upgrade).await.unwrap_or(Err(HttpsError::TimedOut { after: DEADLINE }))
    }

    async fn upgrade(
        &self,
        (mut stream, mut inbox, remote): Open,
    ) -> Result<(TlsStream, Vec<u8>, SocketAddr), HttpsError> {
        let headers = format!("Connection: Upgrade\r\nUpgrade: {TUNNEL_PROTOCOL}\r\n");
        let answer = self.ask(&mut stream, &mut inbox, TUNNEL_PATH, &headers).await?;
        match (answer.status, answer.upgrade.as_deref()) {
            (101, Some(TUNNEL_PROTOCOL)) => Ok((stream, inbox.into_rest(), remote)),
            _ => Err(refusal(answer)),
        }
    }

    fn spare(&self) -> MutexGuard<'_, Option<Open>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn said(&self) -> MutexGuard<'_, Option<Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the spare connection once it is not needed any more.
    async fn forget_spare(&self) {
        Timer::after(SPARE).await;
        self.close_spare();
    }

    pub(super) fn close_spare(&self) {
        let spare = self.spare().take();
        if let Some((mut stream, ..)) = spare {
            stream.say_goodbye();
        }
    }

    async fn ask(
        &self,
        stream: &mut TlsStream,
        inbox: &mut Inbox,
        path: &str,
        headers: &str,
    ) -> Result<Answer, HttpsError> {
        let host = self.url.authority();
        let agent = concat!("direc/", env!("CARGO_PKG_VERSION"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        Ok(read_answer(stream, inbox, false).await?)
    }

    /// TLS to the relay, whose certificate is believed.
    async fn open(&self) -> Result<Open, HttpsError> {
        let (host, port) = match &self.proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&self.url.host, self.url.port),
        };
        let (mut socket, remote) = connect(host, port).await?;
        socket.get_ref().set_nodelay(true)?;
        if let Some(proxy) = &self.proxy {
            self.pass(proxy, &mut socket).await?;
        }
        let bad_name =
            |_| HttpsError::Resolve { host: self.url.host.clone(), error: io::ErrorKind::InvalidInput.into() };
        let name = ServerName::try_from(self.url.host.clone()).map_err(bad_name)?;
        let mut stream = TlsStream::client(socket, self.tls.clone(), name).map_err(HttpsError::Tls)?;
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok((stream, Inbox::default(), remote))
    }

    /// Has the proxy connect us.
    async fn pass(&self, proxy: &Proxy, socket: &mut Async<TcpStream>) -> Result<(), HttpsError> {
        let HttpsUrl { host, port, .. } = &self.url;
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let authorization = match &proxy.authorization {
            Some(authorization) => format!("Proxy-Authorization: {authorization}\r\n"),
            None => String::new(),
        };
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
        Bytes::write_all(socket, request.as_bytes()).await?;
        // Nothing comes by itself behind the answer: TLS's client speaks first.
        let answer = read_answer(socket, &mut Inbox::default(), true).await?;
        match answer.status {
            200..=299 => Ok(()),
            status => Err(HttpsError::Proxy { proxy: format!("{}:{}", proxy.host, proxy.port), status }),
        }
    }
}

impl fmt::Debug for HttpsRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsRelay").field("url", &self.url).field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

/// An answer that is not the one hoped for.
fn refusal(answer: Answer) -> HttpsError {
    /// As much of a foreign text as is shown.
    const SHOWN: usize = 200;
    match answer.location {
        Some(to) if (300..400).contains(&answer.status) => {
            HttpsError::Redirected { to: printable(&to.chars().take(SHOWN).collect::<String>()) }
        }
        _ => HttpsError::NotARelay { status: answer.status },
    }
}

/// The first of the host's addresses to take a connection; each has a head start before the next.
pub(super) async fn connect(host: &str, port: u16) -> Result<(Async<TcpStream>, SocketAddr), HttpsError> {
    let failed = |error| HttpsError::Resolve { host: host.to_owned(), error };
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => {
            let target = (host.to_owned(), port);
            blocking::unblock(move || target.to_socket_addrs().map(Iterator::collect)).await.map_err(failed)?
        }
    };
    type Try = Pin<Box<dyn Future<Output = (SocketAddr, io::Result<Async<TcpStream>>)> + Send>>;
    let mut waiting = addresses.into_iter().take(MAX_ADDRESSES);
    let mut tries: Vec<Try> = Vec::new();
    let mut next = Timer::after(Duration::ZERO);
    let mut last = failed(io::ErrorKind::NotFound.into());
    poll_fn(|cx| {
        loop {
            let mut index = 0;
            while let Some(attempt) = tries.get_mut(index) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready((address, Ok(socket))) => return Poll::Ready(Some(Ok((socket, address)))),
                    Poll::Ready((address, Err(error))) => {
                        last = HttpsError::Connect { address, error };
                        drop(tries.swap_remove(index));
                        next.set_after(Duration::ZERO);
                    }
                    Poll::Pending => index += 1,
                }
            }
            if Pin::new(&mut next).poll(cx).is_pending() {
                return Poll::Pending;
            }
            match waiting.next() {
                Some(address) => {
                    tries.push(Box::pin(async move { (address, Async::<TcpStream>::connect(address).await) }));
                    next.set_after(STAGGER);
                }
                None if tries.is_empty() => return Poll::Ready(None),
                None => next.clear(),
            }
        }
    })
    .await
    .unwrap_or(Err(last))
}

/// Which tunnels a peer wants, by its relays' indices.
#[derive(Default)]
pub(crate) struct Wishes {
    wanted: Mutex<Vec<(bool, u64)>>,
    bell: Arc<Bell>,
}

impl Wishes {
    /// From now on. A wish that is uttered again is for another tunnel than before.
    pub(crate) fn set(&self, relay: usize, wanted: bool, wakes: &mut Wakes) {
        let mut all = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= relay {
            all.resize(relay + 1, (false, 0));
        }
        if let Some((now, count)) = all.get_mut(relay) {
            (*now, *count) = (wanted, *count + u64::from(wanted));
        }
        drop(all);
        wakes.ring(&self.bell);
    }

    fn get(&self, relay: usize) -> Option<u64> {
        let all = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(relay).filter(|(wanted, _)| *wanted).map(|(_, count)| *count)
    }

    async fn wish(&self, relay: usize) -> u64 {
        self.bell.wait_for(|| self.get(relay)).await
    }

    /// Done when that wish does not hold any more.
    async fn until_over(&self, relay: usize, wish: u64) {
        self.bell.wait_for(|| (self.get(relay) != Some(wish)).then_some(())).await;
    }
}

/// A relay's way by HTTPS.
pub(crate) struct Way {
    pub(crate) https: HttpsRelay,
    /// Whether the relay is asked by it who it is, should that have changed.
    pub(crate) renewable: bool,
    /// How long one try to reach it by QUIC lasts.
    pub(crate) patience: Duration,
}

/// Does what there is to do by HTTPS, until the peer has ended: makes tunnels to these relays as they are wanted, and asks
/// them who they are when that is in doubt.
pub(crate) fn attend(
    node: Arc<Node<PeerMachine>>,
    wishes: Arc<Wishes>,
    relays: Vec<Option<Way>>,
) -> Result<(), BindError> {
    if relays.iter().all(Option::is_none) {
        return Ok(());
    }
    let run = move || {
        let executor = LocalExecutor::new();
        for (index, way) in relays.iter().enumerate() {
            let Some(Way { https, renewable, patience }) = way else { continue };
            let maker = Maker { node: &node, wishes: &wishes, index, https };
            executor.spawn(async move { maker.run().await }).detach();
            executor.spawn(https.forget_spare()).detach();
            if *renewable {
                let renewer = Renewer::new(&node, index, https, *patience);
                executor.spawn(async move { renewer.run().await }).detach();
            }
        }
        async_io::block_on(executor.run(node.ended()));
    };
    thread::Builder::new().name("direc-https".into()).spawn(run).map(|_| ()).map_err(BindError::Thread)
}

/// Makes the tunnel to one relay.
struct Maker<'a> {
    node: &'a Node<PeerMachine>,
    wishes: &'a Wishes,
    index: usize,
    https: &'a HttpsRelay,
}

impl Maker<'_> {
    async fn run(&self) {
        loop {
            let wish = self.wishes.wish(self.index).await;
            future::or(self.fulfil(), self.wishes.until_over(self.index, wish)).await;
        }
    }

    /// Makes it, again and again.
    async fn fulfil(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let why = match self.https.tunnel().await {
                Ok((mut stream, early, remote)) => {
                    pause = FIRST_PAUSE;
                    let tunnel = Tunnel::open(self.node, self.index as u32, remote);
                    tunnel.carry(&mut stream, &early).await.to_string()
                }
                Err(error) => error.to_string(),
            };
            self.tell_failed(why);
            Timer::after(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn tell_failed(&self, why: String) {
        let mut wakes = Wakes::default();
        self.node.look(|machine| {
            let Some(relay) = machine.relay(self.index) else { return };
            let news = PeerNews::TunnelFailed { relay: relay.address, why };
            machine.feed.publish(std::time::Instant::now(), &news, &mut wakes);
        });
        wakes.wake();
    }
}
