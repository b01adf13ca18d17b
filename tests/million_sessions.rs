//! What a session costs a shard, in bytes asked of the allocator and in memory that the system gives: two shards'
//! cores, no socket. Clients connect, subscribe to one exact topic each, and go offline with a session that stays.
#![expect(unsafe_code, reason = "an allocator that counts has to be one")]
#![expect(clippy::print_stdout, reason = "the figures are of interest when the test passes, too")]
#![expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "counts of bytes in a test")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use switchboard::clock::Now;
use switchboard::config::settings::Settings;
use switchboard::metrics::CloseReason;
use switchboard::protocol::{
    Connect, ConnectProperties, PacketId, QoS, Subscribe, SubscribeFilter, SubscribeFilters, UserProperties,
    Version,
};
use switchboard::shard::mailbox::Mailbox;
use switchboard::shard::{Core, Exchange};

/// Shards that the sessions live on.
const SHARDS: usize = 2;

/// Connections that are served in one turn.
const TURN: usize = 256;

/// Bytes of an idle connection with one subscription, client id and topic among them, that the broker promises.
const PROMISE: f64 = 900.0;

/// The same of a session that is offline.
const OFFLINE_PROMISE: f64 = 400.0;

struct Counting;

thread_local! {
    /// Bytes that this thread has allocated and not freed; each test runs on its own.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    HELD.with(|held| held.set(held.get() + bytes));
}

// SAFETY: everything is passed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Memory of the process in bytes, as the system counts it.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0) * 1024.0
}

/// Two cores and where each client's connection is.
struct Shards {
    cores: Vec<Core>,
    exchange: Arc<Exchange>,
    connections: Vec<(usize, u32)>,
}

impl Shards {
    fn new() -> Self {
        let settings = Arc::new(Settings { shards: SHARDS, ..Settings::default() });
        let exchange = Arc::new(Exchange::new(settings, None, None, 1));
        let now = Now { mono: 1_000, unix: 1_000 };
        let cores = (0..SHARDS).map(|id| Core::new(id as u16, exchange.clone(), now, id as u64)).collect();
        Self { cores, exchange, connections: Vec::new() }
    }

    /// Takes turns until no shard has anything to do.
    fn turn(&mut self) {
        self.turn_each();
        while self.cores.iter().any(Core::busy) || self.exchange.mailboxes.iter().any(Mailbox::posted) {
            self.turn_each();
        }
    }

    /// Ends a turn of every shard and takes all output.
    fn turn_each(&mut self) {
        for core in &mut self.cores {
            core.open_mail(|_| {});
            core.end_turn();
            for key in std::mem::take(&mut core.clients.dirty) {
                let Some(client) = core.clients.connections.get_mut(key as usize) else { continue };
                client.dirty = false;
                let length = client.out.len();
                client.out.advance(length, &mut core.clients.pool);
            }
        }
    }

    fn connect(&mut self, number: usize) {
        let client_id = format!("customer-{number:07}");
        let shard = usize::from(self.exchange.home(&client_id));
        let properties = ConnectProperties { session_expiry: Some(3600), ..ConnectProperties::default() };
        let mut bytes = Vec::new();
        Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 300,
            client_id: &client_id,
            username: None,
            password: None,
            will: None,
            properties,
        }
        .encode(&mut bytes);
        let key = self.cores[shard].accept(0);
        self.cores[shard].receive(key, &bytes);
        self.connections.push((shard, key));
    }

    fn subscribe(&mut self, number: usize) {
        let (mut block, mut bytes) = (Vec::new(), Vec::new());
        SubscribeFilter::new(&format!("cs/1/main/customer/{number:07}/down"), QoS::AtLeastOnce)
            .put(&mut block);
        Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            subscription_id: None,
            user: UserProperties::encoded(&[]).unwrap(),
            filters: SubscribeFilters::encoded(&block).unwrap(),
        }
        .encode(Version::V5, &mut bytes);
        let (shard, key) = self.connections[number];
        self.cores[shard].receive(key, &bytes);
    }

    fn hang_up(&mut self, number: usize) {
        let (shard, key) = self.connections[number];
        self.cores[shard].hang_up(key, CloseReason::ClientGone);
        self.cores[shard].forget(key);
    }

    fn all(&mut self, sessions: usize, mut each: impl FnMut(&mut Self, usize)) {
        for number in 0..sessions {
            each(self, number);
            if number % TURN == 0 {
                self.turn();
            }
        }
        self.turn();
    }
}

/// What there was before, in bytes: asked of the allocator, and given by the system.
struct Growth(isize, f64);

impl Growth {
    fn begin() -> Self {
        Self(HELD.with(Cell::get), resident())
    }

    fn report(&self, sessions: usize, what: &str) -> f64 {
        let bytes = (HELD.with(Cell::get) - self.0) as f64 / sessions as f64;
        println!("{sessions} sessions {what}: {bytes:.0} bytes each");
        bytes
    }
}

/// Bytes of a session that is connected with a subscription.
fn connected(sessions: usize) -> f64 {
    let mut shards = Shards::new();
    shards.connections.reserve_exact(sessions);
    let growth = Growth::begin();
    shards.all(sessions, Shards::connect);
    growth.report(sessions, "connected");
    shards.all(sessions, Shards::subscribe);
    let subscribed = growth.report(sessions, "connected with a subscription");
    let found: u64 = shards.cores.iter().map(|core| core.gauges().sessions).sum();
    assert_eq!(found, sessions as u64);
    assert_eq!(shards.exchange.interest.len().0, sessions);
    subscribed
}

/// Bytes of a session that is offline with a subscription: its client came in one of many waves.
fn offline(sessions: usize) -> f64 {
    let mut shards = Shards::new();
    shards.connections.reserve_exact(sessions);
    let growth = Growth::begin();
    for wave in (0..sessions).step_by(TURN) {
        let wave = wave..sessions.min(wave + TURN);
        for each in [Shards::connect, Shards::subscribe, Shards::hang_up] {
            wave.clone().for_each(|number| each(&mut shards, number));
            shards.turn();
        }
    }
    let bytes = growth.report(sessions, "offline with a subscription");
    // Only the first measurement of a process sees what the system gives.
    println!("{:.0} of the system's", (resident() - growth.1) / sessions as f64);
    let gauges: Vec<_> = shards.cores.iter().map(Core::gauges).collect();
    assert_eq!(gauges.iter().map(|gauges| gauges.connections).sum::<u64>(), 0);
    assert_eq!(gauges.iter().map(|gauges| gauges.sessions).sum::<u64>(), sessions as u64);
    bytes
}

fn keeps_the_promise(sessions: usize) {
    let offline = offline(sessions);
    assert!(offline <= OFFLINE_PROMISE, "{offline:.0} bytes offline");
    let connected = connected(sessions);
    assert!(connected <= PROMISE, "{connected:.0} bytes connected");
}

#[test]
fn thousands_of_sessions_stay_within_the_promise() {
    keeps_the_promise(20_000);
}

#[test]
#[ignore = "half a gigabyte; run with: cargo test --release --test million_sessions -- --ignored --nocapture"]
fn a_million_sessions_stay_within_the_promise() {
    keeps_the_promise(1_000_000);
}
