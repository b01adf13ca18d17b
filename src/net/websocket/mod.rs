//! The server's side of WebSocket (RFC 6455), strictly, as MQTT uses it: bytes off the wire in, MQTT and answers out.
//!
//! Owns no socket and no buffer: a client that is idle between two frames costs this structure alone.

mod frames;
mod handshake;

use frames::{Frames, Next};

/// What a listener asks of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The path of their request.
    pub path: String,
    /// The pages whose scripts may connect; empty: all.
    pub origins: Vec<String>,
    /// Bytes that one frame may carry.
    pub max_frame: u64,
}

/// How a connection goes on after some of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// As it is.
    GoOn,
    /// What is to be written is the last; nothing that comes is looked at any more.
    Close,
}

/// Why a side ends a connection [RFC 6455 7.4.1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// All was said.
    Normal = 1000,
    /// A frame breaks the rules.
    ProtocolError = 1002,
    /// A text frame: MQTT comes in binary ones [MQTT-6.0.0-1].
    Unacceptable = 1003,
    /// What should be UTF-8 is not.
    Inconsistent = 1007,
    /// A frame is too large.
    TooLarge = 1009,
}

/// One client's connection.
#[derive(Debug)]
pub struct WebSocket {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// What has come of the request.
    Request(Vec<u8>),
    Open(Frames),
    /// We have said good-bye.
    Closed,
}

impl WebSocket {
    /// A connection of which nothing has come.
    pub fn new() -> Self {
        Self { stage: Stage::Request(Vec::new()) }
    }

    /// Whether MQTT may be written: the request was answered, and nobody has said good-bye.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Whether either side has said good-bye.
    pub fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// Takes bytes as they come, in any cut. What they carry of MQTT is appended to `mqtt`, what is to be answered to
    /// `wire`.
    pub fn receive(
        &mut self,
        bytes: &mut [u8],
        terms: &Terms,
        mqtt: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Then {
        match &mut self.stage {
            Stage::Closed => Then::Close,
            Stage::Open(_) => self.frames(bytes, terms, mqtt, wire),
            Stage::Request(request) => {
                request.extend_from_slice(bytes);
                match handshake::answer(request, terms, wire) {
                    handshake::Outcome::Partial => Then::GoOn,
                    handshake::Outcome::Refused => {
                        self.stage = Stage::Closed;
                        Then::Close
                    }
                    handshake::Outcome::Upgraded { length } => {
                        // A client may not write before it is answered, but nothing keeps it from it.
                        let mut behind = request.split_off(length);
                        self.stage = Stage::Open(Frames::default());
                        self.frames(&mut behind, terms, mqtt, wire)
                    }
                }
            }
        }
    }

    fn frames(
        &mut self,
        mut bytes: &mut [u8],
        terms: &Terms,
        mqtt: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Then {
        let Stage::Open(frames) = &mut self.stage else { return Then::Close };
        loop {
            let (used, next) = frames.take(bytes, terms.max_frame, mqtt);
            bytes = bytes.get_mut(used..).unwrap_or_default();
            match next {
                Next::More => return Then::GoOn,
                Next::Ping(ping) => frames::put_control(frames::PONG, ping.as_slice(), wire),
                Next::Close(answer) => {
                    frames::put_control(frames::CLOSE, answer.as_slice(), wire);
                    self.stage = Stage::Closed;
                    return Then::Close;
                }
                Next::Wrong(code) => {
                    self.close(code, wire);
                    return Then::Close;
                }
            }
        }
    }

    /// Appends the head of a binary frame of `length` bytes, which are to follow.
    pub fn put_head(length: usize, wire: &mut Vec<u8>) {
        frames::put_head(frames::BINARY, length, wire);
    }

    /// Appends our good-bye, once.
    pub fn close(&mut self, code: CloseCode, wire: &mut Vec<u8>) {
        if self.is_open() {
            frames::put_control(frames::CLOSE, &(code as u16).to_be_bytes(), wire);
        }
        self.stage = Stage::Closed;
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
