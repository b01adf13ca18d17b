//! The store without a disk: what is committed outlives a crash of the shards, nothing outlives the process.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use super::{Found, Health, Lane, Lanes, LoadError, Lookup, Sequence, Store, Submission, Table};

/// Documents in memory. Nothing is committed by itself: [`Memory::commit`] does it.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
}

type Documents = BTreeMap<(Table, Box<[u8]>), Box<[u8]>>;

#[derive(Debug)]
struct State {
    lanes: Lanes,
    documents: Documents,
    committed: Vec<Sequence>,
    waiting: Vec<usize>,
    health: Health,
    lookups: Vec<VecDeque<Lookup>>,
}

impl Memory {
    /// No documents, for `lanes` lanes.
    pub fn new(lanes: usize) -> Self {
        Self::with(lanes, BTreeMap::new())
    }

    fn with(lanes: usize, documents: Documents) -> Self {
        let state = State {
            lanes: Lanes::new(lanes),
            documents,
            committed: vec![0; lanes],
            waiting: vec![0; lanes],
            health: Health::Fine,
            lookups: (0..lanes).map(|_| VecDeque::new()).collect(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Makes durable what is whole. `false`: nothing was.
    pub fn commit(&self) -> bool {
        let mut state = self.state.lock();
        let State { lanes, documents, committed, waiting, .. } = &mut *state;
        let Some(cut) = lanes.cut() else { return false };
        for change in cut.batches.iter().flat_map(super::Batch::iter) {
            let key = (change.table, change.key.into());
            match change.value {
                Some(value) => drop(documents.insert(key, value.into())),
                None => drop(documents.remove(&key)),
            }
        }
        for (lane, through) in cut.through.iter().enumerate() {
            if let (Some(through), Some(committed)) = (through, committed.get_mut(lane)) {
                *committed = *through;
            }
        }
        for (waiting, weight) in waiting.iter_mut().zip(cut.weights) {
            *waiting -= weight;
        }
        true
    }

    /// What a start after a crash finds: all that is committed, for `lanes` lanes.
    #[must_use]
    pub fn crash(&self, lanes: usize) -> Self {
        Self::with(lanes, self.state.lock().documents.clone())
    }

    /// Has the store be unwell, or well again.
    pub fn set_health(&self, health: Health) {
        self.state.lock().health = health;
    }

    /// Documents in a table.
    pub fn count(&self, table: Table) -> usize {
        self.state.lock().documents.keys().filter(|(of, _)| *of == table).count()
    }
}

impl Store for Memory {
    fn submit(&self, lane: Lane, submission: Submission) -> Sequence {
        let mut state = self.state.lock();
        let weight = submission.batch.len();
        if let Some(waiting) = state.waiting.get_mut(usize::from(lane)) {
            *waiting += weight;
        }
        state.lanes.submit(lane, submission)
    }

    fn committed(&self, lane: Lane) -> Sequence {
        self.state.lock().committed.get(usize::from(lane)).copied().unwrap_or(0)
    }

    fn waiting(&self, lane: Lane) -> usize {
        self.state.lock().waiting.get(usize::from(lane)).copied().unwrap_or(0)
    }

    fn health(&self) -> Health {
        self.state.lock().health
    }

    fn look_up(&self, lane: Lane, lookup: Lookup) {
        if let Some(lookups) = self.state.lock().lookups.get_mut(usize::from(lane)) {
            lookups.push_back(lookup);
        }
    }

    fn found(&self, lane: Lane) -> Option<Found> {
        let mut state = self.state.lock();
        let State { documents, lookups, .. } = &mut *state;
        let Lookup { ticket, keys } = lookups.get_mut(usize::from(lane))?.pop_front()?;
        let values = keys.into_iter().map(|key| documents.get(&key).cloned()).collect();
        Some(Found { ticket, values })
    }

    fn load(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), LoadError> {
        let state = self.state.lock();
        let from = (table, Box::default());
        for ((_, key), value) in state.documents.range(from..).take_while(|((of, _), _)| *of == table) {
            visit(key, value);
        }
        Ok(())
    }
}
