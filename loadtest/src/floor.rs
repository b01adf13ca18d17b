//! The floor: a bare relay that shows what the sockets alone cost on this machine.
//!
//! One thread, one poll, edge triggered, registered once; a short read means drained; buffers from a pool; one
//! write per receiver and turn. A PUBLISH goes out byte for byte, packet identifier and all, to the subscribers of
//! its topic. It knows `x/#`, `x/+` and `$share` only so far that the scenarios run (a group takes turns), and no
//! further rule: it checks nothing, keeps nothing, repeats nothing. Never use it for anything but comparing.

use crate::failure::Failure;
use crate::wire::{Frame, Split, split, take_u16, take_varint};
use ahash::AHashMap;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

const READ_SIZE: usize = 256 * 1024;
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// Buffers kept for reuse, and the largest kept.
const POOL: usize = 4096;
const POOLED_SIZE: usize = 64 * 1024;

/// A connection: small, since `conn` measures it.
struct Conn {
    stream: TcpStream,
    out: Vec<u8>,
    /// The beginning of a packet whose end has not come.
    part: Box<[u8]>,
    topics: Vec<Box<[u8]>>,
    written: u32,
    dirty: bool,
    blocked: bool,
    v5: bool,
}

/// A subscription that is not one exact topic: a wildcard, or a shared group.
struct Pattern {
    /// As it was subscribed to, `$share/…` and all.
    filter: Box<[u8]>,
    matches: Match,
    shared: bool,
    members: Vec<u32>,
    next: usize,
}

enum Match {
    Exact(Box<[u8]>),
    /// `x/+`: what the name must begin with, one level after it.
    Level(Box<[u8]>),
    /// `x/#`: what the name must begin with.
    Tree(Box<[u8]>),
}

impl Match {
    fn new(filter: &[u8]) -> Option<Self> {
        let (prefix, parsed) = match filter {
            [prefix @ .., b'#'] => (prefix, Self::Tree(prefix.into())),
            [prefix @ .., b'+'] => (prefix, Self::Level(prefix.into())),
            exact => (exact, Self::Exact(exact.into())),
        };
        (!prefix.iter().any(|byte| matches!(byte, b'+' | b'#'))).then_some(parsed)
    }

    #[inline]
    fn is(&self, topic: &[u8]) -> bool {
        match self {
            Self::Exact(name) => topic == &**name,
            Self::Tree(prefix) => topic.starts_with(prefix),
            Self::Level(prefix) => topic.strip_prefix(&**prefix).is_some_and(|rest| !rest.contains(&b'/')),
        }
    }
}

/// The relay.
pub(crate) struct Floor {
    poll: Poll,
    listener: TcpListener,
    relay: Relay,
}

struct Relay {
    conns: Vec<Option<Box<Conn>>>,
    free: Vec<u32>,
    exact: AHashMap<Box<[u8]>, Vec<u32>>,
    patterns: Vec<Pattern>,
    dirty: Vec<u32>,
    pool: Vec<Vec<u8>>,
}

impl Floor {
    /// Listens.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::io("opening epoll"))?;
        let mut listener = listen(address).map_err(Failure::io(format!("listening on {address}")))?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(Failure::io("registering the listener"))?;
        let relay = Relay {
            conns: vec![],
            free: vec![],
            exact: AHashMap::new(),
            patterns: vec![],
            dirty: vec![],
            pool: vec![],
        };
        Ok(Self { poll, listener, relay })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr, Failure> {
        self.listener.local_addr().map_err(Failure::io("asking for the listener's address"))
    }

    /// What ends `run` when it is woken; a process is simply ended.
    #[cfg(test)]
    pub(crate) fn stopper(&self) -> Result<mio::Waker, Failure> {
        mio::Waker::new(self.poll.registry(), WAKER).map_err(Failure::io("making a waker"))
    }

    /// Relays until the stopper is woken.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_SIZE];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome.map_err(Failure::io("waiting for events"))?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    WAKER => return Ok(()),
                    Token(id) => {
                        let id = id as u32;
                        if event.is_writable() {
                            self.relay.unblock(id);
                        }
                        if event.is_readable() && !self.relay.read(id, &mut buffer, event.is_read_closed()) {
                            self.relay.close(id);
                        }
                    }
                }
            }
            self.relay.flush();
        }
    }

    fn accept(&mut self) -> Result<(), Failure> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(Failure::io("accepting")(error)),
            };
            stream.set_nodelay(true).map_err(Failure::io("setting TCP_NODELAY"))?;
            let id = self.relay.free.pop().unwrap_or(self.relay.conns.len() as u32);
            self.poll
                .registry()
                .register(&mut stream, Token(id as usize), Interest::READABLE | Interest::WRITABLE)
                .map_err(Failure::io("registering a connection"))?;
            self.relay.insert(id, stream);
        }
    }
}

/// A listener with a long backlog.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}

impl Relay {
    fn insert(&mut self, id: u32, stream: TcpStream) {
        let conn = Box::new(Conn {
            stream,
            out: vec![],
            part: Box::default(),
            topics: vec![],
            written: 0,
            dirty: false,
            blocked: false,
            v5: false,
        });
        match self.conns.get_mut(id as usize) {
            Some(place) => *place = Some(conn),
            None => self.conns.push(Some(conn)),
        }
    }

    fn conn(&mut self, id: u32) -> Option<&mut Conn> {
        self.conns.get_mut(id as usize)?.as_deref_mut()
    }

    fn unblock(&mut self, id: u32) {
        if let Some(conn) = self.conn(id)
            && conn.blocked
        {
            conn.blocked = false;
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push(id);
            }
        }
    }

    /// `false`: the connection is over.
    fn read(&mut self, id: u32, buffer: &mut [u8], to_end: bool) -> bool {
        loop {
            let Some(conn) = self.conn(id) else { return true };
            let count = match conn.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            let part = std::mem::take(&mut conn.part);
            let joined;
            let bytes = if part.is_empty() {
                bytes
            } else {
                joined = [&part, bytes].concat();
                &joined
            };
            let Some(rest) = self.frames(id, bytes) else { return false };
            if !rest.is_empty()
                && let Some(conn) = self.conn(id)
            {
                conn.part = rest.into();
            }
            if count < buffer.len() && !to_end {
                return true;
            }
        }
    }

    /// Serves all whole packets and gives back the rest; `None`: the connection is over.
    #[inline]
    fn frames<'a>(&mut self, id: u32, mut bytes: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            match split(bytes) {
                Split::Frame(frame) => {
                    self.serve(id, &frame)?;
                    bytes = bytes.get(frame.whole.len()..)?;
                }
                Split::Partial => return Some(bytes),
                Split::Malformed => return None,
            }
        }
    }

    #[inline]
    fn serve(&mut self, id: u32, frame: &Frame<'_>) -> Option<()> {
        match frame.kind() {
            3 => self.publish(id, frame)?,
            // PUBACK and PUBCOMP end an exchange that is not remembered.
            4 | 7 => {}
            5 => self.answer(id, 0x62, frame.id()?),
            6 => self.answer(id, 0x70, frame.id()?),
            _ => self.serve_rare(id, frame)?,
        }
        Some(())
    }

    #[cold]
    fn serve_rare(&mut self, id: u32, frame: &Frame<'_>) -> Option<()> {
        let v5 = self.conn(id)?.v5;
        match frame.kind() {
            1 => {
                let (length, rest) = take_u16(frame.body)?;
                let v5 = *rest.get(usize::from(length))? == 5;
                self.conn(id)?.v5 = v5;
                self.reply(id, if v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] });
            }
            8 => self.subscribe(id, frame, v5)?,
            10 => {
                let [high, low] = frame.id()?.to_be_bytes();
                // One filter at a time is all that it answers for.
                if v5 {
                    self.reply(id, &[0xB0, 4, high, low, 0, 0]);
                } else {
                    self.reply(id, &[0xB0, 2, high, low]);
                }
            }
            12 => self.reply(id, &[0xD0, 0]),
            _ => return None,
        }
        Some(())
    }

    #[inline]
    fn publish(&mut self, id: u32, frame: &Frame<'_>) -> Option<()> {
        let (length, rest) = take_u16(frame.body)?;
        let (topic, rest) = rest.split_at_checked(usize::from(length))?;
        match frame.first & 6 {
            0 => {}
            2 => self.answer(id, 0x40, take_u16(rest)?.0),
            _ => self.answer(id, 0x50, take_u16(rest)?.0),
        }
        let Self { conns, exact, patterns, dirty, pool, .. } = self;
        if let Some(subscribers) = exact.get(topic) {
            for &subscriber in subscribers {
                append(conns, dirty, pool, subscriber, frame.whole);
            }
        }
        for pattern in patterns.iter_mut().filter(|pattern| pattern.matches.is(topic)) {
            if pattern.shared {
                pattern.next = (pattern.next + 1) % pattern.members.len().max(1);
                if let Some(&member) = pattern.members.get(pattern.next) {
                    append(conns, dirty, pool, member, frame.whole);
                }
            } else {
                for &subscriber in &pattern.members {
                    append(conns, dirty, pool, subscriber, frame.whole);
                }
            }
        }
        Some(())
    }

    fn answer(&mut self, id: u32, first: u8, packet: u16) {
        let [high, low] = packet.to_be_bytes();
        self.reply(id, &[first, 2, high, low]);
    }

    #[inline]
    fn reply(&mut self, id: u32, bytes: &[u8]) {
        append(&mut self.conns, &mut self.dirty, &mut self.pool, id, bytes);
    }

    fn subscribe(&mut self, id: u32, frame: &Frame<'_>, v5: bool) -> Option<()> {
        let (packet, mut rest) = take_u16(frame.body)?;
        if v5 {
            let (length, tail) = take_varint(rest)?;
            rest = tail.get(length..)?;
        }
        let mut codes = vec![];
        while !rest.is_empty() {
            let (length, tail) = take_u16(rest)?;
            let (filter, tail) = tail.split_at_checked(usize::from(length))?;
            let (&options, tail) = tail.split_first()?;
            rest = tail;
            codes.push(if self.add(id, filter) { options & 3 } else { 0x80 });
        }
        let length = 2 + usize::from(v5) + codes.len();
        let [high, low] = packet.to_be_bytes();
        // Up to 16,383 codes fit into two bytes of length.
        let mut answer = vec![0x90, (length & 0x7F) as u8 | 0x80, (length >> 7) as u8, high, low];
        if length < 128 {
            answer = vec![0x90, length as u8, high, low];
        }
        answer.extend_from_slice(if v5 { &[0] } else { &[] });
        answer.extend_from_slice(&codes);
        self.reply(id, &answer);
        Some(())
    }

    fn add(&mut self, id: u32, filter: &[u8]) -> bool {
        let inner = filter.strip_prefix(b"$share/").and_then(|rest| {
            let end = rest.iter().position(|&byte| byte == b'/')?;
            rest.get(end + 1..)
        });
        match Match::new(inner.unwrap_or(filter)) {
            None => return false,
            Some(Match::Exact(topic)) if inner.is_none() => {
                let subscribers = self.exact.entry(topic).or_insert_with(|| Vec::with_capacity(1));
                if !subscribers.contains(&id) {
                    subscribers.push(id);
                }
            }
            Some(matches) => match self.patterns.iter_mut().find(|pattern| *pattern.filter == *filter) {
                Some(pattern) => pattern.members.push(id),
                None => self.patterns.push(Pattern {
                    filter: filter.into(),
                    matches,
                    shared: inner.is_some(),
                    members: vec![id],
                    next: 0,
                }),
            },
        }
        if let Some(conn) = self.conn(id) {
            conn.topics.reserve_exact(1);
            conn.topics.push(filter.into());
        }
        true
    }

    fn close(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(id as usize).and_then(Option::take) else { return };
        self.free.push(id);
        for topic in conn.topics {
            if let Some(subscribers) = self.exact.get_mut(&topic) {
                subscribers.retain(|&other| other != id);
                if subscribers.is_empty() {
                    self.exact.remove(&topic);
                }
            }
            self.patterns.retain_mut(|pattern| {
                pattern.members.retain(|&other| other != id);
                !pattern.members.is_empty()
            });
        }
    }

    fn flush(&mut self) {
        let Self { conns, dirty, pool, .. } = self;
        for id in dirty.drain(..) {
            let Some(conn) = conns.get_mut(id as usize).and_then(Option::as_deref_mut) else { continue };
            conn.dirty = false;
            let rest = conn.out.get(conn.written as usize..).unwrap_or_default();
            if rest.is_empty() {
                continue;
            }
            match conn.stream.write(rest) {
                Ok(count) if count < rest.len() => {
                    conn.written += count as u32;
                    conn.blocked = true;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    conn.blocked = true;
                    continue;
                }
                // A broken connection also says so when it is read.
                Ok(_) | Err(_) => {}
            }
            conn.written = 0;
            conn.out.clear();
            let buffer = std::mem::take(&mut conn.out);
            if buffer.capacity() <= POOLED_SIZE && pool.len() < POOL {
                pool.push(buffer);
            }
        }
    }
}

/// Puts bytes into a connection's buffer, to be written at the end of the turn.
#[inline]
fn append(
    conns: &mut [Option<Box<Conn>>],
    dirty: &mut Vec<u32>,
    pool: &mut Vec<Vec<u8>>,
    id: u32,
    bytes: &[u8],
) {
    let Some(conn) = conns.get_mut(id as usize).and_then(Option::as_deref_mut) else { return };
    if conn.out.capacity() == 0 {
        conn.out = pool.pop().unwrap_or_default();
    }
    conn.out.extend_from_slice(bytes);
    if !conn.dirty && !conn.blocked {
        conn.dirty = true;
        dirty.push(id);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let matches = |filter: &str, topic: &str| Match::new(filter.as_bytes()).unwrap().is(topic.as_bytes());
        assert!(matches("a/b", "a/b") && !matches("a/b", "a/bc"));
        assert!(matches("a/+", "a/b") && !matches("a/+", "a/b/c") && !matches("a/+", "b/b"));
        assert!(matches("a/#", "a/b/c") && !matches("a/#", "b"));
        assert!(matches("#", "a"));
        assert!(Match::new(b"a/+/b").is_none() && Match::new(b"+/#").is_none());
    }
}
