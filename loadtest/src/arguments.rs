//! The command line.

use crate::failure::Failure;
use crate::packets::Dialect;
use clap::{Args, Parser, Subcommand};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// Measures an MQTT broker. Progress goes to stderr, one line of JSON a run to stdout.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Idle connections: bytes each, and what keeping them costs
    Conn(Conn),
    /// Few publishers, every subscriber gets everything
    Fanout(Fanout),
    /// Pairs of one publisher and one subscriber, each with a topic of its own
    P2p(P2p),
    /// Many publishers, one subscriber on a wildcard
    Fanin(Fanin),
    /// Many publishers, one shared subscription with several members
    Shared(Shared),
    /// Connect, subscribe, publish, receive, disconnect, over and over
    Churn(Churn),
    /// Store retained messages, then replay them to one wildcard subscriber
    Retained(Retained),
    /// Messages for persistent sessions that are away: storing and draining
    Offline(Offline),
    /// Kills and stops a broker with a store, and measures how it starts again
    Restart(Restart),
    /// Latency at a fixed rate
    Latency(Latency),
    /// Customers and agents of a desk: is its queue what theory says, and what does it carry
    Desk(Desk),
    /// A server: the bare relay that shows what sockets cost, to compare with
    Floor(Floor),
    /// Runs the table against the floor and brokers by command line, and prints medians and ratios
    Compare(Compare),
}

/// Options of every measurement.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Where the broker listens
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub(crate) addr: String,
    /// The broker's process: its processor time and memory are measured
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Measured time; with --pid at least 2, as its time is counted in steps of 10 ms
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Time before measuring
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warmup: f64,
    /// Speak MQTT 5 instead of 3.1.1
    #[arg(long)]
    pub(crate) v5: bool,
    /// Decode every received packet wholly with mqttbytes (slow: for correctness, not for figures)
    #[arg(long)]
    pub(crate) strict: bool,
    /// First levels of all topics and client identifiers
    #[arg(long, default_value = "load")]
    pub(crate) prefix: String,
    /// Only the line of JSON, no progress
    #[arg(long)]
    pub(crate) json: bool,
    /// Seconds without any delivery after which what is under way is given up
    #[arg(long, default_value_t = 2.0)]
    pub(crate) stall: f64,
}

impl Target {
    /// The broker's address.
    pub(crate) fn target(&self) -> Result<SocketAddr, Failure> {
        let mut found =
            self.addr.to_socket_addrs().map_err(Failure::io(format!("looking up {}", self.addr)))?;
        found.next().ok_or_else(|| Failure::Usage(format!("{} has no address", self.addr)))
    }

    /// The version spoken.
    pub(crate) fn dialect(&self) -> Dialect {
        Dialect::new(self.v5)
    }

    /// The warm-up as a duration.
    pub(crate) fn warmup(&self) -> Result<Duration, Failure> {
        duration("--warmup", self.warmup)
    }

    /// The measured time as a duration.
    pub(crate) fn seconds(&self) -> Result<Duration, Failure> {
        duration("--seconds", self.seconds)
    }

    /// The patience with a broker that delivers nothing.
    pub(crate) fn stall(&self) -> Result<Duration, Failure> {
        duration("--stall", self.stall)
    }

    /// Tells the user how it goes.
    pub(crate) fn progress(&self, what: impl FnOnce() -> String) {
        if !self.json {
            eprintln!("{}", what());
        }
    }
}

fn duration(option: &str, seconds: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| Failure::Usage(format!("{option} {seconds}: {error}")))
}

/// Options of the closed-loop scenarios.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flow {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Messages a publisher has under way that not all receivers have (QoS > 0: and are acknowledged)
    #[arg(long, default_value_t = 8)]
    pub(crate) window: usize,
    /// Payload bytes, at least 16
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Of publishers and subscribers
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,
    /// User properties on each message (MQTT 5)
    #[arg(long, default_value_t = 0)]
    pub(crate) user_properties: usize,
    /// Publish by topic alias, and let the broker do so too (MQTT 5)
    #[arg(long)]
    pub(crate) alias: bool,
    /// Topics in all, each message to one at random; 0: one for each publisher
    #[arg(long, default_value_t = 0)]
    pub(crate) topics: usize,
}

/// `conn`
#[derive(Debug, Clone, Args)]
pub(crate) struct Conn {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Connections; a process may have 20,000 files here
    #[arg(long, default_value_t = 10_000)]
    pub(crate) count: usize,
    /// Each subscribes to one exact topic, `cs/1/main/customer/{i}/down`
    #[arg(long)]
    pub(crate) subscribe: bool,
    /// Keep-alive in seconds
    #[arg(long, default_value_t = 60)]
    pub(crate) keep_alive: u16,
    /// Each sends PINGREQ at three quarters of the keep-alive; without this the run must end before that
    #[arg(long)]
    pub(crate) ping: bool,
    /// Seconds of quiet before memory is read
    #[arg(long, default_value_t = 2.0)]
    pub(crate) quiet: f64,
}

impl Conn {
    /// The quiet as a duration.
    pub(crate) fn quiet(&self) -> Result<Duration, Failure> {
        duration("--quiet", self.quiet)
    }
}

/// `fanout`
#[derive(Debug, Clone, Args)]
pub(crate) struct Fanout {
    #[command(flatten)]
    pub(crate) flow: Flow,
    #[arg(long, default_value_t = 1)]
    pub(crate) publishers: usize,
    #[arg(long, default_value_t = 1000)]
    pub(crate) subscribers: usize,
}

/// `p2p`
#[derive(Debug, Clone, Args)]
pub(crate) struct P2p {
    #[command(flatten)]
    pub(crate) flow: Flow,
    #[arg(long, default_value_t = 500)]
    pub(crate) pairs: usize,
    /// The subscribers' sessions outlive their connections: a broker that stores them has to, for each message
    #[arg(long)]
    pub(crate) persistent: bool,
}

/// `fanin`
#[derive(Debug, Clone, Args)]
pub(crate) struct Fanin {
    #[command(flatten)]
    pub(crate) flow: Flow,
    #[arg(long, default_value_t = 500)]
    pub(crate) publishers: usize,
    /// Each gets everything
    #[arg(long, default_value_t = 1)]
    pub(crate) subscribers: usize,
}

/// `shared`
#[derive(Debug, Clone, Args)]
pub(crate) struct Shared {
    #[command(flatten)]
    pub(crate) flow: Flow,
    #[arg(long, default_value_t = 500)]
    pub(crate) publishers: usize,
    #[arg(long, default_value_t = 10)]
    pub(crate) members: usize,
}

/// `churn`
#[derive(Debug, Clone, Args)]
pub(crate) struct Churn {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Connections at the same time
    #[arg(long, default_value_t = 50)]
    pub(crate) clients: usize,
    /// Payload bytes, at least 16
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,
}

/// `retained`
#[derive(Debug, Clone, Args)]
pub(crate) struct Retained {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Retained topics
    #[arg(long, default_value_t = 100_000)]
    pub(crate) topics: usize,
    #[arg(long, default_value_t = 10)]
    pub(crate) publishers: usize,
    /// Messages a publisher has under way that are not acknowledged
    #[arg(long, default_value_t = 64)]
    pub(crate) window: usize,
    /// Payload bytes, at least 16
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Of the subscriber that the replay goes to
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) replay_qos: u8,
    /// Subscribers one after the other, each of which gets everything
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
}

/// `offline`
#[derive(Debug, Clone, Args)]
pub(crate) struct Offline {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Persistent sessions
    #[arg(long, default_value_t = 500)]
    pub(crate) sessions: usize,
    /// Messages for each of them
    #[arg(long, default_value_t = 100)]
    pub(crate) messages: usize,
    #[arg(long, default_value_t = 10)]
    pub(crate) publishers: usize,
    /// Messages a publisher has under way that are not acknowledged
    #[arg(long, default_value_t = 64)]
    pub(crate) window: usize,
    /// Payload bytes, at least 16
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) qos: u8,
}

/// `restart`
#[derive(Debug, Clone, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The broker's command; {port} in it is the port to listen on, {store} an empty directory
    #[arg(long)]
    pub(crate) broker: String,
    /// Persistent sessions with one subscription each
    #[arg(long, default_value_t = 100_000)]
    pub(crate) sessions: usize,
    /// Retained topics
    #[arg(long, default_value_t = 100_000)]
    pub(crate) topics: usize,
    #[arg(long, default_value_t = 10)]
    pub(crate) publishers: usize,
    /// Messages a publisher has under way that are not acknowledged
    #[arg(long, default_value_t = 64)]
    pub(crate) window: usize,
    /// Payload bytes, at least 16
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Sessions, and retained topics, that are looked for after a start
    #[arg(long, default_value_t = 1000)]
    pub(crate) samples: usize,
    /// Where the store's directory is made, and removed; the system's for temporary files if not given
    #[arg(long)]
    pub(crate) directory: Option<std::path::PathBuf>,
    /// Show what the broker writes to stderr
    #[arg(long)]
    pub(crate) server_output: bool,
}

/// `latency`
#[derive(Debug, Clone, Args)]
pub(crate) struct Latency {
    #[command(flatten)]
    pub(crate) flow: Flow,
    /// Messages a second in all
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u32,
    #[arg(long, default_value_t = 10)]
    pub(crate) pairs: usize,
}

/// `desk`. The broker needs rules like those of `loadtest/desk.toml`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Desk {
    #[command(flatten)]
    pub(crate) target: Target,
    #[arg(long, default_value_t = 10)]
    pub(crate) agents: u32,
    /// Conversations that an agent has at the same time
    #[arg(long, default_value_t = 1)]
    pub(crate) capacity: u32,
    /// Work that comes, as a part of what all agents can do; 1 and more only with --patience
    #[arg(long, default_value_t = 0.7)]
    pub(crate) load: f64,
    /// Seconds that an agent has to do with a conversation, on average (exponential)
    #[arg(long, default_value_t = 0.5)]
    pub(crate) handling: f64,
    /// Seconds that a customer waits before it leaves, on average (exponential); 0: for ever
    #[arg(long, default_value_t = 0.0)]
    pub(crate) patience: f64,
    /// Messages of the customer in a conversation, at least 1: one opens it, the others come while it is handled
    #[arg(long, default_value_t = 3)]
    pub(crate) messages: u32,
    /// Bytes of a message's text, at least 64
    #[arg(long, default_value_t = 200)]
    pub(crate) size: usize,
    /// Seconds that an agent looks at an offer, on average (exponential)
    #[arg(long, default_value_t = 0.0)]
    pub(crate) think: f64,
    /// The part of the offers that is rejected
    #[arg(long, default_value_t = 0.0)]
    pub(crate) reject: f64,
    /// The part of the offers that is not answered at all
    #[arg(long, default_value_t = 0.0)]
    pub(crate) ignore: f64,
    /// Seconds within which a customer should be answered: the service level
    #[arg(long, default_value_t = 0.1)]
    pub(crate) within: f64,
    /// Fail if a figure is farther than this part from theory, without the luck of the draws
    #[arg(long)]
    pub(crate) tolerance: Option<f64>,
    /// Connections of customers; 0: as many as will be enough
    #[arg(long, default_value_t = 0)]
    pub(crate) customers: usize,
    /// Every agent has all its conversations, and each customer sends as much as it may: what the desk carries
    #[arg(long)]
    pub(crate) closed_loop: bool,
    /// With --closed-loop: messages of a customer under way that the agent does not have, or are not acknowledged
    #[arg(long, default_value_t = 8)]
    pub(crate) window: usize,
    #[arg(long, default_value = "main")]
    pub(crate) tenant: String,
    #[arg(long, default_value = "care")]
    pub(crate) group: String,
    /// The same seed draws the same customers
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// `floor`
#[derive(Debug, Clone, Args)]
pub(crate) struct Floor {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:1900")]
    pub(crate) bind: SocketAddr,
}

/// `compare`
#[derive(Debug, Clone, Args)]
pub(crate) struct Compare {
    /// A broker as NAME=COMMAND, `{port}` in the command is the port to listen on, `{store}` an empty directory; may be given several times
    #[arg(long = "broker", value_name = "NAME=COMMAND")]
    pub(crate) brokers: Vec<String>,
    /// Interleaved runs of each
    #[arg(long, default_value_t = 3)]
    pub(crate) runs: usize,
    /// Only rows whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Measured seconds of each run, where the row does not say
    #[arg(long, default_value_t = 4.0)]
    pub(crate) seconds: f64,
    /// Port for all servers, of which only one runs at a time; a free one if not given
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Core of the servers
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// Core of the load
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
    /// Pin nothing
    #[arg(long)]
    pub(crate) unpinned: bool,
    /// Show what the servers write to stderr
    #[arg(long)]
    pub(crate) server_output: bool,
    /// Leave the floor out
    #[arg(long)]
    pub(crate) no_floor: bool,
    /// List the rows and end
    #[arg(long)]
    pub(crate) list: bool,
}
