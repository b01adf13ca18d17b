//! Frames: numbered bytes with a checksum, one behind the other in a file, found again behind damage.
//!
//! A frame is mark (4 bytes), length of the payload (4), CRC-32 of number and payload (4), number (8), payload; all
//! numbers little-endian. The mark is drawn when the store is made and no client knows it: whoever sends a payload that
//! looks like a frame does not have it read as one, even where damage makes the reader search for the next frame.

use std::ops::Range;

/// Bytes before the payload.
pub(super) const HEAD: usize = 20;

/// The first bytes of every frame of one store; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(pub(super) u32);

/// A frame that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) number: u64,
    pub(super) payload: &'a [u8],
    /// Where the next one starts.
    pub(super) end: usize,
}

/// What a reader comes upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Frame(Frame<'a>),
    /// Bytes that are no frame, up to the next one or to the end.
    Damaged(Range<usize>),
}

/// A payload too long for its length's four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes at once are more than a frame can hold")]
pub(super) struct TooLong(usize);

/// Appends a frame of `parts` to `into`.
pub(super) fn append<'a>(
    into: &mut Vec<u8>,
    mark: Mark,
    number: u64,
    parts: impl Iterator<Item = &'a [u8]>,
) -> Result<(), TooLong> {
    let start = into.len();
    into.extend_from_slice(&[0; HEAD]);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_le_bytes());
    for part in parts {
        crc.update(part);
        into.extend_from_slice(part);
    }
    let length = into.len() - start - HEAD;
    let Ok(short) = u32::try_from(length) else {
        into.truncate(start);
        return Err(TooLong(length));
    };
    let mut head = Vec::with_capacity(HEAD);
    head.extend_from_slice(&mark.0.to_le_bytes());
    head.extend_from_slice(&short.to_le_bytes());
    head.extend_from_slice(&crc.finalize().to_le_bytes());
    head.extend_from_slice(&number.to_le_bytes());
    if let Some(place) = into.get_mut(start..start + HEAD) {
        place.copy_from_slice(&head);
    }
    Ok(())
}

/// The frame that starts at `at`, if a whole one does.
fn read(bytes: &[u8], at: usize, mark: Mark) -> Option<Frame<'_>> {
    let (head, rest) = bytes.get(at..)?.split_first_chunk::<HEAD>()?;
    let [m0, m1, m2, m3, l0, l1, l2, l3, c0, c1, c2, c3, number @ ..] = *head;
    if u32::from_le_bytes([m0, m1, m2, m3]) != mark.0 {
        return None;
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let payload = rest.get(..length)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number);
    crc.update(payload);
    let whole = crc.finalize() == u32::from_le_bytes([c0, c1, c2, c3]);
    whole.then(|| Frame { number: u64::from_le_bytes(number), payload, end: at + HEAD + length })
}

/// Reads a file's frames from an offset on.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    mark: Mark,
}

impl<'a> Frames<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize, mark: Mark) -> Self {
        Self { bytes, at, mark }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        if self.at >= self.bytes.len() {
            return None;
        }
        if let Some(frame) = read(self.bytes, self.at, self.mark) {
            self.at = frame.end;
            return Some(Found::Frame(frame));
        }
        let from = self.at;
        let first = (from + 1..self.bytes.len()).find(|&at| read(self.bytes, at, self.mark).is_some());
        self.at = first.unwrap_or(self.bytes.len());
        Some(Found::Damaged(from..self.at))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const MARK: Mark = Mark(0x5157_4211);

    fn three() -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, payload) in [(7, &b"seven"[..]), (8, b""), (9, b"nine")] {
            append(&mut bytes, MARK, number, payload.chunks(2)).unwrap();
        }
        bytes
    }

    fn numbers(bytes: &[u8]) -> Vec<u64> {
        Frames::new(bytes, 0, MARK)
            .filter_map(|found| match found {
                Found::Frame(frame) => Some(frame.number),
                Found::Damaged(_) => None,
            })
            .collect()
    }

    #[test]
    fn frames_come_out_as_they_went_in_and_any_cut_leaves_those_before_it() {
        let bytes = three();
        let first = Frames::new(&bytes, 0, MARK).next().unwrap();
        assert_eq!(first, Found::Frame(Frame { number: 7, payload: b"seven", end: 25 }));
        for cut in 0..=bytes.len() {
            let whole = usize::from(cut >= 25) + usize::from(cut >= 45) + usize::from(cut >= 69);
            assert_eq!(numbers(&bytes[..cut]), [7, 8, 9][..whole], "{cut}");
        }
    }

    #[test]
    fn a_flipped_bit_takes_one_frame_and_no_other() {
        for at in 0..three().len() * 8 {
            let mut bytes = three();
            bytes[at / 8] ^= 1 << (at % 8);
            let lost = match at / 8 {
                ..25 => 7,
                25..45 => 8,
                _ => 9,
            };
            let others: Vec<u64> = [7, 8, 9].into_iter().filter(|&number| number != lost).collect();
            assert_eq!(numbers(&bytes), others, "bit {at}");
            let damaged: usize = Frames::new(&bytes, 0, MARK)
                .map(|found| if let Found::Damaged(range) = found { range.len() } else { 0 })
                .sum();
            assert_eq!(damaged, [25, 20, 24][lost as usize - 7], "bit {at}");
        }
    }

    #[test]
    fn a_zeroed_tail_and_a_frame_of_another_store_are_no_frames() {
        let mut bytes = three();
        bytes.extend_from_slice(&[0; 100]);
        assert_eq!(Frames::new(&bytes, 0, MARK).last(), Some(Found::Damaged(69..169)));
        assert_eq!(Frames::new(&three(), 0, Mark(1)).next(), Some(Found::Damaged(0..69)));
    }
}
