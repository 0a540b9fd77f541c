//! quinn-proto's settings, each with its reason.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use quinn_proto::{
    AckFrequencyConfig, ClientConfig, ConnectionId, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TimeSource, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use ring::{hkdf, hmac};

use crate::{
    config::Transport,
    congestion::{epoch::EpochConfig, ledger::Ledger},
    quic::cid::{CidKey, SlotCids},
    rng::Rng,
    wire::datagram::RELAYED_HEADER,
};

/// Largest QUIC packet that a control connection tries: 1,500 bytes of Ethernet less IPv6 and UDP headers.
const LARGEST_PACKET: u16 = 1452;
/// Largest QUIC packet between peers: the relay's header must still fit, or the way back to the relay is a black hole.
pub(crate) const LARGEST_INNER_PACKET: u16 = LARGEST_PACKET - RELAYED_HEADER as u16;

/// A first guess that costs neither a stall when the first flight meets a closed NAT, nor a storm of repeats.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// A control connection's silence after which the relay takes the peer for gone. Peers refresh their registrations more
/// often, and find out sooner when it is the relay that has gone.
const CONTROL_IDLE: Duration = Duration::from_secs(75);
/// A control connection carries small messages only.
const CONTROL_STREAM_WINDOW: u32 = 16 << 10;
const CONTROL_WINDOW: u32 = 256 << 10;
/// Handshake bytes kept for one connection that has not been let in yet: a few flights.
const INCOMING_BUFFER: u64 = 16 << 10;
const INCOMING_BUFFERS: u64 = 4 << 20;
/// A receiver acknowledges every so many packets, with delays bounded by [`MAX_ACK_DELAY`] (ack-frequency draft).
const ACK_THRESHOLD: u32 = 10;
const MAX_ACK_DELAY: Duration = Duration::from_millis(10);
/// The smallest buffer of datagrams: room for one of the largest packet, with what quinn-proto counts beside it. quinn-proto
/// announces the buffer's size as that of the largest datagram, and ends the connection for one that then does not fit.
const MIN_DATAGRAM_BUFFER: usize = 2 << 10;
/// Between two stateless resets: a restarted relay has many peers to tell, each with less than it was sent.
const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// Connection IDs, and so packets of others, must not look like ours: no greasing of the fixed bit.
const GREASE: bool = false;

/// Packets overtake each other on mobile networks and where links are bundled: which of them are lost is told by time
/// alone (RFC 9002, section 6.1, allows other thresholds), a quarter of a round trip later than the others. The model does
/// not mind: single losses do not slow it down.
const PACKET_THRESHOLD: u32 = 1 << 20;
const TIME_THRESHOLD: f32 = 1.25;

/// The node's time, for what quinn-proto would ask the system's clock: ages of Retry tokens.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start: Instant,
    nanos: Arc<AtomicU64>,
}

impl Clock {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, nanos: Arc::new(AtomicU64::new(0)) }
    }

    pub(crate) fn set(&self, now: Instant) {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        self.nanos.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

pub(crate) fn endpoint(slot: u32, key: &CidKey, rng: &mut Rng) -> Arc<EndpointConfig> {
    let reset_key = rng.bytes();
    endpoint_with(slot, key, &reset_key, rng)
}

/// As [`endpoint`], with a reset key that outlives the process: peers of the last one learn at once that it has gone.
pub(crate) fn endpoint_with(slot: u32, key: &CidKey, reset_key: &[u8; 32], rng: &mut Rng) -> Arc<EndpointConfig> {
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset_key)));
    let (key, seed) = (key.clone(), rng.bytes());
    config
        .cid_generator(move || Box::new(SlotCids { key: key.clone(), slot, rng: Rng::new(seed) }))
        .grease_quic_bit(GREASE)
        .min_reset_interval(RESET_INTERVAL)
        .rng_seed(Some(rng.bytes()));
    Arc::new(config)
}

/// A client for one connection: the first destination ID is drawn here, once.
pub(crate) fn client(crypto: Arc<QuicClientConfig>, transport: TransportConfig, rng: &mut Rng) -> ClientConfig {
    let cid = ConnectionId::new(&rng.bytes::<8>());
    let mut config = ClientConfig::new(crypto);
    config.transport_config(Arc::new(transport)).initial_dst_cid_provider(Arc::new(move || cid));
    config
}

pub(crate) fn server(
    crypto: Arc<QuicServerConfig>,
    transport: TransportConfig,
    clock: &Clock,
    rng: &mut Rng,
) -> Arc<ServerConfig> {
    let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&rng.bytes::<32>());
    let mut config = ServerConfig::new(crypto, Arc::new(token_key));
    config
        .transport_config(Arc::new(transport))
        .time_source(Arc::new(clock.clone()))
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    Arc::new(config)
}

fn idle(timeout: Duration) -> Option<IdleTimeout> {
    IdleTimeout::try_from(timeout).ok()
}

/// Between peer and relay: registration and introduction streams.
pub(crate) fn control_transport(remote_streams: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(remote_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(CONTROL_STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONTROL_WINDOW))
        .send_window(u64::from(CONTROL_WINDOW))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(idle(CONTROL_IDLE))
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(None);
    config
}

/// Between peers, over whichever path.
pub(crate) fn peer_transport(settings: &Transport, ledger: &Arc<Ledger>) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(LARGEST_INNER_PACKET);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD)).max_ack_delay(Some(MAX_ACK_DELAY));
    let datagrams = settings.datagram_buffer.max(MIN_DATAGRAM_BUFFER);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(settings.max_bi_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(settings.max_uni_streams))
        .stream_receive_window(VarInt::from_u32(settings.stream_window))
        .receive_window(VarInt::from_u32(settings.window))
        .send_window(u64::from(settings.window))
        .datagram_receive_buffer_size((settings.datagram_buffer > 0).then_some(datagrams))
        .datagram_send_buffer_size(datagrams)
        .max_idle_timeout(idle(settings.idle_timeout))
        .keep_alive_interval(Some(settings.idle_timeout / 3))
        .initial_rtt(INITIAL_RTT)
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(EpochConfig::new(ledger.clone())));
    if ledger.is_modelled() {
        config.packet_threshold(PACKET_THRESHOLD).time_threshold(TIME_THRESHOLD);
    }
    config
}
