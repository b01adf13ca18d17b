//! What outlives the process: tables of documents, and when a change of them may be relied on.
//!
//! Every shard has a *lane*. In each turn it submits the changes that it has made as one [`Submission`]; the store makes
//! them durable, in order within the lane, and says up to which [`Sequence`] it has. Acknowledgements wait for that.
//!
//! Work that crosses shards is made durable wholly or not at all: the shard that has stamped mail with its next sequence
//! number says in that submission how many posts [`Submission::expects`] an answer, the shards that open the mail say in
//! theirs what they have [`Submission::joined`], and the store writes only consistent cuts (see [`Lanes`]) through all lanes.
//!
//! The store knows nothing of what the documents mean.

mod batch;
pub mod disk;
mod lanes;
pub mod memory;

use std::fmt::Debug;

pub use batch::{Batch, Change};
pub use disk::Disk;
pub use lanes::{Cut, Lanes};
pub use memory::Memory;

/// A shard's way into the store.
pub type Lane = u16;

/// Number of a submission in its lane, from 1 without gaps.
pub type Sequence = u64;

/// A table of documents. The numbers are on disk: they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Sessions by their number.
    Sessions = 1,
    /// Subscriptions by session and filter.
    Subscriptions = 2,
    /// Packet ids received at QoS 2 and not released, by session.
    Received = 3,
    /// What sessions are owed, by session and number of the delivery.
    Owed = 4,
    /// Messages that several wait for, by number.
    Bodies = 5,
    /// Retained messages by topic.
    Retained = 6,
    /// What waits in shared groups, by the group's text and number.
    Groups = 7,
    /// Conversations of groups in `assigned` mode, by tenant and id.
    Conversations = 8,
    /// Agents, by tenant and name.
    Agents = 9,
    /// What customers' homes know of open conversations, by tenant and customer.
    Threads = 10,
    /// Messages of open conversations that are in no block yet, by tenant, customer, conversation and number.
    Tails = 11,
    /// Blocks of transcripts, by conversation and the number of the last message.
    Transcripts = 12,
    /// Conversations that are over, by tenant, customer and conversation.
    Archive = 13,
    /// Groups in `assigned` mode that take no new conversations, by tenant and name.
    Drained = 14,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::Sessions,
        Self::Subscriptions,
        Self::Received,
        Self::Owed,
        Self::Bodies,
        Self::Retained,
        Self::Groups,
        Self::Conversations,
        Self::Agents,
        Self::Threads,
        Self::Tails,
        Self::Transcripts,
        Self::Archive,
        Self::Drained,
    ];

    /// The table with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }

    /// Its name, for people and for files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Subscriptions => "subscriptions",
            Self::Received => "received",
            Self::Owed => "owed",
            Self::Bodies => "bodies",
            Self::Retained => "retained",
            Self::Groups => "groups",
            Self::Conversations => "conversations",
            Self::Agents => "agents",
            Self::Threads => "threads",
            Self::Tails => "tails",
            Self::Transcripts => "transcripts",
            Self::Archive => "archive",
            Self::Drained => "drained",
        }
    }
}

/// What one lane hands over at the end of a turn.
#[derive(Debug, Default)]
pub struct Submission {
    /// The changes, in order.
    pub batch: Batch,
    /// Posts to other lanes stamped with this submission's sequence number: as many must join before it is whole.
    pub expects: u32,
    /// Submissions of other lanes whose stamped posts were worked off in this one, once for each post.
    pub joined: Vec<(Lane, Sequence)>,
}

/// Documents that a lane asks for.
#[derive(Debug)]
pub struct Lookup {
    /// Comes back with what is found.
    pub ticket: u64,
    /// Which documents.
    pub keys: Vec<(Table, Box<[u8]>)>,
}

/// What a [`Lookup`] has found.
#[derive(Debug)]
pub struct Found {
    /// That of the lookup.
    pub ticket: u64,
    /// The documents in the order of the keys; `None`: there is no such document, or it was damaged.
    pub values: Vec<Option<Box<[u8]>>>,
}

/// How the store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// What is submitted becomes durable.
    #[default]
    Fine = 0,
    /// There is no room on the disk. What was submitted waits; more of it should not be taken.
    Full = 1,
    /// The disk answers with errors. What was submitted waits; more of it should not be taken.
    Failed = 2,
}

/// A store that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct LoadError {
    /// The file or table.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// Durable tables. No call waits for the disk but [`Store::load`].
pub trait Store: Debug + Send + Sync {
    /// Hands over what a lane has done. Returns its sequence number: one more than the last.
    fn submit(&self, lane: Lane, submission: Submission) -> Sequence;

    /// Everything up to this number of the lane is durable, with all that it crossed lanes for.
    fn committed(&self, lane: Lane) -> Sequence;

    /// Bytes of a lane's submissions that are not durable yet.
    fn waiting(&self, lane: Lane) -> usize;

    /// Whether more durable work should be taken.
    fn health(&self) -> Health;

    /// Asks for documents while the store runs. A lane finds what it has submitted once that is committed.
    fn look_up(&self, lane: Lane, lookup: Lookup);

    /// The next answer to a lane's lookups, in their order.
    fn found(&self, lane: Lane) -> Option<Found>;

    /// Shows all documents of a table, in the order of their keys, as they are without what waits to become durable.
    /// For the start, before anything is submitted.
    fn load(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), LoadError>;
}
