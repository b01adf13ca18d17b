//! The messages of one customer's conversation: their numbers, what was taken already, and those that are not in a block
//! of the transcript yet.
//!
//! It belongs to the shard where its customer lives. That shard alone gives out numbers, so they have no gap and no
//! repeat; the floor says who has the conversation and when it is over.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::envelope::is_for_customer;
use super::floor::ConversationId;

/// The form of all records.
const FORM: u8 = 1;

/// Marks of messages that are remembered, of the customer and of all others: a message that comes again finds its own
/// among the last so many of its side, however much the other side has written meanwhile.
const MARKS: usize = 128;

/// Messages that a block of a transcript has at most, and their bytes.
const BLOCK: usize = 64;
const BLOCK_BYTES: usize = 64 * 1024;

/// Messages that may wait for an agent, and their bytes: none of them goes into a block before somebody has had it.
const MOST_WAITING: usize = 1_000;
const MOST_WAITING_BYTES: usize = 1 << 20;

/// What tells a message that comes again: of one with an id of its own that, else of the packet that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// A hash of it.
    pub hash: u64,
    /// Only a packet that says that it comes again is one that has come: DUP [MQTT-3.3.1-1].
    pub only_if_again: bool,
    /// It says so.
    pub again: bool,
}

/// The last marks of either side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Marks {
    customer: VecDeque<u64>,
    others: VecDeque<u64>,
}

impl Marks {
    fn remember(&mut self, hash: u64, by_customer: bool) {
        let marks = if by_customer { &mut self.customer } else { &mut self.others };
        if marks.len() == MARKS {
            marks.pop_front();
        }
        marks.push_back(hash);
    }

    fn know(&self, mark: Mark) -> bool {
        known([&self.customer, &self.others], mark)
    }
}

fn known(marks: [&VecDeque<u64>; 2], mark: Mark) -> bool {
    (mark.again || !mark.only_if_again) && marks.iter().any(|marks| marks.contains(&mark.hash))
}

/// A message of a conversation: its number, and its envelope.
#[derive(Debug, Clone)]
pub struct Entry {
    /// From 1.
    pub seq: u32,
    /// The envelope, JSON.
    pub text: Arc<[u8]>,
}

/// Bytes before the envelope in what is stored of a message: the form, its mark, and up to which number all was announced
/// by then.
const HEAD: usize = 1 + 8 + 4;

/// Messages that leave the thread for a block of the transcript.
#[derive(Debug)]
pub struct Block {
    /// The last of them: the block's name.
    pub end: u32,
    /// In order.
    pub entries: Vec<Entry>,
}

/// See the module.
#[derive(Debug)]
pub struct Thread {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its group, as far as the floor has said.
    pub group: Arc<str>,
    /// Who has it.
    pub agent: Option<Arc<str>>,
    /// That one is a program.
    pub bot: bool,
    /// When it was opened, in milliseconds since the epoch.
    pub opened_at: u64,
    /// Its customer is to be forgotten: when it is over nothing of it is kept.
    pub erase: bool,
    /// The number of the last message.
    seq: u32,
    /// Up to this number all was handed to an agent.
    told: u32,
    /// Up to this number all was announced.
    announced: u32,
    /// The last number of each block.
    blocks: Vec<u32>,
    marks: Marks,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u8,
    /// A ULID.
    conversation: String,
    group: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<Arc<str>>,
    #[serde(default)]
    bot: bool,
    opened_at: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    erase: bool,
    seq: u32,
    told: u32,
    announced: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<u32>,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    marks: VecDeque<u64>,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    others_marks: VecDeque<u64>,
}

/// What a customer's last conversation leaves behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    v: u8,
    /// A ULID.
    conversation: String,
    /// Its last group.
    pub group: Arc<str>,
    /// Who had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<str>>,
    /// When it was over, in milliseconds since the epoch.
    pub closed_at: u64,
    /// The number of its last message.
    pub seq: u32,
    /// The last number of each block.
    pub blocks: Vec<u32>,
    /// How good the customer found it, 1 to 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<u8>,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    marks: VecDeque<u64>,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    others_marks: VecDeque<u64>,
    /// Its last messages, as far as they were not announced yet when it was over.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    unsaid: VecDeque<Box<str>>,
}

impl Thread {
    /// A conversation without a message. `past`: the customer's last one, whose messages may come again.
    pub fn new(conversation: ConversationId, group: Arc<str>, opened_at: u64, past: Option<&Past>) -> Self {
        Self {
            conversation,
            group,
            agent: None,
            bot: false,
            opened_at,
            erase: false,
            seq: 0,
            told: 0,
            announced: 0,
            blocks: Vec::new(),
            marks: past.map(Past::all_marks).unwrap_or_default(),
            tail: VecDeque::new(),
            tail_bytes: 0,
        }
    }

    /// The number of the last message.
    pub fn seq(&self) -> u32 {
        self.seq
    }

    /// Whether a message was taken before.
    pub fn has(&self, mark: Mark) -> bool {
        self.marks.know(mark)
    }

    /// Whether another message may wait until somebody has the conversation.
    pub fn has_room(&self) -> bool {
        self.agent.is_some() || (self.tail.len() < MOST_WAITING && self.tail_bytes < MOST_WAITING_BYTES)
    }

    /// Takes a message; its number is the next one.
    pub fn push(&mut self, text: Arc<[u8]>, mark: Option<Mark>, by_customer: bool) {
        self.seq += 1;
        self.tail_bytes += text.len();
        self.tail.push_back(Entry { seq: self.seq, text });
        if let Some(mark) = mark {
            self.marks.remember(mark.hash, by_customer);
        }
        if self.agent.is_some() {
            self.told = self.seq;
        }
    }

    /// What is stored of the last message: with it comes back what the thread's own record did not know yet.
    pub fn put_last(&self, mark: Option<Mark>, out: &mut Vec<u8>) {
        out.push(FORM);
        out.extend_from_slice(&mark.map_or(0, |mark| mark.hash).to_le_bytes());
        out.extend_from_slice(&self.announced.to_le_bytes());
        out.extend_from_slice(self.tail.back().map_or(&[], |entry| &entry.text));
    }

    /// Gives the conversation to an agent, who has had nothing of it: what it is to be handed is in the tail.
    pub fn give(&mut self, agent: Arc<str>, group: Arc<str>, bot: bool) {
        (self.agent, self.group, self.bot) = (Some(agent), group, bot);
        self.told = self.seq;
    }

    /// The conversation waits again.
    pub fn take(&mut self, group: Arc<str>) {
        (self.agent, self.group, self.bot) = (None, group, false);
    }

    /// Notes that a message was announced.
    pub fn announced(&mut self, seq: u32) {
        self.announced = self.announced.max(seq);
    }

    /// Messages that may not have been announced when the process ended.
    pub fn unannounced(&self) -> impl Iterator<Item = &Entry> {
        self.tail.iter().filter(|entry| entry.seq > self.announced)
    }

    /// The messages that are in no block, in order.
    pub fn tail(&self) -> impl Iterator<Item = &Entry> {
        self.tail.iter()
    }

    /// The last number of each block.
    pub fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    /// Takes out what makes a block, if there is enough that somebody has had; `all`: whatever there is. What is in a
    /// block is not announced again after a restart: it has to have been announced.
    pub fn seal(&mut self, all: bool) -> Option<Block> {
        let at_hand = if all { 0 } else { self.at_hand() };
        let old = self.tail.iter().take(self.tail.len() - at_hand);
        // What is not announced is announced again after a crash, from the tail.
        let done = self.told.min(self.announced);
        let had = old.take_while(|entry| all || entry.seq <= done).take(BLOCK);
        let mut bytes = 0;
        let (mut count, mut full) = (0, false);
        for entry in had {
            bytes += entry.text.len();
            count += 1;
            full = count == BLOCK || bytes >= BLOCK_BYTES;
            if full {
                break;
            }
        }
        if count == 0 || !(full || all) {
            return None;
        }
        let entries: Vec<Entry> = self.tail.drain(..count).collect();
        self.tail_bytes -= bytes;
        let end = entries.last()?.seq;
        self.blocks.push(end);
        Some(Block { end, entries })
    }

    /// How many of the last messages are in no block, although an agent was sent them: whether they have come nobody
    /// knows, and an agent that comes back over another connection is sent the tail again.
    fn at_hand(&self) -> usize {
        let mut bytes = 0;
        let last = self.tail.iter().rev().take(BLOCK).take_while(|entry| {
            bytes += entry.text.len();
            bytes <= BLOCK_BYTES
        });
        last.count()
    }

    /// What is stored of it, without its messages.
    pub fn record(&self, out: &mut Vec<u8>) {
        let record = Record {
            v: FORM,
            conversation: Ulid(self.conversation).to_string(),
            group: self.group.clone(),
            agent: self.agent.clone(),
            bot: self.bot,
            opened_at: self.opened_at,
            erase: self.erase,
            seq: self.seq,
            told: self.told,
            announced: self.announced,
            blocks: self.blocks.clone(),
            marks: self.marks.customer.clone(),
            others_marks: self.marks.others.clone(),
        };
        // Nothing of it can fail: the keys are strings and no number is infinite.
        let _ = serde_json::to_writer(out, &record);
    }

    /// Reads what was stored.
    pub fn read(record: &[u8]) -> Option<Self> {
        let record: Record =
            serde_json::from_slice(record).ok().filter(|record: &Record| record.v == FORM)?;
        Some(Self {
            conversation: Ulid::from_string(&record.conversation).ok()?.0,
            group: record.group,
            agent: record.agent,
            bot: record.bot,
            opened_at: record.opened_at,
            erase: record.erase,
            seq: record.seq,
            told: record.told,
            announced: record.announced,
            blocks: record.blocks,
            marks: Marks { customer: record.marks, others: record.others_marks },
            tail: VecDeque::new(),
            tail_bytes: 0,
        })
    }

    /// Puts back a message that is in no block. They come in order. `false`: it cannot be read.
    pub fn restore(&mut self, seq: u32, stored: &[u8]) -> bool {
        let Some((head, text)) = stored.split_first_chunk::<HEAD>() else { return false };
        let [form, mark @ .., a, b, c, d] = *head;
        let Ok(mark) = <[u8; 8]>::try_from(&mark[..]).map(u64::from_le_bytes) else { return false };
        if form != FORM {
            return false;
        }
        self.announced = self.announced.max(u32::from_le_bytes([a, b, c, d]));
        if seq > self.seq {
            self.seq = seq;
            if mark != 0 {
                self.marks.remember(mark, !is_for_customer(text));
            }
        }
        if self.agent.is_some() {
            self.told = self.seq;
        }
        self.tail_bytes += text.len();
        self.tail.push_back(Entry { seq, text: text.into() });
        true
    }

    /// What is left when it is over: before its last messages go into a block.
    pub fn past(&self, closed_at: u64) -> Past {
        let unsaid = self.unannounced().map(|entry| String::from_utf8_lossy(&entry.text).into()).collect();
        Past {
            v: FORM,
            conversation: Ulid(self.conversation).to_string(),
            group: self.group.clone(),
            agent: self.agent.clone(),
            closed_at,
            seq: self.seq,
            blocks: self.blocks.clone(),
            rating: None,
            marks: self.marks.customer.clone(),
            others_marks: self.marks.others.clone(),
            unsaid,
        }
    }
}

impl Past {
    /// Reads what was stored.
    pub fn read(record: &[u8]) -> Option<Self> {
        serde_json::from_slice(record).ok().filter(|past: &Self| past.v == FORM)
    }

    /// As it is stored.
    pub fn record(&self, out: &mut Vec<u8>) {
        let _ = serde_json::to_writer(out, self);
    }

    /// The conversation.
    pub fn conversation(&self) -> ConversationId {
        Ulid::from_string(&self.conversation).map_or(0, |id| id.0)
    }

    /// Another conversation has come after it: nothing of this one comes again.
    pub fn forget_marks(&mut self) {
        (self.marks, self.others_marks) = (VecDeque::new(), VecDeque::new());
    }

    /// Its last messages that may not have been announced, each with its number.
    pub fn unannounced(&self) -> impl Iterator<Item = (u32, &str)> {
        let first = self.seq.saturating_sub(self.unsaid.len() as u32) + 1;
        (first..).zip(self.unsaid.iter().map(|text| &**text))
    }

    /// Notes that a message was announced. Whether that was the last that had to be: it is to be stored.
    pub fn announced(&mut self, seq: u32) -> bool {
        let before = self.unsaid.len();
        let left = self.seq.saturating_sub(seq) as usize;
        self.unsaid.drain(..before.saturating_sub(left));
        before > 0 && self.unsaid.is_empty()
    }

    /// Whether a message belongs to it and comes again.
    pub fn has(&self, mark: Mark) -> bool {
        known([&self.marks, &self.others_marks], mark)
    }

    fn all_marks(&self) -> Marks {
        Marks { customer: self.marks.clone(), others: self.others_marks.clone() }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Arc<[u8]> {
        vec![b'x'; bytes].into()
    }

    fn mark(hash: u64, only_if_again: bool, again: bool) -> Mark {
        Mark { hash, only_if_again, again }
    }

    #[test]
    fn nothing_goes_into_a_block_before_somebody_has_had_it() {
        let mut thread = Thread::new(7, "care".into(), 1, None);
        for _ in 0..130 {
            thread.push(text(10), None, true);
        }
        assert!(thread.seal(false).is_none());
        thread.give("anna".into(), "care".into(), false);
        assert!(thread.seal(false).is_none(), "nor before it was announced");
        thread.announced(130);
        let block = thread.seal(false).unwrap();
        assert_eq!((block.end, block.entries.len()), (64, 64));
        assert!(thread.seal(false).is_none(), "the last ones may have to be sent again");
        assert_eq!(thread.tail().map(|entry| entry.seq).collect::<Vec<_>>(), (65..=130).collect::<Vec<_>>());
        assert_eq!(thread.seal(true).unwrap().end, 128);
        let rest = thread.seal(true).unwrap();
        assert_eq!((rest.end, rest.entries.len()), (130, 2));
        assert_eq!(thread.blocks(), [64, 128, 130]);
        assert!(thread.seal(true).is_none());
        thread.push(text(BLOCK_BYTES), None, true);
        assert!(thread.seal(false).is_none());
        thread.push(text(1), None, true);
        thread.announced(132);
        assert_eq!(thread.seal(false).unwrap().end, 131, "large ones make small blocks");
    }

    #[test]
    fn a_message_is_known_when_it_comes_again() {
        let mut thread = Thread::new(7, "care".into(), 1, None);
        thread.push(text(1), Some(mark(1, false, false)), true);
        thread.push(text(1), Some(mark(2, true, false)), true);
        assert!(thread.has(mark(1, false, false)));
        assert!(!thread.has(mark(2, true, false)), "the same packet id, and another message");
        assert!(thread.has(mark(2, true, true)));
        assert!(!thread.has(mark(3, true, true)));
        let past = thread.past(9);
        assert!(past.has(mark(1, false, false)));
        assert!(Thread::new(8, "care".into(), 1, Some(&past)).has(mark(1, false, false)));
        for hash in 10..10 + MARKS as u64 {
            thread.push(text(1), Some(mark(hash, false, false)), true);
        }
        assert!(!thread.has(mark(1, false, false)), "so many are remembered");
        for hash in 100..100 + MARKS as u64 {
            thread.push(text(1), Some(mark(hash, false, false)), false);
        }
        assert!(thread.has(mark(10, false, false)), "whatever others write");
        assert!(thread.has(mark(100, false, false)) && thread.past(9).has(mark(100, false, false)));
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let mut thread = Thread::new(u128::MAX, "care".into(), 1, None);
        thread.push(text(1), Some(mark(u64::MAX, false, false)), true);
        thread.tail[0].text = b"x"[..].into();
        thread.give("anna".into(), "night".into(), true);
        thread.erase = true;
        thread.push(text(2), None, true);
        // Its record is older than its last messages.
        let (mut record, mut messages) = (Vec::new(), vec![Vec::new()]);
        thread.record(&mut record);
        thread.put_last(None, &mut messages[0]);
        for number in 3..5 {
            thread.announced(number - 1);
            let mark = Some(mark(number.into(), true, false));
            thread.push(text(3), mark, true);
            let mut stored = Vec::new();
            thread.put_last(mark, &mut stored);
            messages.push(stored);
        }
        let mut back = Thread::read(&record).unwrap();
        assert!(back.restore(1, &[&[1; 13][..], b"x"].concat()));
        for (seq, stored) in (2..).zip(&messages) {
            assert!(back.restore(seq, stored));
        }
        assert!(!back.restore(5, b"") && !back.restore(5, &[2; 20]));
        back.announced = 3;
        assert_eq!(format!("{back:?}"), format!("{thread:?}"));
        let mut record = Vec::new();
        thread.past(5).record(&mut record);
        assert_eq!(Past::read(&record).unwrap(), thread.past(5));
        assert!(Thread::read(b"{}").is_none() && Past::read(b"").is_none());
    }

    #[test]
    fn what_was_not_announced_when_it_was_over_is_kept_until_it_is() {
        let mut thread = Thread::new(7, "care".into(), 1, None);
        for number in 0..4 {
            thread.push(format!("{number}").as_bytes().into(), None, true);
        }
        thread.announced(1);
        let mut record = Vec::new();
        thread.past(5).record(&mut record);
        let mut past = Past::read(&record).unwrap();
        assert_eq!(past.unannounced().collect::<Vec<_>>(), [(2, "1"), (3, "2"), (4, "3")]);
        assert!(!past.announced(1) && !past.announced(3));
        assert_eq!(past.unannounced().collect::<Vec<_>>(), [(4, "3")]);
        assert!(past.announced(4) && !past.announced(4));
        thread.announced(4);
        assert_eq!(past, thread.past(5));
    }

    #[test]
    fn what_waits_for_an_agent_is_bounded() {
        let mut thread = Thread::new(7, "care".into(), 1, None);
        for _ in 0..MOST_WAITING {
            assert!(thread.has_room());
            thread.push(text(1), None, true);
        }
        assert!(!thread.has_room());
        thread.give("anna".into(), "care".into(), false);
        assert!(thread.has_room());
    }
}
