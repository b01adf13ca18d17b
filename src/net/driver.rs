//! The loop of one shard.
//!
//! One turn: take the ready events; read each socket into the one read buffer and give it to the core; open the mail;
//! post what is for other shards; write every connection that has output once. A socket that filled the buffer is read
//! again in the next turn, after all others, so that one busy client does not starve the rest.

mod accept;
mod layered;

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use tokio::io::Interest as TokioInterest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::socket::{Scratch, Socket, Written};
use super::{Loops, Moving, SharedLoops};
use crate::clock::Clock;
use crate::message::Millis;
use crate::metrics::{CloseReason, Handles};
use crate::protocol::QoS;
use crate::session::Phase;
use crate::shard::timers::TICK;
use crate::shard::{Close, Core, ShardId};
use crate::sys::Update;

/// Token of the waker.
pub const WAKER: Token = Token(usize::MAX);

/// Size of the read buffer, and most that one socket may bring in a turn.
const READ_BUFFER: usize = 64 * 1024;

/// Events taken in a turn.
const EVENTS: usize = 1024;

/// How many milliseconds early a tick may be: the timer that wakes an idle loop for it counts from another moment, and a
/// tick that it misses by one comes with the next, as if the loop had been stuck meanwhile.
const EARLY: Millis = 5;

/// Rounds of writing in a turn: a drained buffer may be filled again by what waits behind it.
const ROUNDS: usize = 4;

/// What the control thread tells a shard.
#[derive(Debug)]
pub enum Command {
    /// Let nobody in any more, tell everybody, and stop when their output is gone or the time is up.
    Drain(Duration),
    /// Publish these retained messages of the broker itself.
    Publish(Vec<Update>),
}

/// A shard whose loop has ended.
#[derive(Debug)]
pub struct Stopped {
    /// Everything was sent.
    pub sent: bool,
    /// Its state: mail of shards that have ended later may still come.
    pub core: Core,
}

/// A shard's core with its sockets.
#[derive(Debug)]
pub struct Driver {
    core: Core,
    poll: Poll,
    events: Events,
    listeners: Vec<Option<TcpListener>>,
    /// Accept again in the next turn: more may be waiting, or no descriptor was left.
    accept_again: bool,
    /// Accept again with the next tick.
    accept_later: bool,
    /// Listeners with so many handshakes under way that no more are let in, a bit each.
    full: u64,
    sockets: Vec<Option<Socket>>,
    buffer: Box<[u8]>,
    scratch: Scratch,
    /// A connection with more unsent bytes is not read. Messages alone never come to that: these are answers.
    most_unsent: usize,
    again: Vec<u32>,
    writing: Vec<u32>,
    loops: SharedLoops,
    id: ShardId,
    clock: Clock,
    next_tick: Millis,
    next_report: Millis,
    longest_turn: Millis,
    handles: Handles,
    stop_at: Option<Millis>,
}

/// The poll's descriptor, for tokio to watch.
struct Watched(RawFd);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Driver {
    /// A shard's loop over `listeners`, one socket of each. `poll` already knows the waker of `loops`.
    pub fn new(
        core: Core,
        poll: Poll,
        listeners: Vec<TcpListener>,
        loops: Arc<Loops>,
        clock: Clock,
        handles: Handles,
    ) -> io::Result<Self> {
        let mut listeners = listeners;
        for (number, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, listener_token(number), Interest::READABLE)?;
        }
        let now = clock.mono();
        let terms = &core.clients.terms;
        let most_unsent = terms.session.outbuf_bytes + terms.limits.max_packet as usize;
        Ok(Self {
            id: core.id,
            most_unsent,
            core,
            poll,
            events: Events::with_capacity(EVENTS),
            listeners: listeners.into_iter().map(Some).collect(),
            accept_again: false,
            accept_later: false,
            full: 0,
            sockets: Vec::new(),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            scratch: Scratch::default(),
            again: Vec::new(),
            writing: Vec::new(),
            loops,
            clock,
            next_tick: now + TICK,
            next_report: now,
            longest_turn: 0,
            handles,
            stop_at: None,
        })
    }

    /// Runs until it was told to drain and has.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> io::Result<Stopped> {
        let descriptor = Watched(self.poll.as_raw_fd());
        // SAFETY: the descriptor has to stay the poll's while it is registered. `self` owns the poll until this
        // function returns, and `watched` goes before `self` does.
        #[expect(unsafe_code, reason = "tokio has no safe way to watch a descriptor that it does not own")]
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, TokioInterest::READABLE) }
            .map_err(io::Error::from)?;
        let mut tick = tokio::time::interval(Duration::from_millis(TICK));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.busy() {
                self.turn()?;
                tokio::task::yield_now().await;
            } else {
                tokio::select! {
                    biased;
                    ready = watched.readable() => {
                        // Fewer events than there is room for: the poll is drained, and whatever comes from now on
                        // makes its descriptor ready anew.
                        if self.turn()? < EVENTS {
                            ready?.clear_ready();
                        }
                    }
                    _ = tick.tick() => {}
                    Some(command) = commands.recv() => self.obey(command)?,
                }
            }
            if self.clock.mono() + EARLY >= self.next_tick {
                self.tick();
                while let Ok(command) = commands.try_recv() {
                    self.obey(command)?;
                }
                self.finish_turn();
                if self.stopped() {
                    return Ok(Stopped { sent: self.core.unsent() == 0, core: self.core });
                }
            }
        }
    }

    fn busy(&self) -> bool {
        self.accept_again || !self.again.is_empty() || self.core.busy()
    }

    fn obey(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::Drain(deadline) => {
                for listener in &mut self.listeners {
                    if let Some(mut listener) = listener.take() {
                        self.poll.registry().deregister(&mut listener)?;
                    }
                }
                self.accept_again = false;
                self.core.drain();
                self.stop_at = Some(self.clock.mono() + deadline.as_millis() as Millis);
            }
            Command::Publish(messages) => {
                for Update { topic, payload } in &messages {
                    self.core.publish_own(topic, payload.as_bytes(), QoS::AtMostOnce, true);
                }
            }
        }
        self.finish_turn();
        Ok(())
    }

    /// Whether a drain has come to its end.
    fn stopped(&self) -> bool {
        self.stop_at.is_some_and(|at| self.core.clients.connections.is_empty() || self.clock.mono() >= at)
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let late = now.mono.saturating_sub(self.next_tick);
        self.next_tick = now.mono + TICK;
        self.core.set_now(now);
        self.core.tick();
        // A listener may have had to leave connections waiting; no event will say so again.
        self.accept_again |= std::mem::take(&mut self.accept_later) && self.stop_at.is_none();
        self.look_for_room();
        let longest = std::mem::take(&mut self.longest_turn);
        self.handles.ticked(Duration::from_millis(late), Duration::from_millis(longest));
        let changed = self.core.observe_drift(late.max(longest));
        if changed {
            self.next_report = now.mono;
        }
        self.loops.pulse.beat(usize::from(self.id), now.mono);
        if now.mono >= self.next_report
            && let Some(reach) = self.loops.reach.get(usize::from(self.id))
        {
            self.next_report = now.mono + 1000;
            let mut gauges = self.core.gauges();
            gauges.loop_drift_seconds = Duration::from_millis(late).as_secs_f64();
            self.handles.publish(self.core.counters(), &gauges);
            *reach.report.lock() = (self.core.counters().clone(), gauges);
        }
        if changed {
            self.tell_overload(late.max(longest));
        }
    }

    /// The shard became overloaded, or has caught up.
    #[cold]
    fn tell_overload(&self, drift_ms: Millis) {
        let shard = self.id;
        if self.core.is_overloaded() {
            tracing::warn!(shard, drift_ms, "overloaded: new clients are refused");
        } else {
            tracing::info!(shard, "no longer overloaded");
        }
        self.loops.overload.notify_one();
    }

    /// One turn; says how many events it took.
    fn turn(&mut self) -> io::Result<usize> {
        let now = self.clock.now();
        self.core.set_now(now);
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(Duration::ZERO)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let again = std::mem::take(&mut self.again);
        let mut taken = 0;
        for event in &events {
            taken += 1;
            let Token(token) = event.token();
            if event.token() == WAKER {
                self.woken();
            } else if token >= self.sockets.len() {
                self.accept(usize::MAX - 1 - token);
            } else {
                let key = token as u32;
                if event.is_writable() {
                    self.writable(key);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.readable(key, event.is_read_closed());
                }
            }
        }
        self.events = events;
        for key in again {
            if let Some(client) = self.core.clients.connections.get_mut(key as usize) {
                client.again = false;
                self.read(key, true);
            }
        }
        self.look_for_room();
        if std::mem::take(&mut self.accept_again) {
            for number in 0..self.listeners.len() {
                self.accept(number);
            }
        }
        self.finish_turn();
        self.core.counters().turns += 1;
        self.longest_turn = self.longest_turn.max(self.clock.mono() - now.mono);
        Ok(taken)
    }

    /// Posts, writes, and does what the core asks for.
    fn finish_turn(&mut self) {
        for round in 0..ROUNDS {
            let wake = self.core.end_turn();
            for shard in 0..self.loops.reach.len() as ShardId {
                if wake & (1 << shard) != 0 {
                    self.loops.wake(shard);
                }
            }
            for question in std::mem::take(&mut self.core.effects.ask) {
                self.ask(question);
            }
            for moving in std::mem::take(&mut self.core.effects.hand_over) {
                self.hand_over(moving);
            }
            self.write_dirty();
            for key in std::mem::take(&mut self.core.effects.failed_logins) {
                self.login_failed(key);
            }
            for close in std::mem::take(&mut self.core.effects.close) {
                self.close(close);
            }
            for key in std::mem::take(&mut self.core.effects.resume) {
                self.core.resume(key);
                // Events may have passed while it was not read.
                self.read_again(key);
            }
            if round + 1 == ROUNDS || !self.core.unfinished() {
                break;
            }
        }
    }

    /// Mail or sockets have come from another shard.
    fn woken(&mut self) {
        let loops = self.loops.clone();
        let Some(reach) = loops.reach.get(usize::from(self.id)) else { return };
        // Before looking: what is posted after this wakes again.
        reach.woken.store(false, Ordering::Release);
        let moving = std::mem::take(&mut *reach.sockets.lock());
        for Moving { socket, bytes, listener, admission } in moving {
            let key = self.core.adopt(listener);
            self.core.admit(key, admission);
            if self.install(key, socket) {
                self.core.receive(key, &bytes);
            }
        }
        for (connection, number, verdict) in std::mem::take(&mut *reach.verdicts.lock()) {
            self.core.answered(connection, number, verdict);
        }
        self.core.open_mail(|sender| loops.wake(sender));
    }

    /// Hangs a socket on the poll under its connection's key.
    fn install(&mut self, key: u32, mut socket: Socket) -> bool {
        let token = Token(key as usize);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut socket.stream, token, interest);
        if self.sockets.len() <= key as usize {
            self.sockets.resize_with(key as usize + 1, || None);
        }
        if let Some(place) = self.sockets.get_mut(key as usize) {
            *place = Some(socket);
        }
        if let Err(error) = registered {
            tracing::error!(%error, "a connection could not be watched");
            self.gone(key, CloseReason::Fault);
            return false;
        }
        true
    }

    /// An event says that there is something to read. Who is read again in this turn anyway waits for that: nobody is
    /// read twice in one.
    fn readable(&mut self, key: u32, end: bool) {
        if self.core.clients.connections.get(key as usize).is_some_and(|client| !client.again) {
            self.read(key, end);
        }
    }

    fn read_again(&mut self, key: u32) {
        if let Some(client) = self.core.clients.connections.get_mut(key as usize)
            && !std::mem::replace(&mut client.again, true)
        {
            self.again.push(key);
        }
    }

    /// Reads once. `more`: a socket whose end was announced, or that was full, says so only once.
    fn read(&mut self, key: u32, more: bool) {
        let Some(socket) = self.sockets.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let Some(client) = self.core.clients.connections.get_mut(key as usize) else { return };
        if client.paused {
            return;
        }
        if client.out.len() + socket.unsent() > self.most_unsent {
            client.unread = true;
            self.core.clients.counters.reads_paused += 1;
            return;
        }
        let layered = socket.layers.is_some();
        match socket.stream.read(&mut self.buffer) {
            Ok(0) => self.gone(key, CloseReason::ClientGone),
            Ok(n) => {
                if n == self.buffer.len() || more {
                    self.read_again(key);
                }
                if layered {
                    self.peel(key, n);
                } else if let Some(bytes) = self.buffer.get(..n) {
                    self.core.receive(key, bytes);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.read_again(key),
            Err(_) => self.gone(key, CloseReason::SocketError),
        }
    }

    fn writable(&mut self, key: u32) {
        if let Some(client) = self.core.clients.connections.get_mut(key as usize)
            && client.blocked
        {
            client.blocked = false;
            self.write(key);
        }
    }

    fn write_dirty(&mut self) {
        let mut writing = std::mem::take(&mut self.writing);
        std::mem::swap(&mut writing, &mut self.core.clients.dirty);
        for &key in &writing {
            if let Some(client) = self.core.clients.connections.get_mut(key as usize)
                && client.dirty
            {
                client.dirty = false;
                self.write(key);
            }
        }
        writing.clear();
        self.writing = writing;
    }

    /// Writes what a connection has, as far as its socket takes it.
    fn write(&mut self, key: u32) {
        let Some(socket) = self.sockets.get_mut(key as usize).and_then(Option::as_mut) else { return };
        let Some(client) = self.core.clients.connections.get_mut(key as usize) else { return };
        let mut sent = 0;
        let failed = loop {
            if let Some(layers) = &mut socket.layers {
                let (before, pool) = (client.out.len(), &mut self.core.clients.pool);
                let written = layers.send(&mut socket.stream, &mut client.out, pool, &mut self.scratch);
                sent += (before - client.out.len()) as u64;
                client.blocked = written == Written::Blocked;
                break written == Written::Failed;
            }
            if client.out.is_empty() {
                break false;
            }
            let (offered, written) = if let Some(bytes) = client.out.contiguous() {
                (bytes.len(), socket.stream.write(bytes))
            } else {
                let slices = client.out.slices();
                (slices.iter().map(|s| s.len()).sum(), socket.stream.write_vectored(&slices))
            };
            match written {
                Ok(n) => {
                    sent += n as u64;
                    client.out.advance(n, &mut self.core.clients.pool);
                    if n < offered {
                        client.blocked = true;
                        break false;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    client.blocked = true;
                    break false;
                }
                Err(_) => break true,
            }
        };
        let unread = client.unread && client.out.len() + socket.unsent() <= self.most_unsent;
        client.unread &= !unread;
        let (closing, done) = (client.link.phase == Phase::Closing, client.out.is_empty());
        self.core.clients.counters.bytes_sent += sent;
        if unread {
            // Events may have passed while it was not read.
            self.read_again(key);
        }
        if failed {
            self.gone(key, CloseReason::SocketError);
        } else if done && closing {
            self.core.effects.close.push(Close { connection: key, linger: true });
        } else if done {
            self.core.drained(key);
        }
    }

    /// Closes a connection that is over, once its last bytes are written.
    fn close(&mut self, close: Close) {
        let key = close.connection;
        let Some(client) = self.core.clients.connections.get(key as usize) else { return };
        if client.link.phase != Phase::Closing {
            return;
        }
        if !close.linger {
            return self.gone(key, CloseReason::ClientGone);
        }
        if !client.out.is_empty() {
            return;
        }
        // The client reads our last words, closes, and so ends the wait; a timer ends it otherwise.
        let shut = self
            .sockets
            .get_mut(key as usize)
            .and_then(Option::as_mut)
            .map(|socket| socket.shut(&mut self.scratch));
        if matches!(shut, Some(Ok(()))) {
            self.read_again(key);
        } else {
            self.gone(key, CloseReason::ClientGone);
        }
    }

    /// Lets go of a socket and its connection.
    fn gone(&mut self, key: u32, reason: CloseReason) {
        self.core.hang_up(key, reason);
        // Closing takes it off the poll, too.
        let socket = self.sockets.get_mut(key as usize).and_then(Option::take);
        if let Some(client) = self.core.clients.connections.get(key as usize) {
            self.leave(usize::from(client.link.listener), socket.and_then(|socket| socket.origin));
        }
        self.core.forget(key);
    }

    fn hand_over(&mut self, moving: crate::shard::HandOver) {
        let socket = self.sockets.get_mut(moving.connection as usize);
        let Some(mut socket) = socket.and_then(Option::take) else { return };
        if let Err(error) = self.poll.registry().deregister(&mut socket.stream) {
            tracing::error!(%error, "a connection on its way to another shard was not watched");
        }
        self.core.forget(moving.connection);
        let crate::shard::HandOver { shard, bytes, listener, admission, .. } = moving;
        if let Some(reach) = self.loops.reach.get(usize::from(shard)) {
            reach.sockets.lock().push(Moving { socket, bytes, listener, admission });
            reach.wake();
        }
    }
}

fn listener_token(number: usize) -> Token {
    Token(usize::MAX - 1 - number)
}
