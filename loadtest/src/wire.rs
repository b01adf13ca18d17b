//! Framing and the few fields a hot receive loop needs, taken from the bytes by hand.
//!
//! Owns nothing. Everything cold is encoded and decoded by `packets` with `mqttbytes`; `--strict` runs every
//! packet through both.

/// One whole packet at the front of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// First byte: type in the high four bits, flags in the low four.
    pub(crate) first: u8,
    /// What follows the fixed header.
    pub(crate) body: &'a [u8],
    /// The packet with its fixed header.
    pub(crate) whole: &'a [u8],
}

impl Frame<'_> {
    /// Packet type, 1 (CONNECT) to 15 (AUTH).
    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The first two bytes of the body: the packet identifier of an acknowledgement.
    pub(crate) fn id(&self) -> Option<u16> {
        take_u16(self.body).map(|(id, _)| id)
    }
}

/// What stands at the front of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Split<'a> {
    /// A whole packet.
    Frame(Frame<'a>),
    /// Not yet a whole packet.
    Partial,
    /// A remaining length of more than four bytes: the stream is lost.
    Malformed,
}

/// Cuts the first packet off `bytes`.
#[inline]
pub(crate) fn split(bytes: &[u8]) -> Split<'_> {
    let Some((&first, mut rest)) = bytes.split_first() else { return Split::Partial };
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let Some((&byte, tail)) = rest.split_first() else { return Split::Partial };
        rest = tail;
        length |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            let header = bytes.len() - rest.len();
            return match (rest.get(..length), bytes.get(..header + length)) {
                (Some(body), Some(whole)) => Split::Frame(Frame { first, body, whole }),
                _ => Split::Partial,
            };
        }
    }
    Split::Malformed
}

/// The parts of a PUBLISH that a receiver here looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) topic: &'a [u8],
    /// 0 at QoS 0.
    pub(crate) id: u16,
    /// MQTT 5 properties without their length; empty in 3.1.1.
    pub(crate) properties: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// Reads a PUBLISH; `None` if its fields do not fit into its body.
#[inline]
pub(crate) fn publish<'a>(frame: &Frame<'a>, v5: bool) -> Option<Publish<'a>> {
    let (length, rest) = take_u16(frame.body)?;
    let (topic, mut rest) = rest.split_at_checked(usize::from(length))?;
    let qos = (frame.first >> 1) & 3;
    let mut id = 0;
    if qos > 0 {
        (id, rest) = take_u16(rest)?;
    }
    let mut properties: &[u8] = &[];
    if v5 {
        let (length, tail) = take_varint(rest)?;
        (properties, rest) = tail.split_at_checked(length)?;
    }
    Some(Publish {
        qos,
        dup: frame.first & 8 != 0,
        retain: frame.first & 1 != 0,
        topic,
        id,
        properties,
        payload: rest,
    })
}

/// Big-endian 16 bits and what follows them.
#[inline]
pub(crate) fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// A variable byte integer and what follows it.
pub(crate) fn take_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut rest = bytes;
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        value |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

/// Appends a four-byte acknowledgement: PUBACK `0x40`, PUBREC `0x50`, PUBREL `0x62`, PUBCOMP `0x70`.
#[inline]
pub(crate) fn put_ack(out: &mut Vec<u8>, first: u8, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// What every payload of this tool begins with: it says whose message this is and the how-manieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Differs from run to run, so that leftovers of another run are not counted.
    pub(crate) run: u32,
    pub(crate) publisher: u32,
    /// From 0, without gaps, per publisher.
    pub(crate) sequence: u64,
}

impl Stamp {
    /// Bytes of a stamp: the smallest payload.
    pub(crate) const SIZE: usize = 16;
    /// Bytes of a stamp followed by the time of sending.
    pub(crate) const TIMED_SIZE: usize = 24;

    /// Appends the stamp.
    #[inline]
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        let number =
            (u128::from(self.run) << 96) | (u128::from(self.publisher) << 64) | u128::from(self.sequence);
        out.extend_from_slice(&number.to_be_bytes());
    }

    /// Reads the stamp and what follows it.
    #[inline]
    pub(crate) fn take(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (bytes, rest) = payload.split_first_chunk::<{ Self::SIZE }>()?;
        let number = u128::from_be_bytes(*bytes);
        let stamp =
            Self { run: (number >> 96) as u32, publisher: (number >> 64) as u32, sequence: number as u64 };
        Some((stamp, rest))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    /// Two packets in a row, one of them with a two-byte remaining length.
    fn stream() -> Vec<u8> {
        let mut bytes = vec![0x32, 0xC9, 0x01, 0, 3, b'a', b'/', b'b', 0x12, 0x34];
        bytes.extend_from_slice(&[7; 194]);
        bytes.extend_from_slice(&[0xD0, 0]);
        bytes
    }

    #[test]
    fn every_cut_of_the_stream_gives_the_same_packets() {
        let bytes = stream();
        for cut in 0..bytes.len() {
            match split(&bytes[..cut]) {
                Split::Partial => assert!(cut < 204, "a whole packet was not seen at {cut}"),
                Split::Frame(frame) => {
                    assert!(cut >= 204, "a packet was seen too early, at {cut}");
                    assert_eq!(frame.whole.len(), 204);
                    assert_eq!(frame.body.len(), 201);
                }
                Split::Malformed => panic!("refused at {cut}"),
            }
        }
        let Split::Frame(ping) = split(&bytes[204..]) else { panic!("no second packet") };
        assert_eq!((ping.kind(), ping.body.len(), ping.whole.len()), (13, 0, 2));
    }

    #[test]
    fn a_five_byte_length_is_malformed() {
        assert_eq!(split(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]), Split::Malformed);
        assert_eq!(split(&[0x30, 0xFF, 0xFF, 0xFF]), Split::Partial);
    }

    #[test]
    fn publish_fields() {
        let bytes = stream();
        let Split::Frame(frame) = split(&bytes) else { panic!("no packet") };
        let publish = publish(&frame, false).unwrap();
        assert_eq!((publish.qos, publish.topic, publish.id), (1, &b"a/b"[..], 0x1234));
        assert_eq!(publish.payload, [7; 194]);
    }

    #[test]
    fn publish_that_does_not_fit_is_refused() {
        for body in [&[0u8][..], &[0, 2, b'a'], &[0, 1, b'a', 0], &[0, 1, b'a', 0, 1, 9, 0]] {
            let frame = Frame { first: 0x32, body, whole: body };
            assert_eq!(publish(&frame, true), None, "{body:?}");
        }
    }

    #[test]
    fn a_stamp_survives() {
        let stamp = Stamp { run: 0xDEAD_BEEF, publisher: 499, sequence: u64::MAX - 3 };
        let mut payload = vec![];
        stamp.put(&mut payload);
        payload.push(9);
        assert_eq!(Stamp::take(&payload), Some((stamp, &[9][..])));
        assert_eq!(Stamp::take(&payload[..15]), None);
    }
}
