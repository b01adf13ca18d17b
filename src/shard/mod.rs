//! One shard: everything about the clients whose ids hash to it, on one thread, without locks.
//!
//! [`Core`] is the composition of the rules (`protocol`, `topic`, `session`, `desk`): bytes, mail and the time go in,
//! output buffers, mail and [`Effects`] come out. It knows no socket and no clock, so the runtime (`net`) and the
//! simulator drive the same code.

pub mod access;
mod acks;
mod announcing;
mod answers;
mod backlog;
mod beginning;
mod bytes;
mod census;
pub mod chunks;
pub mod clients;
mod connect;
mod context;
pub mod desk;
mod door;
mod encoding;
mod end;
pub mod errands;
mod explain;
mod flapping;
mod floors;
mod group;
mod handshakes;
pub mod interest;
pub mod ledger;
mod lookups;
pub mod mailbox;
pub mod outbuf;
mod overload;
mod post;
pub mod publish;
mod pump;
pub mod rate;
mod records;
mod replay;
pub mod restore;
mod retained;
pub mod shared;
mod shelf;
mod sticky;
mod subscribe;
mod threads;
mod ticks;
pub mod timers;
mod transcripts;
mod unwell;
pub mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::auth::Access;
use crate::clock::Now;
use crate::config::settings::Settings;
use crate::desk::Routing;
use crate::message::Message;
use crate::metrics::{CloseReason, Counters};
use crate::protocol::ReasonCode;
use crate::session::{Connection, Phase};
use crate::store::{Health, Store};
use crate::topic::SubscriptionIndex;
use clients::{Client, Clients};
use context::Deadlines;
use interest::{Interest, Mask};
use ledger::Ledger;
use lookups::Lookups;
use mailbox::{Batch, Mailbox};
use outbuf::OutBuf;
use shared::{Caps, Groups};
use shelf::Retained;
use timers::{Kind, Timer, Wheel};
pub use transcripts::Erased;

/// Number of a shard.
pub type ShardId = u16;

/// What all shards of a server share.
#[derive(Debug)]
pub struct Exchange {
    /// Limits and defaults.
    pub settings: Arc<Settings>,
    /// Who is interested in which topic.
    pub interest: Interest,
    /// One mailbox a shard.
    pub mailboxes: Vec<Mailbox>,
    /// The desk's rules, if there are any.
    pub desk: Option<desk::Desk>,
    /// Sessions of all shards, for the bound on them.
    pub sessions: AtomicUsize,
    /// Retained messages of all shards, for the bound on them.
    pub retained: AtomicUsize,
    /// Who may come in, and what clients may.
    pub access: Arc<Access>,
    /// What outlives the process.
    pub store: Option<Arc<dyn Store>>,
    ledgers: Arc<ledger::Shared>,
    place: ahash::RandomState,
}

impl Exchange {
    /// What the shards of a server with `settings.shards` of them share. `seed` decides where ids and topics live.
    pub fn new(
        settings: Arc<Settings>,
        routing: Option<Arc<Routing>>,
        store: Option<Arc<dyn Store>>,
        seed: u64,
    ) -> Self {
        let mailboxes = (0..settings.shards).map(|_| Mailbox::new(settings.shards)).collect();
        Self {
            interest: Interest::default(),
            mailboxes,
            desk: routing.map(desk::Desk::new),
            sessions: AtomicUsize::new(0),
            retained: AtomicUsize::new(0),
            access: Arc::default(),
            store,
            ledgers: Arc::default(),
            // Not `with_seed`, which mixes in what is random for each process: a simulated run must be repeatable.
            place: ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(32), seed.swap_bytes()),
            settings,
        }
    }

    /// The same with logins or rules.
    #[must_use]
    pub fn guarded_by(mut self, access: Arc<Access>) -> Self {
        self.access = access;
        self
    }

    /// The shard where a client id, a group's text or a retained topic lives.
    #[inline]
    pub fn home(&self, name: &str) -> ShardId {
        if self.mailboxes.len() == 1 {
            return 0;
        }
        (self.place.hash_one(name) % self.mailboxes.len() as u64) as ShardId
    }

    /// As [`Self::home`], of what is no text.
    fn home_of(&self, what: &impl std::hash::Hash) -> ShardId {
        (self.place.hash_one(what) % self.mailboxes.len() as u64) as ShardId
    }

    /// Stands for a client where its id is too long to be kept.
    fn home_hash(&self, client_id: &str) -> u64 {
        self.place.hash_one(client_id)
    }

    fn shards(&self) -> ShardId {
        self.mailboxes.len() as ShardId
    }
}

/// What the driver has to do for the core, apart from writing output.
#[derive(Debug, Default)]
pub struct Effects {
    /// Connections that belong to another shard: to be taken out and handed over with these bytes.
    pub hand_over: Vec<HandOver>,
    /// Connections to be closed once their output is written.
    pub close: Vec<Close>,
    /// Connections whose reading may go on: [`Core::resume`] first, then the socket.
    pub resume: Vec<u32>,
    /// Clients of whom somebody has to say who they are: [`Core::answered`] takes the answers.
    pub ask: Vec<access::Question>,
    /// Connections whose login was wrong: where they come from is to be watched.
    pub failed_logins: Vec<u32>,
}

/// A connection that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// Its slab key.
    pub connection: u32,
    /// What the client still sends must be read away first: closing a socket with unread bytes resets it, and the
    /// client may lose what we have just told it.
    pub linger: bool,
}

/// A connection on its way to its client's home.
#[derive(Debug)]
pub struct HandOver {
    /// Its slab key here, free from now on.
    pub connection: u32,
    /// Where it goes.
    pub shard: ShardId,
    /// What was read from it: CONNECT, and whatever came behind.
    pub bytes: Vec<u8>,
    /// Which listener let it in.
    pub listener: u16,
    /// Who its client is.
    pub admission: access::Admission,
}

/// Why the broker ends a connection, and what it tells an MQTT 5 client.
#[derive(Clone, Copy, Debug)]
pub struct End {
    reason: CloseReason,
    /// Sent in DISCONNECT; none where the client already said good-bye or cannot understand one.
    code: Option<ReasonCode>,
    text: &'static str,
}

impl End {
    const fn new(reason: CloseReason, code: ReasonCode, text: &'static str) -> Self {
        Self { reason, code: Some(code), text }
    }

    /// Nothing is left to do: the connection was closed or handed over already.
    const fn silent(reason: CloseReason) -> Self {
        Self { reason, code: None, text: "" }
    }
}

/// One shard's state.
#[derive(Debug)]
pub struct Core {
    /// Number of this shard.
    pub id: ShardId,
    /// Connections and sessions.
    pub clients: Clients,
    /// For the driver.
    pub effects: Effects,
    exchange: Arc<Exchange>,
    index: SubscriptionIndex,
    groups: Groups,
    retained: Retained,
    deadlines: Deadlines,
    timers: Wheel,
    rates: rate::Rates,
    handshakes: handshakes::Handshakes,
    flapping: flapping::Flapping,
    overload: overload::Overload,
    outgoing: Vec<Batch>,
    spare: Vec<Batch>,
    /// Mailboxes that were full when this turn began.
    full: Mask,
    /// Shards that hold publishers back and have room again.
    wake: Mask,
    held: Vec<u32>,
    /// What was published in this turn to be retained, with the shards it went to and the interest's version.
    retaining: Vec<(Arc<Message>, Mask, u64)>,
    replaying: VecDeque<u32>,
    looked_up: door::LookedUp,
    census: census::Census,
    random: fastrand::Rng,
    number: u32,
    draining: bool,
    /// Not everybody may do everything.
    guarded: bool,
    /// Connections that end when a token does.
    expiring: access::Expiring,
    /// Nobody who should have got the message that is passing could take it.
    refused_by_all: bool,
    /// How the store was when the turn began.
    health: Health,
    /// What the desk is going to say.
    announcements: announcing::Announcements,
    /// Conversations of the customers who live here.
    threads: threads::Threads,
    /// Agents and queues of the tenants who live here.
    floors: floors::Floors,
    /// Which agents clients have declared themselves to be, by session.
    declared: hashbrown::HashMap<u32, Vec<errands::Declared>, ahash::RandomState>,
    /// Numbers of their connections.
    links: u64,
    /// Milliseconds since the epoch when the clock of this process was zero.
    epoch: u64,
    /// The desk has had the message that is entering before, and it may not be durable yet.
    had_before: bool,
    /// The packet whose message is entering, and whether it says that it comes again.
    packet: (Option<crate::protocol::PacketId>, bool),
}

impl Core {
    /// Shard `id` of the server. `seed` feeds what is random: assigned client ids, message ids, `random` groups.
    pub fn new(id: ShardId, exchange: Arc<Exchange>, now: Now, seed: u64) -> Self {
        let settings = exchange.settings.clone();
        let caps = Caps { messages: settings.session.queue_messages, bytes: settings.session.queue_bytes };
        let ledger = Ledger::new(exchange.store.clone(), id, exchange.ledgers.clone());
        let sharing = Arc::new(settings.sharing.clone());
        let mut core = Self {
            id,
            clients: Clients::new(settings, now, ledger, Lookups::new(exchange.store.clone(), id)),
            effects: Effects::default(),
            index: SubscriptionIndex::with_hasher(exchange.interest.hasher().clone()),
            groups: Groups::new(id, sharing, caps, exchange.place.clone(), seed ^ 0x5EED),
            retained: Retained::new(exchange.settings.retained.cache / exchange.mailboxes.len()),
            deadlines: Deadlines::default(),
            timers: Wheel::new(now.mono),
            rates: rate::Rates::new(&exchange.settings.limits.rate),
            handshakes: handshakes::Handshakes::default(),
            flapping: flapping::Flapping::new(&exchange.settings.limits.guard),
            overload: overload::Overload::new(&exchange.settings.limits.overload),
            outgoing: exchange.mailboxes.iter().map(|_| Batch::default()).collect(),
            spare: Vec::new(),
            full: 0,
            wake: 0,
            held: Vec::new(),
            replaying: VecDeque::new(),
            retaining: Vec::new(),
            looked_up: door::LookedUp::default(),
            census: census::Census::default(),
            random: fastrand::Rng::with_seed(seed),
            number: 0,
            draining: false,
            guarded: exchange.access.is_guarded(),
            expiring: access::Expiring::default(),
            refused_by_all: false,
            health: Health::Fine,
            announcements: announcing::Announcements::default(),
            threads: threads::Threads::default(),
            floors: floors::Floors::default(),
            declared: hashbrown::HashMap::default(),
            links: 0,
            epoch: now.unix.saturating_sub(now.mono),
            had_before: false,
            packet: (None, false),
            exchange,
        };
        core.open_desk_groups();
        core.open_floors();
        core
    }

    /// Says what time it is; once a turn.
    pub fn set_now(&mut self, now: Now) {
        self.clients.now = now;
        self.health = self.clients.ledger.health();
    }

    /// A number that this shard has not used, for timers, stays and sessions.
    fn next_number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    /// A connection that `listener` accepted. Returns its key.
    pub fn accept(&mut self, listener: u16) -> u32 {
        self.clients.counters.connections_accepted += 1;
        self.adopt(listener)
    }

    /// A connection that another shard accepted and handed over.
    pub fn adopt(&mut self, listener: u16) -> u32 {
        let number = self.next_number();
        let now = self.clients.now;
        let client = Client {
            link: Connection::new(listener, number, ticks::of(now.mono)),
            out: OutBuf::default(),
            partial: None,
            admission: access::Admission::default(),
            rights: crate::auth::acl::Rights::open(),
            dirty: false,
            blocked: false,
            corked: false,
            paused: false,
            rated: false,
            unread: false,
            again: false,
        };
        let key = self.clients.connections.insert(client) as u32;
        self.handshakes.begin(listener);
        let wait =
            self.exchange.settings.listener(listener).map_or(0, |l| l.connect_timeout.as_millis() as u64);
        self.timers.arm(Timer::new(Kind::Connection, key, number), now.mono + wait);
        key
    }

    /// Takes a connection out of the slab; the driver has closed or handed over its socket.
    pub fn forget(&mut self, key: u32) {
        if let Some(mut client) = self.clients.connections.try_remove(key as usize) {
            client.out.release(&mut self.clients.pool);
            if client.link.phase == Phase::Connecting {
                self.handshakes.end(client.link.listener);
            }
            if client.rated {
                self.rates.forget(key);
            }
        }
    }

    /// The output of a connection went out wholly: there is room for more.
    #[inline]
    pub fn drained(&mut self, key: u32) {
        let Some(session) = self.clients.session_of(key) else { return };
        let Some(target) = self.clients.sessions.get(session as usize) else { return };
        if target.outbox.as_ref().is_some_and(|o| o.waiting() > 0 || o.resending()) {
            self.clients.pump(session);
        }
        self.replay_later(session);
    }

    /// Whether it waits for something that it has asked of the store.
    pub fn fetching(&self) -> bool {
        self.clients.lookups.pending()
    }

    /// Whether the core has work of its own for the next turn.
    pub fn busy(&self) -> bool {
        !self.replaying.is_empty() || self.unfinished()
    }

    /// Whether there is output to be written, or mail to be posted.
    pub fn unfinished(&self) -> bool {
        !self.clients.dirty.is_empty()
            || !self.clients.settled.is_empty()
            || self.outgoing.iter().any(|batch| !batch.is_empty())
            || self.clients.ledger.unsubmitted()
    }

    /// Counters since the start.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.clients.counters
    }

    /// From now on nobody is let in any more.
    pub fn drain(&mut self) {
        self.draining = true;
        let open: Vec<u32> = self.clients.connections.iter().map(|(key, _)| key as u32).collect();
        for key in open {
            self.end(key, End::new(CloseReason::Drained, ReasonCode::SERVER_SHUTTING_DOWN, "shutting down"));
        }
    }

    /// Connections whose output is not yet written.
    pub fn unsent(&self) -> usize {
        self.clients.connections.iter().filter(|(_, client)| !client.out.is_empty()).count()
    }
}
