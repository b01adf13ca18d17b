//! Reads documents that the shards ask for while the store runs, on a thread of its own.
//!
//! What is committed and not in the view yet is in memory; all else is in sled, where a read may wait for the disk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::super::{Found, Lane, Lookup, Table};
use super::blocks::Last;
use super::overlay::Untouched;
use super::shared::Shared;
use super::view::{Trees, guarded};

/// How long a view that cannot be read is left alone.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Lookups and their answers.
#[derive(Debug)]
pub(super) struct Desk {
    asked: Mutex<Asked>,
    work: Condvar,
    answers: Box<[Answers]>,
    /// The view's tables; `None` while it is being mended. Locked while they are read.
    pub(super) trees: Mutex<Option<Trees>>,
}

#[derive(Debug, Default)]
struct Asked {
    lookups: VecDeque<(Lane, Lookup)>,
    ended: bool,
}

/// One lane's.
#[derive(Debug, Default)]
struct Answers {
    /// A lane asks every turn whether there are any.
    count: AtomicUsize,
    found: Mutex<VecDeque<Found>>,
}

impl Desk {
    pub(super) fn new(lanes: usize) -> Self {
        Self {
            asked: Mutex::default(),
            work: Condvar::new(),
            answers: (0..lanes).map(|_| Answers::default()).collect(),
            trees: Mutex::new(None),
        }
    }

    pub(super) fn ask(&self, lane: Lane, lookup: Lookup) {
        self.asked.lock().lookups.push_back((lane, lookup));
        self.work.notify_one();
    }

    pub(super) fn take(&self, lane: Lane) -> Option<Found> {
        let answers = self.answers.get(usize::from(lane))?;
        if answers.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let found = answers.found.lock().pop_front()?;
        answers.count.fetch_sub(1, Ordering::Relaxed);
        Some(found)
    }

    fn answer(&self, lane: Lane, found: Found) {
        if let Some(answers) = self.answers.get(usize::from(lane)) {
            answers.found.lock().push_back(found);
            answers.count.fetch_add(1, Ordering::Release);
        }
    }

    /// Has the thread end.
    pub(super) fn end(&self) {
        self.asked.lock().ended = true;
        self.work.notify_one();
    }
}

/// Answers until the store ends.
pub(super) fn run(shared: &Shared) {
    let desk = &shared.lookups;
    loop {
        let (lane, lookup) = {
            let mut asked = desk.asked.lock();
            loop {
                if asked.ended {
                    return;
                }
                match asked.lookups.pop_front() {
                    Some(next) => break next,
                    None => desk.work.wait(&mut asked),
                }
            }
        };
        let Lookup { ticket, keys } = lookup;
        let (mut values, mut last) = (Vec::with_capacity(keys.len()), None);
        for (table, key) in keys {
            match read(shared, table, &key, &mut last) {
                Ok(value) => values.push(value),
                Err(Ended) => return,
            }
        }
        desk.answer(lane, Found { ticket, values });
        shared.wake(lane);
    }
}

/// The store has ended.
struct Ended;

/// Reads a document, however often that takes.
fn read(shared: &Shared, table: Table, key: &[u8], last: &mut Last) -> Result<Option<Box<[u8]>>, Ended> {
    loop {
        // First what is newer: what leaves memory is in the view before.
        {
            let tables = shared.tables.lock();
            let mut newer = tables.active.get(table, key);
            if let Some(frozen) = &tables.frozen {
                newer = newer.or_else(|Untouched| frozen.get(table, key));
            }
            if let Ok(change) = newer {
                return Ok(change.map(Box::from));
            }
        }
        let trees = shared.lookups.trees.lock();
        let read = trees.as_ref().map(|trees| guarded(|| trees.get(table, key, last)));
        drop(trees);
        match read {
            Some(Ok(value)) => return Ok(value),
            Some(Err(broken)) => {
                let mut tables = shared.tables.lock();
                tables.unreadable = Some(broken);
                shared.filled.notify_one();
            }
            // It is being mended.
            None => {}
        }
        let mut asked = shared.lookups.asked.lock();
        if !asked.ended {
            shared.lookups.work.wait_for(&mut asked, BACK_OFF);
        }
        if asked.ended {
            return Err(Ended);
        }
    }
}
