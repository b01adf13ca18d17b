//! What MQTT 5 added: properties, expiry, aliases, packet sizes, information asked for, enhanced authentication.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_imports,
    clippy::doc_markdown,
    reason = "tests"
)]

mod dialogue;

use std::time::Duration;

use dialogue::*;

#[test]
fn message_properties_arrive_unaltered() {
    for qos in 0..=2 {
        let topic = unique("props");
        let mut client = v5(&unique("props")).open();
        client.subscribe(&topic, qos);
        let sent = message(&topic, "{}")
            .qos(qos)
            .utf8()
            .content_type("application/json; charset=utf-8")
            .response_topic("reply/客户")
            .correlation(&[0, 1, 2, 0xFF, 0])
            .user("b", "2")
            .user("a", "1")
            .user("b", "1")
            .user("", "")
            .user("客户", "名字");
        publisher().deliver(sent);
        let got = client.receive(&topic, "{}").properties;
        assert_eq!(got.number(property::PAYLOAD_FORMAT), Some(1));
        assert_eq!(got.text(property::CONTENT_TYPE), Some("application/json; charset=utf-8"));
        assert_eq!(got.text(property::RESPONSE_TOPIC), Some("reply/客户"));
        assert_eq!(got.binary(property::CORRELATION_DATA), Some(&[0, 1, 2, 0xFF, 0][..]));
        assert_eq!(got.user(), [("b", "2"), ("a", "1"), ("b", "1"), ("", ""), ("客户", "名字")]);
    }
}

#[test]
fn message_without_properties_gets_none() {
    let topic = unique("bare");
    let mut client = v5(&unique("bare")).open();
    client.subscribe(&topic, 1);
    for version in VERSIONS {
        connect(version, &unique("sender")).open().deliver(message(&topic, "x").qos(1));
        assert_eq!(client.receive(&topic, "x").properties, Properties::default());
    }
}

#[test]
fn properties_do_not_reach_mqtt_3() {
    let topic = unique("old");
    let mut client = v311(&unique("old")).open();
    client.subscribe(&topic, 1);
    publisher()
        .deliver(message(&topic, "plain").qos(1).user("k", "v").content_type("text/plain").expiry(100));
    client.receive(&topic, "plain");
}

#[test]
fn properties_are_kept_with_retained_and_waiting_messages() {
    let (id, topic) = (unique("kept"), unique("kept"));
    let mut client = v5(&id).persistent().open();
    client.subscribe(&topic, 1);
    client.vanish();
    publisher().deliver(message(&topic, "x").qos(1).retain().user("k", "v").correlation(b"7").expiry(1000));
    let mut client = v5(&id).persistent().open();
    let mut late = v5(&unique("late")).open();
    late.subscribe(&topic, 1);
    for client in [&mut client, &mut late] {
        let got = client.receive(&topic, "x").properties;
        assert_eq!(got.user(), [("k", "v")]);
        assert_eq!(got.binary(property::CORRELATION_DATA), Some(&b"7"[..]));
        assert!(
            got.number(property::MESSAGE_EXPIRY).is_some_and(|left| (990..=1000).contains(&left)),
            "{got:?}"
        );
    }
}

#[test]
fn expired_messages_are_not_delivered() {
    for version in VERSIONS {
        let (id, topic) = (unique("expired"), unique("expired"));
        let mut client = connect(version, &id).persistent().open();
        client.subscribe(&topic, 2);
        client.vanish();
        let mut sender = publisher();
        sender.deliver(message(&topic, "short").qos(1).expiry(1));
        sender.deliver(message(&topic, "short too").qos(2).expiry(1));
        sender.deliver(message(&topic, "long").qos(1).expiry(600));
        sender.deliver(message(&topic, "for ever").qos(1));
        sender.expect_silence_for(Duration::from_millis(2200));
        let mut client = connect(version, &id).persistent().open();
        let long = client.receive(&topic, "long");
        let for_ever = client.receive(&topic, "for ever");
        client.expect_quiet();
        if version.is_v5() {
            let left = long.properties.number(property::MESSAGE_EXPIRY);
            assert!(left.is_some_and(|left| (595..=598).contains(&left)), "waited two seconds: {left:?}");
            assert!(!for_ever.properties.has(property::MESSAGE_EXPIRY));
        }
    }
}

#[test]
fn messages_held_up_by_the_receive_maximum_expire_too() {
    let topic = unique("held");
    let mut client = v5(&unique("held")).receive_maximum(1).open();
    client.subscribe(&topic, 1);
    let mut sender = publisher();
    sender.deliver(message(&topic, "first").qos(1));
    sender.deliver(message(&topic, "expires").qos(1).expiry(1));
    sender.deliver(message(&topic, "last").qos(1).expiry(600));
    let first = client.expect(&topic, "first");
    client.expect_silence_for(Duration::from_millis(2200));
    client.puback(first.id);
    let last = client.receive(&topic, "last");
    assert!(last.properties.number(property::MESSAGE_EXPIRY).is_some_and(|left| left <= 598), "{last:?}");
}

#[test]
fn retained_messages_expire() {
    let topic = unique("retexp");
    let mut sender = publisher();
    sender.deliver(message(&topic, "short").qos(1).retain().expiry(1));
    let mut early = v5(&unique("early")).open();
    early.subscribe(&topic, 1);
    early.receive(&topic, "short");
    sender.expect_silence_for(Duration::from_millis(2200));
    let mut late = v5(&unique("late")).open();
    late.subscribe(&topic, 1);
    sender.deliver(message(&topic, "end").qos(1));
    late.receive(&topic, "end");
    late.expect_quiet();
}

#[test]
fn topic_alias_of_the_client_stands_for_its_topic() {
    let root = unique("alias");
    let mut watcher = v5(&unique("watcher")).open();
    watcher.subscribe(&format!("{root}/+"), 2);
    let mut client = v5(&unique("alias")).open();
    let most = client.connack.properties.number(property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0) as u16;
    assert!(most >= 2, "the broker offers aliases");
    let (a, b) = (format!("{root}/a"), format!("{root}/b"));
    client.deliver(message(&a, "set").qos(1).alias(1));
    client.deliver(message("", "used").qos(0).alias(1));
    client.deliver(message(&b, "highest").qos(2).alias(most));
    client.deliver(message("", "highest used").qos(2).alias(most));
    client.deliver(message(&b, "moved").qos(1).alias(1));
    client.deliver(message("", "moved used").qos(1).alias(1));
    for (topic, payload) in
        [(&a, "set"), (&a, "used"), (&b, "highest"), (&b, "highest used"), (&b, "moved"), (&b, "moved used")]
    {
        let got = watcher.receive(topic, payload);
        assert!(!got.properties.has(property::TOPIC_ALIAS), "this receiver allowed none");
    }
}

#[test]
fn alias_set_again_in_a_repeated_publish_is_fine() {
    let topic = unique("aliasdup");
    let mut client = v5(&unique("aliasdup")).open();
    client.publish(message(&topic, "x").qos(2).id(1).alias(1));
    client.expect_pubrec(1);
    client.publish(message(&topic, "x").qos(2).id(1).alias(1).dup());
    client.expect_pubrec(1);
    client.pubrel(1);
    client.expect_pubcomp(1);
}

#[test]
fn bad_topic_aliases_end_the_connection() {
    let topic = unique("badalias");
    let mut client = v5(&unique("zero")).open();
    let most = client.connack.properties.number(property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0) as u16;
    client.publish(message(&topic, "x").alias(0));
    client.expect_ended(0x94);
    if most < u16::MAX {
        let mut client = v5(&unique("above")).open();
        client.publish(message(&topic, "x").alias(most + 1));
        client.expect_ended(0x94);
    }
    let mut client = v5(&unique("unknown")).open();
    client.publish(message("", "x").alias(1));
    client.expect_ended(0x82);
}

#[test]
fn aliases_end_with_the_connection() {
    let (id, topic) = (unique("carry"), unique("carry"));
    let mut client = v5(&id).persistent().open();
    client.deliver(message(&topic, "set").qos(1).alias(1));
    client.vanish();
    let mut client = v5(&id).persistent().open();
    client.publish(message("", "unknown now").alias(1));
    client.expect_ended(0x82);
}

#[test]
fn broker_assigns_aliases_up_to_the_clients_maximum() {
    let root = unique("outalias");
    let mut client = v5(&unique("outalias")).topic_alias_maximum(2).open();
    client.subscribe(&format!("{root}/+"), 0);
    let mut sender = publisher();
    let mut known = std::collections::HashMap::new();
    let mut shortened = 0;
    for turn in 0..40 {
        let topic = format!("{root}/{}", turn % 4);
        sender.deliver(message(&topic, turn.to_string()));
        let got = client.expect_publish();
        assert_eq!(got.text(), turn.to_string());
        let alias = got.properties.number(property::TOPIC_ALIAS);
        assert!(alias.is_none_or(|alias| (1..=2).contains(&alias)), "{got:?}");
        match alias {
            Some(alias) if got.topic.is_empty() => {
                assert_eq!(known.get(&alias), Some(&topic), "the alias stands for this topic");
                shortened += 1;
            }
            Some(alias) => drop(known.insert(alias, got.topic.clone())),
            None => assert_eq!(got.topic, topic),
        }
        assert!(got.topic.is_empty() || got.topic == topic);
    }
    assert!(broker().foreign || shortened > 0, "Switchboard makes use of the aliases it may assign");
}

#[test]
fn broker_sends_no_alias_unasked() {
    let topic = unique("noalias");
    for packet in [v5(&unique("noalias")), v5(&unique("noalias")).topic_alias_maximum(0)] {
        let mut client = packet.open();
        client.subscribe(&topic, 0);
        for _ in 0..5 {
            publisher().deliver(message(&topic, "x"));
            let got = client.receive(&topic, "x");
            assert!(!got.properties.has(property::TOPIC_ALIAS));
        }
    }
}

#[test]
fn aliases_of_the_broker_end_with_the_connection() {
    let (id, topic) = (unique("outcarry"), unique("outcarry"));
    let mut client = v5(&id).persistent().topic_alias_maximum(10).open();
    client.subscribe(&topic, 1);
    let mut sender = publisher();
    for _ in 0..3 {
        sender.deliver(message(&topic, "x").qos(1));
        let got = client.expect_publish();
        client.acknowledge(&got);
    }
    sender.deliver(message(&topic, "not acknowledged").qos(1));
    client.expect_publish();
    client.vanish();
    let mut client = v5(&id).persistent().topic_alias_maximum(10).open();
    let again = client.expect_publish();
    assert_eq!(
        (again.topic.as_str(), again.dup),
        (topic.as_str(), true),
        "a new connection starts with whole names"
    );
    client.vanish();
    let mut client = v5(&id).persistent().open();
    let again = client.receive(&topic, "not acknowledged");
    assert!(!again.properties.has(property::TOPIC_ALIAS), "this one allows none");
}

#[test]
fn message_too_large_for_a_receiver_is_left_out() {
    let (id, topic) = (unique("large"), unique("large"));
    let mut small = v5(&id).persistent().maximum_packet(100).open();
    small.subscribe(&topic, 2);
    let mut other = v5(&unique("other")).open();
    other.subscribe(&topic, 2);
    let mut sender = publisher();
    let large = "x".repeat(200);
    for qos in 0..=2 {
        sender.deliver(message(&topic, &large).qos(qos));
        sender.deliver(message(&topic, "small").qos(qos));
        assert!(small.receive(&topic, "small").size <= 100);
        other.receive(&topic, &large);
        other.receive(&topic, "small");
    }
    small.vanish();
    let mut small = v5(&id).persistent().open();
    small.expect_quiet();
}

#[test]
fn maximum_packet_size_counts_the_whole_packet() {
    let topic = unique("exact");
    let mut client = v5(&unique("exact")).maximum_packet(120).open();
    client.subscribe(&topic, 0);
    let mut sender = publisher();
    // Fixed header 2, topic length 2, topic, property length 1, payload.
    let room = 120 - 2 - 2 - topic.len() - 1;
    sender.deliver(message(&topic, "y".repeat(room + 1)));
    sender.deliver(message(&topic, "y".repeat(room)));
    assert_eq!(client.receive(&topic, "y".repeat(room)).size, 120);
}

#[test]
fn retained_and_waiting_messages_respect_the_packet_size() {
    let (id, topic) = (unique("sizes"), unique("sizes"));
    let mut client = v5(&id).persistent().open();
    client.subscribe(&format!("{topic}/+"), 1);
    client.vanish();
    let mut sender = publisher();
    sender.deliver(message(&format!("{topic}/a"), "x".repeat(300)).qos(1).retain());
    sender.deliver(message(&format!("{topic}/b"), "fits").qos(1).retain());
    let mut client = v5(&id).persistent().maximum_packet(128).open();
    client.receive(&format!("{topic}/b"), "fits");
    client.expect_quiet();
    client.subscribe(&format!("{topic}/+"), 1);
    client.receive(&format!("{topic}/b"), "fits");
    client.expect_quiet();
}

#[test]
fn packet_larger_than_the_broker_allows_ends_the_connection() {
    let mut client = v5(&unique("toolarge")).open();
    let Some(most) = client.connack.properties.number(property::MAXIMUM_PACKET) else {
        assert!(broker().foreign, "Switchboard says how much it takes");
        return;
    };
    // The header alone announces it: nothing has to be sent or read beyond.
    client.send(&Raw::new().byte(0x30).varint(most as usize + 1).0);
    client.expect_ended(0x95);
    let mut client = v311(&unique("toolarge")).open();
    client.send(&Raw::new().byte(0x30).varint(most as usize + 1).0);
    client.expect_ended(0x95);
}

#[test]
fn no_problem_information_unless_wanted() {
    let mut client = v5(&unique("problem")).request_problem_information(false).open();
    let refused = client.subscribe_with(&subscription(&unique("ok"), 0));
    assert_eq!(refused.properties, Properties::default());
    let answer = client.unsubscribe(&["never/subscribed"]);
    assert_eq!(answer.properties, Properties::default());
    client.publish(message(&unique("nobody"), "x").qos(1).id(5));
    assert_eq!(client.expect_puback(5).properties, Properties::default());
    client.publish(message(&unique("nobody"), "x").qos(2).id(6));
    assert_eq!(client.expect_pubrec(6).properties, Properties::default());
    client.pubrel(6);
    assert_eq!(client.expect_pubcomp(6).properties, Properties::default());
    client.pubrel(7);
    assert_eq!(client.expect_pubcomp(7).properties, Properties::default());
    client.send(&subscription("a/#/b", 0).encode(Version::V5, 8));
    match client.next_or_closed() {
        Some(Packet::SubAck(ack)) => assert_eq!(ack.properties, Properties::default()),
        None | Some(Packet::Disconnect(_)) => {}
        Some(other) => client.fail(&format!("{other:?}")),
    }
}

#[test]
fn user_properties_of_a_message_pass_without_problem_information() {
    let topic = unique("userpass");
    let mut client = v5(&unique("userpass")).request_problem_information(false).open();
    client.subscribe(&topic, 0);
    publisher().deliver(message(&topic, "x").user("k", "v"));
    assert_eq!(client.receive(&topic, "x").properties.user(), [("k", "v")]);
}

#[test]
fn response_information_comes_only_when_asked_for() {
    for packet in [v5(&unique("info")), v5(&unique("info")).request_response_information(false)] {
        let client = packet.open();
        assert!(!client.connack.properties.has(property::RESPONSE_INFORMATION));
    }
    let client = v5(&unique("info")).request_response_information(true).open();
    if let Some(info) = client.connack.properties.text(property::RESPONSE_INFORMATION) {
        assert!(!info.is_empty() && !info.contains(['+', '#']), "it begins topic names: {info}");
    } else {
        assert!(broker().foreign, "Switchboard gives response information to who asks");
    }
}

#[test]
fn user_properties_are_accepted_everywhere() {
    let topic = unique("user");
    let mut client = v5(&unique("user")).user("k", "v").user("k", "w").open();
    client.subscribed(&subscription(&topic, 1).user("k", "v").user("k", "v"));
    let user = Raw::new().byte(0x26).field("k").field("v").byte(0x26).field("k").field("w");
    publisher().deliver(message(&topic, "1").qos(1));
    let one = client.expect(&topic, "1");
    client.send(&Raw::new().two(one.id).byte(0).properties(&user).packet(0x40));
    client.send(&Raw::new().two(50).properties(&user).field(&topic).packet(0xA2));
    assert!(matches!(client.next(), Packet::UnsubAck(ack) if ack.id == 50 && ack.codes == [0]));
    client.publish(message(&topic, "2").qos(2).id(60));
    client.expect_pubrec(60);
    client.send(&Raw::new().two(60).byte(0).properties(&user).packet(0x62));
    client.expect_pubcomp(60);
    client.send(&Raw::new().byte(0).properties(&user).packet(0xE0));
    client.expect_closed();
}

#[test]
fn acknowledgements_may_leave_reason_and_properties_out_or_give_them() {
    let topic = unique("forms");
    let mut client = v5(&unique("forms")).open();
    client.subscribe(&topic, 1);
    let mut sender = publisher();
    for form in 0..3 {
        sender.deliver(message(&topic, "x").qos(1));
        let id = client.expect(&topic, "x").id;
        let ack = Raw::new().two(id);
        client.send(&match form {
            0 => ack.packet(0x40),
            1 => ack.byte(0).packet(0x40),
            _ => ack.byte(0).byte(0).packet(0x40),
        });
        client.expect_quiet();
    }
    client.publish(message(&unique("elsewhere"), "y").qos(2).id(9));
    client.expect_pubrec(9);
    client.send(&Raw::new().two(9).byte(0).byte(0).packet(0x62));
    client.expect_pubcomp(9);
}

#[test]
fn subscription_identifier_from_a_publisher_is_a_protocol_error() {
    let mut client = v5(&unique("subid")).open();
    client.publish(message(&unique("subid"), "x").subscription_id(1));
    client.expect_ended(0x82);
}

#[test]
fn unknown_authentication_method_is_refused() {
    let mut client = v5(&unique("auth")).authentication("NO-SUCH-METHOD", b"data").start();
    client.expect_connect_refused(&[0x87, 0x8C]);
}

#[test]
fn auth_without_an_authentication_method_is_a_protocol_error() {
    for reason in [0x18, 0x19, 0x00] {
        let mut client = v5(&unique("auth")).open();
        let method = Raw::new().byte(property::AUTHENTICATION_METHOD).field("NO-SUCH-METHOD");
        client.send(&Raw::new().byte(reason).properties(&method).packet(0xF0));
        client.expect_ended(0x82);
    }
}

#[test]
fn connack_says_nothing_of_authentication_unasked() {
    let client = v5(&unique("noauth")).login("someone", "secret").open();
    assert!(!client.connack.properties.has(property::AUTHENTICATION_METHOD));
    assert!(!client.connack.properties.has(property::AUTHENTICATION_DATA));
}

#[test]
fn connack_takes_nothing_away_that_is_there() {
    let client = v5(&unique("features")).open();
    let p = &client.connack.properties;
    for id in [
        property::RETAIN_AVAILABLE,
        property::WILDCARD_AVAILABLE,
        property::SUBSCRIPTION_ID_AVAILABLE,
        property::SHARED_AVAILABLE,
        property::MAXIMUM_QOS,
    ] {
        assert_ne!(p.number(id), Some(0), "{id:#04x}: everything is available");
    }
    assert!(!p.has(property::MAXIMUM_QOS), "QoS 2 is said by leaving the property out");
}

#[test]
fn no_packet_exceeds_what_the_client_takes() {
    // The harness measures every packet that arrives. Reason strings and user properties are what could be too much.
    let topic = unique("tiny");
    let mut client = v5(&unique("tiny")).maximum_packet(48).request_response_information(true).open();
    client.subscribe(&topic, 1);
    client.unsubscribe(&["never/subscribed", &topic]);
    client.publish(message(&topic, "x").qos(1).id(5));
    client.expect_puback(5);
    client.publish(message(&topic, "x").qos(2).id(6));
    client.expect_pubrec(6);
    client.pubrel(6);
    client.expect_pubcomp(6);
    client.pubrel(7);
    client.expect_pubcomp(7);
    client.send(&[0xC1, 0]);
    client.expect_ended(0x81);
}

#[test]
fn messages_cross_between_versions() {
    let topic = unique("cross");
    let mut clients =
        [Version::V31, Version::V311, Version::V5].map(|version| connect(version, &unique("cross")).open());
    for client in &mut clients {
        client.subscribe(&topic, 2);
    }
    for from in 0..3 {
        publisher_of(&clients[from]).deliver(message(&topic, from.to_string()).qos(2));
        for client in &mut clients {
            client.receive(&topic, from.to_string());
        }
    }
}

fn publisher_of(like: &Client) -> Client {
    connect(like.version, &unique("pub")).open()
}
