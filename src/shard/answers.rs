//! What a client is answered: at once, or when what the answer promises is durable.

use super::clients::{Client, Clients, mark};
use super::ledger::{After, Answer};
use super::outbuf::Pool;
use crate::metrics::Packet;
use crate::protocol::{AckKind, PacketId, ReasonCode, put_ack};
use crate::store::Sequence;

impl Clients {
    /// Appends a packet to a connection's output. `false`: it is larger than the client takes [MQTT-3.1.2-24].
    pub fn send(&mut self, connection: u32, packet: Packet, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let Some(client) = self.connections.get_mut(connection as usize) else { return true };
        let out = client.out.bytes(&mut self.pool);
        let before = out.len();
        encode(out);
        if out.len() - before > client.link.max_packet as usize {
            out.truncate(before);
            return false;
        }
        self.counters.packets_sent.bump(packet);
        mark(&mut self.dirty, connection, client);
        true
    }

    /// Appends a packet once a submission is durable. `false`: it is larger than the client takes.
    pub fn send_after(
        &mut self,
        connection: u32,
        after: Option<After>,
        packet: Packet,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(after) = after else { return self.send(connection, packet, encode) };
        let Some(client) = self.connections.get_mut(connection as usize) else { return true };
        let mut encoded = Vec::new();
        encode(&mut encoded);
        if encoded.len() > client.link.max_packet as usize {
            return false;
        }
        client.link.held += 1;
        self.ledger.hold(connection, Some(after), Answer::Packet(packet, encoded.into()));
        true
    }

    /// Sends an acknowledgement once a submission is durable, and behind all that wait already [MQTT-4.6.0-2].
    #[inline]
    pub fn answer(
        &mut self,
        connection: u32,
        after: Option<After>,
        kind: AckKind,
        id: PacketId,
        reason: ReasonCode,
    ) {
        let Some(client) = self.connections.get_mut(connection as usize) else { return };
        if after.is_none() && client.link.held == 0 {
            put_answer(client, &mut self.pool, kind, id, reason);
            self.counters.packets_sent.bump(Packet::of(kind.first_byte()));
            return mark(&mut self.dirty, connection, client);
        }
        client.link.held += 1;
        self.ledger.hold(connection, after, Answer::Ack(kind, id, reason));
    }

    /// Has a connection's output leave that was held back behind CONNACK.
    pub fn uncork(&mut self, connection: u32) {
        if let Some(client) = self.connections.get_mut(connection as usize) {
            client.corked = false;
            mark(&mut self.dirty, connection, client);
        }
    }

    /// Sends the answers that wait for nothing any more.
    pub fn release(&mut self, committed: Sequence) {
        while let Some((connection, answer)) = self.ledger.release(committed) {
            self.counters.answers_held += 1;
            if let Some(client) = self.connections.get_mut(connection as usize) {
                client.link.held = client.link.held.saturating_sub(1);
            }
            match answer {
                Answer::Ack(kind, id, reason) => self.send_ack(connection, kind, id, reason),
                Answer::Packet(packet, bytes) => {
                    self.send(connection, packet, |out| out.extend_from_slice(&bytes));
                }
                Answer::Everything => self.uncork(connection),
            }
        }
    }

    /// Sends an acknowledgement at once.
    #[inline]
    pub fn send_ack(&mut self, connection: u32, kind: AckKind, id: PacketId, reason: ReasonCode) {
        let Some(client) = self.connections.get_mut(connection as usize) else { return };
        put_answer(client, &mut self.pool, kind, id, reason);
        self.counters.packets_sent.bump(Packet::of(kind.first_byte()));
        mark(&mut self.dirty, connection, client);
    }
}

/// Appends an acknowledgement without properties; an MQTT 5 one says its reason if that is not success.
#[inline]
fn put_answer(client: &mut Client, pool: &mut Pool, kind: AckKind, id: PacketId, reason: ReasonCode) {
    let out = client.out.bytes(pool);
    if reason == ReasonCode::SUCCESS || !client.link.version.is_v5() {
        put_ack(out, kind.first_byte(), id);
    } else {
        let [high, low] = id.get().to_be_bytes();
        out.extend_from_slice(&[kind.first_byte(), 3, high, low, reason.0]);
    }
}
