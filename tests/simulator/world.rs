//! Shards, clock and network: everything that moves, moved by one seeded generator.
//!
//! Each shard's turn does what `net::driver` does with sockets: open mail when woken, read, end the turn, write what
//! the links take, close. Links hold bytes in both directions, deliver them in pieces, stall and break.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;
use switchboard::clock::Now;
use switchboard::message::Millis;
use switchboard::metrics::CloseReason;
use switchboard::session::Phase;
pub use switchboard::shard::timers::TICK;
use switchboard::shard::{Close, Core, Exchange};
use switchboard::store::{Memory, Store};

use super::client::{Client, WITNESS};
use super::oracle::Oracle;
use super::plan::Plan;
use super::wire::Greeting;

/// Rounds of writing in a turn, as the driver has them.
const ROUNDS: usize = 4;

/// Lines of a trace that are kept.
const TRACE: usize = 100_000;

/// A connection between a client and a shard.
#[derive(Debug, Default)]
pub struct Link {
    pub client: usize,
    /// What the client said in CONNECT.
    pub greeting: Greeting,
    /// Shard and slab key, while the broker has it.
    pub place: Option<(usize, u32)>,
    /// Client to broker.
    pub up: VecDeque<u8>,
    /// Broker to client.
    pub down: VecDeque<u8>,
    /// The client has closed, or the network broke: nothing more comes up. The broker sees it no earlier than this.
    pub up_closed: Option<Millis>,
    /// The broker has closed.
    pub down_closed: bool,
    /// The client does not read before this.
    pub stalled_until: Millis,
    /// Bytes that the client wrote, and bytes that the rules took before the connection was over.
    written: usize,
    consumed: usize,
    /// Where a DISCONNECT of the client ends, its reason and its Session Expiry Interval.
    pub goodbye: Option<(usize, u8, Option<u32>)>,
    /// The rules let it in, with this session.
    pub opened: bool,
    pub instance: u64,
    pub expect_present: bool,
    /// The rules parted it from its session.
    pub detached: bool,
    /// The client has seen an answer that is durable only with all that its session was when it was let in.
    pub solid: bool,
}

impl Link {
    /// The client writes.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.up_closed.is_none() {
            self.written += bytes.len();
            self.up.extend(bytes);
        }
    }

    /// The client writes DISCONNECT and closes.
    pub fn say_goodbye(&mut self, bytes: &[u8], reason: u8, expiry: Option<u32>, now: Millis) {
        self.send(bytes);
        self.goodbye = Some((self.written, reason, expiry));
        self.up_closed = Some(now);
    }

    /// Whether the rules took the client's DISCONNECT.
    pub fn goodbye_taken(&self) -> Option<(u8, Option<u32>)> {
        self.goodbye.filter(|(at, ..)| self.consumed >= *at).map(|(_, reason, expiry)| (reason, expiry))
    }

    /// The network breaks: what is under way is lost in part, the broker hears of it at `notice`.
    pub fn cut(&mut self, rng: &mut Rng, notice: Millis) {
        let kept = rng.usize(..=self.up.len());
        self.up.truncate(kept);
        self.down.clear();
        self.up_closed.get_or_insert(notice);
    }

    /// Nothing is under way.
    fn idle(&self) -> bool {
        self.up.is_empty() && self.down.is_empty()
    }
}

/// The whole of a run.
pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub now: Millis,
    /// When the monotonic clock of the broker's process began.
    pub born: Millis,
    pub store: Option<Arc<Memory>>,
    pub exchange: Arc<Exchange>,
    pub cores: Vec<Core>,
    /// By shard and slab key, as the driver's sockets.
    pub sockets: Vec<Vec<Option<usize>>>,
    pub moving: Vec<Vec<(usize, Vec<u8>, u16)>>,
    pub woken: Vec<bool>,
    pub next_tick: Vec<Millis>,
    pub links: Vec<Link>,
    /// Links that one side still has.
    pub live: Vec<usize>,
    pub clients: Vec<Client>,
    pub oracle: Oracle,
    /// No disturbance any more: everything is to come to rest.
    pub calm: bool,
    /// The witness has left.
    pub over: bool,
    pub failure: Option<String>,
    trace: Option<VecDeque<String>>,
}

impl World {
    /// A world at rest.
    pub fn new(plan: Plan, traced: bool) -> Self {
        let store = plan.stored.then(|| Arc::new(Memory::new(plan.shards)));
        let kept = store.clone().map(|store| store as Arc<dyn Store>);
        let exchange = Arc::new(Exchange::new(plan.settings.clone(), None, kept, plan.seed));
        let now = 1_000;
        let clock = Now { mono: now, unix: now };
        let cores = (0..plan.shards)
            .map(|id| Core::new(id as u16, exchange.clone(), clock, plan.seed ^ (id as u64) << 32))
            .collect();
        let rng = Rng::with_seed(plan.seed);
        let mut world = Self {
            sockets: vec![Vec::new(); plan.shards],
            moving: vec![Vec::new(); plan.shards],
            woken: vec![false; plan.shards],
            next_tick: vec![now + TICK; plan.shards],
            rng,
            now,
            born: 0,
            store,
            exchange,
            cores,
            links: Vec::new(),
            live: Vec::new(),
            clients: Vec::new(),
            oracle: Oracle::default(),
            calm: false,
            over: false,
            failure: None,
            trace: traced.then(VecDeque::new),
            plan,
        };
        world.people();
        world
    }

    /// Whether one of `one_in` throws.
    pub fn chance(&mut self, one_in: u32) -> bool {
        self.rng.u32(..one_in) == 0
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE {
                trace.pop_front();
            }
            trace.push_back(format!("{:>8} {}", self.now, line()));
        }
    }

    /// The last lines of the trace.
    pub fn story(&self, lines: usize) -> String {
        let trace = self.trace.iter().flatten();
        let skip = self.trace.as_ref().map_or(0, VecDeque::len).saturating_sub(lines);
        trace.skip(skip).map(String::as_str).collect::<Vec<&str>>().join("\n")
    }

    /// Something is wrong.
    pub fn fail(&mut self, what: String) {
        self.note(|| format!("FAILED: {what}"));
        self.failure.get_or_insert(what);
    }

    /// A client opens a connection; some shard accepts it.
    pub fn dial(&mut self, client: usize, greeting: Greeting) -> usize {
        let shard = self.rng.usize(..self.cores.len());
        self.set_now(shard);
        let key = self.cores[shard].accept(0);
        let link = self.links.len();
        self.links.push(Link { client, greeting, ..Link::default() });
        self.live.push(link);
        self.install(link, shard, key);
        link
    }

    fn install(&mut self, link: usize, shard: usize, key: u32) {
        let sockets = &mut self.sockets[shard];
        if sockets.len() <= key as usize {
            sockets.resize(key as usize + 1, None);
        }
        sockets[key as usize] = Some(link);
        self.links[link].place = Some((shard, key));
    }

    fn set_now(&mut self, shard: usize) {
        let now = self.clock();
        self.cores[shard].set_now(now);
    }

    /// The time as the broker's process has it.
    pub fn clock(&self) -> Now {
        Now { mono: self.now - self.born, unix: self.now }
    }

    /// One step: time, clients, shards in any order.
    pub fn step(&mut self) {
        self.now += match self.rng.u32(..400) {
            _ if self.calm => 20,
            0 => self.rng.u64(1_000..25_000),
            1..40 => self.rng.u64(50..400),
            _ => self.rng.u64(0..10),
        };
        if self.calm {
            for client in 0..self.clients.len() {
                self.act(client);
            }
        } else {
            for _ in 0..self.plan.busy {
                let client = self.rng.usize(..self.clients.len());
                self.act(client);
            }
        }
        let commits = self.plan.commits;
        if let Some(store) = self.store.clone()
            && (self.calm || self.chance(commits))
        {
            store.commit();
        }
        let mut order: Vec<usize> = (0..self.cores.len()).collect();
        self.rng.shuffle(&mut order);
        for shard in order {
            if self.calm || !self.chance(4) {
                self.turn(shard);
            }
        }
        self.clients_read();
        let links = &self.links;
        self.live.retain(|&link| links[link].place.is_some() || !links[link].down.is_empty());
    }

    fn turn(&mut self, shard: usize) {
        self.set_now(shard);
        if self.woken[shard] && (self.calm || !self.chance(4)) {
            self.open_mail(shard);
        }
        let mut ready: Vec<(u32, usize)> =
            (0..).zip(&self.sockets[shard]).filter_map(|(k, l)| Some((k, (*l)?))).collect();
        self.rng.shuffle(&mut ready);
        for (key, link) in ready {
            if self.sockets[shard].get(key as usize).copied().flatten() != Some(link) {
                continue;
            }
            self.writable(shard, key, link);
            if self.links[link].place.is_some() && (self.calm || !self.chance(3)) {
                self.read(shard, key, link);
            }
        }
        self.finish_turn(shard);
        if self.now >= self.next_tick[shard] && (self.calm || !self.chance(3)) {
            self.next_tick[shard] = self.now + TICK;
            self.cores[shard].tick();
            self.finish_turn(shard);
        }
        self.observe_all(shard);
    }

    fn open_mail(&mut self, shard: usize) {
        self.woken[shard] = false;
        for (link, bytes, listener) in std::mem::take(&mut self.moving[shard]) {
            let key = self.cores[shard].adopt(listener);
            self.install(link, shard, key);
            // These are all the bytes so far, among them those that an earlier read brought.
            self.links[link].consumed = 0;
            self.receive(shard, key, link, &bytes);
        }
        let mut waiting = Vec::new();
        self.cores[shard].open_mail(|sender| waiting.push(sender));
        for sender in waiting {
            self.woken[usize::from(sender)] = true;
        }
    }

    fn read(&mut self, shard: usize, key: u32, link: usize) {
        if self.cores[shard].clients.connections.get(key as usize).is_none_or(|client| client.paused) {
            return;
        }
        let waiting = self.links[link].up.len();
        if waiting == 0 {
            if self.links[link].up_closed.is_some_and(|at| at <= self.now) {
                self.gone(shard, key, CloseReason::ClientGone);
            }
            return;
        }
        // Now and then a byte at a time, else whatever has gathered.
        let most = if self.calm || self.chance(2) { waiting } else { waiting.min(self.rng.usize(1..40)) };
        let bytes: Vec<u8> = self.links[link].up.drain(..most).collect();
        self.receive(shard, key, link, &bytes);
    }

    fn receive(&mut self, shard: usize, key: u32, link: usize, bytes: &[u8]) {
        let open = |world: &Self| {
            let client = world.cores[shard].clients.connections.get(key as usize);
            client.is_some_and(|client| client.link.phase != Phase::Closing)
        };
        let was_open = open(self);
        let handed_over = self.cores[shard].effects.hand_over.len();
        self.cores[shard].receive(key, bytes);
        if was_open && self.cores[shard].effects.hand_over.len() == handed_over {
            self.links[link].consumed += bytes.len();
        }
        self.observe(shard, key, link);
    }

    /// Tells the oracle what the rules have done with a link.
    fn observe(&mut self, shard: usize, key: u32, link: usize) {
        let Some(client) = self.cores[shard].clients.connections.get(key as usize) else { return };
        let (phase, opened, detached) =
            (client.link.phase, self.links[link].opened, self.links[link].detached);
        // A connection can be let in and end again in one read.
        let was_let_in =
            !client.out.is_empty() && phase == Phase::Closing && self.let_in_by_answer(shard, key);
        if !opened && (phase == Phase::Open || was_let_in) {
            self.opened(link);
        }
        if phase == Phase::Closing && self.links[link].opened && !detached {
            self.detached(link);
        }
    }

    /// Whether the output of a connection begins with a CONNACK of success.
    fn let_in_by_answer(&self, shard: usize, key: u32) -> bool {
        let client = self.cores[shard].clients.connections.get(key as usize);
        client.and_then(|c| c.out.contiguous()).is_some_and(|bytes| {
            bytes.first() == Some(&0x20) && {
                let header = bytes.iter().skip(1).position(|b| b & 0x80 == 0).map_or(0, |at| at + 2);
                bytes.get(header + 1) == Some(&0)
            }
        })
    }

    fn observe_all(&mut self, shard: usize) {
        for key in 0..self.sockets[shard].len() {
            if let Some(link) = self.sockets[shard][key] {
                self.observe(shard, key as u32, link);
            }
        }
    }

    /// What the driver's `finish_turn` does.
    fn finish_turn(&mut self, shard: usize) {
        for round in 0..ROUNDS {
            let wake = self.cores[shard].end_turn();
            for other in 0..self.cores.len() {
                self.woken[other] |= wake & (1 << other) != 0;
            }
            for moving in std::mem::take(&mut self.cores[shard].effects.hand_over) {
                let Some(link) = self.sockets[shard][moving.connection as usize].take() else { continue };
                self.links[link].place = None;
                self.cores[shard].forget(moving.connection);
                // Until it is adopted the broker still holds it.
                self.links[link].place = Some((usize::from(moving.shard), u32::MAX));
                self.moving[usize::from(moving.shard)].push((link, moving.bytes, moving.listener));
                self.woken[usize::from(moving.shard)] = true;
            }
            for key in std::mem::take(&mut self.cores[shard].clients.dirty) {
                if let Some(client) = self.cores[shard].clients.connections.get_mut(key as usize)
                    && client.dirty
                {
                    client.dirty = false;
                    self.write(shard, key);
                }
            }
            for close in std::mem::take(&mut self.cores[shard].effects.close) {
                self.close(shard, close);
            }
            for key in std::mem::take(&mut self.cores[shard].effects.resume) {
                self.cores[shard].resume(key);
            }
            if round + 1 == ROUNDS || self.cores[shard].clients.dirty.is_empty() {
                break;
            }
        }
    }

    fn room(&self, link: usize) -> usize {
        let link = &self.links[link];
        if link.up_closed.is_some() || self.calm {
            usize::MAX
        } else {
            self.plan.socket.saturating_sub(link.down.len())
        }
    }

    fn writable(&mut self, shard: usize, key: u32, link: usize) {
        if self.room(link) > 0
            && let Some(client) = self.cores[shard].clients.connections.get_mut(key as usize)
            && client.blocked
        {
            client.blocked = false;
            self.write(shard, key);
        }
    }

    fn write(&mut self, shard: usize, key: u32) {
        let Some(link) = self.sockets[shard].get(key as usize).copied().flatten() else { return };
        loop {
            let room = self.room(link);
            let clients = &mut self.cores[shard].clients;
            let Some(client) = clients.connections.get_mut(key as usize) else { return };
            if client.out.is_empty() {
                break;
            }
            let bytes = if let Some(bytes) = client.out.contiguous() {
                bytes.to_vec()
            } else {
                let slices = client.out.slices();
                slices.iter().map(|slice| &**slice).collect::<Vec<&[u8]>>().concat()
            };
            let offered = bytes.len();
            let mut taken = offered.min(room);
            if !self.calm && taken > 1 && self.rng.u32(..8) == 0 {
                taken = self.rng.usize(1..taken);
            }
            client.out.advance(taken, &mut clients.pool);
            client.blocked = taken < offered;
            let blocked = client.blocked;
            // What is written to a client that is gone goes nowhere.
            if self.links[link].up_closed.is_none() {
                self.links[link].down.extend(&bytes[..taken]);
            }
            if blocked {
                break;
            }
        }
        let Some(client) = self.cores[shard].clients.connections.get(key as usize) else { return };
        let (closing, done) = (client.link.phase == Phase::Closing, client.out.is_empty());
        if done && closing {
            self.cores[shard].effects.close.push(Close { connection: key, linger: true });
        } else if done {
            self.cores[shard].drained(key);
        }
    }

    fn close(&mut self, shard: usize, close: Close) {
        let key = close.connection;
        let Some(client) = self.cores[shard].clients.connections.get(key as usize) else { return };
        if client.link.phase != Phase::Closing {
            return;
        }
        if !close.linger {
            return self.gone(shard, key, CloseReason::ClientGone);
        }
        if client.out.is_empty()
            && let Some(link) = self.sockets[shard][key as usize]
        {
            self.links[link].down_closed = true;
        }
    }

    fn gone(&mut self, shard: usize, key: u32, reason: CloseReason) {
        let link = self.sockets[shard][key as usize].take();
        self.cores[shard].hang_up(key, reason);
        if let Some(link) = link {
            if self.links[link].opened && !self.links[link].detached {
                self.detached(link);
            }
            self.links[link].place = None;
            self.links[link].down_closed = true;
        }
        self.cores[shard].forget(key);
    }

    /// Whether nothing moves any more, neither in the network nor between shards.
    pub fn at_rest(&self) -> bool {
        self.live.iter().all(|&link| self.links[link].idle())
            && self.moving.iter().all(Vec::is_empty)
            && !self.woken.iter().any(|&woken| woken)
            && self.cores.iter().all(|core| !core.busy() && !core.fetching() && core.unsent() == 0)
            && self.clients.iter().all(Client::at_rest)
    }

    /// Lets time pass with nobody doing anything.
    pub fn wait(&mut self, mut millis: Millis) {
        while millis > 0 && self.failure.is_none() {
            let step = millis.min(2_000);
            millis -= step;
            self.now += step;
            for _ in 0..2 {
                self.act(WITNESS);
                if let Some(store) = &self.store {
                    store.commit();
                }
                for shard in 0..self.cores.len() {
                    self.turn(shard);
                }
                self.clients_read();
            }
        }
    }
}
