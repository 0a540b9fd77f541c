//! Places for connections: so many in total, so many for one address, each free again when dropped.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    rc::Rc,
};

/// Who has how many connections.
#[derive(Clone)]
pub(super) struct Places {
    taken: Rc<RefCell<Taken>>,
    total: usize,
    per_address: usize,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

impl Places {
    /// So many in total, and so many for one address, or for one /64.
    pub(super) fn new(total: usize, per_address: usize) -> Self {
        Self { taken: Rc::default(), total, per_address }
    }

    /// A place, unless there is none left.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut taken = self.taken.borrow_mut();
        let here = taken.by_address.get(&network).copied().unwrap_or(0);
        if taken.total >= self.total || here >= self.per_address {
            return None;
        }
        taken.total += 1;
        taken.by_address.insert(network, here + 1);
        Some(Place { taken: self.taken.clone(), network })
    }
}

/// A connection's place among all, free again when dropped.
pub(super) struct Place {
    taken: Rc<RefCell<Taken>>,
    network: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.borrow_mut();
        taken.total -= 1;
        match taken.by_address.get_mut(&self.network) {
            Some(here) if *here > 1 => *here -= 1,
            _ => {
                taken.by_address.remove(&self.network);
            }
        }
    }
}

/// An IPv6 host has all addresses of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_of_the_places_and_gets_them_back() {
        let counts = Places::new(9, 8);
        let mut places: Vec<_> =
            (0..8).map(|n| counts.enter(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, n, 0, 0, 1).into())).collect();
        assert!(places.iter().all(Option::is_some));
        let again = || counts.enter("2001:db8::7".parse().unwrap());
        assert!(again().is_none(), "all of one /64");
        let ninth = counts.enter("2001:db8:0:1::7".parse().unwrap());
        assert!(ninth.is_some());
        assert!(counts.enter("192.0.2.1".parse().unwrap()).is_none(), "nine in total");
        drop(ninth);
        places.pop();
        assert!(again().is_some());
        drop(places);
        assert!(counts.taken.borrow().by_address.is_empty());
        assert_eq!(counts.taken.borrow().total, 0);
    }
}
