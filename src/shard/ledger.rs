//! What this shard writes down, and the answers that wait until it is durable.
//!
//! Everything that a turn changes of what is kept goes into one submission at its end. An answer that promises something
//! waits for the submission of the turn in which it was due; mail that carries such work to other shards is stamped with
//! the submission's number, so that it is durable only with theirs (see `store`). Answers leave in the order in which
//! they were due.
//!
//! Without a store nothing is written, and an answer waits only where another shard decides ([`Ledger::ask`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::interest::Mask;
use super::mailbox::Serial;
use super::{ShardId, records};
use crate::clock::Now;
use crate::message::{Delivery, MessageRef, Millis, Settled};
use crate::metrics::Packet;
use crate::protocol::{AckKind, PacketId, QoS, ReasonCode};
use crate::session::{Number, Session};
use crate::store::{Health, Lane, Sequence, Store, Submission, Table};
use crate::topic::SubscriptionOptions;

/// Bytes of one shard that wait to become durable at which publishers are held back.
const FULL: usize = 8 * 1024 * 1024;

/// Answers of one connection that may wait before it is held back: a client may have more under way than its receive
/// maximum only at QoS 0 and, with MQTT 3.1.1, at all.
const MOST_HELD: u16 = 8 * 1024;

/// No connection: it is gone, and its answer with it.
const NOBODY: u32 = u32::MAX;

/// An answer that waits.
#[derive(Debug)]
pub enum Answer {
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(AckKind, PacketId, ReasonCode),
    /// SUBACK or UNSUBACK, encoded.
    Packet(Packet, Box<[u8]>),
    /// CONNACK and all that has gathered behind it.
    Everything,
}

#[derive(Debug)]
struct Held {
    sequence: Sequence,
    /// The answer is to what has crossed shards behind the first and up to the second of these.
    crossed: (Serial, Serial),
    connection: u32,
    answer: Answer,
}

/// QoS 2 deliveries that may be sent once their numbers are durable.
#[derive(Debug)]
struct Assurance {
    sequence: Sequence,
    session: u32,
    generation: u32,
    number: Number,
}

/// What an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    sequence: Sequence,
    /// What had crossed shards before the work that it answers.
    crossed: Serial,
}

/// What has been written at some moment of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize, Serial);

/// A shard's way into the store.
#[derive(Debug, Default)]
pub struct Ledger {
    store: Option<Arc<dyn Store>>,
    lane: Lane,
    submission: Submission,
    /// Number of the last submission.
    last: Sequence,
    /// Shards that mail of this turn carries durable work to.
    crossing: Mask,
    /// Counts the messages that cross.
    crossed: Serial,
    held: VecDeque<Held>,
    assurances: VecDeque<Assurance>,
    shared: Arc<Shared>,
}

/// What the ledgers of all shards share.
#[derive(Debug)]
pub struct Shared {
    /// How many deliveries refer to a body. Those of one body are on one shard while a process lasts, but its sessions
    /// may come back on others.
    bodies: DashMap<u64, u32, ahash::RandomState>,
    /// A number that no document has.
    next: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self { bodies: DashMap::default(), next: AtomicU64::new(1) }
    }
}

impl Ledger {
    /// The ledger of one lane.
    pub fn new(store: Option<Arc<dyn Store>>, lane: Lane, shared: Arc<Shared>) -> Self {
        Self { store, lane, shared, ..Self::default() }
    }

    /// A number for a session that is to be kept.
    pub fn new_session(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a message that several wait for.
    pub fn new_body(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether anything is kept.
    #[inline]
    pub fn on(&self) -> bool {
        self.store.is_some()
    }

    /// How the store is.
    pub fn health(&self) -> Health {
        self.store.as_ref().map_or(Health::Fine, |store| store.health())
    }

    /// What has been written so far in this turn.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark(self.submission.batch.len(), self.crossed)
    }

    /// A message of this turn has to become durable on these shards, too. Returns what it is known by; 0 if it stays.
    #[inline]
    pub fn cross(&mut self, shards: Mask) -> Serial {
        if shards == 0 || !self.on() {
            return 0;
        }
        self.crossing |= shards;
        self.next_serial()
    }

    fn next_serial(&mut self) -> Serial {
        self.crossed = self.crossed.wrapping_add(1).max(1);
        self.crossed
    }

    /// Another shard decides about a message of this turn: its answer waits for that shard's part in the commit, or
    /// without a store until that shard has [told](Self::told).
    pub fn ask(&mut self, shard: ShardId) -> Serial {
        if self.on() { self.cross(1 << shard) } else { self.next_serial() }
    }

    /// Another shard has decided. With a store that alone releases no answer.
    pub fn told(&mut self, serial: Serial) {
        if !self.on()
            && let Some(held) = self.find(serial)
        {
            held.sequence = 0;
        }
    }

    /// The number of this turn's submission, if mail to `shard` has to be stamped with it.
    pub(super) fn stamp(&mut self, shard: usize) -> Option<Sequence> {
        if self.crossing & (1 << shard) == 0 {
            return None;
        }
        self.submission.expects += 1;
        Some(self.last + 1)
    }

    /// Stamped mail has been opened: what it does becomes durable with what its sender did.
    pub(super) fn join(&mut self, from: Lane, sequence: Sequence) {
        if self.on() {
            self.submission.joined.push((from, sequence));
        }
    }

    /// Hands over what this turn has written, once its mail is posted.
    /// Returns how many bytes that was, if there was anything.
    pub(super) fn submit(&mut self) -> Option<usize> {
        self.crossing = 0;
        let Submission { batch, expects, joined } = &self.submission;
        if batch.is_empty() && *expects == 0 && joined.is_empty() {
            return None;
        }
        let store = self.store.as_ref()?;
        let bytes = batch.len();
        self.last = store.submit(self.lane, std::mem::take(&mut self.submission));
        Some(bytes)
    }

    /// Whether something is written down that is not handed over.
    pub fn unsubmitted(&self) -> bool {
        !self.submission.batch.is_empty()
    }

    /// Whether anything waits to become durable.
    #[inline]
    pub fn waiting(&self) -> bool {
        !self.held.is_empty() || !self.assurances.is_empty()
    }

    /// The submission with all that has been written up to now, durable or not.
    pub(super) fn up_to(&self) -> Sequence {
        self.last + Sequence::from(self.mark() != Mark(0, self.crossed))
    }

    /// Bytes that wait to become durable.
    pub fn pending(&self) -> usize {
        self.store.as_ref().map_or(0, |store| store.waiting(self.lane))
    }

    /// Whether so much waits that publishers have to be held back.
    pub fn congested(&self) -> bool {
        self.pending() > FULL
    }

    /// Whether a connection with so many answers that wait has to be held back.
    #[inline]
    pub fn too_many(held: u16) -> bool {
        held >= MOST_HELD
    }

    /// The submission that an answer waits for whose work lies between `mark` and now; `None` if there was none.
    #[inline]
    pub fn since(&self, mark: Mark) -> Option<After> {
        (self.mark() != mark).then_some(After { sequence: self.last + 1, crossed: mark.1 })
    }

    /// The submission with all that has been written up to now; `None` if all of it is durable.
    pub fn so_far(&self) -> Option<After> {
        let store = self.store.as_ref()?;
        let sequence = self.up_to();
        (sequence > store.committed(self.lane)).then_some(After { sequence, crossed: self.crossed })
    }

    /// Keeps an answer back until a submission is durable, or behind those that wait already.
    pub fn hold(&mut self, connection: u32, after: Option<After>, answer: Answer) {
        let sequence = after.map_or(0, |after| after.sequence);
        let crossed = (after.map_or(self.crossed, |after| after.crossed), self.crossed);
        self.held.push_back(Held { sequence, crossed, connection, answer });
    }

    /// The answer to a message that has crossed shards, if somebody waits for it.
    pub fn answer_to(&mut self, serial: Serial) -> Option<(u32, &mut Answer)> {
        let held = self.find(serial)?;
        (held.connection != NOBODY).then_some((held.connection, &mut held.answer))
    }

    fn find(&mut self, serial: Serial) -> Option<&mut Held> {
        let behind = |first: Serial, second: Serial| second.wrapping_sub(first).cast_signed() > 0;
        let at = self.held.partition_point(|held| behind(held.crossed.1, serial));
        self.held.get_mut(at).filter(|held| behind(held.crossed.0, serial))
    }

    /// The connection is gone: nobody waits for its answers.
    pub fn forget_connection(&mut self, connection: u32) {
        for held in self.held.iter_mut().filter(|held| held.connection == connection) {
            held.connection = NOBODY;
            held.sequence = 0;
        }
    }

    /// Up to where this lane is durable.
    pub fn committed(&self) -> Sequence {
        self.store.as_ref().map_or(0, |store| store.committed(self.lane))
    }

    /// The next answer that may leave.
    pub fn release(&mut self, committed: Sequence) -> Option<(u32, Answer)> {
        loop {
            let held = self.held.pop_front_if(|held| held.sequence <= committed)?;
            if held.connection != NOBODY {
                return Some((held.connection, held.answer));
            }
        }
    }

    /// The next session, with its generation, that may be sent deliveries at QoS 2 up to a number.
    pub fn assured(&mut self, committed: Sequence) -> Option<(u32, u32, Number)> {
        let due = self.assurances.pop_front_if(|due| due.sequence <= committed)?;
        Some((due.session, due.generation, due.number))
    }

    /// A session has a delivery at QoS 2 that waits until its number is durable.
    pub fn assure(&mut self, session: u32, generation: u32, number: Number) {
        let sequence = self.last + 1;
        self.assurances.push_back(Assurance { sequence, session, generation, number });
    }

    /// Sets a document of the desk's tables.
    pub(super) fn put(
        &mut self,
        table: Table,
        key: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.on() {
            self.submission.batch.put(table, key, value);
        }
    }

    /// Deletes one.
    pub(super) fn delete(&mut self, table: Table, key: impl FnOnce(&mut Vec<u8>)) {
        if self.on() {
            self.submission.batch.delete(table, key);
        }
    }

    /// A session that is kept has changed.
    pub fn session(&mut self, session: &Session, now: Now) {
        if session.stored != 0 {
            let key = records::session_key(session.stored);
            self.put(
                Table::Sessions,
                |out| out.extend_from_slice(&key),
                |out| records::put_session(out, session, now),
            );
        }
    }

    /// A session is over: nothing of it is kept any more.
    pub fn end_session(&mut self, session: &Session) {
        let stored = session.stored;
        if stored == 0 {
            return;
        }
        self.delete(Table::Sessions, |out| out.extend_from_slice(&records::session_key(stored)));
        for filter in &session.filters {
            self.unsubscribe(stored, filter);
        }
        for membership in session.memberships.iter().flat_map(|all| all.iter()) {
            self.unsubscribe(stored, &membership.filter);
        }
        for id in session.received.iter().flat_map(|received| received.iter()) {
            self.released(stored, id);
        }
        for (number, delivery) in session.outbox.iter().flat_map(|outbox| outbox.iter()) {
            match delivery {
                Some(owed) => self.settle(stored, owed),
                None => self.finish(stored, number),
            }
        }
    }

    /// A session that is kept subscribes, or changes a subscription.
    pub fn subscribe(&mut self, stored: u64, filter: &str, options: SubscriptionOptions) {
        if stored != 0 {
            self.put(
                Table::Subscriptions,
                |out| put_subscription_key(out, stored, filter),
                |out| records::put_subscription(out, options),
            );
        }
    }

    /// A session that is kept unsubscribes.
    pub fn unsubscribe(&mut self, stored: u64, filter: &str) {
        if stored != 0 {
            self.delete(Table::Subscriptions, |out| put_subscription_key(out, stored, filter));
        }
    }

    /// A session that is kept has sent a message at QoS 2.
    pub fn received(&mut self, stored: u64, id: u16) {
        if stored != 0 {
            self.put(Table::Received, |out| put_received_key(out, stored, id), records::put_received);
        }
    }

    /// Its packet id is free again.
    pub fn released(&mut self, stored: u64, id: u16) {
        if stored != 0 {
            self.delete(Table::Received, |out| put_received_key(out, stored, id));
        }
    }

    /// Whether a delivery has a document. A shared group keeps its messages itself, but a client that has taken one at
    /// QoS 2 also holds the packet id until it is released.
    #[inline]
    fn noted(&self, stored: u64, through_group: bool, qos: QoS) -> bool {
        stored != 0 && self.on() && (!through_group || qos == QoS::ExactlyOnce)
    }

    /// Whether the store has the message of a delivery to a session of this number.
    pub fn has(&self, stored: u64, delivery: &Delivery) -> bool {
        stored != 0 && self.on() && delivery.via.is_none()
    }

    /// A session that is kept is owed a delivery, which is dropped after `expires_at`.
    #[inline]
    pub fn owe(&mut self, stored: u64, number: Number, delivery: &Delivery, expires_at: Millis, now: Now) {
        if self.noted(stored, delivery.via.is_some(), delivery.qos) {
            self.put_owed(stored, number, delivery, expires_at, now);
        }
    }

    #[inline(never)]
    fn put_owed(&mut self, stored: u64, number: Number, delivery: &Delivery, expires_at: Millis, now: Now) {
        if delivery.via.is_some() {
            // After a restart the group gives the message to anybody, under another id: all that this client needs then
            // is PUBREL, whether it has taken the message or not. Else it would take the next message under the same id
            // for this one.
            self.put(Table::Owed, |out| put_owed_key(out, stored, number), records::put_released);
            return;
        }
        if delivery.body != 0 {
            let body = delivery.body;
            if self.refer(body) {
                let view = delivery.message.view();
                self.put(
                    Table::Bodies,
                    |out| out.extend_from_slice(&body.to_be_bytes()),
                    |out| records::put_body(out, &view, now),
                );
            }
        }
        self.put(
            Table::Owed,
            |out| put_owed_key(out, stored, number),
            |out| records::put_owed(out, delivery, expires_at, now),
        );
    }

    /// A delivery refers to a body. `true`: the first.
    pub(super) fn refer(&mut self, body: u64) -> bool {
        let mut references = self.shared.bodies.entry(body).or_default();
        *references += 1;
        *references == 1
    }

    /// A number is in use in the store.
    pub(super) fn seen(&self, number: u64) {
        self.shared.next.fetch_max(number + 1, Ordering::Relaxed);
    }

    /// Nothing refers to a body.
    pub(super) fn forget_body(&mut self, body: u64) {
        self.delete(Table::Bodies, |out| out.extend_from_slice(&body.to_be_bytes()));
    }

    /// A document says nothing any more.
    pub(super) fn forget(&mut self, table: Table, key: &[u8]) {
        self.delete(table, |out| out.extend_from_slice(key));
    }

    /// A delivery is done with, or taken back.
    #[inline]
    pub fn settle(&mut self, stored: u64, done: Settled) {
        if self.noted(stored, done.via.is_some(), done.qos) {
            self.delete_owed(stored, done.number, done.body);
        }
    }

    #[inline(never)]
    fn delete_owed(&mut self, stored: u64, number: Number, body: u64) {
        self.delete(Table::Owed, |out| put_owed_key(out, stored, number));
        self.unrefer(body);
    }

    /// PUBREC has come: the message itself is done with.
    pub fn half_settle(&mut self, stored: u64, done: Settled) {
        // The document of what came through a group says this from the beginning.
        if self.noted(stored, done.via.is_some(), done.qos) && done.via.is_none() {
            self.put(Table::Owed, |out| put_owed_key(out, stored, done.number), records::put_released);
            self.unrefer(done.body);
        }
    }

    /// PUBCOMP has come: the packet id is free.
    pub fn finish(&mut self, stored: u64, number: Number) {
        if stored != 0 {
            self.delete(Table::Owed, |out| put_owed_key(out, stored, number));
        }
    }

    fn unrefer(&mut self, body: u64) {
        if body == 0 {
            return;
        }
        if let Some(mut references) = self.shared.bodies.get_mut(&body) {
            *references -= 1;
        }
        if self.shared.bodies.remove_if(&body, |_, references| *references == 0).is_some() {
            self.forget_body(body);
        }
    }

    /// A message is retained.
    pub fn retain(&mut self, m: &MessageRef<'_>, now: Now) {
        self.put(
            Table::Retained,
            |out| out.extend_from_slice(m.topic.as_bytes()),
            |out| records::put_retained(out, m, now),
        );
    }

    /// A topic's message is not retained any more.
    pub fn forget_retained(&mut self, topic: &str) {
        self.delete(Table::Retained, |out| out.extend_from_slice(topic.as_bytes()));
    }

    /// A group has a message to give.
    pub fn give(&mut self, group: &str, number: u64, m: &MessageRef<'_>, now: Now) {
        self.put(
            Table::Groups,
            |out| records::put_group_key(out, group, number),
            |out| records::put_body(out, m, now),
        );
    }

    /// A group is done with a message.
    pub fn given(&mut self, group: &str, number: u64) {
        self.delete(Table::Groups, |out| records::put_group_key(out, group, number));
    }
}

fn put_subscription_key(out: &mut Vec<u8>, stored: u64, filter: &str) {
    out.extend_from_slice(&records::session_key(stored));
    out.extend_from_slice(filter.as_bytes());
}

fn put_received_key(out: &mut Vec<u8>, stored: u64, id: u16) {
    out.extend_from_slice(&records::session_key(stored));
    out.extend_from_slice(&id.to_be_bytes());
}

fn put_owed_key(out: &mut Vec<u8>, stored: u64, number: Number) {
    out.extend_from_slice(&records::owed_key(stored, number));
}
