//! SUBSCRIBE (section 3.8). Filters are checked once and read again as they are needed; nothing is collected.
//!
//! The codec sees to it that a filter is a string and not empty; its syntax is `topic`'s to judge.

use std::fmt;

use super::packet::{PacketId, QoS, Version};
use super::property::{MISPLACED, Property, Span, UserProperties, id, once, walk};
use super::read::Reader;
use super::reason::{Malformed, malformed, protocol_error};
use super::write::{Encode, Sink, put_packet, put_str};

/// A client's wish for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// SUBACK answers with the same.
    pub packet_id: PacketId,
    /// 1 to 268,435,455; for all filters of the packet.
    pub subscription_id: Option<u32>,
    /// In order.
    pub user: UserProperties<'a>,
    /// At least one.
    pub filters: SubscribeFilters<'a>,
}

/// What to do with retained messages when a subscription is made (3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Send them, as before MQTT 5.
    #[default]
    Send = 0,
    /// Send them unless the subscription was there before.
    SendIfNew = 1,
    /// Do not send them.
    DoNotSend = 2,
}

/// One filter with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeFilter<'a> {
    /// Not empty, no U+0000; the syntax is not checked here.
    pub filter: &'a str,
    /// The highest QoS the client wants.
    pub qos: QoS,
    /// Not to be sent what this client published. Never on a shared subscription [MQTT-3.8.3-4].
    pub no_local: bool,
    /// Messages keep their RETAIN flag.
    pub retain_as_published: bool,
    /// What happens to retained messages now.
    pub retain_handling: RetainHandling,
}

impl<'a> SubscribeFilter<'a> {
    /// A filter with the options that MQTT 3.1.1 knows.
    pub const fn new(filter: &'a str, qos: QoS) -> SubscribeFilter<'a> {
        SubscribeFilter {
            filter,
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    /// Reads a filter and its options byte and refuses what the version does not allow.
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<SubscribeFilter<'a>, Malformed> {
        let filter = reader.str()?;
        if filter.is_empty() {
            return Err(malformed("MQTT-4.7.3-1", "an empty topic filter"));
        }
        let options = reader.u8()?;
        let qos = QoS::try_from(options & 0b11).map_err(|_| match version {
            Version::V5 => protocol_error("3.8.3.1", "a subscription with QoS 3"),
            _ => malformed("3.1.1: MQTT-3-8.3-4", "a subscription with QoS 3"),
        })?;
        match version {
            // The upper six bits are "not used" and "reserved for future use" (3.1, 3.8): no reason to refuse.
            Version::V31 => return Ok(SubscribeFilter::new(filter, qos)),
            Version::V311 if options & 0b1111_1100 != 0 => {
                return Err(malformed("3.1.1: MQTT-3-8.3-4", "reserved subscription option bits"));
            }
            Version::V5 if options & 0b1100_0000 != 0 => {
                return Err(malformed("MQTT-3.8.3-5", "reserved subscription option bits"));
            }
            Version::V311 | Version::V5 => {}
        }
        let no_local = options & 0b100 != 0;
        if no_local && filter.starts_with("$share/") {
            return Err(protocol_error("MQTT-3.8.3-4", "no local on a shared subscription"));
        }
        let retain_handling = match options >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(protocol_error("3.8.3.1", "retain handling 3")),
        };
        Ok(SubscribeFilter {
            filter,
            qos,
            no_local,
            retain_as_published: options & 0b1000 != 0,
            retain_handling,
        })
    }

    fn options(&self, version: Version) -> u8 {
        let qos = self.qos as u8;
        if !version.is_v5() {
            return qos;
        }
        qos | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }

    /// Appends the filter and its options byte, for [`SubscribeFilters::encoded`].
    pub fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.filter);
        out.push(self.options(Version::V5));
    }
}

/// The filters of a SUBSCRIBE: a view into bytes that were checked before. Never empty.
#[derive(Clone, Copy)]
pub struct SubscribeFilters<'a> {
    block: &'a [u8],
    version: Version,
}

impl<'a> SubscribeFilters<'a> {
    /// For sending, in any version: a view of `block`, which [`SubscribeFilter::put`] has filled.
    ///
    /// # Errors
    ///
    /// If `block` is not what a SUBSCRIBE of MQTT 5 may carry.
    pub fn encoded(block: &'a [u8]) -> Result<SubscribeFilters<'a>, Malformed> {
        SubscribeFilters::check(block, Version::V5)
    }

    fn check(block: &'a [u8], version: Version) -> Result<SubscribeFilters<'a>, Malformed> {
        let mut reader = Reader::new(block);
        if reader.is_empty() {
            return Err(protocol_error("MQTT-3.8.3-2", "a SUBSCRIBE without a topic filter"));
        }
        while !reader.is_empty() {
            SubscribeFilter::read(&mut reader, version)?;
        }
        Ok(SubscribeFilters { block, version })
    }

    /// Each filter, in order.
    pub fn iter(&self) -> impl Iterator<Item = SubscribeFilter<'a>> + use<'a> {
        let mut reader = Reader::new(self.block);
        let version = self.version;
        std::iter::from_fn(move || {
            if reader.is_empty() { None } else { SubscribeFilter::read(&mut reader, version).ok() }
        })
    }
}

impl PartialEq for SubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscribeFilters<'_> {}

impl fmt::Debug for SubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: Version) -> Result<Subscribe<'a>, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = PacketId::read(&mut reader)?;
        let mut subscription_id = None;
        let mut user = UserProperties::EMPTY;
        if version.is_v5() {
            let block = reader.property_block()?;
            let mut span = Span::default();
            walk(block, |property, at| match property {
                Property::SubscriptionIdentifier(id) => once(&mut subscription_id, id),
                Property::User(..) => {
                    span.cover(at);
                    Ok(())
                }
                _ => Err(MISPLACED),
            })?;
            user = UserProperties::of(block, span);
        }
        let filters = SubscribeFilters::check(reader.take_rest(), version)?;
        Ok(Subscribe { packet_id, subscription_id, user, filters })
    }

    /// Appends the packet.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(out, 0x82, &Body { subscribe: self, version });
    }
}

struct Body<'a> {
    subscribe: &'a Subscribe<'a>,
    version: Version,
}

impl Encode for Body<'_> {
    fn write(&self, out: &mut impl Sink) {
        out.u16(self.subscribe.packet_id.get());
        if self.version.is_v5() {
            out.block(&SubscribeProperties(self.subscribe));
        }
        for filter in self.subscribe.filters.iter() {
            out.str(filter.filter);
            out.u8(filter.options(self.version));
        }
    }
}

struct SubscribeProperties<'a>(&'a Subscribe<'a>);

impl Encode for SubscribeProperties<'_> {
    fn write(&self, out: &mut impl Sink) {
        if let Some(subscription_id) = self.0.subscription_id {
            out.u8(id::SUBSCRIPTION_IDENTIFIER);
            out.varint(subscription_id);
        }
        self.0.user.write(out);
    }
}
