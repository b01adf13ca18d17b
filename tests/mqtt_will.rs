//! Wills: every way a connection can end, with and without delay.

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

/// A client that sees what comes on a topic of its own.
fn watcher(topic: &str) -> Client {
    let mut client = v5(&unique("watcher")).open();
    client.subscribe(topic, 2);
    client
}

/// Nothing came on the topic before this.
#[track_caller]
fn expect_no_will(watcher: &mut Client, topic: &str) {
    publisher().deliver(message(topic, "marker").qos(1));
    watcher.receive(topic, "marker");
}

#[test]
fn lost_connection_publishes_the_will() {
    for version in VERSIONS {
        for qos in 0..=2 {
            let topic = unique("lost");
            let mut watcher = watcher(&topic);
            let client = connect(version, &unique("lost")).will(will(&topic, "gone").qos(qos)).open();
            client.vanish();
            let got = watcher.receive(&topic, "gone");
            assert_eq!((got.qos, got.retain), (qos, false));
        }
    }
}

#[test]
fn will_may_be_empty_or_binary() {
    for version in VERSIONS {
        for payload in [&[][..], &[0, 0xFF, 0x80]] {
            let topic = unique("binary");
            let mut watcher = watcher(&topic);
            connect(version, &unique("binary")).will(will(&topic, payload)).open().vanish();
            watcher.receive(&topic, payload);
        }
    }
}

#[test]
fn retained_will_is_retained_and_the_other_is_not() {
    for version in VERSIONS {
        let topic = unique("retained");
        let mut live = watcher(&format!("{topic}/+"));
        connect(version, &unique("r"))
            .will(will(&format!("{topic}/kept"), "kept").qos(1).retain())
            .open()
            .vanish();
        live.receive(&format!("{topic}/kept"), "kept");
        connect(version, &unique("r")).will(will(&format!("{topic}/not"), "not").qos(1)).open().vanish();
        live.receive(&format!("{topic}/not"), "not");
        let mut late = watcher(&format!("{topic}/+"));
        assert!(late.receive(&format!("{topic}/kept"), "kept").retain);
        expect_no_will(&mut late, &format!("{topic}/x"));
    }
}

#[test]
fn normal_disconnect_discards_the_will() {
    for version in VERSIONS {
        let topic = unique("normal");
        let mut watcher = watcher(&topic);
        connect(version, &unique("normal")).will(will(&topic, "gone").qos(1)).open().disconnect();
        expect_no_will(&mut watcher, &topic);
    }
}

#[test]
fn discarded_will_does_not_come_back() {
    for version in VERSIONS {
        let (id, topic) = (unique("back"), unique("back"));
        let mut watcher = watcher(&topic);
        connect(version, &id).persistent().will(will(&topic, "gone").qos(1)).open().disconnect();
        connect(version, &id).persistent().open().vanish();
        expect_no_will(&mut watcher, &topic);
        connect(version, &id).persistent().will(will(&topic, "gone").qos(1)).open().vanish();
        watcher.receive(&topic, "gone");
        connect(version, &id).persistent().open().vanish();
        expect_no_will(&mut watcher, &topic);
    }
}

#[test]
fn disconnect_with_any_reason_but_normal_publishes_the_will() {
    for reason in [0x04, 0x80, 0x82, 0x83] {
        let topic = unique("withwill");
        let mut watcher = watcher(&topic);
        v5(&unique("withwill")).will(will(&topic, "gone").qos(1)).open().disconnect_with(reason, None);
        watcher.receive(&topic, "gone");
    }
}

#[test]
fn connection_without_a_will_says_nothing() {
    for version in VERSIONS {
        let topic = unique("none");
        let mut watcher = watcher(&format!("{topic}/#"));
        connect(version, &unique("none")).open().vanish();
        expect_no_will(&mut watcher, &topic);
    }
}

#[test]
fn silence_beyond_the_keep_alive_publishes_the_will() {
    for version in VERSIONS {
        let topic = unique("silence");
        let mut watcher = watcher(&topic);
        let mut client =
            connect(version, &unique("silence")).keep_alive(1).will(will(&topic, "silent")).open();
        client.drain();
        watcher.receive(&topic, "silent");
    }
}

#[test]
fn protocol_error_publishes_the_will() {
    for version in VERSIONS {
        let topic = unique("error");
        let mut watcher = watcher(&topic);
        let packet = connect(version, &unique("error")).will(will(&topic, "wrong").qos(1));
        let mut client = packet.clone().open();
        client.send(&packet.encode());
        client.drain();
        watcher.receive(&topic, "wrong");
    }
}

#[test]
fn malformed_packet_publishes_the_will() {
    for version in VERSIONS {
        let topic = unique("malformed");
        let mut watcher = watcher(&topic);
        let mut client = connect(version, &unique("malformed")).will(will(&topic, "wrong").qos(1)).open();
        client.send(&[0x36, 0x05, 0, 1, b'a', 0, 1]);
        client.drain();
        watcher.receive(&topic, "wrong");
    }
}

#[test]
fn takeover_publishes_the_will_of_the_old_connection() {
    for version in VERSIONS {
        let (id, topic) = (unique("taken"), unique("taken"));
        let mut watcher = watcher(&topic);
        let mut first = connect(version, &id).persistent().will(will(&topic, "taken over").qos(1)).open();
        let second = connect(version, &id).persistent().open();
        first.expect_ended(0x8E);
        watcher.receive(&topic, "taken over");
        second.disconnect();
        expect_no_will(&mut watcher, &topic);
    }
}

#[test]
fn delayed_will_waits() {
    let topic = unique("delay");
    let mut watcher = watcher(&topic);
    let start = Instant::now();
    v5(&unique("delay")).persistent().will(will(&topic, "late").qos(1).delay(1)).open().vanish();
    watcher.receive(&topic, "late");
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(900), "published after {waited:?}");
    assert!(waited < Duration::from_millis(3500), "published only after {waited:?}");
}

#[test]
fn return_within_the_delay_withdraws_the_will() {
    let (id, topic) = (unique("return"), unique("return"));
    let mut watcher = watcher(&topic);
    v5(&id).persistent().will(will(&topic, "withdrawn").qos(1).delay(1)).open().vanish();
    let client = v5(&id).persistent().open();
    assert!(client.connack.session_present);
    watcher.expect_silence_for(Duration::from_millis(2500));
    expect_no_will(&mut watcher, &topic);
    client.disconnect();
}

#[test]
fn takeover_withdraws_a_delayed_will() {
    let (id, topic) = (unique("takedelay"), unique("takedelay"));
    let mut watcher = watcher(&topic);
    let mut first = v5(&id).persistent().will(will(&topic, "withdrawn").qos(1).delay(1)).open();
    let second = v5(&id).persistent().open();
    first.expect_ended(0x8E);
    watcher.expect_silence_for(Duration::from_millis(2500));
    expect_no_will(&mut watcher, &topic);
    second.disconnect();
}

#[test]
fn end_of_the_session_publishes_a_delayed_will_at_once() {
    let topic = unique("atonce");
    let mut watcher = watcher(&topic);
    // No session expiry: the session ends with the connection, an hour before the delay does.
    v5(&unique("atonce")).will(will(&topic, "with the session").qos(1).delay(3600)).open().vanish();
    watcher.receive(&topic, "with the session");
    // The session expires first.
    let packet = v5(&unique("atonce")).session_expiry(1);
    packet.will(will(&topic, "with the expiry").qos(1).delay(3600)).open().vanish();
    watcher.receive(&topic, "with the expiry");
}

#[test]
fn takeover_with_clean_start_publishes_even_a_delayed_will() {
    let (id, topic) = (unique("cleanwill"), unique("cleanwill"));
    let mut watcher = watcher(&topic);
    let mut first = v5(&id).persistent().will(will(&topic, "session over").qos(1).delay(3600)).open();
    let second = v5(&id).open();
    first.expect_ended(0x8E);
    watcher.receive(&topic, "session over");
    second.disconnect();
}

#[test]
fn disconnect_discards_a_delayed_will() {
    let topic = unique("discard");
    let mut watcher = watcher(&topic);
    v5(&unique("discard")).persistent().will(will(&topic, "gone").qos(1).delay(1)).open().disconnect();
    watcher.expect_silence_for(Duration::from_millis(2500));
    expect_no_will(&mut watcher, &topic);
}

#[test]
fn properties_of_a_will_travel_with_it() {
    let topic = unique("props");
    let mut watcher = watcher(&topic);
    let packet = will(&topic, "{}").qos(1).with(|p| {
        p.payload_format_indicator = Some(1);
        p.message_expiry_interval = Some(100);
        p.content_type = Some("application/json".to_owned());
        p.response_topic = Some("reply/here".to_owned());
        p.correlation_data = Some(vec![0, 1, 0xFF].into());
        p.user_properties = [("k", "1"), ("k", "2"), ("a", "")].map(|(k, v)| (k.into(), v.into())).into();
    });
    v5(&unique("props")).will(packet).open().vanish();
    let got = watcher.receive(&topic, "{}").properties;
    assert_eq!(got.number(property::PAYLOAD_FORMAT), Some(1));
    assert!(got.number(property::MESSAGE_EXPIRY).is_some_and(|left| (90..=100).contains(&left)), "{got:?}");
    assert_eq!(got.text(property::CONTENT_TYPE), Some("application/json"));
    assert_eq!(got.text(property::RESPONSE_TOPIC), Some("reply/here"));
    assert_eq!(got.binary(property::CORRELATION_DATA), Some(&[0, 1, 0xFF][..]));
    assert_eq!(got.user(), [("k", "1"), ("k", "2"), ("a", "")]);
}

#[test]
fn will_reaches_the_clients_own_kept_session() {
    for version in VERSIONS {
        let (id, topic) = (unique("own"), unique("own"));
        let mut client = connect(version, &id).persistent().will(will(&topic, "mine").qos(1)).open();
        client.subscribe(&topic, 1);
        client.vanish();
        let mut client = connect(version, &id).persistent().open();
        client.receive(&topic, "mine");
    }
}
