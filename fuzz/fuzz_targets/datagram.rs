//! The small binary datagrams.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| direc_core::fuzzing::datagram(data));
