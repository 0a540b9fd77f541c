//! A peer among a relay, another peer and the network's whims.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| direc_fuzz::peer(data));
