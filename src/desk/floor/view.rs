//! What is seen of the floor from outside: a customer's place, a group's numbers, why an agent was chosen.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use super::agent::{Agent, Counted, Show};
use super::changes::Phase;
use super::conversation::Conversation;
use super::scoring::{Rank, Terms};
use super::{ConversationId, Floor};

/// How many of the last waits are remembered.
const REMEMBERED: usize = 256;

/// For how long what has happened says something about what will.
const RECENT_MS: u64 = 30 * 60_000;

/// What a group has measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    /// When each of the last conversations was assigned, and how long it had waited.
    waits: VecDeque<(u64, u64)>,
    /// Assigned later than the target says, since the start.
    breached: u64,
    /// Agents that are ready and have room; that are not or have none; that are away; and their capacity.
    available: u32,
    busy: u32,
    away: u32,
    used: u32,
    max: u32,
}

impl Measured {
    /// An agent of the group has changed, come or gone.
    pub(super) fn recount(&mut self, before: Option<&Counted>, after: Option<&Counted>) {
        for (counted, sign) in [(before, -1), (after, 1)] {
            let Some(counted) = counted.filter(|counted| counted.show != Show::Offline) else { continue };
            let number = match counted.show {
                Show::Ready => &mut self.available,
                Show::Busy | Show::Wrapup => &mut self.busy,
                Show::Away | Show::Offline => &mut self.away,
            };
            *number = number.saturating_add_signed(sign);
            let add = |sum: &mut u32, by: u32| {
                *sum = if sign > 0 { sum.saturating_add(by) } else { sum.saturating_sub(by) };
            };
            add(&mut self.used, counted.used);
            add(&mut self.max, counted.max);
        }
    }

    fn recent(&self, now: u64) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.waits.iter().copied().filter(move |(at, _)| at + RECENT_MS > now)
    }

    /// The wait that so many of a hundred recent conversations did not exceed, in milliseconds.
    fn percentile(&self, percent: usize, now: u64) -> Option<u64> {
        let mut waits: Vec<u64> = self.recent(now).map(|(_, waited)| waited).collect();
        waits.sort_unstable();
        waits.get((waits.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }

    /// How long it takes on average until one more is assigned, as measured; `None`: nothing was lately.
    fn interval_ms(&self, now: u64) -> Option<u64> {
        let count = self.recent(now).count() as u64;
        let first = self.recent(now).next().map(|(at, _)| at)?;
        // One alone says how long ago it was, not how often it happens.
        (count > 1).then(|| now.saturating_sub(first) / count)
    }
}

/// A customer's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What its conversation is in.
    pub phase: Phase,
    /// 1: it is next. 0: it is being offered. `None`: it does not wait.
    pub position: Option<usize>,
    /// How long that takes, as measured lately.
    pub eta_ms: Option<u64>,
}

/// A group's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueView {
    /// The group.
    pub name: Arc<str>,
    /// An operator has it take no new conversations.
    pub drained: bool,
    /// Conversations that wait and are not being offered.
    pub depth: u32,
    /// For how long the one at the head of its line has waited.
    pub oldest_ms: u64,
    /// The median of the recent waits.
    pub wait_p50_ms: Option<u64>,
    /// What nineteen in twenty of the recent waits did not exceed.
    pub wait_p95_ms: Option<u64>,
    /// Agents that have room; that have none; that are away.
    pub agents: [u32; 3],
    /// Capacity that is taken, and all of it.
    pub capacity: (u32, u32),
    /// The target, and how many were assigned later since the start.
    pub target_ms: u64,
    /// See `target_ms`.
    pub breached: u64,
}

/// One term of an agent's score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Its name.
    pub name: &'static str,
    /// Its part of the score in thousandths of a point.
    pub points: i64,
}

/// An agent for a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub agent: Arc<str>,
    /// The sum of the terms.
    pub score: i64,
    /// All of them.
    pub terms: Vec<Term>,
}

/// What would become of a conversation that came now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prospect {
    /// Who would be asked, the best first.
    pub candidates: Vec<Candidate>,
    /// It would wait for this agent alone for a while, who had its customer before.
    pub waits_for: Option<Arc<str>>,
    /// Conversations that wait in the group and are not being offered.
    pub depth: u32,
    /// The position that it would get; 0: it would be offered at once.
    pub position: usize,
    /// An operator has the group take no new conversations.
    pub drained: bool,
}

impl Candidate {
    pub(super) fn new((score, _, Reverse((_, agent))): Rank, terms: &Terms) -> Self {
        let Terms { skill, spare, idle, affinity, language, model, .. } = *terms;
        let named = [
            ("skill", skill),
            ("spare", spare),
            ("idle", idle),
            ("affinity", affinity),
            ("language", language),
            ("model", model),
        ];
        Self { agent, score, terms: named.map(|(name, points)| Term { name, points }).to_vec() }
    }
}

impl Floor {
    /// A conversation was assigned for the first time.
    pub(super) fn measure(&mut self, group: u16, waited: u64) {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(usize::from(group)) else { return };
        let target = queue.settings.order.target_ms;
        queue.measured.breached += u64::from(target > 0 && waited > target);
        queue.measured.waits.push_back((now, waited));
        if queue.measured.waits.len() > REMEMBERED {
            queue.measured.waits.pop_front();
        }
        self.touch_group(group);
    }

    /// A conversation under a key of [`Changes::conversations`](super::Changes::conversations).
    pub fn conversation(&self, key: u32) -> Option<&Conversation> {
        self.conversations.get(key as usize)
    }

    /// The key of a conversation.
    pub fn key_of(&self, conversation: ConversationId) -> Option<u32> {
        self.conversation_keys.get(&conversation).copied()
    }

    /// How many conversations there are.
    pub fn len(&self) -> usize {
        self.conversations.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty()
    }

    /// One more than the highest key of a conversation.
    pub fn end_of_keys(&self) -> u32 {
        self.conversations.capacity().min(self.conversations.iter().next_back().map_or(0, |(key, _)| key + 1))
            as u32
    }

    /// All conversations, with their keys.
    pub fn conversations(&self) -> impl Iterator<Item = (u32, &Conversation)> {
        self.conversations.iter().map(|(key, conversation)| (key as u32, conversation))
    }

    /// All agents, with their keys.
    pub fn agents(&self) -> impl Iterator<Item = (u32, &Agent)> {
        self.agents.iter().map(|(key, agent)| (key as u32, agent))
    }

    /// An agent under a key of [`Changes::agents`](super::Changes::agents).
    pub fn agent(&self, key: u32) -> Option<&Agent> {
        self.agents.get(key as usize)
    }

    /// The key of an agent.
    pub fn agent_key(&self, name: &str) -> Option<u32> {
        self.agent_keys.get(name).copied()
    }

    /// The conversations of an agent: its own and those it is offered.
    pub fn load(&self, agent: u32) -> impl Iterator<Item = &Conversation> {
        let agent = self.agents.get(agent as usize);
        let keys = agent.into_iter().flat_map(|agent| agent.holds.iter().chain(&agent.offered));
        keys.filter_map(|key| self.conversations.get(*key as usize))
    }

    /// What an agent is seen as.
    pub fn shows(&self, agent: u32) -> Show {
        self.agents.get(agent as usize).map_or(Show::Offline, |agent| {
            if agent.lost_at.is_some() { Show::Offline } else { agent.shows() }
        })
    }

    /// The places of all groups.
    pub fn groups(&self) -> impl Iterator<Item = u16> {
        (0_u16..).zip(&self.queues).map(|(place, _)| place)
    }

    /// The name of a group.
    pub fn name_of(&self, group: u16) -> Arc<str> {
        self.group_name(group)
    }

    /// How many wait in a group and are not being offered.
    pub fn depth(&self, group: u16) -> u32 {
        self.queues.get(usize::from(group)).map_or(0, |queue| queue.queued)
    }

    /// Where a customer stands.
    pub fn standing(&self, key: u32) -> Option<Standing> {
        let conversation = self.conversations.get(key as usize)?;
        let (position, eta_ms) = match conversation.phase {
            Phase::Queued => {
                let position = self.ahead_of(key)? + 1;
                let measured = &self.queues.get(usize::from(conversation.group))?.measured;
                let eta = measured.interval_ms(self.now).map(|interval| interval * position as u64);
                (Some(position), eta)
            }
            Phase::Offered => (Some(0), Some(0)),
            _ => (None, None),
        };
        Some(Standing { phase: conversation.phase, position, eta_ms })
    }

    /// The place in the order: priority, waiting and urgency together, in thousandths of a point.
    pub fn rank(&self, key: u32) -> Option<i64> {
        let conversation = self.conversations.get(key as usize)?;
        let order = &self.queues.get(usize::from(conversation.queue()))?.settings.order;
        let (priority, arrived) = (conversation.priority, conversation.arrived);
        Some(super::line::Spot::new(order, priority, arrived, key, self.now).score(order, self.now))
    }

    /// A group's numbers.
    pub fn queue(&self, group: u16) -> Option<QueueView> {
        let queue = self.queues.get(usize::from(group))?;
        let measured = &queue.measured;
        let lines = self.classes.all.iter().filter(|(_, class)| class.want.group == group);
        let oldest = lines.filter_map(|(_, class)| class.line.oldest()).min();
        Some(QueueView {
            name: queue.name.clone(),
            drained: queue.drained,
            depth: queue.queued,
            oldest_ms: oldest.map_or(0, |at| self.now.saturating_sub(at)),
            wait_p50_ms: measured.percentile(50, self.now),
            wait_p95_ms: measured.percentile(95, self.now),
            agents: [measured.available, measured.busy, measured.away],
            capacity: (measured.used, measured.max),
            target_ms: queue.settings.order.target_ms,
            breached: measured.breached,
        })
    }
}
