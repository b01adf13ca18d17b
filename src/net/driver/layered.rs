//! Reading from connections that speak more than MQTT.

use super::super::socket::{Layer, Then};
use super::Driver;
use crate::metrics::CloseReason;
use crate::session::Phase;
use crate::shard::Close;
use crate::shard::clients::Client;

impl Driver {
    /// Gives the core what the first bytes of the buffer say in MQTT.
    pub(super) fn peel(&mut self, key: u32, count: usize) {
        // What comes behind a good-bye is read away.
        let closing = |client: &Client| client.link.phase == Phase::Closing;
        if self.core.clients.connections.get(key as usize).is_none_or(closing) {
            return;
        }
        let Some(socket) = self.sockets.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let (Some(layers), Some(bytes)) = (&mut socket.layers, self.buffer.get_mut(..count)) else { return };
        let then = layers.receive(bytes, &mut socket.stream, &mut self.scratch);
        if socket.unsent() > 0
            && let Some(client) = self.core.clients.connections.get_mut(key as usize)
        {
            client.blocked = true;
        }
        let mqtt = std::mem::take(&mut self.scratch.mqtt);
        if !mqtt.is_empty() {
            self.core.receive(key, &mqtt);
        }
        self.scratch.mqtt = mqtt;
        let reason = match then {
            Then::GoOn => return,
            Then::Ended => CloseReason::ClientGone,
            Then::Broken(Layer::Proxy) => CloseReason::ProxyHeader,
            Then::Broken(Layer::Tls) => CloseReason::Tls,
            Then::Broken(Layer::WebSocket) => CloseReason::WebSocket,
        };
        if self.core.effects.hand_over.iter().any(|moving| moving.connection == key) {
            return self.end_of_input(key);
        }
        self.core.hang_up(key, reason);
        self.core.effects.close.push(Close { connection: key, linger: true });
    }

    /// A connection is on its way to another shard, and nothing more comes: that is read there.
    fn end_of_input(&mut self, key: u32) {
        let socket = self.sockets.get_mut(key as usize).and_then(Option::as_mut);
        if socket.is_none_or(|socket| socket.stream.shutdown(std::net::Shutdown::Read).is_err()) {
            self.gone(key, CloseReason::SocketError);
        }
    }
}
