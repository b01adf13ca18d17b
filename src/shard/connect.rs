//! CONNECT: who may come in, where its home is, and what it finds there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::access::owner;
use super::bytes::Stop;
use super::ledger::{Answer, Mark};
use super::{Core, End, clients};
use crate::auth::Denied;
use crate::message::NEVER;
use crate::metrics::{CloseReason, Packet as PacketLabel, RefuseReason, Version as VersionLabel};
use crate::protocol::{
    ACCEPT_ENCODING, ConnAck, ConnAckProperties, Connect, Frame, Packet, ReasonCode, Version, decode,
};
use crate::session::{Aliases, EXPIRES_NEVER, Phase, Session, WillState};
use crate::snappy;
use crate::topic;

/// Characters of an assigned Client Identifier: those that every 3.1.1 server must accept [MQTT-3.1.3-5].
const ID_CHARACTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Why a CONNECT is refused.
struct Refusal {
    code: ReasonCode,
    why: RefuseReason,
    text: &'static str,
}

impl Refusal {
    const fn new(code: ReasonCode, why: RefuseReason, text: &'static str) -> Self {
        Self { code, why, text }
    }

    /// Of somebody who has not shown who it is. What exactly was wrong helps nobody but who guesses.
    const fn of(denied: Denied) -> Self {
        match denied {
            Denied::Unknown => Self::new(
                ReasonCode::NOT_AUTHORIZED,
                RefuseReason::NotAuthorized,
                "this listener lets no anonymous client in",
            ),
            _ => Self::new(
                ReasonCode::BAD_USER_NAME_OR_PASSWORD,
                RefuseReason::BadCredentials,
                "bad user name or password",
            ),
        }
    }
}

const TOO_OFTEN: Refusal = Refusal::new(
    ReasonCode::CONNECTION_RATE_EXCEEDED,
    RefuseReason::Flapping,
    "this client identifier connects too often",
);

/// Bytes of a refusing CONNACK besides those of its reason string and its reference to another server, at most.
const CONNACK_ROOM: usize = 16;

impl Core {
    /// The first packet of a connection, which has to be CONNECT [MQTT-3.1.0-1].
    pub(super) fn first_packet(&mut self, key: u32, frame: Frame<'_>) -> Result<(), Stop> {
        if frame.first >> 4 != 1 {
            self.clients.counters.connects_refused.bump(RefuseReason::ProtocolError);
            return Err(End::silent(CloseReason::ProtocolError).into());
        }
        match decode(frame, Version::V5) {
            Ok(Packet::Connect(connect)) => self.connect(key, &connect),
            Ok(_) => Err(End::silent(CloseReason::ProtocolError).into()),
            Err(malformed) => {
                let unsupported = malformed.reason == ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
                self.clients.counters.connects_refused.bump(if unsupported {
                    RefuseReason::UnsupportedVersion
                } else {
                    RefuseReason::Malformed
                });
                if unsupported {
                    // 3.1.1 clients know return code 1; an unknown later version is answered the same way [MQTT-3.1.2-2].
                    self.clients
                        .send(key, PacketLabel::ConnAck, |out| out.extend_from_slice(&[0x20, 2, 0, 1]));
                }
                Err(End::silent(CloseReason::Refused).into())
            }
        }
    }

    fn connect(&mut self, key: u32, connect: &Connect<'_>) -> Result<(), Stop> {
        if let Some(client) = self.clients.connections.get_mut(key as usize) {
            client.link.version = connect.version;
        }
        if let Err(refusal) = self.may_connect(connect) {
            return Err(self.refuse(key, connect, &refusal).into());
        }
        match self.admission(key, connect) {
            None => return Err(Stop::Wait),
            Some(Ok(())) => {}
            Some(Err(denied)) => return Err(self.refuse(key, connect, &Refusal::of(denied)).into()),
        }
        let assigned = connect.client_id.is_empty().then(|| self.assign_id());
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let home = self.exchange.home(client_id);
        if home != self.id {
            return Err(Stop::HandOver(home));
        }
        let will = match connect.will.as_ref().map(|will| self.will(will)).transpose() {
            Ok(will) => will,
            Err(refused) => {
                let refusal = Refusal::new(refused.code, RefuseReason::WillInvalid, "the will's payload");
                return Err(self.refuse(key, connect, &refusal).into());
            }
        };
        let rights = self.exchange.access.rights(client_id, self.principal(key).map(|one| &**one));
        if let Some(will) = &connect.will
            && !rights.may_publish(will.topic, will.qos as u8, will.retain)
        {
            let (code, text) = (ReasonCode::NOT_AUTHORIZED, "the will may not be published");
            return Err(self
                .refuse(key, connect, &Refusal::new(code, RefuseReason::WillInvalid, text))
                .into());
        }
        let owner = owner(self.principal(key).map(|one| &**one));
        if assigned.is_none() && !self.comes_seldom(client_id) {
            return Err(self.refuse(key, connect, &TOO_OFTEN).into());
        }
        let mark = self.clients.ledger.mark();
        let found = self.clients.find(client_id);
        let theirs =
            found.and_then(|s| self.clients.sessions.get(s as usize)).map_or(0, |session| session.owner);
        // An identifier belongs to who began the session; one from before there were logins, to nobody.
        if self.guarded() && theirs != 0 && theirs != owner {
            let (code, text) = (ReasonCode::NOT_AUTHORIZED, "the client identifier is somebody else's");
            return Err(self
                .refuse(key, connect, &Refusal::new(code, RefuseReason::NotAuthorized, text))
                .into());
        }
        if let Some(session) = found {
            self.take_over(session);
        }
        let resumed = found
            .filter(|_| !connect.clean_start && (theirs == owner || !self.guarded()))
            .and_then(|s| self.resumable(s));
        if let Some(session) = resumed {
            self.publish_due_will(session);
        }
        let session = match (resumed, found) {
            (Some(session), _) => session,
            (None, found) => {
                if let Some(old) = found.filter(|&s| self.clients.sessions.contains(s as usize)) {
                    self.end_session(old);
                }
                match self.may_begin(connect).and_then(|()| self.new_session(client_id)) {
                    Ok(session) => session,
                    Err(refusal) => return Err(self.refuse(key, connect, &refusal).into()),
                }
            }
        };
        if let Some(state) = self.clients.sessions.get_mut(session as usize) {
            state.owner = owner;
        }
        self.open(key, session, connect, will);
        self.grant(key, client_id);
        if resumed.is_some() {
            self.recheck(key, session);
        }
        self.cork(key, mark);
        self.accept_connect(key, session, connect, resumed.is_some(), assigned.as_deref())?;
        if resumed.is_some() {
            self.clients.counters.sessions_resumed += 1;
            // First, so that what the groups have waiting comes behind what has to be sent again.
            self.clients.resume(session);
            self.rejoin_groups(session);
            self.replay_later(session);
        }
        Ok(())
    }

    /// What CONNACK says of the session must be durable when the client learns of it, and CONNACK comes first. While
    /// the store is unwell a session that is there already is let in all the same.
    fn cork(&mut self, key: u32, mark: Mark) {
        let Some(after) = self.clients.ledger.since(mark).filter(|_| self.unwell().is_none()) else { return };
        if let Some(client) = self.clients.connections.get_mut(key as usize) {
            client.corked = true;
            client.link.held += 1;
            self.clients.ledger.hold(key, Some(after), Answer::Everything);
        }
    }

    fn may_connect(&self, connect: &Connect<'_>) -> Result<(), Refusal> {
        let settings = &self.exchange.settings;
        if self.draining {
            let code = ReasonCode::SERVER_UNAVAILABLE;
            return Err(Refusal::new(code, RefuseReason::Draining, "shutting down"));
        }
        // Another shard may have time for its clients.
        if self.is_overloaded() && self.exchange.home(connect.client_id) == self.id {
            let code = match settings.limits.overload.redirect.as_str() {
                "" => ReasonCode::QUOTA_EXCEEDED,
                _ => ReasonCode::CONNECTION_RATE_EXCEEDED,
            };
            return Err(Refusal::new(code, RefuseReason::Overload, "the server is busy"));
        }
        if connect.client_id.len() > settings.limits.max_client_id_bytes {
            let code = ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
            return Err(Refusal::new(
                code,
                RefuseReason::ClientIdInvalid,
                "the client identifier is too long",
            ));
        }
        // 3.1.1 may leave the id out only with Clean Session 1 [MQTT-3.1.3-8]; 3.1 never.
        if connect.client_id.is_empty()
            && (connect.version == Version::V31 || (connect.version == Version::V311 && !connect.clean_start))
        {
            let code = ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
            return Err(Refusal::new(code, RefuseReason::ClientIdInvalid, "a client identifier is needed"));
        }
        if connect.properties.authentication_method.is_some() {
            let code = ReasonCode::BAD_AUTHENTICATION_METHOD;
            return Err(Refusal::new(
                code,
                RefuseReason::BadAuthenticationMethod,
                "no enhanced authentication method is configured",
            ));
        }
        if let Some(will) = &connect.will
            && (will.topic.starts_with('$') || topic::check_name(will.topic, &self.topic_limits()).is_err())
        {
            let code = ReasonCode::TOPIC_NAME_INVALID;
            return Err(Refusal::new(code, RefuseReason::WillInvalid, "the will's topic is not acceptable"));
        }
        if connect.will.as_ref().is_some_and(|will| will.retain) && !settings.retained.enabled {
            // [MQTT-3.2.2-13]
            let code = ReasonCode::RETAIN_NOT_SUPPORTED;
            return Err(Refusal::new(code, RefuseReason::WillInvalid, "nothing is retained here"));
        }
        Ok(())
    }

    fn refuse(&mut self, key: u32, connect: &Connect<'_>, refusal: &Refusal) -> End {
        self.clients.counters.connects_refused.bump(refusal.why);
        if matches!(refusal.why, RefuseReason::NotAuthorized | RefuseReason::BadCredentials) {
            self.effects.failed_logins.push(key);
        }
        // [MQTT-3.2.2-19]
        let most = connect.properties.maximum_packet.unwrap_or(u32::MAX) as usize;
        let elsewhere = self.exchange.settings.limits.overload.redirect.as_str();
        let server_reference = Some(elsewhere)
            .filter(|_| refusal.why == RefuseReason::Overload)
            .filter(|to| !to.is_empty() && to.len() + CONNACK_ROOM <= most);
        let taken = server_reference.map_or(0, str::len) + CONNACK_ROOM;
        let reason_string = Some(refusal.text).filter(|text| text.len() + taken <= most);
        let properties =
            ConnAckProperties { reason_string, server_reference, ..ConnAckProperties::default() };
        let connack = ConnAck { session_present: false, reason: refusal.code, properties };
        self.clients.send(key, PacketLabel::ConnAck, |out| connack.encode(connect.version, out));
        End::silent(CloseReason::Refused)
    }

    /// An id for a client without one, such that its home is here [MQTT-3.1.3-6].
    fn assign_id(&mut self) -> String {
        loop {
            let mut id = String::from("auto-");
            for _ in 0..20 {
                let at = self.random.usize(..ID_CHARACTERS.len());
                id.push(ID_CHARACTERS.get(at).map_or('0', |&c| char::from(c)));
            }
            if self.exchange.home(&id) == self.id && self.clients.find(&id).is_none() {
                return id;
            }
        }
    }

    /// Ends the connection that a session still has [MQTT-3.1.4-3].
    fn take_over(&mut self, session: u32) {
        if let Some(old) = self.clients.connection_of(session) {
            self.clients.counters.takeovers += 1;
            self.end(
                old,
                End::new(CloseReason::TakenOver, ReasonCode::SESSION_TAKEN_OVER, "connected elsewhere"),
            );
        }
    }

    /// The session, if it outlived its connection and its time has not come.
    fn resumable(&mut self, session: u32) -> Option<u32> {
        let now = self.clients.now.mono;
        self.clients.sessions.get(session as usize).filter(|s| s.ends_at > now).map(|_| session)
    }

    /// A session that has to be written down cannot begin while nothing can be.
    fn may_begin(&self, connect: &Connect<'_>) -> Result<(), Refusal> {
        match self.unwell() {
            Some(code) if wished_expiry(connect) > 0 => {
                Err(Refusal::new(code, RefuseReason::Store, "no new persistent session can be stored"))
            }
            _ => Ok(()),
        }
    }

    fn new_session(&mut self, client_id: &str) -> Result<u32, Refusal> {
        let limit = self.exchange.settings.limits.max_sessions;
        if self.exchange.sessions.fetch_add(1, Ordering::Relaxed) >= limit {
            self.exchange.sessions.fetch_sub(1, Ordering::Relaxed);
            let code = ReasonCode::QUOTA_EXCEEDED;
            return Err(Refusal::new(code, RefuseReason::SessionLimit, "the bound on sessions is reached"));
        }
        let generation = self.next_number();
        Ok(self.clients.insert(Session::new(Arc::from(client_id), generation)))
    }

    /// Joins connection and session and takes over what CONNECT says.
    fn open(&mut self, key: u32, session: u32, connect: &Connect<'_>, will: Option<Box<WillState>>) {
        let terms = &self.exchange.settings.session;
        let longest = u32::try_from(terms.max_expiry.as_secs()).unwrap_or(EXPIRES_NEVER);
        let wished = wished_expiry(connect);
        if let Some(state) = self.clients.sessions.get_mut(session as usize) {
            state.connection = key;
            state.expiry = wished.min(longest);
            state.ends_at = NEVER;
            state.will = will;
            // A session that is to end with its connection is not kept. One that was kept stays so for as long: until it
            // is durable that a restart ends it, a restart brings it back as it was, and nothing may have been done
            // that only the new connection knows of.
            let ledger = &mut self.clients.ledger;
            if state.stored == 0 && state.expiry > 0 && ledger.on() {
                state.stored = ledger.new_session();
            }
            ledger.session(state, self.clients.now);
        }
        let Some(client) = self.clients.connections.get_mut(key as usize) else { return };
        client.rated = self.rates.are_set();
        self.handshakes.end(client.link.listener);
        let link = &mut client.link;
        link.session = session;
        link.phase = Phase::Open;
        link.keep_alive = match (connect.keep_alive, terms.max_keep_alive) {
            (asked, 0) => asked,
            (0, most) => most,
            (asked, most) => asked.min(most),
        };
        // Only MQTT 5 clients can be told of a shorter one.
        if connect.version != Version::V5 {
            link.keep_alive = connect.keep_alive;
        }
        let properties = &connect.properties;
        link.receive_maximum = properties.receive_maximum.unwrap_or(u16::MAX).min(terms.max_inflight);
        link.max_packet = properties.maximum_packet.unwrap_or(u32::MAX);
        link.problem_information = properties.request_problem_information.unwrap_or(true);
        link.accepts_snappy =
            properties.user.iter().any(|property| property == (ACCEPT_ENCODING, snappy::NAME));
        let aliases = properties.topic_alias_maximum.unwrap_or(0).min(terms.outgoing_topic_alias_maximum);
        if aliases > 0 {
            link.rare.get_or_insert_default().outgoing = Some(Aliases::new(aliases));
        }
        self.arm_keep_alive(key);
    }

    fn accept_connect(
        &mut self,
        key: u32,
        session: u32,
        connect: &Connect<'_>,
        resumed: bool,
        assigned: Option<&str>,
    ) -> Result<(), End> {
        let settings = self.exchange.settings.clone();
        let (Some(client), Some(state)) =
            (self.clients.connections.get(key as usize), self.clients.sessions.get(session as usize))
        else {
            return Ok(());
        };
        let (expiry, keep_alive) = (state.expiry, client.link.keep_alive);
        let response_information;
        let mut properties = ConnAckProperties::default();
        if connect.version == Version::V5 {
            let limits = &settings.limits;
            properties.assigned_client_id = assigned;
            properties.session_expiry =
                (connect.properties.session_expiry.unwrap_or(0) != expiry).then_some(expiry);
            properties.receive_maximum = Some(settings.session.receive_maximum);
            properties.maximum_packet = Some(limits.max_packet);
            properties.topic_alias_maximum =
                Some(settings.session.topic_alias_maximum).filter(|&maximum| maximum > 0);
            properties.server_keep_alive = (keep_alive != connect.keep_alive).then_some(keep_alive);
            properties.retain_available = (!settings.retained.enabled).then_some(false);
            // [MQTT-3.1.2-28]: only who asks is told where its answers may go.
            response_information = Some(format!("response/{}/", state.client_id))
                .filter(|_| connect.properties.request_response_information == Some(true))
                .filter(|name| !name.contains(['+', '#']));
            properties.response_information = response_information.as_deref();
        }
        let connack = ConnAck { session_present: resumed, reason: ReasonCode::SUCCESS, properties };
        if !self.clients.send(key, PacketLabel::ConnAck, |out| connack.encode(connect.version, out)) {
            // Nothing can be told to a client that does not take a CONNACK.
            return Err(End::silent(CloseReason::PacketTooLarge));
        }
        self.clients.counters.connects_accepted.bump(match connect.version {
            Version::V31 => VersionLabel::V31,
            Version::V311 => VersionLabel::V311,
            Version::V5 => VersionLabel::V5,
        });
        Ok(())
    }

    pub(super) fn topic_limits(&self) -> topic::Limits {
        let limits = &self.exchange.settings.limits;
        topic::Limits { max_levels: limits.max_topic_levels, max_bytes: limits.max_topic_bytes }
    }
}

/// Session Expiry Interval as the client wishes it; with MQTT 3.1.1 Clean Session says it.
fn wished_expiry(connect: &Connect<'_>) -> u32 {
    match connect.version {
        Version::V5 => connect.properties.session_expiry.unwrap_or(0),
        _ if connect.clean_start => 0,
        _ => EXPIRES_NEVER,
    }
}

impl clients::Clients {
    /// Sends again what an earlier connection left, then what has gathered since.
    fn resume(&mut self, session: u32) {
        if let Some(outbox) = self.sessions.get_mut(session as usize).and_then(|s| s.outbox.as_mut()) {
            outbox.resume();
        }
        self.pump(session);
    }
}
