//! CONNECT, sessions, takeover and keep alive: who may connect, what is resumed, what ends and when.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_imports,
    clippy::doc_markdown,
    reason = "tests"
)]

mod dialogue;

use std::time::{Duration, Instant};

use dialogue::*;

#[test]
fn ping_is_answered() {
    for version in VERSIONS {
        let mut client = connect(version, &unique("ping")).open();
        client.expect_quiet();
        client.disconnect();
    }
}

#[test]
fn mqtt_3_1_is_spoken_too() {
    let topic = unique("v31");
    let mut client = connect(Version::V31, &unique("v31")).open();
    client.subscribe(&topic, 1);
    client.deliver(message(&topic, "via puback").qos(0));
    client.receive(&topic, "via puback");
    client.disconnect();
}

#[test]
fn session_present_tells_whether_state_was_kept() {
    for version in VERSIONS {
        let id = unique("present");
        let first = connect(version, &id).persistent().open();
        assert!(!first.connack.session_present, "no session before the first connection");
        first.disconnect();
        let second = connect(version, &id).persistent().open();
        assert!(second.connack.session_present, "the session was kept");
        second.vanish();
        let third = connect(version, &id).persistent().open();
        assert!(third.connack.session_present, "a lost connection keeps the session too");
        third.disconnect();
        let clean = connect(version, &id).open();
        assert!(!clean.connack.session_present, "a clean start never has one");
        clean.disconnect();
        let after = connect(version, &id).persistent().open();
        assert!(!after.connack.session_present, "the clean session left nothing");
        after.disconnect();
    }
}

#[test]
fn resumed_session_keeps_subscriptions_and_messages() {
    for version in VERSIONS {
        let (id, topic) = (unique("resume"), unique("resume"));
        let mut client = connect(version, &id).persistent().open();
        client.subscribe(&topic, 2);
        client.disconnect();
        let mut sender = publisher();
        sender.deliver(message(&topic, "one").qos(1));
        sender.deliver(message(&topic, "two").qos(2));
        let mut client = connect(version, &id).persistent().open();
        let one = client.receive(&topic, "one");
        let two = client.receive(&topic, "two");
        assert_eq!((one.qos, one.dup, two.qos, two.dup), (1, false, 2, false), "never sent before");
        sender.deliver(message(&topic, "three").qos(1));
        client.receive(&topic, "three");
        client.expect_quiet();
        client.disconnect();
    }
}

#[test]
fn clean_start_discards_subscriptions_and_messages() {
    for version in VERSIONS {
        let (id, topic, marker) = (unique("clean"), unique("clean"), unique("marker"));
        let mut client = connect(version, &id).persistent().open();
        client.subscribe(&topic, 1);
        client.disconnect();
        let mut sender = publisher();
        sender.deliver(message(&topic, "stored").qos(1));
        let mut client = connect(version, &id).open();
        client.subscribe(&marker, 1);
        sender.deliver(message(&topic, "unsubscribed").qos(1));
        sender.deliver(message(&marker, "marker").qos(1));
        client.receive(&marker, "marker");
        client.expect_quiet();
        client.disconnect();
        let mut client = connect(version, &id).persistent().open();
        assert!(!client.connack.session_present);
        client.expect_quiet();
        client.disconnect();
    }
}

#[test]
fn session_without_expiry_ends_with_its_connection() {
    let id = unique("noexpiry");
    v5(&id).clean(false).open().disconnect();
    let client = v5(&id).clean(false).session_expiry(0).open();
    assert!(!client.connack.session_present, "no Session Expiry Interval means 0");
    client.vanish();
    let client = v5(&id).clean(false).open();
    assert!(!client.connack.session_present, "0 means with the connection");
    client.disconnect();
}

#[test]
fn session_expires_after_its_interval() {
    let (id, topic) = (unique("expires"), unique("expires"));
    let mut client = v5(&id).clean(false).session_expiry(1).open();
    client.subscribe(&topic, 1);
    client.disconnect();
    publisher().expect_silence_for(Duration::from_millis(2500));
    let mut client = v5(&id).persistent().open();
    assert!(!client.connack.session_present, "expired a second after the connection");
    publisher().deliver(message(&topic, "nobody").qos(1));
    client.expect_quiet();
    client.disconnect();
}

#[test]
fn session_does_not_expire_while_connected() {
    let id = unique("connected");
    let mut client = v5(&id).clean(false).session_expiry(1).open();
    client.expect_silence_for(Duration::from_millis(2200));
    client.vanish();
    let client = v5(&id).persistent().open();
    assert!(client.connack.session_present, "the interval starts when the connection ends");
    client.disconnect();
}

#[test]
fn session_expiry_of_all_ones_never_expires() {
    let id = unique("forever");
    v5(&id).clean(false).session_expiry(u32::MAX).open().disconnect();
    let client = v5(&id).clean(false).open();
    assert!(client.connack.session_present);
    client.disconnect();
}

#[test]
fn disconnect_can_shorten_the_session_expiry() {
    let id = unique("shorten");
    v5(&id).persistent().open().disconnect_with(0, Some(0));
    let client = v5(&id).persistent().open();
    assert!(!client.connack.session_present, "DISCONNECT set the expiry to 0");
    client.disconnect();
}

#[test]
fn disconnect_cannot_revive_a_session_that_has_no_expiry() {
    let mut client = v5(&unique("revive")).clean(false).open();
    client.send(&disconnect(Version::V5, 0, Some(60)));
    client.expect_ended(0x82);
}

#[test]
fn second_connection_takes_the_session_over() {
    for old in VERSIONS {
        for new in VERSIONS {
            let (id, topic) = (unique("takeover"), unique("takeover"));
            let mut first = connect(old, &id).persistent().open();
            first.subscribe(&topic, 1);
            let mut second = connect(new, &id).persistent().open();
            assert!(second.connack.session_present, "the session moves to the new connection");
            first.expect_ended(0x8E);
            publisher().deliver(message(&topic, "to the second").qos(1));
            second.receive(&topic, "to the second");
            second.disconnect();
        }
    }
}

#[test]
fn takeover_with_clean_start_begins_anew() {
    for version in VERSIONS {
        let (id, topic) = (unique("takeclean"), unique("takeclean"));
        let mut first = connect(version, &id).persistent().open();
        first.subscribe(&topic, 1);
        let mut second = connect(version, &id).open();
        assert!(!second.connack.session_present);
        first.expect_ended(0x8E);
        second.subscribe(&format!("{topic}/marker"), 1);
        let mut sender = publisher();
        sender.deliver(message(&topic, "the first session's").qos(1));
        sender.deliver(message(&format!("{topic}/marker"), "marker").qos(1));
        second.receive(&format!("{topic}/marker"), "marker");
        second.disconnect();
    }
}

#[test]
fn unacknowledged_message_moves_with_a_takeover() {
    for version in VERSIONS {
        let (id, topic) = (unique("takeflight"), unique("takeflight"));
        let mut first = connect(version, &id).persistent().open();
        first.subscribe(&topic, 1);
        publisher().deliver(message(&topic, "once more").qos(1));
        let sent = first.expect(&topic, "once more");
        let mut second = connect(version, &id).persistent().open();
        first.expect_ended(0x8E);
        let again = second.receive(&topic, "once more");
        assert_eq!((again.id, again.dup), (sent.id, true));
        second.disconnect();
    }
}

#[test]
fn silent_client_is_closed_after_one_and_a_half_keep_alives() {
    let start = Instant::now();
    let mut clients = VERSIONS.map(|version| connect(version, &unique("silent")).keep_alive(1).open());
    for client in &mut clients {
        client.expect_ended(0x8D);
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(1400), "closed after {waited:?}, before 1.5 s");
        assert!(waited < Duration::from_secs(4), "closed only after {waited:?}");
    }
}

#[test]
fn any_packet_keeps_a_client_alive() {
    let topic = unique("alive");
    let mut clients = VERSIONS.map(|version| connect(version, &unique("alive")).keep_alive(1).open());
    for turn in 0..8 {
        for client in &mut clients {
            client.expect_silence_for(Duration::from_millis(300));
            if turn % 2 == 0 {
                client.publish(message(&topic, "still here"));
            } else {
                client.expect_quiet();
            }
        }
    }
}

#[test]
fn keep_alive_of_zero_is_never_enforced() {
    let mut clients = VERSIONS.map(|version| connect(version, &unique("zero")).keep_alive(0).open());
    clients[0].expect_silence_for(Duration::from_millis(2200));
    for client in &mut clients {
        client.expect_quiet();
    }
}

#[test]
fn second_connect_is_a_protocol_error() {
    for version in VERSIONS {
        let packet = connect(version, &unique("twice"));
        let mut client = packet.clone().open();
        client.send(&packet.encode());
        client.expect_ended(0x82);
    }
}

#[test]
fn nothing_is_answered_before_connect() {
    let early: [(&str, Vec<u8>); 8] = [
        ("PINGREQ", vec![0xC0, 0]),
        ("DISCONNECT", vec![0xE0, 0]),
        ("PUBLISH", message("early", "early").encode(Version::V311)),
        ("SUBSCRIBE", subscription("early", 0).encode(Version::V311, 1)),
        ("PUBACK", vec![0x40, 2, 0, 1]),
        ("AUTH", vec![0xF0, 2, 0x18, 0]),
        ("CONNACK", vec![0x20, 2, 0, 0]),
        ("type 0", vec![0x00, 0]),
    ];
    for (name, packet) in early {
        let mut client = Client::dial(Version::V5);
        client.send(&packet);
        let answer = client.read_to_end();
        assert!(answer.is_empty(), "{name} before CONNECT was answered with {}", hex(&answer));
    }
}

#[test]
fn empty_client_id_gets_one_assigned() {
    let first = v5("").open();
    let second = v5("").open();
    let name =
        |client: &Client| client.connack.properties.text(property::ASSIGNED_CLIENT_ID).map(str::to_owned);
    let (one, two) = (name(&first).unwrap(), name(&second).unwrap());
    assert!(!one.is_empty() && one != two, "each gets a name of its own: {one}, {two}");
    first.disconnect();
    second.disconnect();
    connect(Version::V311, "").open().disconnect();
}

#[test]
fn assigned_client_id_names_a_session_like_any_other() {
    let client = v5("").persistent().open();
    let id = client.connack.properties.text(property::ASSIGNED_CLIENT_ID).unwrap().to_owned();
    client.disconnect();
    let client = v5(&id).persistent().open();
    assert!(client.connack.session_present);
    assert!(
        !client.connack.properties.has(property::ASSIGNED_CLIENT_ID),
        "this time the client named itself"
    );
    client.disconnect();
}

#[test]
fn empty_client_id_with_a_kept_session_is_refused_in_3_1_1() {
    connect(Version::V311, "").clean(false).refused(2);
}

#[test]
fn client_ids_the_standard_guarantees_are_accepted() {
    for version in VERSIONS {
        for id in ["0", "abcdefghijklmnopqrstuvw", "ABCDEFGHIJKLMNOPQRSTUVW", "xyzXYZ0123456789"] {
            // Not unique by nature: a clean session at once ended does no harm to its like.
            let mut client = connect(version, id).start();
            assert_eq!(client.expect_connack().code, 0, "{id}");
        }
        let long = unique(&"客户".repeat(30));
        connect(version, &long).open().disconnect();
    }
}

#[test]
fn user_name_and_binary_password_are_legal() {
    for version in VERSIONS {
        connect(version, &unique("login")).login("someone", "secret").open().disconnect();
        connect(version, &unique("login")).login("someone", [0xFF, 0x00, 0xFE]).open().disconnect();
    }
}

#[test]
fn password_without_user_name_is_legal_in_mqtt_5() {
    let packet = Raw::new().field("MQTT").byte(5).byte(0b0100_0010).two(60).byte(0);
    let packet = packet.field(unique("nameless")).field("token").packet(0x10);
    let mut client = Client::dial(Version::V5);
    client.send(&packet);
    assert_eq!(client.expect_connack().code, 0);
}

#[test]
fn unknown_protocol_level_is_refused() {
    for level in [0, 2, 6, 84] {
        let mut client = Client::dial(Version::V311);
        client
            .send(&Raw::new().field("MQTT").byte(level).byte(2).two(60).field(unique("level")).packet(0x10));
        let answer = client.read_to_end();
        let told = answer == [0x20, 2, 0, 1] || (answer.len() > 4 && answer[0] == 0x20 && answer[3] == 0x84);
        assert!(told || broker().foreign && answer.is_empty(), "level {level}: {}", hex(&answer));
    }
}

#[test]
fn unknown_protocol_name_is_not_accepted() {
    for name in ["MQTX", "mqtt", "", "MQIsdp"] {
        let mut client = Client::dial(Version::V311);
        client.send(&Raw::new().field(name).byte(4).byte(2).two(60).field(unique("name")).packet(0x10));
        let answer = client.read_to_end();
        let accepted = answer.starts_with(&[0x20]) && answer.get(3) == Some(&0);
        assert!(!accepted, "{name} was accepted: {}", hex(&answer));
    }
}

#[test]
fn nothing_after_a_refused_connect_is_processed() {
    let topic = unique("refused");
    let mut watcher = v5(&unique("watcher")).open();
    watcher.subscribe(&topic, 0);
    let mut client = Client::dial(Version::V311);
    let mut bytes = connect(Version::V311, "").clean(false).encode();
    bytes.extend(message(&topic, "smuggled").encode(Version::V311));
    client.send(&bytes);
    assert_eq!(client.read_to_end(), [0x20, 2, 0, 2]);
    publisher().deliver(message(&topic, "marker").qos(1));
    watcher.expect(&topic, "marker");
}

#[test]
fn packets_that_come_with_connect_are_answered_after_connack() {
    for version in VERSIONS {
        let topic = unique("pipelined");
        let mut bytes = connect(version, &unique("pipelined")).encode();
        bytes.extend(subscription(&topic, 0).encode(version, 1));
        bytes.extend(message(&topic, "at once").encode(version));
        bytes.extend([0xC0, 0]);
        let mut client = Client::dial(version);
        client.send(&bytes);
        assert_eq!(client.expect_connack().code, 0);
        client.expect_suback(1);
        let rest = [client.next(), client.next()];
        assert!(rest.iter().any(|packet| matches!(packet, Packet::PingResp)), "{rest:?}");
        assert!(rest.iter().any(|p| matches!(p, Packet::Publish(m) if m.payload == b"at once")), "{rest:?}");
    }
}

#[test]
fn packets_may_arrive_byte_by_byte() {
    for version in VERSIONS {
        let topic = unique("bytes");
        let mut bytes = connect(version, &unique("bytes")).encode();
        bytes.extend(subscription(&topic, 1).encode(version, 1));
        bytes.extend(message(&topic, "a byte at a time").qos(1).id(9).encode(version));
        let mut client = Client::dial(version);
        for byte in bytes {
            client.send(&[byte]);
        }
        assert_eq!(client.expect_connack().code, 0);
        client.expect_suback(1);
        let both = [client.next(), client.next()];
        assert!(both.iter().any(|packet| matches!(packet, Packet::PubAck(ack) if ack.id == 9)), "{both:?}");
        assert!(
            both.iter().any(|p| matches!(p, Packet::Publish(m) if m.payload == b"a byte at a time")),
            "{both:?}"
        );
    }
}

#[test]
fn disconnect_is_answered_by_closing_alone() {
    for version in VERSIONS {
        let mut client = connect(version, &unique("bye")).open();
        client.send(&[0xE0, 0]);
        client.expect_closed();
    }
}

#[test]
fn nothing_after_disconnect_is_processed() {
    for version in VERSIONS {
        let topic = unique("afterwards");
        let mut watcher = v5(&unique("watcher")).open();
        watcher.subscribe(&topic, 0);
        let mut client = connect(version, &unique("afterwards")).open();
        let mut bytes = vec![0xE0, 0];
        bytes.extend(message(&topic, "too late").encode(version));
        client.send(&bytes);
        client.expect_closed();
        publisher().deliver(message(&topic, "marker").qos(1));
        watcher.expect(&topic, "marker");
    }
}
