//! What RFC 4787 asks of NATs, told as stories; and what the others do.

use super::*;
use crate::rng::{Purpose, Rng};
use std::net::{IpAddr, SocketAddr};

const SECOND: Duration = Duration::from_secs(1);
const HOME: &str = "192.168.1.10:4000";
const RELAY: &str = "9.9.9.9:4433";
const RELAY_PUNCH: &str = "9.9.9.9:3478";
const FRIEND: &str = "8.8.8.8:5000";
const BROTHER: &str = "192.168.1.11:4000";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct Story {
    nat: Nat,
    now: Duration,
}

fn behind(name: &str) -> Story {
    let config = stack(name).unwrap().remove(0);
    let externals = (1..=Nat::addresses(&config)).map(|n| IpAddr::from([7, 7, 7, n])).collect();
    Story { nat: Nat::new(config, externals, Rng::new(1, Purpose::Nat)), now: SECOND }
}

impl Story {
    fn out(&mut self, from: &str, to: &str) -> SocketAddr {
        match self.try_out(from, to) {
            Ok(Passage::Out(seen)) => seen,
            other => panic!("{other:?}"),
        }
    }

    fn try_out(&mut self, from: &str, to: &str) -> Result<Passage, NatDrop> {
        self.nat.outbound(self.now, addr(from), addr(to))
    }

    fn back(&mut self, from: &str, to: SocketAddr) -> Result<SocketAddr, NatDrop> {
        self.nat.inbound(self.now, addr(from), to)
    }

    fn later(&mut self, seconds: u32) {
        self.now += SECOND * seconds;
    }
}

#[test]
fn req_1_an_endpoint_independent_mapping_is_the_same_for_everyone() {
    for name in ["easy", "eim-eif-x", "eim-adf"] {
        let mut story = behind(name);
        let seen = story.out(HOME, RELAY);
        assert_eq!(story.out(HOME, FRIEND), seen, "{name}");
        assert_eq!(story.back(RELAY, seen), Ok(addr(HOME)), "{name}");
    }
}

#[test]
fn an_address_dependent_mapping_differs_by_address_but_not_by_port() {
    let mut story = behind("adm-apdf");
    let seen = story.out(HOME, RELAY);
    assert_eq!(story.out(HOME, RELAY_PUNCH), seen);
    assert_ne!(story.out(HOME, FRIEND), seen);
}

#[test]
fn a_symmetric_nat_gives_each_endpoint_another_port() {
    let mut story = behind("sym");
    let seen = story.out(HOME, RELAY);
    let punched = story.out(HOME, RELAY_PUNCH);
    assert_ne!(punched, seen);
    assert_eq!(story.out(HOME, RELAY), seen, "and sticks to it");
    assert_eq!(story.back(RELAY_PUNCH, seen), Err(NatDrop::Filtered));
}

#[test]
fn req_3_two_hosts_never_share_a_port() {
    for name in ["eim-apdf-x", "adm-apdf", "eim-eif-parity", "sym-seq", "cgn-block"] {
        let mut story = behind(name);
        let seen: Vec<_> = [HOME, BROTHER].iter().map(|from| story.out(from, RELAY)).collect();
        assert_ne!(seen[0], seen[1], "{name}");
        assert_eq!(story.back(RELAY, seen[1]), Ok(addr(BROTHER)), "{name}");
    }
}

#[test]
fn where_ports_are_overloaded_two_hosts_share_one_as_long_as_they_talk_to_others() {
    let mut story = behind("easy");
    let first = story.out(HOME, RELAY);
    assert_eq!(first, addr("7.7.7.1:4000"), "preserved");
    assert_eq!(story.out(BROTHER, FRIEND), first, "shared");
    assert_eq!((story.back(RELAY, first), story.back(FRIEND, first)), (Ok(addr(HOME)), Ok(addr(BROTHER))));
    let second = story.out(BROTHER, RELAY);
    assert_ne!(second, first, "taken for this remote endpoint, so another");
    assert_eq!(story.back(RELAY, second), Ok(addr(BROTHER)));
}

#[test]
fn random_ports_are_not_preserved_and_not_well_known() {
    let mut story = behind("eim-apdf-x");
    let seen = story.out(HOME, RELAY);
    assert!(seen.port() != 4000 && seen.port() >= 1024);
}

#[test]
fn req_5_a_mapping_lives_for_its_timeout_and_no_longer() {
    let mut story = behind("easy");
    let seen = story.out(HOME, RELAY);
    story.later(29);
    assert!(story.back(RELAY, seen).is_ok());
    story.later(29);
    assert!(story.back(RELAY, seen).is_ok(), "the answer itself made it no stream, the packet after it does");
    story.later(119);
    assert!(story.back(RELAY, seen).is_ok(), "a stream is remembered longer");
    story.later(121);
    assert_eq!(story.back(RELAY, seen), Err(NatDrop::NoMapping));
}

#[test]
fn a_short_exchange_is_no_stream() {
    let mut story = behind("easy");
    let seen = story.out(HOME, RELAY);
    assert!(story.back(RELAY, seen).is_ok());
    story.later(1);
    story.out(HOME, RELAY);
    story.later(31);
    assert_eq!(story.back(RELAY, seen), Err(NatDrop::NoMapping));
}

#[test]
fn req_6_outbound_packets_refresh_and_inbound_ones_may() {
    for (inbound_refresh, expected) in [(true, true), (false, false)] {
        let mut story = behind("short-timeout");
        story.nat.config.inbound_refresh = inbound_refresh;
        let seen = story.out(HOME, RELAY);
        story.later(4);
        story.out(HOME, RELAY);
        story.later(4);
        assert!(story.back(RELAY, seen).is_ok(), "refreshed by the way out");
        story.later(4);
        assert_eq!(story.back(RELAY, seen).is_ok(), expected, "refreshed by the way in");
    }
}

#[test]
fn req_8_filtering_is_one_of_three() {
    for (name, relay_port_2, stranger) in [("eim-eif", true, true), ("eim-adf", true, false), ("easy", false, false)] {
        let mut story = behind(name);
        let seen = story.out(HOME, RELAY);
        assert!(story.back(RELAY, seen).is_ok());
        assert_eq!(story.back(RELAY_PUNCH, seen).is_ok(), relay_port_2, "{name}");
        assert_eq!(story.back(FRIEND, seen).is_ok(), stranger, "{name}");
    }
}

#[test]
fn the_hole_to_one_remote_closes_while_another_stays_open() {
    let mut story = behind("short-timeout");
    let seen = story.out(HOME, FRIEND);
    story.later(3);
    story.out(HOME, RELAY);
    story.later(3);
    assert_eq!(story.back(FRIEND, seen), Err(NatDrop::Filtered));
    assert!(story.back(RELAY, seen).is_ok());
}

#[test]
fn req_9_hairpinning_is_done_with_the_external_source_or_the_internal_one_or_not_at_all() {
    for (name, expected) in [
        ("easy", None),
        ("eim-eif-x", None),
        ("easy+hairpin", Some("7.7.7.1:4001")),
        ("easy+hairpin-internal", Some("192.168.1.11:4001")),
    ] {
        let mut story = behind(name);
        let seen = story.out(HOME, RELAY);
        let turned = story.try_out("192.168.1.11:4001", &seen.to_string());
        let expected = match expected {
            Some(src) => Ok(Passage::Back { src: addr(src), dst: addr(HOME) }),
            None => Err(NatDrop::Hairpin),
        };
        assert_eq!(turned, expected, "{name}");
    }
}

#[test]
fn a_hairpinned_packet_is_answered_the_same_way() {
    let mut story = behind("eim-apdf-x+hairpin");
    let (one, other) = (story.out(HOME, RELAY), story.out(BROTHER, RELAY));
    assert_eq!(story.try_out(HOME, &other.to_string()), Ok(Passage::Back { src: one, dst: addr(BROTHER) }));
    assert_eq!(story.try_out(BROTHER, &one.to_string()), Ok(Passage::Back { src: other, dst: addr(HOME) }));
}

#[test]
fn a_firewall_filters_and_does_not_translate() {
    let mut story = behind("fw");
    assert_eq!(story.back(FRIEND, addr("5.5.5.5:4000")), Err(NatDrop::NoMapping));
    assert_eq!(story.out("5.5.5.5:4000", FRIEND), addr("5.5.5.5:4000"));
    assert!(story.back(FRIEND, addr("5.5.5.5:4000")).is_ok());
    assert_eq!(story.back(RELAY, addr("5.5.5.5:4000")), Err(NatDrop::Filtered));
}

#[test]
fn after_a_reboot_nothing_is_remembered() {
    let mut story = behind("eim-eif-x");
    let seen = story.out(HOME, RELAY);
    story.nat.reboot();
    assert_eq!(story.back(RELAY, seen), Err(NatDrop::NoMapping));
    assert_ne!(story.out(HOME, RELAY), seen);
}

#[test]
fn where_the_router_takes_the_early_packet_the_punch_gets_another_port() {
    let mut story = behind("clash");
    let seen = story.out(HOME, RELAY);
    assert!(story.back(FRIEND, seen).is_err());
    let punch = story.out(HOME, FRIEND);
    assert_ne!(punch, seen, "the clash");
    assert_eq!(story.out(HOME, FRIEND), punch, "and it is sticky");
    assert_eq!(story.out(HOME, RELAY), seen, "others are not affected");
}

#[test]
fn where_the_punch_is_first_there_is_no_clash() {
    let mut story = behind("clash");
    let seen = story.out(HOME, RELAY);
    assert_eq!(story.out(HOME, FRIEND), seen);
    assert!(story.back(FRIEND, seen).is_ok());
    assert_eq!(story.out(HOME, FRIEND), seen);
}

#[test]
fn the_clash_lasts_as_long_as_packets_keep_coming_and_31_s_more() {
    let mut story = behind("clash");
    let seen = story.out(HOME, RELAY);
    for _ in 0..10 {
        assert!(story.back(FRIEND, seen).is_err());
        story.later(20);
        story.out(HOME, RELAY);
    }
    story.later(9);
    assert_ne!(story.out(HOME, FRIEND), seen);
    let mut story = behind("clash");
    let seen = story.out(HOME, RELAY);
    assert!(story.back(FRIEND, seen).is_err());
    story.later(31);
    assert_eq!(story.out(HOME, FRIEND), seen);
}

#[test]
fn after_a_clash_new_remote_endpoints_see_the_new_port_too() {
    let mut story = behind("clash");
    let seen = story.out(HOME, RELAY);
    assert!(story.back(FRIEND, seen).is_err());
    let punch = story.out(HOME, FRIEND);
    assert_eq!(story.out(HOME, RELAY_PUNCH), punch, "Linux asks the newest mapping first");
}

#[test]
fn who_comes_too_early_is_shut_out_even_when_he_is_asked_for() {
    let mut story = behind("ban");
    let seen = story.out(HOME, RELAY);
    assert_eq!(story.back(FRIEND, seen), Err(NatDrop::Filtered));
    assert_eq!(story.out(HOME, FRIEND), seen, "the way out is open");
    story.later(9);
    assert_eq!(story.back(FRIEND, seen), Err(NatDrop::Banned));
    assert_eq!(story.back(RELAY, seen), Ok(addr(HOME)), "others are not affected");
    story.later(1);
    assert_eq!(story.back(FRIEND, seen), Ok(addr(HOME)), "what comes meanwhile makes the ban no longer");
}

#[test]
fn where_udp_is_blocked_only_some_ports_are_open() {
    for (name, open) in [("udp-blocked", &[53][..]), ("udp-443-only", &[53, 443])] {
        let mut story = behind(name);
        for port in [53, 443, 4433] {
            let sent = story.try_out(HOME, &format!("9.9.9.9:{port}"));
            assert_eq!(sent.is_ok(), open.contains(&port), "{name} {port}");
        }
    }
}

#[test]
fn req_2_paired_pooling_gives_a_host_one_address_and_arbitrary_pooling_any() {
    for (name, expected) in [("sym+paired", 1), ("sym+arbitrary", 4)] {
        let mut story = behind(name);
        let seen: std::collections::BTreeSet<IpAddr> =
            (1..50).map(|port| story.out(HOME, &format!("9.9.9.9:{port}")).ip()).collect();
        assert_eq!(seen.len(), expected, "{name}");
    }
}

#[test]
fn a_limit_on_new_flows_lets_a_burst_through_and_then_so_many_a_second() {
    let mut story = behind("sym+limit");
    let allowed = |story: &mut Story, first: u16| {
        (first..first + 200).filter(|port| story.try_out(HOME, &format!("9.9.9.9:{port}")).is_ok()).count()
    };
    assert_eq!(allowed(&mut story, 1), 50);
    assert_eq!(story.try_out(HOME, "9.9.9.9:300"), Err(NatDrop::Limited));
    assert!(story.try_out(HOME, "9.9.9.9:1").is_ok(), "old flows go on");
    story.later(2);
    assert_eq!(allowed(&mut story, 400), 50);
}

#[test]
fn hostile_use_stays_bounded() {
    let mut story = behind("sym");
    let mut refused = 0;
    for n in 0..70_000_u32 {
        let to = SocketAddr::new(std::net::Ipv4Addr::from(0x0a00_0000 + n).into(), 1);
        refused += u32::from(story.nat.outbound(story.now, addr(HOME), to).is_err());
    }
    assert_eq!(refused, 70_000 - 65_536);
    story.later(200);
    story.out(HOME, RELAY);
}
