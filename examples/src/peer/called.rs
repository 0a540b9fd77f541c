//! Who a name leads to: whom it stood for before, or whom a relay says, never somebody else than before.

use std::{path::PathBuf, pin::pin, str::FromStr, time::Duration};

use direc_smol::{Named, NodeId, Peer, PeerName, RelayUrl, ResolveError};
use smol::{future::or, unblock};

use super::{
    Running,
    known::Known,
    verdict::{self, Verdict, judge},
};
use crate::{events::Event, failure::Failure, home, out::Out, wait::within};

/// How long the end of a command waits for the relay's word: it was asked at the beginning, so it is there as a rule.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Whom the command line names.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Id(NodeId),
    Name(PeerName),
}

impl Target {
    /// If it is one.
    pub(super) fn id(&self) -> Option<NodeId> {
        if let Self::Id(id) = self { Some(*id) } else { None }
    }

    /// If it is one.
    pub(super) fn name(&self) -> Option<&PeerName> {
        if let Self::Name(name) = self { Some(name) } else { None }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Name).map_err(|why: direc_smol::NameError| format!("no ID, and {why}")),
        }
    }
}

/// The peer behind a target.
pub(super) struct Called {
    pub(super) id: NodeId,
    /// Not for a target that is an ID.
    name: Option<Name>,
    peer: Peer,
    out: Out,
}

/// A name, and at which relay it leads there.
struct Name {
    name: PeerName,
    at: NodeId,
    /// Whether it was remembered before.
    before: bool,
    relays: Vec<RelayUrl>,
    known: PathBuf,
}

impl Called {
    /// Whom to connect to: at once if it is remembered, or else whom a relay says.
    pub(super) async fn find(target: &Target, running: &Running, out: Out) -> Result<Self, Failure> {
        let (peer, relays) = (running.peer.clone(), running.relays.clone());
        let name = match target {
            Target::Id(id) => return Ok(Self { id: *id, name: None, peer, out }),
            Target::Name(name) => name.clone(),
        };
        let path = home::known_names();
        let known = load(path.clone()).await?;
        let remembered = relays.iter().find_map(|relay| Some((relay.key, known.get(relay.key, &name)?)));
        let (at, id) = match remembered {
            Some(remembered) => remembered,
            None => {
                let named = peer.resolve(&name).await.map_err(|why| nobody(&name, &why))?;
                (named.relay, named.id)
            }
        };
        let name = Name { name, at, before: remembered.is_some(), relays, known: path };
        Ok(Self { id, name: Some(name), peer, out })
    }

    /// It has proven its key: from now on the name stands for it.
    pub(super) async fn met(&self) -> Result<(), Failure> {
        let Some(name) = self.name.as_ref().filter(|name| !name.before) else { return Ok(()) };
        let mut known = load(name.known.clone()).await?;
        let (called, at, id) = (name.name.clone(), name.at, self.id);
        let now = unblock(move || known.remember(at, &called, id)).await?;
        // Another process may have been faster, and have met somebody else.
        match judge(Some(now).filter(|&now| now != id), Some(id)) {
            Verdict::First(id) => {
                let (name, relay) = (&name.name, name.at);
                let event =
                    Event::NameRemembered { name: name.to_string(), relay: relay.to_string(), id: id.to_string() };
                self.out.event(&event);
                self.out.note(&verdict::first(name, id));
                Ok(())
            }
            Verdict::Changed { remembered, told } => Err(self.changed(name, name.at, remembered, told)),
            Verdict::Same | Verdict::Unknown | Verdict::Unanswered => Ok(()),
        }
    }

    /// Does the work, and asks the relay beside it whether the name still stands for the one who was remembered: if it
    /// does not, that is the end of the work.
    pub(super) async fn beside(&self, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        enum First {
            Work(Result<(), Failure>),
            Word(Result<(), Failure>),
        }
        let (mut work, mut word) = (pin!(work), pin!(self.word()));
        let first = or(async { First::Work(work.as_mut().await) }, async { First::Word(word.as_mut().await) }).await;
        match first {
            First::Work(result) => {
                within(LAST_WORD, word).await.unwrap_or(Ok(()))?;
                result
            }
            First::Word(result) => {
                result?;
                work.await
            }
        }
    }

    /// The relay's word on a remembered name.
    async fn word(&self) -> Result<(), Failure> {
        let Some(name) = self.name.as_ref().filter(|name| name.before) else { return Ok(()) };
        let answer = self.peer.resolve(&name.name).await;
        if let Err(why @ ResolveError::Disagree { named }) = &answer {
            return self.disagreed(name, why, named).await;
        }
        let relay = answer.as_ref().map_or(name.at, |named| named.relay);
        // Each relay's word is held against its own; one that is new to the name, against the one this is about.
        let own = load(name.known.clone()).await?.get(relay, &name.name);
        let at = if own.is_some() { relay } else { name.at };
        let told = answer.as_ref().ok().map(|named| named.id);
        match (judge(own.or(Some(self.id)), told), answer) {
            (Verdict::Changed { remembered, told }, _) => Err(self.changed(name, at, remembered, told)),
            (Verdict::Unanswered, Err(why)) => {
                let event = Event::NameUnconfirmed {
                    name: name.name.to_string(),
                    relay: name.at.to_string(),
                    id: self.id.to_string(),
                    why: why.to_string(),
                };
                self.out.event(&event);
                self.out.note(&format!("{} is {}, as remembered; now {why}", name.name, self.id.short()));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The relays name different peers. Whoever is remembered at several of them may be several; but none may name
    /// another one than is remembered there, and one at which nobody is, none but this.
    async fn disagreed(&self, name: &Name, why: &ResolveError, named: &[Named]) -> Result<(), Failure> {
        let known = load(name.known.clone()).await?;
        for &Named { relay, id } in named {
            match known.get(relay, &name.name) {
                Some(remembered) if remembered != id => return Err(self.changed(name, relay, remembered, id)),
                None if id != self.id => return Err(nobody(&name.name, why)),
                _ => {}
            }
        }
        Ok(())
    }

    fn changed(&self, name: &Name, at: NodeId, remembered: NodeId, told: NodeId) -> Failure {
        self.out.event(&Event::NameChanged {
            name: name.name.to_string(),
            relay: at.to_string(),
            remembered: remembered.to_string(),
            told: told.to_string(),
        });
        match name.relays.iter().find(|relay| relay.key == at) {
            Some(relay) => Failure::Failed(verdict::changed(&name.name, remembered, told, relay)),
            // Not one that was asked: no relay speaks for another.
            None => Failure::Failed(format!("'{}' was {remembered}, and is {told} now", name.name)),
        }
    }
}

async fn load(path: PathBuf) -> Result<Known, Failure> {
    unblock(move || Known::load(&path)).await
}

fn nobody(name: &PeerName, why: &ResolveError) -> Failure {
    Failure::new(format!("'{name}'"), why)
}
