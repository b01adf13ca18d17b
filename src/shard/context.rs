//! Customers' context documents on their way through a shard.
//!
//! A document is the retained message of its topic and lives where that does, at the topic's *home*. Everything that
//! changes it is done there, one after the other, whichever shard it came through: whole documents, patches, and what
//! expires. The desk publishes what a document has become; so all who read it see its changes in one order, and the last
//! they see is what is retained. What the rules read of all documents is shared by the shards: a whole document at once,
//! a patched one as soon as its home has applied the patch, which is before the acknowledgement.

use std::collections::BTreeSet;
use std::sync::Arc;

use dashmap::{DashMap, Entry};
use hashbrown::HashMap;

use super::desk::json_properties;
use super::door::congested;
use super::mailbox::{Mail, Serial};
use super::publish::Refused;
use super::shelf::Slot;
use super::{Core, ShardId};
use crate::clock::Now;
use crate::desk::{
    Context, ContextError, ContextRules, DeskTopic, PREFIX, Patch, Routing, Tenant, desk_topic,
};
use crate::message::{ELSEWHERE, Message, MessageRef, Millis, NEVER};
use crate::metrics::PublishRefusal;
use crate::protocol::{CONTENT_ENCODING, PublishProperties, QoS, ReasonCode};

/// What a patch's topic has behind the document's.
const PATCH: &str = "/patch";

/// The user property of a patch that says when its fields expire.
const TTL: &str = "ttl";

/// Documents that one tick shortens at most, and bytes of them.
const SWEEP: usize = 256;
const SWEEP_BYTES: usize = 512 * 1024;

/// Bytes of documents written in one turn at which whoever changes more is held back: a patch is smaller than what it
/// moves.
const TURN_BYTES: usize = 256 * 1024;

/// Bytes of the properties that a patched document is published with, at most.
const PROPERTIES: usize = 32;

/// The documents by their topic, as the rules read them: of tenants whose rules look at them. Each is retained, so the
/// bounds on what is retained are theirs.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    kept: DashMap<Box<str>, Kept, ahash::RandomState>,
}

#[derive(Debug, Default)]
struct Kept {
    /// `None`: the document is being taken away.
    context: Option<Context>,
    expires_at: Millis,
    /// Whole documents that are shown here and have yet to come home. The last of them will have the last word.
    coming: u32,
}

impl Contexts {
    /// What the rules see of a document: nothing that has expired.
    pub(super) fn read(&self, topic: &str, now: Now) -> Option<Context> {
        let context = {
            let kept = self.kept.get(topic)?;
            (kept.expires_at > now.mono).then(|| kept.context.clone()).flatten()?
        };
        Some(context.shortened(now.unix).unwrap_or(context))
    }

    /// A whole document is on its way home: the rules read it from now on.
    fn announce(&self, topic: &str, context: Option<Context>, expires_at: Millis) {
        let mut kept = self.kept.entry(topic.into()).or_default();
        *kept = Kept { context, expires_at, coming: kept.coming + 1 };
    }

    /// A whole document that was announced has come home.
    fn arrive(&self, topic: &str) {
        if let Some(mut kept) = self.kept.get_mut(topic) {
            kept.coming = kept.coming.saturating_sub(1);
        }
    }

    /// What a document has become at its home.
    fn settle(&self, topic: &str, document: Option<(Context, Millis)>) {
        match (self.kept.entry(topic.into()), document) {
            (Entry::Occupied(known), _) if known.get().coming > 0 => {}
            (entry, Some((context, expires_at))) => {
                entry.insert(Kept { context: Some(context), expires_at, coming: 0 });
            }
            (Entry::Occupied(known), None) => {
                known.remove();
            }
            (Entry::Vacant(_), None) => {}
        }
    }

    /// A topic's message is not retained any more.
    pub(super) fn forget(&self, topic: &str) {
        self.kept.remove_if(topic, |_, kept| kept.coming == 0);
    }
}

/// When something of the documents that live on this shard expires next, in milliseconds since the epoch.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    queue: BTreeSet<(u64, Arc<str>)>,
    of: HashMap<Arc<str>, u64, ahash::RandomState>,
    /// Bytes of documents written in this turn.
    written: usize,
}

impl Deadlines {
    pub(super) fn begin_turn(&mut self) {
        self.written = 0;
    }

    fn set(&mut self, topic: &str, due: Option<u64>) {
        let known = self.of.remove_entry(topic).map(|(topic, before)| {
            let entry = (before, topic);
            self.queue.remove(&entry);
            entry.1
        });
        if let Some(due) = due {
            let topic = known.unwrap_or_else(|| topic.into());
            self.of.insert(topic.clone(), due);
            self.queue.insert((due, topic));
        }
    }

    /// Takes out the first that is due.
    fn pop(&mut self, now: u64) -> Option<Arc<str>> {
        if self.queue.first()?.0 > now {
            return None;
        }
        let (_, topic) = self.queue.pop_first()?;
        self.of.remove(&topic);
        Some(topic)
    }
}

/// What is published of a document.
#[derive(Debug)]
enum Change {
    /// All of it; `None`: it goes.
    Whole(Option<Context>),
    Patch(Patch),
}

impl Core {
    /// A whole document is published to be retained. `None`: it is an ordinary message.
    pub(super) fn whole_document(
        &mut self,
        tenant: &str,
        m: &MessageRef<'_>,
    ) -> Option<Result<bool, Refused>> {
        let exchange = self.exchange.clone();
        let desk = exchange.desk.as_ref()?;
        let Some(tenant) = desk.routing.tenant(tenant).filter(|_| exchange.settings.retained.enabled) else {
            let wrong = if m.payload.is_empty() { None } else { Context::parse(m.payload).err() };
            return wrong.map(|error| Err(self.not_kept(&error)));
        };
        Some(self.change_document(tenant, m))
    }

    /// A patch. Nobody but its document's home sees it.
    pub(super) fn document_patch(&mut self, tenant: &str, m: &MessageRef<'_>) -> Result<bool, Refused> {
        let exchange = self.exchange.clone();
        let tenant = exchange.desk.as_ref().and_then(|desk| desk.routing.tenant(tenant));
        let Some(tenant) = tenant.filter(|_| exchange.settings.retained.enabled) else {
            return Err(Refused::new(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, PublishRefusal::Desk));
        };
        self.change_document(tenant, m)
    }

    /// A customer is to be forgotten: there is no document any more.
    pub(super) fn erase_document(&mut self, tenant: &str, customer: &str) {
        let topic = format!("{PREFIX}{tenant}/customer/{customer}/context");
        let _ = self.whole_document(tenant, &MessageRef { topic: &topic, ..own_message() });
    }

    /// Changes a document, or sends the change to where it lives.
    fn change_document(&mut self, tenant: &Tenant, m: &MessageRef<'_>) -> Result<bool, Refused> {
        if let Some(code) = self.unwell() {
            return Err(Refused::new(code, PublishRefusal::Store));
        }
        // Rules, patches and readers want what it says, not how it came.
        let plain = m.snappy.then(|| m.to_plain());
        self.clients.counters.expansions += u64::from(m.snappy);
        let m = &plain.as_ref().map_or(*m, |plain| MessageRef { from: m.from, ..plain.view() });
        let change = self.read_change(tenant, m)?;
        let exchange = self.exchange.clone();
        let home = exchange.home(document_of(m.topic));
        if home == self.id {
            self.change(tenant, change, m)?;
            self.looked_up.held_back |= self.deadlines.written > TURN_BYTES;
            return Ok(true);
        }
        let Some(batch) = self.outgoing.get_mut(usize::from(home)) else { return Ok(false) };
        if let (Change::Whole(context), Some(desk), true) = (change, &exchange.desk, tenant.uses_context()) {
            let expires_at = lasts(tenant.contexts(), m, NEVER, self.clients.now);
            desk.contexts.announce(m.topic, context, expires_at);
        }
        let serial = if m.qos == QoS::AtMostOnce { 0 } else { self.clients.ledger.ask(home) };
        batch.push(Mail::Change(MessageRef { from: ELSEWHERE, ..*m }.to_message(), serial));
        self.looked_up.held_back |= congested(self.full, u32::from(home), batch);
        Ok(true)
    }

    /// A change from another shard of a document that lives here. Whoever waits for it is told in any case.
    pub(super) fn change_arrives(&mut self, from: ShardId, message: &Message, serial: Serial) {
        let (exchange, m) = (self.exchange.clone(), message.view());
        let held_back = self.looked_up.held_back;
        let whole = !m.topic.ends_with(PATCH);
        if let Some(desk) = exchange.desk.as_ref().filter(|_| whole) {
            desk.contexts.arrive(m.topic);
        }
        let changed = match exchange.desk.as_ref().and_then(|desk| tenant_of(&desk.routing, m.topic)) {
            Some(tenant) => {
                self.read_change(tenant, &m).and_then(|change| self.change(tenant, change, &m)).is_ok()
            }
            None => false,
        };
        if !changed && whole {
            // The rules have read what has not become of it.
            self.note_context(m.topic);
        }
        self.looked_up.held_back = held_back;
        self.refused_by_all = !changed;
        self.tell_refused(from, serial);
        if changed && serial != 0 && !self.clients.ledger.on() {
            self.post(from, Mail::Changed(serial));
        }
    }

    fn read_change(&mut self, tenant: &Tenant, m: &MessageRef<'_>) -> Result<Change, Refused> {
        let (rules, now) = (tenant.contexts(), self.clients.now);
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        let property = |wanted| properties.user.iter().find(|(name, _)| *name == wanted);
        if property(CONTENT_ENCODING).is_some() {
            return Err(Refused::new(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid));
        }
        let (bytes, most) = (m.payload.len(), rules.max_bytes);
        let change = if bytes > most {
            Err(ContextError::TooLarge { bytes, most })
        } else if m.topic.ends_with(PATCH) {
            Patch::parse(m.payload, property(TTL).map(|(_, ttl)| ttl)).map(Change::Patch)
        } else if m.payload.is_empty() {
            Ok(Change::Whole(None))
        } else {
            Context::whole(m.payload, rules, now.unix).map(|context| Change::Whole(Some(context)))
        };
        change.map_err(|error| self.not_kept(&error))
    }

    /// Changes a document that lives here, and publishes what it has become.
    fn change(&mut self, tenant: &Tenant, change: Change, m: &MessageRef<'_>) -> Result<(), Refused> {
        let (topic, now, rules) = (document_of(m.topic), self.clients.now, tenant.contexts());
        let current = self.retained.here(topic).filter(|current| !current.expired(now.mono)).cloned();
        let (context, patched) = match change {
            Change::Whole(context) => (context, false),
            Change::Patch(patch) => {
                let before = current.as_ref().map(|current| current.payload());
                let patched = Context::patched(before, &patch, rules, now.unix);
                // Both could be read: what is wrong is how much they make together.
                (patched.map_err(|_| self.too_large())?, true)
            }
        };
        let own;
        let properties = match patched {
            false => m.properties,
            true if context.is_none() => &[],
            true => {
                own = json_properties("application/json", None);
                &own
            }
        };
        if let Some(context) = &context {
            let weight = topic.len() + context.text().len() + properties.len().max(PROPERTIES);
            if !self.room_for_retained(topic, weight) {
                return Err(Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::QuotaExceeded));
            }
        }
        self.clients.counters.desk_context_patches += u64::from(patched);
        if patched && context.is_none() && current.is_none() {
            // It may have gone a moment ago, and its publisher be asking again.
            self.clients.ledger.forget_retained(topic);
            return Ok(());
        }
        let before = current.as_ref().filter(|_| patched).map_or(NEVER, |current| current.expires_at());
        let expires_at = lasts(rules, m, before, now);
        let qos = if patched { QoS::AtLeastOnce } else { m.qos };
        let document = MessageRef { topic, properties, expires_at, qos, ..own_message() };
        self.write_document(tenant, &document, context);
        Ok(())
    }

    /// Publishes a document that lives here, or that there is none any more; `as_message` lacks its payload.
    fn write_document(&mut self, tenant: &Tenant, as_message: &MessageRef<'_>, context: Option<Context>) {
        let text = context.as_ref().map_or("", Context::text);
        self.deadlines.written += text.len();
        let expires_at = if context.is_some() { as_message.expires_at } else { NEVER };
        self.looked_up.decided = true;
        self.pass(&MessageRef { payload: text.as_bytes(), expires_at, ..*as_message });
        self.looked_up.decided = false;
        // It is retained; a subscriber who had no room for it is no reason to refuse the change.
        self.refused_by_all = false;
        self.keep_context(tenant, as_message.topic, context.map(|context| (context, expires_at)));
    }

    /// Reads what is retained here: a document has come back after a restart, or has stayed as it was.
    pub(super) fn note_context(&mut self, topic: &str) {
        let exchange = self.exchange.clone();
        if let Some(tenant) = exchange.desk.as_ref().and_then(|desk| tenant_of(&desk.routing, topic)) {
            let document = self.retained_context(topic);
            self.keep_context(tenant, topic, document);
        }
    }

    /// The document that is retained here: it was checked when it was written, whatever the rules say now.
    fn retained_context(&self, topic: &str) -> Option<(Context, Millis)> {
        let message = self.retained.here(topic)?;
        let context = Context::parse_within(message.payload(), usize::MAX).ok()?;
        Some((context, message.expires_at()))
    }

    /// What a document that lives here has become: the rules read it, and its next expiry is waited for.
    fn keep_context(&mut self, tenant: &Tenant, topic: &str, document: Option<(Context, Millis)>) {
        let now = self.clients.now;
        let due = document.as_ref().and_then(|(context, expires_at)| {
            let whole =
                (*expires_at != NEVER).then(|| now.unix.saturating_add(expires_at.saturating_sub(now.mono)));
            [context.next_expiry(), whole].into_iter().flatten().min()
        });
        self.deadlines.set(topic, due);
        if tenant.uses_context()
            && let Some(desk) = &self.exchange.desk
        {
            desk.contexts.settle(topic, document);
        }
    }

    /// Publishes the documents of which something has expired, without it.
    pub(super) fn sweep_contexts(&mut self) {
        let held_back = self.looked_up.held_back;
        let mut bytes = 0;
        for _ in 0..SWEEP {
            let Some(topic) = self.deadlines.pop(self.clients.now.unix) else { break };
            bytes += self.retained.get(&topic).map_or(0, Slot::weight);
            self.expire_context(&topic);
            if bytes > SWEEP_BYTES {
                break;
            }
        }
        self.looked_up.held_back = held_back;
    }

    fn expire_context(&mut self, topic: &str) {
        let (exchange, now) = (self.exchange.clone(), self.clients.now);
        let Some(tenant) = exchange.desk.as_ref().and_then(|desk| tenant_of(&desk.routing, topic)) else {
            return;
        };
        let left = match self.retained_context(topic).filter(|(_, expires_at)| *expires_at > now.mono) {
            None => None,
            Some((context, expires_at)) => match context.shortened(now.unix) {
                // The two clocks have drifted: not yet.
                None => return self.keep_context(tenant, topic, Some((context, expires_at))),
                Some(shortened) => (!shortened.is_empty()).then_some((shortened, expires_at)),
            },
        };
        self.clients.counters.desk_context_expired += 1;
        let (context, expires_at) = left.map_or((None, NEVER), |(context, at)| (Some(context), at));
        let properties =
            context.as_ref().map_or_else(Vec::new, |_| json_properties("application/json", None));
        let document = MessageRef { topic, properties: &properties, expires_at, ..own_message() };
        self.write_document(tenant, &document, context);
    }

    /// Counts what is wrong with a document or a patch, and says what its publisher is told.
    fn not_kept(&mut self, error: &ContextError) -> Refused {
        if matches!(error, ContextError::TooLarge { .. }) {
            return self.too_large();
        }
        self.clients.counters.desk_context_invalid += 1;
        Refused::new(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid)
    }

    fn too_large(&mut self) -> Refused {
        self.clients.counters.desk_context_invalid += 1;
        Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::QuotaExceeded)
    }
}

/// When a document expires as a whole: as its publisher says, else as the tenant's do, else as `before`.
fn lasts(rules: &ContextRules, m: &MessageRef<'_>, before: Millis, now: Now) -> Millis {
    match rules.ttl_ms {
        _ if m.expires_at != NEVER => m.expires_at,
        Some(ttl) => now.mono.saturating_add(ttl),
        None => before,
    }
}

/// What the desk publishes of itself: retained, without a topic and a payload yet.
fn own_message() -> MessageRef<'static> {
    MessageRef {
        topic: "",
        payload: &[],
        properties: &[],
        expires_at: NEVER,
        from: ELSEWHERE,
        qos: QoS::AtLeastOnce,
        retain: true,
        snappy: false,
    }
}

/// The tenant of a document, or of a patch of one.
fn tenant_of<'r>(routing: &'r Routing, topic: &str) -> Option<&'r Tenant> {
    match desk_topic(topic)? {
        DeskTopic::CustomerContext { tenant, .. } | DeskTopic::ContextPatch { tenant, .. } => {
            routing.tenant(tenant)
        }
        _ => None,
    }
}

/// The topic of the document that a patch is for.
fn document_of(topic: &str) -> &str {
    topic.strip_suffix(PATCH).unwrap_or(topic)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn context(text: &str) -> Context {
        Context::parse(text.as_bytes()).unwrap()
    }

    fn shown(contexts: &Contexts, unix: u64) -> Option<String> {
        contexts.read("t", Now { mono: 0, unix }).map(|context| context.text().to_owned())
    }

    #[test]
    fn deadlines_come_in_order_and_the_last_word_counts() {
        let mut deadlines = Deadlines::default();
        deadlines.set("a", Some(30));
        deadlines.set("b", Some(20));
        deadlines.set("c", Some(20));
        deadlines.set("a", Some(10));
        deadlines.set("c", None);
        assert_eq!(deadlines.pop(9), None);
        assert_eq!(deadlines.pop(10).as_deref(), Some("a"));
        assert_eq!(deadlines.pop(19), None);
        assert_eq!(deadlines.pop(25).as_deref(), Some("b"));
        assert_eq!(deadlines.pop(u64::MAX), None);
        assert!(deadlines.of.is_empty() && deadlines.queue.is_empty());
    }

    #[test]
    fn a_document_on_its_way_home_is_read_before_what_its_home_still_has() {
        let contexts = Contexts::default();
        let settle = |text: &str| contexts.settle("t", Some((context(text), NEVER)));
        settle(r#"{"old":1}"#);
        contexts.announce("t", Some(context(r#"{"new":1}"#)), NEVER);
        contexts.announce("t", Some(context(r#"{"newest":1}"#)), NEVER);
        settle(r#"{"old":2}"#);
        contexts.arrive("t");
        settle(r#"{"new":1}"#);
        contexts.forget("t");
        assert_eq!(shown(&contexts, 0).as_deref(), Some(r#"{"newest":1}"#));
        contexts.arrive("t");
        settle(r#"{"newest":1}"#);
        settle(r#"{"patched":1}"#);
        assert_eq!(shown(&contexts, 0).as_deref(), Some(r#"{"patched":1}"#));
        contexts.announce("t", None, NEVER);
        assert_eq!(shown(&contexts, 0), None);
        contexts.arrive("t");
        contexts.settle("t", None);
        assert!(contexts.kept.is_empty());
    }

    #[test]
    fn what_has_expired_is_not_read() {
        let contexts = Contexts::default();
        contexts.settle("t", Some((context(r#"{"a":1,"b":2,"_ttl":{"a":5}}"#), 1)));
        assert_eq!(shown(&contexts, 4).as_deref(), Some(r#"{"a":1,"b":2,"_ttl":{"a":5}}"#));
        assert_eq!(shown(&contexts, 5).as_deref(), Some(r#"{"b":2}"#));
        assert!(contexts.read("t", Now { mono: 1, unix: 0 }).is_none());
    }
}
