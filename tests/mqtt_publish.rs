//! Delivery: the QoS flows in both directions, redelivery on resume, order, and receive maximum both ways.

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
fn every_qos_reaches_every_subscription_at_the_lower_of_the_two() {
    for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(a, b)| (VERSIONS[a], VERSIONS[b])) {
        for published in 0..=2 {
            for granted in 0..=2 {
                let topic = unique("qos");
                let mut receiver = connect(to, &unique("receiver")).open();
                receiver.subscribe(&topic, granted);
                connect(from, &unique("sender")).open().deliver(message(&topic, "payload").qos(published));
                let got = receiver.receive(&topic, "payload");
                assert_eq!(got.qos, published.min(granted), "published at {published}, granted {granted}");
                assert!(!got.dup && !got.retain, "a first delivery of a message that is not retained");
                receiver.expect_quiet();
            }
        }
    }
}

#[test]
fn acknowledgements_carry_the_packet_id_of_their_publish() {
    for version in VERSIONS {
        let topic = unique("ids");
        let mut client = connect(version, &unique("ids")).open();
        for id in [1, 255, 256, 65_535] {
            client.publish(message(&topic, "one").qos(1).id(id));
            client.expect_puback(id);
            client.publish(message(&topic, "two").qos(2).id(id));
            client.expect_pubrec(id);
            client.pubrel(id);
            client.expect_pubcomp(id);
        }
    }
}

#[test]
fn qos_2_publish_repeated_before_pubrel_is_one_message() {
    for version in VERSIONS {
        let topic = unique("repeat");
        let mut receiver = connect(version, &unique("receiver")).open();
        receiver.subscribe(&topic, 2);
        let mut sender = connect(version, &unique("sender")).open();
        sender.publish(message(&topic, "once").qos(2).id(7));
        sender.expect_pubrec(7);
        sender.publish(message(&topic, "once").qos(2).id(7).dup());
        sender.expect_pubrec(7);
        sender.pubrel(7);
        sender.expect_pubcomp(7);
        sender.publish(message(&topic, "marker").qos(2).id(8));
        sender.expect_pubrec(8);
        sender.pubrel(8);
        sender.expect_pubcomp(8);
        receiver.receive(&topic, "once");
        receiver.receive(&topic, "marker");
        receiver.expect_quiet();
    }
}

#[test]
fn qos_2_publish_repeated_after_a_resume_is_one_message() {
    for version in VERSIONS {
        let (id, topic) = (unique("sender"), unique("repeat"));
        let mut receiver = connect(version, &unique("receiver")).open();
        receiver.subscribe(&topic, 2);
        let mut sender = connect(version, &id).persistent().open();
        sender.publish(message(&topic, "once").qos(2).id(7));
        sender.expect_pubrec(7);
        sender.vanish();
        let mut sender = connect(version, &id).persistent().open();
        assert!(sender.connack.session_present);
        sender.publish(message(&topic, "once").qos(2).id(7).dup());
        sender.expect_pubrec(7);
        sender.pubrel(7);
        sender.expect_pubcomp(7);
        sender.publish(message(&topic, "marker").qos(2).id(8));
        sender.expect_pubrec(8);
        sender.pubrel(8);
        sender.expect_pubcomp(8);
        receiver.receive(&topic, "once");
        receiver.receive(&topic, "marker");
    }
}

#[test]
fn packet_id_is_free_again_once_acknowledged() {
    for version in VERSIONS {
        let topic = unique("reuse");
        let mut receiver = connect(version, &unique("receiver")).open();
        receiver.subscribe(&topic, 2);
        let mut sender = connect(version, &unique("sender")).open();
        for (qos, text) in [(1, "a"), (1, "b"), (2, "c"), (2, "d"), (1, "e")] {
            sender.deliver(message(&topic, text).qos(qos).id(3));
            receiver.receive(&topic, text);
        }
    }
}

#[test]
fn qos_1_publish_with_dup_after_its_puback_is_a_new_message() {
    for version in VERSIONS {
        let topic = unique("anew");
        let mut receiver = connect(version, &unique("receiver")).open();
        receiver.subscribe(&topic, 1);
        let mut sender = connect(version, &unique("sender")).open();
        sender.deliver(message(&topic, "again").qos(1).id(3));
        sender.deliver(message(&topic, "again").qos(1).id(3).dup());
        receiver.receive(&topic, "again");
        let second = receiver.receive(&topic, "again");
        assert!(!second.dup, "DUP speaks of the sender's own delivery and is not passed on");
    }
}

#[test]
fn pubrel_of_an_unknown_packet_is_completed() {
    for version in VERSIONS {
        let mut client = connect(version, &unique("pubrel")).open();
        client.pubrel(77);
        let done = client.expect_pubcomp(77);
        assert!([0x00, 0x92].contains(&done.reason), "{done:?}");
        client.expect_quiet();
    }
}

#[test]
fn unacknowledged_qos_1_messages_are_sent_again_in_order_on_resume() {
    for version in VERSIONS {
        let (id, topic) = (unique("again"), unique("again"));
        let mut client = connect(version, &id).persistent().open();
        client.subscribe(&topic, 1);
        let mut sender = publisher();
        for text in ["1", "2", "3"] {
            sender.deliver(message(&topic, text).qos(1));
        }
        let first: Vec<_> = ["1", "2", "3"].map(|text| client.expect(&topic, text)).into();
        assert!(first.iter().all(|p| !p.dup && p.qos == 1), "{first:?}");
        client.puback(first[1].id);
        client.expect_quiet();
        client.vanish();
        sender.deliver(message(&topic, "4").qos(1));
        let mut client = connect(version, &id).persistent().open();
        let one = client.receive(&topic, "1");
        let three = client.receive(&topic, "3");
        let four = client.receive(&topic, "4");
        assert_eq!((one.id, one.dup, three.id, three.dup), (first[0].id, true, first[2].id, true));
        assert!(!four.dup, "sent for the first time");
        client.expect_quiet();
    }
}

#[test]
fn unacknowledged_qos_2_messages_go_on_where_they_stopped() {
    for version in VERSIONS {
        let (id, topic) = (unique("goon"), unique("goon"));
        let mut client = connect(version, &id).persistent().open();
        client.subscribe(&topic, 2);
        let mut sender = publisher();
        sender.deliver(message(&topic, "released").qos(2));
        sender.deliver(message(&topic, "sent").qos(2));
        let released = client.expect(&topic, "released");
        let sent = client.expect(&topic, "sent");
        client.pubrec(released.id);
        client.expect_pubrel(released.id);
        client.vanish();

        let mut client = connect(version, &id).persistent().open();
        let mut pubrels = 0;
        for _ in 0..2 {
            match client.next() {
                Packet::PubRel(ack) if ack.id == released.id => pubrels += 1,
                Packet::Publish(p) => {
                    assert_eq!(
                        (p.id, p.dup, p.text()),
                        (sent.id, true, "sent"),
                        "only what was not received"
                    );
                }
                other => client.fail(&format!("{other:?}")),
            }
        }
        assert_eq!(pubrels, 1, "PUBREL is repeated, its PUBLISH is not");
        client.pubcomp(released.id);
        client.pubrec(sent.id);
        client.expect_pubrel(sent.id);
        client.pubcomp(sent.id);
        client.expect_quiet();
        client.vanish();
        let mut client = connect(version, &id).persistent().open();
        client.expect_quiet();
    }
}

#[test]
fn nothing_is_sent_again_while_the_connection_lasts() {
    for version in VERSIONS {
        let topic = unique("patience");
        let mut client = connect(version, &unique("patience")).open();
        client.subscribe(&topic, 2);
        let mut sender = publisher();
        sender.deliver(message(&topic, "one").qos(1));
        sender.deliver(message(&topic, "two").qos(2));
        let one = client.expect(&topic, "one");
        let two = client.expect(&topic, "two");
        client.expect_silence_for(Duration::from_millis(2500));
        client.acknowledge(&one);
        client.acknowledge(&two);
        client.expect_quiet();
    }
}

#[test]
fn packet_ids_in_flight_are_distinct() {
    let topic = unique("distinct");
    let mut client = v5(&unique("distinct")).receive_maximum(100).open();
    client.subscribe(&topic, 2);
    let mut sender = publisher();
    for turn in 0..20 {
        sender.deliver(message(&topic, turn.to_string()).qos(1 + turn % 2));
    }
    let mut ids: Vec<u16> = (0..20).map(|turn| client.expect(&topic, turn.to_string()).id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20, "{ids:?}");
}

#[test]
fn refused_messages_are_not_sent_again() {
    let (id, topic) = (unique("refuse"), unique("refuse"));
    let mut client = v5(&id).persistent().open();
    client.subscribe(&topic, 2);
    let mut sender = publisher();
    sender.deliver(message(&topic, "one").qos(1));
    sender.deliver(message(&topic, "two").qos(2));
    let one = client.expect(&topic, "one");
    let two = client.expect(&topic, "two");
    client.refuse(0x40, one.id, 0x83);
    client.refuse(0x50, two.id, 0x97);
    client.expect_quiet();
    client.vanish();
    let mut client = v5(&id).persistent().open();
    assert!(client.connack.session_present);
    client.expect_quiet();
    sender.deliver(message(&topic, "marker").qos(1));
    client.receive(&topic, "marker");
}

#[test]
fn messages_of_one_publisher_keep_their_order() {
    for qos in 0..=2 {
        for version in VERSIONS {
            let topic = unique("order");
            let mut receiver = connect(version, &unique("receiver")).open();
            receiver.subscribe(&topic, qos);
            let mut sender = connect(version, &unique("sender")).open();
            for turn in 0..200 {
                sender.deliver(message(&topic, turn.to_string()).qos(qos));
            }
            for turn in 0..200 {
                receiver.receive(&topic, turn.to_string());
            }
            receiver.expect_quiet();
        }
    }
}

#[test]
fn pipelined_publishes_are_acknowledged_and_delivered_in_order() {
    for version in VERSIONS {
        let topic = unique("pipeline");
        let mut receiver = connect(version, &unique("receiver")).open();
        receiver.subscribe(&topic, 1);
        let mut sender = connect(version, &unique("sender")).open();
        let count: u16 = 15;
        let mut bytes = Vec::new();
        for id in 1..=count {
            bytes.extend(message(&topic, id.to_string()).qos(1).id(id).encode(version));
        }
        sender.send(&bytes);
        for id in 1..=count {
            sender.expect_puback(id);
        }
        for id in 1..=count {
            receiver.receive(&topic, id.to_string());
        }
    }
}

#[test]
fn messages_wait_in_order_for_an_absent_session() {
    for version in VERSIONS {
        let (id, topic) = (unique("absent"), unique("absent"));
        let mut client = connect(version, &id).persistent().open();
        client.subscribe(&topic, 2);
        client.vanish();
        let mut sender = publisher();
        for turn in 0..50 {
            sender.deliver(message(&topic, turn.to_string()).qos(1 + turn % 2));
        }
        let mut client = connect(version, &id).persistent().open();
        for turn in 0..50 {
            let got = client.receive(&topic, turn.to_string());
            assert!(!got.dup && got.qos == 1 + turn % 2);
        }
        client.expect_quiet();
    }
}

#[test]
fn publish_without_subscribers_is_acknowledged() {
    for version in VERSIONS {
        let topic = unique("nobody");
        let mut client = connect(version, &unique("nobody")).open();
        client.publish(message(&topic, "x").qos(1).id(1));
        let ack = client.expect_puback(1);
        assert!([0x00, 0x10].contains(&ack.reason), "{ack:?}");
        client.publish(message(&topic, "x").qos(2).id(2));
        let ack = client.expect_pubrec(2);
        assert!([0x00, 0x10].contains(&ack.reason), "{ack:?}");
        client.pubrel(2);
        client.expect_pubcomp(2);
    }
}

#[test]
fn payloads_of_any_size_arrive_whole() {
    for version in VERSIONS {
        let topic = unique("size");
        let mut receiver = connect(version, &unique("receiver")).open();
        receiver.subscribe(&topic, 1);
        let mut sender = connect(version, &unique("sender")).open();
        for size in [0, 1, 100, 127, 128, 4096, 16_383, 16_384, 65_535, 65_536, 900 * 1024] {
            let payload: Vec<u8> = (0..=250).cycle().take(size).collect();
            sender.deliver(message(&topic, &payload).qos(1));
            receiver.receive(&topic, &payload);
        }
    }
}

#[test]
fn receive_maximum_of_the_client_bounds_what_is_in_flight() {
    for qos in 1..=2 {
        let topic = unique("window");
        let mut client = v5(&unique("window")).receive_maximum(2).open();
        client.subscribe(&topic, 2);
        let mut sender = publisher();
        for text in ["1", "2", "3", "4"] {
            sender.deliver(message(&topic, text).qos(qos));
        }
        let one = client.expect(&topic, "1");
        let two = client.expect(&topic, "2");
        client.expect_quiet();
        client.expect_silence_for(Duration::from_millis(300));
        if qos == 2 {
            client.pubrec(one.id);
            client.expect_pubrel(one.id);
            client.expect_quiet();
            client.pubcomp(one.id);
        } else {
            client.puback(one.id);
        }
        let three = client.expect(&topic, "3");
        client.expect_quiet();
        client.acknowledge(&two);
        let four = client.expect(&topic, "4");
        client.acknowledge(&three);
        client.acknowledge(&four);
        client.expect_quiet();
    }
}

#[test]
fn refusing_pubrec_frees_a_place_in_flight() {
    let topic = unique("place");
    let mut client = v5(&unique("place")).receive_maximum(1).open();
    client.subscribe(&topic, 2);
    let mut sender = publisher();
    sender.deliver(message(&topic, "1").qos(2));
    sender.deliver(message(&topic, "2").qos(2));
    let one = client.expect(&topic, "1");
    client.expect_quiet();
    client.refuse(0x50, one.id, 0x80);
    client.receive(&topic, "2");
    client.expect_quiet();
}

#[test]
fn full_flight_does_not_hold_up_anything_else() {
    let topic = unique("full");
    let mut client = v5(&unique("full")).receive_maximum(1).open();
    client.subscribe(&format!("{topic}/+"), 1);
    let mut sender = publisher();
    sender.deliver(message(&format!("{topic}/a"), "1").qos(1));
    sender.deliver(message(&format!("{topic}/a"), "2").qos(1));
    let one = client.expect(&format!("{topic}/a"), "1");
    // The quota is spent: QoS 0 and every other packet still pass.
    sender.deliver(message(&format!("{topic}/b"), "0").qos(0));
    client.receive(&format!("{topic}/b"), "0");
    client.expect_quiet();
    client.subscribe(&format!("{topic}/other"), 0);
    client.publish(message("elsewhere", "x").qos(1).id(900));
    client.expect_puback(900);
    client.publish(message("elsewhere", "x").qos(2).id(901));
    client.expect_pubrec(901);
    client.pubrel(901);
    client.expect_pubcomp(901);
    client.puback(one.id);
    client.receive(&format!("{topic}/a"), "2");
}

#[test]
fn each_connection_has_its_own_receive_maximum() {
    let (id, topic) = (unique("quota"), unique("quota"));
    let mut client = v5(&id).persistent().receive_maximum(3).open();
    client.subscribe(&topic, 1);
    let mut sender = publisher();
    for text in ["1", "2", "3", "4"] {
        sender.deliver(message(&topic, text).qos(1));
    }
    for text in ["1", "2", "3"] {
        client.expect(&topic, text);
    }
    client.vanish();
    let mut client = v5(&id).persistent().receive_maximum(1).open();
    for text in ["1", "2", "3", "4"] {
        let got = client.expect(&topic, text);
        client.expect_quiet();
        client.puback(got.id);
    }
    client.expect_quiet();
    client.vanish();
    let mut client = v5(&id).persistent().open();
    for text in ["5", "6", "7"] {
        sender.deliver(message(&topic, text).qos(1));
    }
    for text in ["5", "6", "7"] {
        client.expect(&topic, text);
    }
}

#[test]
fn identifier_of_a_refused_message_is_a_new_messages() {
    let topic = unique("refused");
    let mut receiver = v5(&unique("refused")).open();
    receiver.subscribe(&topic, 2);
    let mut sender = v5(&unique("refused")).open();
    sender.publish(message("$mine", "refused").qos(2).id(7));
    assert_eq!(sender.expect_pubrec(7).reason, 0x90);
    sender.publish(message(&topic, "taken").qos(2).id(7));
    assert_eq!(sender.expect_pubrec(7).reason, 0x00);
    assert_eq!(receiver.expect_publish().payload, b"taken");
}

#[test]
fn client_that_exceeds_the_servers_receive_maximum_is_ended() {
    let topic = unique("exceed");
    let mut client = v5(&unique("exceed")).open();
    let allowed = client.connack.properties.number(property::RECEIVE_MAXIMUM).unwrap_or(65_535) as u16;
    assert!(allowed < 65_535, "with the greatest maximum there is no packet identifier left to exceed it");
    for id in 1..=allowed {
        client.publish(message(&topic, "held").qos(2).id(id));
    }
    for id in 1..=allowed {
        client.expect_pubrec(id);
    }
    client.publish(message(&topic, "one too many").qos(2).id(allowed + 1));
    client.expect_ended(0x93);
}

#[test]
fn servers_receive_maximum_can_be_used_in_full_again_and_again() {
    let topic = unique("use");
    let mut client = v5(&unique("use")).open();
    let allowed =
        client.connack.properties.number(property::RECEIVE_MAXIMUM).unwrap_or(65_535).min(500) as u16;
    for _ in 0..3 {
        for id in 1..=allowed {
            client.publish(message(&topic, "held").qos(2).id(id));
        }
        for id in 1..=allowed {
            client.expect_pubrec(id);
        }
        for id in 1..=allowed {
            client.pubrel(id);
        }
        for id in 1..=allowed {
            client.expect_pubcomp(id);
        }
    }
}

#[test]
fn qos_2_message_once_sent_does_not_expire() {
    let (id, topic) = (unique("sent"), unique("sent"));
    let mut client = v5(&id).persistent().open();
    client.subscribe(&topic, 2);
    publisher().deliver(message(&topic, "on its way").qos(2).expiry(1));
    let sent = client.expect(&topic, "on its way");
    client.vanish();
    publisher().expect_silence_for(Duration::from_millis(2200));
    let mut client = v5(&id).persistent().open();
    let again = client.receive(&topic, "on its way");
    assert_eq!((again.id, again.dup), (sent.id, true));
}

#[test]
fn qos_2_exchange_goes_on_after_the_message_expired() {
    let topic = unique("goeson");
    let mut client = v5(&unique("goeson")).open();
    client.publish(message(&topic, "short").qos(2).id(4).expiry(1));
    client.expect_pubrec(4);
    client.expect_silence_for(Duration::from_millis(2200));
    client.publish(message(&topic, "short").qos(2).id(4).expiry(1).dup());
    client.expect_pubrec(4);
    client.pubrel(4);
    client.expect_pubcomp(4);
}

#[test]
fn pubrecs_keep_the_order_of_publishes() {
    for version in VERSIONS {
        let topic = unique("pubrecs");
        let mut client = connect(version, &unique("pubrecs")).open();
        let ids = [9, 3, 7, 1, 8];
        let all: Vec<u8> =
            ids.iter().flat_map(|id| message(&topic, "x").qos(2).id(*id).encode(version)).collect();
        client.send(&all);
        for id in ids {
            client.expect_pubrec(id);
        }
    }
}

#[test]
fn pubrels_keep_the_order_of_pubrecs() {
    for version in VERSIONS {
        let topic = unique("pubrels");
        let mut client = connect(version, &unique("pubrels")).open();
        client.subscribe(&topic, 2);
        let mut sender = publisher();
        for text in ["1", "2", "3", "4"] {
            sender.deliver(message(&topic, text).qos(2));
        }
        let ids = ["1", "2", "3", "4"].map(|text| client.expect(&topic, text).id);
        let order = [ids[2], ids[0], ids[3], ids[1]];
        for id in order {
            client.pubrec(id);
        }
        for id in order {
            client.expect_pubrel(id);
        }
        for id in ids {
            client.pubcomp(id);
        }
        client.expect_quiet();
    }
}

#[test]
fn two_subscribers_get_a_copy_each() {
    for version in VERSIONS {
        let topic = unique("both");
        let mut clients: Vec<Client> = (0..5).map(|_| connect(version, &unique("both")).open()).collect();
        for client in &mut clients {
            client.subscribe(&topic, 1);
        }
        publisher().deliver(message(&topic, "to all").qos(1));
        for client in &mut clients {
            client.receive(&topic, "to all");
            client.expect_quiet();
        }
    }
}

#[test]
fn publisher_that_subscribes_hears_itself() {
    for version in VERSIONS {
        let topic = unique("self");
        let mut client = connect(version, &unique("self")).open();
        client.subscribe(&topic, 0);
        client.deliver(message(&topic, "echo"));
        client.receive(&topic, "echo");
    }
}
