//! Shared subscriptions: one delivery for each group, and what becomes of a member's messages.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_imports,
    clippy::doc_markdown,
    reason = "tests"
)]

mod dialogue;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dialogue::*;

/// What each member gets, until `expected` messages have come and then no more.
///
/// Messages of a group pass through the shard where it lives: nothing sent to a member directly marks their end.
#[track_caller]
fn collect(members: &mut [Client], expected: usize) -> Vec<Vec<Publish>> {
    let until = Instant::now() + Duration::from_secs(5);
    let mut got = vec![Vec::new(); members.len()];
    while got.iter().map(Vec::len).sum::<usize>() < expected && Instant::now() < until {
        for (member, share) in members.iter_mut().zip(&mut got) {
            share.extend(member.receive_until_quiet_for(Duration::from_millis(20)));
        }
    }
    for (member, share) in members.iter_mut().zip(&mut got) {
        share.extend(member.receive_until_quiet_for(Duration::from_millis(150)));
    }
    got
}

#[track_caller]
fn member(version: Version, filter: &str, qos: u8) -> Client {
    let mut client = connect(version, &unique("member")).open();
    client.subscribe(filter, qos);
    client
}

#[test]
fn each_message_goes_to_one_member_of_a_group() {
    for version in VERSIONS {
        let topic = unique("shared");
        let filter = format!("$share/{}/{topic}/#", unique("group"));
        let mut members: Vec<Client> = (0..3).map(|_| member(version, &filter, 1)).collect();
        let mut sender = publisher();
        for turn in 0..60 {
            sender.deliver(message(&format!("{topic}/{turn}"), turn.to_string()).qos(1));
        }
        let got = collect(&mut members, 60);
        let all: Vec<&Publish> = got.iter().flatten().collect();
        let distinct: BTreeSet<&str> = all.iter().map(|p| p.text()).collect();
        assert_eq!((all.len(), distinct.len()), (60, 60), "each once");
        assert!(
            got.iter().all(|share| !share.is_empty()),
            "no member is left out of 60 messages on 60 topics"
        );
    }
}

#[test]
fn membership_holds_from_the_suback_on() {
    let mut client = v5(&unique("member")).open();
    let mut senders: Vec<Client> = (0..8).map(|_| publisher()).collect();
    for turn in 0..80 {
        let topic = unique("atonce");
        client.subscribe(&format!("$share/{}/{topic}", unique("group")), 0);
        senders[turn % 8].deliver(message(&topic, "at once"));
        client.receive(&topic, "at once");
    }
}

#[test]
fn membership_ends_with_the_unsuback() {
    for version in VERSIONS {
        let topic = unique("ended");
        let filter = format!("$share/{}/{topic}", unique("group"));
        let mut members: Vec<Client> = (0..2).map(|_| member(version, &filter, 1)).collect();
        members[0].unsubscribe(&[&filter]);
        let mut sender = publisher();
        for turn in 0..20 {
            sender.deliver(message(&topic, turn.to_string()).qos(1));
        }
        let got = collect(&mut members, 20);
        assert_eq!((got[0].len(), got[1].len()), (0, 20));
    }
}

#[test]
fn each_group_and_each_plain_subscriber_gets_a_copy() {
    for version in VERSIONS {
        let topic = unique("groups");
        let one = format!("$share/{}/{topic}", unique("one"));
        let two = format!("$share/{}/{topic}", unique("two"));
        let mut members: Vec<Client> =
            [&one, &one, &two, &topic].map(|filter| member(version, filter, 1)).into();
        let mut sender = publisher();
        for turn in 0..10 {
            sender.deliver(message(&topic, turn.to_string()).qos(1));
        }
        let got = collect(&mut members, 30);
        assert_eq!(got[0].len() + got[1].len(), 10);
        assert_eq!((got[2].len(), got[3].len()), (10, 10));
    }
}

#[test]
fn same_share_name_with_another_filter_is_another_group() {
    let (root, name) = (unique("names"), unique("group"));
    let mut members: Vec<Client> = [format!("$share/{name}/{root}/a"), format!("$share/{name}/{root}/+")]
        .map(|filter| member(Version::V5, &filter, 1))
        .into();
    publisher().deliver(message(&format!("{root}/a"), "x").qos(1));
    let got = collect(&mut members, 2);
    assert_eq!((got[0].len(), got[1].len()), (1, 1));
}

#[test]
fn client_may_hold_a_shared_and_a_plain_subscription() {
    for version in VERSIONS {
        let topic = unique("two");
        let mut client = member(version, &format!("$share/{}/{topic}", unique("group")), 1);
        client.subscribe(&topic, 1);
        publisher().deliver(message(&topic, "x").qos(1));
        let got = collect(std::slice::from_mut(&mut client), 2);
        assert_eq!(got[0].len(), 2, "one for each subscription: {got:?}");
    }
}

#[test]
fn granted_qos_is_respected() {
    for version in VERSIONS {
        for granted in 0..=2 {
            let topic = unique("qos");
            let mut client = member(version, &format!("$share/{}/{topic}", unique("group")), granted);
            publisher().deliver(message(&topic, "x").qos(2));
            assert_eq!(client.receive(&topic, "x").qos, granted);
        }
    }
}

#[test]
fn no_retained_messages_for_shared_subscriptions() {
    for version in VERSIONS {
        let topic = unique("retained");
        publisher().deliver(message(&topic, "kept").qos(1).retain());
        let mut client = connect(version, &unique("member")).open();
        client.subscribe(&format!("$share/{}/{topic}", unique("group")), 1);
        client.expect_silence_for(Duration::from_millis(250));
    }
}

#[test]
fn subscription_identifier_of_a_shared_subscription_arrives() {
    let topic = unique("id");
    let mut client = v5(&unique("member")).open();
    client.subscribed(&subscription(&format!("$share/{}/{topic}", unique("group")), 1).id(31));
    publisher().deliver(message(&topic, "x").qos(1));
    assert_eq!(client.receive(&topic, "x").properties.subscription_ids(), [31]);
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let mut client = v5(&unique("nolocal")).open();
    client.send(&subscription("$share/group/topic", 1).no_local().encode(Version::V5, 1));
    client.expect_ended(0x82);
}

#[test]
fn bad_share_names_are_refused() {
    for version in VERSIONS {
        for filter in [
            "$share//a",
            "$share/group",
            "$share/group/",
            "$share/a+b/t",
            "$share/a#b/t",
            "$share/",
            "$share",
        ] {
            // `$share` alone is a filter without a share name to some and a bad one to others; it must not do harm.
            let mut client = connect(version, &unique("badshare")).open();
            client.send(&subscription(filter, 0).encode(version, 1));
            match client.next_or_closed() {
                Some(Packet::SubAck(ack)) => {
                    assert!(filter == "$share" || ack.codes[0] >= 0x80, "{filter}: {ack:?}");
                }
                Some(Packet::Disconnect(end)) => {
                    assert!([0x81, 0x82, 0x8F].contains(&end.reason), "{filter}: {end:?}");
                }
                None => {}
                Some(other) => client.fail(&format!("{filter}: {other:?}")),
            }
        }
    }
}

#[test]
fn leaving_member_leaves_the_rest_to_the_others() {
    for version in VERSIONS {
        let topic = unique("leave");
        let filter = format!("$share/{}/{topic}/+", unique("group"));
        let mut members: Vec<Client> = (0..3).map(|_| member(version, &filter, 1)).collect();
        let leaving = members.pop().unwrap();
        leaving.vanish();
        let answer = members[1].unsubscribe(&[&filter]);
        assert_eq!(answer.codes, if version.is_v5() { &[0][..] } else { &[] });
        let mut sender = publisher();
        for turn in 0..20 {
            sender.deliver(message(&format!("{topic}/{turn}"), turn.to_string()).qos(1));
        }
        let got = collect(&mut members, 20);
        assert_eq!((got[0].len(), got[1].len()), (20, 0));
    }
}

#[test]
fn unacknowledged_qos_1_messages_of_an_ended_session_go_to_another_member_in_order() {
    for version in VERSIONS {
        let topic = unique("again");
        let filter = format!("$share/{}/{topic}", unique("group"));
        let mut lost = member(version, &filter, 1);
        let mut sender = publisher();
        for text in ["1", "2", "3"] {
            sender.deliver(message(&topic, text).qos(1));
        }
        for text in ["1", "2", "3"] {
            lost.expect(&topic, text);
        }
        let mut other = member(version, &filter, 1);
        lost.vanish();
        for text in ["1", "2", "3"] {
            other.receive(&topic, text);
        }
        sender.deliver(message(&topic, "4").qos(1));
        other.receive(&topic, "4");
        other.expect_quiet();
    }
}

#[test]
fn qos_2_message_on_its_way_to_a_member_goes_to_no_other() {
    for version in VERSIONS {
        let topic = unique("notother");
        let filter = format!("$share/{}/{topic}", unique("group"));
        let mut lost = member(version, &filter, 2);
        publisher().deliver(message(&topic, "begun").qos(2));
        let begun = lost.expect(&topic, "begun");
        lost.pubrec(begun.id);
        lost.expect_pubrel(begun.id);
        let mut other = member(version, &filter, 2);
        lost.vanish();
        let got = collect(std::slice::from_mut(&mut other), 0);
        assert!(got[0].is_empty(), "{got:?}");
    }
}

#[test]
fn qos_2_delivery_to_a_member_is_completed_when_it_returns() {
    for version in VERSIONS {
        let (id, topic) = (unique("complete"), unique("complete"));
        let filter = format!("$share/{}/{topic}", unique("group"));
        let mut client = connect(version, &id).persistent().open();
        client.subscribe(&filter, 2);
        publisher().deliver(message(&topic, "begun").qos(2));
        let begun = client.expect(&topic, "begun");
        client.vanish();
        let mut client = connect(version, &id).persistent().open();
        let again = client.receive(&topic, "begun");
        assert_eq!((again.id, again.dup), (begun.id, true));
        client.expect_quiet();
    }
}

#[test]
fn refused_message_is_offered_to_no_other_member() {
    let topic = unique("refused");
    let filter = format!("$share/{}/{topic}", unique("group"));
    let mut refusing = member(Version::V5, &filter, 2);
    let mut sender = publisher();
    sender.deliver(message(&topic, "one").qos(1));
    sender.deliver(message(&topic, "two").qos(2));
    let one = refusing.expect(&topic, "one");
    let two = refusing.expect(&topic, "two");
    let mut other = member(Version::V5, &filter, 2);
    refusing.refuse(0x40, one.id, 0x80);
    refusing.refuse(0x50, two.id, 0x83);
    refusing.expect_quiet();
    refusing.vanish();
    let got = collect(std::slice::from_mut(&mut other), 0);
    assert!(got[0].is_empty(), "{got:?}");
}

#[test]
fn absent_member_is_passed_over_while_another_is_there() {
    for version in VERSIONS {
        let topic = unique("absent");
        let filter = format!("$share/{}/{topic}/+", unique("group"));
        let mut absent = connect(version, &unique("absent")).persistent().open();
        absent.subscribe(&filter, 1);
        absent.vanish();
        let mut present = member(version, &filter, 1);
        let mut sender = publisher();
        for turn in 0..20 {
            sender.deliver(message(&format!("{topic}/{turn}"), "x").qos(1));
        }
        let got = collect(std::slice::from_mut(&mut present), 20);
        assert_eq!(got[0].len(), 20);
    }
}
