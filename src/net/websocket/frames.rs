//! Frames [RFC 6455 5].

use smallvec::SmallVec;

use super::CloseCode;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;

/// Bytes of a control frame [RFC 6455 5.5].
const MOST_CONTROL: u64 = 125;

/// Two bytes, eight of length, four of the mask.
const LONGEST_HEAD: usize = 14;

/// What a control frame carries.
type Control = SmallVec<[u8; 0]>;

/// What the next bytes were.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// All were taken.
    More,
    /// To be answered with the same.
    Ping(Control),
    /// To be answered with this.
    Close(Control),
    /// The rules are broken.
    Wrong(CloseCode),
}

/// What is under way of a connection's frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Of a frame whose head has not come whole, or of a control frame.
    part: Option<Box<Part>>,
    /// Bytes of a data frame still to come.
    left: u64,
    mask: [u8; 4],
    /// How far into the mask the next byte is.
    turn: u8,
    /// Frames of a message have come, and its last has not.
    within: bool,
}

#[derive(Debug, Default)]
struct Part {
    head: SmallVec<[u8; LONGEST_HEAD]>,
    /// What has come of a control frame.
    control: Control,
}

/// A frame's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    last: bool,
    opcode: u8,
    length: u64,
    mask: [u8; 4],
}

impl Frames {
    /// Takes bytes until something has to be answered; says how many. What data frames carry is appended to `data`.
    pub(super) fn take(&mut self, bytes: &mut [u8], max_frame: u64, data: &mut Vec<u8>) -> (usize, Next) {
        let mut used = 0;
        loop {
            let rest = bytes.get_mut(used..).unwrap_or_default();
            if self.left > 0 {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                let carried = rest.get_mut(..count).unwrap_or_default();
                unmask(carried, self.mask, usize::from(self.turn));
                data.extend_from_slice(carried);
                self.turn = (usize::from(self.turn) + count) as u8 & 3;
                self.left -= count as u64;
                used += count;
                if self.left > 0 {
                    return (used, Next::More);
                }
                continue;
            }
            if rest.is_empty() {
                return (used, Next::More);
            }
            let (count, next) = self.head(rest, max_frame);
            used += count;
            if let Some(next) = next {
                return (used, next);
            }
        }
    }

    /// Takes bytes of a head, and of the control frame behind it. `None`: go on with what follows.
    fn head(&mut self, bytes: &[u8], max_frame: u64) -> (usize, Option<Next>) {
        let mut part = self.part.take().unwrap_or_default();
        let mut used = 0;
        let head = loop {
            match head(&part.head) {
                Ok(Some(head)) => break head,
                Ok(None) => {}
                Err(code) => return (used, Some(Next::Wrong(code))),
            }
            let Some(byte) = bytes.get(used) else {
                self.part = Some(part);
                return (used, Some(Next::More));
            };
            part.head.push(*byte);
            used += 1;
        };
        if let Err(code) = self.allow(&head, max_frame) {
            return (used, Some(Next::Wrong(code)));
        }
        if head.opcode < CLOSE {
            self.within = !head.last;
            (self.left, self.mask, self.turn) = (head.length, head.mask, 0);
            return (used, None);
        }
        let missing = (head.length as usize).saturating_sub(part.control.len());
        let rest = bytes.get(used..).unwrap_or_default();
        let more = rest.get(..missing).unwrap_or(rest);
        part.control.extend_from_slice(more);
        used += more.len();
        if more.len() < missing {
            self.part = Some(part);
            return (used, Some(Next::More));
        }
        unmask(&mut part.control, head.mask, 0);
        let next = match head.opcode {
            PING => Some(Next::Ping(part.control)),
            CLOSE => Some(close(part.control)),
            _ => None,
        };
        (used, next)
    }

    /// Whether a frame may stand here.
    fn allow(&self, head: &Head, max_frame: u64) -> Result<(), CloseCode> {
        match head.opcode {
            // The two do not go into each other [RFC 6455 5.4].
            CONTINUATION if !self.within => Err(CloseCode::ProtocolError),
            BINARY | TEXT if self.within => Err(CloseCode::ProtocolError),
            TEXT => Err(CloseCode::Unacceptable),
            CONTINUATION | BINARY if head.length > max_frame => Err(CloseCode::TooLarge),
            CONTINUATION | BINARY => Ok(()),
            CLOSE | PING | PONG if head.last && head.length <= MOST_CONTROL => Ok(()),
            _ => Err(CloseCode::ProtocolError),
        }
    }
}

/// Reads a head. `None`: it has not come whole.
fn head(bytes: &[u8]) -> Result<Option<Head>, CloseCode> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    // No extension is agreed on that would give these bits a meaning; every client masks [RFC 6455 5.1, 5.2].
    if first & RESERVED != 0 || second & MASKED == 0 {
        return Err(CloseCode::ProtocolError);
    }
    let (length, least, rest) = match second & !MASKED {
        126 => match rest.split_first_chunk::<2>() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), 126, rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((length, rest)) => (u64::from_be_bytes(*length), 1 << 16, rest),
            None => return Ok(None),
        },
        length => (u64::from(length), 0, rest),
    };
    // The shortest form is to be used, and the highest bit is 0.
    if length < least || length >> 63 != 0 {
        return Err(CloseCode::ProtocolError);
    }
    let Some(mask) = rest.first_chunk() else { return Ok(None) };
    Ok(Some(Head { last: first & FINAL != 0, opcode: first & OPCODE, length, mask: *mask }))
}

/// What is answered to a client's good-bye: its own code [RFC 6455 5.5.1].
fn close(said: Control) -> Next {
    let Some((code, reason)) = said.split_first_chunk::<2>() else {
        // None at all is allowed, half of one is not.
        return if said.is_empty() { Next::Close(said) } else { Next::Wrong(CloseCode::ProtocolError) };
    };
    let may_be_sent = matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !may_be_sent {
        return Next::Wrong(CloseCode::ProtocolError);
    }
    if std::str::from_utf8(reason).is_err() {
        return Next::Wrong(CloseCode::Inconsistent);
    }
    Next::Close(Control::from_slice(code))
}

/// Takes the mask off, or puts it on; the first byte meets the mask at `turn`.
fn unmask(bytes: &mut [u8], mask: [u8; 4], turn: usize) {
    let mut turned = mask;
    turned.rotate_left(turn & 3);
    let word = u64::from(u32::from_ne_bytes(turned));
    let word = word | word << 32;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for eight in words {
        *eight = (u64::from_ne_bytes(*eight) ^ word).to_ne_bytes();
    }
    rest.iter_mut().zip(turned.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Appends the head of a whole frame of ours, which has no mask.
pub(super) fn put_head(opcode: u8, length: usize, wire: &mut Vec<u8>) {
    wire.push(FINAL | opcode);
    match length {
        0..126 => wire.push(length as u8),
        126..65_536 => {
            wire.push(126);
            wire.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            wire.push(127);
            wire.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a whole control frame.
pub(super) fn put_control(opcode: u8, carries: &[u8], wire: &mut Vec<u8>) {
    put_head(opcode, carries.len(), wire);
    wire.extend_from_slice(carries);
}
