//! The desk's topics on their way through a shard: customers' messages to their group, contexts, explanations.
//!
//! What the rules say is `crate::desk`'s; here messages are turned into what it wants to know, and its answers into
//! messages.

use std::sync::Arc;

use dashmap::DashMap;
use hashbrown::HashMap;

use super::Core;
use super::publish::Refused;
use super::shared::{Caps, Waiting};
use crate::desk::{
    CONTENT_TYPE, Context, DeskTopic, Group, Inbound, Outbound, Payload, Question, Routing, Tenant, envelope,
};
use crate::message::{ELSEWHERE, MessageRef, NEVER};
use crate::metrics::{DeskOutcome, PublishRefusal};
use crate::protocol::{PublishProperties, QoS, ReasonCode, put_binary, put_str};

/// Payload Format Indicator 1: the payload is UTF-8.
const UTF_8: [u8; 2] = [0x01, 0x01];
const CONTENT_TYPE_ID: u8 = 0x03;
const CORRELATION_DATA_ID: u8 = 0x09;

/// The desk as all shards share it.
#[derive(Debug)]
pub struct Desk {
    routing: Arc<Routing>,
    /// Customers' context documents by their topic.
    contexts: DashMap<Box<str>, Arc<Context>, ahash::RandomState>,
    /// What waits in each group's backlog, by the text of its shared subscription.
    backlogs: HashMap<Box<str>, Arc<Waiting>, ahash::RandomState>,
}

impl Desk {
    /// A desk with these rules, nothing waiting.
    pub fn new(routing: Arc<Routing>) -> Self {
        let texts = routing.tenants().flat_map(|t| t.groups().map(|g| t.queue_filter(g)));
        let backlogs = texts.map(|text| (text.into_boxed_str(), Arc::default())).collect();
        Self { backlogs, contexts: DashMap::default(), routing }
    }

    fn context(&self, tenant: &str, customer: &str) -> Option<Arc<Context>> {
        let topic = format!("{}{tenant}/customer/{customer}/context", crate::desk::PREFIX);
        self.contexts.get(topic.as_str()).map(|found| found.clone())
    }

    /// Whether a group's backlog takes no more: its messages are refused while they can be, at the publisher.
    fn full(&self, tenant: &Tenant, group: &Group) -> bool {
        let bound = Caps {
            messages: group.backlog_messages as usize,
            bytes: usize::try_from(group.backlog_bytes).unwrap_or(usize::MAX),
        };
        let backlog = self.backlogs.get(tenant.queue_filter(group).as_str());
        backlog.is_some_and(|waiting| waiting.reached(bound))
    }
}

impl Core {
    /// Opens the desk groups that live on this shard: their backlogs keep messages before anybody has subscribed.
    pub(super) fn open_desk_groups(&mut self) {
        let common = self.common.clone();
        let Some(desk) = &common.desk else { return };
        for tenant in desk.routing.tenants() {
            for group in tenant.groups() {
                let text: Arc<str> = tenant.queue_filter(group).into();
                if common.home(&text) != self.id {
                    continue;
                }
                let waiting = desk.backlogs.get(&*text).cloned().unwrap_or_default();
                let key_level = Some(usize::from(group.key_level));
                let key = self.groups.open_desk(&text, group.strategy, key_level, waiting);
                self.subscribe_group(key);
            }
        }
    }

    /// What the desk does with a message to one of its topics. `None`: it is an ordinary message.
    pub(super) fn desk(
        &mut self,
        topic: &DeskTopic<'_>,
        m: &MessageRef<'_>,
    ) -> Option<Result<bool, Refused>> {
        match *topic {
            DeskTopic::CustomerUp { tenant, customer } => Some(self.customer_writes(tenant, customer, m)),
            DeskTopic::CustomerContext { .. } if m.retain => self.keep_context(m).err().map(Err),
            DeskTopic::QueueMessages { tenant, group, .. } => {
                self.queue_has_room(tenant, group).err().map(Err)
            }
            DeskTopic::ControlExplain { tenant } => Some(Ok(self.explain(tenant, m))),
            _ => None,
        }
    }

    /// A customer's message: the rules choose a group, and it goes to that group's queue as an envelope.
    fn customer_writes(&mut self, tenant: &str, customer: &str, m: &MessageRef<'_>) -> Result<bool, Refused> {
        let common = self.common.clone();
        let routed = common.desk.as_ref().and_then(|desk| Some((desk, desk.routing.tenant(tenant)?)));
        let Some((desk, tenant)) = routed else {
            self.clients.counters.desk_messages.bump(DeskOutcome::UnknownTenant);
            return Err(Refused::new(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, PublishRefusal::Desk));
        };
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        let user: Vec<(&str, &str)> = properties.user.iter().collect();
        let payload = Payload::new(m.payload);
        let context = tenant.uses_context().then(|| desk.context(tenant.name(), customer)).flatten();
        let now = self.clients.now.unix;
        let decision = tenant.route(&Inbound {
            customer,
            topic: m.topic,
            payload: &payload,
            properties: &user,
            context: context.as_deref(),
            now_ms: now.cast_signed(),
        });
        let chosen = decision.group();
        let fallback = decision.rule.fallback.as_deref().filter(|_| desk.full(tenant, chosen));
        let group = fallback.unwrap_or(chosen);
        let counters = &mut self.clients.counters;
        counters.desk_rule_errors += u64::from(decision.failed_rules);
        let default = decision.rule.when.is_none();
        counters.desk_messages.bump(if default { DeskOutcome::Default } else { DeskOutcome::Routed });
        if desk.full(tenant, group) {
            return Err(Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::QuotaExceeded));
        }
        let outbound = Outbound {
            customer,
            payload: &payload,
            properties: &user,
            content_type: properties.content_type,
            id: self.next_ulid(now),
            at_ms: now,
        };
        let mut json = Vec::with_capacity(m.payload.len() + 256);
        let maximum = common.settings.limits.max_packet as usize;
        if envelope(&outbound, maximum, &mut json).is_err() {
            self.clients.counters.desk_messages.bump(DeskOutcome::Refused);
            return Err(Refused::new(ReasonCode::PACKET_TOO_LARGE, PublishRefusal::Desk));
        }
        let topic = tenant.queue_topic(group, customer);
        self.pass(&MessageRef {
            topic: &topic,
            payload: &json,
            properties: &json_properties(CONTENT_TYPE, None),
            expires_at: m.expires_at,
            from: ELSEWHERE,
            qos: QoS::AtLeastOnce,
            retain: false,
        });
        // Whoever watches the customer's own topic sees the message as it was published.
        self.pass(&MessageRef { retain: false, ..*m });
        Ok(true)
    }

    /// Somebody writes to a group's queue past the rules; its backlog bounds that as well.
    fn queue_has_room(&self, tenant: &str, group: &str) -> Result<(), Refused> {
        let Some(desk) = &self.common.desk else { return Ok(()) };
        let Some(tenant) = desk.routing.tenant(tenant) else { return Ok(()) };
        match tenant.groups().find(|known| *known.name == *group) {
            Some(group) if desk.full(tenant, group) => {
                Err(Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::QuotaExceeded))
            }
            _ => Ok(()),
        }
    }

    /// The bits of a ULID: the time, then 80 random bits.
    fn next_ulid(&mut self, now_ms: u64) -> u128 {
        u128::from(now_ms) << 80 | (self.random.u128(..) >> 48)
    }

    /// A customer's context document is about to be retained: the rules read it from now on.
    fn keep_context(&mut self, m: &MessageRef<'_>) -> Result<(), Refused> {
        let common = self.common.clone();
        let Some(desk) = &common.desk else { return Ok(()) };
        if m.payload.is_empty() {
            desk.contexts.remove(m.topic);
            return Ok(());
        }
        let Ok(context) = Context::parse(m.payload) else {
            self.clients.counters.desk_context_invalid += 1;
            return Err(Refused::new(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid));
        };
        desk.contexts.insert(m.topic.into(), Arc::new(context));
        Ok(())
    }

    /// `control/explain`: where a message would go, and why. The answer goes to the request's Response Topic.
    fn explain(&mut self, tenant: &str, m: &MessageRef<'_>) -> bool {
        let common = self.common.clone();
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        let Some(response_topic) = properties.response_topic else {
            // Nobody could be answered: to be seen by whoever watches the topic, and by nobody else.
            return self.pass(&MessageRef { retain: false, ..*m });
        };
        let routed = common.desk.as_ref().and_then(|desk| Some((desk, desk.routing.tenant(tenant)?)));
        let answer = match (routed, Question::parse(tenant, m.payload)) {
            (None, _) => {
                serde_json::json!({"error": {"field": "tenant", "wrong": "no tenant of this name has rules"}})
            }
            (_, Err(error)) => error.to_json(),
            (Some((desk, tenant)), Ok(question)) => {
                let context = desk.context(tenant.name(), question.customer());
                tenant.explain(&question, context.as_deref(), self.clients.now.unix.cast_signed())
            }
        };
        let payload = answer.to_string();
        let correlation = properties.correlation_data;
        self.pass(&MessageRef {
            topic: response_topic,
            payload: payload.as_bytes(),
            properties: &json_properties("application/json", correlation),
            expires_at: NEVER,
            from: ELSEWHERE,
            qos: m.qos,
            retain: false,
        })
    }

    /// Publishes a message of the broker itself.
    pub fn publish_own(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) {
        let message =
            MessageRef { topic, payload, properties: &[], expires_at: NEVER, from: ELSEWHERE, qos, retain };
        self.pass(&message);
    }
}

fn json_properties(content_type: &str, correlation: Option<&[u8]>) -> Vec<u8> {
    let mut properties = UTF_8.to_vec();
    properties.push(CONTENT_TYPE_ID);
    put_str(&mut properties, content_type);
    if let Some(data) = correlation {
        properties.push(CORRELATION_DATA_ID);
        put_binary(&mut properties, data);
    }
    properties
}
