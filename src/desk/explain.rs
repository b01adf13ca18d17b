//! `control/explain`: where a message would go, and why.
//!
//! The question is JSON: `{"customer": "42"}` or `{"topic": "cs/1/main/customer/42/up"}`, and if wanted
//! `"payload"` (a string is the text published, any other value is published as JSON), `"properties"` (the
//! user properties), `"context"` (a document to use in place of the customer's) and `"at"` (milliseconds since
//! the epoch, in place of now). The answer is JSON too. Of a group in `assigned` mode the floor adds `"candidates"`, the
//! agents who would be asked now with every term of their scores in points, `"queue"` with `"depth"`, the `"position"`
//! that a new conversation would get (0: it would be offered at once) and `"status"`, and `"waits_for"`, the agent for
//! whom alone it would wait for a while.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::floor::Opening;
use super::json::Context;
use super::opening::Wanted;
use super::payload::Payload;
use super::routing::{Group, Inbound, Rule, Tenant};
use super::thread::Past;
use super::topics::{DeskTopic, PREFIX, check_id, desk_topic};

/// The longest question in bytes.
const MAX_QUESTION_BYTES: usize = 256 * 1024;

/// A question that was understood.
#[derive(Debug)]
pub struct Question {
    customer: String,
    topic: String,
    payload: Vec<u8>,
    properties: Vec<(String, String)>,
    context: Option<Context>,
    at_ms: Option<i64>,
}

/// The answer to a question.
#[derive(Debug, Default)]
pub struct Explained {
    /// What the rules say.
    pub answer: Value,
    /// The conversation that the message would open, if its group is in `assigned` mode: the floor knows the rest.
    pub opening: Option<Opening>,
}

/// Why a question was not understood. [`QuestionError::to_json`] is the answer to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {wrong}")]
pub struct QuestionError {
    /// The member of the question that is wrong; `question` for the whole.
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub wrong: String,
}

impl QuestionError {
    /// `{"error": {"field": …, "message": …}}`
    pub fn to_json(&self) -> Value {
        json!({ "error": { "field": self.field, "message": self.wrong } })
    }
}

fn wrong(field: &'static str, wrong: impl Into<String>) -> QuestionError {
    QuestionError { field, wrong: wrong.into() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked<'a> {
    topic: Option<String>,
    customer: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    properties: Option<Map<String, Value>>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    at: Option<i64>,
}

impl Question {
    /// Understands a question that came to `cs/1/{tenant}/control/explain`.
    ///
    /// # Errors
    /// [`QuestionError`] says which member is wrong.
    pub fn parse(tenant: &str, question: &[u8]) -> Result<Self, QuestionError> {
        if question.len() > MAX_QUESTION_BYTES {
            return Err(wrong("question", format!("more than {MAX_QUESTION_BYTES} bytes")));
        }
        // serde would take a list of the members, too.
        if !question.trim_ascii_start().starts_with(b"{") {
            return Err(wrong("question", "not a JSON object"));
        }
        let asked: Asked<'_> =
            serde_json::from_slice(question).map_err(|e| wrong("question", e.to_string()))?;
        let customer = customer(tenant, asked.topic.as_deref(), asked.customer.as_deref())?;
        let payload = match asked.payload.map(RawValue::get) {
            None => Vec::new(),
            Some(text) if text.starts_with('"') => serde_json::from_str::<String>(text)
                .map_err(|e| wrong("payload", e.to_string()))?
                .into_bytes(),
            Some(json) => json.as_bytes().to_vec(),
        };
        let properties = asked.properties.unwrap_or_default().into_iter().map(property);
        let context = asked.context.map(|document| Context::parse(document.get().as_bytes()));
        Ok(Self {
            topic: format!("{PREFIX}{tenant}/customer/{customer}/up"),
            customer,
            payload,
            properties: properties.collect::<Result<_, _>>()?,
            context: context.transpose().map_err(|e| wrong("context", e.to_string()))?,
            at_ms: asked.at,
        })
    }

    /// Whose message is asked about.
    pub fn customer(&self) -> &str {
        &self.customer
    }

    /// Whether the question brings a context document; if not, [`Tenant::explain`] wants the customer's.
    pub fn has_context(&self) -> bool {
        self.context.is_some()
    }
}

fn customer(tenant: &str, topic: Option<&str>, customer: Option<&str>) -> Result<String, QuestionError> {
    match (topic, customer) {
        (Some(_), Some(_)) => Err(wrong("topic", "give either `topic` or `customer`")),
        (None, None) => Err(wrong("customer", "missing; give `customer` or the `topic` published to")),
        (None, Some(customer)) => {
            check_id(customer).map_err(|what| wrong("customer", what))?;
            Ok(customer.to_owned())
        }
        (Some(topic), None) => match desk_topic(topic) {
            Some(DeskTopic::CustomerUp { tenant: named, customer }) if named == tenant => {
                Ok(customer.to_owned())
            }
            _ => Err(wrong("topic", format!("not {PREFIX}{tenant}/customer/{{customer}}/up"))),
        },
    }
}

fn property((name, value): (String, Value)) -> Result<(String, String), QuestionError> {
    match value {
        Value::String(value) => Ok((name, value)),
        _ => Err(wrong("properties", format!("\"{name}\" is not a string"))),
    }
}

impl Tenant {
    /// Answers a question: every rule tried with its result or error, the one that held, its group and how the
    /// group's members share. `context` is the customer's document, if there is one and the question brought
    /// none; `past` the customer's conversation before; `now_ms` is the time unless the question named one, in
    /// milliseconds since the epoch; `full` says whether a group takes no more, `closed` whether it takes none at this
    /// time of the day.
    pub fn explain(
        &self,
        question: &Question,
        context: Option<&Context>,
        past: Option<&Past>,
        now_ms: i64,
        full: impl Fn(&Group) -> bool,
        closed: impl Fn(&Group) -> bool,
    ) -> Explained {
        let (context, source) = match (&question.context, context) {
            (Some(given), _) => (Some(given), "question"),
            (None, Some(retained)) => (Some(retained), "retained"),
            (None, None) => (None, "none"),
        };
        let payload = Payload::new(&question.payload);
        let properties: Vec<(&str, &str)> =
            question.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let message = Inbound {
            customer: &question.customer,
            topic: &question.topic,
            payload: &payload,
            properties: &properties,
            context,
            previous: past.map_or(("", ""), |past| (&*past.group, past.agent.as_deref().unwrap_or_default())),
            now_ms: question.at_ms.unwrap_or(now_ms),
        };
        let mut tried = Vec::new();
        let winner = self.first_that_holds(&message, |rule, result| {
            let mut entry = json!({ "rule": &*rule.name, "line": rule.line, "when": rule.when });
            let (key, value) = match result {
                Ok(holds) => ("result", Value::Bool(holds)),
                Err(error) => ("error", Value::String(error.to_string())),
            };
            if let Some(members) = entry.as_object_mut() {
                members.insert(key.to_owned(), value);
            }
            tried.push(entry);
        });
        let group = winner.choose(|group| full(group) || closed(group));
        let opening = group
            .is_assigned()
            .then(|| self.opening(0, &message, true, Wanted::by_rule(winner, group), past));
        let context = context.and_then(|context| serde_json::from_str::<Value>(context.text()).ok());
        let mut answer = self.outcome(winner, group, &question.customer, full(group));
        let about = json!({
            "tenant": self.name(),
            "customer": question.customer,
            "topic": question.topic,
            "at": message.now_ms,
            "time_zone": self.zone.iana_name(),
            "type": payload.kind(),
            "rules": tried,
            "context": context,
            "context_from": source,
        });
        if let (Some(answer), Value::Object(about)) = (answer.as_object_mut(), about) {
            answer.extend(about);
        }
        Explained { answer, opening }
    }

    /// What a rule means for a customer's message.
    fn outcome(&self, rule: &Rule, group: &Group, customer: &str, full: bool) -> Value {
        let instead_of = (group.name != rule.group.name).then_some(&*rule.group.name);
        let mut outcome = json!({
            "rule": &*rule.name,
            "group": &*group.name,
            "instead_of": instead_of,
            "full": full,
            "mode": if group.is_assigned() { "assigned" } else { "shared" },
            "priority": rule.priority,
            "skills": rule.skills,
            "fallback": rule.fallback.as_ref().map(|fallback| &*fallback.name),
        });
        if group.is_assigned() {
            return outcome;
        }
        let queue_topic = self.queue_topic(group, customer);
        let key = (group.strategy == super::routing::Strategy::Sticky).then(|| group.key(&queue_topic));
        let shared = json!({
            "strategy": group.strategy.name(),
            "key": key,
            "shared_filter": self.queue_filter(group),
            "queue_topic": queue_topic,
        });
        if let (Some(outcome), Value::Object(shared)) = (outcome.as_object_mut(), shared) {
            outcome.extend(shared);
        }
        outcome
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::super::routing::Routing;
    use super::*;

    const FILE: &str = r#"
[[tenant]]
name = "main"
time_zone = "Europe/Berlin"
[[tenant.group]]
name = "sales"
[[tenant.group]]
name = "support"
strategy = "round_robin"
[[tenant.rule]]
name = "vip"
when = 'customer.tier == "gold" && message.body.contains("buy")'
group = "sales"
priority = 5
skills = ["french"]
fallback = "support"
[[tenant.rule]]
name = "night"
when = 'now.hour < 6'
group = "sales"
[[tenant.rule]]
name = "rest"
group = "support"
"#;

    /// 12:00 in Berlin on 22 November 2026.
    const NOON_MS: i64 = 1_795_345_200_000;

    fn answer(question: &str, context: Option<&str>) -> Value {
        let routing = Routing::parse(FILE, "r.toml").unwrap();
        let tenant = routing.tenant("main").unwrap();
        let context = context.map(|text| Context::parse(text.as_bytes()).unwrap());
        tenant
            .explain(
                &Question::parse("main", question.as_bytes()).unwrap(),
                context.as_ref(),
                None,
                NOON_MS,
                |_| false,
                |_| false,
            )
            .answer
    }

    #[test]
    fn an_answer_names_the_fallback_while_the_groups_backlog_is_full() {
        let routing = Routing::parse(FILE, "routing.toml").unwrap();
        let question = br#"{"customer":"42","payload":"I want to buy","context":{"tier":"gold"}}"#;
        let question = Question::parse("main", question).unwrap();
        let tenant = routing.tenant("main").unwrap();
        let ask = |full: &[&str]| {
            let full = |group: &Group| full.contains(&&*group.name);
            let answer = tenant.explain(&question, None, None, NOON_MS, full, |_| false).answer;
            (answer["group"].clone(), answer["instead_of"].clone(), answer["full"].clone())
        };
        assert_eq!(ask(&[]), (json!("sales"), Value::Null, json!(false)));
        assert_eq!(ask(&["sales"]), (json!("support"), json!("sales"), json!(false)));
        assert_eq!(ask(&["sales", "support"]), (json!("support"), json!("sales"), json!(true)));
    }

    fn refused(question: &str) -> Value {
        Question::parse("main", question.as_bytes()).unwrap_err().to_json()
    }

    #[test]
    fn an_answer_tells_every_rule_tried_and_the_winner() {
        let answer = answer(r#"{"customer":"42","payload":"hello"}"#, Some(r#"{"tier":"gold"}"#));
        assert_eq!(
            answer,
            json!({
                "tenant": "main",
                "customer": "42",
                "topic": "cs/1/main/customer/42/up",
                "at": NOON_MS,
                "time_zone": "Europe/Berlin",
                "type": "text",
                "rules": [
                    {"rule": "vip", "line": 10, "when": "customer.tier == \"gold\" && message.body.contains(\"buy\")", "result": false},
                    {"rule": "night", "line": 17, "when": "now.hour < 6", "result": false},
                    {"rule": "rest", "line": 21, "when": null, "result": true},
                ],
                "rule": "rest",
                "group": "support",
                "instead_of": null,
                "full": false,
                "mode": "shared",
                "strategy": "round_robin",
                "key": null,
                "shared_filter": "$share/support/cs/1/main/queue/support/messages/+",
                "queue_topic": "cs/1/main/queue/support/messages/42",
                "priority": 0,
                "skills": [],
                "fallback": null,
                "context": {"tier": "gold"},
                "context_from": "retained",
            })
        );
    }

    #[test]
    fn the_rules_after_the_winner_are_not_tried() {
        let question = r#"{"topic":"cs/1/main/customer/4 2/up","payload":"I buy","context":{"tier":"gold"}}"#;
        let answer = answer(question, Some(r#"{"tier":"tin"}"#));
        assert_eq!(answer["rule"], "vip");
        assert_eq!(answer["rules"].as_array().unwrap().len(), 1);
        assert_eq!(answer["strategy"], "sticky");
        assert_eq!(answer["key"], "4 2");
        assert_eq!(answer["skills"], json!(["french"]));
        assert_eq!(answer["fallback"], "support");
        assert_eq!(answer["context"], json!({"tier": "gold"}), "the question's own");
        assert_eq!(answer["context_from"], "question");
    }

    #[test]
    fn a_rule_that_fails_says_why_and_the_time_can_be_chosen() {
        let answer = answer(r#"{"customer":"42","payload":"buy","at":1795320000000}"#, None);
        assert_eq!(answer["rules"][0]["error"], "No such key: tier");
        assert!(answer["rules"][0].get("result").is_none());
        assert_eq!(answer["rule"], "night");
        assert_eq!(answer["at"], 1_795_320_000_000_i64);
        assert_eq!(answer["context"], Value::Null);
        assert_eq!(answer["context_from"], "none");
    }

    #[test]
    fn a_payload_may_be_json_and_properties_count() {
        let question = r#"{"customer":"42","payload":{"type":"card","body":{"a":1}},"properties":{"k":"v"}}"#;
        assert_eq!(answer(question, None)["type"], "card");
        assert_eq!(
            Question::parse("main", question.as_bytes()).unwrap().properties,
            [("k".into(), "v".into())]
        );
        assert!(!Question::parse("main", question.as_bytes()).unwrap().has_context());
    }

    #[test]
    fn a_wrong_question_is_told_what_is_wrong() {
        for (question, field, part) in [
            ("", "question", "not a JSON object"),
            ("[\"cs/1/main/customer/1/up\"]", "question", "not a JSON object"),
            ("{", "question", "EOF while parsing an object at line 1"),
            ("{\"customer\":42}", "question", "expected a string at line 1 column 14"),
            (
                "{\"costumer\":\"42\"}",
                "question",
                "unknown field `costumer`, expected one of `topic`, `customer`",
            ),
            ("{}", "customer", "missing"),
            ("{\"customer\":\"\"}", "customer", "empty"),
            ("{\"customer\":\"4/2\"}", "customer", "without / + #"),
            ("{\"customer\":\"1\",\"topic\":\"cs/1/main/customer/1/up\"}", "topic", "either"),
            ("{\"topic\":\"cs/1/other/customer/1/up\"}", "topic", "not cs/1/main/customer/{customer}/up"),
            ("{\"topic\":\"a/b\"}", "topic", "not cs/1/main/customer/{customer}/up"),
            ("{\"customer\":\"1\",\"context\":[1]}", "context", "not a JSON object"),
            ("{\"customer\":\"1\",\"properties\":{\"a\":1}}", "properties", "\"a\" is not a string"),
            ("{\"customer\":\"1\",\"payload\":\"\\ud800\"}", "payload", "hex escape"),
        ] {
            let answer = refused(question);
            assert_eq!(answer["error"]["field"], field, "{question}: {answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains(part), "{question}: {answer}");
        }
        assert_eq!(refused(&" ".repeat(300_000))["error"]["field"], "question");
    }
}
