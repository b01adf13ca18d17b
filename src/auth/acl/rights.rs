//! What one client may: the rules that speak of it, with its values. Asked for each of its packets.

use std::sync::Arc;

use super::defaults::defaults;
use super::rule::Rule;
use super::values::Values;
use super::{ANY_SIZE, Subject};
use crate::topic::parse_filter;

/// A client's rights, from [`Acl::compile`](super::Acl::compile) on immutable; a copy is one more reference. One word, and
/// nothing behind it where all is allowed.
///
/// The answers are those of [`Acl::decide`](super::Acl::decide).
#[derive(Debug, Clone, Default)]
pub struct Rights(Option<Arc<Granted>>);

#[derive(Debug)]
struct Granted {
    file: Arc<[Rule]>,
    /// Those of the file that speak of this client, in their order.
    concerning: Box<[u32]>,
    defaults: &'static [Rule],
    values: Values,
}

impl Granted {
    fn rules(&self) -> impl Iterator<Item = &Rule> {
        let file = self.concerning.iter().filter_map(|&at| self.file.get(at as usize));
        file.chain(self.defaults)
    }
}

impl Rights {
    /// All is allowed.
    pub const fn open() -> Self {
        Self(None)
    }

    pub(super) fn new(file: &Arc<[Rule]>, subject: &Subject<'_>, authentication: bool) -> Self {
        let speaks = file.iter().enumerate().filter(|(_, rule)| rule.who.is(subject));
        let concerning: Box<[u32]> = speaks.filter_map(|(at, _)| u32::try_from(at).ok()).collect();
        let defaults = defaults(subject, authentication);
        let asked = concerning.iter().filter_map(|&at| file.get(at as usize)).chain(defaults);
        let needed = asked.flat_map(|rule| &rule.topics).fold(0, |needed, topic| needed | topic.needs());
        Self(Some(Arc::new(Granted {
            file: file.clone(),
            concerning,
            defaults,
            values: Values::new(subject, needed),
        })))
    }

    /// Whether the client may publish to a topic, as a message or as its will.
    #[inline]
    pub fn may_publish(&self, topic: &str, qos: u8, retain: bool) -> bool {
        if topic.starts_with('$') {
            return false;
        }
        let Some(granted) = &self.0 else { return true };
        granted.rules().find_map(|rule| rule.publish(&granted.values, topic, qos, retain)).unwrap_or(false)
    }

    /// The highest QoS at which the client may have a subscription, `$share/NAME/FILTER` or plain; `None`: it may not.
    pub fn may_subscribe(&self, filter: &str) -> Option<u8> {
        let Some(granted) = &self.0 else { return Some(2) };
        let wanted = parse_filter(filter, &ANY_SIZE).ok()?;
        granted
            .rules()
            .find_map(|rule| Some((rule.subscribe(&granted.values, &wanted)?, rule.max_qos)))
            .and_then(|(allowed, max_qos)| allowed.then_some(max_qos))
    }

    /// Whether the client may be sent a message with this topic. Whatever a subscription that it may have matches, it
    /// may be sent; this is for subscriptions made under other rules, and for the Response Topic of a request that the
    /// broker itself answers: the answer must be no way around a rule.
    pub fn may_receive(&self, topic: &str) -> bool {
        let Some(granted) = &self.0 else { return true };
        granted.rules().find_map(|rule| rule.receive(&granted.values, topic)).unwrap_or(false)
    }

    /// Bytes that nobody else has a part in.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        const COUNTERS: usize = 2 * size_of::<usize>();
        self.0.as_ref().map_or(0, |granted| {
            let rules = size_of_val(&*granted.concerning);
            COUNTERS + size_of::<Granted>() + rules + granted.values.heap_bytes()
        })
    }
}
