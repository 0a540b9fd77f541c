//! IPv4 addresses as hosts without IPv4 reach them, through a NAT64 (RFC 6052, RFC 6146).

use std::net::{Ipv4Addr, Ipv6Addr};

/// The octet that no IPv4 address may cover (RFC 6052, section 2.2).
const RESERVED: usize = 8;
/// The addresses of `ipv4only.arpa` (RFC 7050, section 2.2).
const KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// Lengths that a prefix may have, in octets, the usual one first.
const LENGTHS: [usize; 6] = [12, 4, 5, 6, 7, 8];

/// What a NAT64 makes of IPv4 addresses: the prefix of the IPv6 addresses behind which it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64Prefix {
    octets: [u8; 16],
    /// In octets.
    length: usize,
}

impl Nat64Prefix {
    /// `64:ff9b::/96`, which needs not be found out.
    pub const WELL_KNOWN: Self = Self { octets: [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], length: 12 };

    /// A network's own prefix, its length in bits. `None` unless that is 32, 40, 48, 56, 64 or 96, and all bits beyond it
    /// and the reserved octet are 0.
    pub fn new(prefix: Ipv6Addr, bits: u8) -> Option<Self> {
        let (octets, length) = (prefix.octets(), usize::from(bits / 8));
        let fits = bits.is_multiple_of(8) && LENGTHS.contains(&length) && octets[RESERVED] == 0;
        (fits && octets.iter().skip(length).all(|octet| *octet == 0)).then_some(Self { octets, length })
    }

    /// The prefix that has made this answer of a DNS64 to a question for `ipv4only.arpa` (RFC 7050, section 3).
    pub fn discovered(answer: Ipv6Addr) -> Option<Self> {
        LENGTHS.into_iter().find_map(|length| {
            let mut octets = answer.octets();
            octets.iter_mut().skip(length).for_each(|octet| *octet = 0);
            let prefix = Self { octets, length };
            (octets[RESERVED] == 0 && prefix.extract(answer).is_some_and(|ip| KNOWN.contains(&ip))).then_some(prefix)
        })
    }

    /// Where the octets of an IPv4 address go.
    fn places(self) -> impl Iterator<Item = usize> {
        (self.length..16).filter(|place| *place != RESERVED).take(4)
    }

    /// The address at which the NAT64 has `ip`.
    pub fn embed(self, ip: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.octets;
        for (place, octet) in self.places().zip(ip.octets()) {
            octets[place] = octet;
        }
        octets.into()
    }

    /// The IPv4 address that the NAT64 has at `ip`; `None` if it has none there.
    pub fn extract(self, ip: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = ip.octets();
        let mut inner = [0; 4];
        for (octet, place) in inner.iter_mut().zip(self.places()) {
            *octet = octets[place];
        }
        let inner = Ipv4Addr::from(inner);
        (self.embed(inner) == ip).then_some(inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 33);

    #[test]
    fn addresses_are_embedded_as_in_the_rfcs_table() {
        for (prefix, bits, embedded) in [
            ("2001:db8::", 32, "2001:db8:c000:221::"),
            ("2001:db8:100::", 40, "2001:db8:1c0:2:21::"),
            ("2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::", 96, "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::", 96, "64:ff9b::192.0.2.33"),
        ] {
            let found = Nat64Prefix::new(prefix.parse().unwrap(), bits).unwrap();
            assert_eq!(found.embed(IP), embedded.parse::<Ipv6Addr>().unwrap(), "{prefix}/{bits}");
            assert_eq!(found.extract(embedded.parse().unwrap()), Some(IP));
        }
        assert_eq!(Nat64Prefix::new("64:ff9b::".parse().unwrap(), 96), Some(Nat64Prefix::WELL_KNOWN));
    }

    #[test]
    fn what_is_no_prefix_is_refused_and_what_is_outside_is_nobodys() {
        for (prefix, bits) in [
            ("2001:db8::", 33),
            ("2001:db8::", 72),
            ("2001:db8::", 128),
            ("2001:db8::1", 96),
            ("2001:db8::100:0:0:0", 96),
        ] {
            assert_eq!(Nat64Prefix::new(prefix.parse().unwrap(), bits), None, "{prefix}/{bits}");
        }
        assert_eq!(Nat64Prefix::WELL_KNOWN.extract("64:ff9b:1::c000:221".parse().unwrap()), None);
        assert_eq!(Nat64Prefix::discovered("2001:db8::1".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn any_prefix_is_discovered_by_its_answer_and_gives_back_what_it_embeds(
            octets in any::<[u8; 16]>(), at in 0..LENGTHS.len(), ip in any::<[u8; 4]>(),
        ) {
            let mut octets = octets;
            let length = LENGTHS[at];
            octets[RESERVED] = 0;
            octets[length..].fill(0);
            let prefix = Nat64Prefix::new(octets.into(), length as u8 * 8).unwrap();
            prop_assert_eq!(prefix.extract(prefix.embed(ip.into())), Some(ip.into()));
            // An answer may fit several lengths where the address is in the prefix too: whichever is found made it.
            let found = Nat64Prefix::discovered(prefix.embed(KNOWN[0])).unwrap();
            prop_assert_eq!(found.embed(KNOWN[0]), prefix.embed(KNOWN[0]));
        }
    }
}
