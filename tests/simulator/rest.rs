//! What must be true when everything has come to rest, when everybody has left, and when all time has passed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::Ordering;

use switchboard::metrics::DropReason;

use super::client::{RETAINED_TOPICS, WITNESS, group_of, group_qos};
use super::oracle::{Fate, Sent};
use super::world::World;

impl World {
    /// What the broker holds of a client.
    fn broker_view(&self, client: usize) -> String {
        let id = &self.clients[client].id;
        let clients = &self.cores[usize::from(self.exchange.home(id))].clients;
        let session = clients.find(id).and_then(|key| clients.sessions.get(key as usize));
        let connection = session.and_then(|s| clients.connections.get(s.connection as usize));
        format!(
            "the broker: in flight and waiting {:?}, output {:?}, {:?}",
            session.map(switchboard::session::Session::owed),
            connection.map(|c| (c.out.len(), c.blocked, c.dirty, c.paused)),
            session.and_then(|s| s.outbox.as_ref())
        )
    }

    /// How much was dropped, before crashes and since.
    pub fn drops(&mut self, reason: DropReason) -> u64 {
        let now: u64 = self.cores.iter_mut().map(|core| core.counters().messages_dropped.count(reason)).sum();
        now + self.oracle.dropped.get(reason as usize).copied().unwrap_or(0)
    }

    /// All that was owed has come. Everything is at rest, and everybody with a session is connected.
    pub fn judge_rest(&mut self) {
        let queue_full = self.drops(DropReason::QueueFull);
        let backlog_full = self.drops(DropReason::SharedBacklogFull);
        self.oracle.stats.queue_full += queue_full;
        self.oracle.stats.too_large += self.drops(DropReason::TooLarge);
        self.oracle.stats.expired += self.drops(DropReason::Expired);
        let mut groups: HashMap<usize, bool> = HashMap::new();
        for owed in std::mem::take(&mut self.oracle.owed) {
            let sent = &self.oracle.messages[owed.message];
            let client = &self.clients[owed.client];
            let mark = if self.compressed(owed.message) { 40 } else { 0 };
            let size = sent.size + sent.topic.len() + 40 + mark;
            let smallest = self.clients.iter().map(|c| c.least_packet).min().unwrap_or(u32::MAX);
            let shared = group_of(&sent.topic).is_some();
            let least = if shared { smallest } else { client.least_packet };
            let held =
                client.truth.session.is_some_and(|s| s.instance == owed.instance && s.attached.is_some());
            let sub = client.session.subs.get(&owed.filter);
            let stayed = sub.is_some_and(|sub| sub.changed_at < sent.at && sub.certain.is_some());
            if sent.acked.is_none() || sent.expiry.is_some() || !held || !stayed || size > least as usize {
                continue;
            }
            if shared {
                *groups.entry(owed.message).or_default() |= self.oracle.visits.contains_key(&owed.message);
                continue;
            }
            if queue_full > 0 {
                continue;
            }
            self.oracle.stats.owed += 1;
            self.oracle.stats.owed_over_crash += u64::from(sent.acked <= Some(self.oracle.crashed_at));
            if !client.session.seen.contains_key(&owed.message) {
                return self.fail(format!(
                    "message {} on {} was acknowledged and never reached c{} by {}; {}",
                    owed.message,
                    sent.topic,
                    owed.client,
                    owed.filter,
                    self.broker_view(owed.client)
                ));
            }
        }
        let mut missing: Vec<(usize, bool)> =
            groups.into_iter().filter(|_| backlog_full + queue_full == 0).collect();
        missing.sort_unstable();
        for (message, seen) in missing {
            let Sent { topic, acked, .. } = &self.oracle.messages[message];
            self.oracle.stats.shared_over_crash += u64::from(*acked <= Some(self.oracle.crashed_at));
            debug_assert!(group_of(topic).is_some_and(|group| group_qos(group) > 0));
            self.oracle.stats.owed_shared += 1;
            if !seen {
                return self
                    .fail(format!("message {message} on {topic} was acknowledged and reached no member"));
            }
        }
        self.judge_shown();
        self.judge_settled();
    }

    fn judge_shown(&mut self) {
        let settings = self.plan.settings.clone();
        for shown in std::mem::take(&mut self.oracle.shown) {
            let sent = &self.oracle.messages[shown.message];
            let client = &self.clients[shown.client];
            let held =
                client.truth.session.is_some_and(|s| s.instance == shown.instance && s.attached.is_some());
            let same = client.session.instance == shown.instance;
            let sub = client.session.subs.get(&shown.filter);
            let stayed = sub.is_some_and(|sub| {
                sub.changed_at <= shown.asked_at && sub.variants.len() < 2 && sub.certain.is_some()
            });
            let newer = self.oracle.messages.iter().skip(shown.message + 1).any(|m| m.topic == sent.topic);
            let qos = sent.qos.min(shown.options.qos);
            // What was sent at QoS 0 may be lost with a connection.
            if !held || !same || !stayed || newer || qos == 0 || settings.session.queue_messages < 1000 {
                continue;
            }
            self.oracle.stats.owed_retained += 1;
            let key = (sent.topic.clone(), shown.message, shown.options.id.filter(|_| client.v5));
            if !client.session.shown.contains(&key) {
                return self.fail(format!(
                    "c{} subscribed {} and was not shown message {}, retained at {}",
                    shown.client, shown.filter, shown.message, sent.topic
                ));
            }
        }
    }

    /// All wills that were due have come, once.
    pub fn judge_wills(&mut self) {
        for client in 0..self.clients.len() {
            if let Some((will, _)) = self.clients[client].truth.will.take() {
                self.oracle.wills.insert(will, Fate::Must);
            }
        }
        let seen: HashSet<usize> = self.clients[WITNESS].session.seen.keys().copied().collect();
        let mut wills: Vec<(usize, Fate)> =
            self.oracle.wills.iter().map(|(&will, &fate)| (will, fate)).collect();
        wills.sort_unstable_by_key(|(will, _)| *will);
        let full = self.drops(DropReason::QueueFull) > 0;
        for (will, fate) in wills {
            let must = fate == Fate::Must;
            self.oracle.stats.wills += u64::from(must);
            self.oracle.stats.wills_not += u64::from(fate == Fate::MustNot);
            if must && !full && !seen.contains(&will) {
                let publisher = self.oracle.messages[will].publisher;
                return self.fail(format!("will {will} of c{publisher} was due and never came"));
            }
        }
    }

    /// The witness was shown all retained topics: each value must be one that may be the last.
    pub fn judge_retained_values(&mut self) {
        for n in 0..RETAINED_TOPICS {
            let topic = format!("r/{n}");
            let mut possible: BTreeSet<Option<usize>> = [None].into();
            for (number, message) in self.oracle.messages.iter().enumerate() {
                if message.topic == topic {
                    if message.acked.is_some() {
                        possible.clear();
                    }
                    possible.insert((message.size > 0).then_some(number));
                }
            }
            let shown = &self.clients[WITNESS].session.shown;
            let found: Vec<usize> =
                shown.iter().filter(|s| s.0 == topic && s.2.is_none()).map(|s| s.1).collect();
            let fits = match found.as_slice() {
                [] => possible.contains(&None),
                [one] => possible.contains(&Some(*one)),
                _ => false,
            };
            if !fits {
                return self.fail(format!("{topic} holds {found:?}, it may hold {possible:?}"));
            }
        }
    }

    /// Everybody is gone and all time has passed: nothing may be left but retained messages.
    pub fn judge_nothing_left(&mut self) {
        for shard in 0..self.cores.len() {
            let gauges = self.cores[shard].gauges();
            let depth = self.exchange.mailboxes[shard].depth();
            if gauges.sessions + gauges.connections > 0 || depth > 0 || self.cores[shard].busy() {
                return self.fail(format!(
                    "shard {shard} is left with {} sessions, {} connections, {depth} bytes of mail",
                    gauges.sessions, gauges.connections
                ));
            }
        }
        let (sessions, interest) =
            (self.exchange.sessions.load(Ordering::Relaxed), self.exchange.interest.len());
        if sessions > 0 || !self.exchange.interest.is_empty() {
            return self.fail(format!("{sessions} sessions and interest in {interest:?} are left"));
        }
        self.judge_store();
    }
}
