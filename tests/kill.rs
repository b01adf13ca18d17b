//! `kill -9` under load: whatever was acknowledged is there afterwards, once where QoS 2 says so, and in order.
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

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dialogue::{Packet, Raw, Version, message, subscription, take, v5};

/// Publishers, half of them at QoS 1 and half at QoS 2; each writes to one subscriber and to a retained topic.
const PUBLISHERS: usize = 8;
const SUBSCRIBERS: usize = 4;
/// Messages that a publisher has under way.
const WINDOW: usize = 20;
/// Within this all that is owed must have come.
const PATIENCE: Duration = Duration::from_mins(1);

const RUN: u8 = 0;
/// Publishers only finish what is under way.
const FINISH: u8 = 1;
/// Subscribers stop once nothing has come for a while.
const DRAIN: u8 = 2;

fn qos_of(publisher: usize) -> u8 {
    if publisher.is_multiple_of(2) { 1 } else { 2 }
}

/// A broker in a process of its own, with a store that outlives it.
struct Broker {
    address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Broker {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(dialogue::unique("switchboard-kill"));
        fs::create_dir_all(&folder).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Self::spawn(address, &folder);
        Self { address, folder, child }
    }

    fn spawn(address: SocketAddr, folder: &PathBuf) -> Child {
        Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .current_dir(folder)
            .args(["serve", "--set", "http.enabled=false", "--set", "shards=2", "--set", "log.level=warn"])
            .args(["--set", "store.directory=data", "--set", "session.queue_messages=1000000"])
            .args(["--set", "session.queue_bytes=1GiB"])
            .args(["--set", &format!("listener.tcp.bind={address}")])
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(self.address, &self.folder);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A client that connects again whenever it must.
struct Peer {
    id: String,
    address: SocketAddr,
    stream: Option<TcpStream>,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    /// The broker has promised something in this session.
    promised: bool,
    connects: usize,
}

impl Peer {
    fn new(id: String, address: SocketAddr) -> Self {
        Self {
            id,
            address,
            stream: None,
            unread: Vec::new(),
            unsent: Vec::new(),
            promised: false,
            connects: 0,
        }
    }

    fn lose(&mut self) {
        self.stream = None;
        self.unread.clear();
        self.unsent.clear();
    }

    /// Connects; `None` while nobody listens. Says whether the session was there.
    fn connect(&mut self) -> Option<bool> {
        let stream = TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).ok()?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        self.stream = Some(stream);
        let hello = v5(&self.id).at(self.address).clean(false).session_expiry(3600).keep_alive(0);
        self.send(&hello.encode());
        self.flush();
        let begun = Instant::now();
        while self.stream.is_some() && begun.elapsed() < Duration::from_secs(5) {
            if let Some(Packet::ConnAck(connack)) = self.packet() {
                assert_eq!(connack.code, 0, "{} is refused", self.id);
                assert!(
                    connack.session_present || !self.promised,
                    "{}: the session is gone, and with it what was promised",
                    self.id
                );
                self.connects += 1;
                return Some(connack.session_present);
            }
        }
        self.lose();
        None
    }

    fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.unsent);
        if let Some(stream) = &mut self.stream
            && stream.write_all(&bytes).is_err()
        {
            self.lose();
        }
    }

    /// The next packet, if one comes within a moment.
    fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Some((packet, _)) = take(&mut self.unread, Version::V5).unwrap() {
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
}

fn ack(first: u8, id: u16) -> Vec<u8> {
    Raw::new().two(id).packet(first)
}

/// What a publisher did.
struct Published {
    publisher: usize,
    sent: u64,
    acked: BTreeSet<u64>,
    /// Last retained value that was acknowledged.
    retained: Option<u64>,
}

/// Publishes numbered messages, resends what was not acknowledged, and notes what was.
fn publish(publisher: usize, address: SocketAddr, phase: &AtomicU8) -> Published {
    let mut peer = Peer::new(format!("publisher-{publisher}"), address);
    let qos = qos_of(publisher);
    let topic = format!("kill/{}", publisher % SUBSCRIBERS);
    let mut done = Published { publisher, sent: 0, acked: BTreeSet::new(), retained: None };
    // By packet id: number, whether it is retained, whether PUBREC has come. In the order in which they were sent.
    let mut under_way: BTreeMap<u64, (u16, bool, bool)> = BTreeMap::new();
    let mut next_id: u16 = 0;
    let packet = |number: u64, id: u16, retained: bool, dup: bool| {
        let topic = if retained { format!("kill-retained/{publisher}") } else { topic.clone() };
        let mut message = message(&topic, format!("{publisher}:{number}")).qos(qos).id(id);
        if retained {
            message = message.retain();
        }
        if dup {
            message = message.dup();
        }
        message.encode(Version::V5)
    };
    let begun = Instant::now();
    loop {
        if peer.stream.is_none() {
            let Some(present) = peer.connect() else {
                thread::yield_now();
                continue;
            };
            // Only what the broker may still know may be resumed; anything else is new.
            for (&number, &(id, retained, released)) in &under_way {
                if released {
                    peer.send(&ack(0x62, id));
                } else {
                    peer.send(&packet(number, id, retained, present));
                }
            }
        }
        let phase = phase.load(Ordering::Acquire);
        while phase == RUN && under_way.len() < WINDOW {
            next_id = next_id % 1000 + 1;
            if under_way.values().any(|(id, ..)| *id == next_id) {
                continue;
            }
            done.sent += 1;
            let retained = done.sent.is_multiple_of(10);
            under_way.insert(done.sent, (next_id, retained, false));
            peer.send(&packet(done.sent, next_id, retained, false));
        }
        peer.flush();
        let number_of = |under_way: &BTreeMap<u64, (u16, bool, bool)>, id: u16| {
            under_way.iter().find(|(_, (other, ..))| *other == id).map(|(&number, _)| number)
        };
        while let Some(heard) = peer.packet() {
            let taken = match &heard {
                Packet::PubAck(ack) | Packet::PubRec(ack) => {
                    assert!(ack.reason < 0x80, "refused with {:#04x}", ack.reason);
                    number_of(&under_way, ack.id)
                }
                Packet::PubComp(ack) => {
                    if let Some(number) = number_of(&under_way, ack.id) {
                        under_way.remove(&number);
                    }
                    None
                }
                other => panic!("{}: {other:?}", peer.id),
            };
            let Some(number) = taken else { continue };
            peer.promised |= qos == 2;
            let retained = under_way[&number].1;
            if retained {
                done.retained = done.retained.max(Some(number));
            } else {
                done.acked.insert(number);
            }
            if let Packet::PubRec(taken) = &heard {
                under_way.get_mut(&number).unwrap().2 = true;
                peer.send(&ack(0x62, taken.id));
            } else {
                under_way.remove(&number);
            }
        }
        peer.flush();
        if phase != RUN && under_way.is_empty() {
            return done;
        }
        assert!(begun.elapsed() < PATIENCE * 20, "{} messages are not acknowledged", under_way.len());
    }
}

/// What a subscriber got: for each publisher the numbers in the order in which they first came, and how often.
#[derive(Default)]
struct Heard {
    first: BTreeMap<usize, Vec<u64>>,
    times: BTreeMap<(usize, u64), u32>,
    connects: usize,
}

/// Takes everything that comes, in one session, over any number of connections.
fn subscribe(number: usize, address: SocketAddr, phase: &AtomicU8, ready: &AtomicBool) -> Heard {
    let mut peer = Peer::new(format!("subscriber-{number}"), address);
    let mut heard = Heard::default();
    let mut taken: HashSet<u16> = HashSet::new();
    let mut rng = fastrand::Rng::with_seed(number as u64);
    let mut last = Instant::now();
    loop {
        if peer.stream.is_none() {
            if peer.connect().is_none() {
                thread::yield_now();
                continue;
            }
            last = Instant::now();
            if !peer.promised {
                let filter = format!("kill/{number}");
                peer.send(&subscription(&filter, 2).encode(Version::V5, 1));
                peer.flush();
            }
        }
        let mut came = false;
        while let Some(packet) = peer.packet() {
            came = true;
            match packet {
                Packet::SubAck(granted) => {
                    assert_eq!(granted.codes, [2]);
                    peer.promised = true;
                    ready.store(true, Ordering::Release);
                }
                Packet::Publish(publish) => {
                    let (from, value) = publish.text().split_once(':').unwrap();
                    let (from, value): (usize, u64) = (from.parse().unwrap(), value.parse().unwrap());
                    if publish.qos == 1 || taken.insert(publish.id) {
                        let times = heard.times.entry((from, value)).or_default();
                        *times += 1;
                        if *times == 1 {
                            heard.first.entry(from).or_default().push(value);
                        }
                    }
                    peer.send(&ack(if publish.qos == 1 { 0x40 } else { 0x50 }, publish.id));
                }
                Packet::PubRel(release) => {
                    taken.remove(&release.id);
                    peer.send(&ack(0x70, release.id));
                }
                other => panic!("{}: {other:?}", peer.id),
            }
        }
        peer.flush();
        let phase = phase.load(Ordering::Acquire);
        if came {
            last = Instant::now();
        } else if phase == DRAIN && last.elapsed() > Duration::from_secs(2) && peer.stream.is_some() {
            heard.connects = peer.connects;
            return heard;
        }
        // Now and then it goes away, so that something waits for it.
        if phase == RUN && peer.promised && rng.u32(..200) == 0 {
            peer.lose();
            let until = Instant::now() + Duration::from_millis(rng.u64(..150));
            while Instant::now() < until {
                thread::yield_now();
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let kills: u64 = std::env::var("KILLS").ok().map_or(5, |kills| kills.parse().unwrap());
    let mut broker = Broker::start();
    let address = broker.address;
    let phase = Arc::new(AtomicU8::new(RUN));
    let mut rng = fastrand::Rng::new();
    let seed = rng.get_seed();
    println!("seed {seed:#x}");

    let subscribers: Vec<_> = (0..SUBSCRIBERS)
        .map(|number| {
            let (phase, ready) = (phase.clone(), Arc::new(AtomicBool::new(false)));
            let seen = ready.clone();
            (thread::spawn(move || subscribe(number, address, &phase, &seen)), ready)
        })
        .collect();
    let begun = Instant::now();
    while !subscribers.iter().all(|(_, ready)| ready.load(Ordering::Acquire)) {
        assert!(begun.elapsed() < PATIENCE, "nobody could subscribe");
        thread::yield_now();
    }
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let phase = phase.clone();
            thread::spawn(move || publish(number, address, &phase))
        })
        .collect();
    for _ in 0..kills {
        // The load runs for a moment that is not the same each time.
        thread::sleep(Duration::from_millis(rng.u64(50..500)));
        broker.kill_and_restart();
    }
    thread::sleep(Duration::from_millis(300));
    phase.store(FINISH, Ordering::Release);
    let published: Vec<Published> = publishers.into_iter().map(|thread| thread.join().unwrap()).collect();
    phase.store(DRAIN, Ordering::Release);
    let heard: Vec<Heard> = subscribers.into_iter().map(|(thread, _)| thread.join().unwrap()).collect();

    let (mut acked, mut lost, mut doubled, mut again) = (0, Vec::new(), Vec::new(), 0);
    for done in &published {
        let theirs = &heard[done.publisher % SUBSCRIBERS];
        acked += done.acked.len();
        for &number in &done.acked {
            match theirs.times.get(&(done.publisher, number)) {
                None => lost.push((done.publisher, number)),
                Some(&times) if times > 1 && qos_of(done.publisher) == 2 => {
                    doubled.push((done.publisher, number, times));
                }
                Some(&times) => again += times - 1,
            }
        }
        let order = theirs.first.get(&done.publisher).map_or(&[][..], Vec::as_slice);
        if let Some([first, second]) = order.array_windows().find(|[first, second]| first >= second) {
            panic!("publisher {}: {first} came before {second}", done.publisher);
        }
    }
    let connects: usize = heard.iter().map(|heard| heard.connects).sum();
    println!(
        "{kills} kills: {acked} messages acknowledged, {} lost, {} doubled at QoS 2, {again} came again at QoS 1; \
         {connects} connections of subscribers",
        lost.len(),
        doubled.len()
    );
    assert!(lost.is_empty(), "acknowledged and lost: {:?}", &lost[..lost.len().min(20)]);
    assert!(doubled.is_empty(), "more than once: {:?}", &doubled[..doubled.len().min(20)]);
    assert!(acked > 100 * kills as usize, "hardly any load");

    let mut reader = v5("reader").at(address).open();
    reader.subscribe_to_what_waits("kill-retained/+", 0);
    let mut shown: BTreeMap<usize, u64> = BTreeMap::new();
    let wanted = published.iter().filter(|done| done.retained.is_some()).count();
    while shown.len() < wanted {
        let publish = reader.expect_publish();
        let (from, value) = publish.text().split_once(':').unwrap();
        shown.insert(from.parse().unwrap(), value.parse().unwrap());
    }
    for done in &published {
        assert_eq!(shown.get(&done.publisher).copied(), done.retained, "retained by {}", done.publisher);
    }
}
