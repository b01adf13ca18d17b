//! UNSUBSCRIBE (section 3.10). Filters are checked once and read again as they are needed.

use std::fmt;

use super::packet::{PacketId, Version};
use super::property::{MISPLACED, Property, Span, UserProperties, walk};
use super::read::Reader;
use super::reason::{Malformed, malformed, protocol_error};
use super::write::{Encode, Sink, put_packet};

/// A client no longer wants messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// UNSUBACK answers with the same.
    pub packet_id: PacketId,
    /// In order.
    pub user: UserProperties<'a>,
    /// At least one.
    pub filters: UnsubscribeFilters<'a>,
}

/// The filters of an UNSUBSCRIBE: a view into bytes that were checked before. Never empty.
#[derive(Clone, Copy)]
pub struct UnsubscribeFilters<'a> {
    block: &'a [u8],
}

impl<'a> UnsubscribeFilters<'a> {
    /// For sending: a view of `block`, a sequence of strings that [`put_str`](super::put_str) has written.
    ///
    /// # Errors
    ///
    /// If `block` is not what an UNSUBSCRIBE may carry.
    pub fn encoded(block: &'a [u8]) -> Result<UnsubscribeFilters<'a>, Malformed> {
        let mut reader = Reader::new(block);
        if reader.is_empty() {
            return Err(protocol_error("MQTT-3.10.3-2", "an UNSUBSCRIBE without a topic filter"));
        }
        while !reader.is_empty() {
            if reader.str()?.is_empty() {
                return Err(malformed("MQTT-4.7.3-1", "an empty topic filter"));
            }
        }
        Ok(UnsubscribeFilters { block })
    }

    /// Each filter, in order: not empty, no U+0000; the syntax is not checked here.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.block);
        std::iter::from_fn(move || if reader.is_empty() { None } else { reader.str().ok() })
    }
}

impl PartialEq for UnsubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UnsubscribeFilters<'_> {}

impl fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Unsubscribe<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = PacketId::read(&mut reader)?;
        let mut user = UserProperties::EMPTY;
        if version.is_v5() {
            let block = reader.property_block()?;
            let mut span = Span::default();
            walk(block, |property, at| match property {
                Property::User(..) => {
                    span.cover(at);
                    Ok(())
                }
                _ => Err(MISPLACED),
            })?;
            user = UserProperties::of(block, span);
        }
        let filters = UnsubscribeFilters::encoded(reader.take_rest())?;
        Ok(Unsubscribe { packet_id, user, filters })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, 0xA2, &Body { unsubscribe: self, version });
    }
}

struct Body<'a> {
    unsubscribe: &'a Unsubscribe<'a>,
    version: Version,
}

impl Encode for Body<'_> {
    fn write(&self, out: &mut impl Sink) {
        out.u16(self.unsubscribe.packet_id.get());
        if self.version.is_v5() {
            out.block(&UserBlock(self.unsubscribe.user));
        }
        out.put(self.unsubscribe.filters.block);
    }
}

struct UserBlock<'a>(UserProperties<'a>);

impl Encode for UserBlock<'_> {
    fn write(&self, out: &mut impl Sink) {
        self.0.write(out);
    }
}
