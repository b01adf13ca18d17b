//! New connections: taken from a listener, counted, and given what lies between them and MQTT.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::super::socket::{Layers, Socket};
use super::super::tls::Tls;
use super::Driver;
use crate::auth::{Denied, Verdict};
use crate::metrics::RefuseReason;
use crate::shard::access::Question;

/// Connections accepted in a turn from one listener.
const ACCEPTS: usize = 128;

impl Driver {
    pub(super) fn accept(&mut self, number: usize) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(number).and_then(Option::as_ref) else { return };
            let stream = match listener.accept() {
                Ok((stream, peer)) if self.admits(number, peer.ip()) => stream,
                Ok(_) => {
                    self.core.counters().connects_refused.bump(RefuseReason::NoProxy);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.accept_failed = true;
                    let failures = &mut self.core.counters().accept_failures;
                    *failures += 1;
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, "a connection could not be accepted");
                    }
                    return;
                }
            };
            if self.enter(number) {
                let layers = match self.layers(number) {
                    Ok(layers) => layers,
                    // In no case in plain text.
                    Err(error) => {
                        tracing::error!(%error, "TLS cannot begin");
                        self.leave(number);
                        continue;
                    }
                };
                let key = self.core.accept(number as u16);
                self.install(key, Socket { stream, layers });
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

    /// Counts a connection in, unless its listener is full.
    fn enter(&mut self, number: usize) -> bool {
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
        self.core.counters().connects_refused.bump(RefuseReason::ConnectionLimit);
        false
    }

    /// Counts a connection out.
    pub(super) fn leave(&self, listener: usize) {
        if let Some(open) = self.loops.open.get(listener) {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
