//! Acknowledgements from clients: PUBACK, PUBREC, PUBREL, PUBCOMP.

use super::Core;
use super::clients::Clients;
use crate::protocol::{AckKind, PacketId, ReasonCode};
use crate::session::Acknowledged;

impl Core {
    pub(super) fn puback(&mut self, session: u32, id: PacketId) {
        self.acknowledged(session, |outbox| outbox.puback(id));
    }

    pub(super) fn pubcomp(&mut self, session: u32, id: PacketId) {
        self.acknowledged(session, |outbox| outbox.pubcomp(id));
    }

    /// PUBREC is always answered, with 0x92 if its packet id is unknown, so that the client can let go of it
    /// [MQTT-4.3.3-4].
    pub(super) fn pubrec(&mut self, key: u32, session: u32, id: PacketId, reason: ReasonCode) {
        let answer = self.acknowledged(session, |outbox| outbox.pubrec(id, reason.is_error()));
        match answer {
            // After PUBREL the client takes the same packet id for a new message: it must not be sent again. What says
            // so may be of an earlier PUBREC.
            Answer::Release => {
                let after = self.clients.ledger.so_far();
                self.clients.answer(key, after, AckKind::PubRel, id, ReasonCode::SUCCESS);
            }
            Answer::Unknown if !reason.is_error() => {
                let reason = ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
                self.clients.send_ack(key, AckKind::PubRel, id, reason);
            }
            Answer::Unknown | Answer::None => {}
        }
    }

    /// PUBREL: the packet id is free again [MQTT-4.3.3-11] [MQTT-4.3.3-12].
    pub(super) fn pubrel(&mut self, key: u32, session: u32, id: PacketId) {
        let Some(target) = self.clients.sessions.get_mut(session as usize) else { return };
        let known = target.received.as_mut().is_some_and(|received| received.remove(id));
        if target.received.as_ref().is_some_and(|received| received.is_empty()) {
            target.received = None;
        }
        if known {
            self.clients.ledger.released(target.stored, id.get());
            if let Some(client) = self.clients.connections.get_mut(key as usize) {
                client.link.inbound = client.link.inbound.saturating_sub(1);
            }
        }
        let reason = if known { ReasonCode::SUCCESS } else { ReasonCode::PACKET_IDENTIFIER_NOT_FOUND };
        // After PUBCOMP the client uses the packet id for another message: it must not be known any more. One that is
        // unknown may have been released on an earlier connection a moment ago.
        let after = self.clients.ledger.so_far();
        self.clients.answer(key, after, AckKind::PubComp, id, reason);
    }

    #[inline]
    fn acknowledged(
        &mut self,
        session: u32,
        take: impl FnOnce(&mut crate::session::Outbox) -> Acknowledged,
    ) -> Answer {
        let Clients { sessions, settled, ledger, .. } = &mut self.clients;
        let Some(target) = sessions.get_mut(session as usize) else { return Answer::None };
        let stored = target.stored;
        let Some(outbox) = target.outbox.as_mut() else { return Answer::Unknown };
        let answer = match take(outbox) {
            Acknowledged::Complete(done) => {
                settled.extend(done.via);
                ledger.settle(stored, done);
                Answer::None
            }
            Acknowledged::Release(done) => {
                // The message has arrived: for its group it is done with, PUBCOMP only ends the handshake.
                if let Some(done) = done {
                    settled.extend(done.via);
                    ledger.half_settle(stored, done);
                }
                return Answer::Release;
            }
            Acknowledged::Finished(number) => {
                ledger.finish(stored, number);
                Answer::None
            }
            Acknowledged::Unknown => return Answer::Unknown,
        };
        let more = outbox.waiting() > 0 || outbox.resending();
        self.replay_later(session);
        if more {
            self.clients.pump(session);
        } else {
            Clients::close_outbox(&mut self.clients, session);
        }
        answer
    }
}

/// What an acknowledgement asks for.
enum Answer {
    None,
    Release,
    Unknown,
}
