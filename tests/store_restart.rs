//! What a restart brings back: after a drain, and after a crash, which leaves what was on disk at some moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod dialogue;

use dialogue::{BOTH, Ending, Kept, Packet, Raw, Value, Version, message, property, subscription, will};

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
        let broker = kept.restart(broker, Ending::Drain);
        let mut watcher = broker.v5("watcher").persistent().open();
        watcher.expect_quiet();
        broker.close();
    }
}

#[test]
fn what_waits_in_a_group_waits_on() {
    const RULES: &str = "[[tenant]]\nname = \"main\"\n[[tenant.group]]\nname = \"support\"\n[[tenant.rule]]\nname = \"all\"\ngroup = \"support\"\n";
    for ending in BOTH {
        let mut kept = Kept::new(Some(RULES), |_| {});
        let broker = kept.start();
        let mut member = broker.v5("member").persistent().open();
        member.subscribe("$share/g/jobs", 1);
        member.disconnect();
        let mut writer = broker.v5("writer").open();
        for n in 0..5 {
            writer.deliver(message("cs/1/main/customer/42/up", format!("question {n}")).qos(1));
            writer.deliver(message("jobs", n.to_string()).qos(1));
        }
        let mut agent = broker.v5("agent").open();
        agent.subscribe_to_what_waits("$share/support/cs/1/main/queue/support/messages/+", 1);
        // The first is done with, the second was sent and not acknowledged.
        let first = agent.expect_publish();
        assert!(first.text().contains("question 0"));
        agent.acknowledge(&first);
        assert!(agent.expect_publish().text().contains("question 1"));
        agent.send(&Raw::new().packet(0xC0));
        while !matches!(agent.next(), Packet::PingResp) {}

        let broker = kept.restart(broker, ending);
        let mut agent = broker.v5("agent").open();
        agent.subscribe_to_what_waits("$share/support/cs/1/main/queue/support/messages/+", 1);
        for n in 1..5 {
            let mut question = agent.expect_publish();
            if ending == Ending::Crash && question.text().contains("question 0") {
                // Nobody is told when an acknowledgement from a client is on disk.
                agent.acknowledge(&question);
                question = agent.expect_publish();
            }
            assert!(question.text().contains(&format!("question {n}")), "{ending:?} {}", question.text());
            agent.acknowledge(&question);
        }
        let mut member = broker.v5("member").persistent().open();
        assert!(member.connack.session_present);
        for n in 0..5 {
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
