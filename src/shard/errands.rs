//! What the desk's shards have each other do.
//!
//! A customer's *home* has its conversation's messages, a tenant's *floor* its agents and queues. Whoever publishes to
//! one of the desk's topics may be on a third shard. An errand goes where it belongs together with what its sender
//! writes in that turn, so both are durable or neither; without another shard to go to it is done at once.

use std::sync::Arc;

use smallvec::SmallVec;

use super::door::congested;
use super::mailbox::{Mail, Serial};
use super::publish::Refused;
use super::{Core, ShardId};
use crate::desk::{
    Answer, Control, ConversationId, DeskTopic, FloorOrder, Link, Mark, Opening, Payload, Presence, Put,
    Question, Show, Tenant, Verb, Wish,
};
use crate::message::{ELSEWHERE, Message, MessageRef};
use crate::metrics::PublishRefusal;
use crate::protocol::{CONTENT_ENCODING, PublishProperties, QoS, ReasonCode};

/// An errand, with the tenant that it is for.
#[derive(Debug)]
pub struct Errand {
    /// The tenant.
    pub tenant: Arc<str>,
    /// What is to be done.
    pub what: What,
}

/// What an [`Errand`] is.
#[derive(Debug)]
pub enum What {
    /// For the customer's home: it has written.
    Write {
        /// Who.
        customer: Arc<str>,
        /// What.
        message: Arc<Message>,
        /// What tells it when it comes again.
        mark: Option<Mark>,
    },
    /// For the customer's home: somebody replies.
    Reply {
        /// To whom.
        customer: Arc<str>,
        /// In which conversation.
        conversation: ConversationId,
        /// Who the publisher is: one of these has to have the conversation.
        authors: SmallVec<[Arc<str>; 1]>,
        /// What.
        message: Arc<Message>,
        /// What tells it when it comes again.
        mark: Option<Mark>,
    },
    /// For the customer's home: the customer wants something.
    Wish {
        /// Who.
        customer: Arc<str>,
        /// What.
        wish: Wish,
        /// Where the answer goes.
        back: Back,
    },
    /// For the customer's home: a backend puts a conversation into a queue.
    Put {
        /// Which.
        put: Box<Put>,
        /// Into which group's.
        group: Arc<str>,
        /// What it begins with.
        message: Arc<Message>,
        /// What tells it when it comes again.
        mark: Option<Mark>,
    },
    /// For the customer's home: the floor has decided something.
    Order(FloorOrder),
    /// For the floor: a conversation begins.
    Open(Box<Opening>),
    /// For the floor: its customer leaves.
    Leave {
        /// Whose.
        customer: Arc<str>,
        /// Which.
        conversation: ConversationId,
        /// Where the answer goes.
        back: Back,
    },
    /// For the floor: an agent says what it is.
    Presence {
        /// Who.
        agent: Arc<str>,
        /// What it says.
        presence: Box<Presence>,
        /// Over which connection.
        link: Option<Link>,
    },
    /// For the floor: that connection is gone.
    Lost {
        /// Whose.
        agent: Arc<str>,
        /// Which.
        link: Link,
    },
    /// For the floor: an agent's answer.
    Answer(Box<Answer>, Back),
    /// For the floor: a supervisor's word.
    Control(Box<Control>, Back),
    /// For the customer's home: where would a message of this customer go?
    Explain(Box<Question>, Back),
    /// For the floor: what would become of this conversation? The answer so far is there.
    Prospect(Box<Opening>, serde_json::Value, Back),
}

impl Errand {
    /// Bytes that it takes, roughly.
    pub fn weight(&self) -> usize {
        match &self.what {
            What::Write { message, .. } | What::Reply { message, .. } | What::Put { message, .. } => {
                message.weight()
            }
            // They may bring a document.
            What::Explain(..) | What::Prospect(..) => 64 << 10,
            _ => 512,
        }
    }
}

/// Where the answer to a request goes, if its publisher has named a topic.
#[derive(Debug, Clone, Default)]
pub struct Back {
    /// The Response Topic.
    pub topic: Option<Arc<str>>,
    /// The Correlation Data.
    pub correlation: Option<Box<[u8]>>,
}

/// The agent that a connection has declared itself to be.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) tenant: Arc<str>,
    pub(super) agent: Arc<str>,
    pub(super) link: Link,
}

/// Hashes that are stored: the same in each process.
pub(super) fn lasting() -> ahash::RandomState {
    ahash::RandomState::with_seeds(0x6465_736b, 0x6d61_726b, 0x6861_7368, 0x7365_6564)
}

fn refused(code: ReasonCode, why: PublishRefusal) -> Refused {
    Refused::new(code, why)
}

impl Core {
    /// The shard of a customer's conversation.
    pub(super) fn customer_home(&self, tenant: &str, customer: &str) -> ShardId {
        self.exchange.home_of(&("customer", tenant, customer))
    }

    /// The shard of a tenant's agents and queues.
    pub(super) fn floor_home(&self, tenant: &str) -> ShardId {
        self.exchange.home_of(&("floor", tenant))
    }

    fn home_of_errand(&self, errand: &Errand) -> ShardId {
        let tenant = &errand.tenant;
        match &errand.what {
            What::Write { customer, .. } | What::Reply { customer, .. } | What::Wish { customer, .. } => {
                self.customer_home(tenant, customer)
            }
            What::Put { put, .. } => self.customer_home(tenant, &put.customer),
            What::Order(order) => self.customer_home(tenant, &order.customer),
            What::Explain(question, _) => self.customer_home(tenant, question.customer()),
            _ => self.floor_home(tenant),
        }
    }

    /// Has something done, here or where it belongs. `waits`: its publisher's answer waits for it.
    pub(super) fn send(&mut self, errand: Errand, waits: bool) -> Result<(), Refused> {
        let home = self.home_of_errand(&errand);
        if home == self.id {
            return self.run(errand);
        }
        let serial = if waits { self.clients.ledger.ask(home) } else { self.clients.ledger.cross(1 << home) };
        if let Some(batch) = self.outgoing.get_mut(usize::from(home)) {
            batch.push(Mail::Errand(Box::new(errand), serial));
            self.looked_up.held_back |= congested(self.full, u32::from(home), batch);
        }
        Ok(())
    }

    /// An errand from another shard. Whoever waits for it is told in any case.
    pub(super) fn errand_arrives(&mut self, from: ShardId, errand: Errand, serial: Serial) {
        let held_back = self.looked_up.held_back;
        let outcome = self.run(errand);
        self.looked_up.held_back = held_back;
        // Its answer waits for this shard in any case.
        self.had_before = false;
        match outcome {
            Err(refused) if serial != 0 => self.post(from, Mail::Denied(serial, refused)),
            Ok(()) if serial != 0 && !self.clients.ledger.on() => self.post(from, Mail::Changed(serial)),
            _ => {}
        }
    }

    fn run(&mut self, errand: Errand) -> Result<(), Refused> {
        let exchange = self.exchange.clone();
        let tenant = exchange.desk.as_ref().and_then(|desk| desk.routing.tenant(&errand.tenant));
        let Some(tenant) = tenant else {
            return Err(refused(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, PublishRefusal::Desk));
        };
        match errand.what {
            What::Write { customer, message, mark } => self.customer_wrote(tenant, &customer, &message, mark),
            What::Reply { customer, conversation, authors, message, mark } => {
                self.agent_replied(tenant, &customer, conversation, &authors, &message, mark)
            }
            What::Wish { customer, wish, back } => {
                self.customer_wishes(tenant, &customer, &wish, back);
                Ok(())
            }
            What::Put { put, group, message, mark } => self.put_arrives(tenant, &put, &group, &message, mark),
            What::Order(order) => {
                self.obey(tenant, &order);
                Ok(())
            }
            What::Explain(question, back) => {
                self.explain_at_home(tenant, &question, back);
                Ok(())
            }
            floor => self.on_floor(&errand.tenant, floor),
        }
    }

    /// A message to one of the topics of groups in `assigned` mode. `None`: the tenant has none, and it is ordinary.
    pub(super) fn assigned_desk(
        &mut self,
        topic: &DeskTopic<'_>,
        m: &MessageRef<'_>,
    ) -> Option<Result<bool, Refused>> {
        let exchange = self.exchange.clone();
        let desk = exchange.desk.as_ref();
        let (DeskTopic::CustomerAsk { tenant, .. }
        | DeskTopic::AgentPresence { tenant, .. }
        | DeskTopic::AgentAnswer { tenant, .. }
        | DeskTopic::Reply { tenant, .. }
        | DeskTopic::ConversationAsk { tenant, .. }
        | DeskTopic::QueuePut { tenant, .. }
        | DeskTopic::Control { tenant, .. }
        | DeskTopic::Own { tenant }) = *topic
        else {
            return None;
        };
        let served = desk.and_then(|desk| desk.routing.tenant(tenant)).filter(|tenant| tenant.has_assigned());
        let Some(tenant) = served else {
            // What agents say of themselves, and what anybody says in the desk's name, is as good as any other message
            // where there is no floor. Requests would be acknowledged and never done.
            let ordinary = matches!(topic, DeskTopic::Own { .. } | DeskTopic::AgentPresence { .. });
            let unserved = refused(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, PublishRefusal::Desk);
            return if ordinary { None } else { Some(Err(unserved)) };
        };
        if let Some(code) = self.unwell() {
            return Some(Err(refused(code, PublishRefusal::Store)));
        }
        Some(match *topic {
            DeskTopic::CustomerAsk { customer, .. } => self.ask(tenant, customer, m),
            DeskTopic::AgentPresence { agent, .. } => self.declare(tenant, agent, m),
            DeskTopic::AgentAnswer { agent, .. } => self.answer_offer(tenant, agent, m),
            DeskTopic::Reply { conversation, .. } => self.reply(tenant, conversation, m),
            DeskTopic::ConversationAsk { conversation, .. } => self.ask_conversation(tenant, conversation, m),
            DeskTopic::QueuePut { group, .. } => self.put(tenant, group, m),
            DeskTopic::Control { verb, .. } => self.control(tenant, verb, m),
            _ => Err(refused(ReasonCode::NOT_AUTHORIZED, PublishRefusal::Desk)),
        })
    }

    /// What the publisher of a message is told of one that cannot be read, or is in an encoding that nobody reads.
    fn readable(&mut self, m: &MessageRef<'_>) -> Result<Arc<Message>, Refused> {
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        if !m.snappy && properties.user.iter().any(|(name, _)| name == CONTENT_ENCODING) {
            return Err(refused(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid));
        }
        if m.snappy {
            self.clients.counters.expansions += 1;
            return Ok(m.to_plain());
        }
        Ok(MessageRef { from: ELSEWHERE, retain: false, ..*m }.to_message())
    }

    /// What tells this publication when it comes again.
    fn mark(&self, m: &MessageRef<'_>, payload: &Payload<'_>) -> Option<Mark> {
        let (packet, again) = self.packet;
        if let Some(id) = payload.id() {
            return Some(Mark { hash: lasting().hash_one(("id", id)), only_if_again: false, again });
        }
        let client = self.clients.sessions.get(m.from as usize).map(|session| session.client_id.clone())?;
        let packet = packet.filter(|_| m.qos != QoS::AtMostOnce)?;
        let hash = lasting().hash_one(("packet", &*client, packet.get(), payload.bytes()));
        Some(Mark { hash, only_if_again: true, again })
    }

    /// A customer writes in a tenant with groups in `assigned` mode.
    pub(super) fn write_to_desk(
        &mut self,
        tenant: &Tenant,
        customer: &str,
        m: &MessageRef<'_>,
    ) -> Result<(), Refused> {
        if let Some(code) = self.unwell() {
            return Err(refused(code, PublishRefusal::Store));
        }
        let message = self.readable(m)?;
        let mark = self.mark(m, &Payload::new(message.payload()));
        let what = What::Write { customer: customer.into(), message, mark };
        self.send(Errand { tenant: tenant.name().into(), what }, m.qos != QoS::AtMostOnce)
    }

    fn back(m: &MessageRef<'_>) -> Back {
        let properties = PublishProperties::decode(m.properties).unwrap_or(PublishProperties::EMPTY);
        Back {
            topic: properties.response_topic.map(Arc::from),
            correlation: properties.correlation_data.map(Box::from),
        }
    }

    /// As [`Self::back`], if nobody is hurt by an answer there: the desk's own topics have rules of their own.
    fn back_to(&self, m: &MessageRef<'_>, own: &str) -> Result<Back, Refused> {
        let mut back = Self::back(m);
        if let Some(topic) = &back.topic {
            self.check_topic(topic)?;
            let foreign = crate::desk::desk_topic(topic)
                .is_some_and(|desk| !matches!(desk, DeskTopic::Other) && **topic != *own);
            if foreign {
                return Err(refused(ReasonCode::TOPIC_NAME_INVALID, PublishRefusal::TopicInvalid));
            }
        }
        if !own.is_empty() {
            back.topic.get_or_insert_with(|| own.into());
        }
        Ok(back)
    }

    fn ask(&mut self, tenant: &Tenant, customer: &str, m: &MessageRef<'_>) -> Result<bool, Refused> {
        let message = self.readable(m)?;
        let invalid = refused(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid);
        let wish = Wish::parse(message.payload()).map_err(|_| invalid)?;
        let own = format!("{}{}/customer/{customer}/answer", crate::desk::PREFIX, tenant.name());
        let back = self.back_to(m, &own)?;
        let what = What::Wish { customer: customer.into(), wish, back };
        self.send(Errand { tenant: tenant.name().into(), what }, m.qos != QoS::AtMostOnce).map(|()| true)
    }

    /// An agent says of itself what it is, and from now on its connection is that agent's.
    fn declare(&mut self, tenant: &Tenant, agent: &str, m: &MessageRef<'_>) -> Result<bool, Refused> {
        let message = self.readable(m)?;
        let invalid = refused(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid);
        let mut presence = Presence::parse(message.payload()).map_err(|_| invalid)?;
        let unknown = presence
            .groups
            .iter()
            .flatten()
            .any(|name| tenant.group(name).is_none_or(|group| !group.is_assigned()));
        if unknown {
            return Err(invalid);
        }
        let (tenant_name, agent): (Arc<str>, Arc<str>) = (tenant.name().into(), agent.into());
        let link = if m.from == ELSEWHERE {
            // A will: whatever it says, nobody is there.
            presence.show = Show::Offline;
            None
        } else {
            Some(self.link_of(m.from, &tenant_name, &agent, presence.show))
        };
        self.pass(&MessageRef { from: m.from, ..message.view() });
        let what = What::Presence { agent, presence: Box::new(presence), link };
        self.send(Errand { tenant: tenant_name, what }, m.qos != QoS::AtMostOnce).map(|()| true)
    }

    /// The number of an agent's connection.
    fn link_of(&mut self, session: u32, tenant: &Arc<str>, agent: &Arc<str>, show: Show) -> Link {
        let known = self.declared.entry(session).or_default();
        if let Some(at) = known.iter().position(|known| known.agent == *agent && known.tenant == *tenant) {
            let link = known.get(at).map_or(0, |known| known.link);
            if show == Show::Offline {
                known.remove(at);
            }
            return link;
        }
        let id = u64::from(self.id);
        self.links += 1;
        let link = id << 48 | self.links;
        if show != Show::Offline {
            let known = self.declared.entry(session).or_default();
            known.push(Declared { tenant: tenant.clone(), agent: agent.clone(), link });
        }
        link
    }

    /// A connection is gone, and with it the agents that it was.
    pub(super) fn undeclare(&mut self, session: u32) {
        if self.declared.is_empty() {
            return;
        }
        for Declared { tenant, agent, link } in self.declared.remove(&session).unwrap_or_default() {
            // Nobody waits for it, and there is nothing that could refuse it.
            let _ = self.send(Errand { tenant, what: What::Lost { agent, link } }, false);
        }
    }

    fn declared_as(&self, session: u32, tenant: &str) -> SmallVec<[Arc<str>; 1]> {
        let known = self.declared.get(&session).map_or(&[][..], Vec::as_slice);
        known.iter().filter(|known| *known.tenant == *tenant).map(|known| known.agent.clone()).collect()
    }

    fn answer_offer(&mut self, tenant: &Tenant, agent: &str, m: &MessageRef<'_>) -> Result<bool, Refused> {
        let message = self.readable(m)?;
        if !self.declared_as(m.from, tenant.name()).iter().any(|declared| **declared == *agent) {
            return Err(refused(ReasonCode::NOT_AUTHORIZED, PublishRefusal::Desk));
        }
        let own = format!("{}{}/agent/{agent}/result", crate::desk::PREFIX, tenant.name());
        let mut back = self.back_to(m, &own)?;
        let correlation = back.correlation.take();
        let invalid = refused(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid);
        let verb = Verb::parse(message.payload(), correlation.as_deref()).map_err(|_| invalid)?;
        back.correlation = correlation;
        let answer = Answer { agent: agent.into(), verb };
        let what = What::Answer(Box::new(answer), back);
        self.send(Errand { tenant: tenant.name().into(), what }, m.qos != QoS::AtMostOnce).map(|()| true)
    }

    fn reply(&mut self, tenant: &Tenant, conversation: &str, m: &MessageRef<'_>) -> Result<bool, Refused> {
        let denied = refused(ReasonCode::NOT_AUTHORIZED, PublishRefusal::Desk);
        let message = self.readable(m)?;
        let authors = self.declared_as(m.from, tenant.name());
        let conversation = ulid::Ulid::from_string(conversation).map_err(|_| denied)?.0;
        let owners = self.exchange.desk.as_ref().map(|desk| &desk.owners);
        let customer = owners.and_then(|owners| owners.get(&conversation).map(|owner| owner.clone()));
        let customer = customer.filter(|_| !authors.is_empty()).ok_or(denied)?;
        let mark = self.mark(m, &Payload::new(message.payload()));
        let what = What::Reply { customer, conversation, authors, message, mark };
        self.send(Errand { tenant: tenant.name().into(), what }, m.qos != QoS::AtMostOnce).map(|()| true)
    }

    /// An agent asks for messages of a conversation, whoever has it; of one that is over its customer has to be named.
    fn ask_conversation(&mut self, tenant: &Tenant, text: &str, m: &MessageRef<'_>) -> Result<bool, Refused> {
        let denied = refused(ReasonCode::NOT_AUTHORIZED, PublishRefusal::Desk);
        let invalid = refused(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid);
        let message = self.readable(m)?;
        let agents = self.declared_as(m.from, tenant.name());
        let agent = agents.first().ok_or(denied)?;
        let conversation = ulid::Ulid::from_string(text).map_err(|_| denied)?.0;
        let (wish, named) = Wish::parse_of_agent(message.payload(), conversation).map_err(|_| invalid)?;
        let owners = self.exchange.desk.as_ref().map(|desk| &desk.owners);
        let open = owners.and_then(|owners| owners.get(&conversation).map(|owner| owner.clone()));
        let customer = open.or(named).ok_or(invalid)?;
        let own = format!("{}{}/agent/{agent}/result", crate::desk::PREFIX, tenant.name());
        let back = self.back_to(m, &own)?;
        let what = What::Wish { customer, wish, back };
        self.send(Errand { tenant: tenant.name().into(), what }, m.qos != QoS::AtMostOnce).map(|()| true)
    }

    fn put(&mut self, tenant: &Tenant, group: &str, m: &MessageRef<'_>) -> Result<bool, Refused> {
        let invalid = refused(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid);
        if tenant.group(group).is_none_or(|group| !group.is_assigned()) {
            return Err(refused(ReasonCode::TOPIC_NAME_INVALID, PublishRefusal::TopicInvalid));
        }
        let message = self.readable(m)?;
        let put = Put::parse(message.payload()).map_err(|_| invalid)?;
        let mark = self.mark(m, &Payload::new(message.payload()));
        let what = What::Put { put: Box::new(put), group: group.into(), message, mark };
        self.send(Errand { tenant: tenant.name().into(), what }, m.qos != QoS::AtMostOnce).map(|()| true)
    }

    fn control(&mut self, tenant: &Tenant, verb: &str, m: &MessageRef<'_>) -> Result<bool, Refused> {
        let message = self.readable(m)?;
        let unserved = refused(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, PublishRefusal::Desk);
        let control = Control::parse(verb, message.payload()).ok_or(unserved)?;
        let invalid = refused(ReasonCode::PAYLOAD_FORMAT_INVALID, PublishRefusal::PayloadInvalid);
        let control = control.map_err(|_| invalid)?;
        let back = self.back_to(m, "")?;
        let what = What::Control(Box::new(control), back);
        self.send(Errand { tenant: tenant.name().into(), what }, m.qos != QoS::AtMostOnce).map(|()| true)
    }
}
