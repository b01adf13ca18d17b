//! Customers' context documents, end to end: patches, what expires, what is refused, what readers and rules see, and
//! what survives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "tests"
)]

mod dialogue;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dialogue::{
    BOTH, Client, Kept, Message, Own, Packet, Publish, Version, message, own, property, subscription,
};
use serde_json::{Value, json};
use switchboard::desk::{Context, Inbound, Patch, Payload};

/// Who is gold goes to `vip`. `brief*` fields last a moment; a document has 2 KiB.
const RULES: &str = r#"
[[tenant]]
name = "main"

[tenant.context]
max_bytes = "2KiB"

[[tenant.context.field]]
match = "brief*"
ttl = "300ms"

[[tenant.context.field]]
match = "session*"
ttl = "30m"

[[tenant.group]]
name = "support"

[[tenant.group]]
name = "vip"

[[tenant.rule]]
name = "gold"
when = 'has(customer.tier) && customer.tier == "gold"'
group = "vip"

[[tenant.rule]]
name = "everybody else"
group = "support"
"#;

/// Documents as large as they may be, which go a moment after their last change.
const LARGE_AND_BRIEF: &str = r#"
[[tenant]]
name = "main"
[tenant.context]
max_bytes = "64KiB"
ttl = "500ms"
[[tenant.group]]
name = "support"
[[tenant.rule]]
name = "all"
group = "support"
"#;

/// Documents as large as they may be, which stay.
const LARGE: &str = r#"
[[tenant]]
name = "main"
[tenant.context]
max_bytes = "64KiB"
[[tenant.group]]
name = "support"
[[tenant.rule]]
name = "gold"
when = 'has(customer.tier) && customer.tier == "gold"'
group = "support"
[[tenant.rule]]
name = "all"
group = "support"
"#;

/// Names enough for both shards to be home to some of them.
const CUSTOMERS: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

fn document(customer: &str) -> String {
    format!("cs/1/main/customer/{customer}/context")
}

fn patch(customer: &str, patch: &Value) -> Message {
    raw_patch(customer, patch.to_string())
}

fn raw_patch(customer: &str, patch: impl AsRef<[u8]>) -> Message {
    message(&format!("cs/1/main/customer/{customer}/context/patch"), patch).qos(1)
}

/// The next message, which is a customer's document; `null` for one that is gone.
#[track_caller]
fn next_document(reader: &mut Client, customer: &str) -> Value {
    let packet = reader.expect_publish();
    reader.acknowledge(&packet);
    assert_eq!(packet.topic, document(customer));
    read(&packet)
}

fn read(packet: &Publish) -> Value {
    if packet.payload.is_empty() { Value::Null } else { serde_json::from_slice(&packet.payload).unwrap() }
}

/// What is retained, seen by somebody who comes now. Retained messages are shown filter by filter.
fn retained(desk: &Own, customer: &str) -> Value {
    let mut late = desk.v5(&dialogue::unique("late")).open();
    let end = late.id.clone();
    late.deliver(message(&end, "end").qos(1).retain());
    late.send(&subscription(&document(customer), 1).and(&end, 1).encode(Version::V5, 100));
    let mut shown = Value::Null;
    loop {
        match late.next() {
            Packet::SubAck(_) => {}
            Packet::Publish(packet) if packet.topic == end => break,
            Packet::Publish(packet) => shown = read(&packet),
            other => late.fail(&format!("{other:?}")),
        }
    }
    late.publish(message(&end, "").qos(1).retain());
    while !matches!(late.next(), Packet::PubAck(_)) {}
    shown
}

/// The answer to a message that is sent now.
fn answer(client: &mut Client, message: Message) -> u8 {
    let qos = message.qos;
    let id = client.publish(message);
    let reason = if qos == 2 { client.expect_pubrec(id).reason } else { client.expect_puback(id).reason };
    if qos == 2 && reason < 0x80 {
        client.pubrel(id);
        client.expect_pubcomp(id);
    }
    reason
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn patches_create_merge_and_take_away_a_document() {
    let desk = own(Some(RULES), |_| {});
    let mut watcher = desk.v5("watcher").open();
    watcher.subscribe("cs/1/main/customer/+/context", 1);
    let mut spy = desk.v5("spy").open();
    spy.subscribe("cs/1/main/customer/+/context/patch", 1);
    for (version, qos) in [(Version::V311, 0), (Version::V311, 1), (Version::V5, 1), (Version::V5, 2)] {
        let mut backend = desk.connect(version, &format!("backend-{version:?}-{qos}")).open();
        for customer in CUSTOMERS {
            let mut step = |change: &Value, expected: &Value| {
                // A patch is not retained itself, whatever it says.
                backend.deliver(patch(customer, change).qos(qos).retain());
                assert_eq!(next_document(&mut watcher, customer), *expected);
                assert_eq!(retained(&desk, customer), *expected, "{customer} {version:?} {qos}");
            };
            step(&json!({"tier":"x","page":{"a":1}}), &json!({"tier":"x","page":{"a":1}}));
            step(&json!({"tier":null,"page":{"b":[2]}}), &json!({"page":{"a":1,"b":[2]}}));
            step(&json!({"page":{"a":null},"n":1.5}), &json!({"page":{"b":[2]},"n":1.5}));
            step(&json!({"page":null,"n":null}), &Value::Null);
            step(&json!({"again":true}), &json!({"again":true}));
            step(&Value::Null, &Value::Null);
        }
        // Nothing was there: nothing is said.
        assert!(matches!(answer(&mut backend, raw_patch("1", "")), 0x00));
        assert!(matches!(answer(&mut backend, raw_patch("2", r#"{"none":null}"#)), 0x00));
    }
    watcher.expect_quiet();
    spy.expect_quiet();
    let mut late = desk.v5("late").open();
    late.subscribe("cs/1/main/customer/+/context/patch", 1);
    late.expect_quiet();
    desk.close();
}

#[test]
fn compressed_documents_and_patches_are_read_and_shown_plain() {
    let desk = own(Some(LARGE), |settings| settings.shards = 2);
    let mut backend = desk.v5("backend").open();
    let mut reader = desk.v5("reader").user("accept-encoding", "snappy").open();
    let pack = |text: &Value| snap::raw::Encoder::new().compress_vec(text.to_string().as_bytes()).unwrap();
    let packed = |message: Message| message.user("a", "b").user("content-encoding", "snappy");
    for customer in CUSTOMERS {
        let text = json!({"text":"long ".repeat(1000)});
        backend.deliver(packed(message(&document(customer), pack(&text)).qos(1).retain()));
        backend.deliver(packed(raw_patch(customer, pack(&json!({"more":1})))));
        reader.subscribe_to_what_waits(&document(customer), 1);
        let packet = reader.expect_publish();
        reader.acknowledge(&packet);
        assert_eq!(read(&packet), json!({"text":"long ".repeat(1000),"more":1}));
        assert!(packet.properties.user().is_empty(), "{:?}", packet.properties);
        // It is too large once it is expanded, and cannot be.
        let bomb = json!({"text":"0".repeat(70_000)});
        assert_eq!(answer(&mut backend, packed(raw_patch(customer, pack(&bomb)))), 0x97);
        assert_eq!(answer(&mut backend, packed(raw_patch(customer, "{}"))), 0x99);
    }
    reader.expect_quiet();
    desk.close();
}

#[test]
fn what_is_published_of_a_patched_document_is_json() {
    let desk = own(Some(RULES), |_| {});
    let mut backend = desk.v5("backend").open();
    backend.deliver(patch("1", &json!({"a":1})).user("x", "y").content_type("application/merge-patch+json"));
    let mut reader = desk.v5("reader").open();
    reader.subscribe_to_what_waits(&document("1"), 1);
    let packet = reader.expect_publish();
    assert_eq!(packet.text(), r#"{"a":1}"#);
    assert_eq!(packet.properties.text(property::CONTENT_TYPE), Some("application/json"));
    assert!(packet.properties.user().is_empty());
    desk.close();
}

#[test]
fn the_rules_read_a_document_as_soon_as_it_is_acknowledged() {
    let desk = own(Some(RULES), |_| {});
    let mut agents: Vec<Client> = ["support", "vip"]
        .iter()
        .map(|group| {
            let mut agent = desk.v5(&format!("agent-{group}")).open();
            agent.subscribe(&format!("$share/{group}/cs/1/main/queue/{group}/messages/+"), 1);
            agent
        })
        .collect();
    let mut backend = desk.v5("backend").open();
    let mut gateways: Vec<Client> = (0..4).map(|n| desk.v5(&format!("gateway-{n}")).open()).collect();
    for round in 0..60 {
        let customer = format!("c{}", round % 20);
        let gold = round % 3 != 0;
        let tier = if gold { json!({"tier":"gold"}) } else { json!({"tier":null}) };
        backend.deliver(patch(&customer, &tier));
        gateways[round % 4].deliver(message(&format!("cs/1/main/customer/{customer}/up"), "hello").qos(1));
        let agent = &mut agents[usize::from(gold)];
        let packet = agent.expect_publish();
        assert!(packet.topic.ends_with(&format!("/{customer}")), "{}", packet.topic);
        agent.acknowledge(&packet);
    }
    // A whole document is read at once, also by what its publisher sends behind it without waiting.
    for customer in CUSTOMERS {
        let id = backend.publish(message(&document(customer), r#"{"tier":"gold"}"#).qos(1).retain());
        let up = backend.publish(message(&format!("cs/1/main/customer/{customer}/up"), "hello").qos(1));
        assert_eq!((backend.expect_puback(id).reason, backend.expect_puback(up).reason), (0, 0));
        let packet = agents[1].expect_publish();
        agents[1].acknowledge(&packet);
    }
    desk.close();
}

#[test]
fn fields_expire_by_their_names_or_as_the_patch_says() {
    let desk = own(Some(RULES), |_| {});
    let mut watcher = desk.v5("watcher").open();
    watcher.subscribe("cs/1/main/customer/+/context", 1);
    let mut backend = desk.v5("backend").open();
    for customer in CUSTOMERS {
        let from = now_ms();
        backend.deliver(patch(customer, &json!({"brief_page":"/","session_id":"s","tier":"gold"})));
        let first = next_document(&mut watcher, customer);
        let to = now_ms();
        let expiry = |name: &str| first["_ttl"][name].as_u64().unwrap();
        assert!((from + 300..=to + 300).contains(&expiry("brief_page")));
        assert!((from + 1_800_000..=to + 1_800_000).contains(&expiry("session_id")));
        assert_eq!(first["_ttl"].get("tier"), None);
        // It goes of itself, and not early.
        let second = next_document(&mut watcher, customer);
        assert!(now_ms() >= expiry("brief_page"));
        assert_eq!(
            second,
            json!({"session_id":"s","tier":"gold","_ttl":{"session_id":expiry("session_id")}})
        );
        assert_eq!(retained(&desk, customer), second);

        backend
            .deliver(patch(customer, &json!({"tier":"x"})).user("ttl", r#"{"tier":0.2,"session_id":0.1}"#));
        assert_eq!(next_document(&mut watcher, customer)["tier"], "x");
        let mut left = next_document(&mut watcher, customer);
        if left != Value::Null {
            assert_eq!(left["tier"], "x");
            left = next_document(&mut watcher, customer);
        }
        // The last field takes the document with it.
        assert_eq!((left, retained(&desk, customer)), (Value::Null, Value::Null));
    }
    // Written again, a field has its time anew; `null` is for ever.
    backend.deliver(patch("7", &json!({"a":1,"b":1})).user("ttl", "0.2"));
    backend.deliver(patch("7", &json!({"a":2})).user("ttl", "null"));
    next_document(&mut watcher, "7");
    next_document(&mut watcher, "7");
    assert_eq!(next_document(&mut watcher, "7"), json!({"a":2}));
    watcher.expect_quiet();
    desk.metric_until("switchboard_desk_context_expired_total", "", |times| times >= 13);
    desk.close();
}

#[test]
fn a_document_expires_as_a_whole() {
    let desk = own(Some(LARGE_AND_BRIEF), |_| {});
    let mut watcher = desk.v5("watcher").open();
    watcher.subscribe("cs/1/main/customer/+/context", 1);
    let mut backend = desk.v5("backend").open();
    for customer in CUSTOMERS {
        let begun = Instant::now();
        backend.deliver(patch(customer, &json!({"a":1})));
        backend.deliver(patch(customer, &json!({"b":1})));
        assert_eq!(next_document(&mut watcher, customer), json!({"a":1}));
        assert_eq!(next_document(&mut watcher, customer), json!({"a":1,"b":1}));
        assert_eq!(next_document(&mut watcher, customer), Value::Null);
        assert!(begun.elapsed() >= Duration::from_millis(500));
        assert_eq!(retained(&desk, customer), Value::Null);
    }
    // The publisher's own word goes first.
    backend.deliver(patch("7", &json!({"a":1})).expiry(3600));
    next_document(&mut watcher, "7");
    backend.deliver(message(&document("8"), r#"{"a":1}"#).qos(1).retain());
    next_document(&mut watcher, "8");
    assert_eq!(next_document(&mut watcher, "8"), Value::Null);
    assert_eq!(retained(&desk, "7"), json!({"a":1}));
    desk.close();
}

/// Everything that is wrong with a patch, at both shards, with a store and without.
fn refuse(desk: &Own) {
    let mut watcher = desk.v5("watcher").open();
    let mut backends: Vec<Client> = (0..2).map(|n| desk.v5(&format!("backend-{n}")).open()).collect();
    for customer in CUSTOMERS {
        let before = json!({"text":"x".repeat(1500)});
        backends[0].deliver(patch(customer, &before));
        watcher.subscribe_to_what_waits(&document(customer), 1);
        assert_eq!(next_document(&mut watcher, customer), before);
        let too_much = json!({"more":"x".repeat(600)});
        let too_long = json!({"text":"x".repeat(2100)});
        for (n, backend) in backends.iter_mut().enumerate() {
            for qos in [1, 2] {
                let mut expect = |message: Message, reason| {
                    assert_eq!(answer(backend, message.qos(qos)), reason, "{customer} {n} {qos}");
                };
                expect(patch(customer, &too_much), 0x97);
                expect(patch(customer, &too_long), 0x97);
                expect(message(&document(customer), too_long.to_string()).retain(), 0x97);
                for wrong in ["gold", "[1]", "{\"a\":", "\u{0}", r#"{"_ttl":{"text":1}}"#] {
                    expect(raw_patch(customer, wrong), 0x99);
                }
                for wrong in [r#"{"a":1,"_ttl":{"a":-1}}"#, r#"{"a":1,"_ttl":{"a":1e30}}"#, r#"{"_ttl":5}"#] {
                    expect(message(&document(customer), wrong).retain(), 0x99);
                }
                for wrong in ["-1", "0", "soon", "{\"a\":\"x\"}", "1e30"] {
                    expect(patch(customer, &json!({"a":1})).user("ttl", wrong), 0x99);
                }
                expect(patch(customer, &json!({"a":1})).user("content-encoding", "gzip"), 0x99);
                expect(message("cs/1/nobody/customer/1/context/patch", "{}"), 0x83);
            }
            for wrong in [patch(customer, &too_much), raw_patch(customer, "gold")] {
                let mut old = desk.v311(&format!("old-{n}")).open();
                old.publish(wrong);
                old.expect_closed();
            }
        }
        watcher.expect_quiet();
        assert_eq!(retained(desk, customer), before);
    }
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let desk = own(Some(RULES), |_| {});
    refuse(&desk);
    desk.close();
    let kept = Kept::new(Some(RULES), |_| {});
    let desk = kept.start();
    refuse(&desk);
    desk.close();
}

#[test]
fn a_document_that_cannot_be_retained_is_refused() {
    let desk = own(Some(RULES), |settings| settings.retained.enabled = false);
    let mut backend = desk.v5("backend").open();
    assert_eq!(answer(&mut backend, patch("1", &json!({"a":1}))), 0x83);
    desk.close();

    let desk = own(Some(RULES), |settings| settings.retained.max_messages = 3);
    let mut backend = desk.v5("backend").open();
    for customer in ["1", "2", "3"] {
        backend.deliver(patch(customer, &json!({"a":1})));
    }
    for customer in ["4", "5", "6", "7"] {
        assert_eq!(answer(&mut backend, patch(customer, &json!({"a":1}))), 0x97);
        assert_eq!(answer(&mut backend, message(&document(customer), "{}").qos(1).retain()), 0x97);
    }
    backend.deliver(raw_patch("3", "null"));
    for customer in ["1", "2"] {
        backend.deliver(patch(customer, &json!({"b":1})));
        assert_eq!(retained(&desk, customer), json!({"a":1,"b":1}));
    }
    desk.close();
}

/// A subscriber that cannot take a document is no reason to refuse it, even if it is the only one, on either shard.
#[test]
fn a_subscriber_without_room_refuses_no_document() {
    for reader in ["reader-a", "reader-b", "reader-c", "reader-d"] {
        let kept = Kept::new(Some(RULES), |settings| {
            settings.session.queue_messages = 2;
            settings.session.overflow = switchboard::config::settings::Overflow::Refuse;
        });
        let desk = kept.start();
        let mut away = desk.v5(reader).persistent().open();
        away.subscribe("cs/1/main/customer/+/context", 1);
        away.disconnect();
        let mut backend = desk.v5("backend").open();
        for customer in CUSTOMERS {
            assert_eq!(answer(&mut backend, patch(customer, &json!({"a":1}))), 0, "{reader}");
            assert_eq!(retained(&desk, customer), json!({"a":1}));
        }
        desk.close();
    }
}

#[test]
fn every_patch_of_many_connections_is_applied_and_all_readers_end_with_what_is_retained() {
    const WRITERS: usize = 6;
    const EACH: usize = 60;
    let desk = own(Some(LARGE), |settings| settings.session.queue_messages = 100_000);
    let mut readers: Vec<Client> = (0..4).map(|n| desk.v5(&format!("reader-{n}")).open()).collect();
    for reader in &mut readers {
        reader.subscribe("cs/1/main/customer/+/context", 1);
    }
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let desk = &desk;
            scope.spawn(move || {
                let mut client = desk.v5(&format!("writer-{writer}")).open();
                let ids: Vec<u16> = (0..EACH)
                    .map(|n| {
                        client.publish(patch("1", &json!({format!("w{writer}_{n}"): n, "last": writer})))
                    })
                    .collect();
                for id in ids {
                    assert_eq!(client.expect_puback(id).reason, 0);
                }
                // Whole documents and patches of the same one, from everywhere at once.
                for n in 0..EACH {
                    let change = if n % 3 == 0 {
                        message(&document("2"), json!({"whole": writer, "n": n}).to_string()).qos(1).retain()
                    } else {
                        patch("2", &json!({"patched": writer, "n": n}))
                    };
                    client.publish(change);
                }
                for _ in 0..EACH {
                    assert!(matches!(client.next(), Packet::PubAck(ack) if ack.reason == 0));
                }
            });
        }
        for reader in &mut readers {
            scope.spawn(|| {
                let (mut first, mut second) = (Value::Null, Value::Null);
                let (mut patches, mut changes) = (0, 0);
                while patches < WRITERS * EACH || changes < WRITERS * EACH {
                    let packet = reader.expect_publish();
                    reader.acknowledge(&packet);
                    if packet.topic == document("1") {
                        let next = read(&packet);
                        let fields = next.as_object().unwrap().len();
                        assert_eq!(fields, patches + 2, "one more with each patch");
                        (first, patches) = (next, patches + 1);
                    } else {
                        (second, changes) = (read(&packet), changes + 1);
                    }
                }
                assert_eq!(first, retained(&desk, "1"));
                assert_eq!(second, retained(&desk, "2"), "the last change is the one that is retained");
            });
        }
    });
    assert_eq!(retained(&desk, "1").as_object().unwrap().len(), WRITERS * EACH + 1);
    desk.metric_until("switchboard_desk_context_patches_total", "", |n| n == (WRITERS * EACH * 5 / 3) as u64);
    desk.close();
}

#[test]
fn documents_and_their_times_survive_and_patches_are_taken_once() {
    for ending in BOTH {
        let mut kept = Kept::new(Some(RULES), |_| {});
        let desk = kept.start();
        let mut backend = desk.v5("backend").persistent().open();
        let mut before = Vec::new();
        for customer in CUSTOMERS {
            let fields = json!({"session_id":customer,"soon":1,"tier":"gold"});
            backend.deliver(patch(customer, &fields).user("ttl", r#"{"soon":1.5}"#));
            backend.deliver(patch(customer, &json!({"tier":"x","n":1})));
            before.push(retained(&desk, customer));
            backend.deliver(patch(&format!("{customer}-whole"), &json!({"a":1})).expiry(2));
            backend.deliver(patch(&format!("{customer}-gone"), &json!({"a":1})));
            backend.deliver(raw_patch(&format!("{customer}-gone"), ""));
        }
        // Taken, and not released.
        for (n, customer) in CUSTOMERS.iter().enumerate() {
            let id = 100 + n as u16;
            backend.publish(patch(&format!("{customer}-once"), &json!({"n":1})).qos(2).id(id));
            assert_eq!(backend.expect_pubrec(id).reason, 0);
        }
        backend.vanish();
        let desk = kept.restart(desk, ending);
        let mut other = desk.v5("other").open();
        let mut backend = desk.v5("backend").persistent().open();
        assert!(backend.connack.session_present);
        for (n, customer) in CUSTOMERS.iter().enumerate() {
            let mut reader = desk.v5(&format!("reader-{customer}")).open();
            reader.subscribe_to_what_waits(&document(customer), 1);
            let mut shown = next_document(&mut reader, customer);
            let mut expected = before[n].clone();
            if shown.get("soon").is_some() {
                assert_eq!(shown, expected, "{ending:?}");
                shown = next_document(&mut reader, customer);
            }
            expected.as_object_mut().unwrap().remove("soon");
            expected["_ttl"].as_object_mut().unwrap().remove("soon");
            assert_eq!(shown, expected, "{ending:?}");
            assert_eq!(retained(&desk, &format!("{customer}-gone")), Value::Null);

            let (once, id) = (format!("{customer}-once"), 100 + n as u16);
            assert_eq!(retained(&desk, &once), json!({"n":1}), "{ending:?}");
            other.deliver(patch(&once, &json!({"n":2})));
            backend.publish(patch(&once, &json!({"n":1})).qos(2).id(id).dup());
            assert_eq!(backend.expect_pubrec(id).reason, 0);
            assert_eq!(retained(&desk, &once), json!({"n":2}), "taken once");
        }
        // As a whole, too: in both minds.
        desk.metric_until("switchboard_retained_messages", "", |n| n == 2 * CUSTOMERS.len() as u64);
        desk.close();
    }
}

#[test]
fn acknowledged_patches_survive_a_crash() {
    const WRITERS: usize = 4;
    let mut kept = Kept::new(Some(LARGE), |_| {});
    let desk = kept.start();
    // Nobody waits for the last ones: some are under way when the files are copied.
    let mut writers: Vec<Client> =
        (0..WRITERS).map(|writer| desk.v5(&format!("writer-{writer}")).open()).collect();
    for (writer, client) in writers.iter_mut().enumerate() {
        for n in 0..150 {
            client.publish(patch(&(n % 3).to_string(), &json!({format!("w{writer}_{n}"): n})));
        }
    }
    let mut acknowledged = Vec::new();
    for (writer, client) in writers.iter_mut().enumerate() {
        for n in 0..75 + 20 * writer {
            match client.next() {
                Packet::PubAck(ack) => assert_eq!(ack.reason, 0),
                other => client.fail(&format!("{other:?}")),
            }
            acknowledged.push((n % 3, format!("w{writer}_{n}")));
        }
    }
    let desk = kept.restart(desk, dialogue::Ending::Crash);
    let documents: Vec<Value> = (0..3).map(|n| retained(&desk, &n.to_string())).collect();
    for (n, field) in &acknowledged {
        assert!(documents[*n].get(field).is_some(), "{field} of document {n} was acknowledged");
    }
    desk.close();
}

#[test]
#[ignore = "measures"]
fn reading_and_patching_a_document_of_24_fields() {
    let count: usize = std::env::var("COUNT").map_or(20_000, |count| count.parse().unwrap());
    let kept = Kept::new(Some(LARGE), |_| {});
    for (name, desk) in [("in memory", own(Some(LARGE), |_| {})), ("with a store", kept.start())] {
        let mut backend = desk.v5("backend").open();
        let topics: Vec<String> = CUSTOMERS.iter().map(|customer| document(customer)).collect();
        for customer in CUSTOMERS {
            let fields: serde_json::Map<String, Value> =
                (0..24).map(|n| (format!("field_{n:02}"), json!(format!("value of field {n}")))).collect();
            backend.deliver(patch(customer, &Value::Object(fields)));
        }
        let mut reader = desk.v5("reader").open();
        let mut read = Vec::with_capacity(count);
        for n in 0..count {
            let topic = &topics[n % topics.len()];
            let begun = Instant::now();
            reader.subscribe_to_what_waits(topic, 0);
            let packet = reader.expect_publish();
            read.push(begun.elapsed());
            assert!(packet.retain && packet.payload.len() > 700);
        }
        told(&format!("{name}: read, SUBSCRIBE to document"), read);
        reader.disconnect();
        let mut patched = Vec::with_capacity(count);
        for n in 0..count {
            let change = patch(CUSTOMERS[n % CUSTOMERS.len()], &json!({"field_07": n}));
            let begun = Instant::now();
            let id = backend.publish(change);
            assert_eq!(backend.expect_puback(id).reason, 0);
            patched.push(begun.elapsed());
        }
        told(&format!("{name}: patch, PUBLISH to PUBACK"), patched);
        let begun = Instant::now();
        for start in (0..count).step_by(100) {
            let ids: Vec<u16> = (start..start + 100)
                .map(|n| backend.publish(patch(CUSTOMERS[n % CUSTOMERS.len()], &json!({"field_07": n}))))
                .collect();
            for id in ids {
                assert_eq!(backend.expect_puback(id).reason, 0);
            }
        }
        println!(
            "{name}: {:.0} patches a second, 100 at a time",
            count as f64 / begun.elapsed().as_secs_f64()
        );
        desk.close();
    }
}

#[test]
#[ignore = "measures"]
fn what_a_document_of_24_fields_costs_inside() {
    let rules = switchboard::desk::Routing::parse(RULES, "test.toml").unwrap();
    let tenant = rules.tenant("main").unwrap();
    let fields: serde_json::Map<String, Value> =
        (0..24).map(|n| (format!("field_{n:02}"), json!(format!("value of field {n}")))).collect();
    let text = Value::Object(fields).to_string();
    let mut parsed = Vec::new();
    let mut patched = Vec::new();
    let mut routed = Vec::new();
    let payload = Payload::new(b"hello");
    for n in 0..20_000 {
        let begun = Instant::now();
        let context = Context::parse(text.as_bytes()).unwrap();
        parsed.push(begun.elapsed());
        let begun = Instant::now();
        let patch = Patch::parse(format!("{{\"field_07\":{n}}}").as_bytes(), None).unwrap();
        let after = Context::patched(Some(text.as_bytes()), &patch, tenant.contexts(), now_ms()).unwrap();
        patched.push(begun.elapsed());
        assert!(after.is_some());
        let begun = Instant::now();
        let decision = tenant.route(&Inbound {
            previous: ("", ""),
            customer: "1",
            topic: "cs/1/main/customer/1/up",
            payload: &payload,
            properties: &[],
            context: Some(&context),
            now_ms: 1_795_403_776_809,
        });
        routed.push(begun.elapsed());
        assert_eq!(decision.failed_rules, 0);
    }
    told("parse", parsed);
    told("patch: parse, apply, write, parse", patched);
    told("rules with a condition on the document", routed);
}

fn told(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, worst {:?}", at(0.5), at(0.99), at(1.0));
}
