//! Measures an MQTT broker.
fn main() {}
