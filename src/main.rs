//! The switchboard program.
use std::sync::Arc;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, reason = "stopgap")]
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut s = switchboard::config::settings::Settings::default();
    s.listeners[0].bind = args[1].parse().unwrap();
    s.http = None;
    s.shards = args[2].parse().unwrap();
    let routing =
        switchboard::desk::Routing::parse(&std::fs::read_to_string("conf/routing.toml").unwrap(), "r")
            .unwrap();
    let server = switchboard::Server::start(s, Some(Arc::new(routing))).unwrap();
    eprintln!("{:?}", server.addresses());
    loop {
        std::thread::park();
    }
}
