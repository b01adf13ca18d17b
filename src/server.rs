//! A running broker: its threads, from start to drain.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Poll, Waker};
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::desk::Routing;
use crate::metrics::Registry;
use crate::net::{self, BindError, Bound, Command, Driver, Loops, Reach, SharedLoops, WAKER};
use crate::shard::interest::MAX_SHARDS;
use crate::shard::{Common, Core, ShardId};

/// A broker that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
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
    /// The metrics could not be set up.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// A broker that runs.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<(String, SocketAddr)>,
    http: Option<SocketAddr>,
    shards: Vec<JoinHandle<io::Result<()>>>,
    commands: Vec<mpsc::UnboundedSender<Command>>,
    control: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    state: crate::http::HttpState,
}

impl Server {
    /// Opens all listeners and starts a thread for each shard. Clients are let in when this returns.
    pub fn start(settings: Settings, routing: Option<Arc<Routing>>) -> Result<Self, StartError> {
        let shards = settings.shards;
        if shards == 0 || shards > MAX_SHARDS {
            return Err(StartError::Shards(shards));
        }
        let settings = Arc::new(settings);
        let clock = Clock::start();
        let registry = Arc::new(Registry::new().map_err(|error| StartError::Metrics(error.to_string()))?);
        let mut bound: Vec<Bound> = Vec::new();
        for listener in &settings.listeners {
            bound.push(net::bind(listener, shards)?);
        }
        let http = settings.http.as_ref().map(|http| open_http(http.bind)).transpose()?;
        let polls: Vec<Poll> = (0..shards).map(|_| Poll::new()).collect::<io::Result<_>>()?;
        let reach: Vec<Reach> = polls
            .iter()
            .map(|poll| Ok(Reach::new(Waker::new(poll.registry(), WAKER)?)))
            .collect::<io::Result<_>>()?;
        let open = bound.iter().map(|_| AtomicUsize::new(0)).collect();
        let loops: SharedLoops = Arc::new(Loops { reach, open });
        let common = Arc::new(Common::new(settings.clone(), routing, fastrand::u64(..)));

        let addresses = bound.iter().map(|b| (b.name.clone(), b.address)).collect();
        let (mut threads, mut commands) = (Vec::new(), Vec::new());
        for (id, poll) in polls.into_iter().enumerate() {
            let sockets = bound.iter_mut().filter_map(|b| b.sockets.pop()).collect();
            let (sender, receiver) = mpsc::unbounded_channel();
            let core = Core::new(id as ShardId, common.clone(), clock.now(), fastrand::u64(..));
            let driver = Driver::new(core, poll, sockets, loops.clone(), clock, registry.shard(id))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = Builder::new().name(format!("shard-{id}"));
            threads.push(thread.spawn(move || runtime.block_on(driver.run(receiver)))?);
            commands.push(sender);
        }
        let (stop, stopped) = watch::channel(false);
        let state = crate::http::HttpState::new(registry.clone(), Arc::new(Alive { loops: loops.clone(), clock }));
        let control = Control { loops, clock, settings, sys: commands.first().cloned(), stopped, registry };
        let http_address = http.as_ref().map(TcpListener::local_addr).transpose()?;
        let control = control.spawn(http, state.clone())?;
        state.ready();
        Ok(Self { addresses, http: http_address, shards: threads, commands, control: Some(control), stop, state })
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
    /// of it was done within the deadline.
    pub fn drain(mut self, deadline: Duration) -> bool {
        let started = Instant::now();
        self.state.draining();
        for shard in &self.commands {
            // A shard that has ended needs no telling.
            let _ = shard.send(Command::Drain(deadline));
        }
        for shard in self.shards.drain(..) {
            match shard.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a shard had failed"),
                Err(_) => tracing::error!("a shard had panicked"),
            }
        }
        self.stop_control();
        started.elapsed() <= deadline
    }

    fn stop_control(&mut self) {
        let _ = self.stop.send(true);
        if let Some(control) = self.control.take()
            && control.join().is_err()
        {
            tracing::error!("the control thread had panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for shard in &self.commands {
            let _ = shard.send(Command::Drain(Duration::ZERO));
        }
        for shard in self.shards.drain(..) {
            let _ = shard.join();
        }
        self.stop_control();
    }
}

fn open_http(address: SocketAddr) -> Result<TcpListener, StartError> {
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    open().map_err(|source| StartError::Http { address, source })
}
