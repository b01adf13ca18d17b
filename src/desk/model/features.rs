//! What a model is told of a message, its customer, its conversation, an agent and the time.

use std::fmt;
use std::str::FromStr;

use cel::common::types::{CelBool, CelDouble, CelInt, CelMap, CelMapKey, CelUInt};

use super::super::json::Context;
use crate::spelling::suggest;

/// Before the name of a field of the customer's context document.
const CUSTOMER: &str = "customer.";

/// The longest name of such a field in bytes.
const MAX_FIELD: usize = 128;

/// Where a feature of a model comes from, written as here in the configuration and, if the model has names, in its
/// file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FeatureSource {
    /// `message.size`: the bytes of the conversation's first message.
    MessageSize,
    /// `message.length`: its characters, if its body is text.
    MessageLength,
    /// `conversation.priority`
    Priority,
    /// `conversation.waited_s`: the seconds since it first came, as in the order of the queue.
    Waited,
    /// `conversation.skills`: how many skills it wants.
    Skills,
    /// `customer.` and the name of a field of the customer's context document: a number, or 1 and 0 for true and false;
    /// all else is missing.
    Customer(Box<str>),
    /// `agent.used`: how much of the agent's capacity is taken.
    AgentUsed,
    /// `agent.capacity`
    AgentCapacity,
    /// `agent.spare`: the part of it that is free, 0 to 1.
    AgentSpare,
    /// `agent.idle_s`: the seconds since the agent was given something.
    AgentIdle,
    /// `agent.skill`: the agent's mean level in the skills that are wanted; missing if none is.
    AgentSkill,
    /// `agent.affinity`: 1 if the agent had this customer before, else 0.
    AgentAffinity,
    /// `agent.language`: 1 if the agent speaks the customer's language, else 0.
    AgentLanguage,
    /// `now.hour`: 0 to 23 in the tenant's time zone, when the conversation was opened.
    Hour,
    /// `now.weekday`: 1, Monday, to 7, likewise.
    Weekday,
}

/// All sources but the customer's fields.
const SOURCES: [(&str, FeatureSource); 14] = [
    ("message.size", FeatureSource::MessageSize),
    ("message.length", FeatureSource::MessageLength),
    ("conversation.priority", FeatureSource::Priority),
    ("conversation.waited_s", FeatureSource::Waited),
    ("conversation.skills", FeatureSource::Skills),
    ("agent.used", FeatureSource::AgentUsed),
    ("agent.capacity", FeatureSource::AgentCapacity),
    ("agent.spare", FeatureSource::AgentSpare),
    ("agent.idle_s", FeatureSource::AgentIdle),
    ("agent.skill", FeatureSource::AgentSkill),
    ("agent.affinity", FeatureSource::AgentAffinity),
    ("agent.language", FeatureSource::AgentLanguage),
    ("now.hour", FeatureSource::Hour),
    ("now.weekday", FeatureSource::Weekday),
];

/// A text that names no source of features.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{wrong}; {right}")]
pub struct FeatureError {
    /// What is wrong with it.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

/// What one scoring is asked about, in the units of [`FeatureSource`]. What is not known is missing, and so is a value
/// that is not finite.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Features<'a> {
    /// `message.size`
    pub message_size: Option<f32>,
    /// `message.length`
    pub message_length: Option<f32>,
    /// `conversation.priority`
    pub priority: Option<f32>,
    /// `conversation.waited_s`
    pub waited_s: Option<f32>,
    /// `conversation.skills`
    pub skills: Option<f32>,
    /// What [`Scorer::customer`](super::Scorer::customer) of the same model has found in the context document.
    pub customer: &'a [Option<f32>],
    /// `agent.used`
    pub agent_used: Option<f32>,
    /// `agent.capacity`
    pub agent_capacity: Option<f32>,
    /// `agent.spare`
    pub agent_spare: Option<f32>,
    /// `agent.idle_s`
    pub agent_idle_s: Option<f32>,
    /// `agent.skill`
    pub agent_skill: Option<f32>,
    /// `agent.affinity`
    pub agent_affinity: Option<f32>,
    /// `agent.language`
    pub agent_language: Option<f32>,
    /// `now.hour`
    pub hour: Option<f32>,
    /// `now.weekday`
    pub weekday: Option<f32>,
}

impl Features<'_> {
    /// The values of these sources, in their order, into as many places.
    pub(super) fn fill(&self, sources: &[FeatureSource], values: &mut [f32]) {
        let mut customer = self.customer.iter().copied();
        for (source, value) in sources.iter().zip(values) {
            let given = match source {
                FeatureSource::MessageSize => self.message_size,
                FeatureSource::MessageLength => self.message_length,
                FeatureSource::Priority => self.priority,
                FeatureSource::Waited => self.waited_s,
                FeatureSource::Skills => self.skills,
                FeatureSource::Customer(_) => customer.next().flatten(),
                FeatureSource::AgentUsed => self.agent_used,
                FeatureSource::AgentCapacity => self.agent_capacity,
                FeatureSource::AgentSpare => self.agent_spare,
                FeatureSource::AgentIdle => self.agent_idle_s,
                FeatureSource::AgentSkill => self.agent_skill,
                FeatureSource::AgentAffinity => self.agent_affinity,
                FeatureSource::AgentLanguage => self.agent_language,
                FeatureSource::Hour => self.hour,
                FeatureSource::Weekday => self.weekday,
            };
            *value = given.unwrap_or(f32::NAN);
        }
    }
}

/// The fields that these sources name, in their order: numbers, and true and false as 1 and 0.
pub(super) fn customer(sources: &[FeatureSource], context: Option<&Context>) -> Vec<Option<f32>> {
    let fields = context.and_then(|context| context.value().downcast_ref::<CelMap<'static>>());
    let number = |source: &FeatureSource| {
        let FeatureSource::Customer(field) = source else { return None };
        Some(fields.and_then(|fields| number(fields, field)))
    };
    sources.iter().filter_map(number).collect()
}

/// One field of a document, likewise.
pub(super) fn field(context: &Context, name: &str) -> Option<f32> {
    context.value().downcast_ref::<CelMap<'static>>().and_then(|fields| number(fields, name))
}

#[expect(clippy::cast_precision_loss, reason = "a model works with 32 bits")]
fn number(fields: &CelMap<'static>, name: &str) -> Option<f32> {
    let value = fields.inner().get(&CelMapKey::from(name.to_owned()))?;
    if let Some(number) = value.downcast_ref::<CelInt>() {
        Some(*number.inner() as f32)
    } else if let Some(number) = value.downcast_ref::<CelUInt>() {
        Some(*number.inner() as f32)
    } else if let Some(number) = value.downcast_ref::<CelDouble>() {
        Some(*number.inner() as f32).filter(|number| number.is_finite())
    } else {
        value.downcast_ref::<CelBool>().map(|flag| f32::from(u8::from(*flag.inner())))
    }
}

impl fmt::Display for FeatureSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Customer(field) = self {
            return write!(f, "{CUSTOMER}{field}");
        }
        f.write_str(SOURCES.iter().find(|(_, source)| source == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for FeatureSource {
    type Err = FeatureError;

    fn from_str(text: &str) -> Result<Self, FeatureError> {
        if let Some((_, source)) = SOURCES.iter().find(|(name, _)| *name == text) {
            return Ok(source.clone());
        }
        let wrong = |wrong: &str, right: String| FeatureError { wrong: wrong.to_owned(), right };
        match text.strip_prefix(CUSTOMER) {
            Some("") => Err(wrong("the field is not named", format!("e.g. `{CUSTOMER}age`"))),
            Some(field) if field.len() > MAX_FIELD => {
                Err(wrong("the field's name is too long", format!("at most {MAX_FIELD} bytes")))
            }
            Some(field) if field.contains('.') => Err(wrong(
                "only fields of the document itself can be features",
                format!("e.g. `{CUSTOMER}age`"),
            )),
            Some(field) => Ok(Self::Customer(field.into())),
            None => {
                let mut names: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
                names.push("customer.<field>");
                let shown: String = text.chars().take(MAX_FIELD).collect();
                Err(wrong(&format!("\"{shown}\" is no source of features"), suggest(text, &names)))
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::float_cmp, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn sources_are_written_as_they_are_read() {
        for (name, source) in &SOURCES {
            assert_eq!(name.parse::<FeatureSource>().unwrap(), *source);
            assert_eq!(source.to_string(), *name);
        }
        let field: FeatureSource = "customer.lifetime-value".parse().unwrap();
        assert_eq!(field, FeatureSource::Customer("lifetime-value".into()));
        assert_eq!(field.to_string(), "customer.lifetime-value");
    }

    #[test]
    fn what_is_no_source_is_told_with_what_was_meant() {
        for (text, told) in [
            ("message.sise", "\"message.sise\" is no source of features; did you mean \"message.size\"?"),
            ("agent_idle", "did you mean \"agent.idle_s\"?"),
            ("urgency", "\"urgency\" is no source of features; one of message.size, message.length, conv"),
            ("customer", "did you mean \"customer.<field>\"?"),
            ("", "\"\" is no source of features; one of"),
            ("customer.", "the field is not named; e.g. `customer.age`"),
            ("customer.geo.lat", "only fields of the document itself can be features"),
            (&format!("customer.{}", "x".repeat(129)), "the field's name is too long; at most 128 bytes"),
            (&"ü".repeat(10_000), "is no source of features"),
        ] {
            let error = text.parse::<FeatureSource>().unwrap_err().to_string();
            assert!(error.contains(told) && error.len() < 600, "{text}: {error}");
        }
    }

    #[test]
    fn each_source_has_a_value_of_its_own() {
        let sources: Vec<FeatureSource> = SOURCES.iter().map(|(_, source)| source.clone()).collect();
        let some = |value: f32| Some(value);
        let features = Features {
            message_size: some(0.0),
            message_length: some(1.0),
            priority: some(2.0),
            waited_s: some(3.0),
            skills: some(4.0),
            customer: &[],
            agent_used: some(5.0),
            agent_capacity: some(6.0),
            agent_spare: some(7.0),
            agent_idle_s: some(8.0),
            agent_skill: some(9.0),
            agent_affinity: some(10.0),
            agent_language: some(11.0),
            hour: some(12.0),
            weekday: some(13.0),
        };
        let mut values = [0.0; 14];
        features.fill(&sources, &mut values);
        assert_eq!(values, std::array::from_fn(|index| f32::from(u8::try_from(index).unwrap())));
        Features::default().fill(&sources, &mut values);
        assert!(values.iter().all(|value| value.is_nan()));
    }

    #[test]
    fn of_the_customer_numbers_and_flags_are_taken() {
        let context = br#"{"age":42,"score":-1.5,"vip":true,"new":false,"name":"x","list":[1],"none":null,
            "big":18446744073709551615,"huge":1e300,"_ttl":{"age":9}}"#;
        let context = Context::parse(context).unwrap();
        let names = ["age", "score", "vip", "new", "name", "list", "none", "big", "huge", "absent", "_ttl"];
        let sources: Vec<FeatureSource> = names
            .iter()
            .flat_map(|name| [FeatureSource::Customer((*name).into()), FeatureSource::Hour])
            .collect();
        let found = customer(&sources, Some(&context));
        let big = 18_446_744_073_709_551_615.0;
        let expected = [Some(42.0), Some(-1.5), Some(1.0), Some(0.0), None, None, None, Some(big)];
        assert_eq!(found[..8], expected);
        assert_eq!(found[8..], [None; 3]);
        assert_eq!(customer(&sources, None), [None; 11]);

        let mut values = [0.0; 22];
        Features { customer: &found, hour: Some(7.0), ..Features::default() }.fill(&sources, &mut values);
        assert_eq!(values[..4], [42.0, 7.0, -1.5, 7.0]);
        Features { customer: &found[..1], ..Features::default() }.fill(&sources, &mut values);
        assert!(values[2].is_nan(), "found for another model");
    }
}
