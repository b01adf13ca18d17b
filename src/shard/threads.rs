//! The conversations of the customers who live on this shard: their messages, numbers and transcripts.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use super::Core;
use super::announcing::{MessageOf, Saying};
use super::beginning::First;
use super::desk::json_properties;
use super::errands::{Back, Errand, What};
use super::ledger::Ledger;
use super::publish::Refused;
use super::transcripts::put_message_key;
use crate::desk::{
    self, Author, CONTENT_TYPE, ConversationId, FloorOrder, Instruction, Mark, Outbound, PREFIX, Past,
    Payload, Tenant, Thread, Wish, Wrong, envelope,
};
use crate::message::{Message, MessageRef};
use crate::metrics::{DeskOutcome, PublishRefusal};
use crate::protocol::{CONTENT_ENCODING, PublishProperties, ReasonCode};
use crate::store::Table;

/// See the module. Customers are known by `{tenant}\0{customer}`, which is what their documents' keys begin with.
#[derive(Debug, Default)]
pub(super) struct Threads {
    pub(super) open: HashMap<Arc<str>, Thread, ahash::RandomState>,
    /// Conversations that are over, the last one last.
    pub(super) past: HashMap<Arc<str>, Vec<Past>, ahash::RandomState>,
    /// When each of those is to be forgotten.
    pub(super) ends: BTreeSet<(u64, Arc<str>)>,
}

/// A customer's key.
pub(super) fn key_of(tenant: &str, customer: &str) -> Arc<str> {
    format!("{tenant}\0{customer}").into()
}

pub(super) fn customer_of(key: &str) -> &str {
    key.split_once('\0').map_or(key, |(_, customer)| customer)
}

impl Threads {
    /// A message was announced: of the customer's conversation, or of one that is over by now. `Some`: that one is to
    /// be stored.
    fn announced(&mut self, of: &MessageOf) -> Option<&Past> {
        if let Some(thread) = self.open.get_mut(&of.customer).filter(|t| t.conversation == of.conversation) {
            thread.announced(of.seq);
            return None;
        }
        let pasts = self.past.get_mut(&of.customer)?;
        let past = pasts.iter_mut().rev().find(|past| past.conversation() == of.conversation)?;
        past.announced(of.seq).then_some(past)
    }

    /// Whether a customer's message was taken before.
    pub(super) fn has(&self, customer: &str, mark: Mark) -> bool {
        match self.open.get(customer) {
            Some(thread) => thread.has(mark),
            None => self.last(customer).is_some_and(|past| past.has(mark)),
        }
    }

    pub(super) fn last(&self, customer: &str) -> Option<&Past> {
        self.past.get(customer)?.last()
    }

    /// Remembers a conversation that is over until it is to be forgotten.
    fn keep(&mut self, customer: Arc<str>, past: Past, until: Option<u64>) {
        if let Some(until) = until {
            self.ends.insert((until, customer.clone()));
        }
        let pasts = self.past.entry(customer).or_default();
        if let Some(before) = pasts.last_mut() {
            before.forget_marks();
        }
        pasts.push(past);
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
        thread.is_some_and(|thread| thread.restore(seq, text))
    }

    pub(super) fn open(&self) -> impl Iterator<Item = (&Arc<str>, &Thread)> {
        self.open.iter()
    }
}

/// A message that may not have been announced, and the agent who is to have it.
type Untold = (MessageOf, Option<Arc<str>>, Arc<[u8]>);

/// Stores what is left of a conversation that is over.
pub(super) fn write_past(ledger: &mut Ledger, key: &str, past: &Past) {
    ledger.put(
        Table::Archive,
        |out| put_message_key(out, key, past.conversation(), None),
        |out| past.record(out),
    );
}

pub(super) fn quota() -> Refused {
    Refused::new(ReasonCode::QUOTA_EXCEEDED, PublishRefusal::QuotaExceeded)
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
        if mark.is_some_and(|mark| self.threads.has(&key, mark)) {
            self.had_before = true;
            return Ok(DeskOutcome::Repeated);
        }
        let m = message.view();
        let outcome = if let Some(thread) = self.threads.open.get(&key) {
            if !thread.has_room() {
                return Err(quota());
            }
            self.add(tenant, &key, Author::Customer(customer), Some(&m), mark)?;
            None
        } else {
            self.begin_conversation(tenant, &key, &m, First::Message(mark), None)?
        };
        // Whoever watches the customer's own topic sees the message as it was published.
        self.pass(&MessageRef { retain: false, ..m });
        Ok(outcome.unwrap_or(DeskOutcome::Conversation))
    }

    /// Adds a message to a conversation: numbers it, has it stored, and hands it to all who are to have it.
    pub(super) fn add(
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
        thread.push(text.clone(), mark, matches!(author, Author::Customer(_)));
        let (conversation, seq) = (thread.conversation, thread.seq());
        let agent = thread.agent.clone();
        let ledger = &mut self.clients.ledger;
        ledger.put(
            Table::Tails,
            |out| put_message_key(out, key, conversation, Some(seq)),
            |out| thread.put_last(mark, out),
        );
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

    pub(super) fn write_thread(&mut self, key: &Arc<str>) {
        let Some(thread) = self.threads.open.get(key) else { return };
        self.clients.ledger.put(
            Table::Threads,
            |out| out.extend_from_slice(key.as_bytes()),
            |out| thread.record(out),
        );
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
        // Before it is asked who may write: its author may have handed the conversation over since.
        if mark.is_some_and(|mark| thread.has(mark)) {
            self.had_before = true;
            return Ok(());
        }
        let author = thread.agent.clone().filter(|agent| authors.contains(agent)).ok_or(denied)?;
        self.clients.counters.desk_replies += 1;
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
        let now = self.clients.now.unix;
        let Some(thread) = self.threads.open.get(key) else { return };
        let (mut past, erase) = (thread.past(now), thread.erase);
        if !erase {
            self.seal(key, true);
        }
        let Some(thread) = self.threads.open.remove(key) else { return };
        past.blocks = thread.blocks().to_vec();
        let conversation = thread.conversation;
        if let Some(desk) = &self.exchange.desk {
            desk.owners.remove(&conversation);
        }
        self.clients.ledger.delete(Table::Threads, |out| out.extend_from_slice(key.as_bytes()));
        if erase {
            return self.erase_thread(key, &thread, past);
        }
        write_past(&mut self.clients.ledger, key, &past);
        self.keep_past(key.clone(), past);
    }

    /// A message of a conversation was announced.
    pub(super) fn message_announced(&mut self, of: &MessageOf) {
        if let Some(past) = self.threads.announced(of) {
            write_past(&mut self.clients.ledger, &of.customer, past);
        }
    }

    /// Remembers a conversation that is over.
    pub(super) fn keep_past(&mut self, key: Arc<str>, past: Past) {
        let until = self.forget_at(&key, &past);
        self.threads.keep(key, past, until);
    }

    /// When a conversation that is over is to be forgotten.
    pub(super) fn forget_at(&self, key: &str, past: &Past) -> Option<u64> {
        let tenant = key.split_once('\0').map_or("", |(tenant, _)| tenant);
        let routing = self.exchange.desk.as_ref().map(|desk| &desk.routing);
        let keep = routing.and_then(|routing| routing.tenant(tenant)?.transcript_keep_ms());
        keep.map(|keep| past.closed_at.saturating_add(keep))
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
            (Wish::Rate { rating, comment }, _) => {
                let rated = self.rate(tenant, &key, *rating, comment.as_deref());
                self.respond(&back, &desk::announce::wish(wish.name(), rated));
            }
            (Wish::Transcript { conversation, before, limit }, _) => {
                self.transcript(&key, *conversation, before.unwrap_or(u32::MAX), *limit, back);
            }
        }
    }

    /// Answers a request.
    pub(super) fn respond(&mut self, back: &Back, payload: &[u8]) {
        if let Some(topic) = &back.topic {
            let properties = json_properties("application/json", back.correlation.as_deref());
            self.announce(Saying::once(topic, payload, &properties));
        }
    }

    /// What came back and may not have been announced is announced again.
    pub(super) fn announce_again(&mut self) {
        let exchange = self.exchange.clone();
        let Some(desk) = &exchange.desk else { return };
        let mut untold: Vec<Untold> = Vec::new();
        for (key, past) in self.threads.past.iter().flat_map(|(key, all)| all.iter().map(move |p| (key, p))) {
            let conversation = past.conversation();
            untold.extend(past.unannounced().map(|(seq, text)| {
                (MessageOf { customer: key.clone(), conversation, seq }, None, text.as_bytes().into())
            }));
        }
        for (key, thread) in self.threads.open() {
            let conversation = thread.conversation;
            desk.owners.insert(conversation, customer_of(key).into());
            untold.extend(thread.unannounced().map(|entry| {
                let of = MessageOf { customer: key.clone(), conversation, seq: entry.seq };
                (of, thread.agent.clone(), entry.text.clone())
            }));
        }
        // What is said follows from what was stored, not from the order of a table.
        untold.sort_by(|(a, ..), (b, ..)| {
            (&a.customer, a.conversation, a.seq).cmp(&(&b.customer, b.conversation, b.seq))
        });
        for (of, agent, text) in untold {
            let tenant = of.customer.split_once('\0').map_or("", |(tenant, _)| tenant);
            if desk.routing.tenant(tenant).is_some() {
                self.say_again(of, agent.as_deref(), &text);
            }
        }
    }

    fn say_again(&mut self, of: MessageOf, agent: Option<&str>, text: &[u8]) {
        let Some((tenant, customer)) = of.customer.split_once('\0') else { return };
        let v = ulid::Ulid(of.conversation);
        let properties = json_properties(CONTENT_TYPE, None);
        let topics = [
            agent.map(|agent| format!("{PREFIX}{tenant}/agent/{agent}/inbox/{v}")),
            desk::is_for_customer(text).then(|| format!("{PREFIX}{tenant}/customer/{customer}/down")),
        ];
        for topic in topics.into_iter().flatten() {
            self.announce(Saying::once(&topic, text, &properties));
        }
        let topic = format!("{PREFIX}{tenant}/conversation/{v}/messages");
        self.announce_of(Saying::once(&topic, text, &properties), Some(of));
    }

    /// Whether a conversation of a customer is open here, for tests.
    pub fn conversation_of(&self, tenant: &str, customer: &str) -> Option<(ConversationId, u32)> {
        let thread = self.threads.open.get(&key_of(tenant, customer))?;
        Some((thread.conversation, thread.seq()))
    }
}
