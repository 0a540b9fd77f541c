//! PTTH_DIREC on real networks: sockets, timers and futures around the state machines of `direc-core`.
//!
//! [`Peer`] connects to other peers and accepts them; [`RelayServer`] introduces them to each other. The futures run on
//! any executor: sockets and timers belong to async-io's reactor and to one thread per node.
//!
//! ```no_run
//! use direc_smol::{NodeId, Peer, PeerOptions, load_or_create_key};
//!
//! # async fn story() -> Result<(), Box<dyn std::error::Error>> {
//! let key = load_or_create_key("peer.key".as_ref())?;
//! let relay = "direc://relay.example:4433#aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa".parse()?;
//! let peer = Peer::bind(PeerOptions::new(key, relay)).await?;
//!
//! let other: NodeId = "aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa".parse()?;
//! let connection = peer.connect(other).await?;
//! let (mut send, mut recv) = connection.open_bi().await?;
//! send.write_chunk("hello".into()).await?;
//! send.finish()?;
//! println!("{:?} by way of {:?}", recv.read_to_end(1000).await?, connection.path());
//! peer.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Inside: `node` is the lock around a state machine, `driver` the thread that serves it, `hub` brings a peer's events
//! to the tasks that wait for them, `network` notices when the machine's network has changed.

mod connection;
mod driver;
mod error;
mod feed;
mod file_trouble;
mod https;
mod hub;
mod key;
mod network;
mod news;
mod node;
mod outbox;
mod peer;
mod portmap;
mod provider;
mod recv_stream;
mod relay;
mod resolve;
mod send_stream;
mod signal;
mod socket;
mod sockets;

pub use connection::{Connection, ConnectionStatus, DELIVERY_LIMIT};
pub use direc_core::{
    Access, AccessList, AccessToken, CloseReason, ConfigError, Congestion, ConnId, ConnectError, ConnectOptions,
    ConnectionStats, Consent, DirectFailure, DirectTimes, DropReason, Drops, Filtering, FoundBy, HttpsUrl,
    HttpsUrlError, IdError, Identity, MAX_RELAYS, MapProtocol, Mapping, NameError, Nature, NodeId, Path, PathPolicy,
    PathReason, PathState, PathStatus, PeerName, PeerTiming, PortAssignment, PortMapping, Quotas, Rate, RefuseReason,
    RelayError, RelayLimits, RelayStats, RelayUrl, Rights, Role, Scopes, Sighting, Step, StepTaken, TlsPin, TokenError,
    TokenHash, TransportConfig, TransportError, UrlError,
    quic_types::{Dir, StreamId},
    step,
};
pub use error::{
    BindError, KeyFileError, Named, ReadError, ReadToEndError, ResolveError, SendDatagramError, WriteError,
};
pub use file_trouble::FileTrouble;
#[cfg(feature = "acme")]
pub use https::AcmeOptions;
pub use https::{
    HttpsError, HttpsKey, HttpsKeyError, HttpsLimits, HttpsRelay, HttpsStats, Page, PageServer, Proxy, ProxyError,
    Trust, bootstrap,
};
pub use key::{ephemeral_key, load_or_create_key, make_private_folder, new_token};
pub use news::{PathNews, PathWatch, PeerNews, RelayNews, RelayWatch, Watch};
pub use peer::{Offer, Peer, PeerOptions};
pub use recv_stream::RecvStream;
pub use relay::{RelayOptions, RelayServer};
pub use send_stream::SendStream;
