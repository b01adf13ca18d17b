//! New connections: taken from a listener, counted, and given what lies between them and MQTT. Those that a listener may
//! not let in yet are left to the kernel.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::super::guard::Origin;
use super::super::socket::{Layers, Socket};
use super::super::tls::Tls;
use super::Driver;
use crate::auth::{Denied, Verdict};
use crate::metrics::RefuseReason;
use crate::shard::access::Question;

/// Connections accepted in a turn from one listener.
const ACCEPTS: usize = 128;

/// The same while the shard is overloaded.
const FEW_ACCEPTS: usize = 4;

impl Driver {
    pub(super) fn accept(&mut self, number: usize) {
        let loops = self.loops.clone();
        let most = if self.core.is_overloaded() { FEW_ACCEPTS } else { ACCEPTS };
        for _ in 0..most {
            let Some(listener) = self.listeners.get(number).and_then(Option::as_ref) else { return };
            let Some(gate) = loops.gates.get(number) else { return };
            if self.core.handshakes(number) >= gate.handshakes {
                self.full |= 1 << number;
                self.core.counters().accept_pauses += 1;
                return;
            }
            if !gate.take(self.core.clients.now.mono) {
                self.accept_later = true;
                self.core.counters().accept_pauses += 1;
                return;
            }
            let (stream, address) = match listener.accept() {
                Ok(accepted) if self.admits(number, accepted.1.ip()) => accepted,
                Ok(_) => {
                    self.core.counters().connects_refused.bump(RefuseReason::NoProxy);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return gate.nobody_came(),
                Err(error) => {
                    gate.nobody_came();
                    self.accept_later = true;
                    let failures = &mut self.core.counters().accept_failures;
                    *failures += 1;
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, "a connection could not be accepted");
                    }
                    return;
                }
            };
            let origin = self.origin(number, address.ip());
            if self.enter(number, origin) {
                let layers = match self.layers(number) {
                    Ok(layers) => layers,
                    // In no case in plain text.
                    Err(error) => {
                        tracing::error!(%error, "TLS cannot begin");
                        self.leave(number, origin);
                        continue;
                    }
                };
                let key = self.core.accept(number as u16);
                self.install(key, Socket { stream, layers, origin });
            }
        }
        self.accept_again = true;
    }

    /// Whether this address may come to the listener: one that expects proxies takes nobody else.
    fn admits(&self, number: usize, peer: IpAddr) -> bool {
        let proxies = self.loops.doors.get(number).and_then(|door| door.proxies.as_ref());
        // A listener on [::] sees IPv4 addresses within IPv6.
        proxies.is_none_or(|proxies| proxies.iter().any(|net| net.contains(&peer.to_canonical())))
    }

    /// What lies between MQTT and a new connection of this listener.
    fn layers(&self, number: usize) -> Result<Option<Box<Layers>>, rustls::Error> {
        let identity = self.loops.identities.get(number).and_then(Option::as_ref);
        let tls = identity.map(|identity| Tls::new(&identity.read())).transpose()?;
        let Some(door) = self.loops.doors.get(number) else { return Ok(None) };
        let nothing = tls.is_none() && door.websocket.is_none() && door.proxies.is_none();
        let layers = || Box::new(Layers::new(door.proxies.is_some(), tls, door.websocket.clone()));
        Ok((!nothing).then(layers))
    }

    /// Has somebody say who a client is.
    pub(super) fn ask(&mut self, question: Question) {
        let layers = self.sockets.get(question.connection as usize).and_then(Option::as_ref);
        let certificate = layers.and_then(|socket| socket.layers.as_ref()?.common_name());
        if let Err(question) = self.loops.doorman.ask(self.id, question, certificate) {
            // As if it had not shown the right thing: nobody is let in unasked.
            self.core.counters().connects_refused.bump(RefuseReason::Busy);
            let denied = Verdict::Denied(Denied::Credentials);
            self.core.answered(question.connection, question.number, denied);
        }
    }

    /// Lets listeners accept again that have room for handshakes.
    pub(super) fn look_for_room(&mut self) {
        if self.full == 0 {
            return;
        }
        for number in 0..self.listeners.len() {
            let most = self.loops.gates.get(number).map_or(0, |gate| gate.handshakes);
            if self.full & (1 << number) != 0 && self.core.handshakes(number) < most {
                self.full &= !(1 << number);
                self.accept_again = true;
            }
        }
    }

    /// Where a connection comes from, unless it will say so itself.
    fn origin(&self, number: usize, address: IpAddr) -> Option<Origin> {
        let listener = self.core.clients.terms.listener(number as u16)?;
        listener.proxy.is_none().then(|| Origin::of(address))
    }

    /// Counts a connection in, unless its listener is full or nobody may come from there.
    fn enter(&mut self, number: usize, origin: Option<Origin>) -> bool {
        let now = self.core.clients.now.mono;
        let refused = if !self.has_room(number) {
            RefuseReason::ConnectionLimit
        } else if let Some(Err(refused)) = origin.map(|origin| self.loops.guard.enter(origin, now)) {
            self.leave(number, None);
            refused
        } else {
            return true;
        };
        self.core.counters().connects_refused.bump(refused);
        false
    }

    /// Counts a connection in, unless its listener is full.
    fn has_room(&self, number: usize) -> bool {
        let settings = self.core.clients.terms.clone();
        let (Some(open), Some(listener)) = (self.loops.open.get(number), settings.listener(number as u16))
        else {
            return false;
        };
        let total: usize = self.loops.open.iter().map(|o| o.load(Ordering::Relaxed)).sum();
        if open.fetch_add(1, Ordering::Relaxed) < listener.max_connections && total < self.loops.most {
            return true;
        }
        open.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// Counts a connection out.
    pub(super) fn leave(&self, listener: usize, origin: Option<Origin>) {
        if let Some(origin) = origin {
            self.loops.guard.leave(origin);
        }
        if let Some(open) = self.loops.open.get(listener) {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A login was wrong.
    pub(super) fn login_failed(&mut self, key: u32) {
        let socket = self.sockets.get(key as usize).and_then(Option::as_ref);
        let Some(origin) = socket.and_then(|socket| socket.origin) else { return };
        if self.loops.guard.failed(origin, self.core.clients.now.mono) {
            self.core.counters().address_bans += 1;
        }
    }
}
