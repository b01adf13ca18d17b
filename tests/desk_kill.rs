//! `kill -9` in the middle of offers, transfers and messages: what the desk has acknowledged or announced holds afterwards.
//!
//! A few kills in the ordinary run. `tests/kill.sh` makes more of them; `long_runs.md` is the ledger.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod dialogue;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dialogue::{Client, Connect, Packet, Raw, Version, connect, message, take, v5, will};
use serde_json::{Value, json};

const CUSTOMERS: usize = 8;
/// The groups of each agent.
const AGENTS: [&[&str]; 4] = [&["care"], &["care"], &["care", "shop"], &["shop"]];
/// Within this all that is owed must have come.
const PATIENCE: Duration = Duration::from_secs(30);

const RUN: u8 = 0;
/// Customers write one last message, agents only accept and have their replies taken.
const FINISH: u8 = 1;
const STOP: u8 = 2;

const PREFIX: &str = "cs/1/main/";

const RULES: &str = r#"
[[tenant]]
name = "main"

[[tenant.group]]
name = "care"
mode = "assigned"
[tenant.group.assigned]
offer = "1s"
grace = "2s"
sticky = "0s"
lapses = 100
reject = "1s"

[[tenant.group]]
name = "shop"
mode = "assigned"
[tenant.group.assigned]
offer = "1s"
grace = "2s"
sticky = "0s"
lapses = 100
reject = "1s"

[[tenant.rule]]
name = "shop"
when = 'message.topic.contains("/shop-")'
group = "shop"

[[tenant.rule]]
name = "all"
group = "care"
"#;

/// A broker in a process of its own, with a store that outlives it.
struct Broker {
    folder: PathBuf,
    child: Child,
    world: Arc<World>,
}

impl Broker {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(dialogue::unique("switchboard-desk-kill"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("routing.toml"), RULES).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let world = Arc::new(World {
            address,
            up: Mutex::new(false),
            rises: Condvar::new(),
            phase: AtomicU8::new(RUN),
            book: Mutex::default(),
            news: Condvar::new(),
        });
        let child = Self::spawn(&world, &folder);
        Self { folder, child, world }
    }

    fn spawn(world: &World, folder: &PathBuf) -> Child {
        let child = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .current_dir(folder)
            .args(["serve", "--set", "http.enabled=false", "--set", "shards=2", "--set", "log.level=warn"])
            .args(["--set", "store.directory=data", "--set", "desk.routing=routing.toml"])
            .args(["--set", "session.queue_messages=1000000", "--set", "session.queue_bytes=1GiB"])
            .args(["--set", &format!("listener.tcp.bind={}", world.address)])
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(world.address).is_err() {
            assert!(Instant::now() < until, "the broker does not start");
            thread::yield_now();
        }
        *world.up.lock().unwrap() = true;
        world.rises.notify_all();
        child
    }

    fn kill_and_restart(&mut self) {
        *self.world.up.lock().unwrap() = false;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.world, &self.folder);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A reply that was acknowledged.
struct Reply {
    id: String,
    conversation: String,
    agent: usize,
    sent_at: Instant,
}

/// All that anybody has seen or done.
#[derive(Default)]
struct Book {
    /// What went wrong.
    faults: Vec<String>,
    /// The id at each place, the place of each id.
    ids: HashMap<(String, u64), String>,
    places: HashMap<String, (String, u64)>,
    /// Whose each conversation is.
    customers: BTreeMap<String, String>,
    /// Of each conversation, by `ver`.
    events: BTreeMap<String, BTreeMap<u64, Value>>,
    /// Of each customer, the retained one.
    states: HashMap<String, Value>,
    watched: bool,
    written: HashSet<String>,
    acked: Vec<HashSet<String>>,
    down: Vec<HashSet<String>>,
    subscribed: Vec<Option<Instant>>,
    /// The last message of each customer, once all are acknowledged.
    last: BTreeMap<usize, String>,
    replies: Vec<Reply>,
    /// What came to each agent over its last connection.
    inboxes: Vec<HashMap<String, BTreeSet<u64>>>,
    idle: BTreeSet<usize>,
    /// Offers whose acceptance was confirmed, by conversation and agent.
    accepted: BTreeMap<(String, usize), HashSet<String>>,
    rejected: usize,
    transfers: usize,
    completed: usize,
    /// Replies refused: the conversation was somebody else's by then, or over.
    refused: usize,
    /// Messages and events that came more than once to somebody.
    again: usize,
}

impl Book {
    /// Somebody has seen a message of a conversation.
    fn saw(&mut self, by: &str, m: &Value) {
        let (Some(v), Some(seq), Some(id)) =
            (m["conversation"].as_str(), m["seq"].as_u64(), m["id"].as_str())
        else {
            return self.faults.push(format!("{by}: no message: {m}"));
        };
        let place = (v.to_owned(), seq);
        if let Some(before) = self.ids.insert(place.clone(), id.to_owned()).filter(|before| before != id) {
            self.faults.push(format!("{by}: {place:?} is {id} and was {before}"));
        }
        if let Some(before) = self.places.insert(id.to_owned(), place.clone()).filter(|b| *b != place) {
            self.faults.push(format!("{by}: {id} is at {place:?} and was at {before:?}"));
        }
        if m["from"]["role"] == "customer" {
            self.belongs(v, m["from"]["id"].as_str().unwrap());
        }
    }

    fn belongs(&mut self, v: &str, customer: &str) {
        let before = self.customers.insert(v.to_owned(), customer.to_owned());
        if let Some(before) = before.filter(|before| before != customer) {
            self.faults.push(format!("{v} is of {customer} and was of {before}"));
        }
    }

    fn event(&mut self, event: Value) {
        let (v, ver) = (event["conversation"].as_str().unwrap().to_owned(), event["ver"].as_u64().unwrap());
        self.belongs(&v, event["customer"].as_str().unwrap());
        let known = self.events.entry(v).or_default();
        if let Some(before) = known.get(&ver) {
            self.again += 1;
            if *before != event {
                self.faults.push(format!("announced anew otherwise: {before} then {event}"));
            }
            return;
        }
        if let Some((_, last)) = known.last_key_value().filter(|(last, _)| **last > ver) {
            self.faults.push(format!("ver goes back: {last} then {event}"));
        }
        known.insert(ver, event);
    }

    /// Who has a customer's last conversation. `None`: not all is quiet.
    fn rest(&self, customer: usize) -> Option<Option<usize>> {
        let (v, _) = self.places.get(self.last.get(&customer)?)?;
        if self.events.get(v).and_then(|events| events.last_key_value()).is_some_and(|(_, e)| over(e)) {
            return Some(None);
        }
        let state = self.states.get(&customer_name(customer)).filter(|s| s["conversation"] == v.as_str())?;
        state["agent"].as_str().filter(|_| state["state"] == "assigned").map(|name| Some(agent_of(name)))
    }

    fn quiet(&self) -> bool {
        self.idle.len() == AGENTS.len() && (0..CUSTOMERS).all(|customer| self.rest(customer).is_some())
    }

    fn everything_happened(&self) -> bool {
        let accepted = self.accepted.values().map(HashSet::len).sum::<usize>();
        accepted > 0 && self.rejected > 0 && self.transfers > 0 && self.completed > 0 && self.again > 0
    }
}

fn over(event: &Value) -> bool {
    ["wrapup", "closed", "abandoned", "expired"].iter().any(|phase| event["to"] == *phase)
}

fn customer_name(number: usize) -> String {
    format!("{}-{number}", if number.is_multiple_of(3) { "shop" } else { "care" })
}

fn agent_of(name: &str) -> usize {
    name.strip_prefix("agent-").unwrap().parse().unwrap()
}

/// Half of the customers have sessions that last.
fn lasts(customer: usize) -> bool {
    customer.is_multiple_of(2)
}

/// What all threads share.
struct World {
    address: SocketAddr,
    up: Mutex<bool>,
    rises: Condvar,
    phase: AtomicU8,
    book: Mutex<Book>,
    news: Condvar,
}

impl World {
    fn note<T>(&self, what: impl FnOnce(&mut Book) -> T) -> T {
        let done = what(&mut self.book.lock().unwrap());
        self.news.notify_all();
        done
    }

    /// Waits until the book says so; `false`: it does not within our patience.
    fn until(&self, mut so: impl FnMut(&Book) -> bool) -> bool {
        let book = self.book.lock().unwrap();
        !self.news.wait_timeout_while(book, PATIENCE, |book| !so(book)).unwrap().1.timed_out()
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }
}

/// A client that connects again whenever it must.
struct Peer {
    world: Arc<World>,
    hello: Connect,
    stream: Option<TcpStream>,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    /// The broker has promised something in this session.
    promised: bool,
    last_id: u16,
    rng: fastrand::Rng,
}

impl Peer {
    fn new(world: &Arc<World>, hello: Connect, seed: u64) -> Self {
        Self {
            world: world.clone(),
            hello: hello.keep_alive(0),
            stream: None,
            unread: Vec::new(),
            unsent: Vec::new(),
            promised: false,
            last_id: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn lose(&mut self) {
        self.stream = None;
        self.unread.clear();
        self.unsent.clear();
    }

    /// Connects, as soon as somebody listens. Says whether it did, and whether the session was there.
    fn connect(&mut self, lasts: bool) -> Option<bool> {
        let up = self.world.up.lock().unwrap();
        let listens = self.world.rises.wait_timeout_while(up, PATIENCE, |up| !*up).unwrap();
        drop(listens);
        let stream = TcpStream::connect_timeout(&self.world.address, Duration::from_millis(200)).ok()?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        self.stream = Some(stream);
        self.send(&self.hello.encode());
        self.flush();
        let begun = Instant::now();
        while self.stream.is_some() && begun.elapsed() < Duration::from_secs(5) {
            if let Some(Packet::ConnAck(connack)) = self.packet() {
                let id = &self.hello.id;
                assert_eq!(connack.code, 0, "{id} is refused");
                assert!(!lasts || connack.session_present || !self.promised, "{id}: the session is gone");
                return Some(connack.session_present);
            }
        }
        self.lose();
        None
    }

    fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    fn say(&mut self, topic: &str, payload: &str, id: u16) {
        let publish = message(&format!("{PREFIX}{topic}"), payload).qos(1).id(id);
        self.send(&publish.encode(self.hello.version));
    }

    fn subscribe(&mut self, filters: &[&str]) {
        let filters = filters.iter().map(|filter| format!("{PREFIX}{filter}"));
        let packet = filters.fold(dialogue::Subscribe::default(), |packet, filter| packet.and(&filter, 1));
        self.send(&packet.encode(self.hello.version, 65_535));
    }

    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.unsent);
        if let Some(stream) = &mut self.stream
            && stream.write_all(&bytes).is_err()
        {
            self.lose();
        }
    }

    /// The next packet, if one comes within a moment. A message is acknowledged.
    fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, _)) = take(&mut self.unread, self.hello.version).unwrap() {
                if let Packet::Publish(publish) = &packet
                    && publish.qos == 1
                {
                    self.send(&Raw::new().two(publish.id).packet(0x40));
                }
                return Some(packet);
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.as_mut()?.read(&mut chunk) {
                Ok(count) if count > 0 => self.unread.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                _ => {
                    self.lose();
                    return None;
                }
            }
        }
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id % 60_000 + 1;
        self.last_id
    }

    fn ulid(&mut self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        ulid::Ulid::from_parts(now.as_millis() as u64, self.rng.u128(..)).to_string()
    }
}

/// Writes messages with ids of its own, each again until it is acknowledged, and notes what comes down.
fn customer(number: usize, world: &Arc<World>, seed: u64) {
    let name = customer_name(number);
    let version = if number % 4 < 2 { Version::V5 } else { Version::V311 };
    let hello = connect(version, &name);
    let mut peer = Peer::new(world, if lasts(number) { hello.persistent() } else { hello }, seed);
    let up = format!("customer/{name}/up");
    let window = if number.is_multiple_of(3) { 4 } else { 1 };
    // By packet id, in the order in which they were written.
    let mut under_way: Vec<(u16, String, String)> = Vec::new();
    let mut last = None;
    while world.phase() != STOP {
        if peer.stream.is_none() {
            let Some(present) = peer.connect(lasts(number)) else { continue };
            if !present || !peer.promised {
                peer.subscribe(&[&format!("customer/{name}/down")]);
            }
            for (packet, _, payload) in &under_way {
                peer.say(&up, payload, *packet);
            }
        }
        let finishes = world.phase() == FINISH;
        while peer.promised && last.is_none() && (finishes || under_way.len() < window) {
            let (packet, id) = (peer.next_id(), peer.ulid());
            let payload = json!({"id": id, "body": format!("{name} {packet}")}).to_string();
            world.note(|book| book.written.insert(id.clone()));
            peer.say(&up, &payload, packet);
            under_way.push((packet, id.clone(), payload));
            last = finishes.then_some(id);
        }
        peer.flush();
        while let Some(packet) = peer.packet() {
            match packet {
                Packet::SubAck(_) => {
                    peer.promised = true;
                    world.note(|book| book.subscribed[number] = Some(Instant::now()));
                }
                Packet::PubAck(ack) => {
                    let at = under_way.iter().position(|(packet, ..)| *packet == ack.id).unwrap();
                    let (_, id, _) = under_way.remove(at);
                    world.note(|book| {
                        if ack.reason >= 0x80 {
                            book.faults.push(format!("{name}: {id} is refused with {:#04x}", ack.reason));
                        } else {
                            book.acked[number].insert(id);
                        }
                    });
                }
                Packet::Publish(publish) => {
                    let m: Value = serde_json::from_slice(&publish.payload).unwrap();
                    world.note(|book| {
                        book.saw(&name, &m);
                        if !book.down[number].insert(m["id"].as_str().unwrap().to_owned()) {
                            book.again += 1;
                        }
                    });
                }
                other => panic!("{name}: {other:?}"),
            }
            if world.phase() == RUN && under_way.len() < window {
                break;
            }
        }
        peer.flush();
        if let Some(id) = last.as_ref().filter(|_| under_way.is_empty()) {
            world.note(|book| book.last.insert(number, id.clone()));
        }
    }
}

/// What an agent has published and not had acknowledged.
struct Sent {
    topic: String,
    payload: String,
    /// Of a reply: its conversation, its id.
    reply: Option<(String, String)>,
    at: Instant,
}

/// An agent of flesh and blood.
struct Agent {
    number: usize,
    name: String,
    peer: Peer,
    under_way: BTreeMap<u16, Sent>,
    /// Messages of customers that it has read.
    read: HashSet<(String, u64)>,
    /// Of each conversation: its group, and how many messages it still wants to read before it does something about it.
    mine: HashMap<String, (String, u32)>,
}

impl Agent {
    fn new(number: usize, world: &Arc<World>, seed: u64) -> Self {
        let name = format!("agent-{number}");
        let gone = will(&format!("{PREFIX}agent/{name}/presence"), r#"{"show":"offline"}"#).qos(1);
        let peer = Peer::new(world, v5(&name).will(gone), seed);
        let (under_way, read, mine) = (BTreeMap::new(), HashSet::new(), HashMap::new());
        Self { number, name, peer, under_way, read, mine }
    }

    fn publish(&mut self, topic: String, payload: String, reply: Option<(String, String)>) {
        let id = self.peer.next_id();
        self.peer.say(&topic, &payload, id);
        self.under_way.insert(id, Sent { topic, payload, reply, at: Instant::now() });
    }

    fn answer(&mut self, what: &Value) {
        self.publish(format!("agent/{}/answer", self.name), what.to_string(), None);
    }

    /// Connects, says that it is there, and repeats its replies: answers may have been for an offer that is over.
    fn appear(&mut self) {
        if self.peer.connect(false).is_none() {
            return;
        }
        let number = self.number;
        self.peer.world.note(|book| book.inboxes[number].clear());
        self.peer.subscribe(&[&format!("agent/{}/#", self.name)]);
        let before = std::mem::take(&mut self.under_way);
        let presence = json!({"show": "ready", "groups": AGENTS[number], "capacity": CUSTOMERS});
        self.publish(format!("agent/{}/presence", self.name), presence.to_string(), None);
        for sent in before.into_values().filter(|sent| sent.reply.is_some()) {
            let id = self.peer.next_id();
            self.peer.say(&sent.topic, &sent.payload, id);
            self.under_way.insert(id, sent);
        }
    }

    fn hear(&mut self, packet: Packet, runs: bool) {
        match packet {
            Packet::SubAck(_) => {}
            Packet::PubAck(ack) => {
                let Sent { reply, at, payload, .. } = self.under_way.remove(&ack.id).unwrap();
                let agent = self.number;
                self.peer.world.note(|book| match reply {
                    Some((conversation, id)) if ack.reason < 0x80 => {
                        book.replies.push(Reply { id, conversation, agent, sent_at: at });
                    }
                    Some(_) if ack.reason == 0x87 => book.refused += 1,
                    None if ack.reason < 0x80 => {}
                    _ => book.faults.push(format!("agent {agent}: {:#04x} to {payload}", ack.reason)),
                });
            }
            Packet::Publish(publish) => {
                let topic = publish.topic.strip_prefix(PREFIX).unwrap();
                let kind = topic.split('/').nth(2).unwrap();
                let value = serde_json::from_slice(&publish.payload).unwrap_or(Value::Null);
                match kind {
                    "offer" => self.offered(&value, runs),
                    "inbox" => self.reads(&value, runs),
                    "result" => self.learns(&value),
                    _ => {}
                }
            }
            other => panic!("{}: {other:?}", self.name),
        }
    }

    fn offered(&mut self, offer: &Value, runs: bool) {
        if !offer["over"].is_null() {
            return;
        }
        let v = offer["conversation"].as_str().unwrap().to_owned();
        self.mine.insert(v, (offer["group"].as_str().unwrap().to_owned(), self.peer.rng.u32(1..12)));
        let verb = match self.peer.rng.u8(..20) {
            0 if runs => return,
            1..4 if runs => "reject",
            _ => "accept",
        };
        self.answer(&json!({"verb": verb, "offer": offer["offer"]}));
    }

    fn reads(&mut self, m: &Value, runs: bool) {
        let (v, seq) = (m["conversation"].as_str().unwrap().to_owned(), m["seq"].as_u64().unwrap());
        let (number, name) = (self.number, &self.name);
        let new = self.read.insert((v.clone(), seq));
        self.peer.world.note(|book| {
            book.saw(name, m);
            book.inboxes[number].entry(v.clone()).or_default().insert(seq);
            book.again += usize::from(!new);
        });
        if !runs || !new || m["from"]["role"] != "customer" {
            return;
        }
        if self.peer.rng.bool() {
            let id = self.peer.ulid();
            let reply = json!({"id": id, "body": format!("to {seq}")}).to_string();
            self.peer.world.note(|book| book.written.insert(id.clone()));
            self.publish(format!("conversation/{v}/reply"), reply, Some((v.clone(), id)));
        }
        let (group, left) = self.mine.entry(v.clone()).or_insert_with(|| ("care".to_owned(), 5));
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        *left = self.peer.rng.u32(1..12);
        let other = if group == "care" { "shop" } else { "care" };
        let colleague = (number + self.peer.rng.usize(1..AGENTS.len())) % AGENTS.len();
        let what = match self.peer.rng.u8(..3) {
            0 => json!({"verb": "complete", "conversation": v}),
            1 => json!({"verb": "transfer", "conversation": v, "group": other}),
            _ => json!({"verb": "transfer", "conversation": v, "agent": format!("agent-{colleague}")}),
        };
        self.answer(&what);
    }

    fn learns(&mut self, result: &Value) {
        if result["ok"] != true {
            return;
        }
        let v = result["conversation"].as_str().unwrap().to_owned();
        let number = self.number;
        self.peer.world.note(|book| match result["verb"].as_str().unwrap() {
            "accept" => {
                let offer = result["offer"].as_str().unwrap().to_owned();
                book.accepted.entry((v, number)).or_default().insert(offer);
            }
            "reject" => book.rejected += 1,
            "transfer" => book.transfers += 1,
            _ => book.completed += 1,
        });
    }
}

fn agent(number: usize, world: &Arc<World>, seed: u64) {
    let mut agent = Agent::new(number, world, seed);
    while world.phase() != STOP {
        if agent.peer.stream.is_none() {
            agent.appear();
        }
        agent.peer.flush();
        let runs = world.phase() == RUN;
        while let Some(packet) = agent.peer.packet() {
            agent.hear(packet, runs);
            if agent.peer.unread.is_empty() {
                agent.peer.flush();
            }
        }
        agent.peer.flush();
        if !runs && agent.under_way.is_empty() {
            world.note(|book| book.idle.insert(number));
        }
        // Now and then it goes away, so that its will is heard.
        if runs && agent.peer.rng.u32(..300) == 0 {
            agent.peer.lose();
        }
    }
}

/// Notes events, messages and states, in one session.
fn watch(world: &Arc<World>, seed: u64) {
    let mut peer = Peer::new(world, v5("watcher").persistent(), seed);
    while world.phase() != STOP {
        if peer.stream.is_none() {
            if peer.connect(true).is_none() {
                continue;
            }
            if !peer.promised {
                peer.subscribe(&["conversation/+/events", "conversation/+/messages", "customer/+/state"]);
            }
        }
        peer.flush();
        while let Some(packet) = peer.packet() {
            match packet {
                Packet::SubAck(_) => {
                    peer.promised = true;
                    world.note(|book| book.watched = true);
                }
                Packet::Publish(publish) => {
                    let (topic, kind) = publish.topic.rsplit_once('/').unwrap();
                    let value = serde_json::from_slice(&publish.payload).unwrap_or(Value::Null);
                    world.note(|book| match kind {
                        "events" => book.event(value),
                        "messages" => book.saw("watcher", &value),
                        _ => {
                            let customer = topic.rsplit_once('/').unwrap().1.to_owned();
                            book.states.insert(customer, value);
                        }
                    });
                }
                other => panic!("watcher: {other:?}"),
            }
            if peer.unread.is_empty() {
                peer.flush();
            }
        }
    }
}

/// All messages of a conversation, page by page.
fn transcript(judge: &mut Client, customer: &str, v: &str) -> Vec<Value> {
    let (mut all, mut before) = (Vec::new(), Value::Null);
    loop {
        let mut wish = json!({"verb": "transcript", "conversation": v});
        if !before.is_null() {
            wish["before"] = before;
        }
        let ask = message(&format!("{PREFIX}customer/{customer}/ask"), wish.to_string());
        judge.publish(ask.qos(1).response_topic("judge"));
        let answer: Value = loop {
            if let Packet::Publish(publish) = judge.next() {
                judge.acknowledge(&publish);
                break serde_json::from_slice(&publish.payload).unwrap();
            }
        };
        assert_eq!(answer["ok"], true, "{v} of {customer}: {answer}");
        assert_eq!(answer["conversation"], v);
        let mut page = answer["messages"].as_array().unwrap().clone();
        page.append(&mut all);
        all = page;
        before = answer["before"].clone();
        if before.is_null() {
            return all;
        }
    }
}

/// What was acknowledged is in the transcripts once, numbered without gap; and so is all that anybody has seen.
fn judge_transcripts(book: &mut Book, transcripts: &BTreeMap<String, Vec<Value>>) {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for (v, all) in transcripts {
        if !all.iter().map(|m| m["seq"].as_u64().unwrap()).eq(1..=all.len() as u64) {
            let seqs: Vec<&Value> = all.iter().map(|m| &m["seq"]).collect();
            book.faults.push(format!("{v} has the numbers {seqs:?}"));
        }
        for m in all {
            book.saw("transcript", m);
            let id = m["id"].as_str().unwrap();
            *times.entry(id).or_default() += 1;
            if !book.written.contains(id) {
                book.faults.push(format!("nobody wrote {m}"));
            }
        }
    }
    let mut faults = Vec::new();
    for (id, times) in times.iter().filter(|(_, times)| **times > 1) {
        faults.push(format!("{id} is in the transcripts {times} times"));
    }
    for (v, seq) in book.ids.keys() {
        if transcripts.get(v).is_none_or(|all| all.len() < *seq as usize) {
            faults.push(format!("{seq} of {v} was seen and is not in the transcript"));
        }
    }
    for (customer, acked) in book.acked.iter().enumerate() {
        for id in acked.iter().filter(|id| !times.contains_key(id.as_str())) {
            faults.push(format!("{} wrote {id}: acknowledged and lost", customer_name(customer)));
        }
    }
    for Reply { id, conversation, agent, .. } in &book.replies {
        let from = json!({"role": "agent", "id": format!("agent-{agent}")});
        let found = transcripts.get(conversation).and_then(|all| all.iter().find(|m| m["id"] == id.as_str()));
        if found.is_none_or(|m| m["from"] != from) {
            faults.push(format!("agent {agent} replied {id} in {conversation}: acknowledged, and {found:?}"));
        }
    }
    book.faults.append(&mut faults);
}

/// What is announced of a conversation is one story, to which all confirmed acceptances and all replies belong.
fn judge_events(book: &mut Book, transcripts: &BTreeMap<String, Vec<Value>>) -> (usize, usize) {
    let (mut faults, mut missing, mut stories) = (Vec::new(), 0, 0);
    let nothing = BTreeMap::new();
    for (v, messages) in transcripts {
        let events = book.events.get(v).unwrap_or(&nothing);
        for ((ver, event), (next, after)) in events.iter().zip(events.iter().skip(1)) {
            if ver + 1 == *next && event["to"] != after["from"] {
                faults.push(format!("{event} and then {after}"));
            }
        }
        let state = book.states.get(&book.customers[v]).filter(|state| state["conversation"] == v.as_str());
        let last = events.last_key_value();
        let shown = state.and_then(|state| state["ver"].as_u64());
        if shown.zip(last).is_some_and(|(shown, (last, _))| shown < *last) {
            faults.push(format!("{v}: the state went back to {shown:?} from {last:?}"));
        }
        // An event is announced once: one that was stored at the moment of a kill may be heard of by nobody.
        let ends = last.is_some_and(|(ver, event)| over(event) || shown == Some(*ver));
        let unheard = last.map_or(0, |(last, _)| *last as usize) - events.len();
        let gaps = if ends { unheard } else { usize::MAX };
        missing += unheard;
        for ((_, agent), offers) in book.accepted.range((v.clone(), 0)..=(v.clone(), usize::MAX)) {
            let name = format!("agent-{agent}");
            let told = events.values().filter(|e| e["reason"] == "accepted" && e["agent"] == name.as_str());
            let told = told.inspect(|e| assert_eq!(e["to"], "assigned")).count();
            if offers.len() > told.saturating_add(gaps) {
                faults.push(format!("{name} has accepted {offers:?} of {v}, and {told} are announced"));
            }
        }
        if gaps > 0 {
            continue;
        }
        // Who has replied, one after the other, is how the conversation went from one to the other.
        stories += 1;
        let mut owners = events.values().filter(|e| e["reason"] == "accepted").map(|e| &e["agent"]);
        let mut authors: Vec<&Value> =
            messages.iter().filter(|m| m["from"]["role"] == "agent").map(|m| &m["from"]["id"]).collect();
        authors.dedup();
        if !authors.iter().all(|author| owners.any(|owner| owner == *author)) {
            faults
                .push(format!("{v}: replies by {authors:?}, and {:?}", events.values().collect::<Vec<_>>()));
        }
    }
    book.faults.append(&mut faults);
    (missing, stories)
}

/// What is still to come to customers and agents.
fn owed(book: &Book, transcripts: &BTreeMap<String, Vec<Value>>) -> Vec<String> {
    let mut owed = Vec::new();
    for customer in 0..CUSTOMERS {
        let name = customer_name(customer);
        let replies = book.replies.iter().filter(|reply| book.customers[&reply.conversation] == name);
        for reply in replies.filter(|reply| !book.down[customer].contains(&reply.id)) {
            // Without a session that lasts it has what was written since it has subscribed.
            if lasts(customer) || book.subscribed[customer].is_some_and(|since| since < reply.sent_at) {
                let place = &book.places[&reply.id];
                owed.push(format!("{name} has not got {} at {place:?} by agent {}", reply.id, reply.agent));
            }
        }
        let Some(Some(agent)) = book.rest(customer) else { continue };
        let (v, _) = &book.places[&book.last[&customer]];
        let last = transcripts[v].len() as u64;
        // What is in a block of the transcript by now is not sent again; a block has 64 messages.
        let none = BTreeSet::new();
        let inbox = book.inboxes[agent].get(v).unwrap_or(&none);
        let first = inbox.first().copied().unwrap_or(last + 1);
        if (first - 1) % 64 != 0 || !inbox.iter().copied().eq(first..=last) {
            owed.push(format!("agent {agent} has {inbox:?} of {v}, which has {last}"));
        }
    }
    owed
}

fn show(what: &[String]) -> String {
    format!("{} in all\n{}", what.len(), what[..what.len().min(20)].join("\n"))
}

#[test]
fn the_desk_survives_kill_9() {
    let wanted: u64 = std::env::var("KILLS").ok().map_or(6, |kills| kills.parse().unwrap());
    let mut broker = Broker::start();
    let world = broker.world.clone();
    let mut rng = fastrand::Rng::new();
    println!("seed {:#x}", rng.get_seed());
    world.note(|book| {
        book.acked = vec![HashSet::new(); CUSTOMERS];
        book.down = vec![HashSet::new(); CUSTOMERS];
        book.subscribed = vec![None; CUSTOMERS];
        book.inboxes = vec![HashMap::new(); AGENTS.len()];
    });
    let mut threads = Vec::new();
    let mut start = |play: Box<dyn FnOnce(&Arc<World>, u64) + Send>| {
        let (world, seed) = (world.clone(), rng.u64(..));
        threads.push(thread::spawn(move || play(&world, seed)));
    };
    start(Box::new(watch));
    assert!(world.until(|book| book.watched), "nobody could subscribe");
    for number in 0..AGENTS.len() {
        start(Box::new(move |world, seed| agent(number, world, seed)));
    }
    for number in 0..CUSTOMERS {
        start(Box::new(move |world, seed| customer(number, world, seed)));
    }
    let (begun, mut kills) = (Instant::now(), 0);
    while kills < wanted || (begun.elapsed() < PATIENCE / 2 && !world.note(|book| book.everything_happened()))
    {
        // It lives for a time that is not the same each time.
        thread::sleep(Duration::from_millis(rng.u64(30..400)));
        broker.kill_and_restart();
        kills += 1;
    }
    world.phase.store(FINISH, Ordering::Release);
    let quiet = world.until(Book::quiet);
    world.note(|book| {
        let rests: Vec<_> = (0..CUSTOMERS).map(|customer| book.rest(customer)).collect();
        let (last, idle) = (&book.last, &book.idle);
        assert!(quiet, "{rests:?} {last:?} {idle:?} {:?}\n{}", book.states, show(&book.faults));
    });

    let mut judge = v5("judge").at(world.address).open();
    judge.subscribe("judge", 1);
    let known = world.note(|book| book.customers.clone());
    let transcripts: BTreeMap<String, Vec<Value>> =
        known.iter().map(|(v, customer)| (v.clone(), transcript(&mut judge, customer, v))).collect();
    let (missing, stories) = world.note(|book| {
        judge_transcripts(book, &transcripts);
        judge_events(book, &transcripts)
    });
    let all_came = world.until(|book| owed(book, &transcripts).is_empty());
    world.phase.store(STOP, Ordering::Release);
    for thread in threads {
        thread.join().unwrap();
    }
    world.note(|book| {
        let acked: usize = book.acked.iter().map(HashSet::len).sum();
        let accepted: usize = book.accepted.values().map(HashSet::len).sum();
        println!(
            "{kills} kills: {acked} messages and {} replies acknowledged in {} conversations, {} came again; {accepted} \
             offers accepted, {} rejected, {} transfers, {} completed, {} replies refused; {missing} events unheard, \
             {stories} whole stories; {} s",
            book.replies.len(),
            known.len(),
            book.again,
            book.rejected,
            book.transfers,
            book.completed,
            book.refused,
            begun.elapsed().as_secs(),
        );
        assert!(book.faults.is_empty(), "{}", show(&book.faults));
        assert!(all_came, "{}", show(&owed(book, &transcripts)));
        assert!(acked > 10 * kills as usize && book.replies.len() > kills as usize, "hardly any load");
        assert!(book.everything_happened() && stories > 0, "not all kinds of things happened");
    });
}
