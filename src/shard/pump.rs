//! Sending what a session is owed: again, in its turn, and from the store.

use super::clients::{ANY_ID, Clients, assign_alias, count_sent, mark, withdraw_alias};
use super::ledger::Answer;
use super::lookups::Purpose;
use super::records;
use super::wire::{Outgoing, Shape};
use crate::metrics::{DropReason, Packet};
use crate::protocol::{AckKind, ReasonCode, put_ack};
use crate::session::{Next, Number, OFFLINE, Stage};

impl Clients {
    /// Sends what an earlier connection left unacknowledged, then what waits, as far as the client's Receive Maximum and its output buffer allow.
    pub fn pump(&mut self, session: u32) {
        let Some(target) = self.sessions.get_mut(session as usize) else { return };
        let stored = target.stored;
        let (Some(outbox), Some(client)) =
            (target.outbox.as_mut(), self.connections.get_mut(target.connection as usize))
        else {
            return;
        };
        while client.out.len() < self.terms.session.outbuf_bytes {
            let Some((id, stage)) = outbox.next_resend(client.link.receive_maximum) else { break };
            match stage {
                Stage::Published(delivery) => {
                    let shape = Shape {
                        version: client.link.version,
                        qos: delivery.qos,
                        retain: delivery.retain,
                        dup: true,
                        id: Some(id),
                        ids: delivery.ids.as_slice(),
                        alias: None,
                    };
                    let scratch = std::mem::take(&mut self.scratch);
                    let mut outgoing = Outgoing::new(delivery.message.view(), self.now.mono, false, scratch);
                    outgoing.owned = Some(delivery.message.clone());
                    outgoing.recall(&self.expanded);
                    // This connection may take less than the one it was sent on first [MQTT-3.1.2-25].
                    let too_large =
                        outgoing.packet_len(&shape, &client.link) > client.link.max_packet as usize;
                    if !too_large {
                        outgoing.write(&shape, &client.link, &mut client.out, &mut self.pool);
                        count_sent(&mut self.counters, delivery.qos, delivery.message.payload().len());
                        self.counters.messages_redelivered += 1;
                    }
                    self.scratch = outgoing.finish(&mut self.expanded, &mut self.counters);
                    if too_large {
                        self.counters.messages_dropped.bump(DropReason::TooLarge);
                        if let Some(done) = outbox.abandon(id) {
                            self.ledger.settle(stored, done);
                            self.settled.extend(done.via);
                        }
                        continue;
                    }
                }
                Stage::Released if let Some(after) = self.ledger.so_far() => {
                    let answer = Answer::Ack(AckKind::PubRel, id, ReasonCode::SUCCESS);
                    client.link.held += 1;
                    self.ledger.hold(target.connection, Some(after), answer);
                }
                Stage::Released => {
                    put_ack(client.out.bytes(&mut self.pool), AckKind::PubRel.first_byte(), id);
                    self.counters.packets_sent.bump(Packet::PubRel);
                }
                Stage::Away(_) | Stage::Done => {}
            }
            mark(&mut self.dirty, target.connection, client);
        }
        while client.out.len() < self.terms.session.outbuf_bytes {
            let Some(next) = outbox.next_waiting(client.link.receive_maximum) else { break };
            let Next { number, delivery, again, expires_at } = next;
            let message = delivery.message.clone();
            let (ids, via) = (delivery.ids.clone(), delivery.via);
            let mut shape = Shape {
                version: client.link.version,
                qos: delivery.qos,
                retain: delivery.retain,
                dup: again,
                id: Some(ANY_ID),
                ids: ids.as_slice(),
                alias: None,
            };
            let expired = expires_at <= self.now.mono;
            if !expired && client.link.rare.is_some() {
                assign_alias(&mut client.link, &mut shape, message.view().topic);
            }
            let mut outgoing =
                Outgoing::new(message.view(), self.now.mono, false, std::mem::take(&mut self.scratch));
            outgoing.owned = Some(message.clone());
            outgoing.recall(&self.expanded);
            let reason = if expired {
                Some(DropReason::Expired)
            } else {
                (outgoing.packet_len(&shape, &client.link) > client.link.max_packet as usize)
                    .then_some(DropReason::TooLarge)
            };
            if let Some(reason) = reason {
                withdraw_alias(&mut client.link, &shape, message.view().topic);
                self.counters.messages_dropped.bump(reason);
                self.ledger.settle(stored, delivery.settled(number));
                self.settled.extend(via.map(|via| (via, message.weight() as u32)));
            } else {
                shape.id = Some(outbox.admit(number, delivery));
                outgoing.write(&shape, &client.link, &mut client.out, &mut self.pool);
                count_sent(&mut self.counters, shape.qos, message.payload().len());
                mark(&mut self.dirty, target.connection, client);
            }
            self.scratch = outgoing.finish(&mut self.expanded, &mut self.counters);
        }
        let wanted = outbox.wanted();
        if !wanted.is_empty() {
            let keys = records::deliveries(stored, &wanted);
            let purpose = Purpose::Deliveries { session, generation: target.generation, wanted };
            self.lookups.ask(&self.ledger, purpose, keys);
        }
        self.close_outbox(session);
    }

    /// A client is gone: what the store has of what it is owed need not be in memory.
    pub(super) fn set_aside(&mut self, session: u32) {
        let Some(target) = self.sessions.get_mut(session as usize) else { return };
        if let Some(outbox) = target.outbox.as_mut() {
            outbox.set_aside(|delivery| self.ledger.has(target.stored, delivery));
        }
    }

    /// Deliveries have come from the store.
    pub(super) fn fetched(
        &mut self,
        (session, generation): (u32, u32),
        wanted: &[(Number, u64)],
        values: &[Option<Box<[u8]>>],
    ) {
        let Some(target) = self.sessions.get_mut(session as usize) else { return };
        let (stored, online) = (target.stored, target.connection != OFFLINE);
        let Some(outbox) = target.outbox.as_mut().filter(|_| target.generation == generation) else { return };
        outbox.answered();
        if !online {
            // They are fetched again when the client is back.
            return;
        }
        let mut values = values.iter().map(Option::as_deref);
        for &(number, body) in wanted {
            let value = values.next().flatten();
            let body = if body == 0 { None } else { values.next().flatten() };
            let delivery = value.and_then(|value| records::read_delivery(value, body, self.now));
            if let Some(lost) = outbox.arrived(number, delivery) {
                self.counters.messages_dropped.bump(DropReason::StoreDamaged);
                self.ledger.settle(stored, lost);
            }
        }
        self.pump(session);
    }
}
