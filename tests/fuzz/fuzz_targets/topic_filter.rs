//! Any text as a topic filter and a topic name.
#![no_main]

#[path = "../checks/topic_filter.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::filter_and_name(data));
