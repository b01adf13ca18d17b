//! How a group in `assigned` mode works, as its configuration says: the order of its queue, the choice of an agent,
//! offers, patience, and what happens when nobody can take a conversation.
//!
//! All moments are milliseconds, all weights whole numbers, so that the same input always gives the same order.

use std::sync::Arc;

use super::hours::Hours;
use super::model::Scorer;

/// What a group in `assigned` mode is set to.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// Who is next in the queue.
    pub order: Order,
    /// Which agent gets a conversation.
    pub weights: Weights,
    /// How long an offer is open, 1 s to 1 h. Default 20 s.
    pub offer_ms: u64,
    /// Conversations are assigned without being offered. Default: no.
    pub auto_accept: bool,
    /// After so many offers in a row that an agent let lapse it is away, 1 to 100. Default 2.
    pub lapses: u8,
    /// A conversation is not offered again for so long to an agent that rejected it or let it lapse, at most 24 h.
    /// Default 4 min.
    pub reject_ms: u64,
    /// How long the conversations of an agent that is offline wait for it, at most 24 h. Default 60 s.
    pub grace_ms: u64,
    /// How long an ended conversation still takes its agent's capacity, at most 24 h. Default 0.
    pub wrapup_ms: u64,
    /// How long a conversation waits for the agent that had this customer before, if that one is connected; 0: it does
    /// not wait. At most 24 h. Default 30 s.
    pub sticky_ms: u64,
    /// How long it is remembered who had this customer; 0: it is not. At most 3650 d. Default 72 h.
    pub affinity_ttl_ms: u64,
    /// Conversations that wait at most, 1 to 10,000,000. Default 10,000.
    pub max_queue: u32,
    /// A conversation that has waited so long without being assigned expires; 0: none does. At most 30 d. Default 0.
    pub max_wait_ms: u64,
    /// What a customer is told whose conversation finds the queue full.
    pub full: Turned,
    /// What a customer is told whose conversation has expired.
    pub expired: Turned,
    /// What happens to a conversation while it waits, in the order of `after_ms`; at most 16.
    pub steps: Vec<Step>,
    /// When the group is open; `None`: always.
    pub hours: Option<Arc<Hours>>,
    /// What becomes of conversations that come while it is closed.
    pub closed: Turned,
    /// A model whose score is one term of the choice.
    pub scorer: Option<Arc<Scorer>>,
    /// Where that model comes from, as the configuration names it.
    pub model_source: Option<ModelSource>,
}

/// Where a group's model comes from: what was written, of which nothing has been opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// The file's name, not empty.
    pub file: String,
    /// The inputs of the model by name and in its order, 1 to 64.
    pub features: Vec<String>,
}

/// Who is next: `priority × priority_weight + seconds waited × ageing + seconds past half the target × urgency`, the
/// highest first; of equals the one that came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// 0 to 10,000. Default 60: a point of priority is worth a minute.
    pub priority_weight: u32,
    /// 1 to 1,000: nothing starves. Default 1.
    pub ageing: u32,
    /// 0 to 1,000. Default 4.
    pub urgency: u32,
    /// Within this time a conversation should be assigned; 0: no target. At most 30 d. Default 60 s.
    pub target_ms: u64,
}

/// Weights of the terms of an agent's score, each 0 to 1,000; each term is between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// The mean proficiency in the wanted skills, of [`MAX_LEVEL`]; 1 if none is wanted. Default 100.
    pub skill: u32,
    /// The part of the agent's capacity that is free. Default 50.
    pub spare: u32,
    /// How long the agent has had nothing new, of `idle_full_ms`. Default 50.
    pub idle: u32,
    /// 1 for the agent that had this customer before. Default 200.
    pub affinity: u32,
    /// 1 for an agent that speaks the customer's language. Default 100.
    pub language: u32,
    /// The model's score, between 0 and 1. Default 0; 100 if there is a model.
    pub model: u32,
    /// After so long an agent is as idle as can be, 1 s to 24 h. Default 10 min.
    pub idle_full_ms: u64,
}

/// The highest level of a skill.
pub const MAX_LEVEL: u8 = 5;

/// What becomes of a conversation that a group does not take or keep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Turned {
    /// It ends; its message is refused if it can still be.
    #[default]
    Refused,
    /// It goes to another group, by name.
    To(Arc<str>),
    /// It ends, and the customer is sent this text of 1 to 4096 bytes.
    Told(Arc<str>),
}

/// What happens to a conversation that has waited for so long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Since the conversation came into the queue, at most 30 d.
    pub after_ms: u64,
    /// What happens.
    pub change: Change,
}

/// What a [`Step`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This skill is not wanted any more.
    DropSkill(Arc<str>),
    /// Agents of this group may take it as well.
    AddGroup(Arc<str>),
    /// Its priority is raised by so much, 1 to 1000.
    Raise(u16),
    /// It goes to this group (overflow), which keeps its first arrival.
    MoveTo(Arc<str>),
}

impl Default for Order {
    fn default() -> Self {
        Self { priority_weight: 60, ageing: 1, urgency: 4, target_ms: 60_000 }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            skill: 100,
            spare: 50,
            idle: 50,
            affinity: 200,
            language: 100,
            model: 0,
            idle_full_ms: 600_000,
        }
    }
}

impl Default for Assigned {
    fn default() -> Self {
        Self {
            order: Order::default(),
            weights: Weights::default(),
            offer_ms: 20_000,
            auto_accept: false,
            lapses: 2,
            reject_ms: 240_000,
            grace_ms: 60_000,
            wrapup_ms: 0,
            sticky_ms: 30_000,
            affinity_ttl_ms: 72 * 3_600_000,
            max_queue: 10_000,
            max_wait_ms: 0,
            full: Turned::Refused,
            expired: Turned::Refused,
            steps: Vec::new(),
            hours: None,
            closed: Turned::Refused,
            scorer: None,
            model_source: None,
        }
    }
}
