//! At which of this machine's addresses others ask, so that they are answered from there.
//!
//! The system picks the address that leads to them by itself; but who asks at one address takes nothing from another, and
//! NATs and firewalls let nothing else in.

use std::{
    collections::HashMap,
    mem,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Remotes in one generation; there are two. Who has not been heard of for a whole generation is answered from where the
/// system likes.
const GENERATION: usize = 1 << 16;

/// The address at which each remote asked last.
#[derive(Default)]
pub(crate) struct Asked(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The only address there has been so far: as a rule there is no other, and nobody has to be remembered.
    only: Option<IpAddr>,
    several: bool,
    young: HashMap<SocketAddr, IpAddr>,
    old: HashMap<SocketAddr, IpAddr>,
}

impl Asked {
    /// Something has come from `remote` to `local`, both as the socket sees them.
    pub(super) fn note(&self, remote: SocketAddr, local: IpAddr) {
        let mut known = self.known();
        let only = *known.only.get_or_insert(local);
        known.several |= only != local;
        if !known.several {
            return;
        }
        if known.young.len() >= GENERATION && !known.young.contains_key(&remote) {
            known.old = mem::take(&mut known.young);
        }
        known.young.insert(remote, local);
    }

    /// Where to answer `remote` from; `None`: wherever the system likes.
    pub(super) fn of(&self, remote: SocketAddr) -> Option<IpAddr> {
        let known = self.known();
        // Whoever came before the second address did so to the first.
        let local = known.young.get(&remote).or_else(|| known.old.get(&remote)).copied().or(known.only);
        local.filter(|local| local.to_canonical().is_ipv4() == remote.ip().to_canonical().is_ipv4())
    }

    /// That address has gone: nothing can be sent from it.
    pub(super) fn forget(&self, gone: IpAddr) {
        let mut known = self.known();
        known.only.take_if(|only| *only == gone);
        known.young.retain(|_, local| *local != gone);
        known.old.retain(|_, local| *local != gone);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(number: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), 7)
    }

    #[test]
    fn each_is_answered_from_where_it_asked_last() {
        let asked = Asked::default();
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        assert_eq!(asked.of(remote(1)), None);
        asked.note(remote(1), one);
        asked.note(remote(2), two);
        assert_eq!((asked.of(remote(1)), asked.of(remote(2))), (Some(one), Some(two)));
        asked.note(remote(1), two);
        assert_eq!(asked.of(remote(1)), Some(two));
        assert_eq!(asked.of("[2001:db8::1]:7".parse().unwrap()), None, "of the other family");
        asked.forget(two);
        assert_eq!(asked.of(remote(2)), Some(one));
    }

    #[test]
    fn only_so_many_are_remembered_and_none_while_there_is_one_address() {
        let asked = Asked::default();
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        (0..1000).for_each(|number| asked.note(remote(number), one));
        assert!(asked.known().young.is_empty());
        (0..200_000).for_each(|number| asked.note(remote(number), two));
        let known = asked.known();
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
        assert_eq!(known.young.get(&remote(199_999)), Some(&two));
    }
}
