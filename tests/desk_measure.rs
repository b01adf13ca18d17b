//! What a message through the desk costs: customer to assigned agent, transcript on disk, beside a plain one at QoS 1.
//!
//! `cargo test --release --test desk_measure -- --ignored --nocapture`
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "tests"
)]

mod dialogue;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dialogue::{Version, message, subscription};

const PAIRS: usize = 50;
const WINDOW: usize = 8;
const ROUNDS: usize = 500;

const RULES: &str = r#"
[[tenant]]
name = "main"
[[tenant.group]]
name = "care"
mode = "assigned"
[tenant.group.assigned]
auto_accept = true
[[tenant.rule]]
name = "all"
group = "care"
"#;

struct Broker {
    address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Broker {
    fn start(store: bool) -> Self {
        Self::start_with(store, RULES)
    }

    fn start_with(store: bool, rules: &str) -> Self {
        let folder = std::env::temp_dir().join(dialogue::unique("switchboard-measure"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("routing.toml"), rules).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.current_dir(&folder).args(["serve", "--set", "http.enabled=false", "--set", "shards=1"]);
        command.args(["--set", "log.level=warn", "--set", "desk.routing=routing.toml"]);
        command.args(["--set", &format!("listener.tcp.bind={address}")]);
        if store {
            command.args(["--set", "store.directory=data"]);
        }
        let child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "the broker does not start");
            thread::yield_now();
        }
        Self { address, folder, child }
    }

    /// Processor time in microseconds.
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks * 10_000.0
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A connection that reads whole packets.
struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    read: usize,
}

impl Peer {
    fn open(address: SocketAddr, id: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(&dialogue::Connect::new(Version::V311, id).encode()).unwrap();
        let mut peer = Self { stream, buffer: Vec::new(), read: 0 };
        assert_eq!(peer.packet()[0] >> 4, 2);
        peer
    }

    fn whole(&self) -> Option<usize> {
        let unread = &self.buffer[self.read..];
        let (mut length, mut shift) = (0, 0);
        for (at, byte) in unread.iter().skip(1).take(4).enumerate() {
            length |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                let whole = 2 + at + length;
                return (unread.len() >= whole).then_some(whole);
            }
        }
        None
    }

    fn packet(&mut self) -> Vec<u8> {
        loop {
            if let Some(length) = self.whole() {
                let packet = self.buffer[self.read..self.read + length].to_vec();
                self.read += length;
                return packet;
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            let mut more = [0; 16_384];
            let count = self.stream.read(&mut more).unwrap();
            assert!(count > 0, "closed");
            self.buffer.extend_from_slice(&more[..count]);
        }
    }

    fn subscribe(&mut self, filter: &str) {
        self.stream.write_all(&subscription(filter, 1).encode(Version::V311, 1)).unwrap();
        while self.packet()[0] >> 4 != 9 {}
    }
}

/// The topic and the packet id of a PUBLISH at QoS 1.
fn publish_of(packet: &[u8]) -> Option<(&[u8], [u8; 2])> {
    if packet[0] >> 4 != 3 || packet[0] & 6 == 0 {
        return None;
    }
    let head = 1 + packet[1..].iter().take_while(|byte| **byte & 128 != 0).count() + 1;
    let length = usize::from(u16::from_be_bytes([packet[head], packet[head + 1]]));
    let topic = &packet[head + 2..head + 2 + length];
    Some((topic, [packet[head + 2 + length], packet[head + 3 + length]]))
}

/// Takes messages until so many of a topic that contains this have come.
fn take(peer: &mut Peer, part: &[u8], count: usize) {
    let mut taken = 0;
    let mut acks = Vec::new();
    while taken < count {
        let packet = peer.packet();
        if let Some((topic, id)) = publish_of(&packet) {
            taken += usize::from(topic.windows(part.len()).any(|window| window == part));
            acks.extend_from_slice(&[0x40, 2, id[0], id[1]]);
        }
        if peer.whole().is_none() || taken == count {
            peer.stream.write_all(&acks).unwrap();
            acks.clear();
        }
    }
}

fn write(peer: &mut Peer, topic: &str, rounds: usize, window: usize) {
    let text = "x".repeat(200);
    for _ in 0..rounds {
        let mut out = Vec::new();
        for id in 1..=window {
            out.extend_from_slice(&message(topic, &text).qos(1).id(id as u16).encode(Version::V311));
        }
        peer.stream.write_all(&out).unwrap();
        let mut acknowledged = 0;
        while acknowledged < window {
            acknowledged += usize::from(peer.packet()[0] >> 4 == 4);
        }
    }
}

/// Messages a second, and the broker's microseconds for each.
fn measure(name: &str, desk: bool, store: bool) -> (f64, f64) {
    let broker = Broker::start(store);
    let address = broker.address;
    let (begin, end) = (Arc::new(Barrier::new(2 * PAIRS + 1)), Arc::new(Barrier::new(PAIRS + 1)));
    let mut threads = Vec::new();
    for pair in 0..PAIRS {
        let mut agent = Peer::open(address, &format!("a{pair}"));
        let agent_filter =
            if desk { format!("cs/1/main/agent/a{pair}/inbox/+") } else { format!("p/{pair}") };
        agent.subscribe(&agent_filter);
        let presence = r#"{"show":"ready","groups":["care"],"capacity":1}"#;
        if desk {
            write_one(&mut agent, &format!("cs/1/main/agent/a{pair}/presence"), presence);
        }
        let mut customer = Peer::open(address, &format!("c{pair}"));
        let topic = if desk { format!("cs/1/main/customer/c{pair}/up") } else { format!("p/{pair}") };
        write(&mut customer, &topic, 1, 1);
        let part: &'static [u8] = if desk { b"/inbox/" } else { b"p/" };
        take(&mut agent, part, 1);
        let (started, ended) = (begin.clone(), end.clone());
        threads.push(thread::spawn(move || {
            started.wait();
            take(&mut agent, part, ROUNDS * WINDOW);
            ended.wait();
        }));
        let started = begin.clone();
        threads.push(thread::spawn(move || {
            started.wait();
            write(&mut customer, &topic, ROUNDS, WINDOW);
        }));
    }
    let cpu = broker.cpu();
    begin.wait();
    let begun = Instant::now();
    end.wait();
    let (time, cpu) = (begun.elapsed().as_secs_f64(), broker.cpu() - cpu);
    for thread in threads {
        thread.join().unwrap();
    }
    let messages = (PAIRS * ROUNDS * WINDOW) as f64;
    println!("{name}: {:.0} messages/s, {:.2} us of the broker for each", messages / time, cpu / messages);
    (messages / time, cpu / messages)
}

fn write_one(peer: &mut Peer, topic: &str, payload: &str) {
    peer.stream.write_all(&message(topic, payload).qos(1).id(1).encode(Version::V311)).unwrap();
    while peer.packet()[0] >> 4 != 4 {}
}

#[test]
#[ignore = "measures: cargo test --release --test desk_measure -- --ignored --nocapture"]
fn a_message_through_the_desk_beside_a_plain_one() {
    let (_, plain) = measure("plain QoS 1", false, true);
    let (_, memory) = measure("desk, no store", true, false);
    let (rate, desk) = measure("desk, transcript on disk", true, true);
    println!("ratio: {:.2} without a store, {:.2} with", memory / plain, desk / plain);
    assert!(rate >= 20_000.0, "{rate:.0} messages/s");
    assert!(desk <= 4.0 * plain, "{desk:.2} us, {:.2} times a plain message", desk / plain);
}

const CONNECTIONS: usize = 20;
const AGENTS: usize = 1_000;
const RATE: usize = 1_000;
const SECONDS: usize = 10;

/// A connection that plays many agents: accepts what they are offered, replies once and completes.
fn play_agents(address: SocketAddr, connection: usize, ready: &Barrier, sum: &Sum) {
    let mut peer = Peer::open(address, &format!("agents-{connection}"));
    let names: Vec<String> = (connection..AGENTS).step_by(CONNECTIONS).map(|n| format!("a{n}")).collect();
    for name in &names {
        peer.subscribe(&format!("cs/1/main/agent/{name}/offer"));
        let presence = r#"{"show":"ready","groups":["care"],"capacity":5}"#;
        write_one(&mut peer, &format!("cs/1/main/agent/{name}/presence"), presence);
    }
    ready.wait();
    let (mut out, mut id) = (Vec::new(), 0_u16);
    while sum.over.load(Ordering::Relaxed) < RATE * SECONDS {
        let packet = peer.packet();
        if let Some((topic, packet_id)) = publish_of(&packet) {
            let (topic, length) = (std::str::from_utf8(topic).unwrap().to_owned(), topic.len());
            out.extend_from_slice(&[0x40, 2, packet_id[0], packet_id[1]]);
            let at = packet.len() - packet.iter().rev().position(|byte| *byte == b'{').unwrap() - 1;
            let offer: serde_json::Value = serde_json::from_slice(&packet[at.max(length)..]).unwrap();
            if offer["over"].is_null() {
                let answer = topic.replace("/offer", "/answer");
                let v = offer["conversation"].as_str().unwrap();
                let reply = format!("cs/1/main/conversation/{v}/reply");
                let accept = format!(r#"{{"verb":"accept","offer":{}}}"#, offer["offer"]);
                let complete = format!(r#"{{"verb":"complete","conversation":"{v}"}}"#);
                for (topic, payload) in [(&answer, accept.as_str()), (&reply, "hello"), (&answer, &complete)]
                {
                    id = id % 60_000 + 1;
                    out.extend_from_slice(&message(topic, payload).qos(1).id(id).encode(Version::V311));
                }
                let since: u64 = offer["preview"].as_str().unwrap().parse().unwrap();
                sum.waits.lock().unwrap().push(now_us() - since);
                if sum.over.fetch_add(1, Ordering::Relaxed) + 1 == RATE * SECONDS {
                    sum.done.wait();
                }
            }
        }
        if peer.whole().is_none() {
            peer.stream.write_all(&out).unwrap();
            out.clear();
        }
    }
}

struct Sum {
    over: AtomicUsize,
    waits: Mutex<Vec<u64>>,
    done: Barrier,
}

fn now_us() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64
}

#[test]
#[ignore = "measures: cargo test --release --test desk_measure -- --ignored --nocapture"]
fn a_thousand_conversations_a_second_with_a_thousand_agents() {
    let rules = RULES.replace("auto_accept = true", "sticky = \"0s\"");
    let broker = Broker::start_with(true, &rules);
    let address = broker.address;
    let ready = Arc::new(Barrier::new(CONNECTIONS + 1));
    let sum = Arc::new(Sum { over: AtomicUsize::new(0), waits: Mutex::default(), done: Barrier::new(2) });
    for connection in 0..CONNECTIONS {
        let (ready, sum) = (ready.clone(), sum.clone());
        thread::spawn(move || play_agents(address, connection, &ready, &sum));
    }
    ready.wait();
    let (cpu, begun) = (broker.cpu(), Instant::now());
    let writers: Vec<_> = (0..CONNECTIONS)
        .map(|connection| {
            thread::spawn(move || {
                let mut peer = Peer::open(address, &format!("customers-{connection}"));
                for number in 0..RATE * SECONDS / CONNECTIONS {
                    let due = begun
                        + Duration::from_secs_f64((number * CONNECTIONS + connection) as f64 / RATE as f64);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let topic = format!("cs/1/main/customer/c{connection}-{number}/up");
                    write_one(&mut peer, &topic, &now_us().to_string());
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let written = begun.elapsed().as_secs_f64();
    sum.done.wait();
    let (time, cpu) = (begun.elapsed().as_secs_f64(), broker.cpu() - cpu);
    let mut waits = sum.waits.lock().unwrap().clone();
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100] as f64 / 1000.0;
    println!(
        "{} conversations written in {written:.2} s and offered in {time:.2} s: {:.0}/s; from the customer's publish to \
         the offer p50 {:.1} ms, p99 {:.1} ms; {:.0} us of the broker for each conversation, {:.0} % of a core",
        waits.len(),
        waits.len() as f64 / time,
        at(50),
        at(99),
        cpu / waits.len() as f64,
        cpu / time / 10_000.0
    );
    assert!(time < SECONDS as f64 * 1.05, "{time:.2} s");
}
