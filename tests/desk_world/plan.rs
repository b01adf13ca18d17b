//! What one run looks like: everything follows from the seed.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use switchboard::config::settings::{LimitSettings, ListenerSettings, SessionSettings, Settings};
use switchboard::desk::Routing;

/// The tenant of all runs.
pub const TENANT: &str = "main";

/// What all topics of the tenant begin with.
pub const PREFIX: &str = "cs/1/main/";

/// The groups. Customers come to one of them by the first letter of their name.
pub const GROUPS: [&str; 3] = ["care", "sales", "night"];

/// Steps of a short run.
const STEPS: usize = 260;

/// Shape of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub shards: usize,
    pub customers: usize,
    pub agents: usize,
    pub steps: usize,
    /// Clients that do something in one step.
    pub busy: usize,
    /// Per mille of a client's acts that cut its connection.
    pub cuts: u32,
    /// Per mille of a device's acts that write.
    pub writes: u32,
    /// Groups and agents are drained.
    pub drains: bool,
    /// Conversations last, and fill blocks of their transcripts.
    pub lasting: bool,
    pub settings: Arc<Settings>,
    pub routing: Arc<Routing>,
    /// What `routing` was read from.
    pub rules: String,
    pub stored: bool,
    /// Outside calm the store commits in one of so many steps.
    pub commits: u32,
    /// Steps before which everything but the store is lost.
    pub crashes: Vec<usize>,
}

impl Plan {
    /// A short run with few clients.
    pub fn short(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0xDE5C);
        let shards = rng.usize(1..=4);
        let (customers, agents) = (rng.usize(2..=9), rng.usize(2..=5));
        let stored = rng.u8(..4) > 0;
        let crashes = rng.usize(0..=4);
        let rules = rules(&mut rng);
        let lasting = rng.u8(..6) == 0;
        let customers = if lasting { customers.min(3) } else { customers };
        Self {
            seed,
            shards,
            customers,
            agents,
            steps: STEPS,
            busy: (customers + agents).div_ceil(2),
            cuts: *pick(&mut rng, &[0, 8, 30]),
            writes: if lasting { 900 } else { *pick(&mut rng, &[60, 150, 500]) },
            drains: false,
            lasting,
            settings: Arc::new(settings(shards)),
            routing: Arc::new(Routing::parse(&rules, "rules.toml").unwrap()),
            rules,
            stored,
            commits: *pick(&mut rng, &[1, 3, 12, 40]),
            crashes: (0..crashes).map(|_| rng.usize(5..STEPS)).collect(),
        }
    }

    /// One run with thousands of customers.
    pub fn crowd(seed: u64, customers: usize, agents: usize) -> Self {
        let mut plan = Self::short(seed);
        plan.shards = 4;
        plan.settings = Arc::new(settings(4));
        (plan.customers, plan.agents) = (customers, agents);
        (plan.steps, plan.busy, plan.cuts, plan.writes) = (100, 300, 4, 200);
        (plan.stored, plan.lasting) = (true, false);
        plan.commits = 2;
        plan.crashes = vec![40, 75];
        plan
    }
}

/// One of these.
pub fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

fn settings(shards: usize) -> Settings {
    Settings {
        shards,
        listeners: vec![ListenerSettings {
            allow_anonymous: true,
            connect_timeout: Duration::from_secs(10),
            ..ListenerSettings::default()
        }],
        limits: LimitSettings { max_packet: 256 * 1024, ..LimitSettings::default() },
        session: SessionSettings {
            max_expiry: Duration::from_secs(100_000),
            // Nothing may be lost for want of room.
            queue_messages: 1_000_000,
            queue_bytes: 1 << 30,
            outbuf_bytes: 1 << 20,
            ..SessionSettings::default()
        },
        ..Settings::default()
    }
}

fn rules(rng: &mut Rng) -> String {
    let mut text = format!("[[tenant]]\nname = \"{TENANT}\"\n");
    for (number, name) in GROUPS.iter().enumerate() {
        let mut line = |what: std::fmt::Arguments<'_>| writeln!(text, "{what}").unwrap();
        line(format_args!(
            "\n[[tenant.group]]\nname = \"{name}\"\nmode = \"assigned\"\n[tenant.group.assigned]"
        ));
        line(format_args!("offer = \"{}\"", pick(rng, &["1s", "3s", "8s"])));
        line(format_args!("grace = \"{}\"", pick(rng, &["1s", "6s", "20s"])));
        line(format_args!("sticky = \"{}\"", pick(rng, &["0s", "4s", "15s"])));
        line(format_args!("wrapup = \"{}\"", pick(rng, &["0s", "2s", "10s"])));
        line(format_args!("reject = \"{}\"", pick(rng, &["0s", "2s", "20s"])));
        line(format_args!("lapses = {}", rng.u8(1..4)));
        line(format_args!("max_queue = {}", pick(rng, &[1, 2, 5, 1000])));
        if number == 2 {
            line(format_args!("auto_accept = true"));
        }
        if rng.u8(..4) == 0 {
            line(format_args!("full_text = \"Nobody is there.\""));
        }
        if rng.u8(..3) == 0 {
            line(format_args!("max_wait = \"{}\"", pick(rng, &["10s", "40s"])));
            line(format_args!("{}", pick(rng, &["expired_text = \"Nobody was there.\"", ""])));
        }
        if number == 0 {
            line(format_args!("[[tenant.group.step]]\nafter = \"3s\"\nraise_priority = 1"));
            line(format_args!(
                "[[tenant.group.step]]\nafter = \"{}\"\ndrop_skill = \"x\"",
                pick(rng, &["5s", "15s"])
            ));
            line(format_args!("[[tenant.group.step]]\nafter = \"20s\"\nadd_group = \"sales\""));
            if rng.bool() {
                line(format_args!("[[tenant.group.step]]\nafter = \"30s\"\nmove_to = \"night\""));
            }
        }
    }
    for (name, group, rest) in
        [("n", "night", ""), ("s", "sales", ""), ("x", "care", "skills = [\"x\"]\npriority = 2")]
    {
        let when = format!("message.topic.contains(\"/customer/{name}\")");
        write!(text, "\n[[tenant.rule]]\nname = \"{name}\"\nwhen = '{when}'\ngroup = \"{group}\"\n{rest}\n")
            .unwrap();
    }
    text.push_str("\n[[tenant.rule]]\nname = \"all\"\ngroup = \"care\"\n");
    text
}
