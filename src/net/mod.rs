//! Sockets: listeners, the bytes of connections, and the loop that gives them to a shard's core.
//!
//! Knows no rule of MQTT. A shard's sockets hang on its own `mio::Poll` with the core's keys as tokens; tokio watches
//! that poll's descriptor and runs what is not a client's bytes.

mod doorman;
mod driver;
pub mod gate;
pub mod guard;
mod listener;
pub mod proxy;
mod socket;
pub mod tls;
pub mod websocket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use ipnet::IpNet;
use mio::Waker;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

pub use doorman::{Doorman, Waiting, work};
pub use driver::{Command, Driver, Stopped, WAKER};
use websocket::Terms;

pub use listener::{BindError, Bound, bind};

use crate::auth::Verdict;
use crate::config::settings::{ListenerSettings, WebSocketSettings};
use crate::http::Pulse;
use crate::metrics::{Counters, Gauges};
use crate::shard::ShardId;
use crate::shard::access::Admission;

/// A socket that moves to its client's home.
#[derive(Debug)]
pub(crate) struct Moving {
    socket: socket::Socket,
    bytes: Vec<u8>,
    listener: u16,
    admission: Admission,
}

/// How other threads reach one shard's loop.
#[derive(Debug)]
pub struct Reach {
    waker: Waker,
    sockets: Mutex<Vec<Moving>>,
    verdicts: Mutex<Vec<(u32, u32, Verdict)>>,
    /// Set while a wake-up is under way, so that a second one costs no system call.
    woken: AtomicBool,
    /// What the shard last said of itself.
    pub report: Mutex<(Counters, Gauges)>,
}

/// What is spoken at a listener, TLS apart.
#[derive(Debug)]
pub struct Door {
    /// MQTT within WebSocket.
    websocket: Option<Arc<Terms>>,
    /// Every connection comes through one of these, which says who it is.
    proxies: Option<Vec<IpNet>>,
}

impl Door {
    /// As a listener is configured.
    pub fn new(settings: &ListenerSettings) -> Self {
        let terms = |settings: &WebSocketSettings| {
            let (path, origins) = (settings.path.clone(), settings.origins.clone());
            Arc::new(Terms { path, origins, max_frame: LARGEST_FRAME })
        };
        Self {
            websocket: settings.websocket.as_ref().map(terms),
            proxies: settings.proxy.as_ref().map(|proxy| proxy.from.clone()),
        }
    }
}

/// A frame has room for every packet. It is not gathered: what comes of it goes on at once.
const LARGEST_FRAME: u64 = 268_435_460;

/// What the loops of all shards share.
#[derive(Debug)]
pub struct Loops {
    /// By shard.
    pub reach: Vec<Reach>,
    /// Says which shards tick, for `/healthz`.
    pub pulse: Arc<Pulse>,
    /// What handshakes are made with, by listener; those without TLS have none.
    pub identities: Vec<Option<RwLock<tls::Identity>>>,
    /// What is spoken, by listener.
    pub doors: Vec<Door>,
    /// Says who clients are.
    pub doorman: Doorman,
    /// Open connections by listener.
    pub open: Vec<AtomicUsize>,
    /// How fast connections are let in, by listener.
    pub gates: Vec<gate::Gate>,
    /// Where clients come from.
    pub guard: guard::Guard,
    /// A shard became overloaded, or has caught up.
    pub overload: Notify,
    /// Most connections over all listeners.
    pub most: usize,
}

impl Loops {
    /// Has a shard's loop look at its mail, and at what is durable by now.
    pub fn wake(&self, shard: ShardId) {
        if let Some(reach) = self.reach.get(usize::from(shard)) {
            reach.wake();
        }
    }
}

impl Reach {
    /// The handle of a loop that `waker` wakes.
    pub fn new(waker: Waker) -> Self {
        Self {
            waker,
            sockets: Mutex::default(),
            verdicts: Mutex::default(),
            woken: AtomicBool::new(false),
            report: Mutex::default(),
        }
    }

    fn wake(&self) {
        use std::sync::atomic::Ordering::AcqRel;
        if !self.woken.swap(true, AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a shard could not be woken");
        }
    }
}

/// Shared by the threads of a server.
pub type SharedLoops = Arc<Loops>;
