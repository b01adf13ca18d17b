//! A cursor over bytes that arrived: the data types of MQTT 5 section 1.5, each read whole or refused.
//!
//! Owns nothing, copies nothing, and never moves past the end of what it was given.

use super::reason::{Malformed, malformed};

/// What is left to read of a packet or of a block inside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Bytes not read yet.
    #[inline]
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left; the reader is empty afterwards.
    #[inline]
    pub(super) const fn take_rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// Refuses bytes that follow the end of a packet.
    #[inline]
    pub(super) const fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(malformed("2.1.4", "bytes after the end of the packet"))
        }
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) =
            self.rest.split_first().ok_or(malformed("2.1.4", "the packet ends before a byte"))?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(malformed("1.5.2", "the packet ends inside a two byte integer"))?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(malformed("1.5.3", "the packet ends inside a four byte integer"))?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A variable byte integer (1.5.5) that must lie within the bytes at hand.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, Malformed> {
        if let [byte @ 0..=0x7F, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u32::from(*byte));
        }
        match varint(self.rest)? {
            Some((value, len)) => {
                self.rest = self.rest.get(len..).unwrap_or_default();
                Ok(value)
            }
            None => Err(malformed("1.5.5", "the packet ends inside a variable byte integer")),
        }
    }

    #[inline]
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(malformed("2.1.4", "a length reaches past the end of the packet"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Binary data (1.5.6): a two byte length and as many bytes.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }

    /// A UTF-8 encoded string (1.5.4).
    #[inline]
    pub(super) fn str(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.binary()?;
        if holds(bytes, [0]) {
            return Err(NUL);
        }
        utf8(bytes)
    }

    /// A topic name: a UTF-8 string without wildcards. It may still be empty.
    #[inline]
    pub(super) fn topic_name(&mut self, wildcard: Malformed) -> Result<&'a str, Malformed> {
        let bytes = self.binary()?;
        if holds(bytes, [0, b'+', b'#']) {
            return Err(if bytes.contains(&0) { NUL } else { wildcard });
        }
        utf8(bytes)
    }

    /// A property block: its length and as many bytes (2.2.2).
    #[inline]
    pub(super) fn property_block(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.varint()?;
        self.bytes(len as usize)
    }
}

const NUL: Malformed = malformed("MQTT-1.5.4-2", "U+0000 in a string");

#[inline]
fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    // std refuses surrogates and overlong forms too, which MQTT-1.5.4-1 asks for.
    str::from_utf8(bytes).map_err(|_| malformed("MQTT-1.5.4-1", "a string is not valid UTF-8"))
}

/// A variable byte integer at the front of `bytes` and its encoded length in bytes; `None` if it is cut short.
///
/// Refuses a fifth byte (1.5.5) and an encoding longer than needed [MQTT-1.5.5-1]. Both are refused as early
/// as the bytes show it.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            if byte == 0 && at > 0 {
                return Err(malformed("MQTT-1.5.5-1", "a variable byte integer is longer than needed"));
            }
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(malformed("1.5.5", "a variable byte integer has more than four bytes"))
    }
}

/// Whether one of the ASCII characters `wanted` occurs. Eight bytes at a time, because it is paid for each topic
/// of each PUBLISH, and a topic is mostly too short for the start-up cost of a vector search.
#[inline]
fn holds<const N: usize>(bytes: &[u8], wanted: [u8; N]) -> bool {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // The high bit of some byte is set if and only if a byte of `word` is `wanted` (subtracting borrows out of a
    // zero byte only; bytes above 0x7F are masked out).
    let hits = |word: u64| {
        wanted.iter().fold(0, |found, &byte| {
            let zeroed = word ^ (LOW * u64::from(byte));
            found | (zeroed.wrapping_sub(LOW) & !zeroed & HIGH)
        })
    };
    let (words, tail) = bytes.as_chunks::<8>();
    let mut found = words.iter().fold(0, |found, word| found | hits(u64::from_ne_bytes(*word)));
    if !tail.is_empty() {
        // The last bytes are looked at together, overlapping those before; a short text one by one.
        match bytes.last_chunk::<8>() {
            Some(last) => found |= hits(u64::from_ne_bytes(*last)),
            None => return tail.iter().any(|byte| wanted.contains(byte)),
        }
    }
    found != 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{put_varint, varint_len};

    proptest! {
        #[test]
        fn holds_finds_what_a_plain_search_finds(
            bytes in proptest::collection::vec(
                prop_oneof![Just(0), Just(1), Just(b'+'), Just(b'#'), Just(b'*'), Just(b','), Just(b'+' | 0x80), any::<u8>()],
                0..40,
            )
        ) {
            prop_assert_eq!(holds(&bytes, [0]), bytes.contains(&0));
            let wild = bytes.iter().any(|byte| [0, b'+', b'#'].contains(byte));
            prop_assert_eq!(holds(&bytes, [0, b'+', b'#']), wild);
        }

        #[test]
        fn a_varint_is_read_as_written(value in 0..=crate::protocol::VARINT_MAX, after in any::<u8>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let len = bytes.len();
            prop_assert_eq!(varint_len(value), len);
            bytes.push(after);
            prop_assert_eq!(varint(&bytes), Ok(Some((value, len))));
            for cut in 0..len {
                prop_assert_eq!(varint(&bytes[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn one_wanted_byte_is_found_at_every_place() {
        for len in 1..40 {
            for at in 0..len {
                let mut bytes = vec![b'a'; len];
                bytes[at] = b'#';
                assert!(holds(&bytes, [0, b'+', b'#']), "{at} of {len}");
                assert!(!holds(&bytes, [0]), "{at} of {len}");
            }
        }
    }

    #[test]
    fn varints_at_the_edges_of_their_lengths() {
        for (value, expected) in [
            (0, &[0x00][..]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes, expected);
            assert_eq!(varint(expected), Ok(Some((value, expected.len()))));
        }
    }

    #[test]
    fn a_failed_read_never_looks_past_the_end() {
        let mut reader = Reader::new(&[0xFF, 0xFF, 1, 2]);
        assert!(reader.binary().is_err());
        assert!(Reader::new(&[0, 3, b'a', b'b']).str().is_err());
        assert!(Reader::new(&[4, 1, 1, 1]).property_block().is_err());
        assert_eq!(Reader::new(&[2, 1, 1, 1]).property_block(), Ok(&[1, 1][..]));
    }
}
