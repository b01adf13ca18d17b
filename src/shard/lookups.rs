//! Documents on their way from the store.
//!
//! Who needs what is not in memory asks here and goes on; the answer comes in a later turn.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::errands::Back;
use super::ledger::Ledger;
use super::mailbox::Page;
use super::shelf::Away;
use super::transcripts::read_block;
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
    /// A page of a transcript.
    Transcript(Box<Transcript>),
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

/// A page of a transcript of which some blocks are in the store.
#[derive(Debug)]
pub struct Transcript {
    pub(super) conversation: u128,
    /// The last number of each block.
    pub(super) blocks: Vec<u32>,
    /// Messages that are in no block, those before the page's end.
    pub(super) tail: Vec<(u32, Arc<[u8]>)>,
    /// The page's end.
    pub(super) before: u32,
    /// Messages that it has at most.
    pub(super) limit: usize,
    pub(super) back: Back,
}

impl Transcript {
    /// The number before a block's first message.
    fn begin(&self, block: usize) -> u32 {
        block.checked_sub(1).and_then(|before| self.blocks.get(before)).copied().unwrap_or(0)
    }

    /// The blocks that the page needs, by their last numbers, in order.
    pub(super) fn missing(&self) -> impl Iterator<Item = u32> {
        let first = self.before.saturating_sub(1).saturating_sub(self.limit as u32);
        let blocks = self.blocks.iter().enumerate();
        blocks
            .filter(move |(at, end)| **end > first && self.begin(*at) + 1 < self.before)
            .map(|(_, end)| *end)
    }

    /// Where the answer goes, and the answer: `values` are the blocks of [`Self::missing`].
    pub(super) fn answer(self, values: &[Option<Box<[u8]>>]) -> (Back, Vec<u8>) {
        let mut messages: Vec<(u32, Arc<[u8]>)> = Vec::new();
        let ends: Vec<u32> = self.missing().collect();
        let mut damaged = false;
        for (end, value) in ends.iter().zip(values) {
            let at = self.blocks.iter().position(|known| known == end).unwrap_or(0);
            match value.as_deref().and_then(read_block) {
                Some(texts) => messages.extend((self.begin(at) + 1..).zip(texts.into_iter().map(Arc::from))),
                None => damaged = true,
            }
        }
        messages.extend(self.tail);
        messages.retain(|(seq, _)| *seq < self.before);
        let cut = messages.len().saturating_sub(self.limit);
        let page = messages.split_off(cut);
        let before = page.first().map(|(seq, _)| *seq).filter(|seq| *seq > 1);
        let mut out = Vec::new();
        let v = ulid::Ulid(self.conversation);
        out.extend_from_slice(
            format!("{{\"verb\":\"transcript\",\"ok\":{},\"conversation\":\"{v}\",", !damaged).as_bytes(),
        );
        if let Some(before) = before {
            out.extend_from_slice(format!("\"before\":{before},").as_bytes());
        }
        out.extend_from_slice(b"\"messages\":[");
        for (at, (_, text)) in page.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(text);
        }
        out.extend_from_slice(b"]}");
        (self.back, out)
    }
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
