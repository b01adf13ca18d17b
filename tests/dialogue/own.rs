//! A broker of a test's own: with its own limits, its metrics, and proof that others are served meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use switchboard::Server;
use switchboard::config::Settings;
use switchboard::config::settings::HttpSettings;
use switchboard::desk::Routing;

use super::client::Client;
use super::connect::Connect;
use super::packets::message;
use super::unique;
use super::wire::Version;

/// Metrics are published once a second; this long they may take to say what they must.
const METRIC_PATIENCE: Duration = Duration::from_secs(10);

/// A broker in this process that the test has to itself.
pub struct Own {
    server: Server,
    addr: SocketAddr,
    http: SocketAddr,
}

/// A broker with two shards and these changes to the default settings.
pub fn own(routing: Option<&str>, change: impl FnOnce(&mut Settings)) -> Own {
    watch_for_panics();
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut settings =
        Settings { shards: 2, http: Some(HttpSettings { bind: anywhere }), ..Settings::default() };
    for listener in &mut settings.listeners {
        listener.bind = anywhere;
    }
    settings.sys.interval = Duration::ZERO; // its messages would be counted, too
    change(&mut settings);
    // Where the name of a model's file would stand, the model itself does.
    let models = |model: &str| Ok(model.as_bytes().to_vec());
    let parsed = |text| Routing::parse_with_models(text, "test.toml", &models).expect("rules");
    let routing = routing.map(|text| Arc::new(parsed(text)));
    let server = Server::start(settings, routing).expect("the broker starts");
    let addr = server.addresses().first().expect("one listener").1;
    let http = server.http_address().expect("an HTTP listener");
    Own { server, addr, http }
}

impl Own {
    pub fn connect(&self, version: Version, id: &str) -> Connect {
        Connect::new(version, id).at(self.addr)
    }

    pub fn v5(&self, id: &str) -> Connect {
        self.connect(Version::V5, id)
    }

    pub fn v311(&self, id: &str) -> Connect {
        self.connect(Version::V311, id)
    }

    /// A network connection on which nothing was said yet.
    pub fn dial(&self, version: Version) -> Client {
        Client::dial_at(self.addr, version)
    }

    /// Where it listens.
    pub fn socket_address(&self) -> SocketAddr {
        self.addr
    }

    /// The same without a client around it.
    pub fn socket(&self) -> TcpStream {
        TcpStream::connect(self.addr).expect("the broker accepts connections")
    }

    /// The sum over all shards of a series that carries all these labels, written as on the page.
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let mut stream = TcpStream::connect(self.http).expect("HTTP");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").expect("HTTP");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("HTTP");
        let series = page.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')) && line.contains(label)
        });
        let values: Vec<f64> =
            series.map(|line| line.rsplit(' ').next().unwrap_or("").parse().expect("a number")).collect();
        assert!(!values.is_empty(), "no series {name} with {label} on the page");
        values.iter().sum::<f64>() as u64
    }

    /// Waits until a series says something, and returns that.
    #[track_caller]
    pub fn metric_until(&self, name: &str, label: &str, right: impl Fn(u64) -> bool) -> u64 {
        let until = Instant::now() + METRIC_PATIENCE;
        loop {
            let value = self.metric(name, label);
            if right(value) {
                return value;
            }
            assert!(Instant::now() < until, "{name} {label} stays at {value}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a series has said the same for longer than it takes to be published, and returns that.
    pub fn metric_at_rest(&self, name: &str, label: &str) -> u64 {
        let mut last = self.metric(name, label);
        loop {
            thread::sleep(Duration::from_millis(1500));
            let value = self.metric(name, label);
            if value == last {
                return value;
            }
            last = value;
        }
    }

    /// Others, who go on all the time; see [`Others::went_on`].
    pub fn others(&self) -> Others {
        let stop = Arc::new(AtomicBool::new(false));
        let mut ring: Vec<Client> = (0..4).map(|_| self.v5(&unique("other")).open()).collect();
        for client in &mut ring {
            let topic = format!("others/{}", client.id);
            client.subscribe(&topic, 1);
        }
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut worst, mut trips) = (Duration::ZERO, 0);
            // Each writes to the next, whose home may be another shard.
            for from in (0..ring.len()).cycle() {
                if stopped.load(Ordering::Relaxed) && trips >= ring.len() {
                    break;
                }
                let to = (from + 1) % ring.len();
                let topic = format!("others/{}", ring[to].id);
                let begun = Instant::now();
                ring[from].deliver(message(&topic, "still here").qos(1));
                ring[to].receive(&topic, "still here");
                worst = worst.max(begun.elapsed());
                trips += 1;
                thread::sleep(Duration::from_millis(5));
            }
            worst
        });
        Others { stop, thread: Some(thread) }
    }

    /// Ends the broker: in time, and without a thread that had panicked.
    pub fn close(self) {
        assert!(self.server.drain(Duration::from_millis(200)), "the broker did not stop in time");
        let panics = panics().lock().expect("panics").clone();
        assert!(panics.is_empty(), "threads of the broker panicked: {panics:?}");
    }
}

/// Clients who do what clients usually do while something else happens.
pub struct Others {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Duration>>,
}

impl Others {
    /// The slowest of their round trips took no longer than this.
    #[track_caller]
    pub fn went_on(mut self, within: Duration) {
        let worst = self.stop().unwrap_or_else(|| panic!("other clients were not served"));
        println!("slowest round trip of others: {worst:?}");
        assert!(worst <= within, "a round trip of others took {worst:?}");
    }

    fn stop(&mut self) -> Option<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Others {
    /// A test that fails ends them before its broker goes.
    fn drop(&mut self) {
        self.stop();
    }
}

fn panics() -> &'static Mutex<Vec<String>> {
    static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    &PANICS
}

/// Notes panics in the broker's threads: those of the test's own come out by themselves.
fn watch_for_panics() {
    static WATCHED: OnceLock<()> = OnceLock::new();
    WATCHED.get_or_init(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = thread::current().name().unwrap_or_default().to_owned();
            if thread.starts_with("shard-") || thread == "control" {
                panics().lock().expect("panics").push(format!("{thread}: {info}"));
            }
            usual(info);
        }));
    });
}

/// Bytes of memory that this process, broker and test, holds.
pub fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kib: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}
