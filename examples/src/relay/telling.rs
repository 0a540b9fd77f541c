//! What the relay tells its operator as it happens.

use direc_smol::{RelayNews, RelayWatch};
use serde_json::{Value, json};

#[cfg(feature = "acme")]
use crate::clock::rfc3339;
use crate::{
    clock::{ms, spoken},
    events::Event,
    out::Out,
};

/// Logs what happens, and then waits for ever: the end has words of its own.
pub(super) async fn tell(mut watch: RelayWatch, out: Out) {
    while let Some((_, news)) = watch.next().await {
        match news {
            RelayNews::Registered { peer, address, listening } => {
                let text = format!("registered {}{peer} from {address}", kind(listening));
                let [peer, address] = [peer.to_string(), address.to_string()];
                let fields =
                    || json!({"event": "registered", "peer": peer, "address": address, "listening": listening});
                record(out, "info", &text, fields);
            }
            RelayNews::Left { peer, listening } => {
                let text = format!("left {}{peer}", kind(listening));
                let fields = || json!({"event": "left", "peer": peer.to_string(), "listening": listening});
                record(out, "info", &text, fields);
            }
            RelayNews::TurnedAway { peer, address, reason } => {
                let text = format!("turned away {peer} from {address}: {reason}");
                let [peer, address, reason] = [peer.to_string(), address.to_string(), reason.to_string()];
                let fields = || json!({"event": "turned_away", "peer": peer, "address": address, "reason": reason});
                record(out, "info", &text, fields);
            }
            RelayNews::Refused { client, server, reason } => {
                let text = format!("refused {} to {}: {reason}", client.short(), server.short());
                let [client, server, reason] = [client.to_string(), server.to_string(), reason.to_string()];
                let fields = || json!({"event": "refused", "client": client, "server": server, "reason": reason});
                record(out, "info", &text, fields);
            }
            RelayNews::Draining { within } => {
                out.event(&Event::Draining { within_ms: ms(within) });
                let text =
                    format!("draining: peers are to be elsewhere within {}, nobody new is introduced", spoken(within));
                record(out, "info", &text, || json!({"event": "draining", "within_ms": ms(within)}));
            }
            #[cfg(feature = "acme")]
            RelayNews::Certified { hosts, until } => {
                let until = rfc3339(until.duration_since(std::time::UNIX_EPOCH).unwrap_or_default());
                let text = format!("certified for {} until {until}", hosts.join(", "));
                record(out, "info", &text, || json!({"event": "certified", "hosts": hosts, "until": until}));
            }
            #[cfg(feature = "acme")]
            RelayNews::NotCertified { authority, why, again } => {
                let text = format!("no new certificate from {authority}: {why}; asking again in {}", spoken(again));
                let fields =
                    || json!({"event": "not_certified", "authority": authority, "reason": why, "again_ms": ms(again)});
                record(out, "error", &text, fields);
            }
            RelayNews::Step(step) => log::debug!("{} {} {}", step.role, step.step, step.step.what()),
            _ => {}
        }
    }
    std::future::pending().await
}

/// What stands before the ID of a peer that nobody can find.
fn kind(listening: bool) -> &'static str {
    if listening { "" } else { "client " }
}

/// A line about the relay's own life.
pub(super) fn log(out: Out, text: &str) {
    record(out, "info", text, || json!({}));
}

/// A line about what the operator may not have meant.
pub(super) fn warn(out: Out, text: &str) {
    record(out, "warn", text, || json!({}));
}

/// A line about what the operator should mend.
pub(super) fn complain(out: Out, text: &str) {
    record(out, "error", text, || json!({}));
}

fn record(out: Out, level: &str, text: &str, fields: impl FnOnce() -> Value) {
    out.record(text, || {
        let mut line = fields();
        line["level"] = level.into();
        line["message"] = text.into();
        line
    });
}
