//! How values are laid out on the wire, and the primitives that the broker's own hot encoders share with the
//! packets' `encode`.
//!
//! A packet is written twice by the same code: once into a counter, which gives its length, and once into the
//! buffer, so that a length can never disagree with what it announces.

use super::packet::PacketId;

/// The largest value of a variable byte integer (1.5.5), and so the largest remaining length.
pub const VARINT_MAX: u32 = 268_435_455;

/// The most bytes that a string or binary field can have (1.5.4, 1.5.6).
const FIELD_MAX: usize = u16::MAX as usize;

/// Where encoded bytes go: into a buffer, or only into a count.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    #[inline]
    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline]
    fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    #[inline]
    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    #[inline]
    fn varint(&mut self, mut value: u32) {
        debug_assert!(value <= VARINT_MAX, "a variable byte integer holds 28 bits");
        while value > 0x7F {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// Binary data with its two byte length. What is longer than that length can say is a fault of the caller:
    /// caught in debug builds, cut in release builds, so that at least the framing stays true.
    #[inline]
    fn binary(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= FIELD_MAX, "a string or binary field holds 65,535 bytes");
        let bytes = bytes.get(..FIELD_MAX).unwrap_or(bytes);
        self.u16(bytes.len() as u16);
        self.put(bytes);
    }

    #[inline]
    fn str(&mut self, text: &str) {
        debug_assert!(text.len() <= FIELD_MAX, "a string holds 65,535 bytes");
        self.binary(text.get(..text.floor_char_boundary(FIELD_MAX)).unwrap_or_default().as_bytes());
    }

    /// A property block with its length.
    #[inline]
    fn block(&mut self, block: &impl Encode)
    where
        Self: Sized,
    {
        self.varint(block.encoded_len());
        block.write(self);
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn u8(&mut self, value: u8) {
        self.push(value);
    }
}

/// Counts what would be written.
#[derive(Debug, Default)]
pub(super) struct Count(u32);

impl Sink for Count {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }
}

/// Something whose bytes follow a length: a packet's body or a property block.
pub(super) trait Encode {
    fn write(&self, out: &mut impl Sink);

    #[inline]
    fn encoded_len(&self) -> u32 {
        let mut count = Count::default();
        self.write(&mut count);
        count.0
    }
}

/// Appends a whole packet: first byte, remaining length, body.
#[inline]
pub(super) fn put_packet(out: &mut Vec<u8>, first: u8, body: &impl Encode) {
    let len = body.encoded_len();
    out.reserve(5 + len as usize);
    out.push(first);
    put_varint(out, len);
    body.write(out);
}

/// How many bytes [`put_varint`] writes for `value`: 1 to 4.
#[inline]
pub const fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer (1.5.5) in as few bytes as possible; at most [`VARINT_MAX`].
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: u32) {
    out.varint(value);
}

/// Appends a UTF-8 encoded string with its length (1.5.4); at most 65,535 bytes.
#[inline]
pub fn put_str(out: &mut Vec<u8>, text: &str) {
    out.str(text);
}

/// Appends binary data with its length (1.5.6); at most 65,535 bytes.
#[inline]
pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.binary(bytes);
}

/// Appends a two byte integer (1.5.2).
#[inline]
pub fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.u16(value);
}

/// Appends a four byte integer (1.5.3).
#[inline]
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.u32(value);
}

/// Appends the short form of PUBACK, PUBREC, PUBREL, PUBCOMP or a 3.1.1 UNSUBACK, right in every version: four
/// bytes, success. `first` is the whole first byte, as [`AckKind::first_byte`](super::AckKind::first_byte) gives it.
#[inline]
pub fn put_ack(out: &mut Vec<u8>, first: u8, id: PacketId) {
    let [high, low] = id.get().to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn primitives_append() {
        let mut out = vec![9];
        put_u16(&mut out, 0x0102);
        put_u32(&mut out, 0x0304_0506);
        put_str(&mut out, "é");
        put_binary(&mut out, &[0xFF]);
        put_ack(&mut out, 0x62, PacketId::new(0x0708).unwrap());
        assert_eq!(out, [9, 1, 2, 3, 4, 5, 6, 0, 2, 0xC3, 0xA9, 0, 1, 0xFF, 0x62, 2, 7, 8]);
    }

    #[test]
    #[cfg(not(debug_assertions))]
    fn an_overlong_string_is_cut_at_a_character_and_framing_stays_true() {
        let mut out = Vec::new();
        put_str(&mut out, &"é".repeat(40_000));
        assert_eq!(out.len(), 2 + 65_534);
        assert_eq!(out.first_chunk(), Some(&65_534_u16.to_be_bytes()));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "65,535")]
    fn an_overlong_string_is_a_fault_of_the_caller() {
        put_str(&mut Vec::new(), &"é".repeat(40_000));
    }
}
