//! rumqttc, MQTT 3.1.1 and 5, against the broker: the scenarios that `tests/interop/` plays with paho and MQTT.js.
//!
//! Each client is driven by hand on the test's thread: it reads and writes only while it is asked for something.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_imports,
    clippy::doc_markdown,
    reason = "tests"
)]

mod dialogue;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dialogue::{broker, unique};

const PATIENCE: Duration = Duration::from_secs(10);
const COUNT: usize = 100;
const ROOM: u32 = 2 * 1024 * 1024;

/// A message as it arrived.
#[derive(Debug)]
struct Got {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
}

/// What a CONNECT may ask for besides its name.
#[derive(Clone, Copy, Default)]
struct Wishes<'a> {
    keep_session: bool,
    /// Topic and payload, at QoS 1.
    will: Option<(&'a str, &'a str)>,
}

/// One connection of either version.
trait Peer: Sized {
    fn connect(name: &str, wishes: Wishes<'_>) -> Self;
    fn session_present(&self) -> bool;
    /// Returns after SUBACK.
    fn subscribe(&mut self, filter: &str, qos: u8);
    /// Returns, above QoS 0, when the broker has taken the message.
    fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, retain: bool);
    fn receive_within(&mut self, time: Duration) -> Option<Got>;
    /// Says DISCONNECT.
    fn disconnect(self);

    fn new(name: &str) -> Self {
        Self::connect(&unique(name), Wishes::default())
    }

    #[track_caller]
    fn receive(&mut self) -> Got {
        self.receive_within(PATIENCE).unwrap_or_else(|| panic!("no message came"))
    }

    #[track_caller]
    fn expect(&mut self, topic: &str, payload: &str) -> Got {
        let got = self.receive();
        assert_eq!(
            (got.topic.as_str(), got.payload.as_slice()),
            (topic, payload.as_bytes()),
            "another message"
        );
        got
    }
}

/// The two versions of rumqttc have the same shape and no type in common.
macro_rules! peer {
    ($name:ident, $module:ident) => {
        struct $name {
            client: $module::Client,
            connection: $module::Connection,
            inbox: VecDeque<Got>,
            session_present: bool,
        }

        impl $name {
            /// Goes on until this says it has seen what it waits for; messages that come meanwhile are kept.
            #[track_caller]
            fn drive(&mut self, what: &str, mut seen: impl FnMut(&$module::Event) -> bool) {
                let until = Instant::now() + PATIENCE;
                while let Some(event) = self.event(until.saturating_duration_since(Instant::now())) {
                    if seen(&event) {
                        return;
                    }
                }
                panic!("{what}: nothing came");
            }

            #[track_caller]
            fn event(&mut self, time: Duration) -> Option<$module::Event> {
                let event = match self.connection.recv_timeout(time) {
                    Ok(Ok(event)) => event,
                    Ok(Err(error)) => panic!("the connection failed: {error}"),
                    Err(_) => return None,
                };
                if let $module::Event::Incoming($module::Packet::Publish(publish)) = &event {
                    self.inbox.push_back($module::got(publish));
                }
                Some(event)
            }
        }

        impl Peer for $name {
            fn connect(name: &str, wishes: Wishes<'_>) -> Self {
                let (client, connection) = $module::Client::new($module::options(name, wishes), 100);
                let mut peer = Self { client, connection, inbox: VecDeque::new(), session_present: false };
                let mut present = false;
                peer.drive("CONNACK", |event| match event {
                    $module::Event::Incoming($module::Packet::ConnAck(connack)) => {
                        present = connack.session_present;
                        true
                    }
                    _ => false,
                });
                peer.session_present = present;
                peer
            }

            fn session_present(&self) -> bool {
                self.session_present
            }

            fn subscribe(&mut self, filter: &str, qos: u8) {
                self.client.subscribe(filter, $module::qos(qos)).unwrap();
                self.drive("SUBACK", |event| {
                    matches!(event, $module::Event::Incoming($module::Packet::SubAck(_)))
                });
            }

            fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, retain: bool) {
                self.client.publish(topic, $module::qos(qos), retain, payload.to_vec()).unwrap();
                self.drive("acknowledgement", |event| match event {
                    $module::Event::Outgoing(rumqttc::Outgoing::Publish(_)) => qos == 0,
                    $module::Event::Incoming($module::Packet::PubAck(_)) => qos == 1,
                    $module::Event::Incoming($module::Packet::PubComp(_)) => qos == 2,
                    _ => false,
                });
            }

            fn receive_within(&mut self, time: Duration) -> Option<Got> {
                let until = Instant::now() + time;
                while self.inbox.is_empty() {
                    self.event(until.saturating_duration_since(Instant::now()))?;
                }
                self.inbox.pop_front()
            }

            fn disconnect(mut self) {
                self.client.disconnect().unwrap();
                self.drive("DISCONNECT", |event| {
                    matches!(event, $module::Event::Outgoing(rumqttc::Outgoing::Disconnect))
                });
            }
        }
    };
}

mod v4 {
    pub(crate) use rumqttc::{Client, Connection, Event, Packet};

    use super::{Got, ROOM, Wishes, broker};

    pub(crate) fn qos(level: u8) -> rumqttc::QoS {
        rumqttc::qos(level).unwrap()
    }

    pub(crate) fn options(name: &str, wishes: Wishes<'_>) -> rumqttc::MqttOptions {
        let addr = broker().addr;
        let mut options = rumqttc::MqttOptions::new(name, addr.ip().to_string(), addr.port());
        options.set_clean_session(!wishes.keep_session);
        options.set_max_packet_size(ROOM as usize, ROOM as usize);
        if let Some((topic, payload)) = wishes.will {
            options.set_last_will(rumqttc::LastWill::new(topic, payload, qos(1), false));
        }
        options
    }

    pub(crate) fn got(publish: &rumqttc::Publish) -> Got {
        Got {
            topic: publish.topic.clone(),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
        }
    }
}

mod v5 {
    use rumqttc::v5 as rumqttc5;
    pub(crate) use rumqttc5::mqttbytes::v5::Packet;
    pub(crate) use rumqttc5::{Client, Connection, Event};

    use super::{Got, ROOM, Wishes, broker};

    pub(crate) fn qos(level: u8) -> rumqttc5::mqttbytes::QoS {
        rumqttc5::mqttbytes::qos(level).unwrap()
    }

    pub(crate) fn options(name: &str, wishes: Wishes<'_>) -> rumqttc5::MqttOptions {
        let addr = broker().addr;
        let mut options = rumqttc5::MqttOptions::new(name, addr.ip().to_string(), addr.port());
        options.set_clean_start(!wishes.keep_session);
        options.set_max_packet_size(Some(ROOM));
        // No Topic Alias Maximum: rumqttc 0.25 hands out a message before it looks its alias up.
        if wishes.keep_session {
            options.set_session_expiry_interval(Some(600));
        }
        if let Some((topic, payload)) = wishes.will {
            let will = rumqttc5::mqttbytes::v5::LastWill::new(topic, payload, qos(1), false, None);
            options.set_last_will(will);
        }
        options
    }

    pub(crate) fn got(publish: &rumqttc5::mqttbytes::v5::Publish) -> Got {
        Got {
            topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
        }
    }
}

peer!(Peer4, v4);
peer!(Peer5, v5);

/// Plays a scenario in both versions.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod speaking_3_1_1 {
            $(#[test] fn $name() { super::$name::<super::Peer4>(); })*
        }
        mod speaking_5 {
            $(#[test] fn $name() { super::$name::<super::Peer5>(); })*
        }
    };
}

scenarios!(
    connects_cleanly,
    resumes_a_session,
    delivers_in_order,
    retains,
    publishes_wills,
    shares_a_subscription,
    carries_large_payloads,
    speaks_unicode,
    desk_serves_a_customer,
);

/// What each of these gets, until so many messages have come.
fn collect<P: Peer>(peers: &mut [P], expected: usize) -> Vec<Vec<Got>> {
    let until = Instant::now() + PATIENCE;
    let mut boxes: Vec<Vec<Got>> = peers.iter().map(|_| Vec::new()).collect();
    while boxes.iter().map(Vec::len).sum::<usize>() < expected {
        assert!(Instant::now() < until, "only {boxes:?} came");
        for (peer, found) in peers.iter_mut().zip(&mut boxes) {
            while let Some(got) = peer.receive_within(Duration::from_millis(20)) {
                found.push(got);
            }
        }
    }
    boxes
}

fn connects_cleanly<P: Peer>() {
    let name = unique("clean");
    for _ in 0..2 {
        let peer = P::connect(&name, Wishes::default());
        assert!(!peer.session_present());
        peer.disconnect();
    }
}

fn resumes_a_session<P: Peer>() {
    let (name, topic) = (unique("resume"), unique("resume"));
    let keep = Wishes { keep_session: true, ..Wishes::default() };
    let mut peer = P::connect(&name, keep);
    assert!(!peer.session_present());
    peer.subscribe(&topic, 2);
    peer.disconnect();
    let mut sender = P::new("sender");
    for turn in 0..COUNT {
        sender.publish(&topic, turn.to_string().as_bytes(), if turn < COUNT / 2 { 1 } else { 2 }, false);
    }
    let mut peer = P::connect(&name, keep);
    assert!(peer.session_present());
    for turn in 0..COUNT {
        let got = peer.expect(&topic, &turn.to_string());
        assert_eq!(got.qos, if turn < COUNT / 2 { 1 } else { 2 });
    }
}

fn delivers_in_order<P: Peer>() {
    for qos in 0..=2 {
        let topic = unique("order");
        let (mut receiver, mut sender) = (P::new("receiver"), P::new("sender"));
        receiver.subscribe(&topic, qos);
        for turn in 0..COUNT {
            sender.publish(&topic, turn.to_string().as_bytes(), qos, false);
        }
        for turn in 0..COUNT {
            let got = receiver.expect(&topic, &turn.to_string());
            assert_eq!((got.qos, got.retain), (qos, false));
        }
    }
}

fn retains<P: Peer>() {
    let topic = unique("retain");
    let mut sender = P::new("sender");
    sender.publish(&format!("{topic}/a"), b"kept", 1, true);
    sender.publish(&format!("{topic}/b"), b"gone", 1, true);
    sender.publish(&format!("{topic}/b"), b"", 1, true);
    let mut late = P::new("late");
    late.subscribe(&format!("{topic}/+"), 1);
    assert!(late.expect(&format!("{topic}/a"), "kept").retain);
    sender.publish(&format!("{topic}/c"), b"live", 1, true);
    assert!(!late.expect(&format!("{topic}/c"), "live").retain);
}

fn publishes_wills<P: Peer>() {
    let topic = unique("will");
    let mut watcher = P::new("watcher");
    watcher.subscribe(&topic, 1);
    let mortal = Wishes { will: Some((&topic, "gone")), ..Wishes::default() };
    drop(P::connect(&unique("mortal"), mortal));
    watcher.expect(&topic, "gone");
    P::connect(&unique("polite"), mortal).disconnect();
    P::new("sender").publish(&topic, b"end", 1, false);
    watcher.expect(&topic, "end");
}

fn shares_a_subscription<P: Peer>() {
    let (topic, group) = (unique("shared"), unique("group"));
    let mut members: Vec<P> = (0..3).map(|_| P::new("member")).collect();
    for member in &mut members {
        member.subscribe(&format!("$share/{group}/{topic}/+"), 1);
    }
    let mut sender = P::new("sender");
    for turn in 0..COUNT {
        sender.publish(&format!("{topic}/{turn}"), turn.to_string().as_bytes(), 1, false);
    }
    let got = collect(&mut members, COUNT);
    let mut numbers: Vec<usize> =
        got.iter().flatten().map(|m| String::from_utf8_lossy(&m.payload).parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>(), "each message once");
    assert!(got.iter().all(|share| !share.is_empty()), "no member is left out");
}

fn carries_large_payloads<P: Peer>() {
    let topic = unique("large");
    let payload: Vec<u8> = (0..=250).cycle().take(900 * 1024).collect();
    let (mut receiver, mut sender) = (P::new("receiver"), P::new("sender"));
    receiver.subscribe(&topic, 2);
    for qos in 0..=2 {
        sender.publish(&topic, &payload, qos, false);
        assert!(receiver.receive().payload == payload);
    }
}

fn speaks_unicode<P: Peer>() {
    let topic = format!("{}/заявка/🙂/naïve", unique("客服"));
    let (mut receiver, mut sender) = (P::new("получатель"), P::new("客户"));
    receiver.subscribe(&topic.replace('🙂', "+"), 1);
    sender.publish(&topic, "你好, Зоя 🙂".as_bytes(), 1, false);
    receiver.expect(&topic, "你好, Зоя 🙂");
}

/// Both versions' agents would be members of one group.
static ALONE: Mutex<()> = Mutex::new(());

/// A customer's messages reach one agent of the group, always the same one, whose answer reaches the customer.
fn desk_serves_a_customer<P: Peer>() {
    if broker().foreign {
        return; // no desk there
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = unique("c");
    let (up, down) = (format!("cs/1/main/customer/{name}/up"), format!("cs/1/main/customer/{name}/down"));
    let mut customer = P::new("customer");
    customer.subscribe(&down, 1);
    let mut agents: Vec<P> = (0..3).map(|_| P::new("agent")).collect();
    for agent in &mut agents {
        agent.subscribe("$share/support/cs/1/main/queue/support/messages/+", 1);
    }
    for turn in 0..50 {
        customer.publish(&up, format!("message {turn}").as_bytes(), 1, false);
    }
    let queue = format!("cs/1/main/queue/support/messages/{name}");
    let boxes = collect(&mut agents, 50);
    assert!(boxes.iter().flatten().all(|got| got.topic == queue), "{boxes:?}");
    let chosen = boxes.iter().position(|found| found.len() == 50);
    let chosen = chosen.unwrap_or_else(|| panic!("more than one agent got them: {boxes:?}"));
    for (turn, got) in boxes[chosen].iter().enumerate() {
        let envelope: serde_json::Value = serde_json::from_slice(&got.payload).unwrap();
        assert_eq!(envelope["v"], 1);
        assert_eq!(envelope["body"], format!("message {turn}"));
        assert_eq!(envelope["from"], serde_json::json!({ "role": "customer", "id": name }));
        assert_eq!(envelope["type"], "text");
    }
    agents[chosen].publish(&down, b"how can I help?", 1, false);
    customer.expect(&down, "how can I help?");
    for agent in agents {
        agent.disconnect();
    }
}

#[test]
fn carries_properties_in_5() {
    use rumqttc::v5::mqttbytes::v5::PublishProperties;

    let topic = unique("properties");
    let (mut receiver, mut sender) = (Peer5::new("receiver"), Peer5::new("sender"));
    receiver.subscribe(&topic, 1);
    let sent = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(600),
        topic_alias: Some(1),
        response_topic: Some("reply/here".to_owned()),
        correlation_data: Some(vec![0, 1, 0xFF].into()),
        user_properties: [("b", "2"), ("a", "1"), ("b", "1")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        subscription_identifiers: Vec::new(),
        content_type: Some("application/json".to_owned()),
    };
    sender.client.publish_with_properties(&topic, v5::qos(1), false, "{}", sent.clone()).unwrap();
    sender.drive("PUBACK", |event| matches!(event, v5::Event::Incoming(v5::Packet::PubAck(_))));
    let mut got = None;
    receiver.drive("PUBLISH", |event| {
        if let v5::Event::Incoming(v5::Packet::Publish(publish)) = event {
            got.clone_from(&publish.properties);
        }
        got.is_some()
    });
    let mut got = got.unwrap();
    assert!(got.message_expiry_interval.is_some_and(|left| (590..=600).contains(&left)), "{got:?}");
    got.message_expiry_interval = sent.message_expiry_interval;
    // The alias is each side's own.
    got.topic_alias = sent.topic_alias;
    assert_eq!(got, sent);
}
