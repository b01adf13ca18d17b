//! Shards, clock and network: what `simulator::world` does, for the clients of a desk.
//!
//! Each shard's turn does what `net::driver` does with sockets: open mail when woken, read, end the turn, write, close.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;
use switchboard::clock::Now;
use switchboard::message::Millis;
use switchboard::metrics::CloseReason;
use switchboard::session::Phase;
use switchboard::shard::restore::restore;
use switchboard::shard::timers::TICK;
use switchboard::shard::{Close, Core, Exchange};
use switchboard::store::{Memory, Store};

use super::oracle::Oracle;
use super::party::Party;
use super::people::Customer;
use super::plan::{Plan, pick};

/// Rounds of writing in a turn, as the driver has them.
const ROUNDS: usize = 4;

/// Lines of a trace that are kept.
const TRACE: usize = 200_000;

/// What the clocks say when a run begins: long after the epoch, as everywhere.
pub const BEGIN: Millis = 1_700_000_000_000;

/// A connection between a client and a shard.
#[derive(Debug, Default)]
pub struct Link {
    pub party: usize,
    /// Shard and slab key, while the broker has it.
    pub place: Option<(usize, u32)>,
    /// Client to broker.
    pub up: VecDeque<u8>,
    /// Broker to client.
    pub down: VecDeque<u8>,
    /// Nothing more comes up. The broker sees it no earlier than this.
    pub up_closed: Option<Millis>,
    /// The broker has closed.
    pub down_closed: bool,
    /// The client does not read before this.
    pub stalled_until: Millis,
}

impl Link {
    /// The client writes.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.up_closed.is_none() {
            self.up.extend(bytes);
        }
    }

    /// The network breaks: what is under way is lost in part, the broker hears of it at `notice`.
    pub fn cut(&mut self, rng: &mut Rng, notice: Millis) {
        let kept = rng.usize(..=self.up.len());
        self.up.truncate(kept);
        self.down.clear();
        self.up_closed.get_or_insert(notice);
    }
}

/// The whole of a run.
pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub now: Millis,
    /// When the monotonic clock of the broker's process began.
    born: Millis,
    pub store: Option<Arc<Memory>>,
    pub exchange: Arc<Exchange>,
    pub cores: Vec<Core>,
    /// By shard and slab key, as the driver's sockets.
    sockets: Vec<Vec<Option<usize>>>,
    moving: Vec<Vec<(usize, Vec<u8>, u16)>>,
    woken: Vec<bool>,
    next_tick: Vec<Millis>,
    pub links: Vec<Link>,
    /// Links that one side still has.
    pub live: Vec<usize>,
    pub parties: Vec<Party>,
    pub customers: Vec<Customer>,
    pub oracle: Oracle,
    /// No disturbance any more: everything is to come to rest.
    pub calm: bool,
    /// Agents end what they have.
    pub finishing: bool,
    pub failure: Option<String>,
    trace: Option<VecDeque<String>>,
}

impl World {
    /// A world at rest, its witness watching.
    pub fn new(plan: Plan, traced: bool) -> Self {
        let store = plan.stored.then(|| Arc::new(Memory::new(plan.shards)));
        let kept = store.clone().map(|store| store as Arc<dyn Store>);
        let exchange =
            Arc::new(Exchange::new(plan.settings.clone(), Some(plan.routing.clone()), kept, plan.seed));
        let rng = Rng::with_seed(plan.seed);
        let mut world = Self {
            sockets: Vec::new(),
            moving: Vec::new(),
            woken: Vec::new(),
            next_tick: Vec::new(),
            rng,
            now: BEGIN,
            born: BEGIN,
            store,
            exchange,
            cores: Vec::new(),
            links: Vec::new(),
            live: Vec::new(),
            parties: Vec::new(),
            customers: Vec::new(),
            oracle: Oracle::default(),
            calm: false,
            finishing: false,
            failure: None,
            trace: traced.then(VecDeque::new),
            plan,
        };
        world.open_shards(world.plan.shards, world.plan.seed);
        world.people();
        world
    }

    fn open_shards(&mut self, shards: usize, seed: u64) {
        let clock = self.clock();
        self.cores = (0..shards)
            .map(|id| Core::new(id as u16, self.exchange.clone(), clock, seed ^ (id as u64) << 32))
            .collect();
        self.sockets = vec![Vec::new(); shards];
        self.moving = vec![Vec::new(); shards];
        self.woken = vec![false; shards];
        self.next_tick = vec![self.now + TICK; shards];
    }

    /// Every connection breaks, and every shard forgets. A new process begins with what is durable.
    pub fn crash(&mut self) {
        let Some(store) = self.store.take() else { return };
        self.note(|w| {
            let all = w.floor().conversations();
            let all: Vec<String> =
                all.map(|(_, c)| format!("{} {:?} {}", c.customer, c.phase, c.ver)).collect();
            format!("before the crash: {all:?}")
        });
        for link in std::mem::take(&mut self.live) {
            let link = &mut self.links[link];
            link.up.clear();
            link.down.clear();
            (link.place, link.down_closed, link.up_closed) = (None, true, Some(self.now));
        }
        for party in 0..self.parties.len() {
            self.let_go(party);
        }
        self.count_wills();
        let shards = if self.chance(2) { self.rng.usize(1..=4) } else { self.cores.len() };
        self.note(|_| format!("CRASH, back with {shards} shards"));
        self.oracle.crashes += 1;
        self.oracle.stats.add("crashes", 1);
        self.oracle
            .stats
            .add("restarts with another number of shards", u64::from(shards != self.cores.len()));
        let store = Arc::new(store.crash(shards));
        let settings =
            Arc::new(switchboard::config::settings::Settings { shards, ..(*self.plan.settings).clone() });
        let seed = self.plan.seed ^ self.oracle.crashes << 40;
        let routing = Some(self.plan.routing.clone());
        self.exchange = Arc::new(Exchange::new(settings, routing, Some(store.clone()), seed));
        self.born = self.now - *pick(&mut self.rng, &[0, 1, 77, 1_000]);
        self.open_shards(shards, seed);
        match restore(&mut self.cores, &*store, &mut |_, _, _| {}) {
            Ok(report) => {
                self.note(|_| format!("{report:?}"));
                self.oracle.stats.add("restored conversations", report.conversations as u64);
                self.oracle.stats.add("restored agents", report.agents as u64);
                self.oracle.stats.add("restored messages", report.messages as u64);
                if report.unreadable > 0 {
                    self.fail(format!("documents cannot be read: {:?}", report.named));
                }
            }
            Err(error) => self.fail(format!("the store cannot be read: {error}")),
        }
        self.store = Some(store);
        self.judge_back();
    }

    /// Before the shards are gone.
    pub fn count_wills(&mut self) {
        let wills = self.cores.iter_mut().map(|core| core.counters().wills_published).sum();
        self.oracle.stats.add("wills", wills);
    }

    /// Whether one of `one_in` throws.
    pub fn chance(&mut self, one_in: u32) -> bool {
        self.rng.u32(..one_in) == 0
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let line = format!("{:>8} {}", self.now - BEGIN, line(self));
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE {
                trace.pop_front();
            }
            trace.push_back(line);
        }
    }

    /// The last lines of the trace, those with this text.
    pub fn story(&self, lines: usize, with: &str) -> String {
        let trace: Vec<&str> = self.trace.iter().flatten().map(String::as_str).collect();
        let chosen: Vec<&str> = trace.into_iter().filter(|line| line.contains(with)).collect();
        chosen[chosen.len().saturating_sub(lines)..].join("\n")
    }

    /// Something is wrong.
    pub fn fail(&mut self, what: String) {
        self.note(|_| format!("FAILED: {what}"));
        self.failure.get_or_insert(what);
    }

    /// A client opens a connection; some shard accepts it.
    pub fn dial(&mut self, party: usize) -> usize {
        let shard = self.rng.usize(..self.cores.len());
        self.set_now(shard);
        let key = self.cores[shard].accept(0);
        let link = self.links.len();
        self.links.push(Link { party, ..Link::default() });
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

    fn clock(&self) -> Now {
        Now { mono: self.now - self.born, unix: self.now }
    }

    /// One step: time, clients, shards in any order.
    pub fn step(&mut self) {
        self.now += match self.rng.u32(..120) {
            _ if self.calm => 20,
            0 => self.rng.u64(1_000..20_000),
            1..12 => self.rng.u64(100..900),
            _ => self.rng.u64(0..20),
        };
        if self.calm {
            for party in 0..self.parties.len() {
                self.act(party);
            }
        } else {
            self.act(super::people::WITNESS);
            for _ in 0..self.plan.busy {
                let party = self.rng.usize(..self.parties.len());
                self.act(party);
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
        self.parties_read();
        let links = &self.links;
        self.live.retain(|&link| links[link].place.is_some() || !links[link].down.is_empty());
        self.judge_now();
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
            self.write(shard, key);
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
    }

    fn open_mail(&mut self, shard: usize) {
        self.woken[shard] = false;
        for (link, bytes, listener) in std::mem::take(&mut self.moving[shard]) {
            let key = self.cores[shard].adopt(listener);
            self.install(link, shard, key);
            self.cores[shard].receive(key, &bytes);
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
        // Now and then some bytes at a time, else whatever has gathered.
        let most = if self.calm || self.chance(2) { waiting } else { waiting.min(self.rng.usize(1..200)) };
        let bytes: Vec<u8> = self.links[link].up.drain(..most).collect();
        self.cores[shard].receive(key, &bytes);
    }

    /// What the driver's `finish_turn` does.
    pub fn finish_turn(&mut self, shard: usize) {
        for round in 0..ROUNDS {
            let wake = self.cores[shard].end_turn();
            for other in 0..self.cores.len() {
                self.woken[other] |= wake & (1 << other) != 0;
            }
            for moving in std::mem::take(&mut self.cores[shard].effects.hand_over) {
                let Some(link) = self.sockets[shard][moving.connection as usize].take() else { continue };
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

    fn write(&mut self, shard: usize, key: u32) {
        let Some(link) = self.sockets[shard].get(key as usize).copied().flatten() else { return };
        let clients = &mut self.cores[shard].clients;
        let Some(client) = clients.connections.get_mut(key as usize) else { return };
        client.blocked = false;
        while !client.out.is_empty() {
            let slices = client.out.slices();
            let bytes = slices.iter().map(|slice| &**slice).collect::<Vec<&[u8]>>().concat();
            drop(slices);
            client.out.advance(bytes.len(), &mut clients.pool);
            // What is written to a client that is gone goes nowhere.
            if self.links[link].up_closed.is_none() {
                self.links[link].down.extend(&bytes);
            }
        }
        if client.link.phase == Phase::Closing {
            self.cores[shard].effects.close.push(Close { connection: key, linger: true });
        } else {
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
            self.links[link].place = None;
            self.links[link].down_closed = true;
        }
        self.cores[shard].forget(key);
    }

    /// Whether nothing moves any more, neither in the network nor between shards.
    pub fn at_rest(&self) -> bool {
        self.live.iter().all(|&link| self.links[link].up.is_empty() && self.links[link].down.is_empty())
            && self.moving.iter().all(Vec::is_empty)
            && !self.woken.iter().any(|&woken| woken)
            && self.cores.iter().all(|core| !core.busy() && !core.fetching() && core.unsent() == 0)
            && self.parties.iter().all(Party::at_rest)
    }

    /// Lets time pass without disturbance, `pace` at a time while nothing moves: whoever is asked answers at once.
    pub fn wait(&mut self, millis: Millis, pace: Millis) {
        self.calm = true;
        let until = self.now + millis;
        while self.now < until && self.failure.is_none() {
            if self.at_rest() {
                self.now += pace;
            }
            self.step();
        }
    }
}
