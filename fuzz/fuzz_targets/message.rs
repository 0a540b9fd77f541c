//! CBOR messages, alone and framed in a stream that is cut anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| direc_core::fuzzing::message(data));
