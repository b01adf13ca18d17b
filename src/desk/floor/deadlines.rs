//! What has to be looked at, and when: one ordered heap.

use std::collections::BTreeSet;

use super::conversation::Conversation;
use super::line::urgent_at;
use super::{Floor, Phase, Reason};
use crate::desk::assigned::{Assigned, Change};

/// What has to be looked at, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Conversation(u32),
    Agent(u32),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Deadlines(BTreeSet<(u64, Due)>);

impl Deadlines {
    pub(super) fn next(&self) -> Option<u64> {
        self.0.first().map(|(due, _)| *due)
    }

    pub(super) fn pop(&mut self, now: u64) -> Option<Due> {
        self.next().filter(|due| *due <= now)?;
        self.0.pop_first().map(|(_, what)| what)
    }

    pub(super) fn remove(&mut self, due: u64, what: Due) {
        self.0.remove(&(due, what));
    }

    /// Moves an entry from `before` to `due`; `u64::MAX` is never.
    pub(super) fn set(&mut self, before: u64, due: u64, what: Due) {
        if before != u64::MAX {
            self.remove(before, what);
        }
        if due != u64::MAX {
            self.0.insert((due, what));
        }
    }
}

/// When a conversation has to be looked at next.
fn next_look(conversation: &Conversation, settings: &Assigned, now: u64) -> u64 {
    if let Some(offer) = conversation.offer {
        return offer.deadline.min(conversation.orphan_at);
    }
    let in_line = matches!(conversation.phase, Phase::Queued | Phase::Transferring);
    let mut due = conversation.orphan_at;
    if conversation.phase == Phase::Wrapup {
        due = conversation.wrapup_until;
    } else if in_line {
        let urgent = urgent_at(&settings.order, conversation.arrived);
        due = due.min(if urgent > now { urgent } else { u64::MAX });
        due = conversation.reserved.map_or(due, |(_, until)| due.min(until));
        let refused = conversation.refused.iter().map(|refused| refused.until);
        due = refused.filter(|until| *until > now).min().map_or(due, |until| due.min(until));
    }
    if conversation.phase == Phase::Queued {
        if settings.max_wait_ms > 0 {
            due = due.min(conversation.queued_at + settings.max_wait_ms);
        }
        if let Some(step) = settings.steps.get(conversation.step) {
            due = due.min(conversation.queued_at + step.after_ms);
        }
    }
    due
}

impl Floor {
    /// Has a conversation looked at when something of it is due.
    pub(super) fn rearm(&mut self, key: u32) {
        let Some(conversation) = self.conversations.get(key as usize) else { return };
        let due = next_look(conversation, &self.settings(conversation.queue()), self.now);
        if let Some(conversation) = self.conversations.get_mut(key as usize) {
            let before = std::mem::replace(&mut conversation.due, due);
            self.deadlines.set(before, due, Due::Conversation(key));
        }
    }

    pub(super) fn look_at_conversation(&mut self, key: u32) {
        let now = self.now;
        let Some(conversation) = self.conversations.get_mut(key as usize) else { return };
        conversation.due = u64::MAX;
        if conversation.orphan_at <= now {
            self.requeue(key, Reason::AgentLost, None);
        } else if let Some(offer) = conversation.offer {
            if offer.deadline <= now {
                self.lapse(key);
            }
        } else if conversation.phase == Phase::Wrapup {
            if conversation.wrapup_until <= now {
                self.close(key, Phase::Closed, Reason::WrittenUp, None);
            }
        } else {
            self.look_at_waiting(key);
        }
        self.rearm(key);
    }

    /// A conversation stands in a line.
    fn look_at_waiting(&mut self, key: u32) {
        let now = self.now;
        let Some(conversation) = self.conversations.get(key as usize) else { return };
        let settings = self.settings(conversation.queue());
        let (queued, since) = (conversation.phase == Phase::Queued, conversation.queued_at);
        if queued && settings.max_wait_ms > 0 && since + settings.max_wait_ms <= now {
            return self.expire(key);
        }
        let step =
            settings.steps.get(conversation.step).filter(|step| queued && since + step.after_ms <= now);
        if let Some(step) = step {
            return self.step(key, &step.change.clone());
        }
        if conversation.reserved.is_some_and(|(_, until)| until <= now) {
            return self.unreserve(key);
        }
        if let Some(conversation) = self.conversations.get_mut(key as usize) {
            conversation.refused.retain(|refused| refused.until > now);
        }
        // Urgent by now, or somebody may be asked again.
        self.unqueue(key);
        self.enqueue(key, false);
    }

    /// A step of its queue for a conversation that waits.
    fn step(&mut self, key: u32, change: &Change) {
        self.unqueue(key);
        let Some(conversation) = self.conversations.get_mut(key as usize) else { return };
        conversation.step += 1;
        match change {
            Change::DropSkill(dropped) => {
                let left = conversation.skills.iter().filter(|skill| *skill != dropped);
                conversation.skills = left.cloned().collect();
            }
            Change::Raise(by) => conversation.priority = conversation.priority.saturating_add(*by),
            Change::AddGroup(name) => {
                if let Some(place) =
                    self.places.get(name).copied().filter(|place| *place != conversation.group)
                    && !conversation.added.contains(&place)
                {
                    conversation.added.push(place);
                }
            }
            Change::MoveTo(name) => {
                if let Some(place) = self.places.get(name).copied() {
                    return self.move_to(key, place, Reason::Step);
                }
            }
        }
        self.shift(key, Phase::Queued, Reason::Step);
        self.enqueue(key, false);
    }
}
