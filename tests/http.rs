//! The HTTP listener over real sockets: the pages, and what a hostile client cannot do to them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use switchboard::http::{HttpState, Limits, Pulse, Readiness, serve};
use switchboard::metrics::{CloseReason, Counters, DropReason, Gauges, Label, Packet, Qos, Registry};
use tokio::sync::oneshot;

/// Deadlines that no test waits for, so that a test meets only the bound it sets itself.
const PATIENT: Limits = Limits {
    connections: 64,
    header_timeout: Duration::from_mins(10),
    lifetime: Duration::from_mins(10),
    silence: Duration::from_mins(10),
};

/// A listener on a free port, with a clock the test sets.
struct Served {
    address: SocketAddr,
    registry: Arc<Registry>,
    pulse: Arc<Pulse>,
    readiness: Arc<Readiness>,
    clock_ms: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Served {
    fn start(shards: usize, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Arc::new(Registry::new().unwrap());
        let pulse = Arc::new(Pulse::new(shards, 0));
        let readiness = Arc::new(Readiness::default());
        let clock_ms = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&clock_ms);
        let state = HttpState {
            registry: Arc::clone(&registry),
            pulse: Arc::clone(&pulse),
            readiness: Arc::clone(&readiness),
            now_ms: Box::new(move || clock.load(Ordering::Relaxed)),
            limits,
        };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async {
                let _ = stopped.await;
            };
            runtime.block_on(serve(listener, state, shutdown)).unwrap();
        });
        Self { address, registry, pulse, readiness, clock_ms, stop, thread }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn send(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Answer::parse(&text)
    }

    fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: switchboard\r\n\r\n"))
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no header in {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Self { status, headers: lines.map(header).collect(), body: body.to_owned() }
    }
}

/// A metric family of the text format.
#[derive(Default)]
struct Family {
    help: Option<String>,
    kind: Option<String>,
    /// Series (name and labels as written) and value.
    samples: Vec<(String, f64)>,
}

/// Reads Prometheus' text format 0.0.4 and refuses what its specification forbids.
fn parse_page(page: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut closed = BTreeSet::new();
    let mut current = String::new();
    let mut series = BTreeSet::new();
    assert!(page.ends_with('\n'), "the last line must end");
    for line in page.lines().filter(|line| !line.is_empty()) {
        let (name, comment) = match line.strip_prefix("# ") {
            Some(comment) => (comment.split(' ').nth(1).unwrap().to_owned(), Some(comment)),
            None => (family_of(line.split(['{', ' ']).next().unwrap(), &current), None),
        };
        assert!(is_name(&name), "{line}");
        if name != current {
            assert!(
                closed.insert(std::mem::replace(&mut current, name.clone())),
                "twice, or not together: {line}"
            );
            assert!(!closed.contains(&name), "lines of one metric must be together: {line}");
        }
        let family = families.entry(name).or_default();
        match comment.and_then(|comment| comment.split_once(' ')) {
            Some(("HELP", rest)) => {
                let (_, help) = rest.split_once(' ').unwrap();
                assert!(
                    family.samples.is_empty() && family.help.replace(help.to_owned()).is_none(),
                    "{line}"
                );
            }
            Some(("TYPE", rest)) => {
                let (_, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(
                    family.samples.is_empty() && family.kind.replace(kind.to_owned()).is_none(),
                    "{line}"
                );
            }
            Some(_) => panic!("unknown comment: {line}"),
            None => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                check_labels(name);
                assert!(series.insert(name.to_owned()), "series twice: {line}");
                family.samples.push((name.to_owned(), value.parse().unwrap()));
            }
        }
    }
    families
}

/// A histogram's samples carry suffixes.
fn family_of(sample: &str, current: &str) -> String {
    let suffix = sample.strip_prefix(current).unwrap_or(sample);
    if ["_bucket", "_sum", "_count"].contains(&suffix) { current.to_owned() } else { sample.to_owned() }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn check_labels(series: &str) {
    let Some((_, labels)) = series.split_once('{') else { return };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{series}"));
    for pair in labels.split(',') {
        let (name, value) = pair.split_once('=').unwrap_or_else(|| panic!("{series}"));
        assert!(is_name(name), "{series}");
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        assert!(value.is_some_and(|value| !value.contains(['"', '\\', '\n'])), "{series}");
    }
}

fn sample(page: &str, series: &str) -> f64 {
    let found = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().unwrap()
}

#[test]
fn the_page_is_well_formed_and_says_what_the_shards_counted() {
    let served = Served::start(2, Limits::default());
    let zero = served.registry.shard(0);
    let one = served.registry.shard(1);
    let mut counters = Counters { bytes_received: 1 << 40, ..Counters::default() };
    counters.messages_dropped.add(DropReason::SharedBacklogFull, 7);
    counters.packets_received.add(Packet::of(0x82), 3);
    counters.messages_sent.bump(Qos::level(1));
    counters.connections_closed.bump(CloseReason::TakenOver);
    let gauges = Gauges { connections: 1_000_000, loop_drift_seconds: 0.25, ..Gauges::default() };
    zero.publish(&counters, &gauges);
    zero.publish(&counters, &gauges); // the same totals again change nothing
    counters.messages_dropped.add(DropReason::SharedBacklogFull, 1);
    one.publish(&counters, &Gauges::default());
    zero.ticked(Duration::from_micros(600), Duration::from_millis(3));
    zero.ticked(Duration::from_mins(1), Duration::ZERO);
    served.registry.upkeep();
    zero.ticked(Duration::from_micros(600), Duration::ZERO);

    let answer = served.get("/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let page = &answer.body;
    let families = parse_page(page);
    assert!(families.len() > 45, "{}", families.len());
    for (name, family) in &families {
        assert!(family.help.as_ref().is_some_and(|help| help.ends_with('.')), "{name} has no HELP");
        let kind = family.kind.as_deref().unwrap_or_else(|| panic!("{name} has no TYPE"));
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(name.starts_with("switchboard_") || name.starts_with("process_"), "{name}");
        assert!(!family.samples.is_empty(), "{name} has no sample");
        if kind == "histogram" {
            check_histogram(name, family);
        }
    }

    assert_eq!(sample(page, r#"switchboard_received_bytes_total{shard="0"}"#).to_string(), "1099511627776");
    let dropped = |shard, reason| {
        let series = format!(r#"switchboard_messages_dropped_total{{shard="{shard}",reason="{reason}"}}"#);
        format!("{}", sample(page, &series))
    };
    assert_eq!(dropped(0, "shared_backlog_full"), "7");
    assert_eq!(dropped(1, "shared_backlog_full"), "8");
    assert_eq!(dropped(0, "expired"), "0", "a reason is on the page before it first happens");
    assert_eq!(families["switchboard_messages_dropped_total"].samples.len(), 2 * DropReason::ALL.len());
    for (series, value) in [
        (r#"switchboard_packets_received_total{shard="1",packet="subscribe"}"#, "3"),
        (r#"switchboard_messages_sent_total{shard="0",qos="1"}"#, "1"),
        (r#"switchboard_connections_closed_total{shard="0",reason="taken_over"}"#, "1"),
        (r#"switchboard_connections{shard="0"}"#, "1000000"),
        (r#"switchboard_connections{shard="1"}"#, "0"),
        (r#"switchboard_loop_drift_seconds{shard="0"}"#, "0.25"),
        (r#"switchboard_tick_delay_seconds_count{shard="0"}"#, "3"),
        (r#"switchboard_tick_delay_seconds_bucket{shard="0",le="0.0005"}"#, "0"),
        (r#"switchboard_tick_delay_seconds_bucket{shard="0",le="0.001"}"#, "2"),
        (r#"switchboard_tick_delay_seconds_bucket{shard="0",le="5"}"#, "2"),
        (r#"switchboard_longest_turn_seconds_bucket{shard="0",le="0.005"}"#, "3"),
        (concat!(r#"switchboard_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#), "1"),
    ] {
        assert_eq!(sample(page, series).to_string(), value, "{series}");
    }
    if cfg!(target_os = "linux") {
        assert!(sample(page, "process_resident_memory_bytes") > 1e6);
        assert!(sample(page, "process_max_fds") >= 1.0);
    }
    served.stop();
}

/// Buckets go up, hold ever more, and the last holds all.
fn check_histogram(name: &str, family: &Family) {
    for shard in ["0", "1"] {
        let prefix = format!("{name}_bucket{{shard=\"{shard}\",le=\"");
        let buckets = family.samples.iter().filter_map(|(series, value)| {
            let bound = series.strip_prefix(&prefix)?.strip_suffix("\"}").unwrap();
            Some((bound.parse::<f64>().unwrap(), *value))
        });
        let buckets: Vec<_> = buckets.collect();
        assert!(
            buckets.len() > 5 && buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
            "{name} {buckets:?}"
        );
        let of = |suffix: &str| {
            let series = format!("{name}_{suffix}{{shard=\"{shard}\"}}");
            family.samples.iter().find(|(s, _)| *s == series).unwrap_or_else(|| panic!("no {series}")).1
        };
        let (bound, all) = *buckets.last().unwrap();
        assert!(bound.is_infinite() && all.total_cmp(&of("count")).is_eq(), "{name} {buckets:?}");
        assert!(of("sum") >= 0.0);
    }
}

#[test]
fn two_servers_in_one_process_do_not_add_up() {
    let registries = [Registry::new().unwrap(), Registry::new().unwrap()];
    for (bytes, registry) in [10, 20].into_iter().zip(&registries) {
        registry.shard(0).publish(&Counters { bytes_sent: bytes, ..Counters::default() }, &Gauges::default());
    }
    let sent = registries
        .map(|registry| sample(&registry.render(), r#"switchboard_sent_bytes_total{shard="0"}"#).to_string());
    assert_eq!(sent, ["10", "20"]);
}

#[test]
fn health_is_red_while_a_shard_stalls() {
    let served = Served::start(3, Limits::default());
    assert_eq!(served.get("/healthz").status, 200);
    served.clock_ms.store(5_100, Ordering::Relaxed);
    served.pulse.beat(0, 5_000);
    served.pulse.beat(2, 99);
    let answer = served.get("/healthz");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, "shard 1: no tick for 5100 ms\nshard 2: no tick for 5001 ms\n");
    assert_eq!(served.get("/readyz").status, 503);
    served.pulse.beat(1, 5_100);
    served.pulse.beat(2, 5_100);
    assert_eq!((served.get("/healthz").status, served.get("/readyz").status), (200, 200));
    served.stop();
}

#[test]
fn readiness_names_every_obstacle_and_health_does_not_care() {
    let served = Served::start(1, Limits::default());
    assert_eq!(served.get("/readyz").body, "ok\n");
    served.readiness.block("listeners", "not bound yet");
    served.readiness.block("drain", "shutting down");
    let answer = served.get("/readyz");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, "drain: shutting down\nlisteners: not bound yet\n");
    assert_eq!(served.get("/healthz").status, 200);
    served.readiness.clear("listeners");
    served.readiness.clear("drain");
    assert_eq!(served.get("/readyz").status, 200);
    served.stop();
}

#[test]
fn other_paths_and_methods_are_refused_clearly() {
    let served = Served::start(1, Limits::default());
    let answer = served.get("/");
    assert_eq!((answer.status, answer.body.as_str()), (404, "try /metrics, /healthz or /readyz\n"));
    assert_eq!(served.get("/metrics/").status, 404);
    assert_eq!(served.get("/healthz?verbose").status, 200);

    let answer = served.send("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n");
    assert_eq!((answer.status, answer.body.as_str()), (405, "only GET and HEAD\n"));
    assert_eq!(answer.headers["allow"], "GET,HEAD");
    let answer = served.send("HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.headers["content-length"], "3");

    assert_eq!(served.send("\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0\r\n\r\n").status, 400, "a lost MQTT client");
    let cookie = "c".repeat(20_000);
    let answer = served.send(&format!("GET /healthz HTTP/1.1\r\nhost: x\r\ncookie: {cookie}"));
    assert_eq!(answer.status, 431);
    served.stop();
}

#[test]
fn clients_that_dawdle_do_not_keep_others_out() {
    let limits = Limits { connections: 8, ..PATIENT };
    let served = Served::start(1, limits);
    let dawdling: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = served.connect();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").unwrap();
            stream
        })
        .collect();
    assert_eq!(served.get("/healthz").status, 200);
    // The oldest gave way; those within the bound may still speak. One of the eight made room for the request.
    for mut stream in &dawdling[..93] {
        match stream.read(&mut [0; 64]) {
            Ok(n) => assert_eq!(n, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    for mut stream in &dawdling[93..] {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.read(&mut [0; 64]).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
    }
    let mut last = dawdling.last().unwrap();
    last.write_all(b"x\r\n\r\n").unwrap();
    let mut text = String::new();
    last.read_to_string(&mut text).unwrap();
    assert_eq!(Answer::parse(&text).status, 200);
    drop(dawdling);
    served.stop();
}

#[test]
fn a_header_that_trickles_ends_at_its_deadline() {
    let limits = Limits { header_timeout: Duration::from_millis(300), ..PATIENT };
    let served = Served::start(1, limits);
    let mut stream = served.connect();
    let begun = Instant::now();
    // A byte now and then must not move the deadline: within 20 s the server has to hang up.
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut request = b"GET /metrics HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'a'));
    loop {
        assert!(begun.elapsed() < Duration::from_secs(20), "still open");
        if stream.write_all(&[*request.next().unwrap()]).is_err() {
            break;
        }
        match stream.read(&mut [0; 256]) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    served.stop();
}

#[test]
fn a_connection_that_says_nothing_ends_with_its_lifetime() {
    let limits = Limits { lifetime: Duration::from_millis(300), ..PATIENT };
    let served = Served::start(1, limits);
    let mut silent = served.connect();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0);
    served.stop();
}

#[test]
fn open_requests_finish_before_the_listener_stops() {
    let served = Served::start(1, Limits::default());
    let mut stream = served.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    assert_eq!(served.get("/healthz").status, 200, "the one before has been accepted");
    let address = served.address;
    served.stop.send(()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "still accepting");
        thread::sleep(Duration::from_millis(5));
    }
    stream.write_all(b"host: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(Answer::parse(&text).status, 200);
    stream.shutdown(Shutdown::Both).ok();
    served.thread.join().unwrap();
}
