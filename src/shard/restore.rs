//! Everything back, before anybody is let in.
//!
//! Works on all cores at once, while no thread runs them: where a client, a group or a topic lives is decided anew in
//! each process.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use hashbrown::{HashMap, HashSet};

use super::clients::open_outbox;
use super::floors::read_key;
use super::mailbox::{Gone, Join};
use super::records::{self, Owed};
use super::subscribe::{insert_filter, place};
use super::threads::key_of;
use super::{Core, ShardId};
use crate::clock::Now;
use crate::desk::{Past, Thread};
use crate::protocol::{PacketId, QoS};
use crate::session::{Membership, Session};
use crate::store::{Batch, LoadError, Store, Table};
use crate::topic::{Subscription, SubscriptionOptions, Target};

/// Documents named in [`Restored::unreadable`] at most.
const NAMED: usize = 16;

/// Bytes of documents that are handed over at once, and how often that may be before they are taken.
const PAGE_BYTES: usize = 256 << 10;
const PAGES: usize = 8;

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Sessions.
    pub sessions: usize,
    /// Subscriptions, shared ones included.
    pub subscriptions: usize,
    /// Deliveries that sessions are owed.
    pub owed: usize,
    /// Retained messages.
    pub retained: usize,
    /// Messages that groups have to give.
    pub given: usize,
    /// Agents.
    pub agents: usize,
    /// Conversations.
    pub conversations: usize,
    /// Their messages that are in no block of a transcript.
    pub messages: usize,
    /// Documents that belong to nothing any more, deleted.
    pub orphans: usize,
    /// Documents that could not be read. They stay in the store.
    pub unreadable: usize,
    /// The first of them, by table and key.
    pub named: Vec<String>,
}

/// A session's shard and slab key.
type Place = (ShardId, u32);

struct Restoring<'c> {
    cores: &'c mut [Core],
    sessions: HashMap<u64, Place, ahash::RandomState>,
    /// Sessions that had a connection when the process ended.
    connected: Vec<Place>,
    bodies: HashSet<u64, ahash::RandomState>,
    referred: HashSet<u64, ahash::RandomState>,
    report: Restored,
}

/// Brings back what `store` has kept, into cores that have done nothing yet. `tell` is told now and then which table is
/// read and how many of its documents were, and at the end of each.
pub fn restore(
    cores: &mut [Core],
    store: &dyn Store,
    tell: &mut dyn FnMut(Table, usize, bool),
) -> Result<Restored, LoadError> {
    let mut all = Restoring {
        cores,
        sessions: HashMap::default(),
        connected: Vec::new(),
        bodies: HashSet::default(),
        referred: HashSet::default(),
        report: Restored::default(),
    };
    // Each refers to what came before.
    let order = [
        Table::Sessions,
        Table::Subscriptions,
        Table::Received,
        Table::Bodies,
        Table::Owed,
        Table::Retained,
        Table::Groups,
        Table::Drained,
        Table::Agents,
        Table::Conversations,
        Table::Threads,
        Table::Tails,
        Table::Archive,
    ];
    let mut orphans = Vec::new();
    // Reading and decompressing takes as long as what is made of it: one thread does the one, this one the other.
    thread::scope(|scope| {
        let (send, pages) = mpsc::sync_channel(PAGES);
        let reading = scope.spawn(move || read(store, order, &send));
        for (table, page, documents, end) in pages {
            for document in page.iter() {
                let (key, value) = (document.key, document.value.unwrap_or_default());
                match all.document(table, key, value) {
                    Outcome::Restored => {}
                    Outcome::Orphan => orphans.push((table, Box::<[u8]>::from(key))),
                    Outcome::Unreadable => all.report.unreadable(table, key),
                }
            }
            tell(table, documents, end);
        }
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    all.report.orphans = orphans.len();
    all.finish(&orphans);
    Ok(all.report)
}

/// Reads tables in this order, a page at a time; with the last of a table comes how many documents it has.
fn read(
    store: &dyn Store,
    order: [Table; 13],
    to: &SyncSender<(Table, Batch, usize, bool)>,
) -> Result<(), LoadError> {
    for table in order {
        let (mut page, mut documents) = (Batch::default(), 0);
        store.load(table, &mut |key, value| {
            documents += 1;
            page.put(table, |k| k.extend_from_slice(key), |v| v.extend_from_slice(value));
            if page.len() >= PAGE_BYTES {
                // If nobody listens any more, the other side has panicked.
                let _ = to.send((table, std::mem::take(&mut page), documents, false));
            }
        })?;
        let _ = to.send((table, page, documents, true));
    }
    Ok(())
}

enum Outcome {
    Restored,
    /// What it refers to is gone.
    Orphan,
    Unreadable,
}

impl Restored {
    fn unreadable(&mut self, table: Table, key: &[u8]) {
        self.unreadable += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{} {}", table.name(), key.escape_ascii()));
        }
    }
}

impl Restoring<'_> {
    fn document(&mut self, table: Table, key: &[u8], value: &[u8]) -> Outcome {
        match table {
            Table::Sessions => self.session(key, value),
            Table::Subscriptions => self.subscription(key, value),
            Table::Received => self.received(key),
            Table::Bodies => self.body(key),
            Table::Owed => self.owed(key, value),
            Table::Retained => self.retained(key, value),
            Table::Groups => self.group(key, value),
            Table::Agents | Table::Conversations => self.on_floor(table, key, value),
            Table::Drained => self.drained(key, value),
            Table::Threads | Table::Tails | Table::Archive => self.of_customer(table, key, value),
            // Read when somebody asks for them.
            Table::Transcripts => Outcome::Restored,
        }
    }

    fn place(&self, stored: u64) -> Option<Place> {
        self.sessions.get(&stored).copied()
    }

    fn now(&self) -> Now {
        self.cores.first().map(|core| core.clients.now).unwrap_or_default()
    }

    fn core(&mut self, shard: ShardId) -> Option<&mut Core> {
        self.cores.get_mut(usize::from(shard))
    }

    fn home(&self, name: &str) -> ShardId {
        self.cores.first().map_or(0, |core| core.exchange.home(name))
    }

    fn seen(&self, number: u64) {
        if let Some(core) = self.cores.first() {
            core.clients.ledger.seen(number);
        }
    }

    fn session(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        let now = self.now();
        let (Some((stored, [])), Some(kept)) =
            (records::read_session_key(key), records::read_session(value, now))
        else {
            return Outcome::Unreadable;
        };
        self.seen(stored);
        if kept.connected && kept.expiry == 0 {
            // It ended with its connection.
            return Outcome::Orphan;
        }
        let shard = self.home(kept.client_id);
        let Some(core) = self.core(shard) else { return Outcome::Unreadable };
        if core.clients.find(kept.client_id).is_some() {
            return Outcome::Orphan;
        }
        let generation = core.next_number();
        let mut session = Session::new(Arc::from(kept.client_id), generation);
        session.stored = stored;
        session.expiry = kept.expiry;
        session.ends_at = kept.ends_at;
        session.next_number = kept.next;
        session.owner = kept.owner;
        session.will = kept.will.map(Box::new);
        if kept.connected {
            session.lose_connection(now.mono);
        }
        let place = (shard, core.clients.insert(session));
        core.exchange.sessions.fetch_add(1, Ordering::Relaxed);
        if kept.connected {
            self.connected.push(place);
        }
        self.sessions.insert(stored, place);
        self.report.sessions += 1;
        Outcome::Restored
    }

    fn subscription(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        let Some((stored, filter)) = records::read_session_key(key) else { return Outcome::Unreadable };
        let (Ok(filter), Some(options)) = (std::str::from_utf8(filter), records::read_subscription(value))
        else {
            return Outcome::Unreadable;
        };
        let Some((shard, session)) = self.place(stored) else { return Outcome::Orphan };
        self.report.subscriptions += 1;
        if filter.starts_with("$share/") {
            return self.member((shard, session), filter, options);
        }
        let Some(core) = self.core(shard) else { return Outcome::Orphan };
        let target = Target::session(session);
        let added = core.index.subscribe(filter, Subscription { target, options });
        core.exchange.interest.add(&added.filter, shard, options.qos() > 0);
        if let Some(target) = core.clients.sessions.get_mut(session as usize) {
            insert_filter(&mut target.filters, added.filter);
        }
        Outcome::Restored
    }

    /// A member comes back as one that is away.
    fn member(&mut self, (shard, session): Place, text: &str, options: SubscriptionOptions) -> Outcome {
        let home = self.home(text);
        let text: Arc<str> = Arc::from(text);
        let Some(core) = self.core(shard) else { return Outcome::Orphan };
        let stay = core.next_stay();
        let membership =
            Membership { filter: text.clone(), stay, arrived: 0, present: false, ended: false, options };
        if let Some(target) = core.clients.sessions.get_mut(session as usize) {
            let memberships = target.memberships.get_or_insert_default();
            let at = place(memberships, &text).unwrap_or_else(|at| at);
            memberships.insert(at, membership);
        }
        if let Some(home) = self.core(home) {
            let join = Join { text: text.clone(), shard, session, stay, options, kept: true };
            let (group, new) = home.groups.join(&join);
            let gone =
                Gone { text, shard, session, stay, arrived: u64::MAX, returned: Vec::new(), away: true };
            home.groups.gone(gone);
            if new {
                home.subscribe_group(group);
            }
        }
        Outcome::Restored
    }

    fn received(&mut self, key: &[u8]) -> Outcome {
        let read = records::read_session_key(key)
            .and_then(|(stored, id)| Some((stored, PacketId::new(records::read_packet_id(id)?)?)));
        let Some((stored, id)) = read else { return Outcome::Unreadable };
        let Some((shard, session)) = self.place(stored) else { return Outcome::Orphan };
        let core = self.core(shard);
        if let Some(target) = core.and_then(|core| core.clients.sessions.get_mut(session as usize)) {
            target.received.get_or_insert_default().insert(id);
        }
        Outcome::Restored
    }

    fn body(&mut self, key: &[u8]) -> Outcome {
        let Some(body) = records::read_number(key) else { return Outcome::Unreadable };
        self.seen(body);
        self.bodies.insert(body);
        Outcome::Restored
    }

    fn owed(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        let now = self.now();
        let read = records::read_session_key(key)
            .and_then(|(stored, number)| Some((stored, records::read_number(number)?)));
        let (Some((stored, number)), Some(owed)) = (read, records::read_owed(value, now)) else {
            return Outcome::Unreadable;
        };
        let Some((shard, key)) = self.place(stored) else { return Outcome::Orphan };
        let owed = match owed {
            Owed::Delivery(away, expires_at) if away.body == 0 => Some((away, expires_at)),
            Owed::Delivery(away, expires_at) if self.bodies.contains(&away.body) => {
                self.referred.insert(away.body);
                if let Some(core) = self.core(shard) {
                    core.clients.ledger.refer(away.body);
                }
                Some((away, expires_at))
            }
            // Whoever was the last to let go of the message deleted it; this one's letting go was not durable. At QoS 2
            // the client still holds the packet id until PUBREL.
            Owed::Delivery(away, _) if away.qos != QoS::ExactlyOnce => return Outcome::Orphan,
            Owed::Released | Owed::Delivery(..) => None,
        };
        let Some(core) = self.core(shard) else { return Outcome::Orphan };
        if let Some(session) = core.clients.sessions.get_mut(key as usize) {
            open_outbox(&mut core.clients.outboxes, session).restore(number, owed);
        }
        self.report.owed += 1;
        Outcome::Restored
    }

    fn retained(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        let now = self.now();
        let read = std::str::from_utf8(key).ok().and_then(|topic| {
            let message = records::read_body(value, topic, now)?;
            Some((topic, message))
        });
        let Some((topic, message)) = read else { return Outcome::Unreadable };
        let home = self.home(topic);
        if let Some(core) = self.core(home) {
            core.restore_retained(&message);
        }
        self.report.retained += 1;
        Outcome::Restored
    }

    fn group(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        let now = self.now();
        let (Some((text, number)), Some(message)) =
            (records::read_group_key(key), records::read_body(value, "", now))
        else {
            return Outcome::Unreadable;
        };
        let home = self.home(text);
        // The desk's groups are there without members; any other has lost its last one.
        if !self.core(home).is_some_and(|core| core.groups.restore(text, number, &message)) {
            return Outcome::Orphan;
        }
        self.report.given += 1;
        Outcome::Restored
    }

    fn on_floor(&mut self, table: Table, key: &[u8], value: &[u8]) -> Outcome {
        let Some((tenant, _)) = read_key(key) else { return Outcome::Unreadable };
        let shard = self.cores.first().map_or(0, |core| core.floor_home(tenant));
        let Some(core) = self.core(shard) else { return Outcome::Unreadable };
        let agent = table == Table::Agents;
        let restored =
            if agent { core.restore_agent(tenant, value) } else { core.restore_conversation(tenant, value) };
        match restored {
            Ok(true) => {
                self.report.agents += usize::from(agent);
                self.report.conversations += usize::from(!agent);
                Outcome::Restored
            }
            // Its tenant has no groups in `assigned` mode any more; it may have them again.
            Ok(false) | Err(_) => Outcome::Unreadable,
        }
    }

    fn drained(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        let Some((tenant, group)) = read_key(key) else { return Outcome::Unreadable };
        let shard = self.cores.first().map_or(0, |core| core.floor_home(tenant));
        match self.core(shard).and_then(|core| core.restore_drained(tenant, group, value)) {
            Some(true) => Outcome::Restored,
            Some(false) => Outcome::Orphan,
            None => Outcome::Unreadable,
        }
    }

    fn of_customer(&mut self, table: Table, key: &[u8], value: &[u8]) -> Outcome {
        let Some((tenant, rest)) = read_key(key) else { return Outcome::Unreadable };
        let (customer, id) = match (table, read_key(rest)) {
            (Table::Threads, None) => (std::str::from_utf8(rest), &[][..]),
            (_, Some((customer, id))) => (Ok(customer), id),
            (_, None) => return Outcome::Unreadable,
        };
        let Ok(customer) = customer else { return Outcome::Unreadable };
        let shard = self.cores.first().map_or(0, |core| core.customer_home(tenant, customer));
        let customer = key_of(tenant, customer);
        let Some(core) = self.core(shard) else { return Outcome::Unreadable };
        match table {
            Table::Threads => {
                let Some(thread) = Thread::read(value) else { return Outcome::Unreadable };
                core.threads.restore(customer, thread);
            }
            Table::Archive => {
                let Some(past) = Past::read(value) else { return Outcome::Unreadable };
                core.keep_past(customer, past);
            }
            _ => {
                let Some((id, seq)) = id.split_first_chunk::<16>() else { return Outcome::Unreadable };
                let Ok(seq) = seq.try_into().map(u32::from_be_bytes) else { return Outcome::Unreadable };
                if !core.threads.restore_message(&customer, u128::from_be_bytes(*id), seq, value) {
                    return Outcome::Orphan;
                }
                self.report.messages += 1;
            }
        }
        Outcome::Restored
    }

    fn finish(&mut self, orphans: &[(Table, Box<[u8]>)]) {
        for (table, key) in orphans {
            // In the lane of its session, which may write such a document anew.
            let session = records::read_session_key(key).filter(|_| *table == Table::Owed);
            let shard = session.and_then(|(stored, _)| self.place(stored)).map_or(0, |(shard, _)| shard);
            if let Some(core) = self.core(shard) {
                core.clients.ledger.forget(*table, key);
            }
        }
        if let Some(core) = self.cores.first_mut() {
            for body in self.bodies.iter().filter(|body| !self.referred.contains(*body)) {
                core.clients.ledger.forget_body(*body);
            }
        }
        for (shard, key) in std::mem::take(&mut self.connected) {
            if let Some(core) = self.core(shard) {
                core.write_down(key);
            }
        }
        for core in self.cores.iter_mut() {
            core.announce_again();
            core.resume_floors();
            let keys: Vec<u32> = core.clients.sessions.iter().map(|(key, _)| key as u32).collect();
            for key in keys {
                core.arm_session(key);
            }
        }
    }
}
