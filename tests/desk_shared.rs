//! The desk in `shared` mode, end to end: customers, rules, agents in a shared subscription, answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod dialogue;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dialogue::{Client, Own, Packet, Publish, Version, message, own, property};
use serde_json::{Value, json};

/// What an agent of the group subscribes to.
const SUPPORT: &str = "$share/support/cs/1/main/queue/support/messages/+";
const VIP: &str = "$share/vip/cs/1/main/queue/vip/messages/+";

/// Two groups; who is gold goes to `vip`, whose backlog takes five messages; `sales` takes two.
const RULES: &str = r#"
[[tenant]]
name = "main"

[[tenant.group]]
name = "support"
strategy = "sticky"

[[tenant.group]]
name = "vip"
backlog_messages = 5

[[tenant.group]]
name = "sales"
backlog_bytes = "2KiB"

[[tenant.rule]]
name = "gold"
when = 'has(customer.tier) && customer.tier == "gold"'
group = "vip"

[[tenant.rule]]
name = "shop"
when = 'message.properties.?page.orValue("").startsWith("shop/")'
group = "sales"

[[tenant.rule]]
name = "everything else"
group = "support"
"#;

fn desk() -> Own {
    own(Some(RULES), |_| {})
}

fn up(customer: &str) -> String {
    format!("cs/1/main/customer/{customer}/up")
}

fn down(customer: &str) -> String {
    format!("cs/1/main/customer/{customer}/down")
}

fn queue(group: &str, customer: &str) -> String {
    format!("cs/1/main/queue/{group}/messages/{customer}")
}

/// An agent's client in a group.
fn agent(desk: &Own, name: &str, share: &str) -> Client {
    let mut agent = desk.v5(name).open();
    agent.subscribe_to_what_waits(share, 1);
    agent
}

/// The body in the envelope that an agent got.
fn body(packet: &Publish) -> String {
    envelope(packet)["body"].as_str().unwrap().to_owned()
}

fn envelope(packet: &Publish) -> Value {
    serde_json::from_slice(&packet.payload).unwrap()
}

/// All messages that wait for a client, acknowledged as they come, up to the answer to a PINGREQ.
fn waiting(client: &mut Client) -> Vec<Publish> {
    let mut messages = Vec::new();
    client.send(&[0xC0, 0]);
    loop {
        match client.next() {
            Packet::Publish(packet) => {
                client.acknowledge(&packet);
                messages.push(packet);
            }
            Packet::PingResp => return messages,
            Packet::PubAck(_) => {}
            other => client.fail(&format!("{other:?}, not a message")),
        }
    }
}

/// Reads `count` messages of several agents, in whatever order and from whomever they come, and acknowledges them.
fn gather(agents: &mut [Client], count: usize) -> Vec<(usize, Publish)> {
    let mut found = Vec::new();
    for _ in 0..500 {
        for (number, agent) in agents.iter_mut().enumerate() {
            found.extend(waiting(agent).into_iter().map(|packet| (number, packet)));
        }
        if found.len() >= count {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} messages, not {count}", found.len());
}

#[test]
fn a_customers_message_reaches_one_agent_and_the_answer_the_customer() {
    for version in [Version::V311, Version::V5] {
        let desk = desk();
        let mut agents: Vec<Client> = (1..=3).map(|n| agent(&desk, &format!("agent-{n}"), SUPPORT)).collect();
        let mut customer = desk.connect(version, "customer-42").open();
        customer.subscribe(&down("42"), 1);
        for n in 0..50 {
            customer.deliver(message(&up("42"), format!("message {n}")).qos(1));
        }
        let got = gather(&mut agents, 50);
        let holders: BTreeSet<usize> = got.iter().map(|(agent, _)| *agent).collect();
        assert_eq!(holders.len(), 1, "one agent has the whole conversation");
        for (n, (_, packet)) in got.iter().enumerate() {
            assert_eq!(packet.topic, queue("support", "42"));
            assert_eq!(packet.qos, 1);
            assert_eq!(
                packet.properties.text(property::CONTENT_TYPE),
                Some("application/vnd.switchboard+json")
            );
            let envelope = envelope(packet);
            assert_eq!(envelope["v"], 1);
            assert_eq!(envelope["from"], json!({"role": "customer", "id": "42"}));
            assert_eq!(
                (&envelope["type"], &envelope["body"]),
                (&json!("text"), &json!(format!("message {n}")))
            );
        }
        let ids: BTreeSet<String> = got.iter().map(|(_, p)| envelope(p)["id"].to_string()).collect();
        assert_eq!(ids.len(), 50, "each has an id of its own");

        let (holder, _) = got[0];
        agents[holder].deliver(message(&down("42"), "how can I help?").qos(1));
        customer.receive(&down("42"), "how can I help?");
        customer.expect_quiet();
        desk.close();
    }
}

#[test]
fn customers_are_spread_over_the_agents_and_each_stays_with_one() {
    let desk = desk();
    let mut agents: Vec<Client> = (1..=3).map(|n| agent(&desk, &format!("agent-{n}"), SUPPORT)).collect();
    let mut gateway = desk.v5("gateway").open();
    for round in 0..5 {
        for customer in 0..60 {
            let words = format!("{customer} says {round}");
            gateway.deliver(message(&up(&customer.to_string()), words).qos(1));
        }
    }
    let mut conversations: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
    let mut load = [0; 3];
    for (agent, packet) in gather(&mut agents, 300) {
        load[agent] += 1;
        conversations.entry(packet.topic.clone()).or_default().push((agent, body(&packet)));
    }
    assert_eq!(load.iter().sum::<i32>(), 300, "each message once: {load:?}");
    assert!(load.iter().all(|&messages| messages >= 5 * 5), "{load:?} is not spread");
    for customer in 0..60 {
        let said = &conversations[&queue("support", &customer.to_string())];
        let words: Vec<String> = (0..5).map(|round| format!("{customer} says {round}")).collect();
        assert!(said.iter().all(|(agent, _)| *agent == said[0].0), "customer {customer}: {said:?}");
        assert_eq!(said.iter().map(|(_, words)| words.clone()).collect::<Vec<_>>(), words);
    }
    desk.close();
}

#[test]
fn what_a_lost_agent_had_not_acknowledged_goes_to_another_in_order() {
    for vanish in [true, false] {
        let desk = desk();
        let mut first = agent(&desk, "first", SUPPORT);
        let mut customer = desk.v5("customer").open();
        for n in 0..20 {
            customer.deliver(message(&up("7"), n.to_string()).qos(1));
        }
        for n in 0..20 {
            let packet = first.expect_publish();
            assert_eq!(body(&packet), n.to_string());
            if n < 8 {
                first.acknowledge(&packet);
            }
        }
        first.expect_quiet();
        let mut second = agent(&desk, "second", SUPPORT);
        second.expect_quiet();
        if vanish {
            first.vanish();
        } else {
            first.disconnect();
        }
        for n in 20..25 {
            customer.deliver(message(&up("7"), n.to_string()).qos(1));
        }
        let said: Vec<String> =
            gather(std::slice::from_mut(&mut second), 17).iter().map(|(_, packet)| body(packet)).collect();
        assert_eq!(said, (8..25).map(|n| n.to_string()).collect::<Vec<_>>());
        desk.metric_until("switchboard_shared_redispatched_total", "", |n| n == 12);
        assert_eq!(desk.metric("switchboard_messages_dropped_total", ""), 0);
        desk.close();
    }
}

#[test]
fn agents_come_and_go_while_customers_write_and_nothing_is_lost_or_turned_round() {
    let desk = desk();
    let mut agents = vec![agent(&desk, "agent-0", SUPPORT), agent(&desk, "agent-1", SUPPORT)];
    let mut gateway = desk.v5("gateway").open();
    // Twice is allowed (at least once, after a loss), never is not; the first time each is seen must be in order.
    let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut note = |packet: &Publish| {
        let number = body(packet).parse().unwrap();
        let said = seen.entry(packet.topic.clone()).or_default();
        if !said.contains(&number) {
            said.push(number);
        }
    };
    for n in 0..200 {
        for customer in 0..5 {
            gateway.deliver(message(&up(&customer.to_string()), n.to_string()).qos(1));
        }
        if n % 20 == 10 {
            // This one goes with whatever it has not read.
            agents.remove(0).vanish();
            agents.push(agent(&desk, &format!("agent-{}", n + 2), SUPPORT));
        } else if n % 7 == 0 {
            for agent in &mut agents {
                waiting(agent).iter().for_each(&mut note);
            }
        }
    }
    for _ in 0..500 {
        for agent in &mut agents {
            waiting(agent).iter().for_each(&mut note);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    for customer in 0..5 {
        let said = &seen[&queue("support", &customer.to_string())];
        assert_eq!(*said, (0..200).collect::<Vec<_>>(), "customer {customer}");
    }
    assert_eq!(desk.metric("switchboard_messages_dropped_total", ""), 0);
    desk.close();
}

#[test]
fn without_agents_the_backlog_keeps_messages_and_the_first_agent_gets_them_in_order() {
    let desk = desk();
    let mut customer = desk.v5("customer").open();
    for n in 0..30 {
        customer.deliver(message(&up("9"), n.to_string()).qos(1));
    }
    desk.metric_until("switchboard_queued_messages", "", |waiting| waiting == 30);
    let mut late = vec![agent(&desk, "late", SUPPORT)];
    let said: Vec<String> = gather(&mut late, 30).iter().map(|(_, packet)| body(packet)).collect();
    assert_eq!(said, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
    desk.metric_until("switchboard_queued_messages", "", |waiting| waiting == 0);
    desk.close();
}

#[test]
fn a_full_backlog_refuses_and_what_was_acknowledged_is_kept() {
    let desk = desk();
    let mut setter = desk.v5("setter").open();
    let gold = |customer: &str| {
        message(&format!("cs/1/main/customer/{customer}/context"), r#"{"tier":"gold"}"#).qos(1).retain()
    };
    setter.deliver(gold("1"));
    setter.deliver(gold("2"));
    // The queue lives on one shard and its length reaches the others a turn later: wait until it shows.
    let mut taken = Vec::new();
    let mut customer = desk.v5("new").open();
    for n in 0..5 {
        customer.deliver(message(&up("1"), n.to_string()).qos(1));
        taken.push(n.to_string());
    }
    desk.metric_until("switchboard_queued_messages", "", |waiting| waiting == 5);

    let id = customer.publish(message(&up("1"), "refused").qos(1));
    assert_eq!(customer.expect_puback(id).reason, 0x97);
    let id = customer.publish(message(&up("1"), "refused").qos(2));
    assert_eq!(customer.expect_pubrec(id).reason, 0x97);
    customer.expect_quiet();

    let mut old = desk.v311("old").open();
    old.publish(message(&up("2"), "refused").qos(1));
    old.expect_closed();
    desk.metric_until("switchboard_publishes_refused_total", r#"reason="quota_exceeded""#, |n| n == 3);

    let mut agents = vec![agent(&desk, "late", VIP)];
    let said: Vec<String> = gather(&mut agents, 5).iter().map(|(_, packet)| body(packet)).collect();
    assert_eq!(said, taken);
    assert_eq!(desk.metric("switchboard_messages_dropped_total", ""), 0);
    // There is room again.
    customer.deliver(message(&up("1"), "back").qos(1));
    assert_eq!(body(&gather(&mut agents, 1)[0].1), "back");
    desk.close();
}

#[test]
fn who_writes_to_the_queue_past_the_rules_is_bound_by_it_too() {
    let desk = desk();
    let mut backend = desk.v5("backend").open();
    for n in 0..5 {
        backend.deliver(message(&queue("vip", "3"), n.to_string()).qos(1));
    }
    desk.metric_until("switchboard_queued_messages", "", |waiting| waiting == 5);
    let id = backend.publish(message(&queue("vip", "3"), "refused").qos(1));
    assert_eq!(backend.expect_puback(id).reason, 0x97);
    // Nobody's queue is an ordinary topic.
    backend.deliver(message(&queue("nobodys", "3"), "fine").qos(1));
    assert_eq!(desk.metric("switchboard_messages_dropped_total", ""), 0);
    desk.close();
}

/// The bound in bytes refuses as the bound in messages does, and a burst from several customers at once, on every
/// shard, is refused as exactly as a slow one: every acknowledged message comes out of the queue.
#[test]
fn nothing_acknowledged_is_lost_at_a_full_backlog_whoever_writes_how_fast() {
    let bursts: [(&str, &str, usize); 2] = [("shop/cart", "sales", 400), ("vip", "vip", 10)];
    for (page, group, size) in bursts {
        let desk = desk();
        let mut setter = desk.v5("setter").open();
        let writers: Vec<String> = (0..8).map(|n| format!("writer-{n}")).collect();
        if group == "vip" {
            for writer in &writers {
                let context = format!("cs/1/main/customer/{writer}/context");
                setter.deliver(message(&context, r#"{"tier":"gold"}"#).qos(1).retain());
            }
        }
        let taken: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = writers
                .iter()
                .map(|writer| {
                    let desk = &desk;
                    scope.spawn(move || {
                        let mut client = desk.v5(writer).open();
                        let words = |n: usize| format!("{writer} {n} {}", "x".repeat(size));
                        let ids: Vec<u16> = (0..20)
                            .map(|n| client.publish(message(&up(writer), words(n)).user("page", page).qos(1)))
                            .collect();
                        let mut taken = Vec::new();
                        for (n, id) in ids.into_iter().enumerate() {
                            match client.expect_puback(id).reason {
                                0x00 | 0x10 => taken.push(words(n)),
                                0x97 => {}
                                other => client.fail(&format!("PUBACK {other:#04x}")),
                            }
                        }
                        taken
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(taken.len() < 160, "the bound has bitten");
        let share = format!("$share/{group}/cs/1/main/queue/{group}/messages/+");
        let mut agents = vec![agent(&desk, "late", &share)];
        let said: BTreeSet<String> =
            gather(&mut agents, taken.len()).iter().map(|(_, packet)| body(packet)).collect();
        assert_eq!(said, taken.into_iter().collect::<BTreeSet<_>>(), "group {group}");
        assert_eq!(desk.metric("switchboard_messages_dropped_total", ""), 0, "group {group}");
        desk.close();
    }
}

#[test]
fn the_context_document_changes_the_rule() {
    let desk = desk();
    let mut support = vec![agent(&desk, "support-agent", SUPPORT)];
    let mut vip = vec![agent(&desk, "vip-agent", VIP)];
    let mut customer = desk.v5("customer").open();
    let context = "cs/1/main/customer/5/context";
    customer.deliver(message(&up("5"), "as anybody").qos(1));
    assert_eq!(body(&gather(&mut support, 1)[0].1), "as anybody");

    customer.deliver(message(context, r#"{"tier":"gold"}"#).qos(1).retain());
    customer.deliver(message(&up("5"), "as gold").qos(1));
    let (_, packet) = &gather(&mut vip, 1)[0];
    assert_eq!((packet.topic.as_str(), body(packet).as_str()), (queue("vip", "5").as_str(), "as gold"));

    customer.deliver(message(context, "").qos(1).retain());
    customer.deliver(message(&up("5"), "as anybody again").qos(1));
    assert_eq!(body(&gather(&mut support, 1)[0].1), "as anybody again");
    assert!(waiting(&mut vip[0]).is_empty());

    // An ordinary retained topic for everybody else.
    customer.deliver(message(context, r#"{"tier":"silver"}"#).qos(1).retain());
    let mut console = desk.v311("console").open();
    console.subscribe(context, 1);
    assert!(console.receive(context, r#"{"tier":"silver"}"#).retain);
    desk.close();
}

#[test]
fn an_invalid_context_is_refused_and_the_last_one_stays() {
    let desk = desk();
    let mut vip = vec![agent(&desk, "vip-agent", VIP)];
    let mut customer = desk.v5("customer").open();
    let context = "cs/1/main/customer/6/context";
    customer.deliver(message(context, r#"{"tier":"gold"}"#).qos(1).retain());
    for wrong in ["gold", "[1]", "{\"tier\":", "\u{0}"] {
        let id = customer.publish(message(context, wrong).qos(1).retain());
        assert_eq!(customer.expect_puback(id).reason, 0x99, "{wrong:?}");
        let id = customer.publish(message(context, wrong).qos(2).retain());
        assert_eq!(customer.expect_pubrec(id).reason, 0x99, "{wrong:?}");
    }
    let mut old = desk.v311("old").open();
    old.publish(message(context, "gold").qos(1).retain());
    old.expect_closed();
    desk.metric_until("switchboard_desk_context_invalid_total", "", |n| n == 9);
    customer.deliver(message(&up("6"), "still gold").qos(1));
    assert_eq!(body(&gather(&mut vip, 1)[0].1), "still gold");
    let mut console = desk.v311("console").open();
    console.subscribe(context, 1);
    console.receive(context, r#"{"tier":"gold"}"#);
    desk.close();
}

#[test]
fn explain_answers_to_the_response_topic_with_the_correlation_data() {
    let desk = desk();
    let mut operator = desk.v5("operator").open();
    operator.subscribe("operator/answers", 1);
    let mut ask = |question: &str, number: &[u8]| -> Value {
        let request = message("cs/1/main/control/explain", question);
        operator.publish(request.qos(1).response_topic("operator/answers").correlation(number));
        let answers = gather(std::slice::from_mut(&mut operator), 1);
        let answer = &answers[0].1;
        assert_eq!(answer.topic, "operator/answers");
        assert_eq!(answer.properties.binary(property::CORRELATION_DATA), Some(number));
        assert_eq!(answer.properties.text(property::CONTENT_TYPE), Some("application/json"));
        serde_json::from_slice(&answer.payload).unwrap()
    };
    let gold = ask(r#"{"customer":"5","payload":"hello","context":{"tier":"gold"}}"#, b"\x00\xffone");
    assert_eq!((&gold["rule"], &gold["group"]), (&json!("gold"), &json!("vip")), "{gold}");
    let plain = ask(r#"{"customer":"5","payload":"hello"}"#, b"two");
    assert_eq!((&plain["group"], &plain["shared_filter"]), (&json!("support"), &json!(SUPPORT)), "{plain}");
    assert_eq!(plain["strategy"], "sticky");
    let wrong = ask("what?", b"three");
    assert!(wrong["error"].is_object(), "{wrong}");
    desk.close();
}

#[test]
fn a_tenant_without_rules_is_refused() {
    let desk = desk();
    let mut customer = desk.v5("customer").open();
    let id = customer.publish(message("cs/1/nobody/customer/1/up", "hello").qos(1));
    assert_eq!(customer.expect_puback(id).reason, 0x83);
    let mut old = desk.v311("old").open();
    old.publish(message("cs/1/nobody/customer/1/up", "hello").qos(1));
    old.expect_closed();
    desk.metric_until("switchboard_desk_messages_total", r#"outcome="unknown_tenant""#, |n| n == 2);
    desk.close();
}

#[test]
fn what_waits_for_an_agent_and_expires_makes_room() {
    let desk = desk();
    let mut setter = desk.v5("setter").open();
    setter.deliver(message("cs/1/main/customer/1/context", r#"{"tier":"gold"}"#).qos(1).retain());
    let mut customer = desk.v5("customer").open();
    for n in 0..5 {
        customer.deliver(message(&up("1"), n.to_string()).qos(1).expiry(1));
    }
    desk.metric_until("switchboard_messages_dropped_total", r#"reason="expired""#, |n| n == 5);
    desk.metric_until("switchboard_queued_messages", "", |waiting| waiting == 0);
    customer.deliver(message(&up("1"), "in time").qos(1));
    let mut agents = vec![agent(&desk, "agent", VIP)];
    assert_eq!(body(&gather(&mut agents, 1)[0].1), "in time");
    agents[0].expect_quiet();
    desk.close();
}

#[test]
fn topics_that_the_desk_does_not_serve_are_refused() {
    let desk = desk();
    let mut client = desk.v5("client").open();
    let long = "x".repeat(129);
    for (topic, reason) in [
        (queue("support", ""), 0x90),
        (queue("support", &long), 0x90),
        (up(&long), 0x90),
        ("cs/1/main/queue/support/put".to_owned(), 0x83),
        ("cs/1/main/conversation/7/reply".to_owned(), 0x83),
        ("cs/1/main/customer/7/ask".to_owned(), 0x83),
        ("cs/1/main/control/close".to_owned(), 0x83),
    ] {
        let id = client.publish(message(&topic, "x").qos(1));
        assert_eq!(client.expect_puback(id).reason, reason, "{topic}");
    }
    // What is compressed in a way that is not known neither a rule nor an agent can read.
    let id = client.publish(message(&up("1"), "x").qos(1).user("content-encoding", "gzip"));
    assert_eq!(client.expect_puback(id).reason, 0x99);
    desk.metric_until("switchboard_desk_messages_total", r#"outcome="refused""#, |n| n == 1);
    desk.close();
}

#[test]
fn an_explanation_takes_no_way_that_its_asker_could_not() {
    let desk = desk();
    let mut agents = [agent(&desk, "agent", SUPPORT)];
    let mut asker = desk.v5("asker").open();
    for topic in ["$SYS/broker/version".to_owned(), queue("support", "1"), up("1")] {
        let question = message("cs/1/main/control/explain", r#"{"customer":"1"}"#);
        let id = asker.publish(question.qos(1).response_topic(&topic));
        assert_eq!(asker.expect_puback(id).reason, 0x90, "{topic}");
    }
    agents[0].expect_quiet();
    desk.close();
}

#[test]
fn a_message_that_was_refused_is_new_when_it_comes_again() {
    let desk = desk();
    let mut setter = desk.v5("setter").open();
    setter.deliver(message("cs/1/main/customer/1/context", r#"{"tier":"gold"}"#).qos(1).retain());
    for n in 0..5 {
        setter.deliver(message(&up("1"), n.to_string()).qos(1));
    }
    desk.metric_until("switchboard_queued_messages", "", |waiting| waiting == 5);
    let mut old = desk.v311("old").persistent().open();
    let id = old.publish(message(&up("1"), "again").qos(2));
    old.expect_closed();
    let mut agents = vec![agent(&desk, "agent", VIP)];
    gather(&mut agents, 5);
    desk.metric_until("switchboard_queued_messages", "", |waiting| waiting == 0);
    let mut old = desk.v311("old").persistent().open();
    assert_eq!(old.publish(message(&up("1"), "again").qos(2).dup()), id);
    old.expect_pubrec(id);
    assert_eq!(body(&gather(&mut agents, 1)[0].1), "again");
    desk.close();
}
