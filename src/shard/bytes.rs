//! Bytes from a socket into packets.
//!
//! Packets are decoded where the driver has read them; only a packet whose rest has not come is copied.

use super::{Core, End};
use crate::metrics::{CloseReason, Packet as PacketLabel};
use crate::protocol::{Framed, Malformed, Packet, ReasonCode, decode, frame};
use crate::session::Phase;

/// What stops the packets of one read.
pub(super) enum Stop {
    /// The connection is over.
    End(End),
    /// It belongs to another shard: the packet and what follows go along.
    HandOver(super::ShardId),
    /// The packet has to wait for an answer, and what follows behind it.
    Wait,
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        let reason = match malformed.reason {
            ReasonCode::MALFORMED_PACKET => CloseReason::Malformed,
            ReasonCode::PACKET_TOO_LARGE => CloseReason::PacketTooLarge,
            ReasonCode::TOPIC_ALIAS_INVALID => CloseReason::TopicAlias,
            _ => CloseReason::ProtocolError,
        };
        Self::new(reason, malformed.reason, malformed.what)
    }
}

impl Core {
    /// Takes what was read from a connection.
    pub fn receive(&mut self, key: u32, mut bytes: &[u8]) {
        self.catch_up();
        let max_packet = self.exchange.settings.limits.max_packet;
        self.clients.counters.bytes_received += bytes.len() as u64;
        let Some(client) = self.clients.connections.get_mut(key as usize) else { return };
        if client.link.phase == Phase::Closing {
            return;
        }
        client.link.last_seen = super::ticks::of(self.clients.now.mono);
        if let Some(mut partial) = client.partial.take() {
            // Only as much is copied as completes the packet; the rest is decoded where it lies.
            while let Ok(Framed::Partial { need }) = frame(&partial, max_packet) {
                let missing = need.saturating_sub(partial.len()).max(1);
                let (more, rest) = bytes.split_at(missing.min(bytes.len()));
                partial.extend_from_slice(more);
                bytes = rest;
                if more.is_empty() {
                    if let Some(client) = self.clients.connections.get_mut(key as usize) {
                        client.partial = Some(partial);
                    }
                    return;
                }
            }
            if !self.packets(key, &partial, bytes) {
                return;
            }
        }
        self.packets(key, bytes, &[]);
    }

    /// Goes on with what was read before the connection was paused.
    pub fn resume(&mut self, key: u32) {
        self.catch_up();
        let Some(client) = self.clients.connections.get_mut(key as usize) else { return };
        client.paused = false;
        if client.rated && self.wait_for_rate(key) {
            return;
        }
        let Some(client) = self.clients.connections.get_mut(key as usize) else { return };
        if let Some(partial) = client.partial.take() {
            self.packets(key, &partial, &[]);
        }
    }

    /// Runs the packets in `bytes`. `behind` was read after them. `false`: nothing of `behind` may be run.
    fn packets(&mut self, key: u32, mut bytes: &[u8], behind: &[u8]) -> bool {
        let max_packet = self.exchange.settings.limits.max_packet;
        loop {
            let stop = match frame(bytes, max_packet) {
                Ok(Framed::Frame(frame)) => {
                    let len = frame.len;
                    let label = PacketLabel::of(frame.first);
                    let outcome = self.packet(key, frame);
                    if !matches!(outcome, Err(Stop::HandOver(_) | Stop::Wait)) {
                        self.clients.counters.packets_received.bump(label);
                    }
                    match outcome {
                        Ok(()) => {
                            bytes = bytes.get(len..).unwrap_or_default();
                            let client = self.clients.connections.get(key as usize);
                            if !client.is_some_and(|c| c.paused | c.rated)
                                || !self.stops_here(key, (label, len), bytes, behind)
                            {
                                continue;
                            }
                            return false;
                        }
                        Err(stop) => stop,
                    }
                }
                Ok(Framed::Partial { .. }) => {
                    if !bytes.is_empty() {
                        self.keep(key, bytes, behind);
                    }
                    return true;
                }
                Err(malformed) => Stop::End(malformed.into()),
            };
            match stop {
                Stop::End(end) => self.end(key, end),
                Stop::Wait => {
                    if let Some(client) = self.clients.connections.get_mut(key as usize) {
                        client.paused = true;
                    }
                    self.keep(key, bytes, behind);
                }
                Stop::HandOver(shard) => {
                    let Some(client) = self.clients.connections.get_mut(key as usize) else { return false };
                    // What comes from now on is for the shard that it goes to.
                    client.paused = true;
                    let listener = client.link.listener;
                    let admission = std::mem::take(&mut client.admission);
                    let bytes = [bytes, behind].concat();
                    self.clients.counters.handovers += 1;
                    // The other shard counts them.
                    self.clients.counters.bytes_received -= bytes.len() as u64;
                    let moving = super::HandOver { connection: key, shard, bytes, listener, admission };
                    self.effects.hand_over.push(moving);
                }
            }
            return false;
        }
    }

    /// A packet was run of a client that is not to be read or has a rate. `true`: nothing behind it may be run.
    #[cold]
    #[inline(never)]
    fn stops_here(&mut self, key: u32, ran: (PacketLabel, usize), bytes: &[u8], behind: &[u8]) -> bool {
        match self.hold_to_rate(key, ran) {
            Ok(false) => return false,
            Ok(true) => self.keep(key, bytes, behind),
            Err(end) => self.end(key, end),
        }
        true
    }

    /// Keeps what cannot be run yet.
    fn keep(&mut self, key: u32, bytes: &[u8], behind: &[u8]) {
        if let Some(client) = self.clients.connections.get_mut(key as usize)
            && client.link.phase != Phase::Closing
            && bytes.len() + behind.len() > 0
        {
            client.partial = Some(Box::new([bytes, behind].concat()));
        }
    }

    #[inline]
    fn packet(&mut self, key: u32, frame: crate::protocol::Frame<'_>) -> Result<(), Stop> {
        let Some(client) = self.clients.connections.get(key as usize) else {
            return Err(End::silent(CloseReason::Fault).into());
        };
        let (phase, version, session) = (client.link.phase, client.link.version, client.link.session);
        if phase != Phase::Open {
            return self.first_packet(key, frame);
        }
        let packet = decode(frame, version).map_err(End::from)?;
        match packet {
            Packet::Publish(publish) => self.publish(key, session, &publish)?,
            Packet::PubAck(ack) => self.puback(session, ack.packet_id),
            Packet::PubRec(ack) => self.pubrec(key, session, ack.packet_id, ack.reason),
            Packet::PubRel(ack) => self.pubrel(key, session, ack.packet_id),
            Packet::PubComp(ack) => self.pubcomp(session, ack.packet_id),
            Packet::Subscribe(subscribe) => self.subscribe(key, session, &subscribe)?,
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(key, session, &unsubscribe)?,
            Packet::PingReq => {
                self.clients.send(key, PacketLabel::PingResp, |out| out.extend_from_slice(&[0xD0, 0]));
            }
            Packet::Disconnect(disconnect) => return Err(self.disconnect(key, session, &disconnect).into()),
            Packet::Auth(_) => {
                return Err(End::new(
                    CloseReason::ProtocolError,
                    ReasonCode::PROTOCOL_ERROR,
                    "AUTH without an authentication method in CONNECT",
                )
                .into());
            }
            Packet::Connect(_) => {
                return Err(End::new(
                    CloseReason::ProtocolError,
                    ReasonCode::PROTOCOL_ERROR,
                    "a second CONNECT",
                )
                .into());
            }
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                return Err(End::new(
                    CloseReason::ProtocolError,
                    ReasonCode::PROTOCOL_ERROR,
                    "a packet that only a server sends",
                )
                .into());
            }
        }
        Ok(())
    }
}
