//! A running broker: its threads, from start to drain.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use mio::{Poll, Waker};
use parking_lot::RwLock;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::auth::Access;
use crate::clock::Clock;
use crate::config::read_pem;
use crate::config::settings::{ListenerSettings, MAX_SHARDS, Settings};
use crate::desk::Routing;
use crate::http::{self, HttpState, Pulse, Readiness};
use crate::metrics::{Counters, Gauges, Registry, StoreFigures, StoreHandles, UPKEEP_INTERVAL};
use crate::net::gate::Gate;
use crate::net::guard::Guard;
use crate::net::tls::{Identity, TlsError};
use crate::net::{
    self, BindError, Bound, Command, Door, Doorman, Driver, Loops, Reach, SharedLoops, Stopped, WAKER,
};
use crate::shard::restore::restore;
use crate::shard::{Core, Exchange, ShardId};
use crate::store::disk::{Disk, OpenError, Options};
use crate::store::{Health, LoadError, Store, Table};
use crate::sys::{Snapshot, Sys};

/// Commands that may wait for one shard.
const COMMANDS: usize = 64;

/// How often the store is asked how it is.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// How often a start that takes long says how far it is.
const TELL_MS: u64 = 1_000;

/// Rounds of mail between shards that have ended: there, back, and on to a group's member.
const LAST_ROUNDS: usize = 4;

/// Threads that find out who clients are, at most.
const DOOR_THREADS: usize = 4;

/// Open files of a shard besides its clients': listeners, polls, wakers.
const FILES_OF_A_SHARD: usize = 16;

/// Open files of the rest: standard streams, the control thread, HTTP's connections.
const OTHER_FILES: usize = 128;

/// A broker that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A listener's TLS is not as it should be.
    #[error("listener {listener}: {source}")]
    Tls {
        /// Name in the configuration.
        listener: String,
        /// What is wrong.
        source: TlsError,
    },
    /// The HTTP listener could not be opened.
    #[error("http: cannot listen on {address}: {source}")]
    Http {
        /// Address that was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// More shards than can be told apart.
    #[error("{0} shards; at most {MAX_SHARDS}")]
    Shards(usize),
    /// The system refused a thread, a poll or a runtime.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The store could not be opened.
    #[error("store: {0}")]
    Store(#[from] OpenError),
    /// The store could not be read.
    #[error("store: {0}")]
    Load(#[from] LoadError),
    /// The metrics could not be set up.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// A broker that runs.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<(String, SocketAddr)>,
    http: Option<SocketAddr>,
    shards: Vec<JoinHandle<io::Result<Stopped>>>,
    store: Option<Arc<Disk>>,
    commands: Vec<mpsc::Sender<Command>>,
    control: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    readiness: Arc<Readiness>,
    failures: Option<mpsc::Receiver<ShardId>>,
}

/// Tells when a shard's thread ends by an error or a panic.
struct Alarm {
    shard: ShardId,
    armed: bool,
    to: mpsc::Sender<ShardId>,
}

impl Alarm {
    fn watch<T, E>(mut self, run: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let outcome = run();
        self.armed = outcome.is_err();
        outcome
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.armed {
            // At the end of the process nobody listens any more.
            let _ = self.to.try_send(self.shard);
        }
    }
}

/// What a listener's handshakes are made with.
fn identity(listener: &ListenerSettings) -> Result<Option<RwLock<Identity>>, StartError> {
    let Some(tls) = &listener.tls else { return Ok(None) };
    let loaded = Identity::load(tls, listener.websocket.is_some(), &read_pem);
    let identity = loaded.map_err(|source| StartError::Tls { listener: listener.name.clone(), source })?;
    Ok(Some(RwLock::new(identity)))
}

impl Server {
    /// Brings back what the store has kept, opens all listeners and starts a thread for each shard. Clients are let in
    /// when this returns.
    pub fn start(settings: Settings, routing: Option<Arc<Routing>>) -> Result<Self, StartError> {
        Self::start_guarded(settings, routing, Access::default())
    }

    /// The same, with logins and rules.
    pub fn start_guarded(
        settings: Settings,
        routing: Option<Arc<Routing>>,
        access: Access,
    ) -> Result<Self, StartError> {
        let shards = settings.shards;
        if shards == 0 || shards > MAX_SHARDS {
            return Err(StartError::Shards(shards));
        }
        let settings = Arc::new(settings);
        let clock = Clock::start();
        let store = open_store(&settings)?;
        let kept = store.clone().map(|store| store as Arc<dyn Store>);
        let access = Arc::new(access);
        let exchange = Exchange::new(settings.clone(), routing, kept, fastrand::u64(..));
        let exchange = Arc::new(exchange.guarded_by(access.clone()));
        let now = clock.now();
        let mut cores: Vec<Core> = (0..shards)
            .map(|id| Core::new(id as ShardId, exchange.clone(), now, fastrand::u64(..)))
            .collect();
        if let Some(store) = &store {
            bring_back(&mut cores, &**store, clock)?;
        }
        let registry = Arc::new(Registry::new().map_err(|error| StartError::Metrics(error.to_string()))?);
        let mut bound: Vec<Bound> = Vec::new();
        for listener in &settings.listeners {
            bound.push(net::bind(listener, shards)?);
        }
        let identities = settings.listeners.iter().map(identity).collect::<Result<_, _>>()?;
        let (doorman, waiting) = Doorman::new();
        let doors = settings.listeners.iter().map(Door::new).collect();
        let http = settings.http.as_ref().map(|http| open_http(http.bind)).transpose()?;
        let polls: Vec<Poll> = (0..shards).map(|_| Poll::new()).collect::<io::Result<_>>()?;
        let reach: Vec<Reach> = polls
            .iter()
            .map(|poll| Ok(Reach::new(Waker::new(poll.registry(), WAKER)?)))
            .collect::<io::Result<_>>()?;
        let open = bound.iter().map(|_| AtomicUsize::new(0)).collect();
        let pulse = Arc::new(Pulse::new(shards, clock.mono()));
        let loops: SharedLoops = Arc::new(Loops {
            reach,
            identities,
            doors,
            doorman,
            open,
            gates: settings.listeners.iter().map(|listener| Gate::new(listener, shards)).collect(),
            guard: Guard::new(&settings.limits.guard),
            overload: Notify::new(),
            pulse: pulse.clone(),
            most: most_connections(&settings),
        });
        if access.chains.iter().any(|chain| !chain.is_empty()) {
            net::work(&waiting, DOOR_THREADS.min(shards), &loops, &access)?;
        }
        if let Some(store) = &store {
            let loops = loops.clone();
            store.on_commit(Box::new(move |lane| loops.wake(lane)));
        }

        let addresses = bound.iter().map(|b| (b.name.clone(), b.address)).collect();
        let (mut threads, mut commands) = (Vec::new(), Vec::new());
        let (alarm, failures) = mpsc::channel(shards);
        for (id, (poll, core)) in polls.into_iter().zip(cores).enumerate() {
            let sockets = bound.iter_mut().filter_map(|b| b.sockets.pop()).collect();
            let (sender, receiver) = mpsc::channel(COMMANDS);
            let driver = Driver::new(core, poll, sockets, loops.clone(), clock, registry.shard(id))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = Builder::new().name(format!("shard-{id}"));
            let alarm = Alarm { shard: id as ShardId, armed: true, to: alarm.clone() };
            threads.push(thread.spawn(move || alarm.watch(|| runtime.block_on(driver.run(receiver))))?);
            commands.push(sender);
        }
        let http_address = http.as_ref().map(TcpListener::local_addr).transpose()?;
        let readiness: Arc<Readiness> = Arc::default();
        let figures = registry.store();
        let (stop, stopped) = oneshot::channel();
        let control = Control {
            http,
            state: HttpState {
                registry,
                pulse,
                readiness: readiness.clone(),
                now_ms: Box::new(move || clock.mono()),
                limits: http::Limits::default(),
            },
            store: store.clone().map(|store| (store, figures)),
            loops,
            clock,
            interval: settings.sys.interval,
            shard: commands.first().cloned(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = Builder::new().name("control".into());
        let control = thread.spawn(move || runtime.block_on(control.run(stopped)))?;
        Ok(Self {
            addresses,
            http: http_address,
            shards: threads,
            store,
            commands,
            control: Some((stop, control)),
            readiness,
            failures: Some(failures),
        })
    }

    /// Shards that have ended although nobody told them to: their clients are stranded, and what others send them is
    /// kept for ever. There is nothing better to do than to end the process and start anew. Once only.
    pub fn failures(&mut self) -> Option<mpsc::Receiver<ShardId>> {
        self.failures.take()
    }

    /// Name and address of each listener, with the port that the system chose where 0 was asked for.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Address of the HTTP listener, if there is one.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Stops: no new connection, DISCONNECT 0x8B to every MQTT 5 client, output written, threads ended. `true` if all
    /// output was written within the deadline.
    pub fn drain(mut self, deadline: Duration) -> bool {
        self.readiness.block("drain", "shutting down");
        self.stop_shards(deadline)
    }

    fn stop_shards(&mut self, deadline: Duration) -> bool {
        let mut sent = true;
        let mut cores = Vec::new();
        for shard in &self.commands {
            // A shard that has ended needs no telling.
            let _ = shard.blocking_send(Command::Drain(deadline));
        }
        for shard in self.shards.drain(..) {
            match shard.join() {
                Ok(Ok(stopped)) => {
                    sent &= stopped.sent;
                    cores.push(stopped.core);
                }
                Ok(Err(error)) => {
                    sent = false;
                    tracing::error!(%error, "a shard had failed");
                }
                Err(_) => {
                    sent = false;
                    tracing::error!("a shard had panicked");
                }
            }
        }
        if let Some(store) = self.store.take() {
            last_mail(&mut cores);
            store.close();
        }
        if let Some((stop, control)) = self.control.take() {
            let _ = stop.send(());
            if control.join().is_err() {
                tracing::error!("the control thread had panicked");
            }
        }
        sent
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_shards(Duration::ZERO);
    }
}

/// What is neither a client's bytes nor a rule: HTTP and the `$SYS` topics, on a thread of their own.
struct Control {
    http: Option<TcpListener>,
    state: HttpState,
    store: Option<(Arc<Disk>, StoreHandles)>,
    loops: SharedLoops,
    clock: Clock,
    interval: Duration,
    /// Publishes the `$SYS` topics.
    shard: Option<mpsc::Sender<Command>>,
}

impl Control {
    async fn run(self, stopped: oneshot::Receiver<()>) {
        let Self { http, state, store, loops, clock, interval, shard } = self;
        let watch = watch_store(store, state.readiness.clone());
        let publish = async {
            match shard.filter(|_| !interval.is_zero()) {
                Some(shard) => publish_sys(&loops, clock, interval, &shard).await,
                None => std::future::pending().await,
            }
        };
        let serve = async {
            match http {
                Some(listener) => {
                    if let Err(error) = http::serve(listener, state, std::future::pending()).await {
                        tracing::error!(%error, "the HTTP listener failed");
                    }
                }
                None => loop {
                    tokio::time::sleep(UPKEEP_INTERVAL).await;
                    state.registry.upkeep();
                },
            }
        };
        tokio::select! {
            _ = stopped => {}
            () = async { tokio::join!(publish, serve, watch); } => {}
        }
    }
}

/// Says in `/readyz` and `/metrics` what the store says of itself.
async fn watch_store(store: Option<(Arc<Disk>, StoreHandles)>, readiness: Arc<Readiness>) {
    let Some((store, page)) = store else { return };
    let mut ticks = tokio::time::interval(HEALTH_INTERVAL);
    loop {
        ticks.tick().await;
        page.publish(&figures(&store));
        match store.health() {
            Health::Fine => readiness.clear("store"),
            Health::Full => readiness.block("store", "no room: what has to be kept is refused"),
            Health::Failed => readiness.block("store", "the disk fails: what has to be kept is refused"),
        }
    }
}

fn figures(store: &Disk) -> StoreFigures {
    let of = store.figures();
    StoreFigures {
        live_bytes: of.live_bytes,
        journal_bytes: of.journal_bytes,
        view_bytes: of.view_bytes,
        export_bytes: of.export_bytes,
        checkpoints: of.checkpoints,
        exports: of.exports,
        compactions: of.compactions,
        syncs: of.syncs,
        sync_microseconds: of.sync_microseconds,
    }
}

/// Opens the store that the settings name.
fn open_store(settings: &Settings) -> Result<Option<Arc<Disk>>, StartError> {
    let Some(directory) = &settings.store.directory else {
        tracing::warn!("no store: a restart forgets sessions, retained messages and backlogs");
        return Ok(None);
    };
    tracing::info!(directory = %directory.display(), "opening the store");
    let mut options = Options::new(directory, settings.shards);
    options.commit_interval = settings.store.commit_interval;
    options.commit_batch = settings.store.commit_batch;
    options.cache_bytes = settings.store.cache as u64;
    options.max_bytes = settings.store.max_bytes as u64;
    let (disk, report) = Disk::open(options)?;
    tracing::info!(
        documents = report.documents,
        replayed = report.cuts_replayed,
        took_ms = report.took.as_millis(),
        view_ms = report.took_view.as_millis(),
        export_ms = report.took_export.as_millis(),
        journal_ms = report.took_journal.as_millis(),
        mending_ms = report.took_mending.as_millis(),
        "store open"
    );
    Ok(Some(Arc::new(disk)))
}

/// Brings back what the store has kept.
fn bring_back(cores: &mut [Core], store: &dyn Store, clock: Clock) -> Result<(), StartError> {
    let begun = clock.mono();
    let (mut told, mut phase) = (begun, begun);
    let mut tell = |table: Table, documents: usize, end: bool| {
        let (now, table) = (clock.mono(), table.name());
        if end {
            let took_ms = now - std::mem::replace(&mut phase, now);
            tracing::debug!(table, documents, took_ms, "restored a table");
        } else if now - told >= TELL_MS {
            told = now;
            tracing::info!(table, documents, ms = now - begun, "restoring");
        }
    };
    let back = restore(cores, store, &mut tell)?;
    let took_ms = clock.mono() - begun;
    tracing::info!(
        sessions = back.sessions,
        subscriptions = back.subscriptions,
        owed = back.owed,
        retained = back.retained,
        backlog = back.given,
        took_ms,
        "restored"
    );
    if back.unreadable > 0 {
        let (documents, first) = (back.unreadable, back.named.join(", "));
        tracing::error!(documents, first, "documents in the store cannot be read; they are left there");
    }
    Ok(())
}

/// What ended shards have posted to each other at last: what crosses shards is durable only when it has arrived.
fn last_mail(cores: &mut [Core]) {
    for _ in 0..LAST_ROUNDS {
        for core in cores.iter_mut() {
            core.open_mail(|_| {});
            core.end_turn();
        }
    }
}

async fn publish_sys(loops: &Loops, clock: Clock, interval: Duration, shard: &mpsc::Sender<Command>) {
    let mut sys = Sys::new(clock.mono());
    let mut ticks = tokio::time::interval(interval);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = loops.overload.notified() => {}
        }
        let (mut counters, mut gauges) = (Counters::default(), Gauges::default());
        for reach in &loops.reach {
            let report = reach.report.lock();
            counters.merge(&report.0);
            gauges.merge(&report.1);
        }
        let updates = sys.update(clock.mono(), &Snapshot::of(&counters, &gauges));
        if shard.send(Command::Publish(updates)).await.is_err() {
            return;
        }
    }
}

/// The configured bound on connections, or what the system's limit on open files leaves for them if that is less: HTTP
/// has to answer when the broker is full.
fn most_connections(settings: &Settings) -> usize {
    let wanted = settings.limits.max_connections;
    let files = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => usize::try_from(files).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!(%error, "the limit on open files is not known");
            return wanted;
        }
    };
    let left = files.saturating_sub(OTHER_FILES + settings.shards * FILES_OF_A_SHARD);
    if left < wanted {
        tracing::info!(connections = left, files, "the limit on open files bounds the connections");
    }
    wanted.min(left)
}

fn open_http(address: SocketAddr) -> Result<TcpListener, StartError> {
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|source| StartError::Http { address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_fails_or_panics_is_told_and_one_that_ends_is_not() {
        let (to, mut failures) = mpsc::channel(3);
        let alarm = |shard| Alarm { shard, armed: true, to: to.clone() };
        assert_eq!(alarm(1).watch(|| Ok::<_, ()>(())), Ok(()));
        assert_eq!(alarm(2).watch(|| Err::<(), _>(())), Err(()));
        let panicking = alarm(3);
        let thread = std::thread::spawn(|| {
            panicking.watch(|| -> Result<(), ()> { std::panic::resume_unwind(Box::new(())) })
        });
        assert!(thread.join().is_err());
        assert_eq!((failures.try_recv(), failures.try_recv()), (Ok(2), Ok(3)));
        assert!(failures.try_recv().is_err());
    }
}
