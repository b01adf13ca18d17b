//! PUBLISH from a client: its connection's rules, then the one door.

use std::sync::Arc;

use super::ledger::{Answer, Ledger, Mark};
use super::mailbox::Serial;
use super::{Core, End};
use crate::message::{MessageRef, NEVER};
use crate::metrics::{CloseReason, PublishRefusal, Qos};
use crate::protocol::{AckKind, PacketId, Publish, QoS, ReasonCode, forwarded_properties};
use crate::topic;

/// A PUBLISH that the broker does not take.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// What the publisher is told.
    pub code: ReasonCode,
    /// What it is counted as.
    pub why: PublishRefusal,
}

impl Refused {
    /// A refusal.
    pub const fn new(code: ReasonCode, why: PublishRefusal) -> Self {
        Self { code, why }
    }
}

/// Nobody who should have got the message could take it, or it could not be retained.
pub(super) const TAKEN_BY_NOBODY: Refused =
    Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::QuotaExceeded);

impl Core {
    pub(super) fn publish(&mut self, key: u32, session: u32, publish: &Publish<'_>) -> Result<(), End> {
        let counters = &mut self.clients.counters;
        counters.messages_received.bump(Qos::level(publish.qos as u8));
        counters.payload_bytes_received += publish.payload.len() as u64;
        let properties = &publish.properties;
        if properties.subscription_ids.iter().next().is_some() {
            let why = "a client may not send a subscription identifier";
            return Err(End::new(CloseReason::ProtocolError, ReasonCode::PROTOCOL_ERROR, why));
        }
        let aliased: Arc<str>;
        let topic = match properties.topic_alias {
            None => publish.topic,
            Some(alias) => {
                aliased = self.resolve_alias(key, alias, publish.topic)?;
                &aliased
            }
        };
        let mark = self.clients.ledger.mark();
        // Last of what can fail: an id that is noted belongs to a message that is taken.
        if publish.qos == QoS::ExactlyOnce
            && let Some(id) = publish.packet_id
            && !self.take_id(key, session, id)?
        {
            return Ok(());
        }
        let mut kept = std::mem::take(&mut self.looked_up.properties);
        kept.clear();
        let (mut payload, mut snappy, mut judged) = (publish.payload, false, Ok(()));
        let forwarded: &[u8] = if properties.raw.is_empty() {
            &[]
        } else {
            if forwarded_properties(properties.raw, &mut kept) {
                match self.judge_publish(topic, publish, &mut kept) {
                    Ok(found) => (payload, snappy) = found,
                    Err(refused) => judged = Err(refused),
                }
            }
            &kept
        };
        let message = MessageRef {
            topic,
            payload,
            properties: forwarded,
            expires_at: properties
                .message_expiry
                .map_or(NEVER, |seconds| self.clients.now.mono + u64::from(seconds) * 1000),
            from: session,
            qos: publish.qos,
            retain: publish.retain,
            snappy,
        };
        self.refused_by_all = false;
        self.had_before = false;
        self.packet = (publish.packet_id, publish.dup);
        let outcome = judged
            .and_then(|()| self.check_topic(topic))
            .and_then(|()| self.may_publish(key, topic, publish))
            .and_then(|()| self.can_be_kept(session, &message))
            .and_then(|()| self.enter(&message))
            .and_then(|any| if self.refused_by_all { Err(TAKEN_BY_NOBODY) } else { Ok(any) });
        self.looked_up.properties = kept;
        self.hold_back(key);
        self.confirm(key, session, publish, outcome, mark)
    }

    /// Notes a QoS 2 packet id. `false`: it was taken before and only has to be confirmed again [MQTT-4.3.3-10].
    fn take_id(&mut self, key: u32, session: u32, id: PacketId) -> Result<bool, End> {
        let receive_maximum = self.exchange.settings.session.receive_maximum;
        let Some(target) = self.clients.sessions.get_mut(session as usize) else { return Ok(false) };
        if !target.received.get_or_insert_default().insert(id) {
            // The message may have been taken a moment ago, and not be durable yet.
            let after = self.clients.ledger.so_far();
            self.clients.answer(key, after, AckKind::PubRec, id, ReasonCode::SUCCESS);
            return Ok(false);
        }
        self.clients.ledger.received(target.stored, id.get());
        let Some(client) = self.clients.connections.get_mut(key as usize) else { return Ok(false) };
        client.link.inbound += 1;
        // 3.1.1 knows no Receive Maximum; its packet ids are the bound.
        if client.link.version.is_v5() && client.link.inbound > receive_maximum {
            self.release_refused(key, session, id);
            let code = ReasonCode::RECEIVE_MAXIMUM_EXCEEDED;
            return Err(End::new(CloseReason::ReceiveMaximum, code, "more in flight than Receive Maximum"));
        }
        Ok(true)
    }

    fn resolve_alias(&mut self, key: u32, alias: u16, topic: &str) -> Result<Arc<str>, End> {
        let maximum = self.exchange.settings.session.topic_alias_maximum;
        let invalid = |why| End::new(CloseReason::TopicAlias, ReasonCode::TOPIC_ALIAS_INVALID, why);
        if alias == 0 || alias > maximum {
            return Err(invalid("the topic alias is above Topic Alias Maximum"));
        }
        let Some(client) = self.clients.connections.get_mut(key as usize) else {
            return Err(End::silent(CloseReason::Fault));
        };
        let known = &mut client.link.rare.get_or_insert_default().incoming;
        let at = usize::from(alias) - 1;
        if topic.is_empty() {
            // 0x82, not 0x94: the alias is in range but was never set (3.3.2.3.4).
            let unset = End::new(
                CloseReason::TopicAlias,
                ReasonCode::PROTOCOL_ERROR,
                "the topic alias was never set",
            );
            return known.get(at).cloned().flatten().ok_or(unset);
        }
        if known.len() <= at {
            known.resize(at + 1, None);
        }
        let Some(place) = known.get_mut(at) else { return Err(invalid("no room for the topic alias")) };
        match place {
            Some(same) if **same == *topic => Ok(same.clone()),
            _ => Ok(place.insert(Arc::from(topic)).clone()),
        }
    }

    /// Names that nobody but the broker may publish to, and names over the configured bounds.
    pub(super) fn check_topic(&self, topic: &str) -> Result<(), Refused> {
        // [MQTT-4.7.2-1]: clients should not exchange messages through names that start with `$`.
        if topic.starts_with('$') || topic::check_name(topic, &self.topic_limits()).is_err() {
            return Err(Refused::new(ReasonCode::TOPIC_NAME_INVALID, PublishRefusal::TopicInvalid));
        }
        Ok(())
    }

    /// PUBACK or PUBREC, or what becomes of a refused message.
    #[inline]
    fn confirm(
        &mut self,
        key: u32,
        session: u32,
        publish: &Publish<'_>,
        outcome: Result<bool, Refused>,
        mark: Mark,
    ) -> Result<(), End> {
        let kind = match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(AckKind::PubAck),
            QoS::ExactlyOnce => Some(AckKind::PubRec),
        };
        let reason = match outcome {
            Ok(true) => ReasonCode::SUCCESS,
            Ok(false) => {
                self.clients.counters.messages_unmatched += 1;
                ReasonCode::NO_MATCHING_SUBSCRIBERS
            }
            Err(refused) => {
                self.clients.counters.publishes_refused.bump(refused.why);
                let v5 = self.clients.connections.get(key as usize).is_some_and(|c| c.link.version.is_v5());
                if publish.qos == QoS::ExactlyOnce
                    && let Some(id) = publish.packet_id
                {
                    self.release_refused(key, session, id);
                }
                if kind.is_some() && !v5 {
                    // An acknowledgement would be a lie, and 3.1.1 knows no other answer than to close.
                    return Err(End::new(
                        CloseReason::PublishRefused,
                        refused.code,
                        "the message was refused",
                    ));
                }
                refused.code
            }
        };
        if let (Some(kind), Some(id)) = (kind, publish.packet_id) {
            // What was taken a moment ago may not be durable yet.
            let ledger = &self.clients.ledger;
            let after = if self.had_before { ledger.so_far() } else { ledger.since(mark) };
            self.clients.answer(key, after, kind, id, reason);
        }
        Ok(())
    }

    /// Another shard could not take a message whose answer waits.
    pub(super) fn refused_elsewhere(&mut self, serial: Serial, refused: Refused) {
        self.clients.ledger.told(serial);
        let Some((key, answer)) = self.clients.ledger.answer_to(serial) else { return };
        let Answer::Ack(kind @ (AckKind::PubAck | AckKind::PubRec), id, reason) = answer else { return };
        if reason.is_error() {
            return;
        }
        let (kind, id) = (*kind, *id);
        *reason = refused.code;
        self.clients.counters.publishes_refused.bump(refused.why);
        let Some(link) = self.clients.connections.get(key as usize).map(|client| &client.link) else {
            return;
        };
        let (session, v5) = (link.session, link.version.is_v5());
        if kind == AckKind::PubRec {
            self.release_refused(key, session, id);
        }
        if !v5 {
            let why = "the message was refused";
            self.end(key, End::new(CloseReason::PublishRefused, refused.code, why));
        }
    }

    /// A message that is not taken leaves no id behind: one that is sent again is new. A PUBREC with an error ends the
    /// exchange at once [MQTT-4.3.3-9].
    fn release_refused(&mut self, key: u32, session: u32, id: PacketId) {
        if let Some(target) = self.clients.sessions.get_mut(session as usize)
            && let Some(received) = target.received.as_mut()
        {
            received.remove(id);
            self.clients.ledger.released(target.stored, id.get());
            if received.is_empty() {
                target.received = None;
            }
        }
        if let Some(client) = self.clients.connections.get_mut(key as usize) {
            client.link.inbound = client.link.inbound.saturating_sub(1);
        }
    }

    /// Whether too much of what a client sends waits for the disk.
    fn ledger_is_full(&self, key: u32) -> bool {
        let held = self.clients.connections.get(key as usize).map_or(0, |client| client.link.held);
        held > 0 && (Ledger::too_many(held) || self.clients.ledger.congested())
    }

    /// Stops reading a publisher whose messages go to a shard that does not keep up.
    #[inline]
    fn hold_back(&mut self, key: u32) {
        let held_back = std::mem::take(&mut self.looked_up.held_back);
        let full = self.clients.ledger.waiting() && self.ledger_is_full(key);
        if !held_back && !full {
            return;
        }
        if let Some(client) = self.clients.connections.get_mut(key as usize)
            && !client.paused
        {
            client.paused = true;
            self.held.push(key);
            self.clients.counters.reads_paused += 1;
        }
    }
}
