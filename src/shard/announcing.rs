//! What the desk says, once what it says is durable: nothing is announced that a restart would take back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Core;
use crate::desk::ConversationId;
use crate::message::{ELSEWHERE, Message, MessageRef, Millis, NEVER};
use crate::protocol::QoS;
use crate::store::Sequence;

/// Something the desk says.
#[derive(Debug)]
struct Announcement {
    after: Sequence,
    message: Arc<Message>,
    /// The message that it is of a thread.
    of: Option<Box<MessageOf>>,
}

/// A message of a thread. A customer may have begun another conversation by the time that it is announced.
#[derive(Debug)]
pub(super) struct MessageOf {
    pub(super) customer: Arc<str>,
    pub(super) conversation: ConversationId,
    pub(super) seq: u32,
}

/// What waits to be said, in order.
#[derive(Debug, Default)]
pub(super) struct Announcements(VecDeque<Announcement>);

/// How something is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saying<'a> {
    pub(super) topic: &'a str,
    /// Empty, and retained: there is nothing more to be said.
    pub(super) payload: &'a [u8],
    pub(super) properties: &'a [u8],
    pub(super) retain: bool,
    pub(super) expires_at: Millis,
}

impl<'a> Saying<'a> {
    /// Said once.
    pub(super) fn once(topic: &'a str, payload: &'a [u8], properties: &'a [u8]) -> Self {
        Self { topic, payload, properties, retain: false, expires_at: NEVER }
    }

    /// Said until it is said otherwise.
    pub(super) fn state(topic: &'a str, payload: &'a [u8], properties: &'a [u8]) -> Self {
        Self { retain: true, ..Self::once(topic, payload, properties) }
    }
}

impl Core {
    /// Says something as soon as all that this shard has written up to now is durable.
    pub(super) fn announce(&mut self, saying: Saying<'_>) {
        self.announce_of(saying, None);
    }

    /// As [`Self::announce`], of a message of a thread.
    pub(super) fn announce_of(&mut self, saying: Saying<'_>, of: Option<MessageOf>) {
        let Saying { topic, payload, properties, retain, expires_at } = saying;
        let qos = QoS::AtLeastOnce;
        let message = MessageRef {
            topic,
            payload,
            properties,
            expires_at,
            from: ELSEWHERE,
            qos,
            retain,
            snappy: false,
        };
        let after = self.clients.ledger.up_to();
        self.announcements.0.push_back(Announcement {
            after,
            message: message.to_message(),
            of: of.map(Box::new),
        });
    }

    /// Says what may be said by now.
    pub(super) fn announce_due(&mut self) {
        if self.announcements.0.is_empty() {
            return;
        }
        let committed = self.clients.ledger.committed();
        let held_back = self.looked_up.held_back;
        while let Some(next) = self.announcements.0.pop_front_if(|next| next.after <= committed) {
            // That a receiver has no room refuses nothing: it is decided.
            self.looked_up.decided = true;
            self.pass(&next.message.view());
            self.looked_up.decided = false;
            self.refused_by_all = false;
            if let Some(of) = &next.of {
                self.message_announced(of);
            }
        }
        self.looked_up.held_back = held_back;
    }
}
