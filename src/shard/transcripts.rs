//! Transcripts: in blocks of many messages, read a page at a time, and forgotten when they have been kept for long enough.

use std::sync::Arc;

use super::Core;
use super::announcing::Saying;
use super::desk::json_properties;
use super::errands::{Back, Errand, What};
use super::lookups::{Purpose, Transcript};
use super::threads::{customer_of, key_of, write_past};
use crate::desk::{Block, Control, ConversationId, PREFIX, Past, Tenant, Thread, Wrong, announce};
use crate::store::Table;

/// Conversations that one tick forgets at most.
const SWEEP: usize = 64;

/// What [`Core::erase_customer`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// Conversations that were over and are gone.
    pub over: usize,
    /// One is open, and goes when it ends.
    pub open: bool,
}

/// The key of a message that is in no block, or of a conversation that is over.
pub(super) fn put_message_key(
    out: &mut Vec<u8>,
    customer: &str,
    conversation: ConversationId,
    seq: Option<u32>,
) {
    out.extend_from_slice(customer.as_bytes());
    out.push(0);
    out.extend_from_slice(&conversation.to_be_bytes());
    if let Some(seq) = seq {
        out.extend_from_slice(&seq.to_be_bytes());
    }
}

/// The key of a block of a transcript.
pub(super) fn block_key(conversation: ConversationId, end: u32) -> [u8; 20] {
    let mut key = [0; 20];
    let (id, number) = key.split_at_mut(16);
    id.copy_from_slice(&conversation.to_be_bytes());
    number.copy_from_slice(&end.to_be_bytes());
    key
}

/// A block as it is stored: the envelopes one behind the other, each with its length, compressed.
fn put_block(out: &mut Vec<u8>, block: &Block) {
    let mut plain = Vec::with_capacity(block.entries.iter().map(|entry| entry.text.len() + 4).sum());
    for entry in &block.entries {
        plain.extend_from_slice(&(entry.text.len() as u32).to_le_bytes());
        plain.extend_from_slice(&entry.text);
    }
    if let Ok(packed) = snap::raw::Encoder::new().compress_vec(&plain) {
        out.push(1);
        out.extend_from_slice(&packed);
    } else {
        out.push(0);
        out.extend_from_slice(&plain);
    }
}

/// The envelopes of a block. `None`: it is damaged.
pub(super) fn read_block(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (form, rest) = value.split_first()?;
    let plain = match form {
        0 => rest.to_vec(),
        1 => snap::raw::Decoder::new().decompress_vec(rest).ok()?,
        _ => return None,
    };
    let (mut left, mut all) = (plain.as_slice(), Vec::new());
    while let Some((length, rest)) = left.split_first_chunk() {
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        all.push(text.to_vec());
        left = rest;
    }
    left.is_empty().then_some(all)
}

impl Core {
    /// Moves what makes a block from the tail into the transcript.
    pub(super) fn seal(&mut self, key: &Arc<str>, all: bool) {
        if !self.clients.ledger.on() {
            // Nobody keeps transcripts: what an agent has had goes, but for the last of it.
            if let Some(thread) = self.threads.open.get_mut(key) {
                while thread.seal(false).is_some() {}
            }
            return;
        }
        while let Some(thread) = self.threads.open.get_mut(key)
            && let Some(block) = thread.seal(all)
        {
            let conversation = thread.conversation;
            let ledger = &mut self.clients.ledger;
            ledger.put(
                Table::Transcripts,
                |out| out.extend_from_slice(&block_key(conversation, block.end)),
                |out| put_block(out, &block),
            );
            for entry in &block.entries {
                ledger.delete(Table::Tails, |out| put_message_key(out, key, conversation, Some(entry.seq)));
            }
            self.write_thread(key);
        }
    }

    /// A customer says how good its last conversation was.
    pub(super) fn rate(
        &mut self,
        tenant: &Tenant,
        key: &Arc<str>,
        rating: u8,
        comment: Option<&str>,
    ) -> Result<ConversationId, Wrong> {
        let past = self.threads.past.get_mut(key).and_then(|pasts| pasts.last_mut());
        let past = past.filter(|_| !self.threads.open.contains_key(key)).ok_or(Wrong::NotNow)?;
        past.rating = Some(rating);
        let conversation = past.conversation();
        let said = announce::rating(past, customer_of(key), comment, self.clients.now.unix);
        write_past(&mut self.clients.ledger, key, past);
        let topic = format!("{PREFIX}{}/conversation/{}/events", tenant.name(), ulid::Ulid(conversation));
        self.announce(Saying::once(&topic, &said, &json_properties("application/json", None)));
        Ok(conversation)
    }

    /// Forgets conversations whose transcripts have been kept for long enough.
    pub(super) fn sweep_transcripts(&mut self) {
        for _ in 0..SWEEP {
            let now = self.clients.now.unix;
            if self.threads.ends.first().is_none_or(|(until, _)| *until > now) {
                return;
            }
            let Some((_, key)) = self.threads.ends.pop_first() else { return };
            let pasts = self.threads.past.remove(&key).unwrap_or_default();
            let (gone, stay): (Vec<Past>, Vec<Past>) = pasts
                .into_iter()
                .partition(|past| self.forget_at(&key, past).is_some_and(|until| until <= now));
            if !stay.is_empty() {
                self.threads.past.insert(key.clone(), stay);
            }
            self.erase(&key, gone);
        }
    }

    fn erase(&mut self, key: &str, gone: Vec<Past>) {
        let ledger = &mut self.clients.ledger;
        for past in gone {
            let conversation = past.conversation();
            for end in &past.blocks {
                ledger
                    .delete(Table::Transcripts, |out| out.extend_from_slice(&block_key(conversation, *end)));
            }
            ledger.delete(Table::Archive, |out| put_message_key(out, key, conversation, None));
        }
    }

    /// Has the desk forget a customer; on the shard that is its home, elsewhere nothing is known of it.
    ///
    /// What is over goes at once: transcripts, ratings, which agent the customer had, marks of messages that may come
    /// again. An agent that still writes one up is done with that. The customer's document goes, too. A conversation that
    /// is open needs its messages: it is marked, durably, and goes as a whole when it ends, instead of being kept.
    ///
    /// All of it is durable or nothing; while the store takes nothing, do not call it. What is on its way to clients, or
    /// waits for their sessions, is theirs, and files have old contents until the store writes them anew.
    pub fn erase_customer(&mut self, tenant: &str, customer: &str) -> Erased {
        let key = key_of(tenant, customer);
        let gone = self.threads.past.remove(&key).unwrap_or_default();
        for past in &gone {
            if let Some(until) = self.forget_at(&key, past) {
                self.threads.ends.remove(&(until, key.clone()));
            }
        }
        let over = gone.len();
        self.erase_everywhere(&key, gone);
        let open = self.threads.open.get_mut(&key).map(|thread| thread.erase = true).is_some();
        self.write_thread(&key);
        self.erase_document(tenant, customer);
        Erased { over, open }
    }

    /// A conversation of a customer who is to be forgotten is over: of it nothing is kept.
    pub(super) fn erase_thread(&mut self, key: &str, thread: &Thread, past: Past) {
        for entry in thread.tail() {
            let id = thread.conversation;
            self.clients.ledger.delete(Table::Tails, |out| put_message_key(out, key, id, Some(entry.seq)));
        }
        self.erase_everywhere(key, vec![past]);
    }

    /// As [`Self::erase`], on the floor as well, where what is over is until it is written up.
    fn erase_everywhere(&mut self, key: &str, gone: Vec<Past>) {
        let tenant = key.split_once('\0').map_or("", |(tenant, _)| tenant);
        for past in &gone {
            let what = What::Control(Box::new(Control::Close(past.conversation())), Back::default());
            // Nobody is told that most of them have been written up.
            let _ = self.send(Errand { tenant: tenant.into(), what }, false);
        }
        self.erase(key, gone);
    }

    /// In how many places something is remembered of a customer's conversations, for tests.
    pub fn traces_of(&self, tenant: &str, customer: &str) -> usize {
        let (key, threads) = (key_of(tenant, customer), &self.threads);
        let past = threads.past.get(&key).map_or(0, Vec::len);
        let ends = threads.ends.iter().filter(|(_, of)| *of == key).count();
        usize::from(threads.open.contains_key(&key)) + past + ends
    }

    /// A page of a customer's messages, those before a number, the last ones first found.
    pub(super) fn transcript(
        &mut self,
        key: &Arc<str>,
        conversation: Option<ConversationId>,
        before: u32,
        limit: usize,
        back: Back,
    ) {
        let open = self.threads.open.get(key).filter(|t| conversation.is_none_or(|v| t.conversation == v));
        let past = self.threads.past.get(key).and_then(|pasts| {
            pasts.iter().rev().find(|past| conversation.is_none_or(|v| past.conversation() == v))
        });
        let (found, last, blocks, tail) = match (open, past) {
            (Some(thread), _) => {
                let tail = thread.tail().filter(|entry| entry.seq < before);
                let tail: Vec<(u32, Arc<[u8]>)> = tail.map(|e| (e.seq, e.text.clone())).collect();
                (thread.conversation, thread.seq(), thread.blocks().to_vec(), tail)
            }
            (None, Some(past)) => (past.conversation(), past.seq, past.blocks.clone(), Vec::new()),
            (None, None) => {
                let none = announce::wish("transcript", Err(Wrong::NoConversation));
                return self.respond(&back, &none);
            }
        };
        let before = before.min(last.saturating_add(1));
        let page = Transcript { conversation: found, blocks, tail, before, limit, back };
        self.read_transcript(page);
    }

    /// Reads blocks from the store until a page is full.
    fn read_transcript(&mut self, page: Transcript) {
        let keys: Vec<(Table, Box<[u8]>)> = page
            .missing()
            .map(|end| (Table::Transcripts, Box::from(&block_key(page.conversation, end)[..])))
            .collect();
        if keys.is_empty() || !self.clients.ledger.on() {
            return self.show_transcript(page, &[]);
        }
        let purpose = Purpose::Transcript(Box::new(page));
        self.clients.lookups.ask(&self.clients.ledger, purpose, keys);
    }

    pub(super) fn show_transcript(&mut self, page: Transcript, values: &[Option<Box<[u8]>>]) {
        let (back, answer) = page.answer(values);
        self.respond(&back, &answer);
    }
}
