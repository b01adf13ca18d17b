//! A document's value as it lies in the view: version (1 byte), codec (1), CRC-32 of codec and bytes (4), bytes.

/// The only version.
const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const SNAPPY: u8 = 1;

/// Shorter values stay as they are: Snappy saves 1 to 9 % of chat messages under 512 bytes.
const SNAPPY_FROM: usize = 1024;

/// Snappy has to save this part of a value, in percent, to be worth undoing at each read.
const SNAPPY_SAVES: usize = 12;

/// A value that is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value's checksum does not fit its bytes")]
pub(super) struct Spoilt;

/// The value as it is stored.
pub(super) fn pack(value: &[u8]) -> Vec<u8> {
    let squeezed = (value.len() >= SNAPPY_FROM)
        .then(|| snap::raw::Encoder::new().compress_vec(value).ok())
        .flatten()
        .filter(|squeezed| squeezed.len() * 100 <= value.len() * (100 - SNAPPY_SAVES));
    let (codec, bytes) = match &squeezed {
        Some(squeezed) => (SNAPPY, squeezed.as_slice()),
        None => (PLAIN, value),
    };
    let mut packed = Vec::with_capacity(6 + bytes.len());
    packed.extend_from_slice(&[VERSION, codec]);
    packed.extend_from_slice(&crc(codec, bytes).to_le_bytes());
    packed.extend_from_slice(bytes);
    packed
}

/// Shows the value of what is stored.
pub(super) fn unpack<R>(packed: &[u8], show: impl FnOnce(&[u8]) -> R) -> Result<R, Spoilt> {
    let (&[VERSION, codec, c0, c1, c2, c3], bytes) = packed.split_first_chunk::<6>().ok_or(Spoilt)? else {
        return Err(Spoilt);
    };
    if crc(codec, bytes) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(Spoilt);
    }
    match codec {
        PLAIN => Ok(show(bytes)),
        SNAPPY => Ok(show(&snap::raw::Decoder::new().decompress_vec(bytes).map_err(|_| Spoilt)?)),
        _ => Err(Spoilt),
    }
}

fn crc(codec: u8, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[codec]);
    crc.update(bytes);
    crc.finalize()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_large_values_that_shrink_are_compressed() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..2000).map(|_| random.u8(..)).collect();
        for (value, codec) in [
            (vec![], PLAIN),
            (vec![b'a'; SNAPPY_FROM - 1], PLAIN),
            (vec![b'a'; SNAPPY_FROM], SNAPPY),
            (noise, PLAIN),
        ] {
            let packed = pack(&value);
            assert_eq!(packed[1], codec);
            assert_eq!(unpack(&packed, <[u8]>::to_vec), Ok(value));
        }
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        for value in [vec![b'a'; 1500], b"short".to_vec()] {
            let packed = pack(&value);
            for at in 0..packed.len() * 8 {
                let mut spoilt = packed.clone();
                spoilt[at / 8] ^= 1 << (at % 8);
                assert_eq!(unpack(&spoilt, |_| ()), Err(Spoilt), "bit {at}");
            }
            for cut in 0..packed.len() {
                assert_eq!(unpack(&packed[..cut], |_| ()), Err(Spoilt), "{cut}");
            }
        }
    }
}
