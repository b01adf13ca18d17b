//! Into a queue and out of it.

use smallvec::SmallVec;

use super::changes::Phase;
use super::classes::{Class, Want, eligible};
use super::conversation::{Conversation, Opening};
use super::line::Spot;
use super::scoring::Wanted;
use super::{Floor, Reason};
use crate::desk::assigned::Order;

impl Floor {
    /// A new conversation, in no queue yet.
    pub(super) fn admit(&mut self, opening: Opening, group: u16) -> u32 {
        let Opening {
            conversation: id,
            customer,
            priority,
            mut skills,
            language,
            weight,
            previous,
            preview,
            arrived,
            inputs,
            ..
        } = opening;
        skills.sort_unstable();
        skills.dedup();
        let conversation = Conversation {
            id,
            customer,
            group,
            phase: Phase::New,
            ver: 0,
            priority,
            skills: skills.into(),
            language,
            weight: weight.max(1),
            arrived: arrived.min(self.now),
            preview,
            inputs,
            agent: None,
            queued_at: self.now,
            step: 0,
            added: SmallVec::new(),
            previous,
            reserved: None,
            offer: None,
            accepted: 0,
            transfer: None,
            refused: SmallVec::new(),
            orphan_at: u64::MAX,
            wrapup_until: u64::MAX,
            spots: SmallVec::new(),
            due: u64::MAX,
            dirty: false,
        };
        let key = self.conversations.insert(conversation) as u32;
        self.conversation_keys.insert(id, key);
        key
    }

    /// Puts a conversation into its queue, and has an agent looked for. `fresh`: it may wait for the agent that had its
    /// customer before.
    pub(super) fn enqueue(&mut self, key: u32, fresh: bool) {
        let Some(conversation) = self.conversations.get(key as usize) else { return };
        let (group, weight) = (conversation.queue(), conversation.weight);
        let (skills, language) = (conversation.skills.clone(), conversation.language.clone());
        let groups: SmallVec<[u16; 4]> =
            std::iter::once(group).chain(conversation.added.iter().copied()).collect();
        self.count_queued(group, 1);
        self.seeking.push(key);
        if fresh && self.reserve(key) {
            return self.rearm(key);
        }
        for place in groups {
            let want = Want { group: place, weight, skills: skills.clone(), language: language.clone() };
            let class = self.class_of(want);
            self.stand(key, class, place);
        }
        self.rearm(key);
    }

    /// Puts a conversation into one line.
    fn stand(&mut self, key: u32, class: u32, place: u16) {
        let (Some(conversation), Some(queue)) =
            (self.conversations.get_mut(key as usize), self.queues.get(usize::from(place)))
        else {
            return;
        };
        let order = &queue.settings.order;
        let spot = Spot::new(order, conversation.priority, conversation.arrived, key, self.now);
        if let Some(class) = self.classes.get_mut(class) {
            class.line.insert(spot);
        }
        conversation.spots.push((class, spot));
    }

    /// Takes a conversation out of its queue, if it is in it.
    pub(super) fn unqueue(&mut self, key: u32) {
        let Some(conversation) = self.conversations.get_mut(key as usize) else { return };
        let spots = std::mem::take(&mut conversation.spots);
        let reserved = conversation.reserved.take();
        if spots.is_empty() && reserved.is_none() {
            return;
        }
        for (class, spot) in spots {
            if let Some(class) = self.classes.get_mut(class) {
                class.line.remove(spot);
            }
        }
        if let Some(agent) = reserved.and_then(|(agent, _)| self.agents.get_mut(agent as usize)) {
            agent.reserved.remove(&key);
        }
        let group = conversation.queue();
        self.count_queued(group, -1);
    }

    fn count_queued(&mut self, group: u16, by: i32) {
        if let Some(queue) = self.queues.get_mut(usize::from(group)) {
            queue.queued = queue.queued.saturating_add_signed(by);
        }
        self.touch_group(group);
    }

    /// Has a conversation wait for the agent that had its customer before, if that one is there.
    fn reserve(&mut self, key: u32) -> bool {
        let Some(conversation) = self.conversations.get(key as usize) else { return false };
        let sticky_ms = self.settings(conversation.queue()).sticky_ms;
        let agent = conversation.previous.as_ref().and_then(|name| self.agent_keys.get(name)).copied();
        let want = Want {
            group: conversation.queue(),
            weight: conversation.weight,
            skills: conversation.skills.clone(),
            language: None,
        };
        let Some(key_of_agent) = agent.filter(|agent| self.keeps(*agent, &want)) else { return false };
        if conversation.refuses(key_of_agent, self.now) {
            return false;
        }
        let Some(agent) = self.agents.get_mut(key_of_agent as usize) else { return false };
        agent.reserved.insert(key);
        let until = self.now + sticky_ms;
        if let Some(conversation) = self.conversations.get_mut(key as usize) {
            conversation.reserved = Some((key_of_agent, until));
        }
        true
    }

    /// Whether conversations of a kind wait for an agent that had their customer before.
    pub(super) fn keeps(&self, agent: u32, want: &Want) -> bool {
        let agent = self.agents.get(agent as usize).filter(|_| self.settings(want.group).sticky_ms > 0);
        agent.is_some_and(|agent| agent.attends() && eligible(agent, want) && agent.capacity >= want.weight)
    }

    /// A conversation waits for that one agent no longer.
    pub(super) fn unreserve(&mut self, key: u32) {
        self.unqueue(key);
        self.enqueue(key, false);
    }

    /// Nothing waits for an agent any more: it has gone away.
    pub(super) fn unreserve_all(&mut self, agent: u32) {
        let reserved: Vec<u32> = self
            .agents
            .get(agent as usize)
            .map_or_else(Vec::new, |agent| agent.reserved.iter().copied().collect());
        for key in reserved {
            self.unreserve(key);
        }
    }

    /// How many are served before this one in its group's queue.
    pub(super) fn ahead_of(&self, key: u32) -> Option<usize> {
        let conversation = self.conversations.get(key as usize)?;
        let group = conversation.queue();
        let order = &self.queues.get(usize::from(group))?.settings.order;
        let spot = Spot::new(order, conversation.priority, conversation.arrived, key, self.now);
        Some(self.ahead_in(group, order, spot))
    }

    fn ahead_in(&self, group: u16, order: &Order, spot: Spot) -> usize {
        let score = spot.score(order, self.now);
        let classes = self.classes.all.iter().filter(|(_, class)| class.want.group == group);
        let ahead =
            |class: &Class| class.line.ahead_of(score, spot.arrived, spot.conversation, order, self.now);
        classes.map(|(_, class)| ahead(class)).sum()
    }

    /// The position that a conversation would get that came now.
    pub(super) fn place_of(&self, group: u16, wanted: &Wanted<'_>) -> usize {
        let Some(queue) = self.queues.get(usize::from(group)) else { return 1 };
        let order = &queue.settings.order;
        let spot = Spot::new(order, wanted.priority, wanted.arrived, u32::MAX, self.now);
        self.ahead_in(group, order, spot) + 1
    }

    /// An offer is over, if one is open: the agent has room again.
    pub(super) fn end_offer(&mut self, key: u32, reason: Reason) -> Option<u32> {
        let conversation = self.conversations.get_mut(key as usize)?;
        let (offer, weight) = (conversation.offer.take()?, conversation.weight);
        self.offers.remove(&offer.id);
        self.note_offer(key, &offer, super::OfferWhy::Over(reason));
        self.free_up(offer.agent, key, weight);
        Some(offer.agent)
    }
}
