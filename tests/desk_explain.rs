//! `control/explain` where groups are in `assigned` mode: what it says is what happens.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod dialogue;

use dialogue::{Client, Own, Packet, Publish, message, own};
use serde_json::{Value, json};

/// `care` has a model: short messages are for those who take little at once, long ones are judged by the customer's age.
const RULES: &str = r#"
[[tenant]]
name = "main"

[[tenant.group]]
name = "care"
mode = "assigned"
[tenant.group.assigned]
sticky = "20s"
[tenant.group.weights]
model = 40
[tenant.group.model]
file = '''{"version":[3,2,0],"learner":{"objective":{"name":"binary:logistic"},
    "learner_model_param":{"base_score":"[5E-1]","num_feature":"3"},
    "gradient_booster":{"name":"gbtree","model":{"gbtree_model_param":{"num_trees":"1"},"tree_info":[0],"trees":[
    {"tree_param":{"num_nodes":"7"},"left_children":[1,3,5,-1,-1,-1,-1],"right_children":[2,4,6,-1,-1,-1,-1],
    "split_indices":[0,1,2,0,0,0,0],"split_conditions":[100,3,50,3,-3,-3,3],"default_left":[0,0,0,0,0,0,0],
    "split_type":[0,0,0,0,0,0,0]}]}}}}'''
features = ["message.length", "agent.capacity", "customer.age"]

[[tenant.group]]
name = "night"
mode = "assigned"
[tenant.group.assigned]
max_queue = 1

[[tenant.group]]
name = "shop"

[[tenant.rule]]
name = "night"
when = 'message.properties.?page.orValue("") == "night"'
group = "night"
priority = 3

[[tenant.rule]]
name = "shop"
when = 'message.properties.?page.orValue("") == "shop"'
group = "shop"

[[tenant.rule]]
name = "again"
when = 'conversation.previous_agent == "small"'
group = "care"

[[tenant.rule]]
name = "all"
group = "care"
"#;

const PREFIX: &str = "cs/1/main/";

/// The next message of a topic; others are let go.
fn next_on(client: &mut Client, topic: &str) -> Publish {
    loop {
        if let Packet::Publish(publish) = client.next() {
            client.acknowledge(&publish);
            if publish.topic == topic {
                return publish;
            }
        }
    }
}

fn json_on(client: &mut Client, topic: &str) -> Value {
    serde_json::from_slice(&next_on(client, topic).payload).unwrap_or(Value::Null)
}

fn agent(desk: &Own, name: &str, capacity: u32) -> Client {
    let mut client = desk.v5(&format!("agent-{name}")).open();
    client.subscribe(&format!("{PREFIX}agent/{name}/#"), 1);
    let presence = json!({"show": "ready", "groups": ["care"], "languages": ["de"], "capacity": capacity});
    client.publish(message(&format!("{PREFIX}agent/{name}/presence"), presence.to_string()).qos(1));
    // Once the state is announced the floor knows.
    let state = format!("{PREFIX}agent/{name}/state");
    while json_on(&mut client, &state)["show"] != "ready" {}
    client
}

/// Somebody who asks.
struct Operator {
    client: Client,
    topic: String,
}

impl Operator {
    fn new(desk: &Own, name: &str) -> Self {
        let (mut client, topic) = (desk.v5(name).open(), format!("answers/{name}"));
        client.subscribe(&topic, 1);
        Self { client, topic }
    }

    fn ask(&mut self, question: &Value) -> Value {
        let request = message("cs/1/main/control/explain", question.to_string());
        self.client.publish(request.qos(1).response_topic(&self.topic).correlation(b"7"));
        json_on(&mut self.client, &self.topic)
    }
}

fn writes(desk: &Own, customer: &str, text: &str, page: &str) -> Client {
    let mut client = desk.v5(&format!("customer-{customer}")).open();
    client.subscribe(&format!("{PREFIX}customer/{customer}/state"), 1);
    let topic = format!("{PREFIX}customer/{customer}/up");
    client.publish(message(&topic, text).qos(1).user("page", page));
    client
}

fn says(agent: &mut Client, name: &str, what: &Value) {
    agent.publish(message(&format!("{PREFIX}agent/{name}/answer"), what.to_string()).qos(1));
    let result = json_on(agent, &format!("{PREFIX}agent/{name}/result"));
    assert_eq!(result["ok"], true, "{result}");
}

/// The candidates of an answer with the model's term of each; their terms add up.
fn candidates(answer: &Value) -> Vec<(&str, f64)> {
    let all = answer["candidates"].as_array().unwrap();
    all.iter()
        .map(|one| {
            let terms = one["terms"].as_object().unwrap();
            let sum: f64 = terms.values().map(|term| term.as_f64().unwrap()).sum();
            assert!((sum - one["score"].as_f64().unwrap()).abs() < 0.0001, "{one}");
            assert_eq!(terms.len(), 6, "{one}");
            assert_eq!((&terms["skill"], &terms["language"]), (&json!(100.0), &json!(0.0)));
            (one["agent"].as_str().unwrap(), terms["model"].as_f64().unwrap())
        })
        .collect()
}

// 40 points times the logistic function of 3 and of -3.
const GOOD: f64 = 38.103;
const BAD: f64 = 1.897;

#[test]
fn from_any_shard_and_of_any_customer_it_tells_who_would_be_asked() {
    let desk = own(Some(RULES), |_| {});
    let _agents = [agent(&desk, "small", 1), agent(&desk, "large", 5)];
    let long = "long ".repeat(30);
    for name in ["one", "two"] {
        let mut operator = Operator::new(&desk, name);
        for customer in ["carl", "dora", "emil"] {
            let short = operator.ask(&json!({"customer": customer, "payload": "hi"}));
            assert_eq!((&short["rule"], &short["mode"]), (&json!("all"), &json!("assigned")), "{short}");
            let nothing = ["strategy", "shared_filter", "queue_topic", "key", "waits_for", "error"];
            assert!(nothing.iter().all(|member| short.get(member).is_none()), "{short}");
            assert_eq!(short["queue"], json!({"depth": 0, "position": 0, "status": "open", "drain": false}));
            assert_eq!(candidates(&short), [("small", GOOD), ("large", BAD)]);
            let aged = json!({"customer": customer, "payload": long, "context": {"age": 60}});
            assert!(candidates(&operator.ask(&aged)).iter().all(|(_, model)| *model == GOOD));
            let shop = operator.ask(&json!({"customer": customer, "properties": {"page": "shop"}}));
            assert_eq!((&shop["mode"], &shop["strategy"]), (&json!("shared"), &json!("sticky")), "{shop}");
            assert!(shop.get("candidates").is_none() && shop.get("queue").is_none());
            assert!(operator.ask(&json!({"costumer": "x"}))["error"].is_object());
        }
    }
    desk.close();
}

#[test]
fn it_happens_as_it_was_told() {
    let desk = own(Some(RULES), |_| {});
    let (mut small, _large) = (agent(&desk, "small", 1), agent(&desk, "large", 5));
    let mut operator = Operator::new(&desk, "operator");
    let told = operator.ask(&json!({"customer": "carl", "payload": "hi"}));
    let _carl = writes(&desk, "carl", "hi", "");
    let offer = json_on(&mut small, &format!("{PREFIX}agent/small/offer"));
    assert_eq!((candidates(&told)[0].0, &offer["customer"]), ("small", &json!("carl")));
    let score = |of: &Value| of["score"].as_f64().unwrap();
    // Idle time goes on meanwhile.
    assert!((score(&offer) - score(&told["candidates"][0])).abs() < 1.0, "{told} {offer}");
    says(&mut small, "small", &json!({"verb": "accept", "offer": offer["offer"]}));
    let left = operator.ask(&json!({"customer": "dora", "payload": "hi"}));
    assert_eq!(candidates(&left), [("large", BAD)], "the other one has her hands full");

    // She had this customer before: the rules know it, and nobody else would be asked at once.
    says(&mut small, "small", &json!({"verb": "complete", "conversation": offer["conversation"]}));
    let again = operator.ask(&json!({"customer": "carl", "payload": "hi again"}));
    assert_eq!((&again["rule"], &again["waits_for"]), (&json!("again"), &json!("small")), "{again}");
    assert_eq!(candidates(&again), [("small", GOOD)]);
    assert_eq!(again["candidates"][0]["terms"]["affinity"], 200.0);
    desk.close();
}

#[test]
fn a_group_without_room_says_so() {
    let desk = own(Some(RULES), |_| {});
    let mut operator = Operator::new(&desk, "operator");
    let night = json!({"customer": "emil", "payload": "hi", "properties": {"page": "night"}});
    let empty = operator.ask(&night);
    assert_eq!(
        empty["queue"],
        json!({"depth": 0, "position": 1, "status": "open", "drain": false}),
        "{empty}"
    );
    assert_eq!((&empty["candidates"], &empty["full"]), (&json!([]), &json!(false)));
    let mut dora = writes(&desk, "dora", "hi", "night");
    while json_on(&mut dora, &format!("{PREFIX}customer/dora/state"))["position"] != 1 {}
    let full = operator.ask(&night);
    assert_eq!(
        full["queue"],
        json!({"depth": 1, "position": null, "status": "full", "drain": false}),
        "{full}"
    );
    assert_eq!(full["full"], true);
    desk.close();
}
