//! Operators have agents and groups take nothing new; what they have goes on.

use super::{Floor, Wrong};

impl Floor {
    /// Has an agent take nothing new until it says that it is ready: what it is offered, and what waits for it alone,
    /// goes to others.
    ///
    /// # Errors
    /// [`Wrong::NoAgent`].
    pub fn drain_agent(&mut self, now: u64, name: &str) -> Result<(), Wrong> {
        self.begin(now);
        let key = self.agent_keys.get(name).copied().ok_or(Wrong::NoAgent)?;
        if let Some(agent) = self.agents.get_mut(key as usize)
            && !std::mem::replace(&mut agent.aside, true)
        {
            self.step_away(key);
        }
        self.settle();
        Ok(())
    }

    /// Has a group take no new conversations, or take them again. The floor notes it and says so; it is for those who
    /// bring conversations to heed.
    ///
    /// # Errors
    /// [`Wrong::NoGroup`].
    pub fn drain_group(&mut self, now: u64, name: &str, drained: bool) -> Result<(), Wrong> {
        self.begin(now);
        let place = self.places.get(name).copied().ok_or(Wrong::NoGroup)?;
        if let Some(queue) = self.queues.get_mut(usize::from(place))
            && std::mem::replace(&mut queue.drained, drained) != drained
        {
            self.changes.drained.push((queue.name.clone(), drained));
            self.touch_group(place);
        }
        Ok(())
    }

    /// Brings back that a group takes no new conversations. `false`: there is no such group any more.
    pub fn restore_drained(&mut self, name: &str) -> bool {
        let place = self.places.get(name).map(|place| usize::from(*place));
        let queue = place.and_then(|place| self.queues.get_mut(place));
        queue.map(|queue| queue.drained = true).is_some()
    }
}
