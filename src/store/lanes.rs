//! Submissions that wait, and which of them may become durable together.
//!
//! A *cut* takes a prefix of every lane such that work which crossed lanes is in it wholly or not at all: an origin is in
//! it only with all its joins, and a join only with its origin. Whatever is written of a cut is written as one.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::{Batch, Lane, Sequence, Submission};

#[derive(Debug)]
struct Waiting {
    batch: Batch,
    /// Joins that have not been submitted yet.
    missing: u32,
    /// Submissions that have to be in the same cut: an origin's joins, a join's origins.
    partners: Vec<(Lane, Sequence)>,
}

/// One lane's submissions that are not in a cut yet.
#[derive(Debug)]
struct Queue {
    first: Sequence,
    waiting: VecDeque<Waiting>,
}

/// All lanes.
#[derive(Debug)]
pub struct Lanes {
    queues: Vec<Queue>,
    /// Joins of origins that are not submitted yet: mail is posted first.
    early: HashMap<(Lane, Sequence), Vec<(Lane, Sequence)>, ahash::RandomState>,
}

/// Submissions that become durable together.
#[derive(Debug, Default)]
pub struct Cut {
    /// Their changes: in order within a lane, while no document belongs to two lanes.
    pub batches: Vec<Batch>,
    /// For each lane the last sequence number in it, if any of it is.
    pub through: Vec<Option<Sequence>>,
    /// For each lane the bytes of its changes in it.
    pub weights: Vec<usize>,
}

impl Lanes {
    /// `lanes` lanes, the next sequence number of each being 1.
    pub fn new(lanes: usize) -> Self {
        let queues = (0..lanes).map(|_| Queue { first: 1, waiting: VecDeque::new() }).collect();
        Self { queues, early: HashMap::default() }
    }

    /// Takes a submission in and returns its number.
    pub fn submit(&mut self, lane: Lane, submission: Submission) -> Sequence {
        let Submission { batch, expects, joined } = submission;
        let Some(queue) = self.queues.get(usize::from(lane)) else { return 0 };
        let sequence = queue.first + queue.waiting.len() as Sequence;
        let mut waiting = Waiting { batch, missing: expects, partners: joined };
        for &origin in &waiting.partners {
            match self.find(origin) {
                Some(of) => {
                    of.missing = of.missing.saturating_sub(1);
                    of.partners.push((lane, sequence));
                }
                None => self.early.entry(origin).or_default().push((lane, sequence)),
            }
        }
        if expects > 0
            && let Some(early) = self.early.remove(&(lane, sequence))
        {
            waiting.missing = waiting.missing.saturating_sub(early.len() as u32);
            waiting.partners.extend(early);
        }
        if let Some(queue) = self.queues.get_mut(usize::from(lane)) {
            queue.waiting.push_back(waiting);
        }
        sequence
    }

    fn find(&mut self, (lane, sequence): (Lane, Sequence)) -> Option<&mut Waiting> {
        let queue = self.queues.get_mut(usize::from(lane))?;
        queue.waiting.get_mut(usize::try_from(sequence.checked_sub(queue.first)?).ok()?)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.waiting.is_empty())
    }

    /// Takes the largest cut; `None` if nothing may become durable yet.
    pub fn cut(&mut self) -> Option<Cut> {
        let mut ends: Vec<usize> = self.queues.iter().map(|queue| queue.waiting.len()).collect();
        while self.shorten(&mut ends) {}
        if ends.iter().all(|&end| end == 0) {
            return None;
        }
        let mut cut = Cut::default();
        for (queue, end) in self.queues.iter_mut().zip(ends) {
            let before = cut.batches.len();
            cut.batches.extend(queue.waiting.drain(..end).map(|w| w.batch).filter(|b| !b.is_empty()));
            cut.weights.push(cut.batches.iter().skip(before).map(Batch::len).sum());
            queue.first += end as Sequence;
            cut.through.push((end > 0).then(|| queue.first - 1));
        }
        Some(cut)
    }

    /// Ends each lane before the first submission that is not whole within `ends`. `true`: something was shortened, and
    /// what was whole with it may not be any more.
    fn shorten(&self, ends: &mut [usize]) -> bool {
        let mut shortened = false;
        for (lane, queue) in self.queues.iter().enumerate() {
            let end = ends.get(lane).copied().unwrap_or(0);
            let whole = |waiting: &Waiting| {
                waiting.missing == 0 && waiting.partners.iter().all(|&partner| self.within(partner, ends))
            };
            if let Some(at) = queue.waiting.iter().take(end).position(|waiting| !whole(waiting))
                && let Some(end) = ends.get_mut(lane)
            {
                *end = at;
                shortened = true;
            }
        }
        shortened
    }

    fn within(&self, (lane, sequence): (Lane, Sequence), ends: &[usize]) -> bool {
        let at = usize::from(lane);
        let (Some(queue), Some(&end)) = (self.queues.get(at), ends.get(at)) else { return false };
        sequence < queue.first + end as Sequence
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::Table;
    use super::*;

    fn submission(expects: u32, joined: &[(Lane, Sequence)]) -> Submission {
        let mut batch = Batch::default();
        batch.put(Table::Bodies, |k| k.push(1), |_| {});
        Submission { batch, expects, joined: joined.to_vec() }
    }

    fn through(lanes: &mut Lanes) -> Option<Vec<Option<Sequence>>> {
        lanes.cut().map(|cut| cut.through)
    }

    #[test]
    fn an_origin_waits_for_all_its_joins_and_holds_back_what_comes_behind_it() {
        let mut lanes = Lanes::new(3);
        assert_eq!(lanes.submit(0, submission(0, &[])), 1);
        assert_eq!(lanes.submit(0, submission(2, &[])), 2);
        assert_eq!(lanes.submit(0, submission(0, &[])), 3);
        assert_eq!(through(&mut lanes), Some(vec![Some(1), None, None]));
        lanes.submit(1, submission(0, &[(0, 2)]));
        assert_eq!(through(&mut lanes), None, "one of two");
        lanes.submit(2, submission(0, &[(0, 2)]));
        assert_eq!(through(&mut lanes), Some(vec![Some(3), Some(1), Some(1)]));
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_join_waits_for_its_origin() {
        let mut lanes = Lanes::new(2);
        lanes.submit(1, submission(0, &[(0, 1)]));
        lanes.submit(1, submission(0, &[]));
        assert_eq!(through(&mut lanes), None);
        lanes.submit(0, submission(1, &[]));
        assert_eq!(through(&mut lanes), Some(vec![Some(1), Some(2)]));
        assert!(lanes.early.is_empty());
    }

    #[test]
    fn two_lanes_that_wait_for_each_other_go_together() {
        let mut lanes = Lanes::new(2);
        lanes.submit(0, submission(1, &[]));
        lanes.submit(1, submission(1, &[]));
        assert_eq!(through(&mut lanes), None);
        lanes.submit(0, submission(0, &[(1, 1)]));
        assert_eq!(through(&mut lanes), None);
        lanes.submit(1, submission(0, &[(0, 1)]));
        assert_eq!(through(&mut lanes), Some(vec![Some(2), Some(2)]));
    }

    #[test]
    fn what_is_shortened_takes_its_partners_with_it() {
        let mut lanes = Lanes::new(3);
        // Lane 2 crosses into lane 1, behind something of lane 1 that is not whole.
        lanes.submit(1, submission(1, &[]));
        lanes.submit(2, submission(1, &[]));
        lanes.submit(1, submission(0, &[(2, 1)]));
        lanes.submit(0, submission(0, &[]));
        assert_eq!(through(&mut lanes), Some(vec![Some(1), None, None]));
        lanes.submit(0, submission(0, &[(1, 1)]));
        assert_eq!(through(&mut lanes), Some(vec![Some(2), Some(2), Some(1)]));
    }
}
