//! All introductions of a relay: begun (S3–S5), answered (S6), told (S9), ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn_proto::{Dir, StreamId};

use super::{
    Relay,
    cookies::Owner,
    directness::{DirectTimes, Told, Traffic},
    introduction::{End, Introduction, Side, State},
    registry::Registry,
    streams::refuse,
};
use crate::{
    RefuseReason, RelayEvent,
    drops::DropReason,
    quic::{
        Handle,
        stream::{MessageStream, Received},
    },
    rng::Rng,
    step::Step,
    wire::message::{Addresses, GoAhead, Initiate, Message, Offer},
};

/// Introductions, and how they are found: by ID, by stream, by channel.
pub(super) struct Introductions {
    rng: Rng,
    by_id: BTreeMap<u64, Introduction>,
    by_stream: BTreeMap<(usize, StreamId), u64>,
    by_channel: BTreeMap<u64, (u64, Side)>,
    timers: BTreeSet<(Instant, u64)>,
    /// Begun, and accepted, ever.
    totals: (u64, u64),
    /// The direct ones of those that are over, or have been used again since they went direct; and all relayed ones.
    direct: DirectTimes,
}

/// The way of a relayed packet.
pub(super) struct Route {
    pub(super) from: Handle,
    pub(super) to: Handle,
    /// The number under which it goes on.
    pub(super) channel: u64,
}

impl Introductions {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            rng,
            by_id: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            by_channel: BTreeMap::new(),
            timers: BTreeSet::new(),
            totals: (0, 0),
            direct: DirectTimes::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn totals(&self) -> (u64, u64) {
        self.totals
    }

    /// How long those took that went direct, until now.
    pub(super) fn direct(&self, now: Instant) -> DirectTimes {
        let mut times = self.direct.clone();
        self.by_id
            .values()
            .filter_map(|introduction| introduction.traffic.direct(now))
            .for_each(|took| times.count(took));
        times
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// An ID that is not in use: S3's.
    fn new_id(&mut self) -> u64 {
        loop {
            let id = self.rng.u64();
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    fn new_channel(&mut self, taken: u64) -> u64 {
        loop {
            let channel = self.rng.u64();
            if channel != taken && !self.by_channel.contains_key(&channel) {
                return channel;
            }
        }
    }

    fn insert(&mut self, id: u64, introduction: Introduction) {
        for side in [Side::P2, Side::P4] {
            let end = introduction.end(side);
            self.by_stream.insert((end.peer.0, end.stream.id()), id);
            self.by_channel.insert(end.channel, (id, side));
        }
        self.totals.0 += 1;
        self.totals.1 += u64::from(introduction.is_accepted());
        self.by_id.insert(id, introduction);
        self.schedule(id);
    }

    fn remove(&mut self, now: Instant, id: u64) -> Option<Introduction> {
        let introduction = self.by_id.remove(&id)?;
        if let Some(took) = introduction.traffic.direct(now) {
            self.direct.count(took);
        }
        for side in [Side::P2, Side::P4] {
            let end = introduction.end(side);
            self.by_stream.remove(&(end.peer.0, end.stream.id()));
            self.by_channel.remove(&end.channel);
        }
        if let Some(at) = introduction.due() {
            self.timers.remove(&(at, id));
        }
        Some(introduction)
    }

    /// P4 has accepted (S6); gives the introduction, unless it had told beforehand that it would.
    fn accept(&mut self, id: u64, now: Instant, delay: Duration) -> Option<&mut Introduction> {
        let introduction = self.by_id.get_mut(&id).filter(|introduction| !introduction.is_accepted())?;
        if let Some(at) = introduction.due() {
            self.timers.remove(&(at, id));
        }
        introduction.on_accept(now, delay);
        self.totals.1 += 1;
        self.schedule(id);
        self.by_id.get_mut(&id)
    }

    fn schedule(&mut self, id: u64) {
        if let Some(at) = self.by_id.get(&id).and_then(Introduction::due) {
            self.timers.insert((at, id));
        }
    }

    pub(super) fn stream_mut(&mut self, peer: Handle, stream: StreamId) -> Option<&mut MessageStream> {
        let introduction = self.by_id.get_mut(self.by_stream.get(&(peer.0, stream))?)?;
        let side = introduction.side_of(peer, stream)?;
        Some(&mut introduction.end_mut(side).stream)
    }

    /// Where a relayed packet goes, and under which number: only from one confirmed address of an introduction to the
    /// other.
    pub(super) fn route(
        &mut self,
        now: Instant,
        channel: u64,
        from: SocketAddr,
        registry: &Registry,
        early: u32,
    ) -> Result<Route, DropReason> {
        let &(id, side) = self.by_channel.get(&channel).ok_or(DropReason::UnknownChannel)?;
        let introduction = self.by_id.get_mut(&id).ok_or(DropReason::UnknownChannel)?;
        let sender = introduction.end(side).peer;
        if registry.get(sender).map(|entry| entry.address) != Some(from) {
            return Err(DropReason::UnknownChannel);
        }
        if !introduction.may_forward(side, early) {
            return Err(DropReason::NotAccepted);
        }
        match introduction.traffic.relayed(now) {
            Some(Told::Direct(took)) => self.direct.count(took),
            Some(Told::Relayed) => self.direct.count_relayed(),
            None => {}
        }
        let to = introduction.end(side.other());
        Ok(Route { from: sender, to: to.peer, channel: to.channel })
    }
}

impl Relay {
    /// S2 has arrived. S3: an ID, and "go ahead" to P2. S4: a stream to P4. S5: the offer.
    pub(super) fn on_initiate(&mut self, client: Handle, mut stream: MessageStream, initiate: &Initiate) {
        let server = match self.admit(client, initiate) {
            Ok(server) => server,
            Err(reason) => return self.refuse_initiate(client, stream, initiate, reason),
        };
        let opened = self.quic.get_mut(server).and_then(|connection| connection.streams().open(Dir::Bi));
        let Some(opened) = opened else { return self.refuse_initiate(client, stream, initiate, RefuseReason::Limit) };
        let Some((client_id, consents)) = self.parties(client, server) else { return };
        // Whether a connection is the one that it is said to be, only P4 can tell.
        let accepted = consents && initiate.resume.is_none();

        let id = self.introductions.new_id();
        let secret = self.introductions.rng.bytes();
        let cookie = self.introductions.rng.bytes();
        let channel = self.introductions.new_channel(initiate.channel);
        self.jar.expect(self.now, initiate.cookie, Owner { peer: client, introduction: Some(id), aside: false });
        self.jar.expect(self.now, cookie, Owner { peer: server, introduction: Some(id), aside: false });
        let mut to_server = MessageStream::new(opened);
        if let Some(connection) = self.quic.get_mut(client) {
            stream.send(connection, &Message::GoAhead(GoAhead { introduction: id, secret, accepted }));
        }
        self.step(Step::S3, Some(id), Some(client_id), None);
        self.step(Step::S4, Some(id), Some(initiate.server), None);
        if let Some(connection) = self.quic.get_mut(server) {
            let Initiate { direct, direct_only, rekey, resume, .. } = *initiate;
            let introduction = id;
            let client = client_id;
            let offer = Offer { introduction, client, cookie, secret, channel, direct, direct_only, rekey, resume };
            to_server.send(connection, &Message::Offer(offer));
        }
        self.step(Step::S5, Some(id), Some(initiate.server), None);

        let mut introduction = Introduction {
            client: End { peer: client, stream, channel: initiate.channel, told: Vec::new() },
            server: End { peer: server, stream: to_server, channel, told: Vec::new() },
            client_id,
            server_id: initiate.server,
            direct: initiate.direct,
            traffic: Traffic::default(),
            state: State::Offered { deadline: self.now + self.config.answer_deadline, early: 0 },
        };
        if accepted {
            introduction.on_accept(self.now, self.config.delay);
        }
        self.introductions.insert(id, introduction);
        for peer in [client, server] {
            if let Some(entry) = self.registry.get_mut(peer) {
                entry.introductions.insert(id);
            }
        }
        self.tell(id);
    }

    /// Who is introduced, and whether P4 has consented beforehand.
    fn parties(&self, client: Handle, server: Handle) -> Option<(crate::NodeId, bool)> {
        let client_id = self.registry.get(client)?.id;
        Some((client_id, self.registry.get(server)?.consents_to(&client_id)))
    }

    /// Whether this introduction may be: P4 is there, and no limit is reached.
    fn admit(&mut self, client: Handle, initiate: &Initiate) -> Result<Handle, RefuseReason> {
        let payer = self.payer(client).ok_or(RefuseReason::Kind)?;
        self.meters.introductions.take(self.now, &self.config.quotas.introductions, payer, 1)?;
        self.meters.has_volume(self.now, &self.config.quotas, payer)?;
        let limits = &self.config.limits;
        if self.leaving || self.draining_until.is_some() {
            return Err(RefuseReason::Draining);
        }
        let entry = self.registry.get(client).filter(|entry| entry.is_registered()).ok_or(RefuseReason::Kind)?;
        let found = match initiate.resume {
            None => self.registry.find(&initiate.server),
            Some(_) => self.registry.find_any(&initiate.server),
        };
        // Before anything is said about who is there. Either end may resume what one of them was allowed to begin; and
        // nothing comes of it but between two that know the connection's token.
        let begun_by_other = initiate.resume.is_some()
            && found.and_then(|server| self.registry.get(server)).is_some_and(|server| server.rights.connect);
        if !entry.rights.connect && !begun_by_other {
            return Err(RefuseReason::MayNotConnect);
        }
        let server = found.ok_or(RefuseReason::NoSuchPeer)?;
        if server == client {
            return Err(RefuseReason::Yourself);
        }
        let target = self.registry.get(server).ok_or(RefuseReason::NoSuchPeer)?;
        let open_offers = target.introductions.iter().filter(|&id| self.is_open_offer(*id, server)).count();
        let full = self.introductions.len() >= limits.introductions
            || entry.introductions.len() >= limits.introductions_per_peer
            || target.introductions.len() >= limits.introductions_per_peer
            || (!target.consents_to(&entry.id) && open_offers >= limits.open_offers_per_peer)
            || self.introductions.by_channel.contains_key(&initiate.channel);
        if full { Err(RefuseReason::Limit) } else { Ok(server) }
    }

    fn is_open_offer(&self, id: u64, server: Handle) -> bool {
        let introduction = self.introductions.by_id.get(&id);
        introduction.is_some_and(|introduction| introduction.server.peer == server && !introduction.is_accepted())
    }

    fn refuse_initiate(
        &mut self,
        client: Handle,
        mut stream: MessageStream,
        initiate: &Initiate,
        reason: RefuseReason,
    ) {
        *self.refusals.entry(reason).or_default() += 1;
        if let Some(connection) = self.quic.get_mut(client) {
            refuse(&mut stream, connection, reason);
        }
        if let Some(entry) = self.registry.get(client) {
            let (client, server) = (entry.id, initiate.server);
            self.events.push_back(RelayEvent::Refused { client, server, reason });
        }
    }

    /// Something has come on an introduction's stream: P4's answer (S6), or the end.
    pub(super) fn on_introduction(&mut self, handle: Handle, stream: StreamId) {
        while let Some(&id) = self.introductions.by_stream.get(&(handle.0, stream)) {
            let Some(introduction) = self.introductions.by_id.get_mut(&id) else { return };
            let Some(side) = introduction.side_of(handle, stream) else { return };
            let Some(connection) = self.quic.get_mut(handle) else { return };
            match (side, introduction.end_mut(side).stream.receive(connection)) {
                (_, None) => return,
                (Side::P4, Some(Received::Message(Message::Accept))) => self.on_accept(id),
                (Side::P4, Some(Received::Message(Message::Refused(refused)))) => {
                    // P4's own limits are its own affair; P2 learns that it is not let in.
                    let reason = match refused.reason {
                        RefuseReason::NoAnswer => RefuseReason::NoAnswer,
                        RefuseReason::NoSuchPeer => RefuseReason::NoSuchPeer,
                        _ => RefuseReason::NotWelcome,
                    };
                    self.end_introduction(id, handle, reason);
                }
                (_, Some(Received::Ended | Received::Message(Message::Refused(_)))) => {
                    self.end_introduction(id, handle, RefuseReason::PeerLeft);
                }
                (_, Some(Received::Message(_))) => return self.dismiss_for_misbehaving(handle),
                (_, Some(Received::Bad(_))) => return self.dismiss_for_misbehaving(handle),
            }
        }
    }

    /// S6: P2 learns that P4 has accepted, and both learn each other's addresses (S9).
    fn on_accept(&mut self, id: u64) {
        let Some(introduction) = self.introductions.accept(id, self.now, self.config.delay) else { return };
        let end = introduction.end_mut(Side::P2);
        if let Some(connection) = self.quic.get_mut(end.peer) {
            end.stream.send(connection, &Message::Accept);
        }
        self.tell(id);
    }

    /// S9 for every introduction of a peer whose addresses have changed.
    pub(super) fn tell_all(&mut self, peer: Handle) {
        let ids = self.registry.get(peer).map(|entry| entry.introductions.clone()).unwrap_or_default();
        for id in ids {
            self.tell(id);
        }
    }

    /// S9: tells each end what it may know and has not been told yet, P4 first.
    fn tell(&mut self, id: u64) {
        for side in [Side::P4, Side::P2] {
            let Some(introduction) = self.introductions.by_id.get_mut(&id) else { return };
            self.urgent.begin(self.now, introduction.end(side).peer);
            let other = introduction.end(side.other()).peer;
            let (Some(subject), Some(listener)) =
                (self.registry.get(other), self.registry.get(introduction.end(side).peer))
            else {
                continue;
            };
            let addresses = subject.addresses_for(self.now, listener);
            let Some(telling) = introduction.tell(side, addresses) else { continue };
            let about = match side {
                Side::P2 => introduction.server_id,
                Side::P4 => introduction.client_id,
            };
            let first = telling.addresses.first().copied();
            let end = introduction.end_mut(telling.side);
            if let Some(connection) = self.quic.get_mut(end.peer) {
                end.stream.send(connection, &Message::Addresses(Addresses { addresses: telling.addresses }));
            }
            self.step(Step::S9, Some(id), Some(about), first);
        }
    }

    /// Deadlines of offers, and the delay before P2 is told.
    pub(super) fn handle_due(&mut self) {
        while let Some(&(at, id)) = self.introductions.timers.first() {
            if at > self.now {
                break;
            }
            self.introductions.timers.pop_first();
            let Some(introduction) = self.introductions.by_id.get_mut(&id) else { continue };
            match &mut introduction.state {
                State::Offered { deadline, .. } if *deadline <= self.now => {
                    let server = introduction.server.peer;
                    self.end_introduction(id, server, RefuseReason::NoAnswer);
                }
                State::Accepted { tell_p2_at } => {
                    if tell_p2_at.is_some_and(|at| at <= self.now) {
                        *tell_p2_at = None;
                    }
                    self.tell(id);
                }
                State::Offered { .. } => {}
            }
        }
    }

    /// One end has gone, or will not: the other is told why if it still waits, and the channel is closed.
    pub(super) fn end_introduction(&mut self, id: u64, by: Handle, reason: RefuseReason) {
        let Some(mut introduction) = self.introductions.remove(self.now, id) else { return };
        let accepted = introduction.is_accepted();
        for side in [Side::P2, Side::P4] {
            let end = introduction.end_mut(side);
            if let Some(entry) = self.registry.get_mut(end.peer) {
                entry.introductions.remove(&id);
            }
            let Some(connection) = self.quic.get_mut(end.peer) else { continue };
            if end.peer == by || accepted {
                end.stream.close(connection);
            } else {
                refuse(&mut end.stream, connection, reason);
            }
        }
        if !accepted && introduction.server.peer == by {
            *self.refusals.entry(reason).or_default() += 1;
            let (client, server) = (introduction.client_id, introduction.server_id);
            self.events.push_back(RelayEvent::Refused { client, server, reason });
        }
    }
}
