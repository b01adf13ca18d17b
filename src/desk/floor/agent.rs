//! An agent on the floor.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::roster::{Fit, Seat};
use crate::desk::assigned::MAX_LEVEL;

/// What an agent shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Show {
    /// Takes conversations.
    Ready,
    /// Takes none.
    Away,
    /// Takes none: it has its hands full.
    Busy,
    /// Takes none: it writes something up.
    Wrapup,
    /// Is not there.
    Offline,
}

impl Show {
    /// Its name, as clients read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Wrapup => "wrapup",
            Self::Offline => "offline",
        }
    }
}

/// What an agent says of itself. What it leaves out stays as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// What it shows.
    pub show: Show,
    /// Its groups, by name.
    pub groups: Option<Vec<Arc<str>>>,
    /// Its skills, each with a level from 1 to [`MAX_LEVEL`].
    pub skills: Option<Vec<(Arc<str>, u8)>>,
    /// The languages that it speaks.
    pub languages: Option<Vec<Arc<str>>>,
    /// How much it takes at once: 0 to 10,000.
    pub capacity: Option<u16>,
    /// A program, not a person.
    pub bot: Option<bool>,
}

/// Tells the connections of agents apart.
pub type Link = u64;

/// An agent's place with one class of conversations.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) class: u32,
    pub(super) seat: Option<Seat>,
}

/// What a group has counted of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) show: Show,
    pub(super) used: u32,
    pub(super) max: u32,
}

/// An agent, from its first presence on.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its name.
    pub name: Arc<str>,
    /// What it has declared.
    pub declared: Show,
    /// It has let too many offers lapse, or an operator has drained it: it counts as away until it says that it is ready.
    pub aside: bool,
    /// Its groups, by place, sorted.
    pub groups: Vec<u16>,
    /// Sorted.
    pub skills: Vec<(Arc<str>, u8)>,
    /// As declared.
    pub languages: Vec<Arc<str>>,
    /// How much it takes at once.
    pub capacity: u16,
    /// How much of that is taken, by conversations that are offered, its own, or being written up.
    pub used: u32,
    /// A program, not a person.
    pub bot: bool,
    /// Counts its changes.
    pub ver: u32,
    /// The connection that its presence has come through, while that is open.
    pub(super) link: Option<Link>,
    /// When that was lost, until it counts as offline.
    pub(super) lost_at: Option<u64>,
    /// Offers in a row that have lapsed.
    pub(super) lapses: u8,
    pub(super) idle_since: u64,
    /// Keys of its conversations.
    pub(super) holds: BTreeSet<u32>,
    /// Keys of those that are offered to it.
    pub(super) offered: BTreeSet<u32>,
    /// Keys of those that wait for it alone.
    pub(super) reserved: BTreeSet<u32>,
    pub(super) places: Vec<Place>,
    pub(super) counted: Option<Counted>,
    pub(super) due: u64,
    pub(super) dirty: bool,
}

impl Agent {
    pub(super) fn new(name: Arc<str>, now: u64) -> Self {
        Self {
            name,
            declared: Show::Offline,
            aside: false,
            groups: Vec::new(),
            skills: Vec::new(),
            languages: Vec::new(),
            capacity: 0,
            used: 0,
            bot: false,
            ver: 0,
            link: None,
            lost_at: None,
            lapses: 0,
            idle_since: now,
            holds: BTreeSet::new(),
            offered: BTreeSet::new(),
            reserved: BTreeSet::new(),
            places: Vec::new(),
            counted: None,
            due: u64::MAX,
            dirty: false,
        }
    }

    /// What everybody sees it as.
    pub fn shows(&self) -> Show {
        match self.declared {
            Show::Ready if self.aside => Show::Away,
            Show::Ready if self.used >= u32::from(self.capacity) => Show::Busy,
            declared => declared,
        }
    }

    /// Whether its connection is open.
    pub fn connected(&self) -> bool {
        self.link.is_some()
    }

    /// Whether it takes conversations, if it has room.
    pub(super) fn attends(&self) -> bool {
        self.declared == Show::Ready && !self.aside && self.link.is_some()
    }

    pub(super) fn has_room(&self, weight: u16) -> bool {
        self.attends() && self.used + u32::from(weight) <= u32::from(self.capacity)
    }

    /// The level in a skill; 0: it does not have it.
    pub(super) fn level(&self, skill: &str) -> u8 {
        let at = self.skills.binary_search_by(|(name, _)| (**name).cmp(skill));
        at.ok().and_then(|at| self.skills.get(at)).map_or(0, |(_, level)| *level)
    }

    pub(super) fn has_skills(&self, wanted: &[Arc<str>]) -> bool {
        wanted.iter().all(|skill| self.level(skill) > 0)
    }

    pub(super) fn fit(&self, wanted: &[Arc<str>], language: Option<&str>) -> Fit {
        let levels = if wanted.is_empty() {
            (1, 1)
        } else {
            let sum = wanted.iter().map(|skill| u32::from(self.level(skill))).sum();
            (sum, u32::from(MAX_LEVEL) * u32::try_from(wanted.len()).unwrap_or(u32::MAX / 8))
        };
        let capacity = u32::from(self.capacity);
        Fit {
            levels,
            spare: (capacity.saturating_sub(self.used), capacity),
            language: language.is_some_and(|language| self.languages.iter().any(|l| **l == *language)),
        }
    }
}
