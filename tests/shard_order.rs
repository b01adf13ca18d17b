//! What holds between shards whatever the order of their turns: each test plays one order that once went wrong in the
//! simulator, with cores that are driven by hand.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;

use switchboard::clock::Now;
use switchboard::config::settings::Settings;
use switchboard::metrics::CloseReason;
use switchboard::protocol::{
    Connect, ConnectProperties, PacketId, Publish, PublishProperties, QoS, Subscribe, SubscribeFilter,
    SubscribeFilters, UserProperties, Version,
};
use switchboard::shard::{Core, Exchange};

/// A connected client: its shard and its connection's key.
#[derive(Clone, Copy)]
struct Client(usize, u32);

struct Shards {
    cores: Vec<Core>,
    exchange: Arc<Exchange>,
}

impl Shards {
    fn new(shards: usize) -> Self {
        let settings = Arc::new(Settings { shards, ..Settings::default() });
        let exchange = Arc::new(Exchange::new(settings, None, None, 7));
        let now = Now { mono: 1_000, unix: 1_000 };
        let cores = (0..shards).map(|id| Core::new(id as u16, exchange.clone(), now, 7)).collect();
        Self { cores, exchange }
    }

    /// The first text of a kind that lives on a shard.
    fn on(&self, shard: usize, text: impl Fn(usize) -> String) -> String {
        (0..10_000).map(text).find(|text| usize::from(self.exchange.home(text)) == shard).unwrap()
    }

    /// Runs bytes of a client, ends its shard's turn and says what it is sent. Nobody opens mail unless it must.
    fn run(&mut self, client: Client, bytes: &[u8]) -> Vec<u8> {
        self.cores[client.0].receive(client.1, bytes);
        self.cores[client.0].end_turn();
        self.heard(client)
    }

    fn heard(&mut self, Client(shard, key): Client) -> Vec<u8> {
        let clients = &mut self.cores[shard].clients;
        let Some(client) = clients.connections.get_mut(key as usize) else { return Vec::new() };
        let bytes = client.out.slices().concat_bytes();
        client.dirty = false;
        client.out.advance(bytes.len(), &mut clients.pool);
        clients.dirty.retain(|dirty| *dirty != key);
        bytes
    }

    fn connect(&mut self, shard: usize, name: &str) -> Client {
        let client_id = self.on(shard, |n| format!("{name}{n}"));
        let mut bytes = Vec::new();
        Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: &client_id,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties::default(),
        }
        .encode(&mut bytes);
        let client = Client(shard, self.cores[shard].accept(0));
        assert_eq!(self.run(client, &bytes)[0], 0x20, "CONNACK");
        client
    }

    fn open_mail(&mut self) {
        for _ in 0..4 {
            for core in &mut self.cores {
                core.open_mail(|_| {});
                core.end_turn();
            }
        }
    }
}

/// All of the slices in one.
trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for smallvec::SmallVec<[std::io::IoSlice<'_>; 64]> {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|slice| slice.iter().copied()).collect()
    }
}

fn subscribe(filter: &str, no_local: bool) -> Vec<u8> {
    let (mut block, mut bytes) = (Vec::new(), Vec::new());
    SubscribeFilter { no_local, ..SubscribeFilter::new(filter, QoS::AtLeastOnce) }.put(&mut block);
    Subscribe {
        packet_id: PacketId::new(1).unwrap(),
        subscription_id: None,
        user: UserProperties::encoded(&[]).unwrap(),
        filters: SubscribeFilters::encoded(&block).unwrap(),
    }
    .encode(Version::V5, &mut bytes);
    bytes
}

fn publish(topic: &str, payload: &[u8], retain: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain,
        topic,
        packet_id: PacketId::new(1),
        properties: PublishProperties::EMPTY,
        payload,
    }
    .encode(Version::V5, &mut bytes);
    bytes
}

fn holds(bytes: &[u8], payload: &[u8]) -> bool {
    bytes.windows(payload.len()).any(|window| window == payload)
}

/// A member on shard 0 subscribes to a group on shard 1; somebody who knows publishes on `publisher`'s shard.
fn shared_after_suback(publisher: usize) {
    let mut shards = Shards::new(3);
    let group = shards.on(1, |n| format!("$share/g{n}/queue/#"));
    let (member, other) = (shards.connect(0, "member"), shards.connect(publisher, "other"));
    assert_eq!(shards.run(member, &subscribe(&group, false))[0], 0x90, "SUBACK");
    let puback = shards.run(other, &publish("queue/1", b"after the suback", false));
    assert_eq!(puback[..4], [0x40, 2, 0, 1], "somebody is subscribed");
    shards.open_mail();
    assert!(holds(&shards.heard(member), b"after the suback"));
}

#[test]
fn a_member_counts_from_its_suback_for_a_third_shard() {
    shared_after_suback(2);
}

#[test]
fn a_member_counts_from_its_suback_for_the_shard_of_its_group() {
    shared_after_suback(1);
}

#[test]
fn a_retained_message_is_there_from_its_puback() {
    let mut shards = Shards::new(2);
    let topic = shards.on(1, |n| format!("status/{n}"));
    let (publisher, subscriber) = (shards.connect(0, "publisher"), shards.connect(1, "subscriber"));
    assert_eq!(shards.run(publisher, &publish(&topic, b"retained", true))[0], 0x40, "PUBACK");
    let heard = shards.run(subscriber, &subscribe(&topic, false));
    shards.open_mail();
    assert!(holds(&[heard, shards.heard(subscriber)].concat(), b"retained"));
}

#[test]
fn no_local_spares_nobody_else_with_the_same_key_on_another_shard() {
    let mut shards = Shards::new(2);
    // The first session of each shard: both have slab key 0.
    let (publisher, subscriber) = (shards.connect(0, "publisher"), shards.connect(1, "subscriber"));
    shards.run(subscriber, &subscribe("news/#", true));
    for size in [20, 3_000, 10_000] {
        let payload = vec![b'x'; size];
        shards.run(publisher, &publish("news/1", &payload, false));
        shards.open_mail();
        assert!(holds(&shards.heard(subscriber), &payload), "{size} bytes");
    }
}

#[test]
fn a_group_that_ends_with_a_bounce_leaves_no_interest() {
    let mut shards = Shards::new(2);
    let group = shards.on(1, |n| format!("$share/g{n}/queue/#"));
    let (member, other) = (shards.connect(0, "member"), shards.connect(1, "other"));
    shards.run(member, &subscribe(&group, false));
    shards.open_mail();
    // The message is on its way to the member's shard when the member goes for good.
    shards.run(other, &publish("queue/1", b"x", false));
    shards.cores[0].hang_up(member.1, CloseReason::ClientGone);
    shards.cores[0].forget(member.1);
    shards.cores[0].end_turn();
    shards.open_mail();
    assert!(shards.exchange.interest.is_empty(), "{:?}", shards.exchange.interest);
}

#[test]
fn a_publisher_waits_while_the_other_shard_does_not_open_its_mail() {
    let mut shards = Shards::new(2);
    let (publisher, subscriber) = (shards.connect(0, "publisher"), shards.connect(1, "subscriber"));
    shards.run(subscriber, &subscribe("stream", false));
    let payload = vec![b'x'; 512 * 1024];
    let paused =
        |shards: &Shards| shards.cores[0].clients.connections.get(publisher.1 as usize).unwrap().paused;
    let both = [publish("stream", &payload, false), publish("stream", b"later", false)].concat();
    let (mut sent, mut acks) = (0, 0);
    while !paused(&shards) {
        sent += 1;
        assert!(sent <= 16, "{sent} times half a MiB wait");
        acks += shards.run(publisher, &both).len() / 4;
    }
    assert!(sent * payload.len() > 4 << 20);
    assert_eq!(acks, 2 * sent - 1, "the last packet was not run");
    let mut woken = Vec::new();
    shards.cores[1].open_mail(|sender| woken.push(sender));
    assert_eq!(woken, [0]);
    shards.cores[1].end_turn();
    shards.cores[0].end_turn();
    assert_eq!(shards.cores[0].effects.resume, [publisher.1]);
    shards.cores[0].resume(publisher.1);
    shards.cores[0].end_turn();
    assert_eq!(shards.heard(publisher)[0], 0x40, "PUBACK of what came later");
    shards.open_mail();
    let (mut bytes, mut laters) = (0, 0);
    loop {
        let heard = shards.heard(subscriber);
        if heard.is_empty() {
            break;
        }
        bytes += heard.len();
        laters += heard.windows(5).filter(|window| window == b"later").count();
        shards.cores[1].drained(subscriber.1);
    }
    assert!(bytes > sent * payload.len(), "nothing is lost");
    assert_eq!(laters, sent);
}

#[test]
fn who_subscribes_while_a_message_is_on_its_way_to_be_retained_learns_of_it() {
    let mut shards = Shards::new(3);
    let topic = shards.on(2, |n| format!("state/{n}"));
    let (publisher, subscriber) = (shards.connect(0, "publisher"), shards.connect(1, "subscriber"));
    // The publisher's shard has taken the message in and looked at the interest, and its turn is not over.
    shards.cores[0].receive(publisher.1, &publish(&topic, b"news", true));
    // Meanwhile somebody subscribes and is told by the topic's home that nothing is retained.
    shards.run(subscriber, &subscribe(&topic, false));
    for shard in [2, 1] {
        shards.cores[shard].open_mail(|_| {});
        shards.cores[shard].end_turn();
    }
    assert!(!holds(&shards.heard(subscriber), b"news"));
    shards.cores[0].end_turn();
    shards.open_mail();
    assert!(holds(&shards.heard(subscriber), b"news"));
}

#[test]
fn newer_messages_of_a_group_wait_for_those_that_come_back() {
    let mut shards = Shards::new(3);
    let group = shards.on(1, |n| format!("$share/g{n}/queue/#"));
    let first = shards.connect(0, "first");
    let (second, sender) = (shards.connect(2, "second"), shards.connect(1, "sender"));
    shards.run(first, &subscribe(&group, false));
    shards.open_mail();
    shards.run(sender, &publish("queue/1", b"older", false));
    // The member goes for good before its shard has opened the mail with the message.
    shards.cores[0].hang_up(first.1, CloseReason::ClientGone);
    shards.cores[0].forget(first.1);
    shards.cores[0].end_turn();
    shards.run(second, &subscribe(&group, false));
    shards.cores[1].open_mail(|_| {});
    shards.cores[1].end_turn();
    shards.run(sender, &publish("queue/1", b"newer", false));
    shards.cores[2].open_mail(|_| {});
    assert!(!holds(&shards.heard(second), b"newer"), "the older one is still to come back");
    shards.open_mail();
    let heard = shards.heard(second);
    let place = |text: &[u8]| heard.windows(text.len()).position(|window| window == text).unwrap();
    assert!(place(b"older") < place(b"newer"));
}
