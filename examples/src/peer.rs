//! `peer`: one side of a connection. `serve` waits for others (P4), the other commands connect to one (P2).

mod bench;
mod called;
mod client;
mod connect;
mod desk;
mod keyboard;
mod known;
mod names;
mod netcheck;
mod news;
mod options;
mod paths;
mod ping;
mod pipe;
mod relays;
mod serve;
mod serving;
mod status;
mod stdin;
mod terminal;
mod token;
mod verdict;
mod words;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use direc_smol::{Consent, Identity, Peer, PeerOptions, RelayError, RelayUrl, load_or_create_key};
use smol::Task;

use crate::{
    args,
    clock::ms_between,
    events::Event,
    failure::{self, Failure},
    home, logger,
    out::Out,
    reader::Gone,
    signals::{Interrupted, StatusAsked},
};
use options::{Action, Client, Command, Options, Parsed};

/// How long a relay that has another key than was kept of it may take to say so by HTTPS.
const ASKING: Duration = Duration::from_secs(10);

/// The program: its command line in, its exit code out.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let json = args::wants_json();
    let result = run(started, Out::new(json));
    failure::exit_code("peer", json, result)
}

fn run(started: Instant, out: Out) -> Result<(), Failure> {
    logger::start();
    let options = match options::parse(lexopt::Parser::from_env())? {
        Parsed::Run(options) => options,
        Parsed::Say(text) => {
            Out::new(false).say(text);
            return Ok(());
        }
    };
    let deaf = |error| Failure::new("cannot listen for signals", error);
    let (interrupted, asked) = (Interrupted::listen().map_err(deaf)?, StatusAsked::listen().map_err(deaf)?);
    let out = match &options.command {
        Command::Client(Client { action: Action::Connect, .. }) => out.leave_stdout(),
        _ => out,
    };
    let begin = Begin { started, options: &options, out };
    let gone = Gone::listen();
    let unread = async {
        gone.wait().await;
        Err(Failure::NobodyReads)
    };
    smol::block_on(async {
        match &options.command {
            Command::Serve(serving) => serve::run(begin, serving, asked, interrupted, unread).await,
            Command::Netcheck => netcheck::run(begin, interrupted).await,
            Command::Names => names::list(begin).await,
            Command::Forget(name) => names::forget(begin, name).await,
            Command::Client(client) => client::run(begin, client, asked, interrupted, unread).await,
        }
    })
}

/// What all commands begin with.
#[derive(Clone, Copy)]
struct Begin<'a> {
    started: Instant,
    options: &'a Options,
    out: Out,
}

/// A peer that a relay knows, and what goes on beside its connections.
struct Running {
    peer: Peer,
    /// The preferred one first.
    relays: Vec<RelayUrl>,
    /// Tells the news; done when the peer has closed by itself, and why.
    news: Task<Failure>,
    /// Answers questions about the status.
    status: Task<()>,
}

impl Begin<'_> {
    /// Binds the socket and waits until a relay knows this peer.
    async fn register(self, asked: StatusAsked) -> Result<Running, Failure> {
        let Self { started, options, out } = self;
        let settings = self.peer_options().await?;
        let relays = settings.relays.clone();
        let peer = Peer::bind(settings).await.map_err(Failure::of)?;
        let status = smol::spawn(status::report(peer.clone(), asked, options.status, out));
        // From the beginning: of several relays, one may be away and never have been there.
        let watch = peer.watch();
        registered(&peer).await.map_err(Failure::of)?;
        out.event(&Event::PeerReady { id: peer.id().to_string(), ms: ms_between(started, Instant::now()) });
        Ok(Running { peer, relays, news: smol::spawn(news::tell(watch, out)), status })
    }

    async fn peer_options(self) -> Result<PeerOptions, Failure> {
        let key = match &self.options.key {
            Some(key) => key.clone(),
            None => home::made(home::peer_key(), self.out).map_err(Failure::of)?,
        };
        let identity = load_or_create_key(&key).map_err(Failure::of)?;
        let mut options = with_relays(identity, self.options, &key, self.out).await?;
        options.port_mapping = self.options.portmap;
        options.transport.congestion = self.options.congestion;
        if let Command::Serve(serving) = &self.options.command {
            options.consent = serving.consent.clone();
            let named = names::remembered(&serving.names, &options.relays)?;
            if let Consent::Listed { ids, .. } = &mut options.consent {
                ids.extend(named);
            }
        }
        Ok(options)
    }
}

/// Settings for a peer with this key at all the relays that the options name; what they say of themselves by HTTPS is kept
/// beside the file `kept`.
async fn with_relays(identity: Identity, asked: &Options, kept: &Path, out: Out) -> Result<PeerOptions, Failure> {
    let relays = relays::find(&asked.relays, asked.relay_ca.as_deref(), kept, out).await?;
    let tokens = token::read(&asked.tokens)?;
    let Some((_, first, _)) = relays.first() else { return Err(Failure::Failed("there is no relay".into())) };
    let mut options = PeerOptions::new(identity, first.clone());
    options.tokens = relays.iter().map(|(index, ..)| tokens.get(*index).cloned().flatten()).collect();
    (options.relays, options.https) = relays.into_iter().map(|(_, url, https)| (url, https)).unzip();
    Ok(options)
}

/// Waits until a relay knows this peer. That one has another key than was kept of it is no answer yet: it is being asked
/// by HTTPS who it is.
async fn registered(peer: &Peer) -> Result<(), RelayError> {
    let asked_by = Instant::now() + ASKING;
    loop {
        match peer.registered().await {
            Err(RelayError::KeyChanged { .. }) if Instant::now() < asked_by => {}
            outcome => return outcome,
        }
    }
}

impl Running {
    /// Says good-bye to everyone; when this is done, nothing more is told.
    async fn close(self) {
        self.news.cancel().await;
        self.status.cancel().await;
        self.peer.close().await;
    }
}
