//! The broker that a dialogue is held with.
//!
//! `SWITCHBOARD_TEST_ADDR=host:port` names another one, for example mosquitto, to try the tests themselves.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;

/// A running broker.
#[derive(Clone, Copy, Debug)]
pub struct Broker {
    pub addr: SocketAddr,
    /// Not Switchboard: what only Switchboard promises is not asked of it.
    pub foreign: bool,
}

/// The broker that all tests of one test program share; started by the first that asks.
pub fn broker() -> Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    *BROKER.get_or_init(|| named_by_environment().unwrap_or_else(in_process))
}

fn named_by_environment() -> Option<Broker> {
    let name = std::env::var("SWITCHBOARD_TEST_ADDR").ok()?;
    let addr = name
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .unwrap_or_else(|| panic!("SWITCHBOARD_TEST_ADDR={name} is no address"));
    Some(Broker { addr, foreign: true })
}

/// Starts Switchboard on port 0 inside this process; it lives as long as the process.
fn in_process() -> Broker {
    panic!("this build has no in-process broker: name one in SWITCHBOARD_TEST_ADDR")
}
