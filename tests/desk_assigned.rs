//! The desk in `assigned` mode, end to end: customers, agents, offers, conversations and their messages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod dialogue;

use std::collections::VecDeque;

use dialogue::{BOTH, Client, Kept, Own, Packet, Publish, message, own, will};
use serde_json::{Value, json};

const RULES: &str = r#"
[[tenant]]
name = "main"

[[tenant.group]]
name = "care"
mode = "assigned"
[tenant.group.assigned]
offer = "2s"
grace = "1s"
sticky = "0s"
lapses = 1

[[tenant.group]]
name = "night"
mode = "assigned"
[tenant.group.assigned]
auto_accept = true
max_queue = 1
full_text = "Nobody is there. Please write again tomorrow."

[[tenant.group]]
name = "shop"

[[tenant.rule]]
name = "night"
when = 'message.properties.?page.orValue("") == "night"'
group = "night"

[[tenant.rule]]
name = "shop"
when = 'message.properties.?page.orValue("") == "shop"'
group = "shop"

[[tenant.rule]]
name = "all"
group = "care"
"#;

const PREFIX: &str = "cs/1/main/";

/// A client, and what has come that nobody has asked for yet.
struct Party {
    client: Client,
    heard: VecDeque<Publish>,
}

impl Party {
    fn new(client: Client) -> Self {
        Self { client, heard: VecDeque::new() }
    }

    fn hear(&mut self, packet: Packet) {
        match packet {
            Packet::Publish(publish) => {
                self.client.acknowledge(&publish);
                self.heard.push_back(publish);
            }
            other => panic!("{other:?} where a message was expected\n{}", self.client.dialogue()),
        }
    }

    /// Publishes at QoS 1; the reason code of the PUBACK.
    fn try_say(&mut self, topic: &str, payload: &str) -> u8 {
        self.try_publish(message(&format!("{PREFIX}{topic}"), payload).qos(1))
    }

    fn try_publish(&mut self, message: dialogue::Message) -> u8 {
        let id = self.client.publish(message);
        loop {
            match self.client.next() {
                Packet::PubAck(ack) if ack.id == id => return ack.reason,
                other => self.hear(other),
            }
        }
    }

    fn say(&mut self, topic: &str, payload: impl AsRef<str>) {
        let reason = self.try_say(topic, payload.as_ref());
        assert!(reason < 0x80, "{topic}: {reason:#x}\n{}", self.client.dialogue());
    }

    /// The next message of this topic, or whatever it begins with if it ends with `/`.
    fn next_on(&mut self, topic: &str) -> Publish {
        let topic = format!("{PREFIX}{topic}");
        let fits = |p: &Publish| p.topic == topic || (topic.ends_with('/') && p.topic.starts_with(&topic));
        loop {
            if let Some(at) = self.heard.iter().position(fits) {
                return self.heard.remove(at).unwrap();
            }
            let packet = self.client.next();
            self.hear(packet);
        }
    }

    fn json_on(&mut self, topic: &str) -> Value {
        let publish = self.next_on(topic);
        serde_json::from_slice(&publish.payload).unwrap_or(Value::Null)
    }

    /// Reads on until a state shows this.
    fn until(&mut self, topic: &str, field: &str, value: impl Into<Value>) -> Value {
        let value = value.into();
        loop {
            let state = self.json_on(topic);
            if state[field] == value {
                return state;
            }
        }
    }
}

fn customer(desk: &Own, name: &str) -> Party {
    let mut client = desk.v5(&format!("customer-{name}")).open();
    client.subscribe_amid_traffic(&[
        &format!("{PREFIX}customer/{name}/down"),
        &format!("{PREFIX}customer/{name}/state"),
    ]);
    Party::new(client)
}

fn agent(desk: &Own, name: &str, groups: &[&str], capacity: u32) -> Party {
    let last = will(&format!("{PREFIX}agent/{name}/presence"), r#"{"show":"offline"}"#).qos(1);
    let mut client = desk.v5(&format!("agent-{name}")).will(last).open();
    client.subscribe(&format!("{PREFIX}agent/{name}/#"), 1);
    let mut party = Party::new(client);
    let presence = json!({"show": "ready", "groups": groups, "capacity": capacity});
    party.say(&format!("agent/{name}/presence"), presence.to_string());
    party
}

fn answer(agent: &mut Party, name: &str, what: &Value) -> Value {
    agent.say(&format!("agent/{name}/answer"), what.to_string());
    agent.json_on(&format!("agent/{name}/result"))
}

fn supervisor(desk: &Own) -> Party {
    let mut boss = Party::new(desk.v5("boss").open());
    boss.client.subscribe("boss", 1);
    boss
}

/// What a supervisor is answered.
fn control(boss: &mut Party, verb: &str, what: &Value) -> Value {
    let topic = format!("{PREFIX}control/{verb}");
    let request = message(&topic, what.to_string()).qos(1).response_topic("boss").correlation(b"7");
    assert_eq!(boss.try_publish(request), 0);
    loop {
        if let Some(at) = boss.heard.iter().position(|heard| heard.topic == "boss") {
            return serde_json::from_slice(&boss.heard.remove(at).unwrap().payload).unwrap();
        }
        let packet = boss.client.next();
        boss.hear(packet);
    }
}

/// Takes the next offer; its conversation.
fn accept(agent: &mut Party, name: &str) -> String {
    let offer = agent.json_on(&format!("agent/{name}/offer"));
    let result = answer(agent, name, &json!({"verb": "accept", "offer": offer["offer"]}));
    assert_eq!(result["ok"], true, "{result}");
    assert_eq!(result["conversation"], offer["conversation"]);
    offer["conversation"].as_str().unwrap().to_owned()
}

#[test]
fn a_conversation_from_the_first_message_to_the_end() {
    let desk = own(Some(RULES), |_| {});
    let mut watcher = Party::new(desk.v5("watcher").open());
    watcher.client.subscribe(&format!("{PREFIX}conversation/#"), 1);
    let mut carl = customer(&desk, "carl");
    carl.say("customer/carl/up", "hello");
    let queued = carl.until("customer/carl/state", "state", "queued");
    assert_eq!((&queued["group"], &queued["position"]), (&json!("care"), &json!(1)));
    carl.say("customer/carl/up", r#"{"body":"anybody?","meta":{"a":1}}"#);

    let mut anna = agent(&desk, "anna", &["care"], 2);
    let offer = anna.json_on("agent/anna/offer");
    assert_eq!((&offer["customer"], &offer["preview"]), (&json!("carl"), &json!("hello")));
    assert_eq!(carl.until("customer/carl/state", "state", "offered")["position"], 0);
    let result = answer(&mut anna, "anna", &json!({"verb": "accept", "offer": offer["offer"]}));
    assert_eq!(result["ok"], true, "{result}");
    let v = offer["conversation"].as_str().unwrap();
    // What was written meanwhile comes in order.
    for (seq, body) in [(1, "hello"), (2, "anybody?")] {
        let inbox = anna.json_on(&format!("agent/anna/inbox/{v}"));
        assert_eq!((&inbox["seq"], &inbox["body"]), (&json!(seq), &json!(body)), "{inbox}");
        assert_eq!(inbox["from"], json!({"role": "customer", "id": "carl"}));
        assert_eq!(inbox["conversation"], v);
    }
    assert_eq!(carl.until("customer/carl/state", "state", "assigned")["agent"], "anna");
    anna.say(&format!("conversation/{v}/reply"), "good morning");
    let reply = carl.json_on("customer/carl/down");
    assert_eq!((&reply["seq"], &reply["body"]), (&json!(3), &json!("good morning")));
    assert_eq!(reply["from"], json!({"role": "agent", "id": "anna"}));
    assert_eq!(anna.json_on(&format!("agent/anna/inbox/{v}"))["seq"], 3);
    carl.say("customer/carl/up", "thanks");
    assert_eq!(anna.json_on(&format!("agent/anna/inbox/{v}"))["seq"], 4);
    // The same answer again is no mistake; an offer that never was is.
    assert_eq!(answer(&mut anna, "anna", &json!({"verb": "accept", "offer": offer["offer"]}))["ok"], true);
    let late = json!({"verb": "accept", "offer": "01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    assert_eq!(answer(&mut anna, "anna", &late)["reason"], "offer_over");

    assert_eq!(answer(&mut anna, "anna", &json!({"verb": "complete", "conversation": v}))["ok"], true);
    carl.until("customer/carl/state", "state", "closed");
    assert!(carl.next_on("customer/carl/state").payload.is_empty(), "nothing is retained of what is over");
    assert_eq!(anna.try_say(&format!("conversation/{v}/reply"), "too late"), 0x87);
    let phases: Vec<Value> = (0..4).map(|_| watcher.json_on(&format!("conversation/{v}/events"))).collect();
    let told: Vec<_> =
        phases.iter().map(|e| (e["to"].as_str().unwrap(), e["ver"].as_u64().unwrap())).collect();
    assert_eq!(told, [("queued", 1), ("offered", 2), ("assigned", 3), ("closed", 4)]);
    let seqs: Vec<Value> =
        (0..4).map(|_| watcher.json_on(&format!("conversation/{v}/messages"))["seq"].clone()).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    // The next message begins another one.
    carl.say("customer/carl/up", "one more thing");
    assert_ne!(accept(&mut anna, "anna"), v);
    desk.close();
}

#[test]
fn an_offer_that_lapses_goes_to_the_next_agent_and_a_lost_agent_loses_its_conversations() {
    let desk = own(Some(RULES), |_| {});
    let mut anna = agent(&desk, "anna", &["care"], 1);
    let mut carl = customer(&desk, "carl");
    carl.say("customer/carl/up", "hello");
    let first = anna.json_on("agent/anna/offer");
    let mut ben = agent(&desk, "ben", &["care"], 1);
    // She does not answer: she is away from now on.
    let over = anna.json_on("agent/anna/offer");
    assert_eq!((&over["offer"], &over["over"]), (&first["offer"], &json!("lapsed")));
    anna.until("agent/anna/state", "show", "away");
    let v = accept(&mut ben, "ben");
    assert_eq!(answer(&mut anna, "anna", &json!({"verb": "accept", "offer": first["offer"]}))["ok"], false);
    assert_eq!(anna.try_say(&format!("conversation/{v}/reply"), "I am here"), 0x87, "it is not hers");
    ben.say(&format!("conversation/{v}/reply"), "hello");
    carl.json_on("customer/carl/down");
    // His will says that he is gone; after the grace it is hers.
    ben.client.vanish();
    anna.say("agent/anna/presence", r#"{"show":"ready"}"#);
    let again = anna.json_on("agent/anna/offer");
    assert_eq!(again["conversation"], v.as_str());
    answer(&mut anna, "anna", &json!({"verb": "accept", "offer": again["offer"]}));
    for seq in 1..=2 {
        assert_eq!(anna.json_on(&format!("agent/anna/inbox/{v}"))["seq"], seq);
    }
    // She loses her connection and is back in time: she is sent what she may have missed.
    anna.client.vanish();
    carl.say("customer/carl/up", "still there?");
    let mut anna = agent(&desk, "anna", &["care"], 1);
    for seq in 1..=3 {
        assert_eq!(anna.json_on(&format!("agent/anna/inbox/{v}"))["seq"], seq);
    }
    desk.close();
}

#[test]
fn conversations_are_handed_over_held_and_released() {
    let desk = own(Some(RULES), |_| {});
    let mut anna = agent(&desk, "anna", &["care"], 1);
    let mut carl = customer(&desk, "carl");
    carl.say("customer/carl/up", "hello");
    let v = accept(&mut anna, "anna");
    for (verb, state) in [("hold", "held"), ("resume", "assigned")] {
        assert_eq!(answer(&mut anna, "anna", &json!({"verb": verb, "conversation": v}))["ok"], true);
        carl.until("customer/carl/state", "state", state);
    }
    let to = |agent: &str| json!({"verb": "transfer", "conversation": v, "agent": agent});
    assert_eq!(answer(&mut anna, "anna", &to("ben"))["reason"], "no_agent");
    let mut ben = agent(&desk, "ben", &["night"], 1);
    ben.until("agent/ben/state", "show", "ready");
    assert_eq!(answer(&mut anna, "anna", &to("ben"))["ok"], true);
    carl.until("customer/carl/state", "state", "transferring");
    // The first agent has it until the second has accepted.
    anna.say(&format!("conversation/{v}/reply"), "my colleague will help you");
    carl.json_on("customer/carl/down");
    assert_eq!(accept(&mut ben, "ben"), v);
    assert_eq!(ben.json_on(&format!("agent/ben/inbox/{v}"))["body"], "hello");
    assert_eq!(anna.try_say(&format!("conversation/{v}/reply"), "bye"), 0x87);
    let to_night = json!({"verb": "transfer", "conversation": v, "group": "night"});
    assert_eq!(answer(&mut ben, "ben", &to_night)["ok"], true);
    let mut nora = agent(&desk, "nora", &["night"], 1);
    // Groups that accept by themselves ask nobody.
    for seq in 1..=2 {
        assert_eq!(nora.json_on(&format!("agent/nora/inbox/{v}"))["seq"], seq);
    }
    assert_eq!(answer(&mut nora, "nora", &json!({"verb": "release", "conversation": v}))["ok"], true);
    // Whoever gives it back is not asked again; he has room by now.
    carl.until("customer/carl/state", "agent", "ben");
    carl.client.subscribe_amid_traffic(&[&format!("{PREFIX}customer/carl/answer")]);
    carl.say("customer/carl/ask", r#"{"verb":"leave"}"#);
    assert_eq!(carl.json_on("customer/carl/answer")["ok"], true);
    carl.until("customer/carl/state", "state", "closed");
    carl.say("customer/carl/ask", r#"{"verb":"leave"}"#);
    assert_eq!(carl.json_on("customer/carl/answer")["reason"], "no_conversation");
    desk.close();
}

#[test]
fn what_is_not_understood_or_not_allowed_is_refused() {
    let desk = own(Some(RULES), |_| {});
    let mut eve = Party::new(desk.v5("eve").open());
    for (topic, payload, reason) in [
        ("agent/anna/presence", "{}", 0x99),
        ("agent/anna/presence", r#"{"show":"ready","groups":["shop"]}"#, 0x99),
        ("agent/anna/answer", r#"{"verb":"accept","offer":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#, 0x87),
        ("conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/reply", "hi", 0x87),
        ("conversation/nonsense/reply", "hi", 0x87),
        ("customer/carl/down", "I am an agent", 0x87),
        ("customer/carl/state", "{}", 0x87),
        ("agent/anna/offer", "{}", 0x87),
        ("queue/care/state", "{}", 0x87),
        ("customer/carl/ask", r#"{"verb":"erase"}"#, 0x99),
        ("queue/care/put", "{}", 0x99),
        ("queue/shop/put", r#"{"customer":"c"}"#, 0x90),
        ("control/close", "{}", 0x99),
        ("control/drain", "{}", 0x99),
        ("control/drain", r#"{"agent":"anna","group":"care"}"#, 0x99),
        ("control/drain", r#"{"agent":"anna","drain":false}"#, 0x99),
        ("control/reload", "{}", 0x83),
        ("conversation/01ARZ3NDEKTSV4RRFFQ69G5FAV/ask", r#"{"verb":"transcript"}"#, 0x87),
    ] {
        assert_eq!(eve.try_say(topic, payload), reason, "{topic} {payload}");
    }
    desk.close();
}

#[test]
fn a_message_is_taken_once_and_a_full_group_says_so() {
    let desk = own(Some(RULES), |_| {});
    let mut watcher = Party::new(desk.v5("watcher").open());
    watcher.client.subscribe(&format!("{PREFIX}conversation/+/messages"), 1);
    let mut carl = customer(&desk, "carl");
    let own_id = r#"{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","body":"once"}"#;
    carl.say("customer/carl/up", own_id);
    carl.say("customer/carl/up", own_id);
    let up = format!("{PREFIX}customer/carl/up");
    assert_eq!(carl.try_publish(message(&up, "twice").qos(1).id(77)), 0);
    assert_eq!(carl.try_publish(message(&up, "twice").qos(1).id(77).dup()), 0);
    assert_eq!(carl.try_publish(message(&up, "twice").qos(1).id(77)), 0, "the id is free: another message");
    carl.say("customer/carl/up", "end");
    let bodies: Vec<Value> = (0..4).map(|_| watcher.json_on("conversation/")["body"].clone()).collect();
    assert_eq!(bodies, ["once", "twice", "twice", "end"]);

    let night =
        |name: &str| message(&format!("{PREFIX}customer/{name}/up"), "hello").qos(1).user("page", "night");
    let (mut one, mut two) = (customer(&desk, "one"), customer(&desk, "two"));
    assert_eq!(one.try_publish(night("one")), 0);
    one.until("customer/one/state", "state", "queued");
    assert_eq!(two.try_publish(night("two")), 0);
    assert_eq!(two.json_on("customer/two/down")["from"], json!({"role": "system"}));
    desk.close();
}

#[test]
fn backends_put_conversations_into_queues_and_supervisors_move_them() {
    let desk = own(Some(RULES), |_| {});
    let mut boss = supervisor(&desk);
    let mut control = |verb: &str, what: Value| control(&mut boss, verb, &what);
    let mut backend = Party::new(desk.v5("backend").open());
    let order = json!({"customer": "carl", "priority": 5, "body": "parcel lost", "meta": {"order": 7}});
    backend.say("queue/care/put", order.to_string());
    let mut carl = customer(&desk, "carl");
    let v = carl.until("customer/carl/state", "state", "queued")["conversation"].as_str().unwrap().to_owned();
    let mut anna = agent(&desk, "anna", &["care"], 1);
    assert_eq!(accept(&mut anna, "anna"), v);
    let first = anna.json_on(&format!("agent/anna/inbox/{v}"));
    assert_eq!((&first["body"], &first["meta"]["order"]), (&json!("parcel lost"), &json!(7)));
    assert_eq!(first["from"], json!({"role": "system"}));
    // Beyond her capacity only by an override.
    let mut ben = agent(&desk, "ben", &["night"], 0);
    let assign = |force: bool| json!({"conversation": v, "agent": "ben", "override": force});
    assert_eq!(control("assign", assign(false))["reason"], "agent_busy");
    assert_eq!(control("assign", assign(true))["ok"], true);
    assert_eq!(ben.json_on(&format!("agent/ben/inbox/{v}"))["seq"], 1);
    assert_eq!(control("requeue", json!({"conversation": v}))["ok"], true);
    assert_eq!(anna.json_on("agent/anna/offer")["conversation"], v.as_str());
    assert_eq!(control("close", json!({"conversation": v}))["ok"], true);
    carl.until("customer/carl/state", "state", "closed");
    assert_eq!(control("close", json!({"conversation": v}))["reason"], "no_conversation");
    desk.close();
}

#[test]
fn an_agent_who_is_drained_keeps_what_it_has_until_it_says_that_it_is_ready() {
    let desk = own(Some(RULES), |_| {});
    let mut boss = supervisor(&desk);
    let unknown = control(&mut boss, "drain", &json!({"agent": "anna"}));
    assert_eq!((&unknown["verb"], &unknown["reason"]), (&json!("drain"), &json!("no_agent")), "{unknown}");
    let mut anna = agent(&desk, "anna", &["care"], 3);
    let mut carl = customer(&desk, "carl");
    carl.say("customer/carl/up", "hello");
    let v = accept(&mut anna, "anna");
    let mut dora = customer(&desk, "dora");
    dora.say("customer/dora/up", "me too");
    let offer = anna.json_on("agent/anna/offer");
    for _ in 0..2 {
        assert_eq!(
            control(&mut boss, "drain", &json!({"agent": "anna"})),
            json!({"verb": "drain", "ok": true})
        );
    }
    let over = anna.json_on("agent/anna/offer");
    assert_eq!((&over["offer"], &over["over"]), (&offer["offer"], &json!("withdrawn")));
    assert_eq!(anna.until("agent/anna/state", "show", "away")["used"], 1);
    assert_eq!(
        answer(&mut anna, "anna", &json!({"verb": "accept", "offer": offer["offer"]}))["reason"],
        "offer_over"
    );
    let mut ben = agent(&desk, "ben", &["care"], 1);
    assert_eq!(accept(&mut ben, "ben"), offer["conversation"]);
    // What she has goes on.
    anna.say(&format!("conversation/{v}/reply"), "hello");
    assert_eq!(carl.json_on("customer/carl/down")["body"], "hello");
    let assign = json!({"conversation": offer["conversation"], "agent": "anna"});
    assert_eq!(control(&mut boss, "assign", &assign)["reason"], "agent_busy");
    let mut emil = customer(&desk, "emil");
    emil.say("customer/emil/up", "and me");
    emil.until("customer/emil/state", "state", "queued");
    anna.say("agent/anna/presence", r#"{"show":"busy"}"#);
    anna.until("agent/anna/state", "show", "busy");
    assert!(anna.heard.iter().all(|heard| !heard.topic.ends_with("/offer")), "nothing new has come");
    anna.say("agent/anna/presence", r#"{"show":"ready"}"#);
    assert_eq!(anna.json_on("agent/anna/offer")["customer"], "emil");
    desk.close();
}

const CLOSING: &str = r#"
[[tenant]]
name = "main"

[[tenant.group]]
name = "care"
mode = "assigned"
[tenant.group.assigned]
sticky = "0s"
closed_text = "We are closed."

[[tenant.group]]
name = "shop"

[[tenant.rule]]
name = "all"
group = "care"
"#;

#[test]
fn a_group_that_is_drained_takes_nothing_new_until_it_is_told_to_over_restarts() {
    for ending in BOTH {
        let mut kept = Kept::new(Some(CLOSING), |_| {});
        let desk = kept.start();
        let mut boss = supervisor(&desk);
        for group in ["shop", "nobody"] {
            assert_eq!(control(&mut boss, "drain", &json!({"group": group}))["reason"], "no_group");
        }
        let mut carl = customer(&desk, "carl");
        carl.say("customer/carl/up", "hello");
        carl.until("customer/carl/state", "state", "queued");
        for drain in [json!({"group": "care"}), json!({"group": "care", "drain": true})] {
            assert_eq!(control(&mut boss, "drain", &drain), json!({"verb": "drain", "ok": true}));
        }
        let mut desk = desk;
        for restarted in [false, true] {
            if restarted {
                desk = kept.restart(desk, ending);
                boss = supervisor(&desk);
            }
            boss.client.subscribe_amid_traffic(&[&format!("{PREFIX}queue/care/state")]);
            let state = boss.until("queue/care/state", "status", "closed");
            assert_eq!((&state["drain"], &state["depth"]), (&json!(true), &json!(1)), "{state}");
            let asked = control(&mut boss, "explain", &json!({"customer": "dora", "payload": "hi"}));
            let queue = json!({"depth": 1, "position": null, "status": "closed", "drain": true});
            assert_eq!(asked["queue"], queue, "{asked}");
            let mut dora = customer(&desk, "dora");
            dora.say("customer/dora/up", "me too");
            let told = dora.json_on("customer/dora/down");
            assert_eq!((&told["body"], told.get("seq")), (&json!("We are closed."), None));
        }
        // Who was there before is served.
        let mut anna = agent(&desk, "anna", &["care"], 2);
        let offer = anna.json_on("agent/anna/offer");
        assert_eq!(offer["customer"], "carl");
        answer(&mut anna, "anna", &json!({"verb": "accept", "offer": offer["offer"]}));
        assert_eq!(control(&mut boss, "drain", &json!({"group": "care", "drain": false}))["ok"], true);
        boss.until("queue/care/state", "drain", false);
        drop(anna);
        let desk = kept.restart(desk, ending);
        let mut boss = supervisor(&desk);
        boss.client.subscribe_amid_traffic(&[&format!("{PREFIX}queue/care/state")]);
        assert_eq!(boss.until("queue/care/state", "status", "open")["drain"], false);
        let mut dora = customer(&desk, "dora");
        dora.say("customer/dora/up", "now");
        dora.until("customer/dora/state", "state", "queued");
        desk.close();
    }
}

#[test]
fn conversations_survive_a_restart_and_transcripts_are_read_in_pages() {
    for ending in BOTH {
        let mut kept = Kept::new(Some(RULES), |_| {});
        let desk = kept.start();
        let mut anna = agent(&desk, "anna", &["care"], 1);
        let mut carl = customer(&desk, "carl");
        for number in 0..100 {
            carl.say("customer/carl/up", format!("message {number}"));
        }
        let v = accept(&mut anna, "anna");
        anna.say(&format!("conversation/{v}/reply"), "I see");
        let mut dora = customer(&desk, "dora");
        dora.say("customer/dora/up", "me too");
        dora.until("customer/dora/state", "state", "queued");
        drop((anna, carl, dora));
        let desk = kept.restart(desk, ending);
        // Everything is as it was announced, before anybody is back.
        let mut carl = customer(&desk, "carl");
        let mut dora = customer(&desk, "dora");
        assert_eq!(carl.until("customer/carl/state", "state", "assigned")["conversation"], v.as_str());
        assert_eq!(dora.until("customer/dora/state", "state", "queued")["position"], 1);
        let mut anna = agent(&desk, "anna", &["care"], 2);
        carl.say("customer/carl/up", "still there?");
        loop {
            let inbox = anna.json_on(&format!("agent/anna/inbox/{v}"));
            if inbox["seq"] == 102 {
                assert_eq!(inbox["body"], "still there?");
                break;
            }
        }
        let offer = accept(&mut anna, "anna");
        assert_ne!(offer, v);
        // All of it, a page at a time, from the end.
        carl.client.subscribe_amid_traffic(&[&format!("{PREFIX}customer/carl/answer")]);
        let read_all = |carl: &mut Party, ask: &mut dyn FnMut(&mut Party, Value) -> Value| {
            let (mut bodies, mut before) = (Vec::new(), Value::Null);
            loop {
                let mut request = json!({"verb": "transcript", "limit": 30});
                if !before.is_null() {
                    request["before"] = before;
                }
                let mut page = ask(carl, request);
                assert_eq!((&page["ok"], &page["conversation"]), (&json!(true), &json!(v)));
                before = page["before"].take();
                let mut messages: Vec<Value> = page["messages"].as_array().unwrap().clone();
                messages.append(&mut bodies);
                bodies = messages;
                if before.is_null() {
                    return bodies;
                }
            }
        };
        let mut by_customer = |carl: &mut Party, request: Value| {
            carl.say("customer/carl/ask", request.to_string());
            carl.json_on("customer/carl/answer")
        };
        let all = read_all(&mut carl, &mut by_customer);
        let seqs: Vec<u64> = all.iter().map(|m| m["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=102).collect::<Vec<_>>());
        assert_eq!((&all[0]["body"], &all[100]["body"]), (&json!("message 0"), &json!("I see")));
        assert_eq!(answer(&mut anna, "anna", &json!({"verb": "complete", "conversation": v}))["ok"], true);
        carl.until("customer/carl/state", "state", "closed");
        assert_eq!(read_all(&mut carl, &mut by_customer), all, "what is over is read like what is not");
        let ask = json!({"verb": "transcript", "customer": "carl", "limit": 3});
        anna.say(&format!("conversation/{v}/ask"), ask.to_string());
        let page = anna.json_on("agent/anna/result");
        assert_eq!((&page["messages"][2]["seq"], &page["before"]), (&json!(102), &json!(100)));
        carl.say("customer/carl/ask", r#"{"verb":"rate","rating":5}"#);
        assert_eq!(carl.json_on("customer/carl/answer")["ok"], true);
        // It is the same agent again, who was told so.
        carl.say("customer/carl/up", "one more thing");
        assert_eq!(anna.json_on("agent/anna/offer")["customer"], "carl");
        drop((anna, carl, dora));
        desk.close();
    }
}

#[test]
fn groups_close_patience_ends_and_transcripts_are_forgotten() {
    // Open on the day before yesterday alone.
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).weekday();
    let names = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let open = names[usize::from(today.to_monday_zero_offset().unsigned_abs() + 5) % 7];
    let rules = format!(
        r#"
[[tenant]]
name = "main"
[tenant.transcript]
keep = "1s"
[[tenant.group]]
name = "day"
mode = "assigned"
[tenant.group.assigned]
closed_text = "We are closed."
[tenant.group.hours]
{open} = "10:00-12:00"
[[tenant.group]]
name = "care"
mode = "assigned"
[tenant.group.assigned]
max_wait = "1s"
expired_text = "Nobody has time."
[[tenant.rule]]
name = "day"
when = 'message.body == "day"'
group = "day"
[[tenant.rule]]
name = "all"
group = "care"
"#
    );
    let desk = own(Some(&rules), |_| {});
    let mut carl = customer(&desk, "carl");
    carl.say("customer/carl/up", "day");
    let told = carl.json_on("customer/carl/down");
    assert_eq!((&told["body"], told.get("seq")), (&json!("We are closed."), None));
    carl.say("customer/carl/up", "hello");
    carl.until("customer/carl/state", "state", "queued");
    let told = carl.json_on("customer/carl/down");
    assert_eq!((&told["body"], &told["seq"]), (&json!("Nobody has time."), &json!(2)));
    carl.until("customer/carl/state", "state", "expired");
    carl.client.subscribe_amid_traffic(&[&format!("{PREFIX}customer/carl/answer")]);
    loop {
        carl.say("customer/carl/ask", r#"{"verb":"transcript"}"#);
        let answer = carl.json_on("customer/carl/answer");
        if answer["ok"] == false {
            assert_eq!(answer["reason"], "no_conversation");
            break;
        }
    }
    let mut board = Party::new(desk.v5("board").open());
    board.client.subscribe_amid_traffic(&[&format!("{PREFIX}queue/+/state")]);
    assert_eq!(board.until("queue/day/state", "status", "closed")["depth"], 0);
    assert_eq!(board.until("queue/care/state", "status", "open")["depth"], 0);
    desk.close();
}

#[test]
fn without_a_store_the_last_messages_of_a_conversation_are_there() {
    let desk = own(Some(RULES), |_| {});
    let mut anna = agent(&desk, "anna", &["care"], 1);
    let mut carl = customer(&desk, "carl");
    carl.say("customer/carl/up", "message 1");
    let v = accept(&mut anna, "anna");
    for number in 2..=300 {
        carl.say("customer/carl/up", format!("message {number}"));
    }
    for seq in 1..=300 {
        assert_eq!(anna.json_on(&format!("agent/anna/inbox/{v}"))["seq"], seq);
    }
    carl.client.subscribe_amid_traffic(&[&format!("{PREFIX}customer/carl/answer")]);
    let (mut first, mut before) = (301, json!(301));
    while !before.is_null() {
        carl.say("customer/carl/ask", json!({"verb": "transcript", "before": before}).to_string());
        let mut page = carl.json_on("customer/carl/answer");
        before = page["before"].take();
        for message in page["messages"].as_array().unwrap().iter().rev() {
            first -= 1;
            assert_eq!(
                (&message["seq"], &message["body"]),
                (&json!(first), &json!(format!("message {first}")))
            );
        }
    }
    assert!((300 - 128..=300 - 63).contains(&first), "{first}");
    desk.close();
}
