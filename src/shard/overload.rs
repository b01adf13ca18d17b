//! A shard whose turns take too long lets nobody new in until it has caught up: those who are there come first.
//!
//! The measure is the loop's drift: how late its tick came, or its longest turn since the tick before, whichever is more.
//! Every client is read at most once in a turn, so this is what a client waits. One long turn is no overload, and one
//! short one not its end.

use super::Core;
use crate::config::settings::OverloadSettings;
use crate::message::Millis;

/// So long the drift must have been too much at each tick.
const SUSTAINED: Millis = 1_000;

/// So long it must have been little at each tick.
const CALM: Millis = 3_000;

/// How much less than too much is little.
const LITTLE: Millis = 5;

/// Whether a shard is overloaded.
#[derive(Debug)]
pub(super) struct Overload {
    /// Too much drift; 0: none is.
    most: Millis,
    on: bool,
    /// Since when each tick has spoken against the present state.
    since: Option<Millis>,
}

impl Overload {
    pub(super) fn new(settings: &OverloadSettings) -> Self {
        Self { most: settings.drift.as_millis() as Millis, on: false, since: None }
    }

    /// Takes a tick's drift; `true` if the state has changed.
    fn observe(&mut self, now: Millis, drift: Millis) -> bool {
        let (against, long) =
            if self.on { (drift <= self.most / LITTLE, CALM) } else { (drift >= self.most, SUSTAINED) };
        if self.most == 0 || !against {
            self.since = None;
            return false;
        }
        let changed = now - *self.since.get_or_insert(now) >= long;
        if changed {
            self.on = !self.on;
            self.since = None;
        }
        changed
    }
}

impl Core {
    /// Takes the drift of the loop, once a tick; `true` if the shard became overloaded or has caught up.
    pub fn observe_drift(&mut self, drift: Millis) -> bool {
        let changed = self.overload.observe(self.clients.now.mono, drift);
        self.clients.counters.overloads += u64::from(changed && self.overload.on);
        changed
    }

    /// Whether it lets nobody new in, because it cannot serve in time those who are there.
    pub fn is_overloaded(&self) -> bool {
        self.overload.on
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn overload() -> Overload {
        let drift = Duration::from_millis(500);
        Overload::new(&OverloadSettings { drift, ..OverloadSettings::default() })
    }

    /// Ticks with these drifts, each as far from the one before as the drift makes it; how often the state changed.
    fn after(overload: &mut Overload, now: &mut Millis, drifts: &[Millis]) -> usize {
        let mut tick = |drift: Millis| {
            *now += 100 + drift;
            overload.observe(*now, drift)
        };
        drifts.iter().filter(|drift| tick(**drift)).count()
    }

    #[test]
    fn one_long_turn_is_no_overload_and_several_are() {
        let (mut overload, mut now) = (overload(), 0);
        assert_eq!(after(&mut overload, &mut now, &[20_000, 0, 499, 499, 499, 499, 600, 600, 0]), 0);
        assert_eq!(after(&mut overload, &mut now, &[600, 600]), 0);
        assert_eq!(after(&mut overload, &mut now, &[600]), 1);
        assert!(overload.on);
        assert_eq!(after(&mut overload, &mut now, &[600, 50_000, 600]), 0);
    }

    #[test]
    fn it_ends_when_all_has_been_well_for_a_while() {
        let (mut overload, mut now) = (overload(), 0);
        after(&mut overload, &mut now, &[600; 3]);
        assert!(overload.on);
        // Between little and too much nothing changes, in either state.
        assert_eq!(after(&mut overload, &mut now, &[101; 1000]), 0);
        assert_eq!(after(&mut overload, &mut now, &[0; 30]), 0);
        assert_eq!(after(&mut overload, &mut now, &[101]), 0, "and it counts anew");
        assert_eq!(after(&mut overload, &mut now, &[0; 30]), 0);
        assert_eq!(after(&mut overload, &mut now, &[0]), 1);
        assert!(!overload.on);
        assert_eq!(after(&mut overload, &mut now, &[499; 1000]), 0);
    }

    #[test]
    fn without_a_bound_no_drift_is_too_much() {
        let drift = Duration::ZERO;
        let mut overload = Overload::new(&OverloadSettings { drift, ..OverloadSettings::default() });
        assert_eq!(after(&mut overload, &mut 0, &[10_000; 100]), 0);
    }
}
