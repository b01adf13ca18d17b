//! What a queue should do: by theory, and by playing the same customers to perfect agents.
//!
//! Owns no socket and no clock.

use crate::report::ratio;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A conversation as it was drawn, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Draw {
    /// Since the beginning of the run.
    pub(crate) arrives: u64,
    /// How long an agent has to do with it.
    pub(crate) handling: u64,
    /// How long its customer waits at most.
    pub(crate) patience: u64,
}

/// How a queue did. All times are of all customers, those who gave up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Queue {
    /// The part of the customers who found all agents busy.
    pub(crate) waited: f64,
    pub(crate) mean_wait_ms: f64,
    /// The part that was answered within the target: the service level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) within_target: Option<f64>,
    /// The part that gave up.
    pub(crate) abandoned: f64,
}

/// A plain contact centre, times in seconds: exponential gaps between arrivals, handling times and patience.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Centre {
    /// Conversations that all agents together can have.
    pub(crate) places: u32,
    /// Arrivals a second.
    pub(crate) rate: f64,
    pub(crate) handling: f64,
    /// `None`: nobody gives up.
    pub(crate) patience: Option<f64>,
    pub(crate) target: f64,
}

impl Centre {
    /// What theory says: Erlang's C, or Palm's Erlang A where customers give up. `None`: the queue has no end.
    ///
    /// Both are one chain of births and deaths. Below its places it is Erlang's B; above, a conversation more leaves
    /// at the rate of all places and of the impatience of those who wait. See A. Mandelbaum, S. Zeltyn, "Service
    /// engineering in action: the Palm/Erlang-A queue" (2007).
    pub(crate) fn expected(&self) -> Option<Queue> {
        let load = self.rate * self.handling;
        let places = f64::from(self.places);
        let impatience = self.patience.map_or(0.0, f64::recip);
        if impatience == 0.0 && load >= places {
            return None;
        }
        let blocked = (1..=self.places).fold(1.0, |b, n| load * b / (f64::from(n) + load * b));
        // Everything relative to the state in which all are busy and nobody waits.
        let (mut here, mut busy, mut queue, mut waiting) = (1.0, 1.0, 0.0, 0.0);
        while here > 1e-15 * busy {
            waiting += 1.0;
            here *= self.rate / (places / self.handling + waiting * impatience);
            busy += here;
            queue += waiting * here;
        }
        let all = blocked.recip() - 1.0 + busy;
        let waited = busy / all;
        let wait = queue / all / self.rate;
        let within_target = (impatience == 0.0)
            .then(|| 1.0 - waited * (-(places / self.handling - self.rate) * self.target).exp());
        Some(Queue { waited, mean_wait_ms: wait * 1e3, within_target, abandoned: impatience * wait })
    }
}

/// How long each waits whose agents lose no time: first come, first served. `None`: it gave up.
pub(crate) fn ideal(draws: &[Draw], places: u32) -> Vec<Option<u64>> {
    let mut free: BinaryHeap<Reverse<u64>> = (0..places).map(|_| Reverse(0)).collect();
    draws
        .iter()
        .map(|draw| {
            let mut first = free.peek_mut()?;
            let wait = first.0.saturating_sub(draw.arrives);
            if wait > draw.patience {
                return None;
            }
            first.0 = draw.arrives + wait + draw.handling;
            Some(wait)
        })
        .collect()
}

impl Queue {
    /// Of draws, and what became of each: whether it found all busy, and how long it waited until it was answered.
    pub(crate) fn of(outcomes: impl Iterator<Item = (Draw, bool, Option<u64>)>, target: u64) -> Self {
        let (mut count, mut waited, mut wait, mut within, mut abandoned) = (0, 0, 0, 0, 0);
        for (draw, had_to, answered) in outcomes {
            count += 1;
            waited += u64::from(had_to);
            wait += answered.unwrap_or(draw.patience) / 1000;
            within += u64::from(answered.is_some_and(|wait| wait <= target));
            abandoned += u64::from(answered.is_none());
        }
        let part = |number| if count == 0 { 0.0 } else { ratio(number, count) };
        Self {
            waited: part(waited),
            mean_wait_ms: part(wait) / 1e3,
            within_target: Some(part(within)),
            abandoned: part(abandoned),
        }
    }

    /// How far this is from `other`: the largest relative difference of what is in both, and what differs so.
    pub(crate) fn distance(&self, other: &Self) -> (f64, &'static str) {
        let far = |this: f64, that: f64| {
            let apart = (this - that).abs();
            if apart > 0.0 { apart / that } else { 0.0 }
        };
        let within = self.within_target.zip(other.within_target).map_or(0.0, |(this, that)| far(this, that));
        [
            (far(self.waited, other.waited), "waited"),
            (far(self.mean_wait_ms, other.mean_wait_ms), "mean_wait_ms"),
            (within, "within_target"),
            (far(self.abandoned, other.abandoned), "abandoned"),
        ]
        .into_iter()
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn centre(places: u32, load: f64, patience: Option<f64>) -> Centre {
        Centre { places, rate: load / 300.0, handling: 300.0, patience, target: 20.0 }
    }

    #[test]
    fn erlang_c_is_what_the_tables_say() {
        // Places and load with the probability of waiting, from tables of teletraffic theory.
        for (places, load, waited) in
            [(1, 0.5, 0.5), (2, 1.0, 1.0 / 3.0), (10, 8.0, 0.4092), (100, 90.0, 0.2169)]
        {
            let queue = centre(places, load, None).expected().unwrap();
            assert!((queue.waited - waited).abs() < 5e-4, "{places} {load}: {queue:?}");
            let mean = waited * 300.0 / (f64::from(places) - load) * 1e3;
            assert!((queue.mean_wait_ms / mean - 1.0).abs() < 2e-3, "{places} {load}: {queue:?}");
        }
        assert_eq!(centre(10, 10.0, None).expected(), None);
        // 1 - C exp(-(places - load) target / handling)
        let within = centre(10, 8.0, None).expected().unwrap().within_target.unwrap();
        assert!((within - (1.0 - 0.4092 * (-2.0f64 * 20.0 / 300.0).exp())).abs() < 5e-4, "{within}");
    }

    #[test]
    fn a_customer_with_the_patience_of_a_handling_time_is_erlang_b_without_an_end() {
        // With patience and handling equal, conversations leave as if there were a place for each: Poisson.
        let load = 4.0f64;
        let queue = centre(3, load, Some(300.0)).expected().unwrap();
        let below: f64 = [1.0, load, load * load / 2.0].iter().sum::<f64>() * (-load).exp();
        assert!((queue.waited - (1.0 - below)).abs() < 1e-9, "{queue:?}");
        // All leave: what is not abandoned is what three agents do.
        assert!(queue.abandoned > 0.0 && load * (1.0 - queue.abandoned) < 3.0, "{queue:?}");
    }

    #[test]
    fn perfect_agents_take_the_first_who_waits() {
        let draw = |arrives, handling, patience| Draw { arrives, handling, patience };
        let draws = [
            draw(0, 10, 99),
            draw(1, 10, 99),
            draw(2, 10, 99),
            draw(3, 10, 5),
            draw(4, 1, 7),
            draw(30, 1, 0),
        ];
        assert_eq!(ideal(&draws, 2), [Some(0), Some(0), Some(8), None, Some(7), Some(0)]);
        let outcomes = draws.iter().zip(ideal(&draws, 2)).map(|(draw, wait)| (*draw, wait != Some(0), wait));
        let queue = Queue::of(outcomes, 7);
        assert!((queue.waited - 0.5).abs() < 1e-9 && (queue.abandoned - 1.0 / 6.0).abs() < 1e-9, "{queue:?}");
        assert!((queue.within_target.unwrap() - 4.0 / 6.0).abs() < 1e-9, "{queue:?}");
    }

    #[test]
    fn many_draws_are_as_theory_says() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut drawn = |mean: f64| super::super::exponential(&mut rng, mean);
        let centre = Centre { places: 10, rate: 40.0, handling: 0.3, patience: Some(0.1), target: 0.05 };
        let mut arrives = 0;
        let draws: Vec<_> = (0..200_000)
            .map(|_| {
                arrives += drawn(1.0 / centre.rate);
                Draw { arrives, handling: drawn(centre.handling), patience: drawn(0.1) }
            })
            .collect();
        let waits = ideal(&draws, centre.places);
        let played = Queue::of(draws.iter().zip(waits).map(|(draw, wait)| (*draw, wait != Some(0), wait)), 0);
        let theory = centre.expected().unwrap();
        let (far, what) = Queue { within_target: None, ..played }.distance(&theory);
        assert!(far < 0.02, "{what}: {played:?} {theory:?}");
    }

    #[test]
    fn the_longer_the_closer_to_erlang_c() {
        let mut rng = fastrand::Rng::with_seed(0);
        let centre = Centre { places: 10, rate: 35.0, handling: 0.2, patience: None, target: 0.1 };
        let mut arrives = 0;
        let draws: Vec<_> = (0..1_000_000)
            .map(|_| {
                arrives += super::super::exponential(&mut rng, 1.0 / centre.rate);
                let handling = super::super::exponential(&mut rng, centre.handling);
                Draw { arrives, handling, patience: super::super::NEVER }
            })
            .collect();
        let waits = ideal(&draws, centre.places);
        let outcomes = draws.iter().zip(waits).map(|(draw, wait)| (*draw, wait != Some(0), wait));
        let (far, what) = Queue::of(outcomes, 100_000_000).distance(&centre.expected().unwrap());
        assert!(far < 0.02, "{what}: {far}");
    }

    #[test]
    fn distance_names_what_is_farthest() {
        let one = Queue { waited: 0.5, mean_wait_ms: 10.0, within_target: Some(0.9), abandoned: 0.0 };
        assert!(one.distance(&one).0 < 1e-12);
        let other = Queue { mean_wait_ms: 8.0, within_target: None, ..one };
        let (far, what) = one.distance(&other);
        assert!((far - 0.25).abs() < 1e-9 && what == "mean_wait_ms");
        assert!(Queue { abandoned: 0.1, ..one }.distance(&one).0.is_infinite());
    }
}
