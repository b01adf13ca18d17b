//! Snappy blocks, as clients send them: <https://github.com/google/snappy/blob/main/format_description.txt>.
//!
//! The block format, not the frame format: it says up front how long it becomes. Whether a block is valid is told by a
//! walk over its elements that writes nothing, so that a message is judged without being expanded.

/// The name that clients call this by in `content-encoding` and `accept-encoding`.
pub const NAME: &str = "snappy";

/// Why a block is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It announces more than is allowed. No further byte was looked at.
    #[error("the block expands to more than is allowed")]
    TooLong,
    /// It is not a Snappy block, or not a whole one.
    #[error("this is no Snappy block")]
    Invalid,
}

/// Checks that a block expands, and to at most `maximum` bytes. Returns to how many.
pub fn check(block: &[u8], maximum: usize) -> Result<usize, Wrong> {
    let (announced, mut rest) = announced(block).ok_or(Wrong::Invalid)?;
    if announced > maximum {
        return Err(Wrong::TooLong);
    }
    let mut made = 0;
    while let Some((&tag, behind)) = rest.split_first() {
        let (element, behind) = Element::read(tag, behind).ok_or(Wrong::Invalid)?;
        // A copy is of what has been made already.
        if element.back.is_some_and(|back| back == 0 || back > made) {
            return Err(Wrong::Invalid);
        }
        made += element.makes;
        if made > announced {
            return Err(Wrong::Invalid);
        }
        rest = behind;
    }
    if made == announced { Ok(made) } else { Err(Wrong::Invalid) }
}

/// Appends what a block expands to; `out` is as it was if it does not expand.
pub fn expand(block: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
    let before = out.len();
    let (announced, _) = announced(block).ok_or(Wrong::Invalid)?;
    out.reserve_exact(announced);
    out.resize(before + announced, 0);
    let room = out.get_mut(before..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, room).map(drop).map_err(|_| {
        out.truncate(before);
        Wrong::Invalid
    })
}

/// The length that a block announces, a varint of 32 bits, and its elements.
fn announced(block: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_u64;
    for (at, &byte) in block.iter().take(5).enumerate() {
        length |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(length).ok()? as usize, block.get(at + 1..)?));
        }
    }
    None
}

/// What one element of a block does.
struct Element {
    /// Bytes that it makes.
    makes: usize,
    /// How far back it copies from; `None`: a literal, which brings its bytes along.
    back: Option<usize>,
}

impl Element {
    /// Reads the element whose tag stands before `rest`, and returns what is behind it.
    fn read(tag: u8, rest: &[u8]) -> Option<(Self, &[u8])> {
        let size = usize::from(tag >> 2);
        let (makes, back, behind) = match tag & 0b11 {
            0 if size < 60 => (size + 1, None, rest.get(size + 1..)?),
            0 => {
                let (length, rest) = number(rest, size - 59)?;
                (length + 1, None, rest.get(length + 1..)?)
            }
            1 => {
                let (low, behind) = number(rest, 1)?;
                (4 + (size & 0b111), Some((size >> 3) << 8 | low), behind)
            }
            width => {
                let (back, behind) = number(rest, if width == 2 { 2 } else { 4 })?;
                (size + 1, Some(back), behind)
            }
        };
        Some((Self { makes, back }, behind))
    }
}

/// A little-endian number of up to four bytes.
#[inline]
fn number(bytes: &[u8], width: usize) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_at_checked(width)?;
    Some((number.iter().rev().fold(0, |high, &byte| high << 8 | usize::from(byte)), rest))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compressed(plain: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(plain).unwrap()
    }

    fn expanded(block: &[u8]) -> Result<Vec<u8>, Wrong> {
        let mut out = b"before".to_vec();
        expand(block, &mut out).map(|()| out.split_off(6)).inspect_err(|_| assert_eq!(out, b"before"))
    }

    /// Text with repetitions near and far, and noise.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            prop::collection::vec(Just(b'a'), 0..500),
            "(hello |customer |您好，){0,40}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 70_000..70_001),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn what_is_announced_is_judged_first() {
        let four_gib = [0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0xFF];
        assert_eq!(check(&four_gib, 1 << 20), Err(Wrong::TooLong));
        assert_eq!(check(&[0xFF, 0xFF, 0xFF, 0xFF, 0x10], usize::MAX), Err(Wrong::Invalid), "33 bits");
        let block = compressed(&[7; 1000]);
        assert_eq!(check(&block, 999), Err(Wrong::TooLong));
        assert_eq!(check(&block, 1000), Ok(1000));
    }

    #[test]
    fn only_whole_blocks_are_valid() {
        assert_eq!(check(&[], 10), Err(Wrong::Invalid));
        assert_eq!(check(&[0], 0), Ok(0));
        let block = compressed(b"hello hello hello hello hello hello, and good bye");
        assert_eq!(check(&block, 100), Ok(49));
        (0..block.len()).for_each(|cut| assert_eq!(check(&block[..cut], 100), Err(Wrong::Invalid), "{cut}"));
        for length in (0..127).filter(|length| *length != 49) {
            let lying: Vec<u8> = [&[length], &block[1..]].concat();
            assert_eq!(check(&lying, 200), Err(Wrong::Invalid), "{length}");
        }
    }

    proptest! {
        #[test]
        fn what_an_encoder_makes_is_valid(plain in text()) {
            let block = compressed(&plain);
            prop_assert_eq!(check(&block, plain.len()), Ok(plain.len()));
            prop_assert_eq!(expanded(&block), Ok(plain));
        }

        /// Whatever is found valid expands, to the length that was told, and nothing else does.
        #[test]
        fn the_walk_and_the_decoder_agree(
            plain in text(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut block = compressed(&plain);
            for (at, byte) in changes {
                let at = at.index(block.len());
                block[at] = byte;
            }
            let found = check(&block, 1 << 22);
            prop_assume!(found != Err(Wrong::TooLong));
            prop_assert_eq!(found, expanded(&block).map(|plain| plain.len()));
        }

        #[test]
        fn the_walk_and_the_decoder_agree_on_any_bytes(length in 0..60_u8, rest in prop::collection::vec(any::<u8>(), 0..80)) {
            let block = [&[length], &*rest].concat();
            prop_assert_eq!(check(&block, 1 << 20), expanded(&block).map(|plain| plain.len()));
        }
    }
}
