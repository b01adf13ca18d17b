//! Metrics and health over HTTP: `/metrics`, `/healthz`, `/readyz`. Owns its listener and connections; knows the
//! broker only through [`Registry`], [`Pulse`] and [`Readiness`], and may not reach into a shard.
//!
//! The listener is for operators, but whoever can reach it must not be able to harm the broker or lock the
//! operator out. So every connection carries one request, has a deadline for its header and one for its life, and
//! when [`Limits::connections`] are open the oldest gives way: an honest request is over in a millisecond and
//! never the oldest, while one that dawdles is.

mod health;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

use crate::metrics::{Registry, UPKEEP_INTERVAL};
pub use health::{Pulse, Readiness};

/// The content type of Prometheus' text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Request line and headers must fit (hyper's smallest bound).
const MAX_HEADER_BYTES: usize = 8192;
/// How long accepting rests after it failed; most often file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the pages tell about, and the bounds they are served within.
pub struct HttpState {
    /// The series of `/metrics`.
    pub registry: Arc<Registry>,
    /// The shards' ticks, for `/healthz` and `/readyz`.
    pub pulse: Arc<Pulse>,
    /// What keeps the broker from serving, for `/readyz`.
    pub readiness: Arc<Readiness>,
    /// The clock that [`Pulse::beat`] is given, in milliseconds.
    pub now_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Bounds.
    pub limits: Limits,
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState")
            .field("pulse", &self.pulse)
            .field("readiness", &self.readiness)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Bounds of the HTTP listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at a time; one more ends the oldest.
    pub connections: usize,
    /// How long a client may take for its request's header.
    pub header_timeout: Duration,
    /// How long a connection may last, from accept to the last byte of the answer. Also how long
    /// [`serve`] waits for open ones at the end.
    pub lifetime: Duration,
    /// A shard that has not ticked for this long is taken for stalled.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            header_timeout: Duration::from_secs(5),
            lifetime: Duration::from_secs(10),
            silence: Duration::from_secs(5),
        }
    }
}

/// Serves until `shutdown` completes, then lets open requests finish. Runs the registry's upkeep meanwhile.
///
/// It spawns onto the runtime it is called on. Rendering takes about 1 µs a series, and a shard has 170, so give
/// it a thread apart from the shards'. Readiness turns red at the start of a drain, not here: stop this last.
///
/// # Errors
///
/// When the listener cannot be registered with the runtime. Failing to accept is logged and tried again.
pub async fn serve(
    listener: net::TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let limits = state.limits.clone();
    let registry = Arc::clone(&state.registry);
    let router = router(state);
    let mut connections = Connections::new(limits.connections);
    let mut upkeep = interval(UPKEEP_INTERVAL);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = pin!(shutdown);
    let mut failures = 0_u32;
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            _ = upkeep.tick() => registry.upkeep(),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    failures = 0;
                    connections.open(converse(stream, router.clone(), limits.clone()));
                }
                Err(error) => {
                    failures += 1;
                    if failures.is_power_of_two() {
                        warn!(%error, failures, "the HTTP listener cannot accept");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let _ = timeout(limits.lifetime, connections.finished()).await;
    Ok(())
}

/// The open connections, oldest first.
struct Connections {
    tasks: JoinSet<()>,
    by_age: VecDeque<AbortHandle>,
    bound: usize,
}

impl Connections {
    fn new(bound: usize) -> Self {
        Self { tasks: JoinSet::new(), by_age: VecDeque::new(), bound: bound.max(1) }
    }

    fn open(&mut self, conversation: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.by_age.retain(|task| !task.is_finished());
        while self.by_age.len() >= self.bound
            && let Some(oldest) = self.by_age.pop_front()
        {
            oldest.abort();
        }
        self.by_age.push_back(self.tasks.spawn(conversation));
    }

    async fn finished(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// One request and its answer. `axum::serve` sets no deadlines, hence hyper's own connection.
async fn converse(stream: TcpStream, router: Router, limits: Limits) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(limits.lifetime, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "HTTP connection failed"),
        Err(_) => debug!("HTTP connection outlived its deadline"),
    }
}

fn router(state: HttpState) -> Router {
    type Shared = State<Arc<HttpState>>;
    Router::new()
        .route(
            "/metrics",
            get(|State(state): Shared| async move {
                ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], state.registry.render())
            }),
        )
        .route("/healthz", get(|State(state): Shared| async move { state.health() }))
        .route("/readyz", get(|State(state): Shared| async move { state.ready() }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "try /metrics, /healthz or /readyz\n") })
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n") })
        .with_state(Arc::new(state))
}

impl HttpState {
    /// Alive: every shard's loop turns. Restarting the process is the remedy when this fails.
    fn health(&self) -> impl IntoResponse + use<> {
        verdict(&self.stalled_shards())
    }

    /// Ready: clients may be sent here.
    fn ready(&self) -> impl IntoResponse + use<> {
        let mut obstacles = self.readiness.obstacles();
        obstacles.extend(self.stalled_shards());
        verdict(&obstacles)
    }

    fn stalled_shards(&self) -> Vec<String> {
        let silent = self.pulse.silent((self.now_ms)(), self.limits.silence);
        let sentence = |(shard, silence): (usize, Duration)| {
            format!("shard {shard}: no tick for {} ms", silence.as_millis())
        };
        silent.into_iter().map(sentence).collect()
    }
}

/// 200 if nothing is wrong; else 503 with one line for each thing that is.
fn verdict(obstacles: &[String]) -> (StatusCode, String) {
    if obstacles.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n") + "\n")
}
