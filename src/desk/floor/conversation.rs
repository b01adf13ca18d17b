//! A conversation on the floor.

use std::sync::Arc;

use smallvec::SmallVec;

use super::changes::{ConversationId, OfferId, OfferWhy, Phase};
use super::line::Spot;
use crate::desk::model::Inputs;

/// A conversation as it comes in.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Its id.
    pub conversation: ConversationId,
    /// Whose.
    pub customer: Arc<str>,
    /// The group, by name.
    pub group: Arc<str>,
    /// The base priority.
    pub priority: u16,
    /// The wanted skills.
    pub skills: Vec<Arc<str>>,
    /// The customer's language, if it is known.
    pub language: Option<Arc<str>>,
    /// What it takes of an agent's capacity, from 1.
    pub weight: u16,
    /// The agent that had this customer before, within the affinity's time.
    pub previous: Option<Arc<str>>,
    /// The beginning of what the customer has written.
    pub preview: Arc<str>,
    /// When it came, in milliseconds since the epoch.
    pub arrived: u64,
    /// What models are told of it, as [`Tenant::inputs`](crate::desk::Tenant::inputs) gives it.
    pub inputs: Option<Box<Inputs>>,
}

/// An offer that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) id: OfferId,
    pub(super) agent: u32,
    pub(super) deadline: u64,
    pub(super) score: i64,
    pub(super) why: OfferWhy,
}

/// An agent that is not asked again until a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) agent: u32,
    pub(super) until: u64,
}

/// A conversation on the floor, until it is over and written up.
#[derive(Debug, Clone)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Whose.
    pub customer: Arc<str>,
    /// Its group, by place.
    pub group: u16,
    /// What it is in.
    pub phase: Phase,
    /// Counts its changes.
    pub ver: u32,
    /// Its priority, with what steps have added.
    pub priority: u16,
    /// The skills that are still wanted, sorted.
    pub skills: Arc<[Arc<str>]>,
    /// The customer's language.
    pub language: Option<Arc<str>>,
    /// What it takes of an agent's capacity.
    pub weight: u16,
    /// When it first came.
    pub arrived: u64,
    /// The beginning of what the customer has written.
    pub preview: Arc<str>,
    /// What models are told of it.
    pub(super) inputs: Option<Box<Inputs>>,
    /// The agent that has it, by key.
    pub agent: Option<u32>,
    /// When it came into its group's queue: its steps count from then.
    pub(super) queued_at: u64,
    /// The next step of its group.
    pub(super) step: usize,
    /// Groups whose agents may take it as well.
    pub(super) added: SmallVec<[u16; 2]>,
    /// The agent that had this customer before, and when it was last theirs.
    pub(super) previous: Option<Arc<str>>,
    /// The agent that it waits for alone, until a moment.
    pub(super) reserved: Option<(u32, u64)>,
    pub(super) offer: Option<Offer>,
    /// The offer by which it came to its agent: to accept it again is no mistake.
    pub(super) accepted: OfferId,
    /// Where a transfer goes: to a group; or, if that is `group` and an offer is open, to that agent.
    pub(super) transfer: Option<Transfer>,
    pub(super) refused: SmallVec<[Refused; 1]>,
    /// Its agent is offline: it goes back to the queue then.
    pub(super) orphan_at: u64,
    /// What it has to be looked at for in [`Phase::Wrapup`].
    pub(super) wrapup_until: u64,
    /// Its places in lines, each with the class.
    pub(super) spots: SmallVec<[(u32, Spot); 1]>,
    /// When it has to be looked at next.
    pub(super) due: u64,
    pub(super) dirty: bool,
}

/// Where a transfer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    Group(u16),
    Agent(u32),
}

impl Conversation {
    pub(super) fn refuses(&self, agent: u32, now: u64) -> bool {
        self.agent == Some(agent) || self.refused.iter().any(|r| r.agent == agent && r.until > now)
    }

    /// The offer that is open: to which agent.
    pub fn offered_to(&self) -> Option<u32> {
        self.offer.map(|offer| offer.agent)
    }

    /// The group in whose queue it stands.
    pub(super) fn queue(&self) -> u16 {
        match self.transfer {
            Some(Transfer::Group(group)) => group,
            Some(Transfer::Agent(_)) | None => self.group,
        }
    }
}
