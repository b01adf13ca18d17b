//! The broker that a dialogue is held with.
//!
//! `SWITCHBOARD_TEST_ADDR=host:port` names another one, for example mosquitto, to try the tests themselves.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};

use switchboard::Server;
use switchboard::config::Settings;
use switchboard::desk::Routing;

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

/// Starts Switchboard with two shards on port 0 inside this process; it lives as long as the process.
fn in_process() -> Broker {
    let mut settings = Settings { shards: 2, http: None, ..Settings::default() };
    for listener in &mut settings.listeners {
        listener.bind = SocketAddr::from(([127, 0, 0, 1], 0));
    }
    let routing = std::fs::read_to_string("conf/routing.toml").expect("conf/routing.toml");
    let routing = Routing::parse(&routing, "conf/routing.toml").expect("the shipped rules are right");
    let server = Server::start(settings, Some(Arc::new(routing))).expect("the broker starts");
    let addr = server.addresses().first().expect("one listener").1;
    // Never dropped: the tests of a program end in any order.
    std::mem::forget(server);
    Broker { addr, foreign: false }
}
