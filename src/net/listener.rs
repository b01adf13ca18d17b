//! Listening sockets: one for each shard, all on the same address, so that the kernel spreads the connections.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::settings::ListenerSettings;

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listener {name}: cannot listen on {address}: {source}")]
pub struct BindError {
    /// Name in the configuration.
    pub name: String,
    /// Address that was asked for.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

/// One listener's sockets.
#[derive(Debug)]
pub struct Bound {
    /// Name in the configuration.
    pub name: String,
    /// Address with the port that the system chose, if 0 was asked for.
    pub address: SocketAddr,
    /// A socket for each shard.
    pub sockets: Vec<TcpListener>,
}

/// Opens a listener for `shards` shards.
pub fn bind(settings: &ListenerSettings, shards: usize) -> Result<Bound, BindError> {
    let error = |source| BindError { name: settings.name.clone(), address: settings.bind, source };
    let mut address = settings.bind;
    // With SO_REUSEPORT a second broker would silently take half of the first one's clients.
    if address.port() != 0 {
        probe(address).map_err(error)?;
    }
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = open(address, settings.accept_backlog).map_err(error)?;
        address = socket.local_addr().map_err(error)?;
        sockets.push(socket);
    }
    Ok(Bound { name: settings.name.clone(), address, sockets })
}

/// Fails if somebody listens on the address already.
fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

fn open(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it on Linux, which saves a call for each of them.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_second_listener_on_the_address_is_refused() {
        let mut settings = ListenerSettings {
            name: "tcp".into(),
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..ListenerSettings::default()
        };
        let first = bind(&settings, 2).unwrap();
        assert_eq!(first.sockets.len(), 2);
        settings.bind = first.address;
        assert_eq!(bind(&settings, 1).unwrap_err().source.kind(), io::ErrorKind::AddrInUse);
    }
}
