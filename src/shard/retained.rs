//! The retained messages whose topics live on this shard.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Core;
use super::door::congested;
use super::lookups::{Incomplete, Missing, Purpose};
use super::mailbox::{Mail, Page, Question};
use super::records;
use super::shelf::Slot;
use crate::desk::{DeskTopic, desk_topic};
use crate::message::{ELSEWHERE, Message, MessageRef, Millis};
use crate::metrics::{DropReason, RetainedChange};
use crate::protocol::QoS;
use crate::store::Table;

/// Retained messages of one page of a replay.
const PAGE: usize = 256;

/// Topics looked at for one page at most, matching or not.
const VISITS: usize = 4096;

/// Topics that a sweep for expired messages looks at in a tick.
const SWEEP: usize = 1024;

/// Bytes that are read from the store for one page, roughly.
const PAGE_BYTES: usize = 1 << 20;

impl Core {
    /// Whether the broker alone publishes to a topic, and says it anew in each process.
    pub(super) fn own(&self, topic: &str) -> bool {
        if topic.starts_with('$') {
            return true;
        }
        let Some(DeskTopic::Own { tenant }) = desk_topic(topic) else { return false };
        let desk = self.exchange.desk.as_ref();
        desk.and_then(|desk| desk.routing.tenant(tenant)).is_some_and(crate::desk::Tenant::has_assigned)
    }

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
        let counted = usize::from(!self.own(topic));
        if message.payload().is_empty() {
            // An empty one removes what was retained and is not kept itself [MQTT-3.3.1-6] [MQTT-3.3.1-7].
            if self.retained.clear(topic, self.shelved(topic)) {
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
            if self.retained.clear(topic, self.shelved(topic)) {
                exchange.retained.fetch_sub(1, Ordering::Relaxed);
                self.clients.ledger.forget_retained(topic);
            }
            self.refused_by_all = true;
            return self.clients.counters.messages_dropped.bump(DropReason::RetainedFull);
        }
        if counted > 0 {
            self.clients.ledger.retain(&message.view(), self.clients.now);
        }
        let shelved = self.shelved(topic);
        let change = if self.retained.set(message, shelved) {
            RetainedChange::Replaced
        } else {
            exchange.retained.fetch_add(counted, Ordering::Relaxed);
            RetainedChange::Set
        };
        self.clients.counters.retained_changes.bump(change);
    }

    /// Whether a topic's message may leave memory: the store has it, and it is no context, which the desk reads itself.
    fn shelved(&self, topic: &str) -> bool {
        self.clients.ledger.on()
            && !self.own(topic)
            && !matches!(desk_topic(topic), Some(DeskTopic::CustomerContext { .. }))
    }

    /// Whether the bounds leave room for a message of this weight in place of what is retained of its topic.
    pub(super) fn room_for_retained(&self, topic: &str, weight: usize) -> bool {
        let exchange = &self.exchange;
        let limits = &exchange.settings.retained;
        let replaced = self.retained.get(topic).map(Slot::weight);
        let full = replaced.is_none() && exchange.retained.load(Ordering::Relaxed) >= limits.max_messages;
        let bytes = self.retained.bytes() - replaced.unwrap_or(0) + weight;
        // What gets smaller always has room: the bounds may have been lowered.
        replaced >= Some(weight) || (!full && bytes <= limits.max_bytes / exchange.mailboxes.len())
    }

    /// Puts back what the store has kept.
    pub(super) fn restore_retained(&mut self, message: &Arc<Message>) {
        let shelved = self.shelved(message.view().topic);
        if !self.retained.set(message.clone(), shelved) {
            self.exchange.retained.fetch_add(1, Ordering::Relaxed);
        }
        self.note_context(message.view().topic);
    }

    /// A page of the retained messages that live here, and where to go on. `None`: some of them have to be read first,
    /// and the page comes by itself.
    pub(super) fn answer(&mut self, question: &Question) -> Option<Page> {
        let now = self.clients.now.mono;
        let (mut messages, mut missing, mut expired) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        let mut take = |topic: &Arc<str>, slot: &Slot| {
            match slot {
                _ if slot.expired(now) => expired.push(topic.clone()),
                Slot::Here(message) => messages.push(message.clone()),
                Slot::Away(away) => {
                    bytes += slot.weight();
                    missing.push(Missing { at: messages.len(), topic: topic.clone(), away: *away });
                }
            }
            let more = messages.len() + missing.len() < PAGE && bytes < PAGE_BYTES;
            if more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let after = self.retained.scan(&question.filter, question.after.as_deref(), VISITS, &mut take);
        self.forget_expired(&expired, now);
        let page = Page { session: question.session, number: question.number, messages, after };
        if missing.is_empty() {
            return Some(page);
        }
        let key = |missing: &Missing| (Table::Retained, missing.topic.as_bytes().into());
        let keys = missing.iter().map(key).collect();
        let keep = *question.filter == *missing.first().map_or("", |missing| &missing.topic);
        let purpose = Purpose::Page(Box::new(Incomplete { shard: question.shard, page, missing, keep }));
        self.clients.lookups.ask(&self.clients.ledger, purpose, keys);
        None
    }

    /// What a page lacked has come.
    pub(super) fn complete(&mut self, incomplete: Incomplete, values: &[Option<Box<[u8]>>]) {
        let Incomplete { shard, mut page, missing, keep } = incomplete;
        let mut messages = Vec::with_capacity(page.messages.len() + missing.len());
        let mut here = page.messages.into_iter();
        let mut taken = 0;
        for (Missing { at, topic, away }, value) in missing.into_iter().zip(values) {
            messages.extend(here.by_ref().take(at - taken));
            taken = at;
            match self.retained.get(&topic) {
                // Cleared meanwhile.
                None => {}
                Some(Slot::Here(message)) => messages.push(message.clone()),
                Some(Slot::Away(now)) => {
                    let same = *now == away;
                    let value = value.as_deref();
                    match value.and_then(|value| records::read_body(value, &topic, self.clients.now)) {
                        // If it was written meanwhile, and is away again, the subscriber has had it live.
                        Some(message) => {
                            if keep {
                                self.retained.keep(&topic, away, &message);
                            }
                            messages.push(message);
                        }
                        None if same => self.damaged(&topic),
                        None => {}
                    }
                }
            }
        }
        messages.extend(here);
        page.messages = messages;
        if shard == self.id {
            self.page_came(page);
        } else {
            self.post(shard, Mail::Page(Box::new(page)));
        }
    }

    fn damaged(&mut self, topic: &str) {
        self.clients.counters.messages_dropped.bump(DropReason::StoreDamaged);
        self.retained.clear(topic, true);
        self.clients.ledger.forget_retained(topic);
        self.exchange.retained.fetch_sub(1, Ordering::Relaxed);
    }

    /// Looks at some retained messages for expired ones, which nobody may ever ask for again.
    pub(super) fn sweep_retained(&mut self) {
        if self.retained.lasts() {
            return;
        }
        let now = self.clients.now.mono;
        let mut expired = Vec::new();
        let after = self.retained.sweep.take();
        // Clients cannot publish to what `#` leaves out.
        self.retained.sweep = self.retained.scan("#", after.as_deref(), SWEEP, |topic, slot| {
            if slot.expired(now) {
                expired.push(topic.clone());
            }
            ControlFlow::Continue(())
        });
        self.forget_expired(&expired, now);
    }

    fn forget_expired(&mut self, topics: &[Arc<str>], now: Millis) {
        for topic in topics {
            if self.retained.get(topic).is_some_and(|slot| slot.expired(now)) {
                self.retained.clear(topic, self.shelved(topic));
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
