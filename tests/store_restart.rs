//! What a restart brings back: after a drain, and after a crash, which leaves what was on disk at some moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod dialogue;

use std::collections::BTreeMap;

use dialogue::{BOTH, Ending, Kept, Own, Packet, Raw, Value, Version, message, property, subscription, will};

#[test]
fn sessions_come_back_with_their_subscriptions_and_what_they_are_owed() {
    for ending in BOTH {
        let mut kept = Kept::new(None, |_| {});
        let broker = kept.start();
        for version in [Version::V311, Version::V5] {
            let mut away = broker.connect(version, &format!("away-{version:?}")).persistent().open();
            away.subscribe("news/+", 2);
            away.subscribe("gone", 1);
            assert_eq!(away.unsubscribe(&["gone"]).codes.first().copied().unwrap_or(0), 0);
            away.disconnect();
        }
        broker.v5("clean").open().subscribe("news/+", 1);
        let mut publisher = broker.v5("publisher").open();
        for n in 0..20 {
            publisher.deliver(message("news/1", n.to_string()).qos(1 + n % 2));
        }
        let broker = kept.restart(broker, ending);
        assert!(!broker.v5("clean").clean(false).open().connack.session_present, "{ending:?}");
        let mut publisher = broker.v5("publisher").open();
        publisher.deliver(message("gone", "nobody").qos(1));
        publisher.deliver(message("news/2", "after").qos(1));
        for version in [Version::V311, Version::V5] {
            let mut back = broker.connect(version, &format!("away-{version:?}")).persistent().open();
            assert!(back.connack.session_present, "{ending:?}");
            for n in 0..20 {
                let came = back.receive("news/1", n.to_string());
                assert_eq!(came.qos, 1 + n % 2, "{ending:?}");
            }
            back.receive("news/2", "after");
            back.expect_quiet();
        }
        // What was acknowledged now is not sent again by the next one.
        let broker = kept.restart(broker, Ending::Drain);
        let mut back = broker.v5("away-V5").persistent().open();
        assert!(back.connack.session_present);
        back.expect_quiet();
        broker.close();
    }
}

#[test]
fn a_long_backlog_comes_in_order_however_often_its_reader_and_the_broker_break_off() {
    const MESSAGES: usize = 2000;
    for ending in BOTH {
        let mut kept = Kept::new(None, |settings| settings.session.queue_messages = MESSAGES);
        let mut broker = kept.start();
        for id in ["reader", "other"] {
            let mut away = broker.v5(id).persistent().open();
            // Half of the messages stand alone in the store, half are shared by two who wait for them.
            away.subscribe(if id == "reader" { "+" } else { "both" }, 2);
            away.disconnect();
        }
        let mut publisher = broker.v5("publisher").open();
        for n in 0..MESSAGES {
            let topic = if n % 2 == 0 { "one" } else { "both" };
            publisher
                .deliver(message(topic, format!("{n:05}").repeat(1 + n % 100)).qos(1 + (n / 2 % 2) as u8));
        }
        publisher.disconnect();
        let mut next = 0;
        for part in [1, 100, 700, MESSAGES] {
            let mut back = broker.v5("reader").persistent().receive_maximum(40).open();
            assert!(back.connack.session_present);
            while next < part {
                let came = match back.next() {
                    // The end of what was broken off.
                    Packet::PubRel(ack) => {
                        back.pubcomp(ack.id);
                        continue;
                    }
                    Packet::Publish(came) => came,
                    other => back.fail(&format!("{other:?}, not PUBLISH")),
                };
                let number: usize = came.text()[..5].parse().unwrap();
                assert_eq!(came.text(), format!("{number:05}").repeat(1 + number % 100));
                assert_eq!(came.topic, if number.is_multiple_of(2) { "one" } else { "both" });
                assert_eq!(came.qos, 1 + (number / 2 % 2) as u8);
                if number < next {
                    assert!(came.dup && came.qos == 1, "{number} came again before {next}");
                } else {
                    assert_eq!(number, next, "{ending:?}");
                    next += 1;
                }
                back.acknowledge(&came);
            }
            if next == MESSAGES {
                back.expect_quiet();
            } else {
                back.vanish();
                broker = kept.restart(broker, ending);
            }
        }
        let mut other = broker.v5("other").persistent().open();
        for n in (1..MESSAGES).step_by(2) {
            other.receive("both", format!("{n:05}").repeat(1 + n % 100));
        }
        other.expect_quiet();
        broker.close();
    }
}

#[test]
fn a_message_that_waits_too_long_is_dropped_also_after_a_restart() {
    let mut kept = Kept::new(None, |settings| {
        settings.session.queue_expiry = std::time::Duration::from_secs(1);
    });
    let mut broker = kept.start();
    for id in ["first", "second"] {
        let mut away = broker.v5(id).persistent().open();
        away.subscribe("t", 1);
        away.disconnect();
    }
    broker.v5("publisher").open().deliver(message("t", "late").qos(1));
    let expired = |broker: &Own, many: u64| {
        let reason = "reason=\"expired\"";
        let mut back = broker.v5(if many == 1 { "first" } else { "second" }).persistent().open();
        assert!(back.connack.session_present);
        back.expect_quiet();
        broker.metric_until("switchboard_messages_dropped_total", reason, |dropped| dropped == 1);
    };
    // It was published when PUBACK came; what has passed since then is at least this.
    let waits = std::time::Instant::now();
    while waits.elapsed() < std::time::Duration::from_millis(1100) {
        broker.v5("clock").open().disconnect();
    }
    expired(&broker, 1);
    broker = kept.restart(broker, Ending::Drain);
    expired(&broker, 2);
    broker.close();
}

#[test]
fn a_session_that_was_cleared_or_has_expired_stays_away() {
    for ending in BOTH {
        let mut kept = Kept::new(None, |_| {});
        let broker = kept.start();
        for id in ["cleared", "brief", "long"] {
            let expiry = if id == "brief" { 1 } else { 3600 };
            let mut client = broker.v5(id).clean(false).session_expiry(expiry).open();
            client.subscribe("t", 1);
            client.disconnect();
        }
        broker.v5("cleared").clean(true).open().disconnect();
        let broker = kept.restart(broker, ending);
        broker.metric_until("switchboard_sessions", "", |sessions| sessions == 1);
        for (id, present) in [("cleared", false), ("brief", false), ("long", true)] {
            let client = broker.v5(id).clean(false).session_expiry(3600).open();
            assert_eq!(client.connack.session_present, present, "{id} {ending:?}");
        }
        broker.close();
    }
}

#[test]
fn a_message_taken_at_qos_2_is_taken_once() {
    for ending in BOTH {
        let mut kept = Kept::new(None, |_| {});
        let broker = kept.start();
        let mut reader = broker.v5("reader").persistent().open();
        reader.subscribe("t", 2);
        reader.disconnect();
        let mut writer = broker.v5("writer").persistent().open();
        writer.publish(message("t", "once").qos(2).id(7));
        assert_eq!(writer.expect_pubrec(7).reason, 0);
        writer.vanish();
        let broker = kept.restart(broker, ending);
        let mut writer = broker.v5("writer").persistent().open();
        assert!(writer.connack.session_present);
        writer.publish(message("t", "once").qos(2).id(7).dup());
        assert_eq!(writer.expect_pubrec(7).reason, 0);
        writer.pubrel(7);
        assert_eq!(writer.expect_pubcomp(7).reason, 0);
        // Released, the same packet id is another message.
        writer.publish(message("t", "another").qos(2).id(7));
        assert_eq!(writer.expect_pubrec(7).reason, 0);
        let broker = kept.restart(broker, ending);
        let mut reader = broker.v5("reader").persistent().open();
        reader.receive("t", "once");
        reader.receive("t", "another");
        reader.expect_quiet();
        broker.close();
    }
}

#[test]
fn packets_in_flight_keep_their_identifiers() {
    for ending in BOTH {
        let mut kept = Kept::new(None, |_| {});
        let broker = kept.start();
        let mut reader = broker.v5("reader").persistent().open();
        reader.subscribe("t", 2);
        let mut writer = broker.v5("writer").open();
        for n in 0..4 {
            writer.deliver(message("t", n.to_string()).qos(2));
        }
        let ids: Vec<u16> = (0..4).map(|n| reader.expect("t", n.to_string()).id).collect();
        // The second was taken and released, but the end of it not seen; the third was finished.
        for n in [1, 2] {
            reader.pubrec(ids[n]);
            reader.expect_pubrel(ids[n]);
        }
        reader.pubcomp(ids[2]);
        reader.expect_quiet();
        broker.metric_until("switchboard_inflight_messages", "", |n| n == 3);
        let broker = kept.restart(broker, ending);
        let mut reader = broker.v5("reader").persistent().open();
        let mut again: Vec<(u16, bool)> = (0..3)
            .map(|_| match reader.next() {
                Packet::Publish(publish) => {
                    assert!(publish.dup, "it may have been sent before");
                    (publish.id, false)
                }
                Packet::PubRel(release) => (release.id, true),
                other => reader.fail(&format!("{other:?}")),
            })
            .collect();
        // PUBREL waits for the disk, PUBLISH does not: no order is asked for between the two.
        again.sort_unstable();
        assert_eq!(again, [(ids[0], false), (ids[1], true), (ids[3], false)], "{ending:?}");
        broker.close();
    }
}

#[test]
fn what_was_compressed_is_so_after_a_restart() {
    let plain = "您好, where is my parcel? ".repeat(100);
    let block = snap::raw::Encoder::new().compress_vec(plain.as_bytes()).unwrap();
    let mark = ("content-encoding", "snappy");
    let marked = [mark];
    for ending in BOTH {
        let mut kept = Kept::new(None, |_| {});
        let broker = kept.start();
        for (id, topic) in [("queue", "t"), ("queue-5", "t"), ("heir", "last"), ("heir-5", "last")] {
            let mut away = broker.v5(id).persistent().open();
            away.subscribe(topic, 2);
            away.disconnect();
        }
        let last = will("last", &block).qos(1).delay(1).with(|properties| {
            properties.user_properties = vec![(mark.0.to_owned(), mark.1.to_owned())];
        });
        let mut writer = broker.v5("writer").will(last).session_expiry(3600).open();
        for qos in [1, 2] {
            writer.deliver(message("t", &block).qos(qos).user(mark.0, mark.1));
        }
        writer.deliver(message("r", &block).qos(1).retain().user(mark.0, mark.1));
        let broker = kept.restart(broker, ending);
        for id in ["queue", "queue-5", "heir", "heir-5"] {
            let mut back = broker.v5(id).persistent();
            let (mut user, mut payload): (&[_], _) = (&[], plain.as_bytes());
            if id.ends_with('5') {
                back = back.user("accept-encoding", "snappy");
                (user, payload) = (&marked, &block);
            }
            let mut back = back.open();
            assert!(back.connack.session_present);
            let topics: &[&str] = if id.starts_with("queue") { &["t", "t", "r"] } else { &["last"] };
            for topic in topics {
                if *topic == "r" {
                    back.subscribe_to_what_waits("r", 1);
                }
                let got = back.receive(topic, payload);
                assert_eq!(got.properties.user(), user, "{id} {ending:?}");
            }
        }
        let mut old = broker.v311("old").open();
        old.subscribe_to_what_waits("r", 1);
        old.receive("r", &plain);
        broker.close();
    }
}

#[test]
fn retained_messages_come_back_and_cleared_ones_do_not() {
    for ending in BOTH {
        let mut kept = Kept::new(None, |_| {});
        let broker = kept.start();
        let mut writer = broker.v5("writer").open();
        let large = "x".repeat(100_000);
        writer.deliver(message("r/plain", "first").qos(1).retain());
        writer.deliver(message("r/plain", "second").qos(1).retain());
        writer.deliver(message("r/large", &large).qos(1).retain());
        writer.deliver(message("r/cleared", "x").qos(1).retain());
        writer.deliver(message("r/cleared", "").qos(1).retain());
        let with = message("r/with", "p").qos(2).retain().expiry(1000).user("a", "b").content_type("text/x");
        writer.deliver(with);
        let broker = kept.restart(broker, ending);
        let mut reader = broker.v5("reader").open();
        reader.subscribe_to_what_waits("r/#", 2);
        let mut shown: Vec<_> = (0..3).map(|_| reader.expect_publish()).collect();
        assert!(shown.iter().all(|publish| publish.retain));
        shown.sort_by(|a, b| a.topic.cmp(&b.topic));
        let topics: Vec<&str> = shown.iter().map(|publish| publish.topic.as_str()).collect();
        assert_eq!(topics, ["r/large", "r/plain", "r/with"], "{ending:?}");
        assert_eq!((shown[0].text(), shown[1].text()), (large.as_str(), "second"));
        let left = shown[2].properties.number(property::MESSAGE_EXPIRY).unwrap();
        assert!((900..=1000).contains(&left), "{left}");
        assert_eq!(shown[2].properties.user(), [("a", "b")]);
        assert_eq!(shown[2].properties.get(property::CONTENT_TYPE), Some(&Value::Text("text/x".into())));
        broker.close();
    }
}

#[test]
fn retained_messages_that_are_not_in_memory_are_shown_as_they_are_now() {
    const TOPICS: usize = 1000;
    for ending in BOTH {
        let mut kept = Kept::new(None, |settings| {
            settings.retained.cache = 4 << 10;
            settings.shards = 2;
        });
        let mut broker = kept.start();
        let mut writer = broker.v5("writer").open();
        let mut expected = BTreeMap::new();
        let mut random = fastrand::Rng::with_seed(9);
        for n in 0..3 * TOPICS {
            let topic = format!("r/{}/x", random.usize(..TOPICS));
            if random.u8(..4) == 0 {
                expected.remove(&topic);
                writer.deliver(message(&topic, "").qos(1).retain());
            } else {
                let text = format!("{n}").repeat(random.usize(1..300));
                writer.deliver(message(&topic, &text).qos(1).retain());
                expected.insert(topic, text);
            }
        }
        for again in [false, true] {
            let mut reader = broker.v5("reader").open();
            reader.subscribe_to_what_waits("r/#", 1);
            let mut found = BTreeMap::new();
            for _ in 0..expected.len() {
                let publish = reader.expect_publish();
                assert!(publish.retain);
                reader.acknowledge(&publish);
                found.insert(publish.topic.clone(), publish.text().to_owned());
            }
            assert!(found == expected, "{ending:?} {again}");
            reader.expect_quiet();
            let (topic, text) = expected.first_key_value().unwrap();
            for _ in 0..2 {
                reader.subscribe_to_what_waits(topic, 1);
                reader.receive(topic, text);
            }
            reader.disconnect();
            if !again {
                broker = kept.restart(broker, ending);
            }
        }
        broker.close();
    }
}

#[test]
fn a_will_that_was_to_come_comes_once() {
    for ending in BOTH {
        let mut kept = Kept::new(None, |_| {});
        let broker = kept.start();
        let mut watcher = broker.v5("watcher").persistent().open();
        watcher.subscribe("wills", 1);
        watcher.disconnect();
        let dying = broker.v5("dying").clean(false).session_expiry(3600);
        let dying = dying.will(will("wills", "gone").qos(1).delay(1)).open();
        dying.vanish();
        let broker = kept.restart(broker, ending);
        let mut watcher = broker.v5("watcher").persistent().open();
        watcher.receive("wills", "gone");
        watcher.disconnect();
        let broker = kept.restart(broker, Ending::Drain);
        let mut watcher = broker.v5("watcher").persistent().open();
        watcher.expect_quiet();
        broker.close();
    }
}

#[test]
fn what_waits_in_a_group_waits_on() {
    const RULES: &str = "[[tenant]]\nname = \"main\"\n[[tenant.group]]\nname = \"support\"\n[[tenant.rule]]\nname = \"all\"\ngroup = \"support\"\n";
    // More than stay in memory.
    const MESSAGES: usize = 700;
    for ending in BOTH {
        let mut kept = Kept::new(Some(RULES), |_| {});
        let broker = kept.start();
        let mut member = broker.v5("member").persistent().open();
        member.subscribe("$share/g/jobs", 1);
        member.disconnect();
        let mut writer = broker.v5("writer").open();
        for n in 0..MESSAGES {
            writer.deliver(message("cs/1/main/customer/42/up", format!("question {n:04}")).qos(1));
            writer.deliver(message("jobs", n.to_string()).qos(1));
        }
        let mut agent = broker.v5("agent").open();
        agent.subscribe_to_what_waits("$share/support/cs/1/main/queue/support/messages/+", 1);
        // The first is done with, the second was sent and not acknowledged.
        let first = agent.expect_publish();
        assert!(first.text().contains("question 0000"));
        agent.acknowledge(&first);
        assert!(agent.expect_publish().text().contains("question 0001"));
        agent.send(&Raw::new().packet(0xC0));
        while !matches!(agent.next(), Packet::PingResp) {}

        let broker = kept.restart(broker, ending);
        let mut agent = broker.v5("agent").open();
        agent.subscribe_to_what_waits("$share/support/cs/1/main/queue/support/messages/+", 1);
        for n in 1..MESSAGES {
            let mut question = agent.expect_publish();
            if ending == Ending::Crash && question.text().contains("question 0000") {
                // Nobody is told when an acknowledgement from a client is on disk.
                agent.acknowledge(&question);
                question = agent.expect_publish();
            }
            assert!(question.text().contains(&format!("question {n:04}")), "{ending:?} {}", question.text());
            agent.acknowledge(&question);
        }
        let mut member = broker.v5("member").persistent().open();
        assert!(member.connack.session_present);
        for n in 0..MESSAGES {
            member.receive("jobs", n.to_string());
        }
        member.expect_quiet();
        broker.close();
    }
}

/// One message for many is stored once, and goes when the last has it.
#[test]
fn a_message_that_many_wait_for_reaches_all_of_them() {
    let mut kept = Kept::new(None, |_| {});
    let broker = kept.start();
    for n in 0..20 {
        let mut client = broker.v5(&format!("client-{n}")).persistent().open();
        let granted = client.subscribe_with(&subscription("all", 1).and(&format!("own/{n}"), 1));
        assert_eq!(granted.codes, [1, 1]);
        client.disconnect();
    }
    let mut writer = broker.v5("writer").open();
    writer.deliver(message("all", "x".repeat(1500)).qos(1));
    // Half of them take it before the restart.
    for n in 0..10 {
        let mut client = broker.v5(&format!("client-{n}")).persistent().open();
        client.receive("all", "x".repeat(1500));
        client.expect_quiet();
    }
    let broker = kept.restart(broker, Ending::Drain);
    for n in 0..20 {
        let mut client = broker.v5(&format!("client-{n}")).persistent().open();
        if n >= 10 {
            client.receive("all", "x".repeat(1500));
        }
        client.expect_quiet();
    }
    broker.close();
    let stats = switchboard::store::disk::stats(&kept.directory()).unwrap();
    for table in &stats.tables {
        let left = match table.table.name() {
            "sessions" => 20,
            "subscriptions" => 40,
            _ => 0,
        };
        assert_eq!(table.documents, left, "{}", table.table.name());
    }
}
