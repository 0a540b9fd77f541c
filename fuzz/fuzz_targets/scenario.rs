//! A whole scenario: peers, relays, all kinds of boxes and ways, calls, and what goes wrong.
#![no_main]

use direc_sim::scenario::complaint;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // One seed: the bytes alone are the scenario, and the command that replays it.
    if let Some(complaint) = complaint(data, 1) {
        panic!("{complaint}");
    }
});
