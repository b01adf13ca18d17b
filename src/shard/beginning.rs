//! Conversations begin: the rules choose a group, and the group takes it, sends it on or turns it away.

use std::sync::Arc;

use super::Core;
use super::announcing::Saying;
use super::desk::json_properties;
use super::errands::{Back, Errand, What};
use super::publish::Refused;
use super::threads::{customer_of, key_of, quota};
use crate::desk::{
    self, Author, CONTENT_TYPE, Group, Inbound, Mark, Outbound, PREFIX, Payload, Put, Tenant, Thread, Turned,
    Wanted, Wrong, envelope,
};
use crate::message::{ELSEWHERE, Message, MessageRef, NEVER};
use crate::metrics::DeskOutcome;
use crate::protocol::{PublishProperties, QoS};

/// What a conversation begins with.
#[derive(Debug, Clone, Copy)]
pub(super) enum First {
    /// Its customer's message, and what tells that when it comes again.
    Message(Option<Mark>),
    /// Its customer has written nothing yet.
    Nothing,
}

/// A group that takes a conversation, or what becomes of it.
enum Place<'t> {
    Group(&'t Group),
    Told(Arc<str>),
    Refused,
}

impl Core {
    /// The rules choose a group for what a customer writes first, or for one who has written nothing yet ([`First::Nothing`]). `Some`: it is no conversation.
    pub(super) fn begin_conversation(
        &mut self,
        tenant: &Tenant,
        key: &Arc<str>,
        m: &MessageRef<'_>,
        first: First,
        put: Option<(&Put, &Group)>,
    ) -> Result<Option<DeskOutcome>, Refused> {
        let exchange = self.exchange.clone();
        let Some(desk) = &exchange.desk else { return Err(quota()) };
        let (customer, now) = (customer_of(key), self.clients.now);
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        let user: Vec<(&str, &str)> = properties.user.iter().collect();
        let payload = Payload::new(m.payload);
        let context = desk.context(tenant.name(), customer, now);
        let previous = self.threads.last(key).cloned();
        let inbound = Inbound {
            customer,
            topic: m.topic,
            payload: &payload,
            properties: &user,
            context: context.as_ref(),
            previous: previous
                .as_ref()
                .map_or(("", ""), |past| (&*past.group, past.agent.as_deref().unwrap_or_default())),
            now_ms: now.unix.cast_signed(),
        };
        let wanted = if let Some((put, group)) = put {
            Wanted::by_put(put, group)
        } else {
            let decision = tenant.route(&inbound);
            self.clients.counters.desk_rule_errors += u64::from(decision.failed_rules);
            let rule = decision.rule;
            if !rule.group.is_assigned() {
                return self.hand_to_shared_group(tenant, customer, m, &decision).map(Some);
            }
            Wanted::by_rule(rule, rule.choose(|group| !desk.takes(tenant, group, now)))
        };
        let group = match self.place(tenant, wanted.group, now) {
            Place::Group(group) => group,
            Place::Refused => return Err(quota()),
            Place::Told(text) => {
                self.tell(tenant, customer, &text);
                return Ok(Some(DeskOutcome::TurnedAway));
            }
        };
        let conversation = self.next_ulid(now.unix);
        let written = matches!(first, First::Message(_));
        let wanted = Wanted { group, ..wanted };
        let opening = tenant.opening(conversation, &inbound, written, wanted, previous.as_ref());
        let thread = Thread::new(conversation, group.name.clone(), now.unix, previous.as_ref());
        self.threads.open.insert(key.clone(), thread);
        if let First::Message(mark) = first {
            let author = if put.is_some() { Author::System } else { Author::Customer(customer) };
            let added = self.add(tenant, key, author, Some(m), mark);
            if added.is_err() {
                self.threads.open.remove(key);
            }
            added?;
        }
        self.write_thread(key);
        desk.owners.insert(conversation, customer.into());
        let what = What::Open(Box::new(opening));
        self.send(Errand { tenant: tenant.name().into(), what }, false)?;
        Ok(None)
    }

    /// A backend puts a conversation into a queue; if its customer has one already, what it says goes there.
    pub(super) fn put_arrives(
        &mut self,
        tenant: &Tenant,
        put: &Put,
        group: &str,
        message: &Arc<Message>,
        mark: Option<Mark>,
    ) -> Result<(), Refused> {
        let key = key_of(tenant.name(), &put.customer);
        let Some(group) = tenant.group(group) else { return Err(quota()) };
        if mark.is_some_and(|mark| self.threads.has(&key, mark)) {
            self.had_before = true;
            return Ok(());
        }
        let (m, first) = (message.view(), if put.has_body { First::Message(mark) } else { First::Nothing });
        if !self.threads.open.contains_key(&key) {
            return self.begin_conversation(tenant, &key, &m, first, Some((put, group))).map(|_| ());
        }
        if put.has_body { self.add(tenant, &key, Author::System, Some(&m), mark) } else { Ok(()) }
    }

    /// The group that takes a conversation in place of this one, if this one does not.
    fn place<'t>(&self, tenant: &'t Tenant, group: &'t Group, now: crate::clock::Now) -> Place<'t> {
        let Some(desk) = &self.exchange.desk else { return Place::Refused };
        let mut group = group;
        // The file has no circles; this bounds them all the same.
        for _ in 0..tenant.groups().count() {
            let Some(assigned) = &group.assigned else { return Place::Refused };
            let turned = match (desk.is_open(tenant, group, now), desk.is_full(tenant, group)) {
                (true, false) => return Place::Group(group),
                (false, _) => &assigned.closed,
                (true, true) => &assigned.full,
            };
            match turned {
                Turned::Refused => return Place::Refused,
                Turned::Told(text) => return Place::Told(text.clone()),
                Turned::To(name) => match tenant.group(name) {
                    Some(next) => group = next,
                    None => return Place::Refused,
                },
            }
        }
        Place::Refused
    }

    /// Tells a customer something outside of a conversation.
    fn tell(&mut self, tenant: &Tenant, customer: &str, text: &str) {
        let outbound = Outbound {
            author: Author::System,
            conversation: None,
            payload: &Payload::new(text.as_bytes()),
            properties: &[],
            content_type: None,
            id: self.next_ulid(self.clients.now.unix),
            at_ms: self.clients.now.unix,
        };
        let mut json = Vec::new();
        if envelope(&outbound, usize::MAX, &mut json).is_ok() {
            let topic = format!("{PREFIX}{}/customer/{customer}/down", tenant.name());
            self.announce(Saying::once(&topic, &json, &json_properties(CONTENT_TYPE, None)));
        }
    }

    /// A customer stands in a queue without having written anything.
    pub(super) fn join(&mut self, tenant: &Tenant, key: &Arc<str>, back: &Back) {
        let topic = format!("{PREFIX}{}/customer/{}/up", tenant.name(), customer_of(key));
        let m = MessageRef {
            topic: &topic,
            payload: b"",
            properties: &[],
            expires_at: NEVER,
            from: ELSEWHERE,
            qos: QoS::AtLeastOnce,
            retain: false,
            snappy: false,
        };
        let begun = self.begin_conversation(tenant, key, &m, First::Nothing, None);
        let open = self.threads.open.get(key).map(|thread| thread.conversation);
        let outcome = match (begun, open) {
            (Ok(None), Some(conversation)) => Ok(conversation),
            _ => Err(Wrong::NoGroup),
        };
        self.respond(back, &desk::announce::wish("join", outcome));
    }
}
