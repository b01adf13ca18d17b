//! Between shards: mail in, mail out, and the end of a turn.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::clients::Overflowed;
use super::door::{granted, to_member};
use super::group::Over;
use super::interest::Mask;
use super::lookups::Purpose;
use super::mailbox::{Gone, Join, Mail, Serial, Share};
use super::publish::TAKEN_BY_NOBODY;
use super::records;
use super::{Core, End, ShardId};
use crate::message::{ELSEWHERE, MessageRef, SubscriptionIds, Via};
use crate::metrics::{CloseReason, DropReason};
use crate::protocol::{QoS, ReasonCode};
use crate::session::Session;
use crate::topic::{Subscription, SubscriptionOptions, Target};

/// Emptied batches kept for the next turn.
const KEEP_BATCHES: usize = 16;

impl Core {
    /// Puts mail into the batch for another shard.
    pub(super) fn post(&mut self, shard: ShardId, mail: Mail) {
        if let Some(batch) = self.outgoing.get_mut(usize::from(shard)) {
            batch.push(mail);
        }
    }

    /// Works off what other shards have posted. Calls `wake` for each sender that waited for room.
    pub fn open_mail(&mut self, mut wake: impl FnMut(ShardId)) {
        let exchange = self.exchange.clone();
        let Some(mailbox) = exchange.mailboxes.get(usize::from(self.id)) else { return };
        let mut batches = Vec::new();
        mailbox.take(&mut batches);
        for mut batch in batches {
            let (from, weight) = batch.origin();
            if let Some(sequence) = batch.stamped() {
                self.clients.ledger.join(from, sequence);
            }
            batch.open(
                self,
                |core, message, serial| {
                    core.refused_by_all = false;
                    core.deliver(&message, None);
                    core.tell_refused(from, serial);
                },
                |core, mail| core.mail(from, mail),
            );
            if let Some(waiting) = mailbox.opened(weight, from) {
                wake(waiting);
            }
            if self.spare.len() < KEEP_BATCHES {
                self.spare.extend(batch.spare());
            }
        }
    }

    /// Works off what is there before bytes are looked at that may have been sent because of it: a subscription whose
    /// SUBACK the client has seen, a retained message whose PUBACK it has seen.
    #[inline]
    pub(super) fn catch_up(&mut self) {
        if self.exchange.mailboxes.get(usize::from(self.id)).is_some_and(super::mailbox::Mailbox::posted) {
            let mut wake = 0;
            self.open_mail(|sender| wake |= 1 << sender);
            self.wake |= wake;
        }
    }

    fn mail(&mut self, from: ShardId, mail: Mail) {
        match mail {
            Mail::Small(_) => {}
            Mail::Large(message, serial) => {
                self.refused_by_all = false;
                // `from` is a slab key of the shard that it comes from.
                let view = MessageRef { from: ELSEWHERE, ..message.view() };
                self.deliver(&view, Some(message.clone()));
                self.tell_refused(from, serial);
            }
            Mail::Retain(message, serial) => {
                self.refused_by_all = false;
                self.store_retained(message);
                self.tell_refused(from, serial);
            }
            Mail::Change(message, serial) => self.change_arrives(from, &message, serial),
            Mail::Changed(serial) => self.clients.ledger.told(serial),
            Mail::Refused(serial) => self.refused_elsewhere(serial, TAKEN_BY_NOBODY),
            Mail::Errand(errand, serial) => self.errand_arrives(from, *errand, serial),
            Mail::Denied(serial, refused) => self.refused_elsewhere(serial, refused),
            Mail::Ask(question) => {
                if let Some(page) = self.answer(&question) {
                    self.post(question.shard, Mail::Page(Box::new(page)));
                }
            }
            Mail::Page(page) => self.page_came(*page),
            Mail::Join(join) => {
                self.member_joins(&join);
                self.exchange.interest.joined(&Arc::from(super::shared::split(&join.text).1), self.id);
            }
            Mail::Gone(gone) => self.member_goes(*gone),
            Mail::Share(share) => self.shared(*share),
            Mail::Bounce(share) => {
                self.clients.counters.shared_redispatched += 1;
                self.came_back(&share);
            }
            Mail::Settled(via, weight) => self.settled(via, weight),
        }
    }

    /// Says to a publisher's shard that nobody here could take its message.
    #[inline]
    pub(super) fn tell_refused(&mut self, from: ShardId, serial: Serial) {
        if self.refused_by_all && serial != 0 {
            self.post(from, Mail::Refused(serial));
        }
    }

    pub(super) fn member_joins(&mut self, join: &Join) {
        let (group, new) = self.groups.join(join);
        if new {
            self.subscribe_group(group);
        } else if join.kept
            && let Some(group) = self.groups.get(group)
        {
            self.exchange.interest.add(&Arc::from(group.filter()), self.id, true);
        }
        self.drain_group(group);
    }

    /// A member is done with a message.
    fn settled(&mut self, via: Via, weight: u32) {
        self.given(via.group, via.number.get());
        if self.groups.settled(via, weight) {
            self.drain_group(via.group);
        }
    }

    /// A group is done with a message.
    fn given(&mut self, group: u32, number: u64) {
        if let Some(text) = self.groups.erase(group, number) {
            self.clients.ledger.given(text, number);
        }
    }

    /// A group is over, and with it what nobody has had or has not settled.
    fn over(&mut self, text: &str, over: &Over) {
        self.clients.counters.messages_dropped.add(DropReason::SharedNoMember, over.lost as u64);
        for number in &over.written {
            self.clients.ledger.given(text, *number);
        }
    }

    /// Enters a group's filter into the index.
    pub(super) fn subscribe_group(&mut self, key: u32) {
        let Some(group) = self.groups.get(key) else { return };
        let options = SubscriptionOptions::new(QoS::ExactlyOnce as u8, false, true, 0);
        let subscription = Subscription { target: Target::group(key), options };
        let kept = self.groups.kept(key).is_some() && self.clients.ledger.on();
        let added = self.index.subscribe(group.filter(), subscription);
        if added.first || kept {
            self.exchange.interest.add(&added.filter, self.id, kept);
        }
    }

    pub(super) fn member_goes(&mut self, gone: Gone) {
        let (text, returned) = (gone.text.clone(), gone.returned.len());
        let Some((group, over)) = self.groups.gone(gone) else {
            return self.clients.counters.messages_dropped.add(DropReason::SharedNoMember, returned as u64);
        };
        self.over(&text, &over);
        if self.groups.get(group).is_none_or(|g| g.text != text) {
            self.drop_interest(super::shared::split(&text).1, Target::group(group));
        }
        self.drain_group(group);
    }

    /// A delivery found its member gone. The last one of a group without members ends the group.
    fn came_back(&mut self, share: &Share) {
        let group = share.via.group;
        let Some(text) = self.groups.get(group).map(|g| g.text.clone()) else { return };
        let over = self.groups.bounced(group, share.via.number.get(), share.message.clone());
        self.over(&text, &over);
        if self.groups.get(group).is_none() {
            self.drop_interest(super::shared::split(&text).1, Target::group(group));
        }
        self.drain_group(group);
    }

    /// A message of a group that lives elsewhere, for a member here.
    fn shared(&mut self, share: Share) {
        let membership = self
            .clients
            .sessions
            .get_mut(share.session as usize)
            .and_then(|s| s.memberships.as_mut())
            .and_then(|m| m.iter_mut().find(|m| m.stay == share.via.stay && m.present));
        let Some(membership) = membership else {
            return self.post(share.via.home, Mail::Bounce(Box::new(share)));
        };
        membership.arrived += 1;
        let Share { message, session, options, via } = share;
        let view = message.view();
        let ids = options.id().map_or(SubscriptionIds::None, SubscriptionIds::One);
        let mut outgoing = self.clients.outgoing(view, false);
        outgoing.owned = Some(message.clone());
        let retain = view.retain && options.retain_as_published();
        self.clients.deliver(session, view.qos.min(granted(options)), retain, &ids, &mut outgoing, Some(via));
        self.clients.delivered(outgoing);
    }

    /// Hands out what waits in a group, as far as members have room.
    fn drain_group(&mut self, group: u32) {
        self.drop_expired(group);
        while let Some((message, assigned)) = self.groups.next(group) {
            let mut outgoing = self.clients.outgoing(message.view(), false);
            outgoing.owned = Some(message.clone());
            if !to_member(&mut self.clients, &mut self.outgoing, self.full, self.id, &assigned, &mut outgoing)
            {
                self.groups.unsent(&assigned.via);
            }
            self.clients.delivered(outgoing);
            if !assigned.counted {
                // Nobody will settle it: the member has subscribed at QoS 0.
                self.given(group, assigned.via.number.get());
            }
        }
        if let Some((text, numbers)) = self.groups.wanted(group) {
            let keys = numbers.iter().map(|number| records::group_key(&text, *number)).collect();
            self.clients.lookups.ask(&self.clients.ledger, Purpose::Backlog { text, numbers }, keys);
        }
    }

    /// Messages that wait in a group have come from the store.
    fn backlog_came(&mut self, text: &str, numbers: &[u64], values: &[Option<Box<[u8]>>]) {
        let Some(group) = self.groups.answered(text) else { return };
        for (number, value) in numbers.iter().zip(values) {
            let message = value.as_deref().and_then(|value| records::read_body(value, "", self.clients.now));
            if !self.groups.arrived(group, *number, message) {
                self.clients.counters.messages_dropped.bump(DropReason::StoreDamaged);
                self.given(group, *number);
            }
        }
        self.drain_group(group);
    }

    /// Lets go of what has expired while it waited for a member [MQTT-3.3.2-5].
    fn drop_expired(&mut self, group: u32) {
        let expired = self.groups.drop_expired(group, self.clients.now.mono);
        self.clients.counters.messages_dropped.add(DropReason::Expired, expired.len() as u64);
        for number in expired {
            self.given(group, number);
        }
    }

    /// Makes room in the groups where messages have expired.
    pub(super) fn sweep_groups(&mut self) {
        for group in self.groups.outdated(self.clients.now.mono) {
            self.drop_expired(group);
        }
    }

    fn settle(&mut self) {
        // Settling hands out more, which may settle more (a message that is too large for its member).
        while !self.clients.settled.is_empty() {
            for (via, weight) in std::mem::take(&mut self.clients.settled) {
                if via.home == self.id {
                    self.settled(via, weight);
                } else {
                    self.post(via.home, Mail::Settled(via, weight));
                }
            }
        }
    }

    /// What a turn leaves to be done before its mail is posted and its output written. Returns the shards that have
    /// to be woken.
    pub fn end_turn(&mut self) -> Mask {
        self.deadlines.begin_turn();
        self.release();
        self.replay_all();
        self.settle();
        for overflowed in std::mem::take(&mut self.clients.overflowed) {
            let Overflowed { session, generation, connection } = overflowed;
            let same = |s: &Session| s.generation == generation && s.connection == connection;
            if self.clients.sessions.get(session as usize).is_some_and(same) {
                let code = ReasonCode::QUOTA_EXCEEDED;
                self.end(
                    connection,
                    End::new(CloseReason::SlowReader, code, "too much waits for this client"),
                );
            }
        }
        self.post_all()
    }

    fn post_all(&mut self) -> Mask {
        let mut wake = std::mem::take(&mut self.wake);
        if self.outgoing.len() > 1 {
            self.post_batches(&mut wake);
            if self.tell_new_subscribers() {
                self.post_batches(&mut wake);
            }
        }
        // Behind the mail: a shard that has refused something has said so before its part is durable.
        if let Some(bytes) = self.clients.ledger.submit() {
            self.clients.counters.store_submissions += 1;
            self.clients.counters.store_bytes += bytes as u64;
        }
        if self.clients.lookups.pending() {
            self.clients.lookups.send(self.clients.ledger.committed());
        }
        if self.full == 0 && !self.held.is_empty() && !self.clients.ledger.congested() {
            self.effects.resume.append(&mut self.held);
        }
        wake
    }

    /// Sends the answers whose promises are durable by now, and what may be sent at QoS 2.
    fn release(&mut self) {
        while let Some((purpose, found)) = self.clients.lookups.take() {
            match purpose {
                Purpose::Deliveries { session, generation, wanted } => {
                    self.clients.fetched((session, generation), &wanted, &found.values);
                }
                Purpose::Backlog { text, numbers } => self.backlog_came(&text, &numbers, &found.values),
                Purpose::Page(incomplete) => self.complete(*incomplete, &found.values),
                Purpose::Transcript(page) => self.show_transcript(*page, &found.values),
            }
        }
        self.announce_due();
        if !self.clients.ledger.waiting() {
            return;
        }
        let committed = self.clients.ledger.committed();
        // A refusal of another shard was posted before that shard's part could become durable.
        self.catch_up();
        self.clients.release(committed);
        while let Some((key, generation, number)) = self.clients.ledger.assured(committed) {
            let session = self.clients.sessions.get_mut(key as usize).filter(|s| s.generation == generation);
            if let Some(outbox) = session.and_then(|s| s.outbox.as_mut()) {
                outbox.assure(number);
                self.clients.pump(key);
            }
        }
    }

    /// A shard may have subscribed after a message's interest was looked up, and have asked the topic's home before
    /// the message was posted there: it would learn of it on neither way. What is retained goes to such shards now.
    fn tell_new_subscribers(&mut self) -> bool {
        if self.retaining.is_empty() {
            return false;
        }
        // The message is posted, only now the interest is looked at: see `replay_all` for the other side.
        fence(Ordering::SeqCst);
        let interest = &self.exchange.interest;
        let (version, mut any) = (interest.version(), false);
        for (message, told, at) in self.retaining.drain(..) {
            if at == version {
                continue;
            }
            let view = message.view();
            let shards = interest.of(view.topic);
            let new = shards.any & !told & !(1 << self.id);
            self.clients.ledger.cross(shards.kept & new);
            for (shard, batch) in self.outgoing.iter_mut().enumerate() {
                if new & (1 << shard) != 0 {
                    any = true;
                    batch.publish(&view, &mut Some(message.clone()), 0);
                }
            }
        }
        any
    }

    fn post_batches(&mut self, wake: &mut Mask) {
        let before = std::mem::take(&mut self.full);
        for (shard, mailbox) in self.exchange.mailboxes.iter().enumerate() {
            let Some(batch) = self.outgoing.get_mut(shard).filter(|b| !b.is_empty()) else {
                // A turn has several rounds, and a round that posts nothing empties no mailbox.
                let was_full = before & (1 << shard) != 0;
                if (was_full || !self.held.is_empty()) && mailbox.full(self.id) {
                    self.full |= 1 << shard;
                }
                continue;
            };
            batch.stamp(self.clients.ledger.stamp(shard));
            self.clients.counters.mailbox_batches_sent += 1;
            self.clients.counters.mailbox_messages_sent += batch.len() as u64;
            if mailbox.post(batch, self.id, self.spare.pop()) {
                *wake |= 1 << shard;
            }
            if mailbox.full(self.id) {
                self.full |= 1 << shard;
                self.clients.counters.mailbox_congested += 1;
            }
        }
    }
}
