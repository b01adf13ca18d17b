//! What one delivery costs in instructions, counted by callgrind: decode, rules, encode, without sockets.
//!
//! Each scene is played on one [`Core`] as its driver would: bytes in, the end of the turn, output taken. Setting up
//! and the first round, which fills the pools, are not counted. `run.sh` runs this and `verdict.rs` judges it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
#![allow(missing_docs, reason = "the benchmark's macros write public items")]

mod cast;

use std::hint::black_box;
use std::sync::Arc;

use bytes::BytesMut;
use cast::{Cast, FANOUT, POINT_TO_POINT, ROUNDS};
use gungraun::{LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use mqttbytes::{QoS, qos, v4, v5};
use switchboard::clock::Now;
use switchboard::config::Settings;
use switchboard::metrics::Qos;
use switchboard::shard::{Core, Exchange};

/// What the broker itself runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V311,
    V5,
}

/// What is read from which connections in one turn.
type Turn = Vec<(u32, Vec<u8>)>;

/// A broker with its clients, and what they will say.
struct Scene {
    core: Core,
    now: Now,
    warm: Vec<Turn>,
    counted: Vec<Turn>,
    writing: Vec<u32>,
    /// Messages that must have been delivered in the end, and their QoS.
    deliveries: u64,
    level: u8,
}

impl Scene {
    fn set(cast: &Cast, version: Version, level: u8) -> Self {
        let settings = Arc::new(Settings { shards: 1, ..Settings::default() });
        let now = Now { mono: 1_000, unix: 1_700_000_000_000 };
        let core = Core::new(0, Arc::new(Exchange::new(settings, None, None, 7)), now, 7);
        let mut scene = Self {
            core,
            now,
            warm: Vec::new(),
            counted: Vec::new(),
            writing: Vec::new(),
            deliveries: (u64::from(ROUNDS) + 1) * cast.deliveries(),
            level,
        };
        let (mut publishers, mut receivers) = (Vec::new(), Vec::new());
        for number in 0..cast.publishers {
            let topic = format!("tenant/main/customer/{number:05}/down");
            publishers.push((scene.enters(version, &format!("publisher-{number}")), topic.clone()));
            for receiver in 0..cast.receivers {
                let connection = scene.enters(version, &format!("receiver-{number}-{receiver}"));
                scene.play(&[(connection, subscribe(version, &topic, qos(level).unwrap()))]);
                receivers.push(connection);
            }
        }
        for round in 0..=ROUNDS {
            let publish = |topic: &str| {
                (1..=cast.window).flat_map(|id| publish(version, topic, level, id, cast.payload)).collect()
            };
            let mut turns: Vec<Turn> =
                vec![publishers.iter().map(|(connection, topic)| (*connection, publish(topic))).collect()];
            if level > 0 {
                let first = round * cast.window + 1;
                let acks: Vec<u8> = (first..first + cast.window).flat_map(puback).collect();
                turns.push(receivers.iter().map(|&connection| (connection, acks.clone())).collect());
            }
            if round == 0 { scene.warm = turns } else { scene.counted.extend(turns) }
        }
        for turn in std::mem::take(&mut scene.warm) {
            scene.play(&turn);
        }
        scene
    }

    /// A client comes in.
    fn enters(&mut self, version: Version, id: &str) -> u32 {
        let connection = self.core.accept(0);
        self.play(&[(connection, connect(version, id))]);
        connection
    }

    /// One turn of the loop, as the driver does it; nothing is written, but every output is looked at.
    fn play(&mut self, reads: &[(u32, Vec<u8>)]) {
        self.core.set_now(self.now);
        for (connection, bytes) in reads {
            self.core.receive(*connection, bytes);
        }
        self.core.end_turn();
        let mut writing = std::mem::take(&mut self.writing);
        std::mem::swap(&mut writing, &mut self.core.clients.dirty);
        for &key in &writing {
            let client = self.core.clients.connections.get_mut(key as usize).unwrap();
            client.dirty = false;
            let output = black_box(client.out.contiguous().unwrap()).len();
            client.out.advance(output, &mut self.core.clients.pool);
            self.core.drained(key);
        }
        writing.clear();
        self.writing = writing;
    }

    /// All went as it should: a scene in which nobody got anything would be cheap.
    fn check(mut self) {
        let counters = self.core.counters();
        assert_eq!(counters.messages_sent.count(Qos::level(self.level)), self.deliveries);
        assert_eq!(counters.messages_dropped.total() + counters.connections_closed.total(), 0);
        assert!(self.core.clients.sessions.iter().all(|(_, s)| s.outbox.is_none()), "all is acknowledged");
    }
}

fn written(write: impl FnOnce(&mut BytesMut) -> Result<usize, mqttbytes::Error>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    write(&mut bytes).unwrap();
    bytes.to_vec()
}

fn connect(version: Version, id: &str) -> Vec<u8> {
    match version {
        Version::V311 => written(|out| v4::Connect::new(id).write(out)),
        Version::V5 => written(|out| v5::Connect::new(id).write(out)),
    }
}

fn subscribe(version: Version, filter: &str, level: QoS) -> Vec<u8> {
    match version {
        Version::V311 => {
            let mut packet = v4::Subscribe::new(filter, level);
            packet.pkid = 1;
            written(|out| packet.write(out))
        }
        Version::V5 => {
            let mut packet = v5::Subscribe::new(filter, level);
            packet.pkid = 1;
            written(|out| packet.write(out))
        }
    }
}

fn publish(version: Version, topic: &str, level: u8, id: u16, payload: usize) -> Vec<u8> {
    let (level, payload) = (qos(level).unwrap(), vec![b'x'; payload]);
    match version {
        Version::V311 => {
            let mut packet = v4::Publish::new(topic, level, payload);
            packet.pkid = id;
            written(|out| packet.write(out))
        }
        Version::V5 => {
            let mut packet = v5::Publish::new(topic, level, payload);
            packet.pkid = id;
            written(|out| packet.write(out))
        }
    }
}

/// The same in both versions.
fn puback(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

fn fanout(version: Version, level: u8) -> Scene {
    Scene::set(&FANOUT, version, level)
}

fn point_to_point(version: Version, level: u8) -> Scene {
    Scene::set(&POINT_TO_POINT, version, level)
}

#[library_benchmark(teardown = Scene::check)]
#[bench::fanout_v311_qos0(args = (Version::V311, 0), setup = fanout)]
#[bench::fanout_v311_qos1(args = (Version::V311, 1), setup = fanout)]
#[bench::fanout_v5_qos0(args = (Version::V5, 0), setup = fanout)]
#[bench::fanout_v5_qos1(args = (Version::V5, 1), setup = fanout)]
#[bench::p2p_v311_qos0(args = (Version::V311, 0), setup = point_to_point)]
#[bench::p2p_v311_qos1(args = (Version::V311, 1), setup = point_to_point)]
#[bench::p2p_v5_qos0(args = (Version::V5, 0), setup = point_to_point)]
#[bench::p2p_v5_qos1(args = (Version::V5, 1), setup = point_to_point)]
fn deliver(mut scene: Scene) -> Scene {
    let turns = std::mem::take(&mut scene.counted);
    for turn in &turns {
        scene.play(turn);
    }
    scene.counted = turns; // not freed here, where it would be counted
    scene
}

library_benchmark_group!(name = delivery; benchmarks = deliver);
main!(config = LibraryBenchmarkConfig::default(); library_benchmark_groups = delivery);
