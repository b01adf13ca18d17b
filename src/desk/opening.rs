//! A conversation as it comes in: what the rules, the message and the customer's document say of it, put together.

use std::sync::Arc;

use super::floor::{ConversationId, Opening};
use super::routing::{Group, Inbound, Rule, Tenant};
use super::thread::Past;

/// Characters of a message that lists show.
const PREVIEW: usize = 120;

/// The user property that names a message's channel.
const CHANNEL: &str = "channel";

/// The user property, and the field of the customer's context document, that names the customer's language.
const LANGUAGE: &str = "language";

impl Tenant {
    /// The conversation that a customer's first message opens in a group, by the rule that has held. `written`: the
    /// message is the customer's; without, nothing was written yet. `past` is the customer's conversation before.
    pub fn opening(
        &self,
        conversation: ConversationId,
        message: &Inbound<'_>,
        written: bool,
        (rule, group): (&Rule, &Group),
        past: Option<&Past>,
    ) -> Opening {
        let property = |wanted: &str| {
            message.properties.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
        };
        let stated = || message.context.and_then(|context| context.text_field(LANGUAGE)).map(Arc::from);
        let weight = property(CHANNEL).map_or(1, |channel| self.channel_weight(channel));
        let affinity = group.assigned.as_ref().map_or(0, |assigned| assigned.affinity_ttl_ms);
        let now = u64::try_from(message.now_ms).unwrap_or(0);
        let before = past.filter(|past| past.closed_at + affinity > now);
        Opening {
            conversation,
            customer: message.customer.into(),
            group: group.name.clone(),
            priority: rule.priority,
            skills: rule.skills.iter().map(|skill| Arc::from(skill.as_str())).collect(),
            language: property(LANGUAGE).map(Arc::from).or_else(stated),
            weight: u16::try_from(weight).unwrap_or(u16::MAX),
            previous: before.and_then(|past| past.agent.clone()),
            preview: message.payload.preview(PREVIEW).into(),
            arrived: now,
            inputs: self.inputs(written.then_some(message.payload), message.context, message.now_ms),
        }
    }
}
