//! Switchboard: an MQTT 3.1.1 and 5 broker with a desk that brings customers' conversations to agent groups.

pub mod auth;
pub mod clock;
pub mod config;
pub mod desk;
pub mod http;
pub mod message;
pub mod metrics;
pub mod net;
pub mod protocol;
mod server;
pub mod session;
pub mod shard;
pub mod snappy;
mod spelling;
pub mod store;
pub mod sys;
pub mod telemetry;
pub mod topic;

pub use server::{Server, StartError};
