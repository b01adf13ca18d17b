//! Documents on their way from the store.
//!
//! Who needs what is not in memory asks here and goes on; the answer comes in a later turn.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::ledger::Ledger;
use super::mailbox::Page;
use super::shelf::Away;
use crate::session::Number;
use crate::store::{Found, Lane, Lookup, Sequence, Store, Table};

/// What documents are for.
#[derive(Debug)]
pub enum Purpose {
    /// Deliveries of a session: their numbers, and whether a body of its own was asked for behind each.
    Deliveries {
        /// Slab key of the session.
        session: u32,
        /// Its generation.
        generation: u32,
        /// Numbers of the deliveries, each with what the store knows its message by.
        wanted: Vec<(Number, u64)>,
    },
    /// A page of retained messages.
    Page(Box<Incomplete>),
    /// Messages of a shared group.
    Backlog {
        /// The group's text.
        text: Arc<str>,
        /// Their numbers.
        numbers: Vec<u64>,
    },
}

/// A page of retained messages of which some are in the store.
#[derive(Debug)]
pub struct Incomplete {
    /// Shard of the session that has asked for it.
    pub(super) shard: u16,
    /// What is there.
    pub(super) page: Page,
    /// What is not, in order.
    pub(super) missing: Vec<Missing>,
    /// Whether they may stay in memory: one topic was asked for, not all that there are.
    pub(super) keep: bool,
}

/// A retained message that is in the store.
#[derive(Debug)]
pub(super) struct Missing {
    /// How many messages of the page that are there come before it.
    pub(super) at: usize,
    pub(super) topic: Arc<str>,
    pub(super) away: Away,
}

/// A shard's questions.
#[derive(Debug, Default)]
pub struct Lookups {
    store: Option<Arc<dyn Store>>,
    lane: Lane,
    last: u64,
    purposes: HashMap<u64, Purpose, ahash::RandomState>,
    /// Those that wait until what they ask for is durable.
    waiting: VecDeque<(Sequence, Lookup)>,
}

impl Lookups {
    /// Those of one lane.
    pub fn new(store: Option<Arc<dyn Store>>, lane: Lane) -> Self {
        Self { store, lane, ..Self::default() }
    }

    /// Asks for documents as they are now.
    pub fn ask(&mut self, ledger: &Ledger, purpose: Purpose, keys: Vec<(Table, Box<[u8]>)>) {
        self.last += 1;
        self.purposes.insert(self.last, purpose);
        self.waiting.push_back((ledger.up_to(), Lookup { ticket: self.last, keys }));
    }

    /// Hands over the questions whose documents are durable.
    pub fn send(&mut self, committed: Sequence) {
        let Some(store) = &self.store else { return };
        while let Some((_, lookup)) = self.waiting.pop_front_if(|(after, _)| *after <= committed) {
            store.look_up(self.lane, lookup);
        }
    }

    /// Whether any answer is still to come.
    #[inline]
    pub fn pending(&self) -> bool {
        !self.purposes.is_empty()
    }

    /// The next answer.
    pub fn take(&mut self) -> Option<(Purpose, Found)> {
        let found = self.store.as_ref()?.found(self.lane)?;
        Some((self.purposes.remove(&found.ticket)?, found))
    }
}
