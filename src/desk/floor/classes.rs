//! Kinds of conversations: those that any agent can take or not take alike. Each has a line of those who wait and a
//! roster of the agents who could take one now.
//!
//! There are as many as rules, steps and languages make different: few, and bounded by [`MOST`] among those that nobody
//! waits in.

use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;

use super::agent::{Agent, Place};
use super::line::Line;
use super::roster::{Roster, Seat};
use super::{Floor, Queue};

/// Classes at which those in which nobody waits are forgotten.
const MOST: usize = 1024;

/// What all conversations of a class have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Want {
    pub(super) group: u16,
    pub(super) weight: u16,
    pub(super) skills: Arc<[Arc<str>]>,
    pub(super) language: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
pub(super) struct Class {
    pub(super) want: Want,
    pub(super) line: Line,
    pub(super) roster: Roster,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Classes {
    pub(super) all: Slab<Class>,
    by_want: HashMap<Want, u32, ahash::RandomState>,
}

impl Classes {
    pub(super) fn get(&self, class: u32) -> Option<&Class> {
        self.all.get(class as usize)
    }

    pub(super) fn get_mut(&mut self, class: u32) -> Option<&mut Class> {
        self.all.get_mut(class as usize)
    }

    pub(super) fn find(&self, want: &Want) -> Option<u32> {
        self.by_want.get(want).copied()
    }
}

/// Whether an agent may take conversations of a class at all.
pub(super) fn eligible(agent: &Agent, want: &Want) -> bool {
    agent.groups.binary_search(&want.group).is_ok() && agent.has_skills(&want.skills)
}

/// The seat of an agent that may take conversations of a class, if it has room for one.
pub(super) fn seat(queues: &[Queue], want: &Want, key: u32, agent: &Agent, now: u64) -> Option<Seat> {
    let queue = queues.get(usize::from(want.group)).filter(|_| agent.has_room(want.weight))?;
    let fit = agent.fit(&want.skills, want.language.as_deref());
    Some(Seat::new(&queue.settings.weights, &fit, (key, &agent.name), agent.idle_since, now))
}

impl Floor {
    /// The class of a kind of conversation.
    pub(super) fn class_of(&mut self, want: Want) -> u32 {
        if let Some(class) = self.classes.find(&want) {
            return class;
        }
        if self.classes.all.len() >= MOST {
            self.forget_classes();
        }
        let mut class = Class { want: want.clone(), line: Line::default(), roster: Roster::default() };
        let key = self.classes.all.vacant_key() as u32;
        for (agent_key, agent) in &mut self.agents {
            if eligible(agent, &want) {
                let seat = seat(&self.queues, &want, agent_key as u32, agent, self.now);
                if let Some(seat) = &seat {
                    class.roster.insert(seat.clone());
                }
                agent.places.push(Place { class: key, seat });
            }
        }
        self.classes.all.insert(class);
        self.classes.by_want.insert(want, key);
        key
    }

    /// Forgets the classes that nobody waits in.
    fn forget_classes(&mut self) {
        let classes = &mut self.classes;
        classes.all.retain(|_, class| class.line.len() > 0);
        classes.by_want.retain(|_, class| classes.all.contains(*class as usize));
        for (_, agent) in &mut self.agents {
            agent.places.retain(|place| self.classes.all.contains(place.class as usize));
        }
    }

    /// An agent has other groups or skills: finds its classes anew.
    pub(super) fn place_agent(&mut self, key: u32) {
        let Some(agent) = self.agents.get_mut(key as usize) else { return };
        for Place { class, seat } in std::mem::take(&mut agent.places) {
            if let (Some(class), Some(seat)) = (self.classes.get_mut(class), seat) {
                class.roster.remove(&seat);
            }
        }
        let classes = self.classes.all.iter().filter(|(_, class)| eligible(agent, &class.want));
        agent.places = classes.map(|(class, _)| Place { class: class as u32, seat: None }).collect();
    }

    /// An agent has more or less room, or is ready or not: puts it where it belongs in all rosters.
    pub(super) fn reseat(&mut self, key: u32) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(key as usize) else { return };
        let mut places = std::mem::take(&mut agent.places);
        for place in &mut places {
            let Some(class) = self.classes.get_mut(place.class) else { continue };
            let seat = seat(&self.queues, &class.want, key, agent, now);
            if seat == place.seat {
                continue;
            }
            if let Some(before) = &place.seat {
                class.roster.remove(before);
            }
            if let Some(seat) = &seat {
                class.roster.insert(seat.clone());
            }
            place.seat = seat;
        }
        agent.places = places;
        self.count_agent(key);
        self.rearm_agent(key);
    }
}
