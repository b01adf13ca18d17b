//! The values of the subscription index: who subscribes, and with which options, in eight bytes.

use std::fmt;

/// Whom a subscription delivers to: a session of this shard, by its slab key, or a shared group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(pub u32);

impl Target {
    const GROUP: u32 = 1 << 31;

    /// Keys of sessions and groups are below this: bit 31 tells the two apart, and the index keeps the very
    /// last value for itself.
    pub const KEYS: u32 = (1 << 31) - 1;

    /// The session with this slab key, below [`Target::KEYS`].
    #[inline]
    pub const fn session(key: u32) -> Target {
        debug_assert!(key < Self::KEYS);
        Target(key)
    }

    /// The shared group with this key, below [`Target::KEYS`].
    #[inline]
    pub const fn group(key: u32) -> Target {
        debug_assert!(key < Self::KEYS);
        Target(key | Self::GROUP)
    }

    /// Whether this is a shared group, not a session.
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0 & Self::GROUP != 0
    }

    /// The session's or the group's key.
    #[inline]
    pub const fn key(self) -> u32 {
        self.0 & !Self::GROUP
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", if self.is_group() { "group" } else { "session" }, self.key())
    }
}

/// The Subscription Options that matter when a message is delivered, and the Subscription Identifier
/// (section 3.8). Retain Handling is not among them: it is spent when the subscription is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionOptions(u32);

impl SubscriptionOptions {
    const NO_LOCAL: u32 = 1 << 2;
    const RETAIN_AS_PUBLISHED: u32 = 1 << 3;
    const ID_SHIFT: u32 = 4;

    /// `maximum_qos` is 0, 1 or 2; `id` is a Subscription Identifier of 1 to 268,435,455, or 0 for none.
    #[inline]
    pub const fn new(maximum_qos: u8, no_local: bool, retain_as_published: bool, id: u32) -> Self {
        debug_assert!(maximum_qos <= 2 && id < 1 << 28);
        let mut bits = (maximum_qos & 3) as u32 | id << Self::ID_SHIFT;
        if no_local {
            bits |= Self::NO_LOCAL;
        }
        if retain_as_published {
            bits |= Self::RETAIN_AS_PUBLISHED;
        }
        SubscriptionOptions(bits)
    }

    /// The highest quality of service to deliver with: 0, 1 or 2.
    #[inline]
    pub const fn qos(self) -> u8 {
        (self.0 & 3) as u8
    }

    /// No Local: not to be delivered to the client that published [MQTT-3.8.3-3].
    #[inline]
    pub const fn no_local(self) -> bool {
        self.0 & Self::NO_LOCAL != 0
    }

    /// Retain As Published: the RETAIN flag is passed on as it came [MQTT-3.3.1-13].
    #[inline]
    pub const fn retain_as_published(self) -> bool {
        self.0 & Self::RETAIN_AS_PUBLISHED != 0
    }

    /// The Subscription Identifier, 1 to 268,435,455.
    #[inline]
    pub const fn id(self) -> Option<u32> {
        match self.0 >> Self::ID_SHIFT {
            0 => None,
            id => Some(id),
        }
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        SubscriptionOptions(bits)
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for SubscriptionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionOptions")
            .field("qos", &self.qos())
            .field("no_local", &self.no_local())
            .field("retain_as_published", &self.retain_as_published())
            .field("id", &self.id())
            .finish()
    }
}

/// One subscription as the index holds it and a publish reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// Who gets the message.
    pub target: Target,
    /// How.
    pub options: SubscriptionOptions,
}

const _: () = assert!(size_of::<Subscription>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_groups_do_not_meet() {
        let (session, group) = (Target::session(7), Target::group(7));
        assert_ne!(session, group);
        assert_eq!((session.is_group(), session.key()), (false, 7));
        assert_eq!((group.is_group(), group.key()), (true, 7));
        assert_eq!(Target::group(Target::KEYS - 1).key(), Target::KEYS - 1);
    }

    #[test]
    fn options_keep_what_they_are_given() {
        for qos in 0..=2 {
            for (no_local, retain) in [(false, false), (false, true), (true, false), (true, true)] {
                for id in [0, 1, 127, 268_435_455] {
                    let options = SubscriptionOptions::new(qos, no_local, retain, id);
                    assert_eq!(options.qos(), qos);
                    assert_eq!(options.no_local(), no_local);
                    assert_eq!(options.retain_as_published(), retain);
                    assert_eq!(options.id(), (id > 0).then_some(id));
                }
            }
        }
    }
}
