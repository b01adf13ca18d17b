//! The conversations of the customers who live on this shard: their messages, numbers and transcripts.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use super::Core;
use super::announcing::{MessageOf, Saying};
use super::desk::json_properties;
use super::errands::{Back, Errand, What};
use super::publish::Refused;
use crate::desk::{
    self, Author, Block, CONTENT_TYPE, ConversationId, FloorOrder, Group, Inbound, Instruction, Mark,
    Opening, Outbound, PREFIX, Past, Payload, Tenant, Thread, Turned, Wish, Wrong, envelope,
};
use crate::message::{Message, MessageRef};
use crate::metrics::{DeskOutcome, PublishRefusal};
use crate::protocol::{CONTENT_ENCODING, PublishProperties, ReasonCode};
use crate::store::Table;

/// Characters of a message that lists show.
const PREVIEW: usize = 120;

/// How long transcripts are kept behind the end of their conversations.
pub(super) const KEEP_MS: u64 = 7 * 24 * 3_600_000;

/// Conversations that one tick forgets at most.
const SWEEP: usize = 64;

/// The user property that names a message's channel.
const CHANNEL: &str = "channel";

/// The user property, and the field of the customer's context document, that names the customer's language.
const LANGUAGE: &str = "language";

/// See the module. Customers are known by `{tenant}\0{customer}`, which is what their documents' keys begin with.
#[derive(Debug, Default)]
pub(super) struct Threads {
    open: HashMap<Arc<str>, Thread, ahash::RandomState>,
    /// Conversations that are over, the last one last.
    past: HashMap<Arc<str>, Vec<Past>, ahash::RandomState>,
    /// When each of those was over.
    ends: BTreeSet<(u64, Arc<str>)>,
}

/// A customer's key.
pub(super) fn key_of(tenant: &str, customer: &str) -> Arc<str> {
    format!("{tenant}\0{customer}").into()
}

fn customer_of(key: &str) -> &str {
    key.split_once('\0').map_or(key, |(_, customer)| customer)
}

/// The key of a message that is in no block, or of a conversation that is over.
fn put_message_key(out: &mut Vec<u8>, customer: &str, conversation: ConversationId, seq: Option<u32>) {
    out.extend_from_slice(customer.as_bytes());
    out.push(0);
    out.extend_from_slice(&conversation.to_be_bytes());
    if let Some(seq) = seq {
        out.extend_from_slice(&seq.to_be_bytes());
    }
}

/// The key of a block of a transcript.
pub(super) fn block_key(conversation: ConversationId, end: u32) -> [u8; 20] {
    let mut key = [0; 20];
    let (id, number) = key.split_at_mut(16);
    id.copy_from_slice(&conversation.to_be_bytes());
    number.copy_from_slice(&end.to_be_bytes());
    key
}

/// A block as it is stored: the envelopes one behind the other, each with its length, compressed.
fn put_block(out: &mut Vec<u8>, block: &Block) {
    let mut plain = Vec::with_capacity(block.entries.iter().map(|entry| entry.text.len() + 4).sum());
    for entry in &block.entries {
        plain.extend_from_slice(&(entry.text.len() as u32).to_le_bytes());
        plain.extend_from_slice(&entry.text);
    }
    match snap::raw::Encoder::new().compress_vec(&plain) {
        Ok(packed) => {
            out.push(1);
            out.extend_from_slice(&packed);
        }
        Err(_) => {
            out.push(0);
            out.extend_from_slice(&plain);
        }
    }
}

/// The envelopes of a block. `None`: it is damaged.
pub(super) fn read_block(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (form, rest) = value.split_first()?;
    let plain = match form {
        0 => rest.to_vec(),
        1 => snap::raw::Decoder::new().decompress_vec(rest).ok()?,
        _ => return None,
    };
    let (mut left, mut all) = (plain.as_slice(), Vec::new());
    while let Some((length, rest)) = left.split_first_chunk() {
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        all.push(text.to_vec());
        left = rest;
    }
    left.is_empty().then_some(all)
}

impl Threads {
    /// A message was announced: of the customer's conversation, or of one that is over by now.
    pub(super) fn announced(&mut self, of: &MessageOf) {
        if let Some(thread) = self.open.get_mut(&of.customer).filter(|t| t.conversation == of.conversation) {
            thread.announced(of.seq);
        }
    }

    fn last(&self, customer: &str) -> Option<&Past> {
        self.past.get(customer)?.last()
    }

    pub(super) fn keep(&mut self, customer: Arc<str>, past: Past) {
        self.ends.insert((past.closed_at, customer.clone()));
        self.past.entry(customer).or_default().push(past);
    }

    /// Puts back a conversation; its messages follow.
    pub(super) fn restore(&mut self, customer: Arc<str>, thread: Thread) {
        self.open.insert(customer, thread);
    }

    pub(super) fn restore_message(
        &mut self,
        customer: &str,
        conversation: ConversationId,
        seq: u32,
        text: &[u8],
    ) -> bool {
        let thread = self.open.get_mut(customer).filter(|thread| thread.conversation == conversation);
        thread.map(|thread| thread.restore(seq, text.into())).is_some()
    }

    pub(super) fn open(&self) -> impl Iterator<Item = (&Arc<str>, &Thread)> {
        self.open.iter()
    }
}

fn quota() -> Refused {
    Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::QuotaExceeded)
}

/// A group that takes a conversation, or what becomes of it.
enum Place<'t> {
    Group(&'t Group),
    Told(Arc<str>),
    Refused,
}

impl Core {
    /// A customer has written: the message goes into its conversation, or begins one.
    pub(super) fn customer_wrote(
        &mut self,
        tenant: &Tenant,
        customer: &str,
        message: &Arc<Message>,
        mark: Option<Mark>,
    ) -> Result<(), Refused> {
        let outcome = self.take_from_customer(tenant, customer, message, mark);
        let counted = match &outcome {
            Ok(counted) => *counted,
            Err(_) => DeskOutcome::Refused,
        };
        self.clients.counters.desk_messages.bump(counted);
        outcome.map(|_| ())
    }

    fn take_from_customer(
        &mut self,
        tenant: &Tenant,
        customer: &str,
        message: &Arc<Message>,
        mark: Option<Mark>,
    ) -> Result<DeskOutcome, Refused> {
        let key = key_of(tenant.name(), customer);
        let seen = |mark: Mark| {
            let thread = self.threads.open.get(&key).map(|thread| thread.has(mark));
            thread.unwrap_or_else(|| self.threads.last(&key).is_some_and(|past| past.has(mark)))
        };
        if mark.is_some_and(seen) {
            self.had_before = true;
            return Ok(DeskOutcome::Repeated);
        }
        let m = message.view();
        if let Some(thread) = self.threads.open.get(&key) {
            if !thread.has_room() {
                return Err(quota());
            }
            self.add(tenant, &key, Author::Customer(customer), Some(&m), mark)?;
        } else {
            if let Some(outcome) = self.begin_conversation(tenant, &key, &m, Some(mark))? {
                return Ok(outcome);
            }
        }
        // Whoever watches the customer's own topic sees the message as it was published.
        self.pass(&MessageRef { retain: false, ..m });
        Ok(DeskOutcome::Conversation)
    }

    /// The rules choose a group for what a customer writes first, or for one who has written nothing yet (`mark` is
    /// `None` then). `Some`: it is no conversation.
    fn begin_conversation(
        &mut self,
        tenant: &Tenant,
        key: &Arc<str>,
        m: &MessageRef<'_>,
        mark: Option<Option<Mark>>,
    ) -> Result<Option<DeskOutcome>, Refused> {
        let exchange = self.exchange.clone();
        let Some(desk) = &exchange.desk else { return Err(quota()) };
        let (customer, now) = (customer_of(key), self.clients.now);
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        let user: Vec<(&str, &str)> = properties.user.iter().collect();
        let payload = Payload::new(m.payload);
        let context = desk.context(tenant.name(), customer, now);
        let previous = self.threads.last(key).cloned();
        let decision = tenant.route(&Inbound {
            customer,
            topic: m.topic,
            payload: &payload,
            properties: &user,
            context: context.as_ref(),
            previous: previous
                .as_ref()
                .map_or(("", ""), |past| (&*past.group, past.agent.as_deref().unwrap_or_default())),
            now_ms: now.unix.cast_signed(),
        });
        self.clients.counters.desk_rule_errors += u64::from(decision.failed_rules);
        let rule = decision.rule;
        if !rule.group.is_assigned() {
            return self.to_shared_group(tenant, customer, m, &decision).map(Some);
        }
        let first = rule.choose(|group| !desk.takes(tenant, group, now));
        let group = match self.place(tenant, first, now) {
            Place::Group(group) => group,
            Place::Refused => return Err(quota()),
            Place::Told(text) => {
                self.tell(tenant, customer, &text);
                return Ok(Some(DeskOutcome::TurnedAway));
            }
        };
        let property = |wanted: &str| user.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        let language = property(LANGUAGE)
            .map(Arc::from)
            .or_else(|| context.as_ref().and_then(|context| context.text_field(LANGUAGE)).map(Arc::from));
        let weight = property(CHANNEL).map_or(1, |channel| tenant.channel_weight(channel));
        let affinity = group.assigned.as_ref().map_or(0, |assigned| assigned.affinity_ttl_ms);
        let before = previous.as_ref().filter(|past| past.closed_at + affinity > now.unix);
        let conversation = self.next_ulid(now.unix);
        let opening = Opening {
            conversation,
            customer: customer.into(),
            group: group.name.clone(),
            priority: rule.priority,
            skills: rule.skills.iter().map(|skill| Arc::from(skill.as_str())).collect(),
            language,
            weight: u16::try_from(weight).unwrap_or(u16::MAX),
            previous: before.and_then(|past| past.agent.clone()),
            preview: payload.preview(PREVIEW).into(),
            arrived: now.unix,
        };
        let thread = Thread::new(conversation, group.name.clone(), now.unix, previous.as_ref());
        self.threads.open.insert(key.clone(), thread);
        if let Some(mark) = mark {
            let added = self.add(tenant, key, Author::Customer(customer), Some(m), mark);
            if added.is_err() {
                self.threads.open.remove(key);
            }
            added?;
        } else {
            self.write_thread(key);
        }
        desk.owners.insert(conversation, customer.into());
        let what = What::Open(Box::new(opening));
        self.send(Errand { tenant: tenant.name().into(), what }, false)?;
        Ok(None)
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

    /// Adds a message to a conversation: numbers it, has it stored, and hands it to all who are to have it.
    fn add(
        &mut self,
        tenant: &Tenant,
        key: &Arc<str>,
        author: Author<'_>,
        m: Option<&MessageRef<'_>>,
        mark: Option<Mark>,
    ) -> Result<(), Refused> {
        let now = self.clients.now.unix;
        let id = self.next_ulid(now);
        let maximum = 2 * self.exchange.settings.limits.max_packet as usize;
        let Some(thread) = self.threads.open.get_mut(key) else { return Ok(()) };
        let properties = m.and_then(|m| PublishProperties::decode(m.properties).ok());
        let properties = properties.unwrap_or(PublishProperties::EMPTY);
        let user: Vec<(&str, &str)> =
            properties.user.iter().filter(|(name, _)| *name != CONTENT_ENCODING).collect();
        let outbound = Outbound {
            author,
            conversation: Some((thread.conversation, thread.seq() + 1)),
            payload: &Payload::new(m.map_or(&[], |m| m.payload)),
            properties: &user,
            content_type: properties.content_type,
            id,
            at_ms: now,
        };
        let mut json = Vec::with_capacity(m.map_or(0, |m| m.payload.len()) + 256);
        // Base64 and escapes make an envelope larger than what came in.
        envelope(&outbound, maximum, &mut json).map_err(|_| quota())?;
        let text: Arc<[u8]> = json.into();
        thread.push(text.clone(), mark);
        let (conversation, seq) = (thread.conversation, thread.seq());
        let agent = thread.agent.clone();
        let ledger = &mut self.clients.ledger;
        ledger.put(
            Table::Tails,
            |out| put_message_key(out, key, conversation, Some(seq)),
            |out| out.extend_from_slice(&text),
        );
        self.write_thread(key);
        let properties = json_properties(CONTENT_TYPE, None);
        let tenant_name = tenant.name();
        let v = ulid::Ulid(conversation);
        if let Some(agent) = agent {
            let topic = format!("{PREFIX}{tenant_name}/agent/{agent}/inbox/{v}");
            self.announce(Saying::once(&topic, &text, &properties));
        }
        if !matches!(author, Author::Customer(_)) {
            let topic = format!("{PREFIX}{tenant_name}/customer/{}/down", customer_of(key));
            self.announce(Saying::once(&topic, &text, &properties));
        }
        let topic = format!("{PREFIX}{tenant_name}/conversation/{v}/messages");
        self.announce_of(
            Saying::once(&topic, &text, &properties),
            Some(MessageOf { customer: key.clone(), conversation, seq }),
        );
        self.seal(key, false);
        Ok(())
    }

    fn write_thread(&mut self, key: &Arc<str>) {
        let Some(thread) = self.threads.open.get(key) else { return };
        self.clients.ledger.put(
            Table::Threads,
            |out| out.extend_from_slice(key.as_bytes()),
            |out| thread.record(out),
        );
    }

    /// Moves what makes a block from the tail into the transcript.
    fn seal(&mut self, key: &Arc<str>, all: bool) {
        if !self.clients.ledger.on() {
            return;
        }
        while let Some(thread) = self.threads.open.get_mut(key)
            && let Some(block) = thread.seal(all)
        {
            let conversation = thread.conversation;
            let ledger = &mut self.clients.ledger;
            ledger.put(
                Table::Transcripts,
                |out| out.extend_from_slice(&block_key(conversation, block.end)),
                |out| put_block(out, &block),
            );
            for entry in &block.entries {
                ledger.delete(Table::Tails, |out| put_message_key(out, key, conversation, Some(entry.seq)));
            }
            self.write_thread(key);
        }
    }

    /// Somebody replies to a customer.
    pub(super) fn agent_replied(
        &mut self,
        tenant: &Tenant,
        customer: &str,
        conversation: ConversationId,
        authors: &[Arc<str>],
        message: &Arc<Message>,
        mark: Option<Mark>,
    ) -> Result<(), Refused> {
        let key = key_of(tenant.name(), customer);
        let denied = Refused::new(ReasonCode::NOT_AUTHORIZED, PublishRefusal::Desk);
        let thread = self.threads.open.get(&key).filter(|thread| thread.conversation == conversation);
        let thread = thread.ok_or(denied)?;
        let author = thread.agent.clone().filter(|agent| authors.contains(agent)).ok_or(denied)?;
        if mark.is_some_and(|mark| thread.has(mark)) {
            self.had_before = true;
            return Ok(());
        }
        let author = if thread.bot { Author::Bot(&author) } else { Author::Agent(&author) };
        self.add(tenant, &key, author, Some(&message.view()), mark)
    }

    /// The floor has decided something about a conversation here.
    pub(super) fn obey(&mut self, tenant: &Tenant, order: &FloorOrder) {
        let key = key_of(tenant.name(), &order.customer);
        let thread = self.threads.open.get_mut(&key).filter(|t| t.conversation == order.conversation);
        let Some(thread) = thread else { return };
        match &order.what {
            Instruction::Give { agent, group, bot } => {
                thread.give(agent.clone(), group.clone(), *bot);
                self.write_thread(&key);
                self.hand_over_tail(tenant, &key);
                self.seal(&key, false);
            }
            Instruction::Again => self.hand_over_tail(tenant, &key),
            Instruction::Take { group } => {
                thread.take(group.clone());
                self.write_thread(&key);
            }
            Instruction::Close { tell, .. } => {
                if let Some(text) = tell {
                    let m = MessageRef {
                        topic: "",
                        payload: text.as_bytes(),
                        properties: &[],
                        expires_at: crate::message::NEVER,
                        from: crate::message::ELSEWHERE,
                        qos: crate::protocol::QoS::AtLeastOnce,
                        retain: false,
                        snappy: false,
                    };
                    // What the operator has written fits into any packet.
                    let _ = self.add(tenant, &key, Author::System, Some(&m), None);
                }
                self.close_thread(&key);
            }
        }
    }

    /// Sends an agent what is not in the transcript yet.
    fn hand_over_tail(&mut self, tenant: &Tenant, key: &Arc<str>) {
        let Some(thread) = self.threads.open.get(key) else { return };
        let Some(agent) = &thread.agent else { return };
        let v = ulid::Ulid(thread.conversation);
        let topic = format!("{PREFIX}{}/agent/{agent}/inbox/{v}", tenant.name());
        let texts: Vec<Arc<[u8]>> = thread.tail().map(|entry| entry.text.clone()).collect();
        let properties = json_properties(CONTENT_TYPE, None);
        for text in texts {
            self.announce(Saying::once(&topic, &text, &properties));
        }
    }

    /// A conversation is over: its messages are in the transcript, and the customer's next one begins another.
    fn close_thread(&mut self, key: &Arc<str>) {
        self.seal(key, true);
        let Some(thread) = self.threads.open.remove(key) else { return };
        let conversation = thread.conversation;
        if let Some(desk) = &self.exchange.desk {
            desk.owners.remove(&conversation);
        }
        let past = thread.past(self.clients.now.unix);
        let ledger = &mut self.clients.ledger;
        ledger.delete(Table::Threads, |out| out.extend_from_slice(key.as_bytes()));
        ledger.put(
            Table::Archive,
            |out| put_message_key(out, key, conversation, None),
            |out| past.record(out),
        );
        self.threads.keep(key.clone(), past);
    }

    /// What a customer wants of the desk.
    pub(super) fn customer_wishes(&mut self, tenant: &Tenant, customer: &str, wish: &Wish, back: Back) {
        let key = key_of(tenant.name(), customer);
        let open = self.threads.open.get(&key).map(|thread| thread.conversation);
        match (wish, open) {
            (Wish::Leave, Some(conversation)) => {
                let what = What::Leave { customer: customer.into(), conversation, back };
                let _ = self.send(Errand { tenant: tenant.name().into(), what }, false);
            }
            (Wish::Join, Some(conversation)) => {
                self.respond(&back, &desk::announce::wish(wish.name(), Ok(conversation)));
            }
            (Wish::Join, None) => self.join(tenant, &key, &back),
            (Wish::Leave, None) => {
                self.respond(&back, &desk::announce::wish(wish.name(), Err(Wrong::NoConversation)));
            }
            (Wish::Transcript { conversation, before, limit }, _) => {
                self.transcript(&key, *conversation, before.unwrap_or(u32::MAX), *limit, back);
            }
        }
    }

    /// A customer stands in a queue without having written anything.
    fn join(&mut self, tenant: &Tenant, key: &Arc<str>, back: &Back) {
        let topic = format!("{PREFIX}{}/customer/{}/up", tenant.name(), customer_of(key));
        let m = MessageRef {
            topic: &topic,
            payload: b"",
            properties: &[],
            expires_at: crate::message::NEVER,
            from: crate::message::ELSEWHERE,
            qos: crate::protocol::QoS::AtLeastOnce,
            retain: false,
            snappy: false,
        };
        let begun = self.begin_conversation(tenant, key, &m, None);
        let open = self.threads.open.get(key).map(|thread| thread.conversation);
        let outcome = match (begun, open) {
            (Ok(None), Some(conversation)) => Ok(conversation),
            _ => Err(Wrong::NoGroup),
        };
        self.respond(back, &desk::announce::wish("join", outcome));
    }

    /// Answers a request.
    pub(super) fn respond(&mut self, back: &Back, payload: &[u8]) {
        if let Some(topic) = &back.topic {
            let properties = json_properties("application/json", back.correlation.as_deref());
            self.announce(Saying::once(topic, payload, &properties));
        }
    }

    /// Forgets conversations whose transcripts have been kept for long enough.
    pub(super) fn sweep_transcripts(&mut self) {
        for _ in 0..SWEEP {
            let Some((closed_at, _)) = self.threads.ends.first() else { return };
            if closed_at + KEEP_MS > self.clients.now.unix {
                return;
            }
            let Some((closed_at, key)) = self.threads.ends.pop_first() else { return };
            let Some(pasts) = self.threads.past.get_mut(&key) else { continue };
            let (gone, stays) =
                std::mem::take(pasts).into_iter().partition(|past| past.closed_at <= closed_at);
            *pasts = stays;
            if pasts.is_empty() {
                self.threads.past.remove(&key);
            }
            self.erase(&key, gone);
        }
    }

    fn erase(&mut self, key: &str, gone: Vec<Past>) {
        let ledger = &mut self.clients.ledger;
        for past in gone {
            let conversation = past.conversation();
            for end in &past.blocks {
                ledger
                    .delete(Table::Transcripts, |out| out.extend_from_slice(&block_key(conversation, *end)));
            }
            ledger.delete(Table::Archive, |out| put_message_key(out, key, conversation, None));
        }
    }

    /// Deletes all conversations of a customer that are over, with their transcripts; how many. One that is open ends
    /// first, by whoever may end it.
    pub fn erase_customer(&mut self, tenant: &str, customer: &str) -> usize {
        let key = key_of(tenant, customer);
        let gone = self.threads.past.remove(&key).unwrap_or_default();
        for past in &gone {
            self.threads.ends.remove(&(past.closed_at, key.clone()));
        }
        let count = gone.len();
        self.erase(&key, gone);
        count
    }

    /// What came back and may not have been announced is announced again.
    pub(super) fn announce_again(&mut self) {
        let exchange = self.exchange.clone();
        let Some(desk) = &exchange.desk else { return };
        let mut keys: Vec<Arc<str>> = self.threads.open().map(|(key, _)| key.clone()).collect();
        // So that what is said follows from what was stored.
        keys.sort_unstable();
        for key in keys {
            let Some(thread) = self.threads.open.get(&key) else { continue };
            desk.owners.insert(thread.conversation, customer_of(&key).into());
            let Some(tenant) = key.split_once('\0').and_then(|(tenant, _)| desk.routing.tenant(tenant))
            else {
                continue;
            };
            let (agent, conversation) = (thread.agent.clone(), thread.conversation);
            let v = ulid::Ulid(conversation);
            let untold: Vec<(u32, Arc<[u8]>)> =
                thread.unannounced().map(|e| (e.seq, e.text.clone())).collect();
            let properties = json_properties(CONTENT_TYPE, None);
            for (seq, text) in untold {
                let topics = [
                    agent.as_ref().map(|agent| format!("{PREFIX}{}/agent/{agent}/inbox/{v}", tenant.name())),
                    desk::is_for_customer(&text)
                        .then(|| format!("{PREFIX}{}/customer/{}/down", tenant.name(), customer_of(&key))),
                ];
                for topic in topics.into_iter().flatten() {
                    self.announce(Saying::once(&topic, &text, &properties));
                }
                let topic = format!("{PREFIX}{}/conversation/{v}/messages", tenant.name());
                self.announce_of(
                    Saying::once(&topic, &text, &properties),
                    Some(MessageOf { customer: key.clone(), conversation, seq }),
                );
            }
        }
    }

    /// A page of a customer's messages, those before a number, the last ones first found.
    fn transcript(
        &mut self,
        key: &Arc<str>,
        conversation: Option<ConversationId>,
        before: u32,
        limit: usize,
        back: Back,
    ) {
        let open = self.threads.open.get(key).filter(|t| conversation.is_none_or(|v| t.conversation == v));
        let past = self.threads.past.get(key).and_then(|pasts| {
            pasts.iter().rev().find(|past| conversation.is_none_or(|v| past.conversation() == v))
        });
        // Nobody has to know how many there are.
        let last =
            open.map(Thread::seq).or(past.filter(|_| open.is_none()).map(|past| past.seq)).unwrap_or(0);
        let before = before.min(last.saturating_add(1));
        let (found, blocks, tail) = match (open, past) {
            (Some(thread), _) => {
                let tail = thread.tail().filter(|entry| entry.seq < before);
                let tail: Vec<(u32, Arc<[u8]>)> = tail.map(|e| (e.seq, e.text.clone())).collect();
                (thread.conversation, thread.blocks().to_vec(), tail)
            }
            (None, Some(past)) => (past.conversation(), past.blocks.clone(), Vec::new()),
            (None, None) => {
                let none = desk::announce::wish("transcript", Err(Wrong::NoConversation));
                return self.respond(&back, &none);
            }
        };
        let page = super::lookups::Transcript { conversation: found, blocks, tail, before, limit, back };
        self.read_transcript(page);
    }

    /// Reads blocks from the store until a page is full.
    fn read_transcript(&mut self, page: super::lookups::Transcript) {
        let keys: Vec<(Table, Box<[u8]>)> = page
            .missing()
            .map(|end| (Table::Transcripts, Box::from(&block_key(page.conversation, end)[..])))
            .collect();
        if keys.is_empty() || !self.clients.ledger.on() {
            return self.show_transcript(page, &[]);
        }
        let purpose = super::lookups::Purpose::Transcript(Box::new(page));
        self.clients.lookups.ask(&self.clients.ledger, purpose, keys);
    }

    pub(super) fn show_transcript(&mut self, page: super::lookups::Transcript, values: &[Option<Box<[u8]>>]) {
        let (back, answer) = page.answer(values);
        self.respond(&back, &answer);
    }

    /// Whether a conversation of a customer is open here, for tests.
    pub fn conversation_of(&self, tenant: &str, customer: &str) -> Option<(ConversationId, u32)> {
        let thread = self.threads.open.get(&key_of(tenant, customer))?;
        Some((thread.conversation, thread.seq()))
    }
}
