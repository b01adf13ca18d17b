//! The desk: which agent group a customer's message goes to, and what agents get of it.
//!
//! Owns the desk's topics below `cs/1/`, the routing rules and their conditions, the envelope of a message,
//! customers' context documents, and the answer to `control/explain`; `config` reads the rules from `conf/routing.toml`. Groups work in `shared` mode: a message goes to
//! the group's queue topic and a shared subscription takes it from there.
//!
//! Pure: bytes, documents and the time come in as arguments, values go out. It opens no file or socket, reads
//! no clock and draws no random numbers; the one thing it takes from the system is the time zone database,
//! while a routing file is loaded.

pub mod announce;
mod assigned;
mod check;
mod condition;
mod document;
mod envelope;
mod explain;
mod facts;
mod floor;
mod hours;
mod json;
mod model;
mod opening;
mod payload;
mod requests;
mod routing;
mod thread;
mod topics;

pub use assigned::{Assigned, Change, MAX_LEVEL, ModelSource, Order, Step, Turned, Weights};
pub use condition::ConditionError;
pub(crate) use condition::{Condition, environment};
pub use document::{ContextRules, FieldTtl, Patch};
pub use envelope::{Author, CONTENT_TYPE, EnvelopeTooLarge, Outbound, envelope, is_for_customer};
pub use explain::{Explained, Question, QuestionError};
pub use floor::{
    Agent, Answer, Candidate, Changes, Conversation, ConversationId, Destination, Done, Ended, Event, Floor,
    Instruction, Link, OfferId, OfferNote, OfferWhy, Opening, Order as FloorOrder, Phase, Presence, Prospect,
    QueueView, Reason, RecordError, Restored, Show, Standing, Term, Verb, Wrong,
};
pub use hours::{DAY_MIN, Day, Hours, Span};
pub use json::{Context, ContextError};
pub use model::{FeatureError, FeatureSource, Features, Fields, Inputs, ModelError, ModelFlaw, Scorer};
pub use opening::Wanted;
pub use payload::Payload;
pub use requests::{Control, Put, RequestError, Wish};
pub use routing::{Decision, Group, Inbound, Routing, Rule, Strategy, Tenant};
pub use thread::{Block, Entry, Mark, Past, Thread};
pub use topics::{DeskTopic, PREFIX, check_id, desk_topic};
