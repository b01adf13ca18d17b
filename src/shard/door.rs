//! The one door into delivery. What clients and their wills publish comes through [`Core::enter`], which hands desk
//! topics to the desk; what the broker itself says, `$SYS` and the desk's messages, comes through [`Core::pass`]. Behind
//! it a message is retained, and delivered here and on every other shard that is interested.

use std::sync::Arc;

use smallvec::SmallVec;

use super::clients::Clients;
use super::interest::{Mask, Shards};
use super::mailbox::{Batch, Mail, Share};
use super::publish::Refused;
use super::shared::{Assigned, Chosen, Groups};
use super::wire::Outgoing;
use super::{Core, ShardId};
use crate::desk::desk_topic;
use crate::message::{ELSEWHERE, Message, MessageRef, NEVER, SubscriptionIds};
use crate::metrics::DropReason;
use crate::protocol::QoS;
use crate::topic::{Subscription, SubscriptionOptions, Target};

/// What the last publish found out, so that a run of one topic asks once; and scratch space.
#[derive(Debug, Default)]
pub(super) struct LookedUp {
    topic: String,
    version: u64,
    shards: Shards,
    /// A mailbox was full: the publisher has to be held back.
    pub(super) held_back: bool,
    /// What passes is decided: that a receiver has no room for it refuses nothing.
    pub(super) decided: bool,
    /// Properties to hand on, of the message that is passing.
    pub(super) properties: Vec<u8>,
}

impl Core {
    /// Takes a message in. `Ok(false)`: nobody is subscribed to its topic.
    #[inline]
    pub(super) fn enter(&mut self, m: &MessageRef<'_>) -> Result<bool, Refused> {
        if let Some(topic) = desk_topic(m.topic)
            && let Some(outcome) = self.desk(&topic, m)
        {
            return outcome;
        }
        Ok(self.pass(m))
    }

    /// Publishes a message of the broker itself.
    pub fn publish_own(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) {
        self.pass(&MessageRef {
            topic,
            payload,
            properties: &[],
            expires_at: NEVER,
            from: ELSEWHERE,
            qos,
            retain,
            snappy: false,
        });
    }

    /// Retains, matches and delivers. `false`: nobody is subscribed.
    pub(super) fn pass(&mut self, m: &MessageRef<'_>) -> bool {
        let mut owned = None;
        if m.retain && self.exchange.settings.retained.enabled {
            self.retain(m, &mut owned);
        }
        let elsewhere = self.forward(m, &mut owned);
        if m.retain
            && self.outgoing.len() > 1
            && let Some(message) = &owned
        {
            self.retaining.push((message.clone(), self.looked_up.shards.any, self.looked_up.version));
        }
        let not_retained = self.refused_by_all;
        let here = self.deliver(m, owned);
        if elsewhere {
            // Others may have taken it.
            self.refused_by_all = not_retained;
        }
        here | elsewhere
    }

    /// Sends a message to all other shards with a subscriber.
    #[inline]
    fn forward(&mut self, m: &MessageRef<'_>, owned: &mut Option<Arc<Message>>) -> bool {
        if self.outgoing.len() == 1 {
            return false;
        }
        let seen = &mut self.looked_up;
        let version = self.exchange.interest.version();
        if seen.version != version || seen.topic != m.topic {
            seen.shards = self.exchange.interest.of(m.topic);
            seen.version = version;
            seen.topic.clear();
            seen.topic.push_str(m.topic);
        }
        let mut left = seen.shards.any & !(1 << self.id);
        let any = left != 0;
        let kept = if m.qos == QoS::AtMostOnce { 0 } else { seen.shards.kept & !(1 << self.id) };
        let serial = self.clients.ledger.cross(kept);
        // A refusal matters only if nobody else gets the message.
        let serial = if seen.shards.any.is_power_of_two() && !seen.decided { serial } else { 0 };
        while left != 0 {
            let shard = left.trailing_zeros();
            left &= left - 1;
            if let Some(batch) = self.outgoing.get_mut(shard as usize) {
                batch.publish(m, owned, serial);
                seen.held_back |= congested(self.full, shard, batch);
            }
        }
        any
    }

    /// Delivers to the subscribers on this shard.
    pub(super) fn deliver(&mut self, m: &MessageRef<'_>, owned: Option<Arc<Message>>) -> bool {
        self.clients.refused = 0;
        let receivers: usize;
        let mut lists: SmallVec<[&[Subscription]; 4]> = SmallVec::new();
        self.index.matching(m.topic, &mut lists);
        let mut to = Receivers {
            clients: &mut self.clients,
            groups: &mut self.groups,
            outgoing: &mut self.outgoing,
            full: self.full,
            id: self.id,
        };
        match lists.as_slice() {
            [] => return false,
            [list] => {
                let mut message = to.clients.outgoing(*m, list.len() > 1);
                message.owned = owned;
                receivers = list.len();
                for subscription in *list {
                    to.one(*subscription, &mut message);
                }
                to.clients.delivered(message);
            }
            several => {
                let mut all: SmallVec<[Subscription; 64]> =
                    several.iter().copied().flatten().copied().collect();
                all.sort_unstable_by_key(|s| s.target);
                let mut message = to.clients.outgoing(*m, all.len() > 1);
                message.owned = owned;
                receivers = all.chunk_by(|a, b| a.target == b.target).count();
                for overlapping in all.chunk_by(|a, b| a.target == b.target) {
                    match overlapping {
                        [one] => to.one(*one, &mut message),
                        more => to.overlapping(more, &mut message),
                    }
                }
                to.clients.delivered(message);
            }
        }
        self.refused_by_all |= self.clients.refused == receivers;
        true
    }
}

/// The Maximum QoS of a subscription.
#[inline]
pub(super) fn granted(options: SubscriptionOptions) -> QoS {
    match options.qos() {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

/// Where deliveries go.
struct Receivers<'c> {
    clients: &'c mut Clients,
    groups: &'c mut Groups,
    outgoing: &'c mut [Batch],
    full: Mask,
    id: ShardId,
}

impl Receivers<'_> {
    #[inline]
    fn one(&mut self, subscription: Subscription, message: &mut Outgoing<'_>) {
        let (target, options) = (subscription.target, subscription.options);
        if target.is_group() {
            return self.give_to_group(target.key(), message);
        }
        let m = &message.message;
        // [MQTT-3.8.3-3]
        if options.no_local() && m.from == target.key() {
            return;
        }
        let ids = options.id().map_or(SubscriptionIds::None, SubscriptionIds::One);
        let retain = m.retain && options.retain_as_published();
        if m.retain {
            self.note_seen(target, m.topic);
        }
        let qos = m.qos.min(granted(options));
        self.clients.deliver(target.key(), qos, retain, &ids, message, None);
    }

    /// One client with several matching subscriptions gets one copy, at the highest QoS of them, with all their
    /// identifiers [MQTT-3.3.4-2] [MQTT-3.3.4-4].
    #[cold]
    fn overlapping(&mut self, subscriptions: &[Subscription], message: &mut Outgoing<'_>) {
        let m = message.message;
        let (mut qos, mut retain, mut ids, mut any) = (QoS::AtMostOnce, false, SubscriptionIds::None, false);
        for Subscription { target, options } in subscriptions {
            if !(options.no_local() && m.from == target.key()) {
                any = true;
                qos = qos.max(granted(*options));
                retain |= options.retain_as_published();
                ids.push(options.id());
            }
        }
        let Some(target) = subscriptions.first().map(|s| s.target).filter(|_| any) else { return };
        if m.retain {
            self.note_seen(target, m.topic);
        }
        self.clients.deliver(target.key(), m.qos.min(qos), m.retain && retain, &ids, message, None);
    }

    /// Gives a message to a shared group that lives here. Kept out of the way of the deliveries to plain subscribers.
    #[inline(never)]
    fn give_to_group(&mut self, group: u32, message: &mut Outgoing<'_>) {
        let m = message.message;
        match self.groups.dispatch(group, m.topic, m.weight(), m.qos as u8) {
            Chosen::Member(assigned) => {
                if !to_member(self.clients, self.outgoing, self.full, self.id, &assigned, message) {
                    self.groups.unsent(&assigned.via);
                } else if assigned.counted
                    && self.clients.ledger.on()
                    && let Some(text) = self.groups.write_down(group, assigned.via.number.get())
                {
                    self.clients.ledger.give(text, assigned.via.number.get(), &m, self.clients.now);
                }
            }
            Chosen::Wait(number) => {
                let durable = m.qos != QoS::AtMostOnce && self.clients.ledger.on();
                if let Err(lost) = self.groups.wait(group, number, message.owned(), durable) {
                    let members = self.groups.get(group).map_or(0, super::shared::Group::members);
                    let why =
                        if members == 0 { DropReason::SharedNoMember } else { DropReason::SharedBacklogFull };
                    self.clients.counters.messages_dropped.add(why, lost as u64);
                    self.clients.refused += usize::from(why == DropReason::SharedBacklogFull);
                } else if durable && let Some(text) = self.groups.write_down(group, number) {
                    self.clients.ledger.give(text, number, &m, self.clients.now);
                }
            }
        }
    }

    /// A session that is still being shown retained messages must not get an older one of this topic afterwards.
    #[cold]
    fn note_seen(&mut self, target: Target, topic: &str) {
        let session = self.clients.sessions.get_mut(target.key() as usize);
        if let Some(replay) = session.and_then(|s| s.replay.as_mut()) {
            replay.see(topic);
        }
    }
}

/// Whether a shard does not keep up with what this one has for it.
#[inline]
pub(super) fn congested(full: Mask, shard: u32, batch: &Batch) -> bool {
    full & (1 << shard) != 0 || batch.weight() > super::mailbox::FULL
}

/// Sends a group's message to the member that was chosen. `false`: at QoS 0 to a shard that does not keep up, dropped.
/// At QoS > 0 a member's bound on what it has not settled is a bound on its mail, too.
pub(super) fn to_member(
    clients: &mut Clients,
    outgoing: &mut [Batch],
    full: Mask,
    id: ShardId,
    assigned: &Assigned,
    message: &mut Outgoing<'_>,
) -> bool {
    let (m, options) = (&message.message, assigned.options);
    let qos = m.qos.min(granted(options));
    if assigned.shard == id {
        let ids = options.id().map_or(SubscriptionIds::None, SubscriptionIds::One);
        let retain = m.retain && options.retain_as_published();
        clients.deliver(assigned.session, qos, retain, &ids, message, Some(assigned.via));
    } else if let Some(batch) = outgoing.get_mut(usize::from(assigned.shard)) {
        if qos == QoS::AtMostOnce && congested(full, u32::from(assigned.shard), batch) {
            clients.counters.messages_dropped.bump(DropReason::OutboxFull);
            return false;
        }
        batch.push(Mail::Share(Box::new(Share {
            message: message.owned(),
            session: assigned.session,
            options,
            via: assigned.via,
        })));
    }
    true
}
