//! The bytes that wait to be written to one connection.
//!
//! Small packets lie one behind the other in one buffer, so that a turn's deliveries leave with one `send`. A large
//! payload is not copied: the buffer remembers where it belongs, and it is written from the message itself.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::message::Message;

/// From this payload size on, receivers share the message instead of copying it.
pub const SHARE_FROM: usize = 4096;

/// From this many sent bytes on, a buffer that is mostly sent is moved up.
const COMPACT_FROM: usize = 64 * 1024;

/// Most slices that one write hands to the kernel.
pub const MAX_SLICES: usize = 64;

/// Unsent output of one connection.
#[derive(Debug, Default)]
pub struct OutBuf {
    bytes: Vec<u8>,
    sent: usize,
    shared: Option<Box<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    splices: VecDeque<Splice>,
    /// Unsent bytes of all splices.
    pending: usize,
}

/// A payload that belongs behind the first `at` bytes of the buffer.
#[derive(Debug)]
struct Splice {
    message: Arc<Message>,
    at: usize,
    sent: usize,
}

impl OutBuf {
    /// Unsent bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.shared.as_ref().map_or(0, |s| s.pending)
    }

    /// Whether all was sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.sent && self.shared.is_none()
    }

    /// The buffer to append to; one from the pool if there was none.
    #[inline]
    pub fn bytes(&mut self, pool: &mut Pool) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
        &mut self.bytes
    }

    /// Appends the payload of `message` behind what is in the buffer, without copying it.
    pub fn splice(&mut self, message: Arc<Message>) {
        let shared = self.shared.get_or_insert_default();
        shared.pending += message.payload().len();
        shared.splices.push_back(Splice { at: self.bytes.len(), message, sent: 0 });
    }

    /// The unsent bytes when no payload is shared, which is nearly always.
    #[inline]
    pub fn contiguous(&self) -> Option<&[u8]> {
        if self.shared.is_some() {
            return None;
        }
        self.bytes.get(self.sent..)
    }

    /// The unsent bytes as slices in the order they go out, at most [`MAX_SLICES`].
    pub fn slices(&self) -> smallvec::SmallVec<[IoSlice<'_>; MAX_SLICES]> {
        let mut slices = smallvec::SmallVec::new();
        let mut from = self.sent;
        for splice in self.shared.iter().flat_map(|s| &s.splices) {
            if slices.len() + 2 > MAX_SLICES {
                return slices;
            }
            if let Some(before) = self.bytes.get(from..splice.at).filter(|b| !b.is_empty()) {
                slices.push(IoSlice::new(before));
            }
            if let Some(rest) = splice.message.payload().get(splice.sent..) {
                slices.push(IoSlice::new(rest));
            }
            from = splice.at;
        }
        if let Some(tail) = self.bytes.get(from..).filter(|b| !b.is_empty()) {
            slices.push(IoSlice::new(tail));
        }
        slices
    }

    /// Notes that `count` bytes were written. When all were, the buffer goes back to the pool.
    pub fn advance(&mut self, count: usize, pool: &mut Pool) {
        self.skip(count);
        if self.is_empty() {
            self.release(pool);
        } else if self.sent >= COMPACT_FROM && self.sent >= self.bytes.len() - self.sent {
            // A client that is always a little behind never empties its buffer.
            self.bytes.drain(..self.sent);
            for splice in self.shared.iter_mut().flat_map(|s| &mut s.splices) {
                splice.at -= self.sent;
            }
            self.sent = 0;
        }
    }

    fn skip(&mut self, mut count: usize) {
        if let Some(shared) = &mut self.shared {
            while let Some(splice) = shared.splices.front_mut() {
                let before = count.min(splice.at - self.sent);
                self.sent += before;
                count -= before;
                if self.sent < splice.at {
                    return;
                }
                let part = count.min(splice.message.payload().len() - splice.sent);
                splice.sent += part;
                shared.pending -= part;
                count -= part;
                if splice.sent < splice.message.payload().len() {
                    return;
                }
                shared.splices.pop_front();
            }
            self.shared = None;
        }
        self.sent += count;
    }

    /// Drops what is unsent and gives the buffer back.
    pub fn release(&mut self, pool: &mut Pool) {
        self.shared = None;
        self.sent = 0;
        pool.give(std::mem::take(&mut self.bytes));
    }
}

/// Buffers that no connection needs at the moment.
#[derive(Debug, Default)]
pub struct Pool {
    free: Vec<Vec<u8>>,
    bytes: usize,
}

/// Buffers larger than this are freed instead of kept.
const KEEP_BUFFER: usize = 256 * 1024;
/// Bytes that the pool keeps at most.
const KEEP_TOTAL: usize = 8 * 1024 * 1024;
/// Capacity of a new buffer.
const NEW_BUFFER: usize = 512;

impl Pool {
    fn take(&mut self) -> Vec<u8> {
        match self.free.pop() {
            Some(buffer) => {
                self.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(NEW_BUFFER),
        }
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 || capacity > KEEP_BUFFER || self.bytes + capacity > KEEP_TOTAL {
            return;
        }
        buffer.clear();
        self.bytes += capacity;
        self.free.push(buffer);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::message::{ELSEWHERE, MessageRef, NEVER};
    use crate::protocol::QoS;

    fn message(payload: &[u8]) -> Arc<Message> {
        MessageRef {
            topic: "t",
            payload,
            properties: b"",
            expires_at: NEVER,
            from: ELSEWHERE,
            qos: QoS::AtMostOnce,
            retain: false,
            snappy: false,
        }
        .to_message()
    }

    fn gathered(out: &OutBuf) -> Vec<u8> {
        out.slices().iter().flat_map(|s| s.to_vec()).collect()
    }

    #[test]
    fn spliced_payloads_go_out_in_order_whatever_the_writes() {
        for step in 1..40 {
            let mut pool = Pool::default();
            let mut out = OutBuf::default();
            out.bytes(&mut pool).extend_from_slice(b"head1");
            out.splice(message(b"PAYLOAD-ONE"));
            out.splice(message(b"TWO"));
            out.bytes(&mut pool).extend_from_slice(b"head2");
            out.splice(message(b"THREE"));
            out.bytes(&mut pool).extend_from_slice(b"tail");
            let whole = b"head1PAYLOAD-ONETWOhead2THREEtail";
            assert_eq!(out.len(), whole.len());
            let mut sent = Vec::new();
            while !out.is_empty() {
                let rest = gathered(&out);
                assert_eq!(rest.len(), out.len());
                let n = step.min(rest.len());
                sent.extend_from_slice(&rest[..n]);
                out.advance(n, &mut pool);
            }
            assert_eq!(sent, whole, "in steps of {step}");
            assert_eq!(pool.free.len(), 1);
        }
    }

    #[test]
    fn a_client_that_never_catches_up_costs_what_is_unsent() {
        let mut pool = Pool::default();
        let mut out = OutBuf::default();
        let (mut written, mut read) = (0u32, 0u32);
        for turn in 0..3_000 {
            for _ in 0..64 {
                out.bytes(&mut pool).extend_from_slice(&written.to_be_bytes());
                written += 1;
            }
            if turn % 7 == 0 {
                out.splice(message(&written.to_be_bytes()));
                written += 1;
            }
            // All but the last hundred numbers leave.
            while written - read > 100 {
                let next: Vec<u8> = gathered(&out)[..4].to_vec();
                assert_eq!(next, read.to_be_bytes());
                out.advance(4, &mut pool);
                read += 1;
            }
            assert!(out.bytes.len() <= 2 * COMPACT_FROM, "{} bytes are kept", out.bytes.len());
        }
        assert!(written as usize * 4 > 10 * COMPACT_FROM, "enough went through");
    }

    #[test]
    fn a_drained_buffer_serves_the_next_connection() {
        let mut pool = Pool::default();
        let mut first = OutBuf::default();
        first.bytes(&mut pool).extend_from_slice(b"abc");
        assert_eq!(first.contiguous(), Some(&b"abc"[..]));
        first.advance(1, &mut pool);
        assert_eq!(first.contiguous(), Some(&b"bc"[..]));
        first.advance(2, &mut pool);
        assert!(first.is_empty());
        assert_eq!(pool.free.len(), 1);
        OutBuf::default().bytes(&mut pool).push(1);
        assert_eq!(pool.free.len(), 0);
    }

    #[test]
    fn the_pool_keeps_no_huge_buffer() {
        let mut pool = Pool::default();
        pool.give(Vec::with_capacity(KEEP_BUFFER + 1));
        assert_eq!(pool.free.len(), 0);
    }
}
