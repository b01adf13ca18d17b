//! MQTT 3.1, 3.1.1 and 5 on the wire: one strict, borrowing codec with the version as a value, one file a packet.
//!
//! [`frame`] finds a packet at the front of a stream, [`decode`] reads it without copying, [`Packet::encode`] and
//! the types' own `encode` append it to a buffer. Everything a standard tells a receiver to refuse is refused
//! here, with its reason code and clause, as far as one packet alone can show it; what depends on who sent it, on
//! what came before or on what was negotiated is the session's to judge. No input panics, reads past its length
//! or allocates more than the fixed size of a boxed CONNECT or CONNACK.
//!
//! Pure: no sockets, no clock, no log, and nothing of the rules above it.

pub mod property;

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod frame;
mod packet;
mod publish;
mod read;
mod reason;
mod suback;
mod subscribe;
mod unsubscribe;
mod write;

#[cfg(test)]
mod wire_cases;

pub use ack::{Ack, AckKind, ReasonProperties};
pub use auth::{Auth, AuthProperties};
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, Will, connect_version};
pub use disconnect::{Disconnect, DisconnectProperties};
pub use frame::{Frame, Framed, frame};
pub use packet::{Packet, PacketId, QoS, Version, decode};
pub use property::{
    ACCEPT_ENCODING, CONTENT_ENCODING, SubscriptionIds, UserProperties, forwarded_properties,
    put_subscription_id, put_user_property, without_user_property,
};
pub use publish::{Publish, PublishProperties};
pub use reason::{Malformed, ReasonCode};
pub use suback::{SubAck, UnsubAck};
pub use subscribe::{RetainHandling, Subscribe, SubscribeFilter, SubscribeFilters};
pub use unsubscribe::{Unsubscribe, UnsubscribeFilters};
pub use write::{VARINT_MAX, put_ack, put_binary, put_str, put_u16, put_u32, put_varint, varint_len};
