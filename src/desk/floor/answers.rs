//! What agents and supervisors do with conversations.

use std::sync::Arc;

use super::changes::{ConversationId, OfferId, Phase, Reason};
use super::conversation::Transfer;
use super::{Floor, OfferWhy, Wrong};

/// Where a transfer goes, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To whoever of a group takes it.
    Group(Arc<str>),
    /// To one agent.
    Agent(Arc<str>),
}

/// What an agent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Takes what it is offered.
    Accept(OfferId),
    /// Does not.
    Reject(OfferId),
    /// Gives one of its conversations back.
    Release(ConversationId),
    /// Puts one aside.
    Hold(ConversationId),
    /// Goes on with it, or calls a transfer off.
    Resume(ConversationId),
    /// Is done with it; again: has written it up.
    Complete(ConversationId),
    /// Hands it over.
    Transfer(ConversationId, Destination),
}

/// An agent's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who.
    pub agent: Arc<str>,
    /// What.
    pub verb: Verb,
}

/// Which conversation an answer has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done(pub ConversationId);

impl Floor {
    /// Does what an agent wants done.
    ///
    /// # Errors
    /// [`Wrong`]: nothing has changed.
    pub fn answer(&mut self, now: u64, answer: &Answer) -> Result<Done, Wrong> {
        self.begin(now);
        let agent = self.agent_keys.get(&answer.agent).copied().ok_or(Wrong::NoAgent)?;
        let done = match &answer.verb {
            Verb::Accept(offer) => self.accept(agent, *offer),
            Verb::Reject(offer) => self.reject(agent, *offer),
            Verb::Release(conversation) => self.release(agent, *conversation),
            Verb::Hold(conversation) => self.hold(agent, *conversation),
            Verb::Resume(conversation) => self.resume(agent, *conversation),
            Verb::Complete(conversation) => self.finish(agent, *conversation),
            Verb::Transfer(conversation, to) => self.hand_over(agent, *conversation, to),
        };
        self.settle();
        done
    }

    fn accept(&mut self, agent: u32, offer: OfferId) -> Result<Done, Wrong> {
        let Some(&key) = self.offers.get(&offer) else { return self.accepted_before(agent, offer) };
        let conversation = self.conversations.get_mut(key as usize).ok_or(Wrong::NoOffer)?;
        let open = conversation.offer.take_if(|open| open.agent == agent).ok_or(Wrong::NotYours)?;
        conversation.accepted = open.id;
        let done = Done(conversation.id);
        self.offers.remove(&open.id);
        self.give(key, agent, Reason::Accepted);
        Ok(done)
    }

    /// An answer that comes twice is no mistake.
    fn accepted_before(&self, agent: u32, offer: OfferId) -> Result<Done, Wrong> {
        let holds = self.agents.get(agent as usize).map(|state| &state.holds).ok_or(Wrong::NoAgent)?;
        let held = holds.iter().filter_map(|key| self.conversations.get(*key as usize));
        held.into_iter().find(|c| c.accepted == offer).map(|c| Done(c.id)).ok_or(Wrong::NoOffer)
    }

    fn reject(&mut self, agent: u32, offer: OfferId) -> Result<Done, Wrong> {
        let key = self.offers.get(&offer).copied().ok_or(Wrong::NoOffer)?;
        let conversation = self.conversations.get(key as usize).ok_or(Wrong::NoOffer)?;
        if conversation.offered_to() != Some(agent) {
            return Err(Wrong::NotYours);
        }
        let done = Done(conversation.id);
        if let Some(state) = self.agents.get_mut(agent as usize) {
            state.lapses = 0;
        }
        self.decline(key, Reason::Rejected);
        Ok(done)
    }

    /// One of an agent's conversations.
    fn own(&self, agent: u32, conversation: ConversationId) -> Result<(u32, Phase), Wrong> {
        let key = self.find(conversation)?;
        let state = self.conversations.get(key as usize).ok_or(Wrong::NoConversation)?;
        if state.agent == Some(agent) { Ok((key, state.phase)) } else { Err(Wrong::NotYours) }
    }

    fn release(&mut self, agent: u32, conversation: ConversationId) -> Result<Done, Wrong> {
        let (key, phase) = self.own(agent, conversation)?;
        if phase == Phase::Wrapup {
            return Err(Wrong::NotNow);
        }
        self.requeue(key, Reason::Released, Some(agent));
        Ok(Done(conversation))
    }

    fn hold(&mut self, agent: u32, conversation: ConversationId) -> Result<Done, Wrong> {
        match self.own(agent, conversation)? {
            (key, Phase::Assigned) => self.shift(key, Phase::Held, Reason::Held),
            (_, Phase::Held) => {}
            _ => return Err(Wrong::NotNow),
        }
        Ok(Done(conversation))
    }

    fn resume(&mut self, agent: u32, conversation: ConversationId) -> Result<Done, Wrong> {
        match self.own(agent, conversation)? {
            (key, Phase::Held) => self.shift(key, Phase::Assigned, Reason::Resumed),
            (key, Phase::Transferring) => {
                self.end_offer(key, Reason::Resumed);
                self.unqueue(key);
                if let Some(conversation) = self.conversations.get_mut(key as usize) {
                    conversation.transfer = None;
                }
                self.shift(key, Phase::Assigned, Reason::Resumed);
                self.rearm(key);
            }
            (_, Phase::Assigned) => {}
            _ => return Err(Wrong::NotNow),
        }
        Ok(Done(conversation))
    }

    fn finish(&mut self, agent: u32, conversation: ConversationId) -> Result<Done, Wrong> {
        match self.own(agent, conversation)? {
            (key, Phase::Wrapup) => self.close(key, Phase::Closed, Reason::WrittenUp, None),
            (key, _) => self.complete(key, Reason::Completed),
        }
        Ok(Done(conversation))
    }

    fn hand_over(&mut self, agent: u32, id: ConversationId, to: &Destination) -> Result<Done, Wrong> {
        let (key, phase) = self.own(agent, id)?;
        if !matches!(phase, Phase::Assigned | Phase::Held) {
            return Err(Wrong::NotNow);
        }
        match to {
            Destination::Group(name) => {
                let group = self.places.get(name).copied().ok_or(Wrong::NoGroup)?;
                if let Some(conversation) = self.conversations.get_mut(key as usize) {
                    conversation.transfer = Some(Transfer::Group(group));
                }
                self.shift(key, Phase::Transferring, Reason::Transfer);
                self.enqueue(key, false);
            }
            Destination::Agent(name) => {
                let other = self.agent_keys.get(name).copied().ok_or(Wrong::NoAgent)?;
                let fits = other != agent && self.can_take(other, key);
                if !fits {
                    return Err(Wrong::AgentBusy);
                }
                if let Some(conversation) = self.conversations.get_mut(key as usize) {
                    conversation.transfer = Some(Transfer::Agent(other));
                }
                self.shift(key, Phase::Transferring, Reason::Transfer);
                let score = self.score(key, other).unwrap_or(0);
                self.offer(key, other, OfferWhy::Transfer, score);
            }
        }
        Ok(Done(id))
    }

    /// Whether an agent is there and has room for a conversation; its group and skills do not matter when it is named.
    fn can_take(&self, agent: u32, conversation: u32) -> bool {
        let weight = self.conversations.get(conversation as usize).map_or(1, |c| c.weight);
        self.agents.get(agent as usize).is_some_and(|state| state.has_room(weight))
    }

    /// A supervisor puts a conversation back into its queue, whoever has it.
    ///
    /// # Errors
    /// [`Wrong::NoConversation`], [`Wrong::NotNow`] if it is being written up.
    pub fn put_back(&mut self, now: u64, conversation: ConversationId) -> Result<Done, Wrong> {
        self.begin(now);
        let key = self.find(conversation)?;
        let phase = self.conversations.get(key as usize).map(|c| c.phase);
        if phase == Some(Phase::Wrapup) {
            return Err(Wrong::NotNow);
        }
        if phase != Some(Phase::Queued) {
            self.requeue(key, Reason::Requeued, None);
        }
        self.settle();
        Ok(Done(conversation))
    }

    /// A supervisor ends a conversation at once.
    ///
    /// # Errors
    /// [`Wrong::NoConversation`].
    pub fn end(&mut self, now: u64, conversation: ConversationId) -> Result<Done, Wrong> {
        self.begin(now);
        let key = self.find(conversation)?;
        self.end_offer(key, Reason::Ended);
        self.close(key, Phase::Closed, Reason::Ended, None);
        self.settle();
        Ok(Done(conversation))
    }

    /// A supervisor gives a conversation to an agent, itself perhaps, without asking. `override_`: even beyond that
    /// agent's capacity, or if it is not ready.
    ///
    /// # Errors
    /// [`Wrong`]: nothing has changed.
    pub fn take_over(
        &mut self,
        now: u64,
        conversation: ConversationId,
        agent: &str,
        override_: bool,
    ) -> Result<Done, Wrong> {
        self.begin(now);
        let key = self.find(conversation)?;
        let to = self.agent_keys.get(agent).copied().ok_or(Wrong::NoAgent)?;
        let state = self.conversations.get(key as usize).ok_or(Wrong::NoConversation)?;
        if state.phase == Phase::Wrapup {
            return Err(Wrong::NotNow);
        }
        if state.agent == Some(to) && state.phase == Phase::Assigned {
            return Ok(Done(conversation));
        }
        let already = state.agent == Some(to);
        if !override_ && !already && !self.can_take(to, key) {
            return Err(Wrong::AgentBusy);
        }
        self.end_offer(key, Reason::TakenOver);
        self.unqueue(key);
        if let Some(conversation) = self.conversations.get_mut(key as usize) {
            // It stays in its own group.
            conversation.transfer = None;
            let weight = conversation.weight;
            if let Some(state) = self.agents.get_mut(to as usize).filter(|_| !already) {
                state.used += u32::from(weight);
            }
        }
        self.give(key, to, Reason::TakenOver);
        self.settle();
        Ok(Done(conversation))
    }

    /// Whether an agent could be given a conversation of its queue now: for the invariants.
    #[cfg(test)]
    pub(super) fn could_take(&self, agent: u32, conversation: u32) -> bool {
        let (Some(state), Some(waits)) =
            (self.agents.get(agent as usize), self.conversations.get(conversation as usize))
        else {
            return false;
        };
        let groups = std::iter::once(waits.queue()).chain(waits.added.iter().copied());
        let want = |group| super::classes::Want {
            group,
            weight: waits.weight,
            skills: waits.skills.clone(),
            language: None,
        };
        state.has_room(waits.weight)
            && !waits.refuses(agent, self.now)
            && groups.into_iter().any(|group| super::classes::eligible(state, &want(group)))
    }
}
