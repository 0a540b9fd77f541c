//! What RFC 4787 asks of NATs, told as stories; and what the others do.

use super::*;
use crate::rng::{Purpose, Rng};
use std::net::SocketAddr;

const SECOND: Duration = Duration::from_secs(1);
const HOME: &str = "192.168.1.10:4000";
const RELAY: &str = "9.9.9.9:4433";
const RELAY_PUNCH: &str = "9.9.9.9:3478";
const FRIEND: &str = "8.8.8.8:5000";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct Story {
    nat: Nat,
    now: Duration,
}

fn behind(name: &str) -> Story {
    let config = stack(name).unwrap().remove(0);
    Story { nat: Nat::new(config, "7.7.7.7".parse().unwrap(), Rng::new(1, Purpose::Nat)), now: SECOND }
}

impl Story {
    fn out(&mut self, from: &str, to: &str) -> SocketAddr {
        self.nat.outbound(self.now, addr(from), addr(to)).unwrap()
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
    let mut story = behind("easy");
    let first = story.out(HOME, RELAY);
    assert_eq!(first, addr("7.7.7.7:4000"), "preserved");
    let second = story.out("192.168.1.11:4000", RELAY);
    assert_ne!(second, first, "taken, so another");
    assert_eq!(story.back(RELAY, second), Ok(addr("192.168.1.11:4000")));
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
    story.later(119);
    assert!(story.back(RELAY, seen).is_ok());
    story.later(121);
    assert_eq!(story.back(RELAY, seen), Err(NatDrop::NoMapping));
}

#[test]
fn req_6_outbound_packets_refresh_and_inbound_ones_may() {
    for (inbound_refresh, expected) in [(true, true), (false, false)] {
        let mut story = behind("short-timeout");
        story.nat.config.inbound_refresh = inbound_refresh;
        let seen = story.out(HOME, RELAY);
        story.later(8);
        story.out(HOME, RELAY);
        story.later(8);
        assert!(story.back(RELAY, seen).is_ok(), "refreshed by the way out");
        story.later(8);
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
    story.later(8);
    story.out(HOME, RELAY);
    story.later(5);
    assert_eq!(story.back(FRIEND, seen), Err(NatDrop::Filtered));
    assert!(story.back(RELAY, seen).is_ok());
}

#[test]
fn req_9_is_not_met_hairpinning_is_off() {
    let mut story = behind("eim-eif");
    let seen = story.out(HOME, RELAY);
    let other = addr("192.168.1.11:4000");
    assert_eq!(story.nat.outbound(story.now, other, seen), Err(NatDrop::Hairpin));
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
fn where_udp_is_blocked_nothing_goes_out() {
    let mut story = behind("udp-blocked");
    assert_eq!(story.nat.outbound(story.now, addr(HOME), addr(RELAY)), Err(NatDrop::Blocked));
}

#[test]
fn every_combination_has_a_name_and_other_names_are_refused() {
    for mapping in ["eim", "adm", "apdm"] {
        for filtering in ["eif", "adf", "apdf"] {
            for suffix in ["", "-x"] {
                let name = format!("{mapping}-{filtering}{suffix}");
                assert_eq!(stack(&name).map(|s| s.len()), Some(1), "{name}");
            }
        }
    }
    assert_eq!(stack("none"), Some(vec![]));
    assert_eq!(stack("double-eim").map(|s| s.len()), Some(2));
    for wrong in ["", "eim", "eim-", "easy/", "eim-eif-y", "Easy"] {
        assert_eq!(stack(wrong), None, "{wrong:?}");
    }
}

#[test]
fn hostile_use_stays_bounded() {
    let mut story = behind("sym");
    let mut refused = 0;
    for n in 0..9000_u32 {
        let to = SocketAddr::new(std::net::Ipv4Addr::from(0x0a00_0000 + n).into(), 1);
        refused += u32::from(story.nat.outbound(story.now, addr(HOME), to).is_err());
    }
    assert_eq!(refused, 9000 - 8192);
    story.later(200);
    story.out(HOME, RELAY);
}
