//! The retained messages whose topics live on this shard.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Core;
use super::door::congested;
use super::mailbox::{Mail, Page, Question};
use crate::message::{ELSEWHERE, Message, MessageRef, Millis, NEVER};
use crate::metrics::{DropReason, RetainedChange};
use crate::protocol::QoS;
use crate::topic::RetainedIndex;

/// Retained messages of one page of a replay.
const PAGE: usize = 256;

/// Topics looked at for one page at most, matching or not.
const VISITS: usize = 4096;

/// Topics that a sweep for expired messages looks at in a tick.
const SWEEP: usize = 1024;

/// The index with its weight.
#[derive(Debug, Default)]
pub(super) struct Retained {
    index: RetainedIndex<Arc<Message>>,
    bytes: usize,
    /// How many of them expire.
    expiring: usize,
    /// Where the sweep for what has expired goes on.
    sweep: Option<Arc<str>>,
}

impl Retained {
    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes of topics, properties and payloads.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is retained of a topic, expired or not.
    pub(super) fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.index.get(topic)
    }

    fn set(&mut self, message: Arc<Message>) -> Option<Arc<Message>> {
        self.bytes += message.weight();
        self.expiring += usize::from(message.expires_at() != NEVER);
        let old = self.index.insert(Arc::from(message.view().topic), message);
        if let Some(old) = &old {
            self.bytes -= old.weight();
            self.expiring -= usize::from(old.expires_at() != NEVER);
        }
        old
    }

    fn clear(&mut self, topic: &str) -> Option<Arc<Message>> {
        let old = self.index.remove(topic)?;
        self.bytes -= old.weight();
        self.expiring -= usize::from(old.expires_at() != NEVER);
        Some(old)
    }
}

/// Whether the broker alone publishes to a topic.
pub(super) fn own(topic: &str) -> bool {
    topic.starts_with('$')
}

impl Core {
    /// Keeps a message published with RETAIN on the shard where its topic lives [MQTT-3.3.1-5].
    pub(super) fn retain(&mut self, m: &MessageRef<'_>, owned: &mut Option<Arc<Message>>) {
        let kept = MessageRef { from: ELSEWHERE, ..*m };
        let message = owned.get_or_insert_with(|| kept.to_message()).clone();
        let home = self.exchange.home(m.topic);
        if home == self.id {
            self.store_retained(message);
        } else if let Some(batch) = self.outgoing.get_mut(usize::from(home)) {
            let serial = if m.qos == QoS::AtMostOnce { 0 } else { self.clients.ledger.cross(1 << home) };
            batch.push(Mail::Retain(message, serial));
            self.looked_up.held_back |= congested(self.full, u32::from(home), batch);
        }
    }

    pub(super) fn store_retained(&mut self, message: Arc<Message>) {
        let exchange = &self.exchange;
        let topic = message.view().topic;
        // What the broker says of itself has no bound but its own number, and takes no customer's place.
        let counted = usize::from(!own(topic));
        if message.payload().is_empty() {
            // An empty one removes what was retained and is not kept itself [MQTT-3.3.1-6] [MQTT-3.3.1-7].
            if self.retained.clear(topic).is_some() {
                exchange.retained.fetch_sub(counted, Ordering::Relaxed);
                self.clients.counters.retained_changes.bump(RetainedChange::Cleared);
            }
            if counted > 0 {
                // Also if there is none: it may have been cleared a moment ago, and the publisher be asking again.
                self.clients.ledger.forget_retained(topic);
            }
            return;
        }
        if counted > 0 && !self.room_for_retained(topic, message.weight()) {
            // What was retained before is out of date, and a server may discard it at any time [MQTT-3.3.1-5].
            if self.retained.clear(topic).is_some() {
                exchange.retained.fetch_sub(1, Ordering::Relaxed);
                self.clients.ledger.forget_retained(topic);
            }
            self.refused_by_all = true;
            return self.clients.counters.messages_dropped.bump(DropReason::RetainedFull);
        }
        if counted > 0 {
            self.clients.ledger.retain(&message.view(), self.clients.now);
        }
        let change = if self.retained.set(message).is_some() {
            RetainedChange::Replaced
        } else {
            exchange.retained.fetch_add(counted, Ordering::Relaxed);
            RetainedChange::Set
        };
        self.clients.counters.retained_changes.bump(change);
    }

    /// Whether the bounds leave room for a message of this weight in place of what is retained of its topic.
    pub(super) fn room_for_retained(&self, topic: &str, weight: usize) -> bool {
        let exchange = &self.exchange;
        let limits = &exchange.settings.retained;
        let replaced = self.retained.index.get(topic).map(|known| known.weight());
        let full = replaced.is_none() && exchange.retained.load(Ordering::Relaxed) >= limits.max_messages;
        let bytes = self.retained.bytes - replaced.unwrap_or(0) + weight;
        // What gets smaller always has room: the bounds may have been lowered.
        replaced >= Some(weight) || (!full && bytes <= limits.max_bytes / exchange.mailboxes.len())
    }

    /// Puts back what the store has kept.
    pub(super) fn restore_retained(&mut self, message: &Arc<Message>) {
        if self.retained.set(message.clone()).is_none() {
            self.exchange.retained.fetch_add(1, Ordering::Relaxed);
        }
        self.note_context(message.view().topic);
    }

    /// A page of the retained messages that live here, and where to go on.
    pub(super) fn answer(&mut self, question: &Question) -> Page {
        let now = self.clients.now.mono;
        let mut messages = Vec::new();
        let mut expired = Vec::new();
        let mut take = |topic: &Arc<str>, message: &Arc<Message>| {
            if message.expired(now) {
                expired.push(topic.clone());
            } else {
                messages.push(message.clone());
            }
            if messages.len() < PAGE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let after = self.retained.index.scan(&question.filter, question.after.as_deref(), VISITS, &mut take);
        self.forget_expired(&expired, now);
        Page { session: question.session, number: question.number, messages, after }
    }

    /// Looks at some retained messages for expired ones, which nobody may ever ask for again.
    pub(super) fn sweep_retained(&mut self) {
        if self.retained.expiring == 0 {
            return;
        }
        let now = self.clients.now.mono;
        let mut expired = Vec::new();
        let after = self.retained.sweep.take();
        // Clients cannot publish to what `#` leaves out.
        self.retained.sweep = self.retained.index.scan("#", after.as_deref(), SWEEP, |topic, message| {
            if message.expired(now) {
                expired.push(topic.clone());
            }
            ControlFlow::Continue(())
        });
        self.forget_expired(&expired, now);
    }

    fn forget_expired(&mut self, topics: &[Arc<str>], now: Millis) {
        for topic in topics {
            if self.retained.index.get(topic).is_some_and(|m| m.expired(now)) {
                self.retained.clear(topic);
                self.clients.ledger.forget_retained(topic);
                if let Some(desk) = &self.exchange.desk {
                    desk.contexts.forget(topic);
                }
                self.exchange.retained.fetch_sub(1, Ordering::Relaxed);
                self.clients.counters.retained_changes.bump(RetainedChange::Expired);
            }
        }
    }
}
