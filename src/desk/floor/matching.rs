//! Who gets whom: an agent for a conversation that looks for one, a conversation for an agent that has room.
//!
//! Both take the head of an ordered list for each class that comes into question, or, if a model has a say, the first
//! few (`scoring`); nobody is looked through.

use super::changes::{Instruction, OfferNote, OfferWhy, Phase, Reason};
use super::conversation::{Conversation, Offer, Transfer};
use super::line::Spot;
use super::scoring::{Rank, rank};
use super::{Floor, OfferId};

/// What was found for an agent: the score, when it came, its key.
type Found = (i64, std::cmp::Reverse<(u64, u32)>);

impl Floor {
    /// Finds what an agent with room can take.
    pub(super) fn serve(&mut self, agent: u32) {
        while let Some((conversation, why)) = self.best_for(agent) {
            let score = self.score(conversation, agent).unwrap_or(0);
            self.offer(conversation, agent, why, score);
        }
    }

    /// The conversation that is next for an agent, if it has room for any.
    fn best_for(&self, key: u32) -> Option<(u32, OfferWhy)> {
        let agent = self.agents.get(key as usize).filter(|agent| agent.attends())?;
        let mut best: Option<(Found, OfferWhy)> = None;
        let mut consider = |spot: Spot, score: i64, why: OfferWhy| {
            let found = (score, std::cmp::Reverse((spot.arrived, spot.conversation)));
            if best.as_ref().is_none_or(|(before, _)| found > *before) {
                best = Some((found, why));
            }
        };
        for place in &agent.places {
            let Some(class) = self.classes.get(place.class) else { continue };
            let Some(queue) = self.queues.get(usize::from(class.want.group)) else { continue };
            if !agent.has_room(class.want.weight) {
                continue;
            }
            let order = &queue.settings.order;
            let mut waiting = class.line.iter(order, self.now);
            if let Some(spot) = waiting.find(|spot| !self.refuses(spot.conversation, key)) {
                consider(spot, spot.score(order, self.now), OfferWhy::Queue);
            }
        }
        for &reserved in &agent.reserved {
            let Some(conversation) = self.conversations.get(reserved as usize) else { continue };
            let Some(queue) = self.queues.get(usize::from(conversation.queue())) else { continue };
            if agent.has_room(conversation.weight) {
                let order = &queue.settings.order;
                let spot = Spot::new(order, conversation.priority, conversation.arrived, reserved, self.now);
                consider(spot, spot.score(order, self.now), OfferWhy::Sticky);
            }
        }
        let ((_, std::cmp::Reverse((_, conversation))), why) = best?;
        let transfers = self.conversations.get(conversation as usize)?.transfer.is_some();
        Some((conversation, if transfers { OfferWhy::Transfer } else { why }))
    }

    fn refuses(&self, conversation: u32, agent: u32) -> bool {
        self.conversations.get(conversation as usize).is_none_or(|c| c.refuses(agent, self.now))
    }

    /// Finds an agent for a conversation that waits.
    pub(super) fn seek(&mut self, key: u32) {
        let Some(conversation) = self.conversations.get(key as usize) else { return };
        if let Some((agent, _)) = conversation.reserved {
            // It is there for it alone.
            return self.free.push(agent);
        }
        let mut best: Option<(Rank, u32)> = None;
        for agent in self.shortlist(conversation) {
            let Some(rank) = self.rank_of(conversation, agent) else { continue };
            if best.as_ref().is_none_or(|(before, _)| rank > *before) {
                best = Some((rank, agent));
            }
        }
        if let Some(((score, ..), agent)) = best {
            let transfers = conversation.transfer.is_some();
            self.offer(key, agent, if transfers { OfferWhy::Transfer } else { OfferWhy::Queue }, score);
        }
    }

    /// An agent's score for a conversation, in thousandths of a point.
    pub(super) fn score(&self, conversation: u32, agent: u32) -> Option<i64> {
        self.rank_of(self.conversations.get(conversation as usize)?, agent).map(|(score, ..)| score)
    }

    fn rank_of(&self, conversation: &Conversation, agent: u32) -> Option<Rank> {
        let agent = self.agents.get(agent as usize)?;
        Some(rank(&self.terms(conversation, agent)?, agent))
    }

    fn next_offer(&mut self) -> OfferId {
        self.next_offer = self.next_offer.wrapping_add(1);
        u128::from(self.now) << 80 | u128::from(self.next_offer)
    }

    /// Offers a conversation to an agent with room, or assigns it if nobody is to be asked.
    pub(super) fn offer(&mut self, key: u32, agent: u32, why: OfferWhy, score: i64) {
        self.unqueue(key);
        let id = self.next_offer();
        let Some(conversation) = self.conversations.get(key as usize) else { return };
        let (settings, weight) = (self.settings(conversation.queue()), conversation.weight);
        let transferring = conversation.transfer.is_some();
        if let Some(state) = self.agents.get_mut(agent as usize) {
            state.used += u32::from(weight);
            state.offered.insert(key);
        }
        self.reseat(agent);
        if settings.auto_accept {
            return self.give(key, agent, Reason::AutoAccepted);
        }
        let offer = Offer { id, agent, deadline: self.now + settings.offer_ms, score, why };
        self.offers.insert(id, key);
        if let Some(conversation) = self.conversations.get_mut(key as usize) {
            conversation.offer = Some(offer);
        }
        self.shift(key, if transferring { Phase::Transferring } else { Phase::Offered }, Reason::Matched);
        self.note_offer(key, &offer, why);
        self.rearm(key);
    }

    pub(super) fn note_offer(&mut self, key: u32, offer: &Offer, why: OfferWhy) {
        let (Some(conversation), Some(agent)) =
            (self.conversations.get(key as usize), self.agents.get(offer.agent as usize))
        else {
            return;
        };
        let note = OfferNote {
            agent: agent.name.clone(),
            offer: offer.id,
            conversation: conversation.id,
            customer: conversation.customer.clone(),
            group: self.group_name(conversation.queue()),
            preview: conversation.preview.clone(),
            deadline: offer.deadline,
            score: offer.score,
            why,
        };
        self.changes.offers.push(note);
    }

    /// A conversation is an agent's, whose capacity it already takes. No offer of it is open.
    pub(super) fn give(&mut self, key: u32, agent: u32, reason: Reason) {
        let now = self.now;
        let Some(conversation) = self.conversations.get_mut(key as usize) else { return };
        let (weight, before) = (conversation.weight, conversation.agent.replace(agent));
        let waited = before.is_none().then(|| now.saturating_sub(conversation.arrived));
        let group = conversation.queue();
        conversation.group = group;
        conversation.transfer = None;
        conversation.added.clear();
        conversation.refused.clear();
        conversation.orphan_at = u64::MAX;
        if let Some(state) = self.agents.get_mut(agent as usize) {
            state.offered.remove(&key);
            state.holds.insert(key);
            state.idle_since = now;
            state.lapses = 0;
        }
        if let Some(waited) = waited {
            self.measure(group, waited);
        }
        self.shift(key, Phase::Assigned, reason);
        let group = self.group_name(group);
        if let Some(state) = self.agents.get(agent as usize) {
            let (agent, bot) = (state.name.clone(), state.bot);
            self.instruct(key, Instruction::Give { agent, group, bot });
        }
        self.reseat(agent);
        if let Some(before) = before.filter(|before| *before != agent) {
            self.free_up(before, key, weight);
        }
        self.rearm(key);
    }

    /// An offer was not answered in time.
    pub(super) fn lapse(&mut self, key: u32) {
        let Some(agent) = self.conversations.get(key as usize).and_then(Conversation::offered_to) else {
            return;
        };
        let most = self.conversations.get(key as usize).map_or(1, |c| self.settings(c.queue()).lapses);
        if let Some(state) = self.agents.get_mut(agent as usize) {
            state.lapses = state.lapses.saturating_add(1);
            state.aside |= state.lapses >= most;
        }
        self.decline(key, Reason::Lapsed);
        if self.agents.get(agent as usize).is_some_and(|state| state.aside) {
            self.step_away(agent);
        }
    }

    /// An offer is over without being accepted: the next agent.
    pub(super) fn decline(&mut self, key: u32, reason: Reason) {
        let transfer = self.conversations.get(key as usize).and_then(|c| c.transfer);
        let agent = self.end_offer(key, reason);
        self.refuse(key, agent);
        match transfer {
            None => {
                self.shift(key, Phase::Queued, reason);
                self.enqueue(key, false);
            }
            Some(Transfer::Group(_)) => {
                self.shift(key, Phase::Transferring, reason);
                self.enqueue(key, false);
            }
            // There is nobody else to be asked: the first agent keeps it.
            Some(Transfer::Agent(_)) => {
                if let Some(conversation) = self.conversations.get_mut(key as usize) {
                    conversation.transfer = None;
                }
                self.shift(key, Phase::Assigned, Reason::TransferFailed);
                self.rearm(key);
            }
        }
    }
}
