//! `control/explain`: where a message would go, and why.
//!
//! The question is JSON: `{"customer": "42"}` or `{"topic": "cs/1/main/customer/42/up"}`, and if wanted
//! `"payload"` (a string is the text published, any other value is published as JSON), `"properties"` (the
//! user properties), `"context"` (a document to use in place of the customer's) and `"at"` (milliseconds since
//! the epoch, in place of now). The answer is JSON too.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::json::Context;
use super::payload::Payload;
use super::routing::{Inbound, Rule, Tenant};
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
    /// none; `now_ms` is the time unless the question named one, in milliseconds since the epoch.
    pub fn explain(&self, question: &Question, context: Option<&Context>, now_ms: i64) -> Value {
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
        let context = context.and_then(|context| serde_json::from_str::<Value>(context.text()).ok());
        let mut answer = self.outcome(winner, &question.customer);
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
        answer
    }

    /// What a rule means for a customer's message.
    fn outcome(&self, rule: &Rule, customer: &str) -> Value {
        let group = &rule.group;
        let queue_topic = self.queue_topic(group, customer);
        let key = (group.strategy == super::routing::Strategy::Sticky).then(|| group.key(&queue_topic));
        json!({
            "rule": &*rule.name,
            "group": &*group.name,
            "mode": "shared",
            "strategy": group.strategy.name(),
            "key": key,
            "shared_filter": self.queue_filter(group),
            "queue_topic": queue_topic,
            "priority": rule.priority,
            "skills": rule.skills,
            "fallback": rule.fallback.as_ref().map(|fallback| &*fallback.name),
        })
    }
}
