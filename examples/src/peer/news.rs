//! What happens to the peer as a whole: to its relays, and to the machine's network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use direc_core::RelayError;
use direc_smol::{PeerNews, Rate, RefuseReason, Watch};

use super::status::bytes;
use crate::{
    clock::{ms, spoken},
    events::{By, Event},
    failure::Failure,
    out::Out,
};

/// Tells what happens until the peer is closed, and then why, if that was a relay's doing.
pub(super) async fn tell(mut watch: Watch, out: Out) -> Failure {
    let mut affairs = Affairs::default();
    while let Some((_, news)) = watch.next().await {
        if let Some((event, text)) = affairs.on(&news) {
            if let Some(event) = event {
                out.event(&event);
            }
            out.note(&text);
        }
    }
    Failure::of(affairs.last_word.unwrap_or(RelayError::ShutDown))
}

/// What has been told, so that it is told once.
#[derive(Default)]
struct Affairs {
    /// Relays that had this peer at some time.
    known: BTreeSet<SocketAddr>,
    /// Relays that are lost and not back yet.
    away: BTreeSet<SocketAddr>,
    /// Relays that have another key, and have not said yet that it is theirs.
    strange: BTreeSet<SocketAddr>,
    /// That the hole-punch ports do not answer.
    blocked: bool,
    /// Why a relay could not be reached by HTTPS.
    no_tunnel: BTreeMap<SocketAddr, String>,
    /// A relay's reason not to be tried again.
    last_word: Option<RelayError>,
}

impl Affairs {
    /// What there is to tell: to programs, if they are to know, and to people.
    fn on(&mut self, news: &PeerNews) -> Option<(Option<Event>, String)> {
        match news {
            PeerNews::RelayLost { relay, error } => self.on_lost(*relay, error),
            PeerNews::Registered { relay } => {
                let known = !self.known.insert(*relay);
                let text = format!("relay {relay} is {}", if known { "back" } else { "there now" });
                self.strange.remove(relay);
                self.away.remove(relay).then(|| (Some(Event::RelayBack { relay: relay.to_string() }), text))
            }
            PeerNews::RelayRenewed { before, relay, key } => {
                for relays in [&mut self.known, &mut self.away] {
                    if relays.remove(before) {
                        relays.insert(*relay);
                    }
                }
                self.strange.remove(before);
                let event =
                    Event::RelayRenewed { before: before.to_string(), relay: relay.to_string(), key: key.to_string() };
                let at = if before == relay { String::new() } else { format!(" and is at {relay}") };
                Some((Some(event), format!("relay {before} says by HTTPS that it has the key {key} now{at}")))
            }
            PeerNews::RelayDraining { relay, within } => {
                let event = Event::RelayDraining { relay: relay.to_string(), within_ms: ms(*within) };
                let text = format!("relay {relay} is going down within {}; moving elsewhere", spoken(*within));
                Some((Some(event), text))
            }
            PeerNews::OverQuota { relay, reason, rate, dropped } => {
                let event = Event::OverQuota {
                    relay: relay.to_string(),
                    quota: reason.word().to_owned(),
                    bytes: rate.amount,
                    seconds: rate.per.as_secs_f64(),
                    dropped: *dropped,
                };
                Some((Some(event), format!("relay {relay} {}", over_quota(*reason, *rate, *dropped))))
            }
            PeerNews::Unanswered { .. } if !self.blocked => {
                self.blocked = true;
                Some((None, RelayError::NoCookie.to_string()))
            }
            PeerNews::Way { relay, tunnel } => {
                let by = if *tunnel { By::Https } else { By::Udp };
                let text = match by {
                    By::Https => format!("UDP to relay {relay} does not pass: by HTTPS instead"),
                    By::Udp => format!("UDP to relay {relay} passes again"),
                };
                self.no_tunnel.remove(relay);
                Some((Some(Event::RelayWay { relay: relay.to_string(), by }), text))
            }
            PeerNews::TunnelFailed { relay, why } => {
                let news = self.no_tunnel.insert(*relay, why.clone()).as_ref() != Some(why);
                let text = format!("UDP to relay {relay} does not pass, nor HTTPS: {why}; trying again");
                news.then(|| (Some(Event::TunnelFailed { relay: relay.to_string(), why: why.clone() }), text))
            }
            PeerNews::NetworkChanged { bound, local } => {
                let local: Vec<_> = local.iter().map(SocketAddr::to_string).collect();
                let places = if local.is_empty() { bound.to_string() } else { local.join(", ") };
                let event = Event::NetworkChanged { bound: bound.to_string(), local };
                Some((Some(event), format!("network changed, or this machine slept: now at {places}")))
            }
            PeerNews::PortMapping(mapping) => {
                let external = mapping.map(|mapping| mapping.external.to_string());
                let protocol = mapping.map(|mapping| mapping.protocol.to_string());
                let seconds = mapping.and_then(|mapping| Some(mapping.lifetime?.as_secs()));
                let text = mapping.map_or("gone".to_owned(), |mapping| mapping.to_string());
                Some((Some(Event::PortMapping { external, protocol, seconds }), format!("port mapping: {text}")))
            }
            PeerNews::Step(step) => {
                log::debug!("{} {} {}", step.role, step.step, step.step.what());
                None
            }
            _ => None,
        }
    }

    /// The peer tries again by itself, time after time: the first loss is news, that the relay has another key, and that
    /// it is the last try.
    fn on_lost(&mut self, relay: SocketAddr, error: &RelayError) -> Option<(Option<Event>, String)> {
        let strange = matches!(error, RelayError::KeyChanged { .. }) && self.strange.insert(relay);
        let (new, given_up) = (self.away.insert(relay) || strange, error.is_final());
        if given_up {
            self.last_word = Some(error.clone());
        }
        let event = Event::RelayLost { relay: relay.to_string(), why: error.to_string(), given_up };
        let what = if self.known.contains(&relay) { "lost" } else { "not reached" };
        let then = match error {
            _ if given_up => "given up",
            RelayError::KeyChanged { .. } => "asking it by HTTPS",
            _ => "trying again",
        };
        (new || given_up).then(|| (Some(event), format!("relay {relay} {what}: {error}; {then}")))
    }
}

/// What the relay does not pass on, and whose quota that is.
fn over_quota(reason: RefuseReason, rate: Rate, dropped: u64) -> String {
    let whose = match reason {
        RefuseReason::PeerQuota => " for one peer",
        RefuseReason::AddressQuota => " for one address",
        RefuseReason::TotalQuota => " for all peers together",
        _ => "",
    };
    let amount = bytes(rate.amount);
    let most = if rate.per == Duration::from_secs(1) {
        format!("{amount}/s")
    } else {
        format!("{amount} in {}", spoken(rate.per))
    };
    format!("drops packets beyond {most}: its quota{whose} ({dropped} lately)")
}

#[cfg(test)]
mod tests {
    use direc_smol::NodeId;

    use super::*;

    fn relay(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 4433))
    }

    fn lost(last: u8, error: RelayError) -> PeerNews {
        PeerNews::RelayLost { relay: relay(last), error }
    }

    fn texts(news: &[PeerNews]) -> Vec<String> {
        let mut affairs = Affairs::default();
        news.iter().filter_map(|news| affairs.on(news)).map(|(_, text)| text).collect()
    }

    #[test]
    fn a_tunnel_is_told_of_once_and_why_there_is_none_each_time_the_reason_is_another() {
        let failed = |why: &str| PeerNews::TunnelFailed { relay: relay(1), why: why.into() };
        let way = |tunnel| PeerNews::Way { relay: relay(1), tunnel };
        let told = texts(&[failed("a"), failed("a"), failed("b"), way(true), failed("b"), way(false)]);
        let none = |why| format!("UDP to relay 192.0.2.1:4433 does not pass, nor HTTPS: {why}; trying again");
        assert_eq!(
            told,
            [
                none("a"),
                none("b"),
                "UDP to relay 192.0.2.1:4433 does not pass: by HTTPS instead".into(),
                none("b"),
                "UDP to relay 192.0.2.1:4433 passes again".into(),
            ]
        );
    }

    #[test]
    fn a_relay_is_lost_once_and_back_once() {
        let registered = |last| PeerNews::Registered { relay: relay(last) };
        let unreachable = RelayError::Unreachable { after: Duration::from_secs(5) };
        let told = texts(&[
            registered(1),
            registered(2),
            lost(1, RelayError::Lost),
            lost(1, unreachable.clone()),
            lost(1, unreachable),
            registered(2),
            registered(1),
            registered(1),
            lost(1, RelayError::Lost),
        ]);
        let silent = "relay 192.0.2.1:4433 lost: the connection to the relay went silent; trying again";
        assert_eq!(told, [silent, "relay 192.0.2.1:4433 is back", silent]);
    }

    #[test]
    fn a_relay_that_never_was_there_is_not_lost() {
        let told = texts(&[lost(1, RelayError::Lost), PeerNews::Registered { relay: relay(1) }]);
        assert!(told[0].starts_with("relay 192.0.2.1:4433 not reached: "), "{told:?}");
        assert_eq!(told[1], "relay 192.0.2.1:4433 is there now");
    }

    #[test]
    fn the_last_try_is_news_even_of_a_relay_that_is_away() {
        let told = texts(&[lost(1, RelayError::Lost), lost(1, RelayError::Replaced)]);
        assert_eq!(told.len(), 2);
        assert!(told[1].ends_with("with the same key; given up"), "{told:?}");
    }

    #[test]
    fn a_relay_with_another_key_is_told_of_once_and_back_by_its_new_address() {
        let key = NodeId::from_bytes([0; 32]);
        let changed = RelayError::KeyChanged { expected: key };
        let told = texts(&[
            PeerNews::Registered { relay: relay(1) },
            lost(1, RelayError::Lost),
            lost(1, changed.clone()),
            lost(1, changed),
            PeerNews::RelayRenewed { before: relay(1), relay: relay(2), key },
            PeerNews::Registered { relay: relay(2) },
        ]);
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[1].ends_with("; asking it by HTTPS"), "{told:?}");
        assert!(told[2].ends_with(&format!("the key {key} now and is at 192.0.2.2:4433")), "{told:?}");
        assert_eq!(told[3], "relay 192.0.2.2:4433 is back");
    }

    #[test]
    fn drains_and_changes_of_the_network_are_told() {
        let bound = SocketAddr::from(([0, 0, 0, 0], 40_000));
        let told = texts(&[
            PeerNews::RelayDraining { relay: relay(1), within: Duration::from_secs(30) },
            PeerNews::NetworkChanged { bound, local: Vec::new() },
            PeerNews::NetworkChanged { bound, local: vec![relay(7), relay(8)] },
        ]);
        assert_eq!(
            told,
            [
                "relay 192.0.2.1:4433 is going down within 30.0 s; moving elsewhere",
                "network changed, or this machine slept: now at 0.0.0.0:40000",
                "network changed, or this machine slept: now at 192.0.2.7:4433, 192.0.2.8:4433",
            ]
        );
    }

    #[test]
    fn a_quota_is_told_with_what_it_is_and_whose() {
        let told = |reason, amount, per| {
            let rate = Rate { amount, per: Duration::from_secs(per) };
            texts(&[PeerNews::OverQuota { relay: relay(1), reason, rate, dropped: 12 }]).remove(0)
        };
        let of_a_peer = "relay 192.0.2.1:4433 drops packets beyond 2.0 MB/s: its quota for one peer (12 lately)";
        assert_eq!(told(RefuseReason::PeerQuota, 2_000_000, 1), of_a_peer);
        let of_all = told(RefuseReason::TotalQuota, 5_000_000_000, 86_400);
        assert!(of_all.contains("beyond 5.0 GB in 24 h 00 min: its quota for all peers together"), "{of_all}");
    }
}
