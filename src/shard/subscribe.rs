//! SUBSCRIBE and UNSUBSCRIBE.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::mailbox::{Gone, Join, Mail};
use super::{Core, End};
use crate::auth::acl::Rights;
use crate::message::Delivery;
use crate::metrics::{CloseReason, Packet as PacketLabel, SubscribeRefusal};
use crate::protocol::{
    QoS, ReasonCode, ReasonProperties, RetainHandling, SubAck, Subscribe, SubscribeFilter, UnsubAck,
    Unsubscribe, Version,
};
use crate::session::{Membership, Outbox};
use crate::topic::{Subscription, SubscriptionOptions, Target, parse_filter};

/// SUBACK and UNSUBACK cannot be shortened, and without one the client would wait for ever.
const ANSWER_TOO_LARGE: End = End::new(
    CloseReason::PacketTooLarge,
    ReasonCode::PACKET_TOO_LARGE,
    "the answer is larger than Maximum Packet Size",
);

impl Core {
    pub(super) fn subscribe(&mut self, key: u32, session: u32, packet: &Subscribe<'_>) -> Result<(), End> {
        let version = self.clients.connections.get(key as usize).map_or(Version::V311, |c| c.link.version);
        let mark = self.clients.ledger.mark();
        let rights = self.rights(key);
        let mut reasons: SmallVec<[u8; 16]> = SmallVec::new();
        for wish in packet.filters.iter() {
            let reason = match self.add_subscription(session, &rights, wish, packet.subscription_id) {
                Ok(qos) => {
                    self.clients.counters.subscriptions_granted += 1;
                    qos as u8
                }
                Err((code, why)) => {
                    self.clients.counters.subscriptions_refused.bump(why);
                    // 3.1.1 knows one failure [MQTT-3.9.3-2].
                    if version.is_v5() { code.0 } else { 0x80 }
                }
            };
            reasons.push(reason);
        }
        let suback = SubAck {
            packet_id: packet.packet_id,
            properties: ReasonProperties::default(),
            reasons: &reasons,
        };
        let after = self.clients.ledger.since(mark);
        let fits =
            self.clients.send_after(key, after, PacketLabel::SubAck, |out| suback.encode(version, out));
        fits.then_some(()).ok_or(ANSWER_TOO_LARGE)
    }

    fn add_subscription(
        &mut self,
        session: u32,
        rights: &Rights,
        mut wish: SubscribeFilter<'_>,
        id: Option<u32>,
    ) -> Result<QoS, (ReasonCode, SubscribeRefusal)> {
        let parsed = parse_filter(wish.filter, &self.topic_limits())
            .map_err(|_| (ReasonCode::TOPIC_FILTER_INVALID, SubscribeRefusal::FilterInvalid))?;
        let most = rights
            .may_subscribe(wish.filter)
            .ok_or((ReasonCode::NOT_AUTHORIZED, SubscribeRefusal::NotAuthorized))?;
        wish.qos = wish.qos.min(match most {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        });
        let stored = self.clients.sessions.get(session as usize).map_or(0, |s| s.stored);
        if let Some(code) = self.unwell().filter(|_| stored != 0) {
            return Err((code, SubscribeRefusal::Store));
        }
        let options = SubscriptionOptions::new(
            wish.qos as u8,
            wish.no_local,
            wish.retain_as_published,
            id.unwrap_or(0),
        );
        let limits = &self.exchange.settings.limits;
        let (limit, shared_limit) =
            (limits.max_subscriptions_per_session, limits.max_shared_subscriptions_per_session);
        let quota = (ReasonCode::QUOTA_EXCEEDED, SubscribeRefusal::QuotaExceeded);
        if parsed.share.is_some() {
            let full = self.memberships(session) >= shared_limit;
            self.join_group(session, wish.filter, options, full).map_err(|()| quota)?;
            return Ok(wish.qos);
        }
        let full = self.clients.sessions.get(session as usize).is_none_or(|s| s.filters.len() >= limit);
        let target = Target::session(session);
        let added = self.index.subscribe(wish.filter, Subscription { target, options });
        if full && added.replaced.is_none() {
            // Only the index knows at once what the session has: looking through its filters would cost more the
            // more it has.
            self.index.unsubscribe(wish.filter, target);
            return Err(quota);
        }
        let kept = stored != 0 && wish.qos != QoS::AtMostOnce;
        if added.first || kept {
            self.exchange.interest.add(&added.filter, self.id, kept);
        }
        self.clients.ledger.subscribe(stored, wish.filter, options);
        let new = added.replaced.is_none();
        if new && let Some(target) = self.clients.sessions.get_mut(session as usize) {
            insert_filter(&mut target.filters, added.filter.clone());
        }
        // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
        let show = match wish.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => new,
            RetainHandling::DoNotSend => false,
        };
        if show {
            self.queue_replay(session, added.filter, options);
        }
        Ok(wish.qos)
    }

    /// Enters a shared group, or changes the options of a stay in it.
    fn join_group(
        &mut self,
        session: u32,
        text: &str,
        options: SubscriptionOptions,
        full: bool,
    ) -> Result<(), ()> {
        let stay = self.next_stay();
        let Some(target) = self.clients.sessions.get_mut(session as usize) else { return Ok(()) };
        let kept = target.stored != 0;
        let memberships = target.memberships.get_or_insert_default();
        let join = match place(memberships, text) {
            Ok(at) => {
                let Some(known) = memberships.get_mut(at) else { return Ok(()) };
                known.options = options;
                if std::mem::take(&mut known.ended) {
                    // What is still in flight from before goes back to the group together with what comes now.
                    if let Some(outbox) = target.outbox.as_mut() {
                        outbox.move_stay(known.stay, stay);
                    }
                    known.stay = stay;
                    known.arrived = 0;
                    known.present = true;
                }
                Join { text: known.filter.clone(), shard: self.id, session, stay: known.stay, options, kept }
            }
            Err(_) if full => {
                if memberships.is_empty() {
                    target.memberships = None;
                }
                return Err(());
            }
            Err(at) => {
                let text: Arc<str> = Arc::from(text);
                let new = Membership {
                    filter: text.clone(),
                    stay,
                    arrived: 0,
                    present: true,
                    ended: false,
                    options,
                };
                memberships.insert(at, new);
                Join { text, shard: self.id, session, stay, options, kept }
            }
        };
        let stored = target.stored;
        self.clients.ledger.subscribe(stored, text, options);
        self.send_join(join);
        Ok(())
    }

    /// Tells a stay apart from all others of all shards.
    pub(super) fn next_stay(&mut self) -> u32 {
        let number = self.next_number();
        number.wrapping_mul(u32::from(self.exchange.shards())).wrapping_add(u32::from(self.id))
    }

    fn send_join(&mut self, join: Join) {
        let home = self.exchange.home(&join.text);
        if home == self.id {
            self.member_joins(&join);
        } else {
            let kept = join.kept;
            self.exchange.interest.expect(&Arc::from(super::shared::split(&join.text).1), home, kept);
            self.post(home, Mail::Join(Box::new(join)));
        }
    }

    /// Puts a resumed session's memberships back into their groups.
    pub(super) fn rejoin_groups(&mut self, session: u32) {
        let count = self.memberships(session);
        let kept = self.clients.sessions.get(session as usize).is_some_and(|s| s.stored != 0);
        for at in 0..count {
            let stay = self.next_stay();
            let Some(membership) = self.membership_mut(session, at) else { return };
            membership.stay = stay;
            membership.arrived = 0;
            membership.present = true;
            let (text, options) = (membership.filter.clone(), membership.options);
            self.send_join(Join { text, shard: self.id, session, stay, options, kept });
        }
    }

    /// Takes a session out of its groups because its connection is gone; it comes back if it is `away` only.
    pub(super) fn leave_groups(&mut self, session: u32, away: bool) {
        let Some(target) = self.clients.sessions.get_mut(session as usize) else { return };
        let Some(memberships) = target.memberships.as_ref() else { return };
        let mut returned: HashMap<u32, Vec<Delivery>, ahash::RandomState> =
            memberships.iter().map(|m| (m.stay, Vec::new())).collect();
        if let Some(outbox) = target.outbox.as_mut() {
            let theirs =
                |delivery: &Delivery| delivery.via.is_some_and(|via| returned.contains_key(&via.stay));
            for (number, delivery) in outbox.take_shared(false, theirs) {
                self.clients.ledger.settle(target.stored, delivery.settled(number));
                if let Some(via) = delivery.via {
                    returned.entry(via.stay).or_default().push(delivery);
                }
            }
        }
        for at in 0..self.memberships(session) {
            let stay = self.membership_mut(session, at).map(|m| m.stay);
            let returned = stay.and_then(|stay| returned.remove(&stay)).unwrap_or_default();
            self.leave_group(session, at, away, returned);
        }
        self.drop_memberships(session, |m, _| away && !m.ended);
        self.clients.close_outbox(session);
    }

    /// Ends one membership. What the client has been sent already it may still acknowledge [MQTT-3.10.4-3].
    fn end_membership(&mut self, session: u32, at: usize) {
        let Some(stay) = self.membership_mut(session, at).map(|m| m.stay) else { return };
        let mut waiting = Vec::new();
        if let Some(target) = self.clients.sessions.get_mut(session as usize)
            && let Some(outbox) = target.outbox.as_mut()
        {
            let theirs = |delivery: &Delivery| delivery.via.is_some_and(|via| via.stay == stay);
            for (number, delivery) in outbox.take_shared(true, theirs) {
                self.clients.ledger.settle(target.stored, delivery.settled(number));
                waiting.push(delivery);
            }
        }
        self.leave_group(session, at, false, waiting);
        if let Some(membership) = self.membership_mut(session, at) {
            membership.ended = true;
        }
        self.clients.close_outbox(session);
        self.drop_memberships(session, |m, outbox| {
            let of_this_stay = |d: &Delivery| d.via.is_some_and(|via| via.stay == m.stay);
            !m.ended || outbox.is_some_and(|outbox| outbox.holds(of_this_stay))
        });
    }

    fn drop_memberships(&mut self, session: u32, keep: impl Fn(&Membership, Option<&Outbox>) -> bool) {
        let Some(target) = self.clients.sessions.get_mut(session as usize) else { return };
        if let Some(memberships) = target.memberships.as_mut() {
            memberships.retain(|m| keep(m, target.outbox.as_deref()));
            if memberships.is_empty() {
                target.memberships = None;
            }
        }
    }

    /// Tells a group that a member is gone, and gives back what it had been given.
    fn leave_group(&mut self, session: u32, at: usize, away: bool, returned: Vec<Delivery>) {
        let id = self.id;
        let Some(membership) = self.membership_mut(session, at) else { return };
        let Membership { stay, ended, arrived, .. } = *membership;
        membership.present = false;
        let text = membership.filter.clone();
        if ended && returned.is_empty() {
            return;
        }
        self.clients.counters.shared_redispatched += returned.len() as u64;
        let home = self.exchange.home(&text);
        let arrived = if home == id { u64::MAX } else { arrived };
        let returned = returned.into_iter().filter_map(|d| Some((d.via?.number.get(), d.message))).collect();
        let gone = Gone { text, shard: id, session, stay, arrived, returned, away };
        if home == id {
            self.member_goes(gone);
        } else {
            self.post(home, Mail::Gone(Box::new(gone)));
        }
    }

    fn memberships(&self, session: u32) -> usize {
        self.clients
            .sessions
            .get(session as usize)
            .and_then(|s| s.memberships.as_ref())
            .map_or(0, |m| m.len())
    }

    fn membership_mut(&mut self, session: u32, at: usize) -> Option<&mut Membership> {
        self.clients.sessions.get_mut(session as usize)?.memberships.as_mut()?.get_mut(at)
    }

    pub(super) fn unsubscribe(
        &mut self,
        key: u32,
        session: u32,
        packet: &Unsubscribe<'_>,
    ) -> Result<(), End> {
        let version = self.clients.connections.get(key as usize).map_or(Version::V311, |c| c.link.version);
        let mark = self.clients.ledger.mark();
        let mut reasons: SmallVec<[u8; 16]> = SmallVec::new();
        for filter in packet.filters.iter() {
            let known = self.remove_subscription(session, filter);
            let reason = if known { ReasonCode::SUCCESS } else { ReasonCode::NO_SUBSCRIPTION_EXISTED };
            reasons.push(reason.0);
        }
        let unsuback = UnsubAck {
            packet_id: packet.packet_id,
            properties: ReasonProperties::default(),
            reasons: &reasons,
        };
        // What is not there may have been taken away on an earlier connection a moment ago.
        let kept = self.clients.sessions.get(session as usize).is_some_and(|s| s.stored != 0);
        let after =
            self.clients.ledger.since(mark).or_else(|| kept.then(|| self.clients.ledger.so_far()).flatten());
        let fits =
            self.clients.send_after(key, after, PacketLabel::UnsubAck, |out| unsuback.encode(version, out));
        fits.then_some(()).ok_or(ANSWER_TOO_LARGE)
    }

    pub(super) fn remove_subscription(&mut self, session: u32, filter: &str) -> bool {
        let shared = self
            .clients
            .sessions
            .get(session as usize)
            .and_then(|s| s.memberships.as_ref())
            .and_then(|memberships| place(memberships, filter).ok());
        let stored = self.clients.sessions.get(session as usize).map_or(0, |s| s.stored);
        if let Some(at) = shared {
            let there = self.membership_mut(session, at).is_some_and(|m| !m.ended);
            if there {
                self.clients.ledger.unsubscribe(stored, filter);
                self.end_membership(session, at);
            }
            return there;
        }
        if !self.drop_interest(filter, Target::session(session)) {
            return false;
        }
        self.clients.ledger.unsubscribe(stored, filter);
        self.cancel_replay(session, filter);
        let Some(target) = self.clients.sessions.get_mut(session as usize) else { return true };
        if let Ok(at) = target.filters.binary_search_by(|known| (**known).cmp(filter)) {
            target.filters.remove(at);
        }
        true
    }

    /// Takes a subscription out of the index, and the shard's interest with the last one. `false`: it was not there.
    pub(super) fn drop_interest(&mut self, filter: &str, target: Target) -> bool {
        let Some(removed) = self.index.unsubscribe(filter, target) else { return false };
        if removed.last && !self.index.has_another(filter) {
            self.exchange.interest.remove(filter, self.id);
        }
        true
    }

    /// Takes all of an ended session's subscriptions out.
    pub(super) fn drop_subscriptions(&mut self, session: u32) {
        self.leave_groups(session, false);
        let filters = self
            .clients
            .sessions
            .get_mut(session as usize)
            .map(|s| std::mem::take(&mut s.filters))
            .unwrap_or_default();
        for filter in filters {
            self.drop_interest(&filter, Target::session(session));
        }
    }
}

/// Where a shared subscription stands, or would stand, among those of a session, which are in the order of their texts.
pub(super) fn place(memberships: &[Membership], text: &str) -> Result<usize, usize> {
    memberships.binary_search_by(|known| (*known.filter).cmp(text))
}

/// Puts a new filter among a session's, in the order of their texts.
pub(super) fn insert_filter(filters: &mut SmallVec<[Arc<str>; 1]>, filter: Arc<str>) {
    let at = filters.partition_point(|known| **known < *filter);
    filters.insert(at, filter);
}
