//! Subscriptions and what they match, retained messages, and the subscription options.

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

/// Long enough for a replay of retained messages that should not be there to show itself.
const A_WHILE: Duration = Duration::from_millis(250);

#[test]
fn filters_match_as_the_standard_says() {
    // (filter, name, matches); `@` stands for a unique first level.
    let cases = [
        ("@/a/b", "@/a/b", true),
        ("@/a/b", "@/a/B", false),
        ("@/a/b", "@/a/b/", false),
        ("@/a/b", "@/a", false),
        ("@/a/#", "@/a", true),
        ("@/a/#", "@/a/b/c/d", true),
        ("@/a/#", "@/ab", false),
        ("@/#", "@/a//", true),
        ("@/+/b", "@/a/b", true),
        ("@/+/b", "@//b", true),
        ("@/+/b", "@/a/c/b", false),
        ("@/+", "@/", true),
        ("@/+", "@", false),
        ("@/+/+", "@/a", false),
        ("@/+/#", "@/a", true),
        ("@/+/#", "@", false),
        ("@/a/+/c/#", "@/a/b/c", true),
        ("@/a/+/c/#", "@/a/b/d", false),
        ("@//+/x", "@//y/x", true),
        ("@/$a/+", "@/$a/b", true),
        ("@/+/b", "@/$a/b", true),
        ("@/客户/+", "@/客户/上", true),
        // No normalisation: é composed and decomposed are two names; U+FEFF is a character like another.
        ("@/caf\u{e9}", "@/caf\u{e9}", true),
        ("@/caf\u{e9}", "@/cafe\u{301}", false),
        ("@/\u{feff}x", "@/\u{feff}x", true),
        ("@/\u{feff}x", "@/x", false),
        ("@/ a", "@/ a", true),
        ("@/ a", "@/a", false),
    ];
    let mut sender = publisher();
    for version in VERSIONS {
        for (filter, name, matches) in cases {
            let root = unique("match");
            let (filter, name) = (filter.replace('@', &root), name.replace('@', &root));
            let marker = format!("{root}-marker");
            let mut client = connect(version, &unique("match")).open();
            client.subscribe(&filter, 1);
            client.subscribe(&marker, 1);
            sender.deliver(message(&name, "hit").qos(1));
            sender.deliver(message(&marker, "marker").qos(1));
            let found = client.receive_until("marker");
            assert_eq!(found.len(), usize::from(matches), "{filter} and {name}");
            assert!(found.iter().all(|p| p.topic == name), "the name arrives as it was published");
        }
    }
}

#[test]
fn clients_cannot_exchange_messages_through_dollar_topics() {
    if broker().foreign {
        return;
    }
    for topic in ["$SYS/broker/version", "$mine/x"] {
        let mut sender = v5(&unique("dollar")).open();
        let id = sender.publish(message(topic, "x").qos(1));
        assert_eq!(sender.expect_puback(id).reason, 0x90);
        let mut sender = connect(Version::V311, &unique("dollar")).open();
        sender.publish(message(topic, "x").qos(1));
        // 3.1.1 has no way to say no.
        sender.expect_closed();
    }
}

#[test]
fn leading_wildcards_do_not_match_dollar_topics() {
    // What the broker itself says of its state is on such topics, retained and at intervals.
    let own = "$SYS/broker/version";
    for version in VERSIONS {
        let mut client = connect(version, &unique("dollar")).open();
        client.subscribe_amid_traffic(&["#", "+/broker/version", "+/#", "+/+/version"]);
        let marker = unique("marker");
        publisher().deliver(message(&unique("dollar"), &marker).qos(1));
        let found = client.receive_until(&marker);
        assert!(found.iter().all(|p| !p.topic.starts_with('$')), "{found:?}");
        client.subscribe_amid_traffic(&[own]);
        while client.expect_publish().topic != own {}
    }
}

#[test]
fn lone_wildcards_match_the_rest() {
    for (filter, depth) in [("#", 3), ("+/+/+", 3), ("+", 1), ("+/#", 2)] {
        let root = unique("lone");
        let name = [root.as_str(), "b", "c"][..depth].join("/");
        let mut client = v5(&unique("lone")).open();
        client.subscribe_amid_traffic(&[filter]);
        publisher().deliver(message(&name, &root).qos(1));
        // Other tests' messages may come too.
        client.receive_until(&root);
    }
}

#[test]
fn suback_answers_every_filter_in_order() {
    for version in VERSIONS {
        let root = unique("codes");
        let mut client = connect(version, &unique("codes")).open();
        let packet = subscription(&format!("{root}/2"), 2)
            .and(&format!("{root}/0"), 0)
            .and(&format!("{root}/1/#"), 1)
            .and(&format!("{root}/0"), 1);
        assert_eq!(client.subscribe_with(&packet).codes, [2, 0, 1, 1]);
        let mut sender = publisher();
        for (topic, qos) in [("2", 2), ("0", 1), ("1/x", 1)] {
            sender.deliver(message(&format!("{root}/{topic}"), topic).qos(2));
            assert_eq!(client.receive(&format!("{root}/{topic}"), topic).qos, qos);
        }
        client.expect_quiet();
    }
}

#[test]
fn bad_filters_are_refused() {
    for version in VERSIONS {
        for filter in ["a/#/b", "a#", "#/a", "a+", "a/+b", "+a/b", "a/b#", "##", "++"] {
            let mut client = connect(version, &unique("bad")).open();
            client.send(&subscription(filter, 0).encode(version, 1));
            expect_filter_refused(&mut client, filter);
        }
    }
}

/// A SUBACK with 0x8F (0x80 in MQTT 3), or the end of the connection.
#[track_caller]
fn expect_filter_refused(client: &mut Client, filter: &str) {
    match client.next_or_closed() {
        None => {}
        Some(Packet::SubAck(ack)) if client.version.is_v5() => {
            assert_eq!(ack.codes, [0x8F], "{filter}");
        }
        Some(Packet::SubAck(ack)) => assert_eq!(ack.codes, [0x80], "{filter}"),
        Some(Packet::Disconnect(end)) => {
            assert!([0x81, 0x82, 0x8F].contains(&end.reason), "{filter}: {end:?}");
            client.expect_closed();
        }
        Some(other) => client.fail(&format!("{filter}: {other:?}")),
    }
}

#[test]
fn subscribing_again_replaces_the_subscription() {
    for version in VERSIONS {
        let topic = unique("replace");
        let mut client = connect(version, &unique("replace")).open();
        client.subscribe(&topic, 0);
        let mut sender = publisher();
        sender.deliver(message(&topic, "first").qos(2));
        assert_eq!(client.receive(&topic, "first").qos, 0);
        client.subscribe(&topic, 2);
        sender.deliver(message(&topic, "second").qos(2));
        assert_eq!(client.receive(&topic, "second").qos, 2);
        client.expect_quiet();
        assert_eq!(client.unsubscribe(&[&topic]).codes, if version.is_v5() { &[0][..] } else { &[] });
        sender.deliver(message(&topic, "third").qos(2));
        client.expect_quiet();
    }
}

#[test]
fn overlapping_subscriptions_deliver_at_the_highest_qos() {
    for version in VERSIONS {
        let root = unique("overlap");
        let name = format!("{root}/a/b");
        let mut client = connect(version, &unique("overlap")).open();
        client.subscribe(&format!("{root}/#"), 0);
        client.subscribe(&format!("{root}/a/+"), 2);
        client.subscribe(&name, 1);
        let mut sender = publisher();
        sender.deliver(message(&name, "overlapping").qos(2));
        sender.deliver(message(&format!("{root}/end"), "end").qos(0));
        let copies = client.receive_until("end");
        assert!((1..=3).contains(&copies.len()), "{copies:?}");
        assert_eq!(copies.iter().map(|p| p.qos).max(), Some(2));
        assert!(copies.iter().all(|p| p.text() == "overlapping"));
        assert!(broker().foreign || copies.len() == 1, "Switchboard sends one copy: {copies:?}");
    }
}

#[test]
fn subscription_identifiers_of_all_matching_subscriptions_arrive() {
    let root = unique("subids");
    let name = format!("{root}/a/b");
    let mut client = v5(&unique("subids")).open();
    client.subscribed(&subscription(&format!("{root}/#"), 1).id(1));
    client.subscribed(&subscription(&format!("{root}/a/+"), 1).id(268_435_455));
    client.subscribed(&subscription(&name, 1).id(200));
    client.subscribed(&subscription(&format!("{root}/+/b"), 1));
    let mut sender = publisher();
    sender.deliver(message(&name, "overlapping").qos(1));
    sender.deliver(message(&format!("{root}/end"), "end").qos(1));
    let copies = client.receive_until("end");
    let mut ids: Vec<u32> = copies.iter().flat_map(|p| p.properties.subscription_ids()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 200, 268_435_455], "{copies:?}");
    if copies.len() > 1 {
        assert_eq!(copies.len(), 4, "one for each subscription, or one for all");
        assert!(copies.iter().all(|p| p.properties.subscription_ids().len() <= 1));
    }
}

#[test]
fn subscription_identifier_can_change_and_vanish() {
    let topic = unique("changeid");
    let mut client = v5(&unique("changeid")).open();
    let mut sender = publisher();
    for (packet, ids) in [
        (subscription(&topic, 0).id(5), vec![5]),
        (subscription(&topic, 0).id(6), vec![6]),
        (subscription(&topic, 0), vec![]),
    ] {
        client.subscribed(&packet);
        sender.deliver(message(&topic, "x"));
        assert_eq!(client.receive(&topic, "x").properties.subscription_ids(), ids);
    }
}

#[test]
fn subscription_identifier_and_options_survive_a_resume() {
    let (id, topic) = (unique("keepid"), unique("keepid"));
    let mut client = v5(&id).persistent().open();
    client.subscribed(&subscription(&topic, 1).id(42).no_local().retain_as_published());
    client.disconnect();
    let mut client = v5(&id).persistent().open();
    client.deliver(message(&topic, "my own").qos(1));
    publisher().deliver(message(&topic, "another's").qos(1).retain());
    let got = client.receive(&topic, "another's");
    assert_eq!((got.properties.subscription_ids(), got.retain), (vec![42], true));
    client.expect_quiet();
}

#[test]
fn retained_message_carries_the_subscription_identifier() {
    let topic = unique("retid");
    publisher().deliver(message(&topic, "kept").qos(1).retain());
    let mut client = v5(&unique("retid")).open();
    client.subscribed(&subscription(&topic, 0).id(9));
    assert_eq!(client.receive(&topic, "kept").properties.subscription_ids(), [9]);
}

#[test]
fn unsubscribe_ends_delivery_and_says_what_it_found() {
    for version in VERSIONS {
        let root = unique("unsub");
        let mut client = connect(version, &unique("unsub")).open();
        let name = format!("{root}/a");
        client.subscribe(&name, 1);
        client.subscribe(&format!("{root}/+"), 1);
        client.subscribe(&format!("{root}/end"), 1);
        // Compared character by character: a filter that merely matches is not meant.
        let answer =
            client.unsubscribe(&[&format!("{root}/b"), &name, &format!("{root}/#"), &format!("{root}/+")]);
        assert_eq!(answer.codes, if version.is_v5() { &[0x11, 0, 0x11, 0][..] } else { &[] });
        let mut sender = publisher();
        sender.deliver(message(&name, "nobody").qos(1));
        sender.deliver(message(&format!("{root}/end"), "end").qos(1));
        assert!(client.receive_until("end").is_empty());
        client.expect_quiet();
    }
}

#[test]
fn unsubscribe_of_nothing_is_acknowledged() {
    for version in VERSIONS {
        let mut client = connect(version, &unique("nothing")).open();
        let answer = client.unsubscribe(&["never/subscribed"]);
        assert_eq!(answer.codes, if version.is_v5() { &[0x11][..] } else { &[] });
    }
}

#[test]
fn unsubscribe_lets_started_deliveries_finish() {
    for version in VERSIONS {
        let (id, topic) = (unique("finish"), unique("finish"));
        let mut client = connect(version, &id).persistent().open();
        client.subscribe(&topic, 2);
        let mut sender = publisher();
        sender.deliver(message(&topic, "one").qos(1));
        sender.deliver(message(&topic, "two").qos(2));
        let one = client.expect(&topic, "one");
        let two = client.expect(&topic, "two");
        client.unsubscribe(&[&topic]);
        client.pubrec(two.id);
        client.expect_pubrel(two.id);
        client.vanish();
        let mut client = connect(version, &id).persistent().open();
        let again = [client.next(), client.next()];
        assert!(
            again.iter().any(|p| matches!(p, Packet::Publish(m) if m.id == one.id && m.dup)),
            "{again:?}"
        );
        assert!(again.iter().any(|p| matches!(p, Packet::PubRel(a) if a.id == two.id)), "{again:?}");
    }
}

#[test]
fn retained_message_waits_for_subscribers() {
    for version in VERSIONS {
        let root = unique("kept");
        let name = format!("{root}/a/b");
        let mut live = connect(version, &unique("live")).open();
        live.subscribe(&name, 2);
        let mut sender = connect(version, &unique("sender")).open();
        sender.deliver(message(&name, "old").qos(1).retain());
        sender.deliver(message(&name, "kept").qos(2).retain());
        sender.disconnect();
        assert!(!live.receive(&name, "old").retain, "a live delivery is not marked retained");
        assert!(!live.receive(&name, "kept").retain);
        for (filter, granted) in [(name.clone(), 2), (format!("{root}/+/b"), 1), (format!("{root}/#"), 0)] {
            let mut late = connect(version, &unique("late")).open();
            late.subscribe(&filter, granted);
            let got = late.receive(&name, "kept");
            assert_eq!((got.retain, got.qos, got.dup), (true, granted, false), "{filter}");
            late.expect_quiet();
        }
    }
}

#[test]
fn message_without_retain_leaves_the_retained_one() {
    for version in VERSIONS {
        let topic = unique("leaves");
        let mut sender = connect(version, &unique("sender")).open();
        sender.deliver(message(&topic, "kept").qos(1).retain());
        sender.deliver(message(&topic, "passing").qos(1));
        sender.deliver(message(&topic, "").qos(1));
        let mut client = connect(version, &unique("late")).open();
        client.subscribe(&topic, 1);
        client.receive(&topic, "kept");
        client.expect_quiet();
    }
}

#[test]
fn empty_retained_message_removes_and_is_delivered() {
    for version in VERSIONS {
        let topic = unique("remove");
        let mut sender = connect(version, &unique("sender")).open();
        sender.deliver(message(&topic, "kept").qos(1).retain());
        let mut live = connect(version, &unique("live")).open();
        live.subscribe(&topic, 1);
        live.receive(&topic, "kept");
        sender.deliver(message(&topic, "").qos(1).retain());
        assert!(!live.receive(&topic, "").retain);
        let mut late = connect(version, &unique("late")).open();
        late.subscribe(&topic, 1);
        late.expect_silence_for(A_WHILE);
    }
}

#[test]
fn retained_qos_0_message_replaces_a_retained_qos_1_message() {
    for version in VERSIONS {
        let topic = unique("replace");
        let mut sender = connect(version, &unique("sender")).open();
        sender.deliver(message(&topic, "one").qos(1).retain());
        sender.deliver(message(&topic, "zero").qos(0).retain());
        sender.expect_quiet();
        // Nothing acknowledges QoS 0: what was sent after it on the same topic has passed it.
        let mut live = connect(version, &unique("live")).open();
        live.subscribe(&format!("{topic}/#"), 1);
        sender.deliver(message(&topic, "passed").qos(1));
        while live.expect_publish().payload != b"passed" {}
        let mut late = connect(version, &unique("late")).open();
        late.subscribe(&topic, 1);
        assert_eq!(late.receive(&topic, "zero").qos, 0);
        late.expect_silence_for(A_WHILE);
    }
}

#[test]
fn retained_messages_outlive_their_publishers_session() {
    for version in VERSIONS {
        let topic = unique("outlive");
        let mut sender = connect(version, &unique("sender")).open();
        sender.deliver(message(&topic, "kept").qos(1).retain());
        sender.vanish();
        let mut late = connect(version, &unique("late")).open();
        late.subscribe(&topic, 0);
        assert!(late.receive(&topic, "kept").retain);
    }
}

#[test]
fn every_matching_retained_message_is_sent() {
    for version in VERSIONS {
        let root = unique("many");
        let mut sender = publisher();
        for turn in 0..300 {
            sender.deliver(message(&format!("{root}/{turn}/x"), turn.to_string()).qos(1).retain());
        }
        let mut client = connect(version, &unique("many")).open();
        client.subscribe(&format!("{root}/+/x"), 1);
        let mut seen: Vec<u32> = Vec::new();
        for _ in 0..300 {
            let got = client.expect_publish();
            assert!(got.retain && got.topic == format!("{root}/{}/x", got.text()));
            client.acknowledge(&got);
            seen.push(got.text().parse().unwrap());
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..300).collect::<Vec<_>>());
        client.expect_quiet();
        for turn in 0..300 {
            sender.deliver(message(&format!("{root}/{turn}/x"), "").retain());
        }
    }
}

#[test]
fn retained_replay_respects_the_receive_maximum() {
    let root = unique("pages");
    let mut sender = publisher();
    for turn in 0..10 {
        sender.deliver(message(&format!("{root}/{turn}"), "kept").qos(1).retain());
    }
    let mut client = v5(&unique("pages")).receive_maximum(3).open();
    client.subscribe(&format!("{root}/#"), 1);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(client.expect_publish());
    }
    client.expect_silence_for(Duration::from_millis(300));
    for _ in 0..7 {
        let first = waiting.remove(0);
        client.puback(first.id);
        waiting.push(client.expect_publish());
    }
    client.expect_quiet();
}

#[test]
fn retained_messages_come_again_with_each_subscribe() {
    for version in VERSIONS {
        let topic = unique("each");
        publisher().deliver(message(&topic, "kept").qos(1).retain());
        let mut client = connect(version, &unique("each")).open();
        for _ in 0..3 {
            client.subscribe(&topic, 1);
            assert!(client.receive(&topic, "kept").retain);
        }
        client.expect_quiet();
    }
}

#[test]
fn retained_message_is_sent_again_though_it_was_seen_live() {
    // The first replay may still be under way when the live message passes and the filter is subscribed again.
    let mut sender = publisher();
    for _ in 0..40 {
        let root = unique("seen");
        let mut client = v5(&unique("seen")).open();
        let (filter, topic) = (format!("{root}/+"), format!("{root}/a"));
        client.subscribe(&filter, 0);
        sender.deliver(message(&topic, "state").qos(1).retain());
        let id = client.next_id();
        client.send(&subscription(&filter, 0).encode(Version::V5, id));
        let mut answered = false;
        loop {
            match client.next() {
                Packet::SubAck(ack) if ack.id == id => answered = true,
                Packet::Publish(p) if answered && p.retain && p.topic == topic => break,
                Packet::Publish(_) => {}
                other => client.fail(&format!("{other:?}")),
            }
        }
        client.disconnect();
        sender.deliver(message(&topic, "").qos(1).retain());
    }
}

#[test]
fn retain_handling_1_sends_only_to_a_new_subscription() {
    let (id, topic) = (unique("handling"), unique("handling"));
    publisher().deliver(message(&topic, "kept").qos(1).retain());
    let mut client = v5(&id).persistent().open();
    let packet = subscription(&topic, 1).retain_handling(1);
    client.subscribed(&packet);
    client.receive(&topic, "kept");
    client.subscribed(&packet);
    client.expect_silence_for(A_WHILE);
    client.disconnect();
    let mut client = v5(&id).persistent().open();
    client.subscribed(&packet);
    client.expect_silence_for(A_WHILE);
    client.unsubscribe(&[&topic]);
    client.subscribed(&packet);
    client.receive(&topic, "kept");
}

#[test]
fn retain_handling_2_sends_none() {
    let topic = unique("handling");
    publisher().deliver(message(&topic, "kept").qos(1).retain());
    let mut client = v5(&unique("handling")).open();
    client.subscribed(&subscription(&topic, 1).retain_handling(2));
    client.expect_silence_for(A_WHILE);
}

#[test]
fn retain_handling_0_sends_at_every_subscribe() {
    let topic = unique("handling");
    publisher().deliver(message(&topic, "kept").qos(1).retain());
    let mut client = v5(&unique("handling")).open();
    for _ in 0..2 {
        client.subscribed(&subscription(&topic, 1).retain_handling(0));
        assert!(client.receive(&topic, "kept").retain);
    }
}

#[test]
fn retain_as_published_keeps_the_flag() {
    let topic = unique("aspublished");
    let mut client = v5(&unique("aspublished")).open();
    client.subscribed(&subscription(&topic, 1).retain_as_published());
    let mut sender = publisher();
    sender.deliver(message(&topic, "retained").qos(1).retain());
    sender.deliver(message(&topic, "passing").qos(1));
    assert!(client.receive(&topic, "retained").retain);
    assert!(!client.receive(&topic, "passing").retain);
    client.subscribed(&subscription(&topic, 1).retain_handling(2));
    sender.deliver(message(&topic, "retained").qos(1).retain());
    assert!(!client.receive(&topic, "retained").retain, "without the option the flag is cleared");
}

#[test]
fn no_local_keeps_a_clients_own_messages_away() {
    let topic = unique("nolocal");
    let mut client = v5(&unique("nolocal")).open();
    client.subscribed(&subscription(&topic, 1).no_local());
    client.deliver(message(&topic, "my own").qos(1));
    publisher().deliver(message(&topic, "another's").qos(1));
    client.receive(&topic, "another's");
    client.subscribed(&subscription(&topic, 1));
    client.publish(message(&topic, "my own").qos(0));
    client.receive(&topic, "my own");
    client.expect_quiet();
}

#[test]
fn no_local_goes_by_client_identifier() {
    let (id, topic) = (unique("nolocalid"), unique("nolocalid"));
    let mut client = v5(&id).persistent().open();
    client.subscribed(&subscription(&topic, 1).no_local());
    client.vanish();
    let mut client = v5(&id).persistent().open();
    client.deliver(message(&topic, "on another connection").qos(1));
    publisher().deliver(message(&topic, "another's").qos(1));
    client.receive(&topic, "another's");
    client.expect_quiet();
}

#[test]
fn replacing_a_subscription_loses_no_message() {
    let topic = unique("lossless");
    let mut client = v5(&unique("lossless")).receive_maximum(1000).open();
    client.subscribe(&topic, 1);
    let mut sender = publisher();
    let count: u16 = 100;
    for turn in 0..count {
        sender.publish(message(&topic, turn.to_string()).qos(1).id(turn + 1));
        if turn % 10 == 0 {
            client.send(&subscription(&topic, 1).encode(Version::V5, 1000 + turn));
        }
        sender.expect_puback(turn + 1);
    }
    let mut next = 0;
    let mut subacks = 0;
    while next < count || subacks < 10 {
        match client.next() {
            Packet::Publish(p) => {
                assert_eq!(p.text(), next.to_string());
                client.puback(p.id);
                next += 1;
            }
            Packet::SubAck(_) => subacks += 1,
            other => client.fail(&format!("{other:?}")),
        }
    }
}

#[test]
fn long_names_and_deep_filters_within_the_limits_work() {
    let deep = format!("{}/{}", unique("deep"), vec!["l"; 50].join("/"));
    let long = format!("{}/{}", unique("long"), "x".repeat(30_000));
    for name in [deep, long] {
        for version in VERSIONS {
            let mut client = connect(version, &unique("limits")).open();
            client.subscribe(&name, 1);
            publisher().deliver(message(&name, "through").qos(1));
            client.receive(&name, "through");
        }
    }
}
