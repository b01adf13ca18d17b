//! Properties of MQTT 5 (section 2.2.2): one walk over a block for every packet, and views into a block that was
//! walked before.
//!
//! Owns the property numbers and the rules that hold for a property wherever it stands: its type and its range.
//! Which packet may carry which is the packets' own business.

use std::fmt;

use super::read::Reader;
use super::reason::{Malformed, ReasonCode, malformed, protocol_error};
use super::write::{Sink, put_str};

/// Property identifiers (table 2-4).
pub mod id {
    #![expect(missing_docs, reason = "the standard's own names")]
    pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// The User Property by which a publisher says what its payload is compressed with. No word of the standard.
pub const CONTENT_ENCODING: &str = "content-encoding";

/// The User Property of a CONNECT by which a client says which compression it understands. No word of the standard.
pub const ACCEPT_ENCODING: &str = "accept-encoding";

/// One property with a value that is right in itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Property<'a> {
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQoS(bool),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// Reads one property with its identifier. Identifiers are variable byte integers, but all there are have one
    /// byte, so a continued one is unknown or longer than needed; both are malformed.
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Property<'a>, Malformed> {
        Ok(match reader.u8()? {
            id::PAYLOAD_FORMAT_INDICATOR => Property::PayloadFormatIndicator(boolean(reader)?),
            id::MESSAGE_EXPIRY_INTERVAL => Property::MessageExpiryInterval(reader.u32()?),
            id::CONTENT_TYPE => Property::ContentType(reader.str()?),
            id::RESPONSE_TOPIC => {
                let topic =
                    reader.topic_name(malformed("MQTT-3.3.2-14", "a response topic with a wildcard"))?;
                if topic.is_empty() {
                    return Err(malformed("MQTT-4.7.3-1", "an empty response topic"));
                }
                Property::ResponseTopic(topic)
            }
            id::CORRELATION_DATA => Property::CorrelationData(reader.binary()?),
            id::SUBSCRIPTION_IDENTIFIER => match reader.varint()? {
                0 => return Err(protocol_error("3.8.2.1.2", "subscription identifier 0")),
                id => Property::SubscriptionIdentifier(id),
            },
            id::USER_PROPERTY => Property::User(reader.str()?, reader.str()?),
            id::TOPIC_ALIAS => match reader.u16()? {
                0 => {
                    return Err(Malformed {
                        reason: ReasonCode::TOPIC_ALIAS_INVALID,
                        clause: "MQTT-3.3.2-8",
                        what: "topic alias 0",
                    });
                }
                alias => Property::TopicAlias(alias),
            },
            id => Property::read_rare(id, reader)?,
        })
    }

    /// The properties that no PUBLISH carries, out of line so that its walk stays small.
    fn read_rare(id: u8, reader: &mut Reader<'a>) -> Result<Property<'a>, Malformed> {
        Ok(match id {
            id::SESSION_EXPIRY_INTERVAL => Property::SessionExpiryInterval(reader.u32()?),
            id::ASSIGNED_CLIENT_IDENTIFIER => Property::AssignedClientIdentifier(reader.str()?),
            id::SERVER_KEEP_ALIVE => Property::ServerKeepAlive(reader.u16()?),
            id::AUTHENTICATION_METHOD => Property::AuthenticationMethod(reader.str()?),
            id::AUTHENTICATION_DATA => Property::AuthenticationData(reader.binary()?),
            id::REQUEST_PROBLEM_INFORMATION => Property::RequestProblemInformation(boolean(reader)?),
            id::WILL_DELAY_INTERVAL => Property::WillDelayInterval(reader.u32()?),
            id::REQUEST_RESPONSE_INFORMATION => Property::RequestResponseInformation(boolean(reader)?),
            id::RESPONSE_INFORMATION => Property::ResponseInformation(reader.str()?),
            id::SERVER_REFERENCE => Property::ServerReference(reader.str()?),
            id::REASON_STRING => Property::ReasonString(reader.str()?),
            id::RECEIVE_MAXIMUM => match reader.u16()? {
                0 => return Err(protocol_error("3.1.2.11.3", "receive maximum 0")),
                maximum => Property::ReceiveMaximum(maximum),
            },
            id::TOPIC_ALIAS_MAXIMUM => Property::TopicAliasMaximum(reader.u16()?),
            id::MAXIMUM_QOS => Property::MaximumQoS(boolean(reader)?),
            id::RETAIN_AVAILABLE => Property::RetainAvailable(boolean(reader)?),
            id::MAXIMUM_PACKET_SIZE => match reader.u32()? {
                0 => return Err(protocol_error("3.1.2.11.4", "maximum packet size 0")),
                maximum => Property::MaximumPacketSize(maximum),
            },
            id::WILDCARD_SUBSCRIPTION_AVAILABLE => Property::WildcardSubscriptionAvailable(boolean(reader)?),
            id::SUBSCRIPTION_IDENTIFIER_AVAILABLE => {
                Property::SubscriptionIdentifierAvailable(boolean(reader)?)
            }
            id::SHARED_SUBSCRIPTION_AVAILABLE => Property::SharedSubscriptionAvailable(boolean(reader)?),
            _ => return Err(malformed("2.2.2.2", "an unknown property")),
        })
    }
}

/// A byte that may be 0 or 1. The standard calls anything else a Protocol Error at each such property.
#[inline]
fn boolean(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(protocol_error("2.2.2.2", "a property that is 0 or 1 has another value")),
    }
}

/// A property that the packet at hand may not carry (2.2.2.2).
pub(super) const MISPLACED: Malformed = malformed("2.2.2.2", "a property that this packet may not carry");

/// Stores a property that may stand once.
#[inline]
pub(super) fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    if slot.replace(value).is_some() {
        return Err(protocol_error("2.2.2.2", "a property is there twice"));
    }
    Ok(())
}

/// Refuses Authentication Data without an Authentication Method (3.1.2.11.10).
pub(super) fn data_has_method(method: Option<&str>, data: Option<&[u8]>) -> Result<(), Malformed> {
    if data.is_some() && method.is_none() {
        return Err(protocol_error("3.1.2.11.10", "authentication data without a method"));
    }
    Ok(())
}

/// Where in its block a property stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    start: usize,
    end: usize,
}

/// The part of a block from the first to the last property of one kind; empty if there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    #[inline]
    pub(super) fn cover(&mut self, at: At) {
        if self.end == 0 {
            self.start = at.start;
        }
        self.end = at.end;
    }

    #[inline]
    pub(super) fn of(self, block: &[u8]) -> &[u8] {
        block.get(self.start..self.end).unwrap_or_default()
    }
}

/// Gives every property of `block` to `take`, in order, and refuses what is truncated or wrong in itself.
#[inline]
pub(super) fn walk<'a>(
    block: &'a [u8],
    mut take: impl FnMut(Property<'a>, At) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(block);
    while !reader.is_empty() {
        let start = block.len() - reader.left();
        let property = Property::read(&mut reader)?;
        take(property, At { start, end: block.len() - reader.left() })?;
    }
    Ok(())
}

/// The User Properties of a packet, in order: a view into bytes that were checked before.
///
/// The view may hold other properties between the first and the last User Property; it passes over them.
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a> {
    block: &'a [u8],
}

impl<'a> UserProperties<'a> {
    /// None at all.
    pub const EMPTY: UserProperties<'static> = UserProperties { block: &[] };

    /// For sending: a view of `block`, which [`put_user_property`] has filled.
    ///
    /// # Errors
    ///
    /// If `block` is no sequence of User Properties.
    pub fn encoded(block: &'a [u8]) -> Result<UserProperties<'a>, Malformed> {
        walk(block, |property, _| match property {
            Property::User(..) => Ok(()),
            _ => Err(MISPLACED),
        })?;
        Ok(UserProperties { block })
    }

    /// A view of the part of a walked block that holds the User Properties.
    #[inline]
    pub(super) fn of(block: &'a [u8], span: Span) -> UserProperties<'a> {
        UserProperties { block: span.of(block) }
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// Name and value of each, in order; a name may come more than once.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        Properties { reader: Reader::new(self.block) }.filter_map(|property| match property {
            Property::User(name, value) => Some((name, value)),
            _ => None,
        })
    }

    pub(super) fn write(&self, out: &mut impl Sink) {
        for (name, value) in self.iter() {
            out.u8(id::USER_PROPERTY);
            out.str(name);
            out.str(value);
        }
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Appends one User Property, identifier included, to a block for [`UserProperties::encoded`] or straight into a
/// packet.
pub fn put_user_property(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(id::USER_PROPERTY);
    put_str(out, name);
    put_str(out, value);
}

/// The Subscription Identifiers of a PUBLISH, in order: a view into bytes that were checked before.
#[derive(Clone, Copy, Default)]
pub struct SubscriptionIds<'a> {
    block: &'a [u8],
}

impl<'a> SubscriptionIds<'a> {
    /// None at all.
    pub const EMPTY: SubscriptionIds<'static> = SubscriptionIds { block: &[] };

    /// For sending: a view of `block`, which [`put_subscription_id`] has filled.
    ///
    /// # Errors
    ///
    /// If `block` is no sequence of Subscription Identifiers.
    pub fn encoded(block: &'a [u8]) -> Result<SubscriptionIds<'a>, Malformed> {
        walk(block, |property, _| match property {
            Property::SubscriptionIdentifier(_) => Ok(()),
            _ => Err(MISPLACED),
        })?;
        Ok(SubscriptionIds { block })
    }

    /// A view of the part of a walked block that holds the Subscription Identifiers.
    #[inline]
    pub(super) fn of(block: &'a [u8], span: Span) -> SubscriptionIds<'a> {
        SubscriptionIds { block: span.of(block) }
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// Each identifier, 1 to 268,435,455.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        Properties { reader: Reader::new(self.block) }.filter_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        })
    }

    pub(super) fn write(&self, out: &mut impl Sink) {
        for subscription_id in self.iter() {
            out.u8(id::SUBSCRIPTION_IDENTIFIER);
            out.varint(subscription_id);
        }
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIds<'_> {}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Appends one Subscription Identifier (1 to 268,435,455), property number included.
pub fn put_subscription_id(out: &mut Vec<u8>, subscription_id: u32) {
    debug_assert!(subscription_id != 0, "subscription identifier 0 is a protocol error");
    out.push(id::SUBSCRIPTION_IDENTIFIER);
    out.varint(subscription_id);
}

/// A second walk over a block that was checked; ends at the first fault, of which there is none.
struct Properties<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    #[inline]
    fn next(&mut self) -> Option<Property<'a>> {
        if self.reader.is_empty() { None } else { Property::read(&mut self.reader).ok() }
    }
}

/// Appends those properties of a received PUBLISH or will that its receivers get unaltered and in order
/// [MQTT-3.3.2-4, -15, -16, -17, -18, -20]: all of `raw` (see `PublishProperties::raw`) but Topic Alias and
/// Subscription Identifiers, which belong to one connection, Message Expiry, which has grown shorter, and Will
/// Delay, which was the server's.
///
/// What is stripped is rare, so the usual cost is one pass and one copy. Returns whether one of them is a User Property
/// named [`CONTENT_ENCODING`], which the pass finds almost for nothing.
pub fn forwarded_properties(raw: &[u8], out: &mut Vec<u8>) -> bool {
    let mut encoded = false;
    let mut rest = raw;
    // Bytes of `raw` before this were copied or stripped.
    let mut kept_from = raw;
    while let Some(len) = property_len(rest) {
        let (property, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        match property.first() {
            Some(&id::USER_PROPERTY) => encoded |= is_named(property, CONTENT_ENCODING),
            Some(
                &(id::TOPIC_ALIAS
                | id::SUBSCRIPTION_IDENTIFIER
                | id::MESSAGE_EXPIRY_INTERVAL
                | id::WILL_DELAY_INTERVAL),
            ) => {
                out.extend_from_slice(kept_from.get(..kept_from.len() - rest.len()).unwrap_or_default());
                kept_from = after;
            }
            _ => {}
        }
        rest = after;
    }
    out.extend_from_slice(kept_from);
    encoded
}

/// Appends the properties of a checked PUBLISH or will block without the User Properties of one name.
pub fn without_user_property(block: &[u8], name: &str, out: &mut Vec<u8>) {
    let mut rest = block;
    while let Some(len) = property_len(rest) {
        let (property, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        if property.first() != Some(&id::USER_PROPERTY) || !is_named(property, name) {
            out.extend_from_slice(property);
        }
        rest = after;
    }
}

/// Whether a User Property, its identifier included, has this name.
#[inline]
fn is_named(property: &[u8], name: &str) -> bool {
    let named = property.get(1..).and_then(|named| named.split_first_chunk());
    named.is_some_and(|(len, rest)| {
        usize::from(u16::from_be_bytes(*len)) == name.len() && rest.starts_with(name.as_bytes())
    })
}

/// Bytes of the property at the front of a checked PUBLISH or will block; `None` at its end.
#[inline]
fn property_len(block: &[u8]) -> Option<usize> {
    let (id, value) = block.split_first()?;
    let field = |at: usize| {
        value
            .get(at..)
            .and_then(|value| value.first_chunk())
            .map(|len| 2 + usize::from(u16::from_be_bytes(*len)))
    };
    let len = match *id {
        id::PAYLOAD_FORMAT_INDICATOR => 1,
        id::TOPIC_ALIAS => 2,
        id::MESSAGE_EXPIRY_INTERVAL | id::WILL_DELAY_INTERVAL => 4,
        id::SUBSCRIPTION_IDENTIFIER => 1 + value.iter().take_while(|byte| **byte & 0x80 != 0).count(),
        id::USER_PROPERTY => {
            let name = field(0)?;
            name + field(name)?
        }
        _ => field(0)?,
    };
    Some(1 + len)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::protocol::wire_cases::wire;
    use crate::protocol::{Frame, Packet, Publish, Version, decode};

    /// Decodes a PUBLISH that carries `block` (in the notation of `wire_cases`) and gives it to `look`.
    fn with_publish(block: &str, look: impl FnOnce(&Publish<'_>)) {
        let body = wire(&format!("'topic' <{block}> 00"));
        let frame = Frame { first: 0x30, body: &body, len: body.len() + 2 };
        match decode(frame, Version::V5).unwrap() {
            Packet::Publish(publish) => look(&publish),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn views_pass_over_other_properties() {
        with_publish("01 00 26 'a' '1' 0B 05 02 00000001 26 'a' '2' 0B 8001 03 'x'", |publish| {
            let properties = &publish.properties;
            assert_eq!(properties.user.iter().collect::<Vec<_>>(), [("a", "1"), ("a", "2")]);
            assert_eq!(properties.subscription_ids.iter().collect::<Vec<_>>(), [5, 128]);
            assert!(!properties.user.is_empty() && !properties.subscription_ids.is_empty());
            assert_eq!(format!("{:?}", properties.user), r#"[("a", "1"), ("a", "2")]"#);
        });
        with_publish("01 00", |publish| {
            assert!(publish.properties.user.is_empty() && publish.properties.subscription_ids.is_empty());
            assert_eq!(publish.properties.payload_format_utf8, Some(false));
        });
    }

    #[test]
    fn a_content_encoding_is_found_and_taken_out() {
        for (block, found, without) in [
            ("01 00 26 'a' '1'", false, "01 00 26 'a' '1'"),
            ("26 'content-encoding' 'snappy'", true, ""),
            ("26 'a' '1' 26 'content-encoding' 'x' 03 't' 26 'b' '2'", true, "26 'a' '1' 03 't' 26 'b' '2'"),
            (
                "26 'content-encodinG' 'x' 26 'content-encoding2' 'x'",
                false,
                "26 'content-encodinG' 'x' 26 'content-encoding2' 'x'",
            ),
            (
                "26 'a' 'content-encoding' 26 'content-encodin' 'gx'",
                false,
                "26 'a' 'content-encoding' 26 'content-encodin' 'gx'",
            ),
        ] {
            let (block, without) = (wire(block), wire(without));
            let mut out = Vec::new();
            assert_eq!(forwarded_properties(&block, &mut out), found);
            assert_eq!(out, block);
            out.clear();
            without_user_property(&block, CONTENT_ENCODING, &mut out);
            assert_eq!(out, without);
        }
    }

    #[test]
    fn views_for_sending_take_only_their_own_kind() {
        let mut block = Vec::new();
        put_user_property(&mut block, "k", "v");
        assert_eq!(UserProperties::encoded(&block).unwrap().iter().collect::<Vec<_>>(), [("k", "v")]);
        assert!(SubscriptionIds::encoded(&block).is_err());
        assert!(UserProperties::encoded(&block[..block.len() - 1]).is_err());
        let mut block = Vec::new();
        put_subscription_id(&mut block, 300);
        assert_eq!(SubscriptionIds::encoded(&block).unwrap().iter().collect::<Vec<_>>(), [300]);
        assert!(UserProperties::encoded(&block).is_err());
    }

    #[test]
    fn forwarding_strips_what_belongs_to_one_connection() {
        for (block, kept) in [
            ("", ""),
            ("01 01 03 'x' 26 'k' 'v'", "01 01 03 'x' 26 'k' 'v'"),
            ("23 0001", ""),
            ("02 00000001 23 0001 0B FFFFFF7F 0B 01", ""),
            ("23 0001 08 'r' 09 0002 2300 26 'k' 'v'", "08 'r' 09 0002 2300 26 'k' 'v'"),
            ("03 'x' 02 00000001 26 'a' '1' 0B 01 26 'b' '2' 23 0001", "03 'x' 26 'a' '1' 26 'b' '2'"),
        ] {
            with_publish(block, |publish| {
                assert_eq!(publish.properties.raw, wire(block));
                let mut out = vec![0xAA];
                forwarded_properties(publish.properties.raw, &mut out);
                assert_eq!(out.split_first(), Some((&0xAA, &wire(kept)[..])), "{block}");
            });
        }
        let mut out = Vec::new();
        forwarded_properties(&wire("01 01 18 00000001 02 00000001 26 'k' 'v'"), &mut out);
        assert_eq!(out, wire("01 01 26 'k' 'v'"), "a will");
    }

    #[test]
    fn forwarding_survives_a_block_that_nobody_checked() {
        for len in 0..6 {
            for id in 0..=u8::MAX {
                let mut block = vec![0x80; len];
                block.insert(0, id);
                let mut out = Vec::new();
                forwarded_properties(&block, &mut out);
                assert!(out.len() <= block.len());
            }
        }
    }
}
