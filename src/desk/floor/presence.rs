//! Agents come, go, and say what they can do.

use std::sync::Arc;

use super::agent::{Agent, Counted, Link, Presence, Show};
use super::changes::{Phase, Reason};
use super::deadlines::Due;
use super::roster::rested_at;
use super::{Floor, Wrong};

/// Agents that are known at most. Whoever is gone and has nothing makes room for a new one.
const MOST_AGENTS: usize = if cfg!(test) { 300 } else { 100_000 };

/// How long an agent whose connection is lost is waited for before it counts as offline, if no will says so earlier.
const LOST_MS: u64 = 10_000;

impl Floor {
    /// What an agent says of itself, over a connection; or what its will says, over none.
    ///
    /// # Errors
    /// [`Wrong::NoGroup`], [`Wrong::TooMany`]: nothing of it counts then.
    pub fn presence(
        &mut self,
        now: u64,
        name: &str,
        presence: &Presence,
        link: Option<Link>,
    ) -> Result<(), Wrong> {
        self.begin(now);
        let groups = presence.groups.as_deref().map(|names| self.group_places(names)).transpose()?;
        let known = self.agent_keys.get(name).copied();
        if known.is_none() && presence.show == Show::Offline {
            return Ok(());
        }
        if known.is_none() && self.agents.len() >= MOST_AGENTS && !self.forget_an_agent() {
            return Err(Wrong::TooMany);
        }
        let key = known.unwrap_or_else(|| self.new_agent(name));
        let Some(agent) = self.agents.get_mut(key as usize) else { return Ok(()) };
        if link.is_none() && agent.link.is_some() {
            // The will of an earlier connection: the agent is back on another one.
            return Ok(());
        }
        if presence.show == Show::Ready && (agent.declared != Show::Ready || agent.aside) {
            agent.idle_since = self.now;
            agent.aside = false;
            agent.lapses = 0;
        }
        let again = link.is_some() && agent.link != link;
        agent.declared = presence.show;
        agent.link = link.filter(|_| presence.show != Show::Offline);
        agent.lost_at = None;
        agent.capacity = presence.capacity.unwrap_or(agent.capacity);
        agent.bot = presence.bot.unwrap_or(agent.bot);
        if let Some(languages) = &presence.languages {
            agent.languages.clone_from(languages);
        }
        let skilled = presence.skills.is_some() || groups.is_some();
        if let Some(skills) = &presence.skills {
            agent.skills.clone_from(skills);
            agent.skills.sort_unstable();
            agent.skills.dedup_by(|a, b| a.0 == b.0);
        }
        if let Some(groups) = groups {
            self.leave_groups(key);
            if let Some(agent) = self.agents.get_mut(key as usize) {
                agent.groups = groups;
            }
        }
        if skilled {
            self.place_agent(key);
        }
        if again {
            self.catch_up(key);
        }
        self.come_or_go(key, presence.show);
        self.settle();
        Ok(())
    }

    /// An agent has another connection: what was sent to the one before may be lost with it.
    fn catch_up(&mut self, key: u32) {
        let holds: Vec<u32> =
            self.agents.get(key as usize).map_or_else(Vec::new, |a| a.holds.iter().copied().collect());
        for held in holds {
            if self.conversations.get(held as usize).is_some_and(|c| c.phase != Phase::Wrapup) {
                self.instruct(held, super::Instruction::Again);
            }
        }
    }

    fn come_or_go(&mut self, key: u32, show: Show) {
        self.touch_agent(key);
        match show {
            Show::Offline => self.go_offline(key),
            Show::Ready => {
                self.come_back(key);
                self.reseat(key);
                self.free.push(key);
            }
            Show::Away | Show::Busy | Show::Wrapup => {
                self.come_back(key);
                self.step_away(key);
            }
        }
    }

    /// A connection is lost. Its agent is given nothing new, and is offline unless it comes back soon.
    pub fn lost(&mut self, now: u64, name: &str, link: Link) {
        self.begin(now);
        let Some(&key) = self.agent_keys.get(name) else { return };
        let Some(agent) = self.agents.get_mut(key as usize).filter(|agent| agent.link == Some(link)) else {
            return;
        };
        agent.link = None;
        agent.lost_at = Some(self.now);
        self.touch_agent(key);
        self.reseat(key);
        self.unreserve_all(key);
        self.settle();
    }

    fn group_places(&self, names: &[Arc<str>]) -> Result<Vec<u16>, Wrong> {
        let mut places = Vec::with_capacity(names.len());
        for name in names {
            places.push(self.places.get(name).copied().ok_or(Wrong::NoGroup)?);
        }
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    pub(super) fn new_agent(&mut self, name: &str) -> u32 {
        let name: Arc<str> = Arc::from(name);
        let key = self.agents.insert(Agent::new(name.clone(), self.now)) as u32;
        self.agent_keys.insert(name, key);
        key
    }

    /// Forgets the one who is gone and has nothing for the longest time. `false`: there is none.
    fn forget_an_agent(&mut self) -> bool {
        let gone = self.agents.iter().filter(|(_, agent)| {
            let has_nothing = agent.holds.is_empty() && agent.offered.is_empty() && agent.reserved.is_empty();
            agent.declared == Show::Offline && has_nothing
        });
        let Some((key, _)) = gone.min_by_key(|(_, agent)| agent.idle_since) else { return false };
        let key = key as u32;
        self.leave_groups(key);
        if let Some(agent) = self.agents.get_mut(key as usize) {
            agent.groups.clear();
        }
        self.place_agent(key);
        if let Some(agent) = self.agents.try_remove(key as usize) {
            self.deadlines.remove(agent.due, Due::Agent(key));
            self.agent_keys.remove(&agent.name);
            self.changes.agents.retain(|dirty| *dirty != key);
            self.changes.forgotten.push(agent.name);
        }
        // Another agent may have its key soon, and has refused nothing.
        for (_, conversation) in &mut self.conversations {
            conversation.refused.retain(|refused| refused.agent != key);
        }
        true
    }

    pub(super) fn touch_agent(&mut self, key: u32) {
        if let Some(agent) = self.agents.get_mut(key as usize) {
            if !std::mem::replace(&mut agent.dirty, true) {
                self.changes.agents.push(key);
            }
            agent.ver += 1;
        }
    }

    /// An agent takes nothing new: what is offered to it goes to others.
    pub(super) fn step_away(&mut self, key: u32) {
        self.touch_agent(key);
        self.reseat(key);
        self.withdraw_offers(key);
        self.unreserve_all(key);
    }

    fn withdraw_offers(&mut self, key: u32) {
        let offered: Vec<u32> =
            self.agents.get(key as usize).map_or_else(Vec::new, |a| a.offered.iter().copied().collect());
        for conversation in offered {
            self.decline(conversation, Reason::Withdrawn);
        }
    }

    /// An agent is gone: its offers go to others at once, its conversations wait for it for a while.
    fn go_offline(&mut self, key: u32) {
        self.step_away(key);
        let holds: Vec<u32> =
            self.agents.get(key as usize).map_or_else(Vec::new, |a| a.holds.iter().copied().collect());
        for held in holds {
            let Some(conversation) = self.conversations.get(held as usize) else { continue };
            let grace_ms = self.settings(conversation.group).grace_ms;
            let now = self.now;
            if let Some(conversation) = self.conversations.get_mut(held as usize)
                && conversation.phase != Phase::Wrapup
                && conversation.orphan_at == u64::MAX
            {
                conversation.orphan_at = now + grace_ms;
            }
            self.rearm(held);
        }
    }

    /// An agent is back before its conversations were given to others.
    fn come_back(&mut self, key: u32) {
        let holds: Vec<u32> =
            self.agents.get(key as usize).map_or_else(Vec::new, |a| a.holds.iter().copied().collect());
        for held in holds {
            if let Some(conversation) = self.conversations.get_mut(held as usize) {
                conversation.orphan_at = u64::MAX;
            }
            self.rearm(held);
        }
    }

    /// Has an agent looked at when it is as idle as can be, or has been lost for too long.
    pub(super) fn rearm_agent(&mut self, key: u32) {
        let Some(agent) = self.agents.get(key as usize) else { return };
        let mut due = agent.lost_at.map_or(u64::MAX, |at| at + LOST_MS);
        for queue in agent.groups.iter().filter_map(|group| self.queues.get(usize::from(*group))) {
            let rested = rested_at(&queue.settings.weights, agent.idle_since);
            if rested > self.now && agent.attends() {
                due = due.min(rested);
            }
        }
        if let Some(agent) = self.agents.get_mut(key as usize) {
            let before = std::mem::replace(&mut agent.due, due);
            self.deadlines.set(before, due, Due::Agent(key));
        }
    }

    pub(super) fn look_at_agent(&mut self, key: u32) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(key as usize) else { return };
        agent.due = u64::MAX;
        if agent.lost_at.take_if(|at| *at + LOST_MS <= now).is_some() {
            agent.declared = Show::Offline;
            self.go_offline(key);
        }
        self.reseat(key);
    }

    /// Keeps the groups' numbers of agents.
    pub(super) fn count_agent(&mut self, key: u32) {
        let Some(agent) = self.agents.get_mut(key as usize) else { return };
        let show = if agent.lost_at.is_some() { Show::Offline } else { agent.shows() };
        let counted = Counted { show, used: agent.used, max: u32::from(agent.capacity) };
        let before = agent.counted.replace(counted);
        if before == Some(counted) {
            return;
        }
        let groups = agent.groups.clone();
        for group in groups {
            if let Some(queue) = self.queues.get_mut(usize::from(group)) {
                queue.measured.recount(before.as_ref(), Some(&counted));
            }
            self.touch_group(group);
        }
        self.touch_agent(key);
    }

    /// Takes an agent out of the numbers of its groups.
    fn leave_groups(&mut self, key: u32) {
        let Some(agent) = self.agents.get_mut(key as usize) else { return };
        let (before, groups) = (agent.counted.take(), agent.groups.clone());
        for group in groups {
            if let Some(queue) = self.queues.get_mut(usize::from(group)) {
                queue.measured.recount(before.as_ref(), None);
            }
            self.touch_group(group);
        }
    }
}
