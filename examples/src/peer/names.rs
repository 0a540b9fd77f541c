//! `peer names` and `peer forget`: the names that are remembered.

use direc_smol::{NodeId, PeerName, RelayUrl};
use smol::unblock;

use super::{Begin, known::Known, relays};
use crate::{events::Event, failure::Failure, home};

/// Lists them: all, or those at the relays that the options name.
pub(super) async fn list(begin: Begin<'_>) -> Result<(), Failure> {
    let relays = asked(begin).await?;
    let known = unblock(|| Known::load(&home::known_names())).await?;
    for (relay, name, id) in known.iter().filter(|(relay, ..)| relays.is_empty() || relays.contains(relay)) {
        let event = Event::Name { name: name.to_string(), relay: relay.to_string(), id: id.to_string() };
        begin.out.event(&event);
        if !begin.out.json() {
            begin.out.say(&format!("{name} {id} at relay {relay}"));
        }
    }
    Ok(())
}

/// Strikes one out, at all the relays that the options name.
pub(super) async fn forget(begin: Begin<'_>, name: &PeerName) -> Result<(), Failure> {
    let relays = asked(begin).await?;
    let called = name.clone();
    let forgotten = unblock(move || {
        let mut known = Known::load(&home::known_names())?;
        let struck = relays.into_iter().map(|relay| Ok(known.forget(relay, &called)?.map(|id| (relay, id))));
        struck.collect::<Result<Vec<_>, Failure>>()
    })
    .await?;
    let mut none = true;
    for (relay, id) in forgotten.into_iter().flatten() {
        none = false;
        let event = Event::NameForgotten { name: name.to_string(), relay: relay.to_string(), id: id.to_string() };
        begin.out.event(&event);
        begin.out.say(&format!("forgotten: {name} was {id} at relay {relay}"));
    }
    match none {
        true => Err(Failure::Failed(format!("'{name}' is not remembered at this relay; `peer names` lists what is"))),
        false => Ok(()),
    }
}

/// Who these names are remembered to be at any of these relays.
pub(super) fn remembered(names: &[PeerName], relays: &[RelayUrl]) -> Result<Vec<NodeId>, Failure> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let known = Known::load(&home::known_names())?;
    let id = |name: &PeerName| relays.iter().find_map(|relay| known.get(relay.key, name));
    let why = "not remembered at this relay; `peer ping` it once, or give its ID";
    names.iter().map(|name| id(name).ok_or_else(|| Failure::new(format!("--allow '{name}'"), why))).collect()
}

/// The keys of the relays that the options name.
async fn asked(begin: Begin<'_>) -> Result<Vec<NodeId>, Failure> {
    let options = begin.options;
    let key = options.key.clone().unwrap_or_else(home::peer_key);
    let relays = relays::find(&options.relays, options.relay_ca.as_deref(), &key, begin.out).await?;
    Ok(relays.into_iter().map(|(_, url, _)| url.key).collect())
}
