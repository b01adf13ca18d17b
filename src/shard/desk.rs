//! The desk's topics on their way through a shard: customers' messages to their group. Documents are in
//! `super::context`, explanations in `super::explain`.
//!
//! What the rules say is `crate::desk`'s; here messages are turned into what it wants to know, and its answers into
//! messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use dashmap::DashMap;
use hashbrown::HashMap;

use super::Core;
use super::context::Contexts;
use super::publish::Refused;
use super::shared::{Caps, Waiting};
use crate::clock::Now;
use crate::desk::{
    Author, CONTENT_TYPE, Context, ConversationId, Decision, DeskTopic, Group, Inbound, Outbound, Payload,
    Routing, Tenant, envelope,
};
use crate::message::{ELSEWHERE, MessageRef};
use crate::metrics::{DeskOutcome, PublishRefusal};
use crate::protocol::{CONTENT_ENCODING, PublishProperties, QoS, ReasonCode, put_binary, put_str};

/// Payload Format Indicator 1: the payload is UTF-8.
const UTF_8: [u8; 2] = [0x01, 0x01];
const CONTENT_TYPE_ID: u8 = 0x03;
const CORRELATION_DATA_ID: u8 = 0x09;

/// The desk as all shards share it.
#[derive(Debug)]
pub struct Desk {
    pub(super) routing: Arc<Routing>,
    /// Customers' context documents, as the rules read them.
    pub(super) contexts: Contexts,
    /// By tenant.
    backlogs: HashMap<Box<str>, Backlogs, ahash::RandomState>,
    /// What floors say of their groups, by tenant and group.
    shown: HashMap<Box<str>, HashMap<Arc<str>, Shown, ahash::RandomState>, ahash::RandomState>,
    /// The customers of open conversations.
    pub(super) owners: DashMap<ConversationId, Arc<str>, ahash::RandomState>,
}

/// What all shards see of a group in `assigned` mode.
#[derive(Debug, Default)]
struct Shown {
    /// Conversations that wait.
    depth: AtomicU32,
    /// It takes no new ones.
    drained: AtomicBool,
}

/// What waits in the backlogs of a tenant's groups.
type Backlogs = HashMap<Arc<str>, Arc<Waiting>, ahash::RandomState>;

impl Desk {
    /// A desk with these rules, nothing waiting.
    pub fn new(routing: Arc<Routing>) -> Self {
        let groups = |t: &Tenant| t.groups().map(|g| (g.name.clone(), Arc::default())).collect();
        let backlogs = routing.tenants().map(|t| (t.name().into(), groups(t))).collect();
        let shown = |t: &Tenant| {
            t.groups().filter(|g| g.is_assigned()).map(|g| (g.name.clone(), Shown::default())).collect()
        };
        let shown = routing.tenants().map(|t| (t.name().into(), shown(t))).collect();
        Self { backlogs, contexts: Contexts::default(), shown, owners: DashMap::default(), routing }
    }

    pub(super) fn context(&self, tenant: &str, customer: &str, now: Now) -> Option<Context> {
        let topic = format!("{}{tenant}/customer/{customer}/context", crate::desk::PREFIX);
        self.contexts.read(&topic, now)
    }

    fn backlog(&self, tenant: &Tenant, group: &Group) -> Option<&Arc<Waiting>> {
        self.backlogs.get(tenant.name())?.get(&group.name)
    }

    fn shown(&self, tenant: &str, group: &str) -> Option<&Shown> {
        self.shown.get(tenant)?.get(group)
    }

    /// How many conversations wait in a group, as its floor says.
    pub(super) fn show_depth(&self, tenant: &str, group: &str, depth: u32) {
        if let Some(shown) = self.shown(tenant, group) {
            shown.depth.store(depth, Ordering::Release);
        }
    }

    /// Whether a group takes no new conversations, as its floor says.
    pub(super) fn show_drained(&self, tenant: &str, group: &str, drained: bool) {
        if let Some(shown) = self.shown(tenant, group) {
            shown.drained.store(drained, Ordering::Release);
        }
    }

    /// Whether a group in `assigned` mode has as many conversations waiting as it may.
    pub(super) fn is_full(&self, tenant: &Tenant, group: &Group) -> bool {
        let shown = self.shown(tenant.name(), &group.name);
        let depth = shown.map_or(0, |shown| shown.depth.load(Ordering::Acquire));
        group.assigned.as_ref().is_some_and(|assigned| depth >= assigned.max_queue)
    }

    /// Whether a group in `assigned` mode is open at this time, and not drained.
    pub(super) fn is_open(&self, tenant: &Tenant, group: &Group, now: Now) -> bool {
        let shown = self.shown(tenant.name(), &group.name);
        if shown.is_some_and(|shown| shown.drained.load(Ordering::Acquire)) {
            return false;
        }
        let hours = group.assigned.as_ref().and_then(|assigned| assigned.hours.as_ref());
        hours.is_none_or(|hours| hours.is_open(tenant.time_zone(), now.unix.cast_signed()))
    }

    /// Whether a group in `assigned` mode takes a conversation now.
    pub(super) fn takes(&self, tenant: &Tenant, group: &Group, now: Now) -> bool {
        self.is_open(tenant, group, now) && !self.is_full(tenant, group)
    }

    /// What is said of a group in `assigned` mode.
    pub(super) fn status(&self, tenant: &str, group: &str, now: Now) -> &'static str {
        let Some(tenant) = self.routing.tenant(tenant) else { return "closed" };
        match tenant.group(group) {
            Some(group) if !self.is_open(tenant, group, now) => "closed",
            Some(group) if self.is_full(tenant, group) => "full",
            Some(_) => "open",
            None => "closed",
        }
    }

    /// Whether a group's backlog takes no more: its messages are refused while they can be, at the publisher.
    pub(super) fn full(&self, tenant: &Tenant, group: &Group) -> bool {
        let bound = Caps {
            messages: group.backlog_messages as usize,
            bytes: usize::try_from(group.backlog_bytes).unwrap_or(usize::MAX),
        };
        self.backlog(tenant, group).is_some_and(|waiting| waiting.reached(bound))
    }
}

impl Core {
    /// Opens the desk groups that live on this shard: their backlogs keep messages before anybody has subscribed.
    pub(super) fn open_desk_groups(&mut self) {
        let exchange = self.exchange.clone();
        let Some(desk) = &exchange.desk else { return };
        for tenant in desk.routing.tenants() {
            for group in tenant.groups() {
                let text: Arc<str> = tenant.queue_filter(group).into();
                if exchange.home(&text) != self.id {
                    continue;
                }
                let waiting = desk.backlog(tenant, group).cloned().unwrap_or_default();
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
            DeskTopic::CustomerUp { tenant, customer } => {
                let exchange = self.exchange.clone();
                let known = exchange.desk.as_ref().and_then(|desk| desk.routing.tenant(tenant));
                if let Some(tenant) = known.filter(|tenant| tenant.has_assigned()) {
                    // The home of its conversation counts it.
                    return Some(self.write_to_desk(tenant, customer, m).map(|()| true));
                }
                let outcome = self.customer_writes(tenant, customer, m);
                let (Ok(counted) | Err((counted, _))) = outcome;
                self.clients.counters.desk_messages.bump(counted);
                Some(outcome.map(|_| true).map_err(|(_, refused)| refused))
            }
            DeskTopic::CustomerContext { tenant, .. } if m.retain => self.whole_document(tenant, m),
            DeskTopic::ContextPatch { tenant, .. } => Some(self.document_patch(tenant, m)),
            DeskTopic::QueueMessages { tenant, group, .. } => {
                self.queue_has_room(tenant, group).err().map(Err)
            }
            DeskTopic::ControlExplain { tenant } => Some(self.explain(tenant, m)),
            DeskTopic::BadId => {
                Some(Err(Refused::new(ReasonCode::TOPIC_NAME_INVALID, PublishRefusal::TopicInvalid)))
            }
            DeskTopic::CustomerContext { .. } | DeskTopic::Other => None,
            _ => self.assigned_desk(topic, m),
        }
    }

    /// A customer's message: the rules choose a group, and it goes to that group's queue as an envelope.
    fn customer_writes(
        &mut self,
        tenant: &str,
        customer: &str,
        m: &MessageRef<'_>,
    ) -> Result<DeskOutcome, (DeskOutcome, Refused)> {
        let refused = |code, why| (DeskOutcome::Refused, Refused::new(code, why));
        let exchange = self.exchange.clone();
        let routed = exchange.desk.as_ref().and_then(|desk| Some((desk, desk.routing.tenant(tenant)?)));
        let Some((desk, tenant)) = routed else {
            let refused = Refused::new(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, PublishRefusal::Desk);
            return Err((DeskOutcome::UnknownTenant, refused));
        };
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        // Rules and agents are shown what it says, not how it came.
        let user: Vec<(&str, &str)> =
            properties.user.iter().filter(|(name, _)| !(m.snappy && *name == CONTENT_ENCODING)).collect();
        if user.iter().any(|(name, _)| *name == CONTENT_ENCODING) {
            // Another encoding: neither the rules nor an agent could read the message.
            return Err(refused(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid));
        }
        let plain = self.plain(m);
        let payload = Payload::new(&plain);
        let now = self.clients.now;
        let context = tenant.uses_context().then(|| desk.context(tenant.name(), customer, now)).flatten();
        let decision = tenant.route(&Inbound {
            customer,
            topic: m.topic,
            payload: &payload,
            properties: &user,
            context: context.as_ref(),
            previous: ("", ""),
            now_ms: now.unix.cast_signed(),
        });
        self.clients.counters.desk_rule_errors += u64::from(decision.failed_rules);
        let plain = MessageRef { payload: &plain, snappy: false, ..*m };
        let outcome = self.hand_to_shared_group(tenant, customer, &plain, &decision);
        let outcome = outcome.map_err(|refused| (DeskOutcome::Refused, refused))?;
        // Whoever watches the customer's own topic sees the message as it was published.
        self.pass(&MessageRef { retain: false, ..*m });
        Ok(outcome)
    }

    /// A customer's message goes to the queue of a group in `shared` mode as an envelope.
    pub(super) fn hand_to_shared_group(
        &mut self,
        tenant: &Tenant,
        customer: &str,
        m: &MessageRef<'_>,
        decision: &Decision<'_>,
    ) -> Result<DeskOutcome, Refused> {
        let exchange = self.exchange.clone();
        let quota = Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::QuotaExceeded);
        let desk = exchange.desk.as_ref().ok_or(quota)?;
        let (now, payload) = (self.clients.now, Payload::new(m.payload));
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        let user: Vec<(&str, &str)> =
            properties.user.iter().filter(|(name, _)| *name != CONTENT_ENCODING).collect();
        let group = decision.rule.choose(|group| desk.full(tenant, group));
        if desk.full(tenant, group) {
            return Err(quota);
        }
        let outbound = Outbound {
            author: Author::Customer(customer),
            conversation: None,
            payload: &payload,
            properties: &user,
            content_type: properties.content_type,
            id: self.next_ulid(now.unix),
            at_ms: now.unix,
        };
        let mut json = Vec::with_capacity(m.payload.len() + 256);
        // Base64 and escapes make an envelope larger than what came in.
        let maximum = 2 * exchange.settings.limits.max_packet as usize;
        if envelope(&outbound, maximum, &mut json).is_err() {
            return Err(Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::Desk));
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
            snappy: false,
        });
        let default = decision.rule.when.is_none();
        Ok(if default { DeskOutcome::Default } else { DeskOutcome::Routed })
    }

    /// Somebody writes to a group's queue past the rules; its backlog bounds that as well.
    fn queue_has_room(&self, tenant: &str, group: &str) -> Result<(), Refused> {
        let Some(desk) = &self.exchange.desk else { return Ok(()) };
        let Some(tenant) = desk.routing.tenant(tenant) else { return Ok(()) };
        match tenant.group(group) {
            Some(group) if desk.full(tenant, group) => {
                Err(Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::QuotaExceeded))
            }
            _ => Ok(()),
        }
    }

    /// The bits of a ULID: the time, then 80 random bits.
    pub(super) fn next_ulid(&mut self, now_ms: u64) -> u128 {
        u128::from(now_ms) << 80 | (self.random.u128(..) >> 48)
    }
}

/// Properties of a JSON payload.
pub(super) fn json_properties(content_type: &str, correlation: Option<&[u8]>) -> Vec<u8> {
    let mut properties = UTF_8.to_vec();
    properties.push(CONTENT_TYPE_ID);
    put_str(&mut properties, content_type);
    if let Some(data) = correlation {
        properties.push(CORRELATION_DATA_ID);
        put_binary(&mut properties, data);
    }
    properties
}
