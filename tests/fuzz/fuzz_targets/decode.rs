//! Any bytes as a stream of packets, in every version.
#![no_main]

#[path = "../checks/decode.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::decode_stream(data));
