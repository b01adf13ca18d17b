//! What is not taken while the store cannot keep it: a refusal now instead of an acknowledgement that nobody could
//! stand for. What needs no disk goes on.

use super::Core;
use super::publish::Refused;
use crate::desk::desk_topic;
use crate::message::MessageRef;
use crate::metrics::PublishRefusal;
use crate::protocol::{QoS, ReasonCode};
use crate::store::Health;

impl Core {
    /// The reason code for what the store cannot keep at the moment.
    pub(super) fn unwell(&self) -> Option<ReasonCode> {
        match self.health {
            Health::Fine => None,
            Health::Full => Some(ReasonCode::QUOTA_EXCEEDED),
            Health::Failed => Some(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR),
        }
    }

    /// Refuses a message that has to be written down while nothing can be.
    #[inline]
    pub(super) fn can_be_kept(&self, session: u32, m: &MessageRef<'_>) -> Result<(), Refused> {
        match self.unwell() {
            Some(code) if self.is_to_be_kept(session, m) => Err(Refused::new(code, PublishRefusal::Store)),
            _ => Ok(()),
        }
    }

    #[cold]
    fn is_to_be_kept(&self, session: u32, m: &MessageRef<'_>) -> bool {
        let kept = |s: &crate::session::Session| s.stored != 0;
        let by_publisher =
            m.qos == QoS::ExactlyOnce && self.clients.sessions.get(session as usize).is_some_and(kept);
        let by_receivers = m.qos != QoS::AtMostOnce
            && (desk_topic(m.topic).is_some() || self.exchange.interest.of(m.topic).kept != 0);
        // What takes a retained message away makes room: its answer waits, if it has to.
        let retained = m.retain && !m.payload.is_empty();
        retained || by_publisher || by_receivers
    }
}
