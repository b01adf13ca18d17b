//! A conversation as it comes in: what the rules, the message and the customer's document say of it, put together.

use std::sync::Arc;

use super::floor::{ConversationId, Opening};
use super::requests::Put;
use super::routing::{Group, Inbound, Rule, Tenant};
use super::thread::Past;

/// Characters of a message that lists show.
const PREVIEW: usize = 120;

/// The user property that names a message's channel.
const CHANNEL: &str = "channel";

/// The user property, and the field of the customer's context document, that names the customer's language.
const LANGUAGE: &str = "language";

/// What a conversation wants: by a rule, or by a backend's word.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The group that takes it.
    pub group: &'a Group,
    /// The base priority.
    pub priority: u16,
    /// The wanted skills.
    pub skills: Vec<Arc<str>>,
    /// The customer's language, if somebody has named it.
    pub language: Option<Arc<str>>,
    /// Its channel, if somebody has named it.
    pub channel: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    /// As a rule says; `group` is the one that takes it.
    pub fn by_rule(rule: &Rule, group: &'a Group) -> Self {
        let skills = rule.skills.iter().map(|skill| Arc::from(skill.as_str())).collect();
        Self { group, priority: rule.priority, skills, language: None, channel: None }
    }

    /// As a backend says.
    pub fn by_put(put: &'a Put, group: &'a Group) -> Self {
        Self {
            group,
            priority: put.priority,
            skills: put.skills.clone(),
            language: put.language.clone(),
            channel: put.channel.as_deref(),
        }
    }
}

impl Tenant {
    /// The conversation that a customer's first message opens. `written`: the
    /// message is the customer's; without, nothing was written yet. `past` is the customer's conversation before.
    pub fn opening(
        &self,
        conversation: ConversationId,
        message: &Inbound<'_>,
        written: bool,
        wanted: Wanted<'_>,
        past: Option<&Past>,
    ) -> Opening {
        let property = |wanted: &str| {
            message.properties.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
        };
        let stated = || message.context.and_then(|context| context.text_field(LANGUAGE)).map(Arc::from);
        let Wanted { group, priority, skills, language, channel } = wanted;
        let weight = channel.or_else(|| property(CHANNEL)).map_or(1, |channel| self.channel_weight(channel));
        let affinity = group.assigned.as_ref().map_or(0, |assigned| assigned.affinity_ttl_ms);
        let now = u64::try_from(message.now_ms).unwrap_or(0);
        let before = past.filter(|past| past.closed_at + affinity > now);
        Opening {
            conversation,
            customer: message.customer.into(),
            group: group.name.clone(),
            priority,
            skills,
            language: language.or_else(|| property(LANGUAGE).map(Arc::from)).or_else(stated),
            weight: u16::try_from(weight).unwrap_or(u16::MAX),
            previous: before.and_then(|past| past.agent.clone()),
            preview: message.payload.preview(PREVIEW).into(),
            arrived: now,
            inputs: self.inputs(written.then_some(message.payload), message.context, message.now_ms),
        }
    }
}
