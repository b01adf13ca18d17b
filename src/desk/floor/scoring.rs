//! How good an agent is for a conversation: every term, and the sum of them.

use std::cmp::Reverse;
use std::sync::Arc;

use smallvec::SmallVec;

use super::agent::Agent;
use super::classes::{Want, eligible};
use super::conversation::{Conversation, Opening};
use super::roster::{self, Fit, Roster};
use super::{Floor, Queue};
use crate::desk::model::{Fields, Inputs};

/// Agents that a model is asked about for one conversation: the first in the order of the other terms, and the one that
/// had the customer before. It bounds what a decision costs; whom the other terms put behind so many, the model is
/// unlikely to put first.
pub(super) const ASKED: usize = 16;

/// A choice among agents: the higher score, that before it was rounded, then the longer idle, then the name.
pub(super) type Rank = (i64, i64, Reverse<(u64, Arc<str>)>);

/// The terms of an agent's score in thousandths of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) skill: i64,
    pub(super) spare: i64,
    pub(super) idle: i64,
    pub(super) affinity: i64,
    pub(super) language: i64,
    pub(super) model: i64,
    /// The sum, times `idle_full_ms`: nothing of it is rounded.
    exact: i64,
}

impl Terms {
    pub(super) fn total(&self) -> i64 {
        self.skill + self.spare + self.idle + self.affinity + self.language + self.model
    }
}

/// What is known of a conversation that an agent is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) skills: &'a [Arc<str>],
    pub(super) language: Option<&'a str>,
    pub(super) previous: Option<&'a Arc<str>>,
    pub(super) priority: u16,
    pub(super) arrived: u64,
    pub(super) inputs: Option<&'a Inputs>,
}

impl<'a> From<&'a Conversation> for Wanted<'a> {
    fn from(conversation: &'a Conversation) -> Self {
        Self {
            skills: &conversation.skills,
            language: conversation.language.as_deref(),
            previous: conversation.previous.as_ref(),
            priority: conversation.priority,
            arrived: conversation.arrived,
            inputs: conversation.inputs.as_deref(),
        }
    }
}

#[cfg(test)]
thread_local! {
    /// How often models were evaluated.
    pub(super) static EVALUATED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Has a model say how good an agent is, as a term in thousandths of a point.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a model works with 32 bits"
)]
fn model(queue: &Queue, wanted: &Wanted<'_>, agent: &Agent, fit: &Fit, known: bool, now: u64) -> i64 {
    let weight = queue.settings.weights.model;
    let Some(scorer) = queue.settings.scorer.as_ref().filter(|_| weight > 0) else { return 0 };
    #[cfg(test)]
    EVALUATED.with(|evaluated| evaluated.set(evaluated.get() + 1));
    let nothing = Inputs::default();
    let inputs = wanted.inputs;
    let customer = Fields::pick(&queue.columns, &inputs.unwrap_or(&nothing).customer);
    let seconds = |since: u64| Some(now.saturating_sub(since) as f32 / 1000.0);
    let part = |(part, whole): (u32, u32)| part as f32 / whole.max(1) as f32;
    let levels = wanted.skills.iter().map(|skill| f32::from(agent.level(skill))).sum::<f32>();
    let features = crate::desk::Features {
        priority: Some(wanted.priority.into()),
        waited_s: seconds(wanted.arrived.min(now)),
        skills: Some(wanted.skills.len() as f32),
        agent_used: Some(agent.used as f32),
        agent_capacity: Some(agent.capacity.into()),
        agent_spare: Some(part(fit.spare)),
        agent_idle_s: seconds(agent.idle_since),
        agent_skill: (!wanted.skills.is_empty()).then(|| levels / wanted.skills.len() as f32),
        agent_affinity: Some(f32::from(u8::from(known))),
        agent_language: Some(f32::from(u8::from(fit.language))),
        ..inputs.map_or_else(Default::default, |inputs| inputs.features(&customer))
    };
    (f64::from(weight) * 1000.0 * f64::from(scorer.score(&features))).round() as i64
}

/// Every term of an agent's score, by the weights of a group.
fn terms(queue: &Queue, wanted: &Wanted<'_>, agent: &Agent, now: u64) -> Terms {
    let weights = &queue.settings.weights;
    let fit = agent.fit(wanted.skills, wanted.language);
    let known = wanted.previous == Some(&agent.name);
    let idle_ms = now.saturating_sub(agent.idle_since);
    let [skill, spare, language] = fit.terms(weights);
    let affinity = i64::from(weights.affinity) * 1000 * i64::from(known);
    let model = model(queue, wanted, agent, &fit, known, now);
    let fixed = skill + spare + affinity + language + model;
    let exact = fixed.saturating_mul(roster::whole(weights)) + roster::idle(weights, idle_ms);
    let idle = roster::idle_term(weights, idle_ms);
    Terms { skill, spare, idle, affinity, language, model, exact }
}

pub(super) fn rank(terms: &Terms, agent: &Agent) -> Rank {
    (terms.total(), terms.exact, Reverse((agent.idle_since, agent.name.clone())))
}

impl Queue {
    /// How many of a roster are looked at.
    fn asks(&self) -> usize {
        let asked = self.settings.scorer.is_some() && self.settings.weights.model > 0;
        if asked { ASKED } else { 1 }
    }
}

impl Floor {
    /// Every term of an agent's score for a conversation.
    pub(super) fn terms(&self, conversation: &Conversation, agent: &Agent) -> Option<Terms> {
        // By the weights of the group that lets it take it: its own queue before those that were added.
        let mut groups = std::iter::once(conversation.queue()).chain(conversation.added.iter().copied());
        let place = groups.find(|group| agent.groups.binary_search(group).is_ok());
        let queue = self.queues.get(usize::from(place.unwrap_or(conversation.queue())))?;
        Some(terms(queue, &conversation.into(), agent, self.now))
    }

    /// Who comes into question for a conversation, of all that could take it.
    pub(super) fn shortlist(&self, conversation: &Conversation) -> SmallVec<[u32; ASKED + 1]> {
        let mut found: SmallVec<[u32; ASKED + 1]> = SmallVec::new();
        let lines = conversation.spots.len().max(1);
        let before = conversation.previous.as_ref().and_then(|name| self.agent_keys.get(name)).copied();
        let before = before.filter(|agent| !conversation.refuses(*agent, self.now));
        for (class, _) in &conversation.spots {
            let Some(class) = self.classes.get(*class) else { continue };
            let Some(queue) = self.queues.get(usize::from(class.want.group)) else { continue };
            let seats = class.roster.iter(&queue.settings.weights, self.now);
            let willing = seats.filter(|seat| !conversation.refuses(seat.agent, self.now));
            let known = before.filter(|agent| self.has_seat(*agent, &class.want));
            let most = (queue.asks() / lines).max(1);
            for agent in willing.take(most).map(|seat| seat.agent).chain(known) {
                if !found.contains(&agent) {
                    found.push(agent);
                }
            }
        }
        found
    }

    fn has_seat(&self, agent: u32, want: &Want) -> bool {
        let agent = self.agents.get(agent as usize);
        agent.is_some_and(|agent| agent.has_room(want.weight) && eligible(agent, want))
    }

    /// The agents who would be asked for a conversation that came now, and its place in the queue. `None`: no such
    /// group takes conversations.
    pub fn prospect(&self, opening: &Opening, most: usize) -> Option<super::Prospect> {
        let group = self.places.get(&opening.group).copied()?;
        let queue = self.queues.get(usize::from(group))?;
        let mut skills = opening.skills.clone();
        skills.sort_unstable();
        skills.dedup();
        let wanted = Wanted {
            skills: &skills,
            language: opening.language.as_deref(),
            previous: opening.previous.as_ref(),
            priority: opening.priority,
            arrived: opening.arrived.min(self.now),
            inputs: opening.inputs.as_deref(),
        };
        let want = Want {
            group,
            weight: opening.weight.max(1),
            skills: skills.as_slice().into(),
            language: opening.language.clone(),
        };
        let before = opening.previous.as_ref().and_then(|name| self.agent_keys.get(name)).copied();
        let keeper = before.filter(|agent| self.keeps(*agent, &want));
        let agents: SmallVec<[u32; ASKED + 1]> = if let Some(keeper) = keeper {
            std::iter::once(keeper).filter(|agent| self.has_seat(*agent, &want)).collect()
        } else {
            let known = self.classes.find(&want).and_then(|class| self.classes.get(class));
            let passing = if known.is_some() { Roster::default() } else { self.passing_roster(&want) };
            let roster = known.map_or(&passing, |class| &class.roster);
            let first = roster.iter(&queue.settings.weights, self.now).take(queue.asks().max(most));
            let mut agents: SmallVec<[u32; ASKED + 1]> = first.map(|seat| seat.agent).collect();
            let known = before.filter(|agent| self.has_seat(*agent, &want) && !agents.contains(agent));
            agents.extend(known);
            agents
        };
        let states = agents.iter().filter_map(|agent| self.agents.get(*agent as usize));
        let mut found: Vec<(Rank, Terms)> = states
            .map(|agent| {
                let terms = terms(queue, &wanted, agent, self.now);
                (rank(&terms, agent), terms)
            })
            .collect();
        found.sort_by(|(a, _), (b, _)| b.cmp(a));
        found.truncate(most);
        let position = if found.is_empty() { self.place_of(group, &wanted) } else { 0 };
        let name = |agent: u32| self.agents.get(agent as usize).map(|agent| agent.name.clone());
        Some(super::Prospect {
            candidates: found.into_iter().map(|(rank, terms)| super::Candidate::new(rank, &terms)).collect(),
            waits_for: keeper.and_then(name),
            depth: queue.queued,
            position,
            drained: queue.drained,
        })
    }

    /// The roster of a kind of conversations that there are none of. Costs as much as there are agents.
    fn passing_roster(&self, want: &Want) -> Roster {
        let mut roster = Roster::default();
        for (key, agent) in self.agents.iter().filter(|(_, agent)| eligible(agent, want)) {
            if let Some(seat) = super::classes::seat(&self.queues, want, key as u32, agent, self.now) {
                roster.insert(seat);
            }
        }
        roster
    }
}
