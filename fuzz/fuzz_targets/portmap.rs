//! A router's answers in PCP, NAT-PMP and UPnP-IGD.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| direc_core::fuzzing::portmap(data, std::time::Instant::now()));
