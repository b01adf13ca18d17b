//! Switchboard: an MQTT 3.1.1 and 5 broker with a desk that brings customers' conversations to agent groups.

pub mod config;
pub mod desk;
pub mod http;
pub mod metrics;
pub mod protocol;
pub mod telemetry;
pub mod topic;
