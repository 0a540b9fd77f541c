//! What may be sent to hosts that have not answered, over all introductions together: others' words must not make this
//! peer anybody's nuisance.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Bytes of UDP payload that a host which has not answered may be sent: two introductions' probes and guesses.
const UNANSWERED_BYTES: u64 = 256 << 10;
/// So much of it comes back in a second.
const REFILL: u64 = 2 << 10;
/// Hosts that are kept in mind; whoever makes this peer punch at more is refused until the first are forgiven.
const MAX_HOSTS: usize = 4096;

/// One host's debt.
#[derive(Clone, Copy, Debug)]
struct Debt {
    bytes: u64,
    at: Instant,
}

impl Debt {
    fn now(self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.at);
        let back = u128::from(REFILL) * since.as_millis() / Duration::from_secs(1).as_millis();
        self.bytes.saturating_sub(u64::try_from(back).unwrap_or(u64::MAX))
    }
}

#[derive(Debug, Default)]
pub(super) struct Restraint(BTreeMap<IpAddr, Debt>);

impl Restraint {
    /// Whether so many bytes more may go to a host that may or may not have answered.
    pub(super) fn allows(&mut self, now: Instant, host: IpAddr, bytes: usize) -> bool {
        if self.0.len() >= MAX_HOSTS && !self.0.contains_key(&host) {
            self.0.retain(|_, debt| debt.now(now) > 0);
            if self.0.len() >= MAX_HOSTS {
                return false;
            }
        }
        let debt = self.0.entry(host).or_insert(Debt { bytes: 0, at: now });
        let bytes = debt.now(now) + bytes as u64;
        let allowed = bytes <= UNANSWERED_BYTES;
        if allowed {
            *debt = Debt { bytes, at: now };
        }
        allowed
    }

    /// Something authentic has come from there.
    pub(super) fn on_answer(&mut self, host: IpAddr) {
        self.0.remove(&host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods)] // an arbitrary origin: only differences count
    fn now() -> Instant {
        Instant::now()
    }

    fn spend(restraint: &mut Restraint, now: Instant, host: IpAddr) -> u64 {
        (0..1_000_000).take_while(|_| restraint.allows(now, host, 1200)).count() as u64 * 1200
    }

    #[test]
    fn a_host_that_never_answers_gets_so_much_and_then_a_trickle() {
        let (mut restraint, now, host) = (Restraint::default(), now(), IpAddr::from([198, 51, 100, 1]));
        assert!(UNANSWERED_BYTES - spend(&mut restraint, now, host) < 1200);
        let later = spend(&mut restraint, now + Duration::from_secs(60), host);
        assert!((60 * REFILL - 2400..=60 * REFILL + 1200).contains(&later), "{later}");
    }

    #[test]
    fn one_that_answers_is_not_counted_and_does_not_answer_for_others() {
        let (mut restraint, now) = (Restraint::default(), now());
        let [one, other] = [1, 2].map(|n| IpAddr::from([198, 51, 100, n]));
        spend(&mut restraint, now, one);
        spend(&mut restraint, now, other);
        restraint.on_answer(one);
        assert!(restraint.allows(now, one, 1200) && !restraint.allows(now, other, 1200));
    }

    #[test]
    fn more_hosts_than_can_be_kept_in_mind_are_left_alone() {
        let (mut restraint, now) = (Restraint::default(), now());
        let host = |n: usize| IpAddr::from((n as u32).to_be_bytes());
        assert!((0..MAX_HOSTS).all(|n| restraint.allows(now, host(n), 1200)));
        assert!(!restraint.allows(now, host(MAX_HOSTS), 1200));
        assert!(restraint.allows(now + Duration::from_secs(1), host(MAX_HOSTS), 1200));
    }
}
