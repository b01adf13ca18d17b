//! Bounds on how fast clients send and come, with the time as an argument: one shard that is driven by hand.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use switchboard::clock::Now;
use switchboard::config::settings::Settings;
use switchboard::metrics::{CloseReason, RefuseReason};
use switchboard::protocol::{
    Connect, ConnectProperties, Framed, Packet, Publish, PublishProperties, QoS, Version, decode, frame,
};
use switchboard::session::Phase;
use switchboard::shard::{Core, Exchange};

/// What is read from a socket at once, at most.
const READ: usize = 64 * 1024;

struct Shard {
    core: Core,
    ms: u64,
    /// What clients have sent and nobody has read.
    unread: HashMap<u32, Vec<u8>>,
}

impl Shard {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { shards: 1, ..Settings::default() };
        change(&mut settings);
        let exchange = Arc::new(Exchange::new(Arc::new(settings), None, None, 7));
        let ms = 1_000_000;
        let core = Core::new(0, exchange, Now { mono: ms, unix: ms }, 7);
        Self { core, ms, unread: HashMap::new() }
    }

    /// Lets time pass, tick by tick, as the driver does.
    fn pass(&mut self, ms: u64) {
        let until = self.ms + ms;
        while self.ms < until {
            self.ms = (self.ms + 100).min(until);
            self.core.set_now(Now { mono: self.ms, unix: self.ms });
            self.core.tick();
            self.turn();
        }
    }

    /// Reads who may be read, a buffer at a time, until nobody may or nothing is left.
    fn turn(&mut self) {
        loop {
            self.core.end_turn();
            for key in std::mem::take(&mut self.core.effects.resume) {
                self.core.resume(key);
            }
            self.core.end_turn();
            let open = |key: &u32| {
                let client = self.core.clients.connections.get(*key as usize);
                client.is_some_and(|client| !client.paused && client.link.phase != Phase::Closing)
            };
            let ready = self.unread.iter().find(|(key, bytes)| !bytes.is_empty() && open(key));
            let Some(key) = ready.map(|(key, _)| *key) else { return };
            let bytes = self.unread.get_mut(&key).unwrap();
            let read: Vec<u8> = bytes.drain(..bytes.len().min(READ)).collect();
            self.core.receive(key, &read);
        }
    }

    fn sends(&mut self, key: u32, bytes: &[u8]) {
        self.unread.entry(key).or_default().extend_from_slice(bytes);
        self.turn();
    }

    /// What a client is sent.
    fn hears(&mut self, key: u32) -> Vec<u8> {
        let clients = &mut self.core.clients;
        let Some(client) = clients.connections.get_mut(key as usize) else { return Vec::new() };
        let bytes: Vec<u8> = client.out.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        client.dirty = false;
        client.out.advance(bytes.len(), &mut clients.pool);
        clients.dirty.retain(|dirty| *dirty != key);
        bytes
    }

    /// A client comes; its key and what it is answered.
    fn comes(&mut self, version: Version, client_id: &str) -> (u32, Vec<u8>) {
        let mut bytes = Vec::new();
        Connect {
            version,
            clean_start: true,
            keep_alive: 0,
            client_id,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties::default(),
        }
        .encode(&mut bytes);
        let key = self.core.accept(0);
        self.sends(key, &bytes);
        let answer = self.hears(key);
        (key, answer)
    }

    fn enters(&mut self, version: Version, client_id: &str) -> u32 {
        let (key, answer) = self.comes(version, client_id);
        assert_eq!((answer[0], answer[3]), (0x20, 0), "CONNACK {answer:x?}");
        key
    }

    fn taken(&mut self) -> u64 {
        self.core.counters().messages_received.total()
    }

    fn is_open(&self, key: u32) -> bool {
        self.core.clients.connections.get(key as usize).is_some_and(|c| c.link.phase == Phase::Open)
    }

    fn closed_for(&mut self, reason: CloseReason) -> u64 {
        self.core.counters().connections_closed.count(reason)
    }
}

fn publish(version: Version, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "t",
        packet_id: None,
        properties: PublishProperties::EMPTY,
        payload: &vec![b'.'; payload],
    }
    .encode(version, &mut bytes);
    bytes
}

#[test]
fn who_sends_faster_than_it_may_is_not_read_and_loses_nothing() {
    let mut shard = Shard::new(|s| {
        s.limits.rate.messages = 100;
        s.limits.rate.message_burst = 50;
        s.limits.rate.patience = Duration::ZERO;
    });
    let (fast, fair) = (shard.enters(Version::V311, "fast"), shard.enters(Version::V311, "fair"));
    shard.sends(fast, &publish(Version::V311, 8).repeat(5000));
    let at_once = shard.taken();
    assert!((50..=52).contains(&at_once), "{at_once}");
    // It costs nobody else anything.
    shard.sends(fair, &publish(Version::V311, 8).repeat(40));
    assert_eq!(shard.taken(), at_once + 40);
    for seconds in 1..=40 {
        shard.pass(1000);
        let taken = shard.taken() - 40;
        assert!((20 + 100 * seconds..=52 + 100 * seconds).contains(&taken), "{taken} after {seconds} s");
    }
    shard.pass(11_000);
    assert_eq!(shard.taken(), 5040);
    assert!(shard.is_open(fast));
    assert!(shard.core.counters().rate_pauses > 50);
}

#[test]
fn bytes_are_bounded_whatever_they_say() {
    let mut shard = Shard::new(|s| {
        s.limits.rate.bytes = 10_000;
        s.limits.rate.patience = Duration::ZERO;
    });
    let client = shard.enters(Version::V5, "pings");
    shard.sends(client, &[0xC0, 0].repeat(50_000));
    let mut pongs = shard.hears(client).len();
    assert!((9_900..=10_010).contains(&pongs), "{pongs}");
    for seconds in 1..=9 {
        shard.pass(1000);
        pongs += shard.hears(client).len();
        let least = 9_000 * seconds;
        assert!((least..=15_100 + 10_000 * seconds).contains(&pongs), "{pongs} after {seconds} s");
    }
    // One packet above all that may come at once is taken, and paid for.
    let mut shard = Shard::new(|s| {
        s.limits.rate.bytes = 10_000;
        s.limits.rate.byte_burst = 1000;
        s.limits.rate.patience = Duration::ZERO;
    });
    let client = shard.enters(Version::V311, "large");
    shard.sends(client, &publish(Version::V311, 100_000));
    shard.sends(client, &publish(Version::V311, 1));
    assert_eq!(shard.taken(), 1);
    shard.pass(9_700);
    assert_eq!(shard.taken(), 1);
    shard.pass(400);
    assert_eq!(shard.taken(), 2);
}

#[test]
fn who_does_not_slow_down_is_told_0x96_and_who_does_is_not() {
    let limit = |s: &mut Settings| {
        s.limits.rate.messages = 10;
        s.limits.rate.patience = Duration::from_secs(5);
    };
    let mut shard = Shard::new(limit);
    let (v5, old) = (shard.enters(Version::V5, "v5"), shard.enters(Version::V311, "old"));
    let moderate = shard.enters(Version::V311, "moderate");
    shard.sends(v5, &publish(Version::V5, 8).repeat(1000));
    shard.sends(old, &publish(Version::V311, 8).repeat(1000));
    for _ in 0..10 {
        // Bursts above what may come at once, and then a rest.
        shard.sends(moderate, &publish(Version::V311, 8).repeat(15));
        shard.pass(2500);
    }
    assert!(shard.is_open(moderate));
    assert!(!shard.is_open(v5) && !shard.is_open(old));
    let last = shard.hears(v5);
    assert_eq!((last[0], last[2]), (0xE0, 0x96), "{last:x?}");
    assert!(shard.hears(old).is_empty());
    assert_eq!(shard.closed_for(CloseReason::MessageRate), 2);
    // The burst, five seconds of the rate, and at most half a burst more.
    let taken = shard.taken() - 150;
    assert!((2 * 55..=2 * 67).contains(&taken), "{taken}");
}

#[test]
fn a_client_that_has_gone_leaves_no_pause_to_the_next() {
    let mut shard = Shard::new(|s| s.limits.rate.messages = 10);
    let gone = shard.enters(Version::V311, "gone");
    shard.sends(gone, &publish(Version::V311, 8).repeat(100));
    shard.core.hang_up(gone, CloseReason::ClientGone);
    shard.core.forget(gone);
    shard.unread.clear();
    let next = shard.enters(Version::V311, "next");
    assert_eq!(next, gone, "the same key");
    let before = shard.taken();
    shard.sends(next, &publish(Version::V311, 8).repeat(10));
    assert_eq!(shard.taken(), before + 10);
    shard.pass(2000);
    shard.sends(next, &publish(Version::V311, 8).repeat(10));
    assert_eq!(shard.taken(), before + 20);
}

#[test]
fn without_a_bound_nobody_is_held_to_one() {
    let mut shard = Shard::new(|_| {});
    let client = shard.enters(Version::V311, "free");
    shard.sends(client, &publish(Version::V311, 8).repeat(100_000));
    assert_eq!(shard.taken(), 100_000);
    assert!(!shard.core.clients.connections.get(client as usize).unwrap().rated);
    assert_eq!(shard.core.counters().rate_pauses, 0);
}

#[test]
fn a_client_id_that_connects_too_often_is_refused_and_keeps_the_connection_that_it_has() {
    let mut shard = Shard::new(|s| {
        s.limits.guard.client_connects = 4;
        s.limits.guard.client_ban = Duration::from_secs(30);
    });
    for _ in 0..2 {
        shard.enters(Version::V5, "twice");
        shard.enters(Version::V311, "twice");
    }
    let last = shard.enters(Version::V5, "other");
    let (_, refused) = shard.comes(Version::V5, "twice");
    assert_eq!((refused[0], refused[3]), (0x20, 0x9F), "{refused:x?}");
    let (_, refused) = shard.comes(Version::V311, "twice");
    assert_eq!(refused, [0x20, 2, 0, 3]);
    assert_eq!(shard.closed_for(CloseReason::TakenOver), 3, "the fourth is there");
    assert!(shard.is_open(last));
    // Clients without an id are never the same.
    for _ in 0..20 {
        shard.enters(Version::V311, "");
    }
    shard.pass(29_900);
    assert_eq!(shard.comes(Version::V311, "twice").1[3], 3);
    shard.pass(100);
    shard.enters(Version::V5, "twice");
    assert_eq!(shard.core.counters().connects_refused.count(RefuseReason::Flapping), 3);
}

#[test]
fn handshakes_are_counted_until_they_end_in_whatever_way() {
    let mut shard = Shard::new(|s| {
        s.listeners[0].connect_timeout = Duration::from_secs(2);
        s.limits.max_client_id_bytes = 23;
    });
    let silent: Vec<u32> = (0..5).map(|_| shard.core.accept(0)).collect();
    assert_eq!(shard.core.handshakes(0), 5);
    shard.enters(Version::V5, "one");
    assert_eq!(shard.core.handshakes(0), 5);
    shard.comes(Version::V5, &"x".repeat(24));
    assert_eq!(shard.core.handshakes(0), 5, "refused");
    shard.core.hang_up(silent[0], CloseReason::ClientGone);
    assert_eq!(shard.core.handshakes(0), 4);
    shard.core.forget(silent[0]);
    assert_eq!(shard.core.handshakes(0), 4);
    shard.sends(silent[1], &[0xC0, 0]);
    assert_eq!(shard.core.handshakes(0), 3, "not CONNECT");
    shard.core.forget(silent[2]);
    assert_eq!(shard.core.handshakes(0), 2, "handed over");
    shard.pass(2_100);
    assert_eq!(shard.core.handshakes(0), 0, "timed out");
    assert_eq!(shard.closed_for(CloseReason::ConnectTimeout), 2);
}

impl Shard {
    /// Ticks of a loop that is so late each time.
    fn drifts(&mut self, drift: u64, ticks: usize) {
        for _ in 0..ticks {
            self.pass(100 + drift);
            self.core.observe_drift(drift);
        }
    }
}

#[test]
fn an_overloaded_shard_serves_who_is_there_and_lets_nobody_new_in() {
    let mut shard = Shard::new(|_| {});
    let inside = shard.enters(Version::V5, "inside");
    shard.drifts(600, 2);
    shard.enters(Version::V5, "just in time");
    shard.drifts(600, 1);
    assert!(shard.core.is_overloaded());
    let (_, refused) = shard.comes(Version::V5, "late");
    assert_eq!((refused[0], refused[3]), (0x20, 0x97), "{refused:x?}");
    assert_eq!(shard.comes(Version::V311, "late").1, [0x20, 2, 0, 3]);
    assert_eq!(shard.comes(Version::V311, "").1, [0x20, 2, 0, 3]);
    // Nor does it take the place of the one that is there.
    shard.comes(Version::V5, "inside");
    assert!(shard.is_open(inside));
    shard.sends(inside, &publish(Version::V5, 8).repeat(10));
    assert_eq!(shard.taken(), 10);
    assert_eq!(shard.core.gauges().overload, 1);
    shard.drifts(0, 30);
    assert_eq!(shard.comes(Version::V311, "late").1, [0x20, 2, 0, 3]);
    shard.drifts(0, 1);
    shard.enters(Version::V5, "late");
    assert_eq!(shard.core.gauges().overload, 0);
    assert_eq!(shard.core.counters().overloads, 1);
    assert_eq!(shard.core.counters().connects_refused.count(RefuseReason::Overload), 5);
}

#[test]
fn an_overloaded_shard_sends_to_another_server_if_there_is_one() {
    let mut shard = Shard::new(|s| s.limits.overload.redirect = "other.example.com:1883".to_owned());
    shard.drifts(600, 3);
    let (_, refused) = shard.comes(Version::V5, "late");
    let Ok(Framed::Frame(frame)) = frame(&refused, 1000) else { panic!("{refused:x?}") };
    let Ok(Packet::ConnAck(connack)) = decode(frame, Version::V5) else { panic!("{refused:x?}") };
    assert_eq!(connack.reason.0, 0x9F);
    assert_eq!(connack.properties.server_reference, Some("other.example.com:1883"));
    assert_eq!(shard.comes(Version::V311, "late").1, [0x20, 2, 0, 3]);
}

#[test]
fn an_overloaded_shard_shows_retained_messages_slower() {
    let shown = |overloaded: bool| {
        let mut shard = Shard::new(|_| {});
        let publisher = shard.enters(Version::V311, "publisher");
        for n in 0..100 {
            let mut bytes = Vec::new();
            Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: true,
                topic: &format!("kept/{n}"),
                packet_id: None,
                properties: PublishProperties::EMPTY,
                payload: b"x",
            }
            .encode(Version::V311, &mut bytes);
            shard.sends(publisher, &bytes);
        }
        let clients: Vec<u32> = (0..50).map(|n| shard.enters(Version::V311, &format!("c{n}"))).collect();
        if overloaded {
            shard.drifts(600, 3);
        }
        let filter = [0x82, 11, 0, 1, 0, 6, b'k', b'e', b'p', b't', b'/', b'+', 0];
        for client in &clients {
            shard.core.receive(*client, &filter);
        }
        shard.core.end_turn();
        let at_once = shard.core.counters().retained_replayed;
        for _ in 0..100 {
            shard.core.end_turn();
        }
        assert_eq!(shard.core.counters().retained_replayed, 5000, "all of them get everything");
        at_once
    };
    assert_eq!(shown(false), 3200);
    assert_eq!(shown(true), 200);
}
