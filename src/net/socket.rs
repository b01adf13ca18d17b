//! A client's socket, and what lies between it and MQTT.
//!
//! Plain TCP has nothing there and pays nothing for it. Everything else is a transform of bytes, both ways, whose state
//! is boxed apart and goes along when the socket moves to another shard.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use mio::net::TcpStream;

use super::guard::Origin;
use super::proxy::{self, Header};
use super::tls::{self, Tls};
use super::websocket::{self, CloseCode, Terms, WebSocket};
use crate::shard::outbuf::{OutBuf, Pool};

/// Bytes that are wrapped at once.
const WRAPPED: usize = 16 * 1024;

/// Buffers that all layered connections of a shard share.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What a connection says in MQTT.
    pub(super) mqtt: Vec<u8>,
    /// What goes to the wire.
    wire: Vec<u8>,
    /// What is wrapped next.
    plain: Vec<u8>,
}

/// A client's socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    pub(super) layers: Option<Box<Layers>>,
    /// Where it comes from, once that is known and counted by the guard.
    pub(super) origin: Option<Origin>,
}

/// What lies between a socket and MQTT, from the wire upwards.
#[derive(Debug)]
pub(super) struct Layers {
    /// What has come of a PROXY header that is still to be read.
    header: Option<Vec<u8>>,
    /// Apart, as it takes a kilobyte that the others need not.
    tls: Option<Box<Tls>>,
    websocket: Option<(WebSocket, Arc<Terms>)>,
    /// What the socket has not taken, from here on.
    unsent: Vec<u8>,
    sent: usize,
    /// Bytes of MQTT that are in `unsent`.
    owed: usize,
}

/// How a connection goes on after some of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    /// The client has ended it.
    Ended,
    /// It does not keep the rules of its transport.
    Broken(Layer),
}

/// Which rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Proxy,
    Tls,
    WebSocket,
}

/// What became of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    All,
    /// The socket is full; an event will say when it is not.
    Blocked,
    Failed,
}

impl Layers {
    /// For a new connection: whether a PROXY header comes first, and what is spoken behind it.
    pub(super) fn new(header: bool, tls: Option<Tls>, websocket: Option<Arc<Terms>>) -> Self {
        Self {
            header: header.then(Vec::new),
            tls: tls.map(Box::new),
            websocket: websocket.map(|terms| (WebSocket::new(), terms)),
            unsent: Vec::new(),
            sent: 0,
            owed: 0,
        }
    }

    /// The common name in the certificate that the client has shown.
    pub(super) fn common_name(&self) -> Option<Box<str>> {
        self.tls.as_ref()?.common_name()
    }

    /// Whether what a client is told can reach it already.
    fn is_open(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_open())
            && self.websocket.as_ref().is_none_or(|(websocket, _)| websocket.is_open())
    }

    /// Takes what has come from the wire; what it says in MQTT is then in `scratch`.
    pub(super) fn receive(
        &mut self,
        bytes: &mut [u8],
        stream: &mut TcpStream,
        scratch: &mut Scratch,
    ) -> Then {
        scratch.mqtt.clear();
        scratch.wire.clear();
        let then = match &mut self.header {
            None => self.peel(bytes, scratch),
            Some(header) => {
                header.extend_from_slice(bytes);
                match proxy::header(header) {
                    Header::Partial => Then::GoOn,
                    Header::Malformed => Then::Broken(Layer::Proxy),
                    Header::Whole { length, .. } => {
                        let mut rest = header.split_off(length);
                        self.header = None;
                        self.peel(&mut rest, scratch)
                    }
                }
            }
        };
        if self.push(stream, &scratch.wire) == Written::Failed { Then::Ended } else { then }
    }

    fn peel(&mut self, bytes: &mut [u8], scratch: &mut Scratch) -> Then {
        let Some(tls) = &mut self.tls else {
            return Self::unframe(&mut self.websocket, bytes, scratch, None);
        };
        scratch.plain.clear();
        let then = match tls.receive(bytes, &mut scratch.plain, &mut scratch.wire) {
            tls::Then::GoOn => Then::GoOn,
            tls::Then::Ended => Then::Ended,
            tls::Then::Broken => return Then::Broken(Layer::Tls),
        };
        let mut plain = std::mem::take(&mut scratch.plain);
        let within = Self::unframe(&mut self.websocket, &mut plain, scratch, Some(tls));
        scratch.plain = plain;
        if within == Then::GoOn { then } else { within }
    }

    /// What lies within TLS, or on the wire itself.
    fn unframe(
        websocket: &mut Option<(WebSocket, Arc<Terms>)>,
        bytes: &mut [u8],
        scratch: &mut Scratch,
        tls: Option<&mut Tls>,
    ) -> Then {
        let Some((websocket, terms)) = websocket else {
            scratch.mqtt.extend_from_slice(bytes);
            return Then::GoOn;
        };
        let mut answers = Vec::new();
        let then = websocket.receive(bytes, terms, &mut scratch.mqtt, &mut answers);
        let sent = match tls {
            _ if answers.is_empty() => true,
            None => {
                scratch.wire.extend_from_slice(&answers);
                true
            }
            Some(tls) => tls.send(&answers, &mut scratch.wire),
        };
        match then {
            websocket::Then::GoOn if sent => Then::GoOn,
            websocket::Then::GoOn => Then::Broken(Layer::Tls),
            websocket::Then::Close => Then::Broken(Layer::WebSocket),
        }
    }

    /// Writes behind what has not been sent yet.
    fn push(&mut self, stream: &mut TcpStream, wire: &[u8]) -> Written {
        if self.unsent.is_empty() && !wire.is_empty() {
            let (count, written) = write(stream, wire);
            self.unsent.extend_from_slice(wire.get(count..).unwrap_or_default());
            return written;
        }
        self.unsent.extend_from_slice(wire);
        self.flush(stream)
    }

    /// Writes what has not been sent.
    fn flush(&mut self, stream: &mut TcpStream) -> Written {
        let (count, written) = write(stream, self.unsent.get(self.sent..).unwrap_or_default());
        self.sent += count;
        if self.sent == self.unsent.len() {
            (self.unsent, self.sent) = (Vec::new(), 0);
        }
        written
    }

    /// Writes what a client is told. What is taken out of `out` has left altogether.
    pub(super) fn send(
        &mut self,
        stream: &mut TcpStream,
        out: &mut OutBuf,
        pool: &mut Pool,
        scratch: &mut Scratch,
    ) -> Written {
        loop {
            let written = self.flush(stream);
            if written != Written::All {
                return written;
            }
            out.advance(std::mem::take(&mut self.owed), pool);
            if self.websocket.as_ref().is_some_and(|(websocket, _)| websocket.is_closed()) {
                // Nothing may follow a good-bye.
                out.advance(out.len(), pool);
            }
            if out.is_empty() || !self.is_open() {
                return Written::All;
            }
            scratch.wire.clear();
            scratch.plain.clear();
            for slice in out.slices() {
                let room = WRAPPED - scratch.plain.len();
                scratch.plain.extend_from_slice(slice.get(..room).unwrap_or(&slice));
            }
            if !self.wrap(scratch) {
                return Written::Failed;
            }
            self.owed = scratch.plain.len();
            let written = self.push(stream, &scratch.wire);
            if written != Written::All {
                return written;
            }
        }
    }

    /// Wraps MQTT for the wire.
    fn wrap(&mut self, scratch: &mut Scratch) -> bool {
        let Scratch { plain, wire, .. } = scratch;
        match (&mut self.tls, &self.websocket) {
            (None, None) => wire.extend_from_slice(plain),
            (None, Some(_)) => {
                WebSocket::put_head(plain.len(), wire);
                wire.extend_from_slice(plain);
            }
            (Some(tls), None) => return tls.send(plain, wire),
            (Some(tls), Some(_)) => {
                let mut framed = Vec::with_capacity(plain.len() + 10);
                WebSocket::put_head(plain.len(), &mut framed);
                framed.extend_from_slice(plain);
                return tls.send(&framed, wire);
            }
        }
        true
    }

    /// Tells the client that nothing more comes, as far as its socket takes it.
    pub(super) fn close(&mut self, stream: &mut TcpStream, scratch: &mut Scratch) {
        scratch.wire.clear();
        let mut goodbye = Vec::new();
        if let Some((websocket, _)) = &mut self.websocket {
            websocket.close(CloseCode::Normal, &mut goodbye);
        }
        match &mut self.tls {
            None => scratch.wire.extend_from_slice(&goodbye),
            Some(tls) => {
                if !goodbye.is_empty() {
                    tls.send(&goodbye, &mut scratch.wire);
                }
                tls.close(&mut scratch.wire);
            }
        }
        // It is the last word: nobody waits for what does not go out now.
        self.push(stream, &scratch.wire);
    }
}

/// Writes as much as the socket takes.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> (usize, Written) {
    let mut count = 0;
    while let Some(rest) = bytes.get(count..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(written) => {
                count += written;
                if written < rest.len() {
                    return (count, Written::Blocked);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (count, Written::Blocked),
            Err(_) => return (count, Written::Failed),
        }
    }
    (count, Written::All)
}

impl Socket {
    /// Bytes for the wire that stand for no message: answers of a layer's own, such as pongs, and what is wrapped.
    pub(super) fn unsent(&self) -> usize {
        self.layers.as_ref().map_or(0, |layers| layers.unsent.len() - layers.sent)
    }

    /// No more is written.
    pub(super) fn shut(&mut self, scratch: &mut Scratch) -> io::Result<()> {
        if let Some(layers) = &mut self.layers {
            layers.close(&mut self.stream, scratch);
        }
        self.stream.shutdown(std::net::Shutdown::Write)
    }
}
