//! Where one packet ends and the next begins: the fixed header (section 2.1).
//!
//! Hot. Looks at the first two to five bytes of a stream and refuses as early as they allow, so that neither a
//! stranger's protocol nor a giant announced packet is ever waited for.

use super::packet::Version;
use super::read::varint;
use super::reason::{Malformed, ReasonCode, malformed, protocol_error};

/// What stands at the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A whole packet; the next one starts `len` bytes on.
    Frame(Frame<'a>),
    /// More bytes must arrive first.
    Partial {
        /// Bytes of the whole packet if its length has arrived, else a lower bound; always more than there are.
        need: usize,
    },
}

/// One packet, not looked into yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type (high four bits) and flags (low four bits).
    pub first: u8,
    /// What follows the remaining length: variable header and payload.
    pub body: &'a [u8],
    /// Bytes of the whole packet, fixed header included.
    pub len: usize,
}

/// Finds the packet at the front of `buf`.
///
/// `max_packet` is the largest packet accepted, in bytes with its fixed header, as MQTT 5 counts Maximum Packet
/// Size (3.1.2.11.4). The flags are judged as far as that needs no version; [`decode`](super::decode) does the
/// rest.
///
/// # Errors
///
/// The reserved type 0, flags that no version gives to the type, QoS 3 or DUP on QoS 0, a remaining length of
/// more than four bytes or of more bytes than it needs, and (reason 0x95) a packet larger than `max_packet`.
#[inline]
pub fn frame(buf: &[u8], max_packet: u32) -> Result<Framed<'_>, Malformed> {
    let Some((&first, rest)) = buf.split_first() else { return Ok(Framed::Partial { need: 2 }) };
    check_first(first)?;
    let (length, header) = match rest {
        [byte @ 0..=0x7F, ..] => (u32::from(*byte), 2),
        _ => match varint(rest)? {
            Some((length, bytes)) => (length, 1 + bytes),
            None => return Ok(Framed::Partial { need: buf.len() + 1 }),
        },
    };
    let len = header + length as usize;
    if len > max_packet as usize {
        return Err(Malformed {
            reason: ReasonCode::PACKET_TOO_LARGE,
            clause: "MQTT-3.2.2-15",
            what: "the packet is larger than allowed here",
        });
    }
    match buf.get(header..len) {
        Some(body) => Ok(Framed::Frame(Frame { first, body, len })),
        None => Ok(Framed::Partial { need: len }),
    }
}

/// Judges type and flags as far as that needs no version [MQTT-2.1.3-1].
#[inline]
fn check_first(first: u8) -> Result<(), Malformed> {
    // Bit n says that flags of value n are right for the type.
    let flags: u16 = match first >> 4 {
        0 => 0,
        // PUBLISH: all but QoS 3 (flags 6, 7, 14, 15) and DUP on QoS 0 (flags 8, 9).
        3 => 0b0011_1100_0011_1111,
        // PUBREL, SUBSCRIBE, UNSUBSCRIBE: 2; 10 is a repeated one of MQTT 3.1, see `check_first_for`.
        6 | 8 | 10 => 0b0000_0100_0000_0100,
        _ => 1,
    };
    if flags >> (first & 0x0F) & 1 == 1 { Ok(()) } else { Err(wrong_first(first)) }
}

/// Says what is wrong with a first byte that [`check_first`] refuses.
#[cold]
fn wrong_first(first: u8) -> Malformed {
    match (first >> 4, first & 0b110) {
        (0, _) => malformed("2.1.2", "packet type 0 is reserved"),
        (3, 0b110) => malformed("MQTT-3.3.1-4", "a PUBLISH with QoS 3"),
        (3, _) => malformed("MQTT-3.3.1-2", "a PUBLISH with DUP and QoS 0"),
        _ => malformed("MQTT-2.1.3-1", "reserved flags in the fixed header"),
    }
}

/// Judges type and flags where the version is known.
///
/// MQTT 3.1 repeats PUBREL, SUBSCRIBE and UNSUBSCRIBE with DUP set (its sections 3.6, 3.8 and 3.10); later
/// versions reserve that bit. AUTH came with MQTT 5.
#[inline]
pub(super) fn check_first_for(first: u8, version: Version) -> Result<(), Malformed> {
    check_first(first)?;
    match first >> 4 {
        6 | 8 | 10 if first & 0b1000 != 0 && version != Version::V31 => Err(wrong_first(first)),
        15 if !version.is_v5() => {
            Err(protocol_error("3.1.1: 2.2.1", "packet type 15 is reserved before MQTT 5"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn need(buf: &[u8]) -> usize {
        match frame(buf, u32::MAX).unwrap() {
            Framed::Partial { need } => need,
            Framed::Frame(frame) => panic!("a whole frame: {frame:?}"),
        }
    }

    #[test]
    fn partial_packets_say_how_much_they_need() {
        assert_eq!(need(&[]), 2);
        assert_eq!(need(&[0x30]), 2);
        assert_eq!(need(&[0x30, 0x80]), 3);
        assert_eq!(need(&[0x30, 0x80, 0x80]), 4);
        assert_eq!(need(&[0x30, 0x80, 0x80, 0x80]), 5);
        assert_eq!(need(&[0x30, 0x80, 0x80, 0x80, 0x01]), 5 + (1 << 21));
        assert_eq!(need(&[0x30, 5, 0, 3]), 7);
    }

    #[test]
    fn a_frame_ends_where_its_length_says() {
        let buf = [0x30, 3, 0, 1, b'a', 0xC0, 0];
        let first = Frame { first: 0x30, body: &[0, 1, b'a'], len: 5 };
        assert_eq!(frame(&buf, 5), Ok(Framed::Frame(first)));
        let ping = Frame { first: 0xC0, body: &[], len: 2 };
        assert_eq!(frame(&buf[5..], 5), Ok(Framed::Frame(ping)));
    }

    #[test]
    fn a_large_packet_is_refused_as_soon_as_its_length_is_there() {
        let too_large = |buf, max| frame(buf, max).is_err_and(|e| e.reason == ReasonCode::PACKET_TOO_LARGE);
        assert!(too_large(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 1 << 20));
        assert!(too_large(&[0x30, 9], 10));
        assert!(!too_large(&[0x30, 8], 10), "the limit is for the whole packet, header included");
        assert!(!too_large(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], u32::MAX));
    }

    #[test]
    fn a_strange_first_byte_is_refused_before_any_length() {
        // Right in every version (3.1.1 table 2.2) and, with DUP, in 3.1.
        let right = |first: u8| match first >> 4 {
            0 => false,
            3 => first & 0b110 != 0b110 && (first & 0b1000 == 0 || first & 0b110 != 0),
            6 | 8 | 10 => first & 0b0111 == 0b0010,
            _ => first.is_multiple_of(16),
        };
        for first in 0..=u8::MAX {
            assert_eq!(frame(&[first], u32::MAX).is_ok(), right(first), "{first:#04x}");
        }
        // What other protocols begin with: HTTP, TLS, SSH, SMB, a null.
        for first in [b'G', 0x16, b'S', 0xFF, 0] {
            assert!(frame(&[first], u32::MAX).is_err(), "{first:#04x}");
        }
    }

    #[test]
    fn frames_made_by_hand_are_judged_again() {
        for first in [0x36, 0x38, 0x61, 0x01] {
            let made = Frame { first, body: &[0, 1, b'a', 0, 1], len: 7 };
            assert!(crate::protocol::decode(made, Version::V311).is_err(), "{first:#04x}");
        }
    }
}
