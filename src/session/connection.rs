//! What dies with the socket: the negotiated limits and aliases of one network connection.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::protocol::Version;

/// No session yet: CONNECT has not been accepted.
pub const NO_SESSION: u32 = u32::MAX;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first packet must be CONNECT [MQTT-3.1.0-1].
    Connecting,
    /// CONNECT was accepted.
    Open,
    /// What is in the output buffer is still sent; nothing that comes is looked at [MQTT-4.13.1-1].
    Closing,
}

/// The state of one network connection.
#[derive(Debug)]
pub struct Connection {
    /// Rarely needed parts.
    pub rare: Option<Box<Rare>>,
    /// Slab key of its session, or [`NO_SESSION`].
    pub session: u32,
    /// The timer that counts for this connection; older ones are ignored when they fire.
    pub timer: u32,
    /// When bytes last came, in ticks: a long packet on a slow line is a sign of life.
    pub last_seen: u32,
    /// Largest packet that the client takes [MQTT-3.1.2-24].
    pub max_packet: u32,
    /// Keep Alive in seconds, 0 if off.
    pub keep_alive: u16,
    /// How many QoS > 0 packets may be in flight to the client [MQTT-3.3.4-9].
    pub receive_maximum: u16,
    /// QoS 2 packets from the client that are not released, counted against our own Receive Maximum.
    pub inbound: u16,
    /// Answers to the client that wait until what they promise is durable.
    pub held: u16,
    /// Which listener let it in.
    pub listener: u16,
    /// Protocol version, once known.
    pub version: Version,
    /// How far it has come.
    pub phase: Phase,
    /// Request Problem Information: reason strings may be sent [MQTT-3.1.2-29].
    pub problem_information: bool,
    /// The client takes payloads that are Snappy blocks. All others get them expanded.
    pub accepts_snappy: bool,
}

/// State that most connections never have.
#[derive(Debug, Default)]
pub struct Rare {
    /// Aliases that the client has set [MQTT-3.3.2-9].
    pub incoming: Vec<Option<Arc<str>>>,
    /// Aliases that we have set.
    pub outgoing: Option<Aliases>,
}

/// Topic aliases that the broker assigns, first come, first served, up to the client's Topic Alias Maximum.
#[derive(Debug)]
pub struct Aliases {
    assigned: HashMap<Arc<str>, u16, ahash::RandomState>,
    maximum: u16,
}

impl Aliases {
    /// No alias assigned yet; at most `maximum` will be [MQTT-3.1.2-26].
    pub fn new(maximum: u16) -> Self {
        Self { assigned: HashMap::default(), maximum }
    }

    /// The alias for a topic and whether the client knows it already. `None`: all are in use.
    pub fn assign(&mut self, topic: &str) -> Option<(u16, bool)> {
        if let Some(&alias) = self.assigned.get(topic) {
            return Some((alias, true));
        }
        let next = u16::try_from(self.assigned.len() + 1).ok().filter(|&alias| alias <= self.maximum)?;
        self.assigned.insert(topic.into(), next);
        Some((next, false))
    }

    /// Takes the newest alias back: the packet that was to tell the client of it is not sent.
    pub fn withdraw(&mut self, topic: &str) {
        self.assigned.remove(topic);
    }
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(listener: u16, timer: u32, now_ticks: u32) -> Self {
        Self {
            rare: None,
            session: NO_SESSION,
            timer,
            last_seen: now_ticks,
            max_packet: u32::MAX,
            keep_alive: 0,
            receive_maximum: u16::MAX,
            inbound: 0,
            held: 0,
            listener,
            version: Version::V311,
            phase: Phase::Connecting,
            problem_information: true,
            accepts_snappy: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_assigned_once_and_run_out() {
        let mut aliases = Aliases::new(2);
        assert_eq!(aliases.assign("a"), Some((1, false)));
        assert_eq!(aliases.assign("b"), Some((2, false)));
        assert_eq!(aliases.assign("c"), None);
        assert_eq!(aliases.assign("a"), Some((1, true)));
    }

    #[test]
    fn an_alias_that_was_not_sent_is_new_the_next_time() {
        let mut aliases = Aliases::new(2);
        assert_eq!(aliases.assign("a"), Some((1, false)));
        assert_eq!(aliases.assign("b"), Some((2, false)));
        aliases.withdraw("b");
        assert_eq!(aliases.assign("c"), Some((2, false)));
        assert_eq!(aliases.assign("a"), Some((1, true)));
    }

    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Connection>() <= 40, "{}", size_of::<Connection>());
    }
}
