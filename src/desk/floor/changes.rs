//! What came of what was told to the floor: to be stored first, announced then.

use std::sync::Arc;

use serde::Serialize;

/// A conversation's id: the bits of its ULID.
pub type ConversationId = u128;

/// An offer's id: the bits of its ULID.
pub type OfferId = u128;

/// What a conversation is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It has just come.
    New,
    /// It waits for an agent.
    Queued,
    /// It is offered to one.
    Offered,
    /// It is one's.
    Assigned,
    /// It is one's who does something else meanwhile.
    Held,
    /// It is one's until another has accepted it.
    Transferring,
    /// It is over, and its agent still writes it up.
    Wrapup,
    /// It is over.
    Closed,
    /// Its customer has left before anybody was found.
    Abandoned,
    /// Nobody was found in time.
    Expired,
}

impl Phase {
    /// Its name, as clients read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Queued => "queued",
            Self::Offered => "offered",
            Self::Assigned => "assigned",
            Self::Held => "held",
            Self::Transferring => "transferring",
            Self::Wrapup => "wrapup",
            Self::Closed => "closed",
            Self::Abandoned => "abandoned",
            Self::Expired => "expired",
        }
    }

    /// Whether no agent has it.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Queued | Self::Offered)
    }

    /// Whether it is over for its customer.
    pub const fn over(self) -> bool {
        matches!(self, Self::Wrapup | Self::Closed | Self::Abandoned | Self::Expired)
    }
}

/// Why a conversation is in another phase, or has another place in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A customer, or a backend, has begun it.
    Arrived,
    /// An agent was found.
    Matched,
    /// It is assigned without an offer.
    AutoAccepted,
    /// The agent has accepted the offer.
    Accepted,
    /// The agent has rejected the offer.
    Rejected,
    /// The offer was not answered in time.
    Lapsed,
    /// The agent went away, or was drained, before it had answered.
    Withdrawn,
    /// Its agent has given it back.
    Released,
    /// Its agent does something else meanwhile.
    Held,
    /// Its agent goes on with it, or has called a transfer off.
    Resumed,
    /// Its agent is done with it.
    Completed,
    /// What its agent had to write up is written.
    WrittenUp,
    /// Its customer has left.
    CustomerLeft,
    /// It has waited as long as it may.
    WaitedTooLong,
    /// Its agent was offline for longer than it may.
    AgentLost,
    /// Its agent hands it over.
    Transfer,
    /// Nobody has taken it over.
    TransferFailed,
    /// A step of its queue: another group, another priority, a skill less.
    Step,
    /// A supervisor has put it back.
    Requeued,
    /// A supervisor has given it to somebody.
    TakenOver,
    /// A supervisor has ended it.
    Ended,
    /// The broker has started anew, and its offer is made again.
    Restarted,
}

/// A step in the life of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub conversation: ConversationId,
    /// Whose.
    pub customer: Arc<str>,
    /// In which group now.
    pub group: Arc<str>,
    /// The agent that it is offered to, or that has it; of a step out of that, the one that had.
    pub agent: Option<Arc<str>>,
    /// The conversation's version after it: one more than before.
    pub ver: u32,
    /// Milliseconds since the epoch.
    pub at: u64,
    /// The phase before.
    pub from: Phase,
    /// The phase after.
    pub to: Phase,
    /// Why.
    pub reason: Reason,
}

/// Something for the shard that has a conversation's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Whose.
    pub customer: Arc<str>,
    /// Which.
    pub conversation: ConversationId,
    /// What.
    pub what: Instruction,
}

/// What an [`Order`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Its messages go to this agent from now on, and what it has had so far; whatever it replies comes from it alone.
    Give {
        /// Who.
        agent: Arc<str>,
        /// In which group.
        group: Arc<str>,
        /// A program, not a person.
        bot: bool,
    },
    /// Its agent is there again: what it may have missed is sent again.
    Again,
    /// It has no agent any more.
    Take {
        /// The group it waits in.
        group: Arc<str>,
    },
    /// It is over: the customer's next message begins another one.
    Close {
        /// The phase that it ends in.
        as_: Phase,
        /// Something the customer is told.
        tell: Option<Arc<str>>,
    },
}

/// An offer is open, or no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferNote {
    /// To whom.
    pub agent: Arc<str>,
    /// Its id.
    pub offer: OfferId,
    /// Of which conversation.
    pub conversation: ConversationId,
    /// Whose.
    pub customer: Arc<str>,
    /// In which group.
    pub group: Arc<str>,
    /// What the customer has written, its beginning.
    pub preview: Arc<str>,
    /// When it lapses, in milliseconds since the epoch.
    pub deadline: u64,
    /// The agent's score in thousandths of a point.
    pub score: i64,
    /// Why it is made, or why it is open no longer.
    pub why: OfferWhy,
}

/// See [`OfferNote::why`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferWhy {
    /// Its turn in the queue has come.
    Queue,
    /// The agent had this customer before.
    Sticky,
    /// Another agent hands it over.
    Transfer,
    /// It is open no longer, for this reason.
    Over(Reason),
}

/// A conversation that is over and forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub conversation: ConversationId,
    /// Whose.
    pub customer: Arc<str>,
    /// The last group it was in.
    pub group: Arc<str>,
}

/// What came of what was told to the floor.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// In order.
    pub events: Vec<Event>,
    /// In order.
    pub orders: Vec<Order>,
    /// In order.
    pub offers: Vec<OfferNote>,
    /// Conversations that have changed, by their keys; none twice.
    pub conversations: Vec<u32>,
    /// Agents that have changed, by their keys; none twice.
    pub agents: Vec<u32>,
    /// Groups that have changed, by their places; none twice.
    pub groups: Vec<u16>,
    /// Groups that take no new conversations (`true`), or take them again. In order.
    pub drained: Vec<(Arc<str>, bool)>,
    /// Conversations that wait in another group than before, each with the group that it has left. In order.
    pub moved: Vec<(ConversationId, Arc<str>)>,
    /// Conversations that are gone.
    pub ended: Vec<Ended>,
    /// Agents that are forgotten, by name.
    pub forgotten: Vec<Arc<str>>,
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let Self { events, orders, offers, conversations, agents, groups, drained, moved, ended, forgotten } =
            self;
        events.is_empty()
            && orders.is_empty()
            && offers.is_empty()
            && conversations.is_empty()
            && agents.is_empty()
            && groups.is_empty()
            && drained.is_empty()
            && moved.is_empty()
            && ended.is_empty()
            && forgotten.is_empty()
    }
}
