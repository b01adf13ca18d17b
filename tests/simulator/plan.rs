//! What one run looks like: everything follows from the seed.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use switchboard::config::settings::{
    GroupRule, LimitSettings, ListenerSettings, Overflow, RetainedSettings, SessionSettings, Settings,
    SharingSettings, Strategy,
};

/// Longest session expiry granted, seconds: short, so that a run can see the end of every session.
pub const MAX_EXPIRY: u32 = 60;

/// Steps of a short run.
const STEPS: usize = 150;

/// Shape of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub shards: usize,
    pub clients: usize,
    pub steps: usize,
    /// Clients that do something in one step.
    pub busy: usize,
    /// Per mille of a client's acts that cut its connection.
    pub cuts: u32,
    /// Bytes that a socket takes before it blocks.
    pub socket: usize,
    pub settings: Arc<Settings>,
    /// Sessions and what they are owed are written down.
    pub stored: bool,
    /// Outside calm the store commits in one of so many steps.
    pub commits: u32,
    /// Steps before which everything but the store is lost.
    pub crashes: Vec<usize>,
}

impl Plan {
    /// A short run with few clients.
    pub fn short(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x51A1);
        let shards = rng.usize(1..=4);
        let clients = rng.usize(3..=12);
        let mut durable = Rng::with_seed(seed ^ 0xD15C);
        let (stored, crashes) = (durable.bool(), durable.usize(0..=3));
        let (cuts, socket) = (*pick(&mut rng, &[0, 10, 60]), *pick(&mut rng, &[64, 700, 16_384]));
        let mut settings = settings(&mut rng, shards);
        if stored && settings.session.overflow == Overflow::Disconnect {
            // With a full queue a client that gets what it publishes itself is closed before its PUBACK is durable, comes
            // back, publishes it again, and so on.
            settings.session.queue_messages = 1000;
        }
        Self {
            seed,
            shards,
            clients,
            steps: STEPS,
            busy: clients.div_ceil(2),
            cuts,
            socket,
            settings: Arc::new(settings),
            stored,
            commits: *pick(&mut durable, &[1, 3, 12, 60]),
            crashes: (0..crashes).map(|_| durable.usize(5..STEPS)).collect(),
        }
    }

    /// The same without a store.
    pub fn without_store(mut self) -> Self {
        self.stored = false;
        self
    }

    /// One run with thousands of clients.
    pub fn crowd(seed: u64, clients: usize) -> Self {
        let mut plan = Self::short(seed);
        plan.shards = 4;
        plan.settings = Arc::new(settings(&mut Rng::with_seed(seed), 4));
        plan.clients = clients;
        plan.steps = 160;
        plan.busy = clients / 20;
        plan
    }
}

/// One of these.
pub fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

fn settings(rng: &mut Rng, shards: usize) -> Settings {
    let strategies = [Strategy::Sticky, Strategy::RoundRobin, Strategy::LeastInflight, Strategy::Random];
    let groups = strategies.iter().enumerate().map(|(number, &strategy)| GroupRule {
        filter_or_name: format!("g{number}"),
        strategy,
        key_level: Some(3),
    });
    Settings {
        shards,
        listeners: vec![ListenerSettings {
            allow_anonymous: true,
            connect_timeout: Duration::from_secs(10),
            ..ListenerSettings::default()
        }],
        limits: LimitSettings { max_packet: 64 * 1024, ..LimitSettings::default() },
        session: SessionSettings {
            max_expiry: Duration::from_secs(u64::from(MAX_EXPIRY)),
            receive_maximum: *pick(rng, &[2, 16, 1024]),
            max_inflight: *pick(rng, &[1, 3, 1024, 1024]),
            queue_messages: *pick(rng, &[6, 1000, 1000, 1000]),
            outbuf_bytes: *pick(rng, &[600, 1 << 20, 1 << 20]),
            overflow: *pick(rng, &[Overflow::DropNewest, Overflow::DropOldest, Overflow::Disconnect]),
            topic_alias_maximum: 8,
            outgoing_topic_alias_maximum: *pick(rng, &[0, 2, 16]),
            ..SessionSettings::default()
        },
        retained: RetainedSettings { cache: *pick(rng, &[0, 400, 64 << 20]), ..RetainedSettings::default() },
        sharing: SharingSettings { groups: groups.collect(), ..SharingSettings::default() },
        ..Settings::default()
    }
}
