//! The oracle against the tables in the design and against what is known of each kind.

use super::*;
use crate::nat::{SINGLE, stack};

fn says(one: &str, other: &str) -> Verdict {
    let [a, b] = [one, other].map(|name| stack(name).unwrap());
    assert_eq!(verdict(&a, &b), verdict(&b, &a), "{one} × {other}: the order makes no difference");
    verdict(&a, &b)
}

#[test]
fn the_oracle_says_what_the_table_in_the_design_says() {
    use Verdict::{Clash, Direct, Guess, Predict, Relayed};
    for (one, other, expected) in [
        ("easy", "easy", Direct),
        ("easy", "eim-eif-x", Direct),
        ("eim-adf", "sym", Direct),
        ("eim-eif", "double-sym", Direct),
        ("adm-eif", "apdm-adf-x", Direct),
        ("clash", "easy", Clash),
        ("clash", "clash", Clash),
        ("ban", "double", Clash),
        ("eim-adf+clash", "sym", Clash),
        ("eim-eif+clash", "easy", Direct),
        ("easy+clash/easy", "easy", Direct),
        ("easy+clash/eim-eif-x", "easy", Clash),
        ("easy", "sym-seq", Predict),
        ("easy", "sym-seq-busy", Predict),
        ("clash", "sym-seq", Predict),
        ("easy", "cgn-block", Predict),
        ("easy/cgn-block", "double", Predict),
        ("sym-seq", "sym-seq", Predict),
        ("sym-seq", "cgn-block", Relayed),
        ("cgn-block", "cgn-block", Relayed),
        ("adm-apdf-x", "apdm-eif-x", Guess),
        ("adm-apdf-x", "apdm-adf-x", Guess),
        ("easy", "sym", Guess),
        ("easy", "apdm-eif-x", Guess),
        ("easy", "parity", Guess),
        ("easy", "pf", Guess),
        ("easy", "overload", Direct),
        ("ban", "sym", Relayed),
        ("ban", "sym-seq", Relayed),
        ("easy", "sym-seq+arbitrary", Guess),
        ("eim-adf", "sym+arbitrary", Guess),
        ("eim-eif", "sym+arbitrary", Direct),
        ("eim-adf", "sym+paired", Direct),
        ("easy", "eim-apdf-x+arbitrary", Direct),
        ("sym", "sym", Relayed),
        ("sym", "sym-seq", Relayed),
        ("none", "udp-blocked", Relayed),
        ("sym", "sym+fw6", Relayed),
        ("sym+fw6", "sym+fw6", Direct),
        ("nat64+fw6", "sym+v6", Direct),
        ("sym+nat64", "sym+fw6", Relayed),
        ("udp-blocked+fw6", "easy+fw6", Relayed),
        ("udp-443-only", "easy", Relayed),
    ] {
        assert_eq!(says(one, other), expected, "{one} × {other}");
    }
}

#[test]
fn nothing_in_front_reaches_everybody_whom_udp_reaches() {
    for name in SINGLE {
        let boxes = stack(name).unwrap();
        let expected = match () {
            () if boxes.iter().any(NatConfig::blocks_udp) => Verdict::Relayed,
            () if ["clash", "ban"].contains(&name) => Verdict::Clash,
            () => Verdict::Direct,
        };
        assert_eq!(says(name, "none"), expected, "{name}");
    }
}

#[test]
fn one_more_box_never_makes_it_easier() {
    let names: Vec<&str> = SINGLE.into_iter().chain(["eim-adf", "adm-apdf", "adm-eif-x", "apdm-adf-seq"]).collect();
    for one in &names {
        for carrier in ["easy", "eim-eif-x", "sym", "cgn-block", "sym-seq"] {
            for other in &names {
                let (bare, stacked) = (says(one, other), says(&format!("{one}/{carrier}"), other));
                // A box in front may keep early packets off one that minds them: that alone makes it easier.
                let shielded = ["clash", "ban"].iter().any(|name| one == name);
                assert!(stacked >= bare || shielded, "{one}/{carrier} × {other}: {bare:?} {stacked:?}");
            }
        }
    }
}

#[test]
fn two_behind_one_box_meet_inside_or_where_it_turns_packets_back() {
    use Verdict::{Direct, Relayed};
    for (home, shared, expected) in [
        ("none", "easy", Direct),
        ("none", "sym", Direct),
        ("none", "easy+isolate", Relayed),
        ("none", "easy+isolate+hairpin", Direct),
        ("none", "eim-eif-x+isolate+hairpin-internal", Relayed),
        ("eim-eif", "eim-apdf-x+hairpin-internal", Direct),
        ("easy", "easy", Relayed),
        ("easy", "eim-apdf-x+hairpin", Direct),
        ("easy", "eim-apdf-x+hairpin-internal", Relayed),
        ("easy", "sym+hairpin", Relayed),
        ("udp-blocked", "easy+hairpin", Relayed),
        ("none", "sym+isolate+hairpin", Relayed),
        ("none", "adm-apdf-x+isolate+hairpin", Direct),
    ] {
        let (home, shared) = (stack(home).unwrap(), stack(shared).unwrap());
        let verdict = verdict_behind(&home, &home, &shared, home.is_empty());
        assert_eq!(verdict, expected, "{home:?} behind {shared:?}");
    }
}
