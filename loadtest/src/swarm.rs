//! Many client connections on one thread: one poll, edge triggered, registered once, one write per connection
//! and turn.
//!
//! Owns the sockets and their buffers. What the packets mean is for the `Talk` it is run with.

use crate::failure::Failure;
use crate::wire::{Frame, Split, split};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Bytes read at once. A shorter read means that the socket is drained.
const READ_SIZE: usize = 256 * 1024;

/// A connection's place in the swarm, counted from 0 in the order of opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(pub(crate) u32);

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    /// Write what is waiting, then close.
    Close,
}

/// What a scenario does with packets.
pub(crate) trait Talk {
    /// A packet has come; what is appended to `out` goes out at the end of the turn.
    fn frame(&mut self, link: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Then;

    /// The connection is gone and it was not we who closed it.
    fn lost(&mut self, link: LinkId, why: &str);
}

#[derive(Debug)]
struct Link {
    stream: TcpStream,
    out: Vec<u8>,
    /// How much of `out` is written.
    written: usize,
    /// The beginning of a packet whose end has not come.
    part: Vec<u8>,
    dirty: bool,
    blocked: bool,
    closing: bool,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Swarm {
    poll: Poll,
    events: Events,
    links: Vec<Option<Link>>,
    dirty: Vec<u32>,
    /// Closed by us since the last look.
    closed: Vec<LinkId>,
    buffer: Vec<u8>,
    target: SocketAddr,
    sources: u32,
}

impl Swarm {
    /// A swarm that will talk to `target`.
    pub(crate) fn new(target: SocketAddr) -> Result<Self, Failure> {
        Ok(Self {
            poll: Poll::new().map_err(Failure::io("opening epoll"))?,
            events: Events::with_capacity(1024),
            links: vec![],
            dirty: vec![],
            closed: vec![],
            buffer: vec![0; READ_SIZE],
            target,
            sources: 0,
        })
    }

    /// Opens a further connection; `hello` is what it writes first.
    pub(crate) fn open(&mut self, hello: Vec<u8>) -> Result<LinkId, Failure> {
        let id = LinkId(self.links.len() as u32);
        let link = self.dial(id, hello)?;
        self.links.push(Some(link));
        Ok(id)
    }

    /// Opens a connection in the place of one that is gone.
    pub(crate) fn reopen(&mut self, id: LinkId, hello: Vec<u8>) -> Result<(), Failure> {
        let link = self.dial(id, hello)?;
        if let Some(place) = self.links.get_mut(id.0 as usize) {
            *place = Some(link);
        }
        Ok(())
    }

    fn dial(&mut self, id: LinkId, hello: Vec<u8>) -> Result<Link, Failure> {
        let mut stream = self.socket().map_err(Failure::io(format!("connecting to {}", self.target)))?;
        self.poll
            .registry()
            .register(&mut stream, Token(id.0 as usize), Interest::READABLE | Interest::WRITABLE)
            .map_err(Failure::io("registering a connection"))?;
        // Not writable until the connection is there: the first event says so.
        Ok(Link { stream, out: hello, written: 0, part: vec![], dirty: false, blocked: true, closing: false })
    }

    fn socket(&mut self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if self.target.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            // One address has 28,000 ports, and closed ones rest for a while: take turns with 200 of the network's.
            self.sources = (self.sources + 1) % 200;
            let source = Ipv4Addr::new(127, 0, 0, 1 + self.sources as u8);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&self.target.into()) {
            Err(error)
                if error.raw_os_error() != Some(EINPROGRESS) && error.kind() != ErrorKind::WouldBlock =>
            {
                Err(error)
            }
            _ => Ok(TcpStream::from_std(socket.into())),
        }
    }

    /// The buffer of what a connection writes at the end of the turn; `None` if it is gone.
    pub(crate) fn out(&mut self, id: LinkId) -> Option<&mut Vec<u8>> {
        let link = self.links.get_mut(id.0 as usize)?.as_mut()?;
        link.mark(id.0, &mut self.dirty);
        Some(&mut link.out)
    }

    /// Connections that are there.
    pub(crate) fn count(&self) -> usize {
        self.links.iter().flatten().count()
    }

    /// Which connections `Then::Close` has closed since the last call.
    pub(crate) fn take_closed(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.closed)
    }

    /// Drops a connection without a word.
    pub(crate) fn cut(&mut self, id: LinkId) {
        if let Some(place) = self.links.get_mut(id.0 as usize) {
            *place = None;
        }
    }

    /// Writes DISCONNECT to all and drops them.
    pub(crate) fn part(&mut self) {
        for link in self.links.iter_mut().filter_map(Option::take) {
            // The best that can be done for a goodbye: nobody waits for it.
            let mut stream = link.stream;
            let _ = stream.write(&[0xE0, 0]);
        }
        self.links.clear();
        self.dirty.clear();
    }

    /// Waits for events, hands all packets that came to `talk`, and returns; writing is for `flush`.
    pub(crate) fn turn(&mut self, wait: Option<Duration>, talk: &mut impl Talk) -> Result<(), Failure> {
        let Self { poll, events, links, dirty, buffer, .. } = self;
        match poll.poll(events, wait) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            outcome => outcome.map_err(Failure::io("waiting for events"))?,
        }
        for event in events.iter() {
            let Some(place) = links.get_mut(event.token().0) else { continue };
            let Some(link) = place.as_mut() else { continue };
            let id = LinkId(event.token().0 as u32);
            if event.is_writable() && link.blocked {
                link.blocked = false;
                if !link.out.is_empty() {
                    link.mark(id.0, dirty);
                }
            }
            if !event.is_readable() && !event.is_error() {
                continue;
            }
            if let Err(why) = link.read(id, buffer, event.is_read_closed(), talk) {
                *place = None;
                talk.lost(id, &why);
                continue;
            }
            if !link.out.is_empty() || link.closing {
                link.mark(id.0, dirty);
            }
        }
        Ok(())
    }

    /// Writes what is waiting, once per connection.
    pub(crate) fn flush(&mut self, talk: &mut impl Talk) {
        let Self { links, dirty, closed, .. } = self;
        for id in dirty.drain(..) {
            let Some(place) = links.get_mut(id as usize) else { continue };
            let Some(link) = place.as_mut() else { continue };
            link.dirty = false;
            let written = link.write();
            if link.closing && link.out.is_empty() {
                *place = None;
                closed.push(LinkId(id));
            } else if let Err(error) = written {
                *place = None;
                talk.lost(LinkId(id), &format!("writing: {error}"));
            }
        }
    }
}

/// `connect` of a socket that does not block answers this; `ErrorKind` has no stable name for it.
const EINPROGRESS: i32 = 115;

impl Link {
    #[inline]
    fn mark(&mut self, id: u32, dirty: &mut Vec<u32>) {
        if !self.dirty && !self.blocked {
            self.dirty = true;
            dirty.push(id);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(rest) = self.out.get(self.written..) else { return Ok(()) };
        if rest.is_empty() {
            return Ok(());
        }
        match self.stream.write(rest) {
            Ok(count) if count == rest.len() => {
                self.out.clear();
                self.written = 0;
            }
            // The socket is full: an event will say when it is not.
            Ok(count) => {
                self.written += count;
                self.blocked = true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
            Err(error) => {
                self.out.clear();
                return Err(error);
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        id: LinkId,
        buffer: &mut [u8],
        to_end: bool,
        talk: &mut impl Talk,
    ) -> Result<(), String> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("closed by the broker".to_owned()),
                Ok(count) => {
                    self.feed(id, buffer.get(..count).unwrap_or_default(), talk)?;
                    if count < buffer.len() && !to_end {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("reading: {error}")),
            }
        }
    }

    fn feed(&mut self, id: LinkId, bytes: &[u8], talk: &mut impl Talk) -> Result<(), String> {
        if self.part.is_empty() {
            let rest = self.frames(id, bytes, talk)?;
            self.part.extend_from_slice(rest);
        } else {
            let mut joined = std::mem::take(&mut self.part);
            joined.extend_from_slice(bytes);
            let rest = self.frames(id, &joined, talk)?.len();
            joined.drain(..joined.len() - rest);
            self.part = joined;
        }
        Ok(())
    }

    #[inline]
    fn frames<'a>(
        &mut self,
        id: LinkId,
        mut bytes: &'a [u8],
        talk: &mut impl Talk,
    ) -> Result<&'a [u8], String> {
        loop {
            match split(bytes) {
                Split::Frame(frame) => {
                    if talk.frame(id, &frame, &mut self.out) == Then::Close {
                        self.closing = true;
                    }
                    bytes = bytes.get(frame.whole.len()..).unwrap_or_default();
                }
                Split::Partial => return Ok(bytes),
                Split::Malformed => return Err("sent a length of more than four bytes".to_owned()),
            }
        }
    }
}
