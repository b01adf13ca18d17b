//! The floor of one tenant: its agents, and the conversations of its groups in `assigned` mode.
//!
//! Commands come in with the time, [`Changes`] go out: whoever drives it stores them first and announces them then.
//! Everything is found by ordered lists and tables, nothing by looking through all: see `line`, `roster` and `classes`.
//! The time is milliseconds since the epoch and never goes back.

mod agent;
mod answers;
mod changes;
mod classes;
mod conversation;
mod deadlines;
mod draining;
mod line;
mod matching;
mod presence;
mod queueing;
mod records;
mod roster;
mod scoring;
mod sorted;
mod view;

use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;

pub use agent::{Agent, Link, Presence, Show};
pub use answers::{Answer, Destination, Done, Verb};
pub use changes::{
    Changes, ConversationId, Ended, Event, Instruction, OfferId, OfferNote, OfferWhy, Order, Phase, Reason,
};
pub use conversation::{Conversation, Opening};
pub use records::{RecordError, Restored};
pub use view::{Candidate, Prospect, QueueView, Standing, Term};

use super::assigned::{Assigned, Turned};
use super::model::Fields;
use classes::Classes;
use deadlines::{Deadlines, Due};
use view::Measured;

type Keys<K> = HashMap<K, u32, ahash::RandomState>;

/// A group as the floor knows it.
#[derive(Debug, Clone)]
struct Queue {
    name: Arc<str>,
    settings: Arc<Assigned>,
    /// Where its model's fields of the customer are among the floor's.
    columns: Arc<[u16]>,
    /// It takes no new conversations.
    drained: bool,
    /// Conversations that wait and are not being offered.
    queued: u32,
    measured: Measured,
    dirty: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Floor {
    queues: Vec<Queue>,
    places: HashMap<Arc<str>, u16, ahash::RandomState>,
    /// What the models of all groups look at of a customer.
    fields: Fields,
    classes: Classes,
    agents: Slab<Agent>,
    agent_keys: Keys<Arc<str>>,
    conversations: Slab<Conversation>,
    conversation_keys: Keys<ConversationId>,
    offers: Keys<OfferId>,
    /// The number of the next offer.
    next_offer: u64,
    deadlines: Deadlines,
    /// Conversations that look for an agent, and agents that may have room, before a command is over.
    seeking: Vec<u32>,
    free: Vec<u32>,
    changes: Changes,
    now: u64,
}

/// What cannot be done, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The conversation is over, or never was.
    #[error("there is no such conversation, or it is over")]
    NoConversation,
    /// The offer is over, or never was: too late.
    #[error("the offer is open no longer")]
    NoOffer,
    /// The conversation, or the offer, is somebody else's.
    #[error("it is not this agent's")]
    NotYours,
    /// Not in this phase of the conversation.
    #[error("not in this phase of the conversation")]
    NotNow,
    /// No group of this name takes conversations.
    #[error("no group of this name takes conversations")]
    NoGroup,
    /// The agent is not known.
    #[error("no agent of this name has ever been present")]
    NoAgent,
    /// There are as many agents as there may be, and all of them are there or have been lately.
    #[error("there are too many agents")]
    TooMany,
    /// The agent is not ready, not connected, not in the group, or has no room.
    #[error("the agent cannot take it now")]
    AgentBusy,
}

impl Wrong {
    /// A word for programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoConversation => "no_conversation",
            Self::NoOffer => "offer_over",
            Self::NotYours => "not_yours",
            Self::NotNow => "not_now",
            Self::NoGroup => "no_group",
            Self::NoAgent => "no_agent",
            Self::TooMany => "too_many",
            Self::AgentBusy => "agent_busy",
        }
    }
}

impl Floor {
    /// A floor with these groups and nobody on it. `seed` tells its offers from those of earlier floors.
    pub fn new(groups: impl IntoIterator<Item = (Arc<str>, Arc<Assigned>)>, seed: u64) -> Self {
        let groups: Vec<(Arc<str>, Arc<Assigned>)> = groups.into_iter().collect();
        let fields = Fields::of(groups.iter().filter_map(|(_, settings)| settings.scorer.as_deref()));
        let queues: Vec<Queue> = groups
            .into_iter()
            .map(|(name, settings)| Queue {
                name,
                columns: settings.scorer.iter().flat_map(|scorer| fields.columns(scorer)).collect(),
                settings,
                drained: false,
                queued: 0,
                measured: Measured::default(),
                dirty: false,
            })
            .collect();
        let places = (0_u16..).zip(&queues).map(|(place, queue)| (queue.name.clone(), place)).collect();
        Self {
            queues,
            places,
            fields,
            classes: Classes::default(),
            agents: Slab::new(),
            agent_keys: Keys::default(),
            conversations: Slab::new(),
            conversation_keys: Keys::default(),
            offers: Keys::default(),
            next_offer: seed,
            deadlines: Deadlines::default(),
            seeking: Vec::new(),
            free: Vec::new(),
            changes: Changes::default(),
            now: 0,
        }
    }

    /// What has changed since this was asked last.
    pub fn take_changes(&mut self) -> Changes {
        let changes = std::mem::take(&mut self.changes);
        for key in &changes.conversations {
            if let Some(conversation) = self.conversations.get_mut(*key as usize) {
                conversation.dirty = false;
            }
        }
        for key in &changes.agents {
            if let Some(agent) = self.agents.get_mut(*key as usize) {
                agent.dirty = false;
            }
        }
        for place in &changes.groups {
            if let Some(queue) = self.queues.get_mut(usize::from(*place)) {
                queue.dirty = false;
            }
        }
        changes
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<u64> {
        self.deadlines.next()
    }

    /// Does what has become due.
    pub fn tick(&mut self, now: u64) {
        self.begin(now);
        self.settle();
    }

    /// A conversation comes. One that is there already is left as it is.
    ///
    /// # Errors
    /// [`Wrong::NoGroup`].
    pub fn open(&mut self, now: u64, opening: Opening) -> Result<(), Wrong> {
        self.begin(now);
        let group = self.places.get(&opening.group).copied().ok_or(Wrong::NoGroup)?;
        if self.conversation_keys.contains_key(&opening.conversation) {
            return Ok(());
        }
        let key = self.admit(opening, group);
        self.shift(key, Phase::Queued, Reason::Arrived);
        self.enqueue(key, true);
        self.settle();
        Ok(())
    }

    /// A customer leaves.
    ///
    /// # Errors
    /// [`Wrong::NoConversation`].
    pub fn leave(&mut self, now: u64, conversation: ConversationId) -> Result<(), Wrong> {
        self.begin(now);
        let key = self.find(conversation)?;
        match self.conversations.get(key as usize).map(|c| c.phase) {
            Some(Phase::Wrapup) => return Err(Wrong::NoConversation),
            Some(phase) if phase.waits() => {
                self.end_offer(key, Reason::CustomerLeft);
                self.close(key, Phase::Abandoned, Reason::CustomerLeft, None);
            }
            _ => self.complete(key, Reason::CustomerLeft),
        }
        self.settle();
        Ok(())
    }

    fn find(&self, conversation: ConversationId) -> Result<u32, Wrong> {
        self.conversation_keys.get(&conversation).copied().ok_or(Wrong::NoConversation)
    }

    fn begin(&mut self, now: u64) {
        self.now = self.now.max(now);
        self.settle();
    }

    /// Brings together what can be brought together, and does what is due; each may lead to the other.
    fn settle(&mut self) {
        loop {
            if let Some(agent) = self.free.pop() {
                self.serve(agent);
            } else if let Some(conversation) = self.seeking.pop() {
                self.seek(conversation);
            } else {
                match self.deadlines.pop(self.now) {
                    Some(Due::Conversation(key)) => self.look_at_conversation(key),
                    Some(Due::Agent(key)) => self.look_at_agent(key),
                    None => return,
                }
            }
        }
    }

    fn settings(&self, place: u16) -> Arc<Assigned> {
        self.queues.get(usize::from(place)).map(|queue| queue.settings.clone()).unwrap_or_default()
    }

    fn group_name(&self, place: u16) -> Arc<str> {
        self.queues.get(usize::from(place)).map(|queue| queue.name.clone()).unwrap_or_default()
    }

    /// Notes that a conversation has changed.
    fn touch(&mut self, key: u32) {
        if let Some(conversation) = self.conversations.get_mut(key as usize)
            && !std::mem::replace(&mut conversation.dirty, true)
        {
            self.changes.conversations.push(key);
        }
    }

    fn touch_group(&mut self, place: u16) {
        if let Some(queue) = self.queues.get_mut(usize::from(place))
            && !std::mem::replace(&mut queue.dirty, true)
        {
            self.changes.groups.push(place);
        }
    }

    /// Brings a conversation into another phase.
    fn shift(&mut self, key: u32, to: Phase, reason: Reason) {
        let agents = &self.agents;
        let Some(conversation) = self.conversations.get_mut(key as usize) else { return };
        let from = std::mem::replace(&mut conversation.phase, to);
        conversation.ver += 1;
        let agent = conversation.offer.map(|offer| offer.agent).or(conversation.agent);
        let event = Event {
            conversation: conversation.id,
            customer: conversation.customer.clone(),
            group: self
                .queues
                .get(usize::from(conversation.queue()))
                .map(|q| q.name.clone())
                .unwrap_or_default(),
            agent: agent.and_then(|agent| agents.get(agent as usize)).map(|agent| agent.name.clone()),
            ver: conversation.ver,
            at: self.now,
            from,
            to,
            reason,
        };
        self.changes.events.push(event);
        let holder = conversation.agent;
        self.touch(key);
        if let Some(holder) = holder {
            // Its state says what each of its conversations is in.
            self.touch_agent(holder);
        }
    }

    fn instruct(&mut self, key: u32, what: Instruction) {
        if let Some(conversation) = self.conversations.get(key as usize) {
            let (customer, conversation) = (conversation.customer.clone(), conversation.id);
            self.changes.orders.push(Order { customer, conversation, what });
        }
    }

    /// A conversation is over for its customer: its agent writes it up, if it has one and the group gives time for that.
    fn complete(&mut self, key: u32, reason: Reason) {
        self.end_offer(key, reason);
        self.unqueue(key);
        let Some(conversation) = self.conversations.get(key as usize) else { return };
        let (wrapup_ms, has_agent) =
            (self.settings(conversation.group).wrapup_ms, conversation.agent.is_some());
        if wrapup_ms == 0 || !has_agent {
            return self.close(key, Phase::Closed, reason, None);
        }
        if let Some(conversation) = self.conversations.get_mut(key as usize) {
            conversation.transfer = None;
            conversation.orphan_at = u64::MAX;
            conversation.wrapup_until = self.now + wrapup_ms;
        }
        self.shift(key, Phase::Wrapup, reason);
        self.instruct(key, Instruction::Close { as_: Phase::Wrapup, tell: None });
        self.rearm(key);
    }

    /// A conversation is over and forgotten. No offer of it is open.
    fn close(&mut self, key: u32, phase: Phase, reason: Reason, tell: Option<Arc<str>>) {
        self.unqueue(key);
        let told = self.conversations.get(key as usize).is_some_and(|c| c.phase == Phase::Wrapup);
        self.shift(key, phase, reason);
        if !told {
            self.instruct(key, Instruction::Close { as_: phase, tell });
        }
        self.drop_agent(key);
        let Some(conversation) = self.conversations.try_remove(key as usize) else { return };
        self.deadlines.remove(conversation.due, Due::Conversation(key));
        self.conversation_keys.remove(&conversation.id);
        if conversation.dirty {
            self.changes.conversations.retain(|dirty| *dirty != key);
        }
        let group = self.group_name(conversation.group);
        let (conversation, customer) = (conversation.id, conversation.customer);
        self.changes.ended.push(Ended { conversation, customer, group });
    }

    /// A conversation has no agent any more.
    fn drop_agent(&mut self, key: u32) {
        let Some(conversation) = self.conversations.get_mut(key as usize) else { return };
        let weight = conversation.weight;
        conversation.orphan_at = u64::MAX;
        if let Some(agent) = conversation.agent.take() {
            self.free_up(agent, key, weight);
        }
    }

    /// An agent does not have, or is not offered, a conversation any more.
    fn free_up(&mut self, agent: u32, conversation: u32, weight: u16) {
        if let Some(state) = self.agents.get_mut(agent as usize) {
            state.holds.remove(&conversation);
            state.offered.remove(&conversation);
            state.used = state.used.saturating_sub(u32::from(weight));
        }
        self.reseat(agent);
        self.free.push(agent);
    }

    /// Puts a conversation back into its queue: it has waited since it first came.
    fn requeue(&mut self, key: u32, reason: Reason, not_to: Option<u32>) {
        self.end_offer(key, reason);
        self.unqueue(key);
        self.refuse(key, not_to);
        if let Some(conversation) = self.conversations.get_mut(key as usize) {
            // A transfer to a group goes on without the one who began it.
            conversation.group = conversation.queue();
            conversation.transfer = None;
            conversation.queued_at = self.now;
            conversation.step = 0;
        }
        self.shift(key, Phase::Queued, reason);
        self.drop_agent(key);
        if let Some(conversation) = self.conversations.get(key as usize) {
            let group = self.group_name(conversation.group);
            self.instruct(key, Instruction::Take { group });
        }
        self.enqueue(key, false);
    }

    /// Has an agent not asked for a conversation for a while.
    fn refuse(&mut self, key: u32, agent: Option<u32>) {
        let (Some(agent), Some(conversation)) = (agent, self.conversations.get(key as usize)) else { return };
        let until = self.now + self.settings(conversation.queue()).reject_ms;
        let now = self.now;
        if let Some(conversation) = self.conversations.get_mut(key as usize) {
            conversation.refused.retain(|refused| refused.agent != agent && refused.until > now);
            conversation.refused.push(conversation::Refused { agent, until });
        }
    }

    /// A conversation has waited as long as it may.
    fn expire(&mut self, key: u32) {
        let Some(conversation) = self.conversations.get(key as usize) else { return };
        let (arrived, group) = (conversation.arrived, conversation.group);
        match self.settings(group).expired.clone() {
            Turned::To(name) => match self.places.get(&name).copied().filter(|to| *to != group) {
                Some(to) => {
                    // Its patience begins anew: its place in the order does not.
                    debug_assert!(arrived <= self.now);
                    self.move_to(key, to, Reason::WaitedTooLong);
                }
                None => self.close(key, Phase::Expired, Reason::WaitedTooLong, None),
            },
            Turned::Told(text) => self.close(key, Phase::Expired, Reason::WaitedTooLong, Some(text)),
            Turned::Refused => self.close(key, Phase::Expired, Reason::WaitedTooLong, None),
        }
    }

    /// A conversation that waits goes to another group.
    fn move_to(&mut self, key: u32, group: u16, reason: Reason) {
        self.unqueue(key);
        if let Some(conversation) = self.conversations.get_mut(key as usize) {
            let left = std::mem::replace(&mut conversation.group, group);
            let left = self.queues.get(usize::from(left)).map(|queue| queue.name.clone());
            self.changes.moved.extend(left.map(|left| (conversation.id, left)));
            conversation.added.clear();
            conversation.queued_at = self.now;
            conversation.step = 0;
        }
        self.shift(key, Phase::Queued, reason);
        self.enqueue(key, false);
    }
}

#[cfg(test)]
mod tests;
