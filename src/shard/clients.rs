//! The clients of one shard: their connections and sessions, and how a message gets into an output buffer.
//!
//! Nothing here matches topics or knows of other shards.

use std::sync::Arc;

use hashbrown::HashTable;

use super::access::Admission;
use super::chunks::Chunks;
use super::encoding::Expanded;
use super::ledger::Ledger;
use super::lookups::Lookups;
use super::outbuf::{OutBuf, Pool};
use super::wire::{Outgoing, Shape};
use crate::auth::acl::Rights;
use crate::clock::Now;
use crate::config::settings::{Overflow, SessionSettings, Settings};
use crate::message::{Delivery, MessageRef, Millis, SubscriptionIds, Via};
use crate::metrics::{Counters, DropReason, Packet, Qos};
use crate::protocol::{PacketId, QoS};
use crate::session::{Connection, OFFLINE, Outbox, Phase, Session};

/// One connection with its bytes.
#[derive(Debug)]
pub struct Client {
    /// Protocol state.
    pub link: Connection,
    /// Unsent output.
    pub out: OutBuf,
    /// The start of a packet whose rest has not come.
    pub partial: Option<Box<Vec<u8>>>,
    /// Who its client is.
    pub admission: Admission,
    /// What that may.
    pub rights: Rights,
    /// On the dirty list.
    pub dirty: bool,
    /// The socket took less than it was offered; a writable event is awaited.
    pub blocked: bool,
    /// Nothing is written before CONNACK may leave, because its session is not durable yet.
    pub corked: bool,
    /// Not read, because what it feeds is full or it is over its rate.
    pub paused: bool,
    /// There is a bound on how fast it may send.
    pub rated: bool,
    /// Not read, because it does not read the answers to what it sends.
    pub unread: bool,
    /// To be read again in the next turn, whatever the poll says.
    pub again: bool,
}

/// A session that has to be closed. The keys may be others' when its turn comes.
#[derive(Clone, Copy, Debug)]
pub struct Overflowed {
    /// Slab key of the session.
    pub session: u32,
    /// Its generation.
    pub generation: u32,
    /// Slab key of its connection.
    pub connection: u32,
}

/// A session in the table of client ids, with half of its id's hash: a table of a million grows without reading the
/// sessions.
#[derive(Clone, Copy, Debug)]
struct Known {
    hash: u32,
    session: u32,
}

impl Known {
    /// Spreads 32 bits over 64: the table takes its tag from the top and its place from the bottom.
    fn table_hash(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// Everything of one shard that belongs to a client.
#[derive(Debug)]
pub struct Clients {
    /// Connections by slab key, which is the driver's token too.
    pub connections: Chunks<Client>,
    /// Sessions by slab key, which is what subscriptions point at.
    pub sessions: Chunks<Session>,
    by_id: HashTable<Known>,
    hasher: ahash::RandomState,
    /// Connections with unsent output that the driver should write.
    pub dirty: Vec<u32>,
    /// Buffers for output.
    pub pool: Pool,
    #[expect(clippy::vec_box, reason = "it is the boxes that are kept for the next sessions")]
    pub(super) outboxes: Vec<Box<Outbox>>,
    /// Sessions that have to be closed because they do not read and configuration says so.
    pub overflowed: Vec<Overflowed>,
    /// Receivers of the message that is passing that cannot take it.
    pub refused: usize,
    /// Deliveries of shared groups that are done with: told to the groups at the end of the step.
    pub settled: Vec<(Via, u32)>,
    /// Messages that were expanded a moment ago.
    pub expanded: Expanded,
    /// What is written down, and the answers that wait for it.
    pub ledger: Ledger,
    /// What is read again.
    pub(super) lookups: Lookups,
    /// What this shard has counted.
    pub counters: Counters,
    /// Limits.
    pub terms: Arc<Settings>,
    /// The present, as the driver said.
    pub now: Now,
    pub(super) scratch: Vec<u8>,
}

/// Stands for a packet id while only a packet's length is asked for.
pub(super) const ANY_ID: PacketId = match PacketId::new(1) {
    Some(id) => id,
    None => unreachable!(),
};

/// How many empty outboxes are kept for the next session that needs one.
const KEEP_OUTBOXES: usize = 1024;

impl Clients {
    /// No client yet.
    pub fn new(terms: Arc<Settings>, now: Now, ledger: Ledger, lookups: Lookups) -> Self {
        Self {
            connections: Chunks::default(),
            sessions: Chunks::default(),
            by_id: HashTable::new(),
            hasher: ahash::RandomState::new(),
            dirty: Vec::new(),
            pool: Pool::default(),
            outboxes: Vec::new(),
            overflowed: Vec::new(),
            refused: 0,
            settled: Vec::new(),
            expanded: Expanded::default(),
            ledger,
            lookups,
            counters: Counters::default(),
            terms,
            now,
            scratch: Vec::new(),
        }
    }

    fn hash(&self, client_id: &str) -> u32 {
        self.hasher.hash_one(client_id) as u32
    }

    /// Slab key of the session of a client id.
    pub fn find(&self, client_id: &str) -> Option<u32> {
        let hash = self.hash(client_id);
        let same = |known: &Known| {
            known.hash == hash
                && self.sessions.get(known.session as usize).is_some_and(|s| &*s.client_id == client_id)
        };
        self.by_id.find(Known::table_hash(hash), same).map(|known| known.session)
    }

    /// Adds a session; its client id is not in use.
    pub fn insert(&mut self, session: Session) -> u32 {
        let hash = self.hash(&session.client_id);
        let key = self.sessions.insert(session) as u32;
        let known = Known { hash, session: key };
        self.by_id.insert_unique(Known::table_hash(hash), known, |known| Known::table_hash(known.hash));
        key
    }

    /// Takes a session out.
    pub fn remove(&mut self, key: u32) -> Option<Session> {
        let session = self.sessions.try_remove(key as usize)?;
        let hash = self.hash(&session.client_id);
        if let Ok(entry) = self.by_id.find_entry(Known::table_hash(hash), |known| known.session == key) {
            entry.remove();
        }
        Some(session)
    }

    /// The open connection of a session.
    pub fn connection_of(&self, session: u32) -> Option<u32> {
        let key = self.sessions.get(session as usize)?.connection;
        (key != OFFLINE).then_some(key)
    }

    /// The session of an open connection.
    pub fn session_of(&self, connection: u32) -> Option<u32> {
        let client = self.connections.get(connection as usize)?;
        (client.link.phase == Phase::Open).then_some(client.link.session)
    }

    /// Starts a round of deliveries of one message.
    pub fn outgoing<'m>(&mut self, message: MessageRef<'m>, many: bool) -> Outgoing<'m> {
        Outgoing::new(message, self.now.mono, many, std::mem::take(&mut self.scratch))
    }

    /// Ends a round of deliveries.
    #[inline]
    pub fn delivered(&mut self, outgoing: Outgoing<'_>) {
        self.scratch = outgoing.finish(&mut self.expanded, &mut self.counters);
    }

    /// Gives a message to one session: into its output buffer, its queue, or nowhere, which is counted.
    #[inline]
    pub fn deliver(
        &mut self,
        session: u32,
        qos: QoS,
        retain: bool,
        ids: &SubscriptionIds,
        outgoing: &mut Outgoing<'_>,
        via: Option<Via>,
    ) {
        let Some(target) = self.sessions.get_mut(session as usize) else { return };
        if qos != QoS::AtMostOnce {
            return self.deliver_acknowledged(session, qos, retain, ids, outgoing, via);
        }
        let Some(client) = self.connections.get_mut(target.connection as usize) else {
            return self.counters.messages_dropped.bump(DropReason::Offline);
        };
        if client.out.len() >= self.terms.session.outbuf_bytes {
            return self.counters.messages_dropped.bump(DropReason::OutboxFull);
        }
        let mut shape = Shape {
            version: client.link.version,
            qos,
            retain,
            dup: false,
            id: None,
            ids: ids.as_slice(),
            alias: None,
        };
        if client.link.rare.is_some() {
            assign_alias(&mut client.link, &mut shape, outgoing.message.topic);
        }
        if client.link.max_packet != u32::MAX
            && outgoing.packet_len(&shape, &client.link) > client.link.max_packet as usize
        {
            withdraw_alias(&mut client.link, &shape, outgoing.message.topic);
            return self.counters.messages_dropped.bump(DropReason::TooLarge);
        }
        outgoing.write(&shape, &client.link, &mut client.out, &mut self.pool);
        count_sent(&mut self.counters, qos, outgoing.message.payload.len());
        mark(&mut self.dirty, target.connection, client);
    }

    fn deliver_acknowledged(
        &mut self,
        session: u32,
        qos: QoS,
        retain: bool,
        ids: &SubscriptionIds,
        outgoing: &mut Outgoing<'_>,
        via: Option<Via>,
    ) {
        let Some(target) = self.sessions.get_mut(session as usize) else { return };
        let (connection, stored) = (target.connection, target.stored);
        let outbox = open_outbox(&mut self.outboxes, target);
        let alone = stored == 0 || via.is_some();
        if !alone && outgoing.many() && outgoing.body == 0 {
            outgoing.body = self.ledger.new_body();
        }
        let body = if alone { 0 } else { outgoing.body };
        let delivery = Delivery { message: outgoing.owned(), ids: ids.clone(), via, qos, retain, body };
        match self.connections.get_mut(connection as usize) {
            Some(client)
                if outbox.open(client.link.receive_maximum)
                    && client.out.len() < self.terms.session.outbuf_bytes
                    && (stored == 0 || qos != QoS::ExactlyOnce) =>
            {
                let link = &mut client.link;
                let mut shape = Shape {
                    version: link.version,
                    qos,
                    retain,
                    dup: false,
                    id: Some(ANY_ID),
                    ids: ids.as_slice(),
                    alias: None,
                };
                if link.rare.is_some() {
                    assign_alias(link, &mut shape, outgoing.message.topic);
                }
                if link.max_packet != u32::MAX && outgoing.packet_len(&shape, link) > link.max_packet as usize
                {
                    withdraw_alias(link, &shape, outgoing.message.topic);
                    self.counters.messages_dropped.bump(DropReason::TooLarge);
                    self.settled.extend(via.map(|via| (via, outgoing.message.weight() as u32)));
                    return self.close_outbox(session);
                }
                let number = outbox.number();
                if stored != 0 {
                    let expires_at = drop_at(&self.terms.session, &delivery, self.now.mono);
                    self.ledger.owe(stored, number, &delivery, expires_at, self.now);
                }
                shape.id = Some(outbox.admit(number, delivery));
                outgoing.write(&shape, &client.link, &mut client.out, &mut self.pool);
                count_sent(&mut self.counters, qos, outgoing.message.payload.len());
                mark(&mut self.dirty, connection, client);
            }
            _ => self.queue(session, stored, delivery),
        }
    }

    /// Puts a delivery behind those that wait, within the session's bounds. A shared group bounds its members itself.
    fn queue(&mut self, session: u32, stored: u64, delivery: Delivery) {
        let terms = &self.terms;
        let Some(target) = self.sessions.get_mut(session as usize) else { return };
        let (connection, generation) = (target.connection, target.generation);
        let outbox = open_outbox(&mut self.outboxes, target);
        let full = |o: &Outbox| {
            o.waiting() >= terms.session.queue_messages
                || o.waiting_bytes() + delivery.message.weight() > terms.session.queue_bytes
        };
        if delivery.via.is_none() && full(outbox) {
            let Self { settled, ledger, .. } = self;
            let expired = outbox.drop_expired(self.now.mono, |done| {
                ledger.settle(stored, done);
                settled.extend(done.via);
            });
            self.counters.messages_dropped.add(DropReason::Expired, expired as u64);
        }
        while delivery.via.is_none() && full(outbox) {
            self.counters.messages_dropped.bump(DropReason::QueueFull);
            match terms.session.overflow {
                Overflow::DropOldest => {
                    if let Some(oldest) = outbox.pop_waiting() {
                        self.ledger.settle(stored, oldest);
                        self.settled.extend(oldest.via);
                        continue;
                    }
                }
                Overflow::Disconnect if connection != OFFLINE => {
                    self.overflowed.push(Overflowed { session, generation, connection });
                }
                Overflow::Refuse => self.refused += 1,
                Overflow::DropNewest | Overflow::Disconnect => {}
            }
            return self.close_outbox(session);
        }
        let number = outbox.number();
        let expires_at = drop_at(&terms.session, &delivery, self.now.mono);
        self.ledger.owe(stored, number, &delivery, expires_at, self.now);
        if stored != 0 && delivery.qos == QoS::ExactlyOnce {
            self.ledger.assure(session, generation, number);
        }
        let has = self.ledger.has(stored, &delivery);
        outbox.push(number, delivery, expires_at, (has, connection != OFFLINE));
    }

    /// Gives the outbox of a session back when nothing is owed any more.
    pub fn close_outbox(&mut self, session: u32) {
        let Some(target) = self.sessions.get_mut(session as usize) else { return };
        if target.outbox.as_ref().is_none_or(|o| !o.is_empty()) {
            return;
        }
        if let Some(mut outbox) = target.outbox.take() {
            target.next_number = outbox.next();
            if self.outboxes.len() < KEEP_OUTBOXES {
                outbox.shrink();
                self.outboxes.push(outbox);
            }
        }
    }
}

/// Puts a connection on the dirty list, unless it is there or its socket takes nothing at the moment.
#[inline]
pub fn mark(dirty: &mut Vec<u32>, key: u32, client: &mut Client) {
    if !client.dirty && !client.blocked && !client.corked {
        client.dirty = true;
        dirty.push(key);
    }
}

/// When a delivery is dropped that begins to wait now.
fn drop_at(terms: &SessionSettings, delivery: &Delivery, now: Millis) -> Millis {
    let expires_at = delivery.message.expires_at();
    if terms.queue_expiry.is_zero() {
        return expires_at;
    }
    expires_at.min(now.saturating_add(terms.queue_expiry.as_millis() as Millis))
}

#[inline]
pub(super) fn count_sent(counters: &mut Counters, qos: QoS, payload: usize) {
    counters.packets_sent.bump(Packet::Publish);
    counters.messages_sent.bump(Qos::level(qos as u8));
    counters.payload_bytes_sent += payload as u64;
}

/// Topics shorter than this gain nothing from an alias, which itself takes three bytes.
const ALIAS_FROM: usize = 8;

pub(super) fn assign_alias(link: &mut Connection, shape: &mut Shape<'_>, topic: &str) {
    if topic.len() >= ALIAS_FROM
        && let Some(aliases) = link.rare.as_mut().and_then(|rare| rare.outgoing.as_mut())
    {
        shape.alias = aliases.assign(topic);
    }
}

/// The packet is not sent, so the client does not learn of an alias that was new in it.
#[cold]
pub(super) fn withdraw_alias(link: &mut Connection, shape: &Shape<'_>, topic: &str) {
    if let Some((_, false)) = shape.alias
        && let Some(aliases) = link.rare.as_mut().and_then(|rare| rare.outgoing.as_mut())
    {
        aliases.withdraw(topic);
    }
}

#[expect(clippy::vec_box, reason = "it is the boxes that are kept for the next sessions")]
pub(super) fn open_outbox<'s>(outboxes: &mut Vec<Box<Outbox>>, session: &'s mut Session) -> &'s mut Outbox {
    let (next, stored) = (session.next_number, session.stored != 0);
    session.outbox.get_or_insert_with(|| {
        let mut outbox = outboxes.pop().unwrap_or_default();
        outbox.start_at(next, stored);
        outbox
    })
}
