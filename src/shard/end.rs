//! Every way in which a connection or a session ends, and what becomes of the will.

use std::sync::atomic::Ordering;

use super::{Close, Core, End};
use crate::message::{ELSEWHERE, Millis};
use crate::metrics::{CloseReason, DropReason, Packet as PacketLabel};
use crate::protocol::{Disconnect, DisconnectProperties, ReasonCode};
use crate::session::{EXPIRES_NEVER, NO_SESSION, Phase};

/// Bytes of a DISCONNECT besides those of its reason string, at most.
const DISCONNECT_ROOM: usize = 16;

/// Ends that tell more than that no CONNECT came.
const TRANSPORT: [CloseReason; 3] = [CloseReason::Tls, CloseReason::WebSocket, CloseReason::ProxyHeader];

impl Core {
    /// DISCONNECT from a client.
    pub(super) fn disconnect(&mut self, key: u32, session: u32, packet: &Disconnect<'_>) -> End {
        let longest =
            u32::try_from(self.exchange.settings.session.max_expiry.as_secs()).unwrap_or(EXPIRES_NEVER);
        if let Some(state) = self.clients.sessions.get_mut(session as usize) {
            if let Some(expiry) = packet.properties.session_expiry {
                // A session that was to end with its connection cannot be prolonged now [MQTT-3.14.2-2].
                if state.expiry == 0 && expiry > 0 {
                    return End::new(
                        CloseReason::ProtocolError,
                        ReasonCode::PROTOCOL_ERROR,
                        "a Session Expiry Interval of 0 cannot be changed in DISCONNECT",
                    );
                }
                state.expiry = expiry.min(longest);
            }
            // Only a normal disconnection takes the will back [MQTT-3.14.4-3].
            if packet.reason == ReasonCode::SUCCESS {
                state.will = None;
            }
        }
        self.detach(key, CloseReason::ClientDisconnect);
        End::silent(CloseReason::ClientDisconnect)
    }

    /// The socket is gone, without a good-bye.
    pub fn hang_up(&mut self, key: u32, reason: CloseReason) {
        let Some(client) = self.clients.connections.get(key as usize) else { return };
        let reason = match client.link.phase {
            Phase::Connecting if !TRANSPORT.contains(&reason) => CloseReason::BeforeConnect,
            Phase::Connecting | Phase::Open | Phase::Closing => reason,
        };
        self.detach(key, reason);
    }

    /// Ends a connection from this side: what waits in its buffer and, for MQTT 5, a DISCONNECT still go out.
    pub fn end(&mut self, key: u32, end: End) {
        let Some(client) = self.clients.connections.get(key as usize) else { return };
        if client.link.phase == Phase::Closing {
            return self.effects.close.push(Close { connection: key, linger: false });
        }
        let (phase, version, problem) =
            (client.link.phase, client.link.version, client.link.problem_information);
        let most = client.link.max_packet as usize;
        self.clients.uncork(key);
        if let Some(reason) = end.code
            && phase == Phase::Open
            && version.is_v5()
        {
            let properties = DisconnectProperties {
                // [MQTT-3.14.2-3]
                reason_string: Some(end.text)
                    .filter(|text| problem && !text.is_empty() && text.len() + DISCONNECT_ROOM <= most),
                ..DisconnectProperties::default()
            };
            let disconnect = Disconnect { reason, properties };
            self.clients.send(key, PacketLabel::Disconnect, |out| disconnect.encode(version, out));
        }
        self.detach(key, end.reason);
        self.effects.close.push(Close { connection: key, linger: true });
        self.arm_closing(key);
    }

    /// Parts a connection from its session.
    fn detach(&mut self, key: u32, reason: CloseReason) {
        let Some(client) = self.clients.connections.get_mut(key as usize) else { return };
        if client.link.phase == Phase::Closing {
            return;
        }
        if client.link.phase == Phase::Connecting {
            self.handshakes.end(client.link.listener);
        }
        client.link.phase = Phase::Closing;
        client.partial = None;
        client.link.rare = None;
        if std::mem::take(&mut client.link.held) > 0 {
            self.clients.ledger.forget_connection(key);
        }
        let session = std::mem::replace(&mut client.link.session, NO_SESSION);
        self.clients.counters.connections_closed.bump(reason);
        if session != NO_SESSION {
            self.go_offline(session);
        }
    }

    /// A session has lost its connection.
    fn go_offline(&mut self, key: u32) {
        let now = self.clients.now.mono;
        self.undeclare(key);
        let Some(session) = self.clients.sessions.get_mut(key as usize) else { return };
        session.lose_connection(now);
        if session.expiry == 0 {
            return self.end_session(key);
        }
        // First, so that a group does not choose the member that has just gone for the will.
        self.leave_groups(key, true);
        self.clients.set_aside(key);
        self.publish_due_will(key);
        self.arm_session(key);
        self.write_down(key);
    }

    /// Has the store keep a session as it is now.
    pub(super) fn write_down(&mut self, key: u32) {
        if let Some(session) = self.clients.sessions.get(key as usize) {
            self.clients.ledger.session(session, self.clients.now);
        }
    }

    /// Publishes a will whose delay has passed. The client may be back before the tick that would have seen it.
    pub(super) fn publish_due_will(&mut self, key: u32) {
        let now = self.clients.now.mono;
        let session = self.clients.sessions.get(key as usize);
        if session.and_then(|s| s.will.as_ref()).is_some_and(|will| will.due <= now) {
            self.publish_will(key);
            self.write_down(key);
        }
    }

    /// Publishes the will of a session and takes it away [MQTT-3.1.2-8] [MQTT-3.1.2-10].
    pub(super) fn publish_will(&mut self, key: u32) {
        let Some(will) = self.clients.sessions.get_mut(key as usize).and_then(|s| s.will.take()) else {
            return;
        };
        self.clients.counters.wills_published += 1;
        let mut message = will.message.view();
        message.from = ELSEWHERE;
        if let Some(seconds) = will.expiry {
            message.expires_at = self.clients.now.mono + Millis::from(seconds) * 1000;
        }
        if let Err(refused) = self.enter(&message) {
            self.clients.counters.publishes_refused.bump(refused.why);
        }
    }

    /// Ends a session: its will is due at the latest now [MQTT-3.1.3-9], its subscriptions and messages go.
    pub(super) fn end_session(&mut self, key: u32) {
        if let Some(session) = self.clients.sessions.get(key as usize) {
            self.clients.ledger.end_session(session);
        }
        self.drop_subscriptions(key);
        self.publish_will(key);
        let Some(session) = self.clients.remove(key) else { return };
        self.exchange.sessions.fetch_sub(1, Ordering::Relaxed);
        if let Some(outbox) = &session.outbox {
            let owed = usize::from(outbox.in_flight()) + outbox.waiting();
            self.clients.counters.messages_dropped.add(DropReason::SessionEnded, owed as u64);
            // What its groups may not give to anybody else any more.
            self.clients.settled.extend(outbox.iter().filter_map(|(_, owed)| owed?.via));
        }
    }
}
