//! Compressed payloads: who gets them as they came, who gets them expanded, and which are refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_imports,
    reason = "tests"
)]

mod dialogue;

use std::fmt::Write;

use dialogue::*;
use serde_json::{Value as Json, json};

const ENCODING: &str = "content-encoding";

/// What a receiver says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Accepts,
    Plain5,
    Plain311,
}

const KINDS: [Kind; 3] = [Kind::Accepts, Kind::Plain5, Kind::Plain311];

impl Kind {
    /// The same client in the words of this kind.
    fn of(self, connect: Connect) -> Connect {
        let version = if self == Self::Plain311 { Version::V311 } else { Version::V5 };
        let mut connect = connect;
        connect.version = version;
        match self {
            Self::Accepts => connect.user("other", "snappy").user("accept-encoding", "snappy"),
            Self::Plain5 => connect.user("accept-encoding", "gzip"),
            Self::Plain311 => connect,
        }
    }

    fn open(self, name: &str) -> Client {
        self.of(v5(&unique(name))).open()
    }

    /// A message that was published as [`marked`] came as it should for this kind.
    #[track_caller]
    fn got(self, client: &mut Client, topic: &str, plain: &[u8]) -> Publish {
        let packet = self.expects(client, topic, plain);
        client.acknowledge(&packet);
        packet
    }

    /// The same, not acknowledged.
    #[track_caller]
    fn expects(self, client: &mut Client, topic: &str, plain: &[u8]) -> Publish {
        let packet = match self {
            Self::Accepts => client.expect(topic, compressed(plain)),
            Self::Plain5 | Self::Plain311 => client.expect(topic, plain),
        };
        let user: &[(&str, &str)] = match self {
            Self::Accepts => &[("a", "1"), (ENCODING, "snappy"), ("b", "2")],
            Self::Plain5 => &[("a", "1"), ("b", "2")],
            Self::Plain311 => &[],
        };
        assert_eq!(packet.properties.user(), user, "{self:?}\n{}", client.dialogue());
        let content_type = packet.properties.text_or_none(property::CONTENT_TYPE);
        assert_eq!(content_type, (self != Self::Plain311).then_some("text/x"));
        packet
    }
}

trait TextOrNone {
    fn text_or_none(&self, id: u8) -> Option<&str>;
}

impl TextOrNone for Properties {
    fn text_or_none(&self, id: u8) -> Option<&str> {
        self.has(id).then(|| self.text(id)).flatten()
    }
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

/// A message with these bytes that says it is compressed, among other things.
fn marked(topic: &str, bytes: impl AsRef<[u8]>) -> Message {
    message(topic, bytes).user("a", "1").user(ENCODING, "snappy").user("b", "2").content_type("text/x")
}

/// The same with bytes that are.
fn snappy(topic: &str, plain: &[u8]) -> Message {
    marked(topic, compressed(plain))
}

/// Text that shrinks to about half.
fn text(bytes: usize) -> Vec<u8> {
    let mut text = String::new();
    for n in 0_u32.. {
        if text.len() >= bytes {
            break;
        }
        write!(text, "您好, customer number {:x}! ", n.wrapping_mul(2_654_435_761)).unwrap();
    }
    text.into_bytes().drain(..bytes).collect()
}

/// Below and above the sizes from which bytes are shared instead of copied, compressed and expanded.
const SIZES: [usize; 5] = [5, 700, 3_000, 9_000, 60_000];

#[test]
fn each_receiver_gets_what_it_takes() {
    for qos in 0..=2 {
        let topic = unique("each");
        // Enough for both shards to have some of each kind.
        let mut receivers: Vec<(Kind, Client)> =
            (0..18).map(|n| (KINDS[n % 3], KINDS[n % 3].open("receiver"))).collect();
        for (_, client) in &mut receivers {
            client.subscribe(&topic, qos);
        }
        let mut sender = publisher();
        for size in SIZES {
            sender.deliver(snappy(&topic, &text(size)).qos(qos));
            sender.deliver(message(&topic, text(size)).qos(qos).user("a", "1"));
        }
        let mut old = v311(&unique("old")).open();
        old.deliver(message(&topic, compressed(b"unmarked")).qos(qos));
        for (kind, client) in &mut receivers {
            for size in SIZES {
                assert_eq!(kind.got(client, &topic, &text(size)).qos, qos);
                client.receive(&topic, text(size));
            }
            client.receive(&topic, compressed(b"unmarked"));
            client.expect_quiet();
        }
    }
}

#[test]
fn retained_messages_are_shown_to_each_as_it_takes_them() {
    let topic = unique("retained");
    let mut sender = publisher();
    for size in SIZES {
        sender.deliver(snappy(&format!("{topic}/{size}"), &text(size)).qos(1).retain());
    }
    for kind in KINDS {
        for _ in 0..3 {
            let mut client = kind.open("late");
            for size in SIZES {
                client.subscribe_to_what_waits(&format!("{topic}/{size}"), 1);
                assert!(kind.got(&mut client, &format!("{topic}/{size}"), &text(size)).retain);
            }
        }
    }
    // Nothing is nothing, compressed or not.
    let mut watchers: Vec<(Kind, Client)> = KINDS.map(|kind| (kind, kind.open("watcher"))).into();
    for (_, client) in &mut watchers {
        client.subscribed(&subscription(&format!("{topic}/#"), 1).retain_handling(2));
        if client.version == Version::V311 {
            client.receive_until_quiet_for(std::time::Duration::from_millis(200));
        }
    }
    for (size, nothing) in SIZES.into_iter().zip([&[][..], &[0], &[], &[0], &[0]]) {
        sender.deliver(marked(&format!("{topic}/{size}"), nothing).qos(1).retain());
        for (kind, client) in &mut watchers {
            let packet = client.receive(&format!("{topic}/{size}"), "");
            let user = packet.properties.user();
            assert!(user.iter().all(|(name, _)| *name != ENCODING), "{kind:?} {user:?}");
        }
    }
    let mut late = Kind::Accepts.open("late");
    late.subscribe(&format!("{topic}/#"), 1);
    late.expect_quiet();
}

#[test]
fn wills_may_be_compressed() {
    let plain = text(2_000);
    let compress = |topic: &str, bytes: &[u8]| {
        will(topic, bytes).qos(1).with(|properties| {
            properties.content_type = Some("text/x".to_owned());
            properties.user_properties = [("a", "1"), (ENCODING, "snappy"), ("b", "2")]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .into();
        })
    };
    let topic = unique("will");
    let mut watchers: Vec<(Kind, Client)> = KINDS.map(|kind| (kind, kind.open("watcher"))).into();
    for (_, client) in &mut watchers {
        client.subscribe(&topic, 1);
    }
    v5(&unique("mortal")).will(compress(&topic, &compressed(&plain))).open().vanish();
    for (kind, client) in &mut watchers {
        kind.got(client, &topic, &plain);
    }
    v5(&unique("mortal")).will(compress(&topic, &[0]).retain()).open().vanish();
    for (_, client) in &mut watchers {
        client.receive(&topic, "");
    }
    v5(&unique("mortal")).will(compress(&topic, b"garbage")).refused(0x99);
    v5(&unique("mortal")).will(compress(&topic, &FOUR_GIB)).refused(0x97);
}

#[test]
fn what_a_connection_accepts_dies_with_it() {
    let all = || KINDS.into_iter().flat_map(|from| KINDS.map(|to| (from, to)));
    for qos in [1, 2] {
        let topic = unique("queue");
        let names: Vec<String> = all().map(|_| unique("away")).collect();
        let mut held = Vec::new();
        for ((from, _), name) in all().zip(&names) {
            let mut client = from.of(v5(name)).persistent().open();
            client.subscribe(&topic, qos);
            held.push(client);
        }
        let mut sender = publisher();
        // In flight when the connection goes, then queued.
        sender.deliver(snappy(&topic, &text(3_000)).qos(qos));
        for ((from, _), mut client) in all().zip(held) {
            from.expects(&mut client, &topic, &text(3_000));
            client.vanish();
        }
        for size in SIZES {
            sender.deliver(snappy(&topic, &text(size)).qos(qos));
        }
        for ((from, to), name) in all().zip(&names) {
            let mut client = to.of(v5(name)).persistent().open();
            assert!(client.connack.session_present);
            let again = to.got(&mut client, &topic, &text(3_000));
            assert!(again.dup, "{from:?} {to:?}");
            for size in SIZES {
                to.got(&mut client, &topic, &text(size));
            }
            client.expect_quiet();
        }
    }
}

#[test]
fn each_member_of_a_group_gets_what_it_takes() {
    let topic = unique("shared");
    let filter = format!("$share/{}/{topic}", unique("group"));
    let mut members: Vec<(Kind, Client)> =
        (0..6).map(|n| (KINDS[n % 3], KINDS[n % 3].open("member"))).collect();
    for (_, client) in &mut members {
        client.subscribe(&filter, 1);
    }
    let mut sender = publisher();
    for _ in 0..30 {
        sender.deliver(snappy(&topic, &text(3_000)).qos(1));
    }
    for (kind, client) in &mut members {
        for _ in 0..5 {
            kind.got(client, &topic, &text(3_000));
        }
        client.expect_quiet();
    }
}

/// Announces what no block of this size can hold.
const FOUR_GIB: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0, b'x', 0];

#[test]
fn what_does_not_expand_is_refused_at_the_door() {
    let own = own(None, |_| {});
    let mut watcher = own.v311("watcher").open();
    watcher.subscribe("t/#", 2);
    let good = compressed(&text(2_000));
    let announce = |length: u32| {
        let mut block = Vec::new();
        let mut left = length;
        while left >= 0x80 {
            block.push(left as u8 | 0x80);
            left >>= 7;
        }
        block.push(left as u8);
        block.extend_from_slice(&good[2..]);
        block
    };
    assert_eq!(announce(2_000), good);
    let mut sender = own.v5("sender").open();
    let cases: Vec<(&str, Vec<u8>, u8)> = vec![
        ("four GiB", FOUR_GIB.to_vec(), 0x97),
        ("just over the maximum", announce(1 << 20), 0x97),
        ("a length of 33 bits", vec![0xFF, 0xFF, 0xFF, 0xFF, 0x1F, 0, b'x'], 0x99),
        ("longer than announced", announce(1_999), 0x99),
        ("shorter than announced", announce(2_001), 0x99),
        ("truncated", good[..good.len() - 1].to_vec(), 0x99),
        ("nothing but the length", good[..2].to_vec(), 0x99),
        ("half a length", vec![0x80], 0x99),
        ("plain text", b"hello, this is not compressed".to_vec(), 0x99),
        ("noise", (0..200_u8).map(|n| n.wrapping_mul(151)).collect(), 0x99),
        ("a copy of what is not there", vec![4, 0b1, 9], 0x99),
        ("behind its end", [&good[..], b"x"].concat(), 0x99),
    ];
    for (what, bytes, reason) in &cases {
        let id = sender.publish(marked("t/1", bytes).qos(1));
        assert_eq!(sender.expect_puback(id).reason, *reason, "{what}");
        let id = sender.publish(marked("t/1", bytes).qos(2).retain());
        assert_eq!(sender.expect_pubrec(id).reason, *reason, "{what}");
        sender.publish(marked("t/1", bytes));
    }
    sender.deliver(message("t/1", "all").qos(2));
    watcher.receive("t/1", "all");
    let mut late = own.v5("late").open();
    late.subscribe("t/#", 2);
    late.expect_quiet();
    let refused = "switchboard_publishes_refused_total";
    own.metric_until(refused, r#"reason="payload_too_large""#, |n| n == 6);
    own.metric_until(refused, r#"reason="payload_invalid""#, |n| n == 30);
    own.metric_until("switchboard_compressed_messages_received_total", "", |n| n == 0);
    own.close();
}

#[test]
fn an_expanded_message_has_the_bounds_of_a_plain_one() {
    let own = own(None, |settings| settings.limits.max_packet = 20_000);
    let mut watcher = own.v311("watcher").open();
    watcher.subscribe("t", 0);
    let mut sender = own.v5("sender").open();
    // Header, topic, packet id, the length of no properties.
    let room = 20_000 - 4 - 3 - 2 - 1;
    let mark = |bytes: &[u8]| message("t", bytes).qos(1).user(ENCODING, "snappy");
    sender.deliver(message("t", vec![b'x'; room]).qos(1));
    sender.deliver(mark(&compressed(&vec![b'x'; room])));
    watcher.receive("t", vec![b'x'; room]);
    watcher.receive("t", vec![b'x'; room]);
    let id = sender.publish(mark(&compressed(&vec![b'x'; room + 1])));
    assert_eq!(sender.expect_puback(id).reason, 0x97);
    sender.publish(message("t", vec![b'x'; room + 1]).qos(1));
    sender.expect_ended(0x95);
    own.close();
}

#[test]
fn a_receivers_maximum_is_held_against_what_it_is_sent() {
    let topic = unique("maximum");
    let mut small: Vec<(Kind, Client)> = [Kind::Accepts, Kind::Plain5]
        .map(|kind| (kind, kind.of(v5(&unique("small"))).maximum_packet(2_000).open()))
        .into();
    for qos in 0..=2 {
        for (_, client) in &mut small {
            client.subscribe(&topic, qos);
        }
        let mut sender = publisher();
        let plain = vec![b'x'; 8_000];
        sender.deliver(snappy(&topic, &plain).qos(qos));
        sender.deliver(message(&topic, "next").qos(qos));
        for (kind, client) in &mut small {
            if *kind == Kind::Accepts {
                kind.got(client, &topic, &plain);
            }
            client.receive(&topic, "next");
        }
    }
}

#[test]
fn topic_aliases_and_subscription_identifiers_go_with_either_form() {
    let topic = unique("a-topic-that-is-long-enough");
    let mut receivers: Vec<(Kind, Client)> = [Kind::Accepts, Kind::Plain5]
        .map(|kind| (kind, kind.of(v5(&unique("receiver"))).topic_alias_maximum(5).open()))
        .into();
    for (_, client) in &mut receivers {
        client.subscribed(&subscription(&topic, 1).id(7).no_local());
    }
    let mut sender = Kind::Accepts.open("sender");
    sender.subscribed(&subscription(&topic, 1).no_local());
    for n in 0..3 {
        let topic = if n == 0 { topic.as_str() } else { "" };
        sender.deliver(snappy(topic, &text(3_000)).qos(1).alias(3));
    }
    for (kind, client) in &mut receivers {
        for n in 0..3 {
            let packet = kind.got(client, if n == 0 { &topic } else { "" }, &text(3_000));
            assert_eq!(packet.properties.number(property::TOPIC_ALIAS), Some(1));
            assert_eq!(packet.properties.subscription_ids(), [7]);
        }
    }
    sender.expect_quiet();
}

#[test]
fn other_encodings_are_a_matter_between_clients() {
    let topic = unique("other");
    let mut receivers: Vec<Client> = KINDS.map(|kind| kind.open("receiver")).into();
    for client in &mut receivers {
        client.subscribe(&topic, 1);
    }
    let mut sender = publisher();
    let cases: [&[(&str, &str)]; 5] = [
        &[(ENCODING, "gzip")],
        &[(ENCODING, "Snappy")],
        &[("Content-Encoding", "snappy")],
        &[(ENCODING, "snappy"), (ENCODING, "gzip")],
        &[(ENCODING, "snappy"), (ENCODING, "snappy")],
    ];
    for user in cases {
        let mut publish = message(&topic, b"as it is").qos(1);
        for (name, value) in user {
            publish = publish.user(name, value);
        }
        sender.deliver(publish);
        for client in &mut receivers {
            let packet = client.receive(&topic, "as it is");
            if client.version == Version::V5 {
                assert_eq!(packet.properties.user(), user);
            }
        }
    }
}

#[test]
fn a_message_is_expanded_once_for_all_receivers_of_a_shard() {
    let folder = std::env::temp_dir().join(unique("switchboard-snappy"));
    let store = folder.clone();
    let own = own(None, move |settings| settings.store.directory = Some(store));
    let plain = text(3_000);
    let block = compressed(&plain).len() as u64;
    let mut expansions = 0;
    for qos in 0..=2 {
        let topic = format!("once/{qos}");
        // At QoS 2 what a kept session gets goes through its queue.
        let mut receivers: Vec<(Kind, Client)> = (0..60)
            .map(|n| (KINDS[n % 3], KINDS[n % 3].of(own.v5(&unique("r"))).persistent().open()))
            .collect();
        for (_, client) in &mut receivers {
            client.subscribe(&topic, qos);
        }
        let mut sender = own.v5("sender").open();
        for _ in 0..5 {
            sender.deliver(snappy(&topic, &plain).qos(qos));
        }
        for (kind, client) in &mut receivers {
            for _ in 0..5 {
                kind.got(client, &topic, &plain);
            }
        }
        let times = u64::from(qos) + 1;
        let metric = |name: &str, wanted: u64| own.metric_until(name, "", |n| n == wanted);
        metric("switchboard_compressed_messages_received_total", 5 * times);
        metric("switchboard_compressed_received_bytes_total", 5 * times * block);
        metric("switchboard_compressed_received_expanded_bytes_total", 5 * times * 3_000);
        metric("switchboard_compressed_messages_sent_total", 100 * times);
        metric("switchboard_compressed_sent_bytes_total", 100 * times * block);
        metric("switchboard_expanded_messages_sent_total", 200 * times);
        metric("switchboard_expanded_sent_bytes_total", 200 * times * 3_000);
        metric("switchboard_payload_sent_bytes_total", times * (100 * block + 200 * 3_000));
        let now = own.metric("switchboard_expansions_total", "");
        // Behind a queue it is once in a tenth of a second; two shards.
        let most = if qos == 2 { 3 * 10 } else { 10 };
        assert!((5..=most).contains(&(now - expansions)), "{} expansions at QoS {qos}", now - expansions);
        expansions = now;
    }
    own.close();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_desk_reads_what_is_compressed() {
    let rules = r#"
[[tenant]]
name = "main"
[[tenant.group]]
name = "support"
[[tenant.group]]
name = "billing"
[[tenant.rule]]
name = "bill"
when = 'message.type == "text" && message.body.contains("invoice") && !("content-encoding" in message.properties)'
group = "billing"
[[tenant.rule]]
name = "everything else"
group = "support"
"#;
    let own = own(Some(rules), |_| {});
    let mut agent = own.v5("agent").user("accept-encoding", "snappy").open();
    agent.subscribe("$share/billing/cs/1/main/queue/billing/messages/+", 1);
    let mut watcher = own.v311("watcher").open();
    let up = "cs/1/main/customer/42/up";
    watcher.subscribe(up, 1);
    let mut customer = own.v5("customer").open();
    let said = [&b"my invoice is wrong: "[..], &text(3_000)].concat();
    customer.deliver(snappy(up, &said).qos(1));
    watcher.receive(up, &said);
    let packet = agent.expect_publish();
    agent.acknowledge(&packet);
    let envelope: Json = serde_json::from_slice(&packet.payload).unwrap();
    assert_eq!(
        (&envelope["type"], &envelope["body"]),
        (&json!("text"), &json!(String::from_utf8_lossy(&said)))
    );
    assert_eq!(envelope["meta"], json!({"a": "1", "b": "2", "content-type": "text/x"}));
    assert!(packet.properties.user().is_empty());
    // The same reading in an explanation.
    let mut asker = own.v5("asker").open();
    asker.subscribe("answers", 1);
    let question = json!({"customer": "42", "payload": "an invoice"}).to_string();
    asker.deliver(snappy("cs/1/main/control/explain", question.as_bytes()).response_topic("answers"));
    let answer: Json = serde_json::from_slice(&asker.expect_publish().payload).unwrap();
    assert_eq!(answer["group"], "billing", "{answer}");
    // What nobody could read.
    for (encoding, bytes, reason) in
        [("gzip", &b"x"[..], 0x99), ("snappy", b"x", 0x99), ("snappy", &FOUR_GIB, 0x97)]
    {
        let id = customer.publish(message(up, bytes).qos(1).user(ENCODING, encoding));
        assert_eq!(customer.expect_puback(id).reason, reason, "{encoding}");
    }
    own.close();
}
