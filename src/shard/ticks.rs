//! What happens because time passes: keep-alives, waits that end, wills that are due, sessions that expire.

use super::timers::{Kind, TICK, Timer};
use super::{Close, Core, End};
use crate::message::{Millis, NEVER};
use crate::metrics::CloseReason;
use crate::protocol::ReasonCode;
use crate::session::{OFFLINE, Phase};

/// Ticks since the start, which fit 13 years into four bytes.
pub(super) fn of(mono: Millis) -> u32 {
    (mono / TICK) as u32
}

/// How long a closing connection may take to read its last bytes.
const LAST_BYTES: Millis = 5_000;

impl Core {
    /// Fires all timers up to the present.
    pub fn tick(&mut self) {
        while let Some(timers) = self.timers.fire(self.clients.now.mono) {
            for timer in timers {
                match timer.kind() {
                    Kind::Connection => self.look_at_connection(timer),
                    Kind::Session => self.look_at_session(timer),
                    Kind::Rate => self.look_at_rate(timer),
                }
            }
        }
        self.end_expired();
        self.sweep_groups();
        self.sweep_contexts();
        self.sweep_retained();
        self.tick_floors();
        self.sweep_transcripts();
        self.clients.expanded.forget();
        self.take_census();
    }

    fn look_at_connection(&mut self, timer: Timer) {
        let now = self.clients.now.mono;
        let Some(client) = self.clients.connections.get(timer.key() as usize) else { return };
        let link = &client.link;
        if link.timer != timer.number {
            return;
        }
        match link.phase {
            Phase::Connecting => {
                self.end(timer.key(), End::silent(CloseReason::ConnectTimeout));
            }
            Phase::Open => {
                // One and a half times the Keep Alive [MQTT-3.1.2-22].
                let due = Millis::from(link.last_seen) * TICK + Millis::from(link.keep_alive) * 1500;
                if client.paused || due > now {
                    // Unread bytes of a paused connection are a sign of life.
                    self.timers.arm(timer, due.max(now + TICK));
                } else {
                    let code = ReasonCode::KEEP_ALIVE_TIMEOUT;
                    self.end(timer.key(), End::new(CloseReason::KeepAlive, code, "nothing came in time"));
                }
            }
            Phase::Closing => self.effects.close.push(Close { connection: timer.key(), linger: false }),
        }
    }

    /// Gives a closing connection a last moment to take its bytes.
    pub(super) fn arm_closing(&mut self, key: u32) {
        let number = self.next_number();
        let at = self.clients.now.mono + LAST_BYTES;
        if let Some(client) = self.clients.connections.get_mut(key as usize) {
            client.link.timer = number;
            self.timers.arm(Timer::new(Kind::Connection, key, number), at);
        }
    }

    /// Has the keep-alive of a connection watched.
    pub(super) fn arm_keep_alive(&mut self, key: u32) {
        let number = self.next_number();
        let now = self.clients.now.mono;
        if let Some(client) = self.clients.connections.get_mut(key as usize) {
            client.link.timer = number;
            if client.link.keep_alive > 0 {
                let at = now + Millis::from(client.link.keep_alive) * 1500;
                self.timers.arm(Timer::new(Kind::Connection, key, number), at);
            }
        }
    }

    /// Has the end of an offline session and its delayed will watched.
    pub(super) fn arm_session(&mut self, key: u32) {
        let number = self.next_number();
        if let Some(session) = self.clients.sessions.get_mut(key as usize) {
            session.timer = number;
            let at = session.ends_at.min(session.will.as_ref().map_or(NEVER, |w| w.due));
            if at != NEVER {
                self.timers.arm(Timer::new(Kind::Session, key, number), at);
            }
        }
    }

    fn look_at_session(&mut self, timer: Timer) {
        let now = self.clients.now.mono;
        let Some(session) = self.clients.sessions.get(timer.key() as usize) else { return };
        if session.timer != timer.number || session.connection != OFFLINE {
            return;
        }
        if session.ends_at <= now {
            self.clients.counters.sessions_expired += 1;
            self.end_session(timer.key());
            return;
        }
        self.publish_due_will(timer.key());
        self.arm_session(timer.key());
    }
}
