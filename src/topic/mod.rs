//! Topic names, topic filters, and the indexes that join the two.
//!
//! Owns the rules of section 4.7 (names, filters, wildcards, `$` topics) and 4.8.2 (the syntax of shared
//! subscriptions), who subscribes to what within one shard, and the order in which retained topics are
//! walked. It knows topics and small keys only: no session, no message, no packet, no clock and no I/O.
//!
//! [`check_name`] and [`parse_filter`] are the gate. The indexes take what has passed it; given anything else
//! they stay sound, but what such a filter matches is not defined.

mod filter;
mod index;
mod matching;
mod name;
mod relation;
mod retained;
mod storage;
mod subscribers;
mod subscription;
mod trie;

pub use filter::{FilterError, ParsedFilter, parse_filter};
pub use index::{Subscribed, SubscriptionIndex, Unsubscribed};
pub use matching::matches;
pub use name::{LimitError, Limits, NameError, check_name};
pub use relation::{covers, overlaps};
pub use retained::RetainedIndex;
pub use subscription::{Subscription, SubscriptionOptions, Target};
pub use trie::WildcardTrie;

/// The first level of `text`, and what follows its separator. A level may be empty [MQTT-4.7.1-1].
#[inline]
fn split_level(text: &str) -> (&str, Option<&str>) {
    // Levels are short: a plain loop beats the search that `split_once` sets up.
    let level = text.bytes().position(|byte| byte == b'/');
    match level.and_then(|end| Some((text.get(..end)?, text.get(end + 1..)?))) {
        Some((level, rest)) => (level, Some(rest)),
        None => (text, None),
    }
}
