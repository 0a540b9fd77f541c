//! A relay among two peers and two parties without manners.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| direc_fuzz::relay(data));
