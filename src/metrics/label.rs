//! Labels and what is counted under them. Every label is a closed set known at compile time, so that the number
//! of series is bounded by this file; nothing a client chooses (its id, a topic, a user name) can become a label.

use std::fmt;

/// A closed set of values of one Prometheus label.
pub trait Label: Copy + 'static {
    /// The label's key, such as `reason`.
    const KEY: &'static str;
    /// Every value, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// One cell per value: an array of `ALL.len()` counts.
    type Cells: AsRef<[u64]> + AsMut<[u64]> + Copy;
    /// No counts yet.
    const ZERO: Self::Cells;

    /// The cell that belongs to this value, less than `ALL.len()`.
    fn index(self) -> usize;
    /// The label's text.
    fn text(self) -> &'static str;
}

/// Plain counts, one for each value of a label.
#[derive(Clone, Copy)]
pub struct Tally<L: Label>(L::Cells);

impl<L: Label> Tally<L> {
    /// Adds one.
    #[inline]
    pub fn bump(&mut self, label: L) {
        self.add(label, 1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&mut self, label: L, n: u64) {
        if let Some(cell) = self.0.as_mut().get_mut(label.index()) {
            *cell += n;
        }
    }

    /// What has been counted under `label`.
    #[inline]
    pub fn count(&self, label: L) -> u64 {
        self.0.as_ref().get(label.index()).copied().unwrap_or_default()
    }

    /// What has been counted under all labels.
    pub fn total(&self) -> u64 {
        self.0.as_ref().iter().sum()
    }

    /// Adds another tally, cell by cell.
    pub fn merge(&mut self, other: &Self) {
        for (cell, n) in self.0.as_mut().iter_mut().zip(other.0.as_ref()) {
            *cell += n;
        }
    }
}

impl<L: Label> Default for Tally<L> {
    fn default() -> Self {
        Self(L::ZERO)
    }
}

impl<L: Label> fmt::Debug for Tally<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = L::ALL.iter().map(|label| (label.text(), self.count(*label))).filter(|(_, n)| *n > 0);
        f.debug_map().entries(counted).finish()
    }
}

/// Defines an enum together with its label texts.
macro_rules! labels {
    ($($(#[$about:meta])* $name:ident($key:literal) { $($(#[$doc:meta])* $value:ident = $text:literal,)* })*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $value,)* }

        impl Label for $name {
            const KEY: &'static str = $key;
            const ALL: &'static [Self] = &[$(Self::$value,)*];
            type Cells = [u64; Self::ALL.len()];
            const ZERO: Self::Cells = [0; Self::ALL.len()];

            #[inline]
            fn index(self) -> usize {
                self as usize
            }

            fn text(self) -> &'static str {
                match self { $(Self::$value => $text,)* }
            }
        }
    )*};
}

labels! {
    /// MQTT control packets by their type number (MQTT 5, table 2-1).
    Packet("packet") {
        /// 0, which no correct peer sends.
        Reserved = "reserved",
        /// 1
        Connect = "connect",
        /// 2
        ConnAck = "connack",
        /// 3
        Publish = "publish",
        /// 4
        PubAck = "puback",
        /// 5
        PubRec = "pubrec",
        /// 6
        PubRel = "pubrel",
        /// 7
        PubComp = "pubcomp",
        /// 8
        Subscribe = "subscribe",
        /// 9
        SubAck = "suback",
        /// 10
        Unsubscribe = "unsubscribe",
        /// 11
        UnsubAck = "unsuback",
        /// 12
        PingReq = "pingreq",
        /// 13
        PingResp = "pingresp",
        /// 14
        Disconnect = "disconnect",
        /// 15
        Auth = "auth",
    }

    /// Quality of service.
    Qos("qos") {
        /// At most once.
        Zero = "0",
        /// At least once.
        One = "1",
        /// Exactly once.
        Two = "2",
    }

    /// The protocol's version in CONNECT.
    Version("version") {
        /// `MQIsdp`, level 3.
        V31 = "3.1",
        /// Level 4.
        V311 = "3.1.1",
        /// Level 5.
        V5 = "5",
    }

    /// Why a network connection ended.
    CloseReason("reason") {
        /// The client sent DISCONNECT.
        ClientDisconnect = "client_disconnect",
        /// The client closed its side after CONNECT without DISCONNECT.
        ClientGone = "client_gone",
        /// Nothing or only part of a CONNECT came before the client closed, as port probes do.
        BeforeConnect = "before_connect",
        /// CONNECT did not come in time.
        ConnectTimeout = "connect_timeout",
        /// CONNECT was refused; `switchboard_connects_refused_total` says why.
        Refused = "refused",
        /// No TLS handshake was made, or TLS was broken later.
        Tls = "tls",
        /// No WebSocket, or not as RFC 6455 has it; or its client has said good-bye there.
        WebSocket = "websocket",
        /// A proxy's connection did not begin with a PROXY protocol header.
        ProxyHeader = "proxy_header",
        /// Reading or writing the socket failed.
        SocketError = "socket_error",
        /// Nothing came for one and a half times the keep-alive.
        KeepAlive = "keep_alive",
        /// The client id connected again.
        TakenOver = "taken_over",
        /// A packet was malformed (0x81).
        Malformed = "malformed",
        /// A packet was well formed but not allowed there (0x82).
        ProtocolError = "protocol_error",
        /// A packet announced more bytes than the broker accepts (0x95).
        PacketTooLarge = "packet_too_large",
        /// More unacknowledged messages than the broker's Receive Maximum (0x93).
        ReceiveMaximum = "receive_maximum",
        /// A topic alias was out of range (0x94).
        TopicAlias = "topic_alias",
        /// A PUBLISH was refused that only an MQTT 5 client could be told of; `switchboard_publishes_refused_total` says
        /// why.
        PublishRefused = "publish_refused",
        /// It went on sending faster than it may (0x96).
        MessageRate = "message_rate",
        /// A quota was used up (0x97).
        QuotaExceeded = "quota_exceeded",
        /// The token that let the client in is over (0xA0).
        Expired = "expired",
        /// The client did not read what was sent to it.
        SlowReader = "slow_reader",
        /// The broker is shutting down (0x8B).
        Drained = "drained",
        /// The broker's own fault; the log says what.
        Fault = "fault",
    }

    /// Why a CONNECT was refused.
    RefuseReason("reason") {
        /// Malformed CONNECT (0x81).
        Malformed = "malformed",
        /// A first packet that is not CONNECT, or one that breaks a rule (0x82).
        ProtocolError = "protocol_error",
        /// Unsupported protocol version (0x84).
        UnsupportedVersion = "unsupported_version",
        /// Client identifier not valid (0x85).
        ClientIdInvalid = "client_id_invalid",
        /// Not authorised (0x87).
        NotAuthorized = "not_authorized",
        /// Wrong password, or a token that is not good (0x86).
        BadCredentials = "bad_credentials",
        /// Too many clients wait to be asked who they are.
        Busy = "busy",
        /// Unknown authentication method (0x8C).
        BadAuthenticationMethod = "bad_authentication_method",
        /// The Will's topic is not acceptable (0x90).
        WillInvalid = "will_invalid",
        /// A bound on connections is reached: closed before anything was read.
        ConnectionLimit = "connection_limit",
        /// The listener takes connections from its proxies alone: closed before anything was read.
        NoProxy = "no_proxy",
        /// As many connections as may be come from its address: closed before anything was read.
        AddressLimit = "address_limit",
        /// Its address makes connections too fast: closed before anything was read.
        AddressRate = "address_rate",
        /// Too many logins from its address were wrong: closed before anything was read.
        AddressBanned = "address_banned",
        /// The client id connects too often (0x9F).
        Flapping = "flapping",
        /// The shard cannot serve in time those who are there (0x97, or 0x9F with a reference to another server).
        Overload = "overload",
        /// The bound on sessions is reached (0x97).
        SessionLimit = "session_limit",
        /// The session would have to be written down, and nothing can be (0x97, 0x83).
        Store = "store",
        /// The broker is shutting down (0x88).
        Draining = "draining",
    }

    /// Why a message did not reach somebody it was meant for. Each count is one message for one receiver.
    DropReason("reason") {
        /// QoS 0 to a connected client whose outbox is full.
        OutboxFull = "outbox_full",
        /// The queue of a session is full.
        QueueFull = "queue_full",
        /// QoS 0 to a session that is not connected and does not keep QoS 0.
        Offline = "offline",
        /// Larger than the receiver's Maximum Packet Size [MQTT-3.1.2-25].
        TooLarge = "too_large",
        /// Its Message Expiry Interval passed before delivery began [MQTT-3.3.2-5].
        Expired = "expired",
        /// The session that had it queued expired or was cleared.
        SessionEnded = "session_ended",
        /// The backlog of a shared group is full.
        SharedBacklogFull = "shared_backlog_full",
        /// A shared group has no member and keeps no backlog.
        SharedNoMember = "shared_no_member",
        /// It is damaged in the store, or missing there.
        StoreDamaged = "store_damaged",
        /// The bound on retained messages is reached: delivered, but not retained.
        RetainedFull = "retained_full",
    }

    /// Why a PUBLISH was not taken.
    PublishRefusal("reason") {
        /// The client may not publish there (0x87).
        NotAuthorized = "not_authorized",
        /// The topic name is not acceptable (0x90).
        TopicInvalid = "topic_invalid",
        /// A quota or backlog is full (0x97).
        QuotaExceeded = "quota_exceeded",
        /// The payload is not what it says it is, or not what a desk topic takes (0x99).
        PayloadInvalid = "payload_invalid",
        /// The payload is compressed and would expand to more than the maximum (0x97).
        PayloadTooLarge = "payload_too_large",
        /// Any other rule of the desk (0x83).
        Desk = "desk",
        /// The message would have to be written down, and nothing can be: no room (0x97), or the disk fails (0x83).
        Store = "store",
    }

    /// Why a filter of a SUBSCRIBE was not granted.
    SubscribeRefusal("reason") {
        /// The client may not read all that the filter matches (0x87).
        NotAuthorized = "not_authorized",
        /// The filter is not valid (0x8F).
        FilterInvalid = "filter_invalid",
        /// The bound on subscriptions is reached (0x97).
        QuotaExceeded = "quota_exceeded",
        /// The subscription would have to be written down, and nothing can be (0x97, 0x83).
        Store = "store",
    }

    /// What happened to a retained topic.
    RetainedChange("change") {
        /// A topic got its first retained message.
        Set = "set",
        /// A retained message took another's place.
        Replaced = "replaced",
        /// An empty payload removed it [MQTT-3.3.1-6].
        Cleared = "cleared",
        /// Its Message Expiry Interval passed.
        Expired = "expired",
    }

    /// Into which phase a conversation has come.
    DeskPhase("to") {
        /// It waits for an agent.
        Queued = "queued",
        /// It is offered to one.
        Offered = "offered",
        /// It is one's.
        Assigned = "assigned",
        /// It is one's who does something else meanwhile.
        Held = "held",
        /// It is handed over.
        Transferring = "transferring",
        /// It is written up.
        Wrapup = "wrapup",
        /// It is over.
        Closed = "closed",
        /// Its customer has left before anybody was found.
        Abandoned = "abandoned",
        /// Nobody was found in time.
        Expired = "expired",
    }

    /// What has become of offers.
    DeskOffer("outcome") {
        /// One was made.
        Made = "made",
        /// Its agent has accepted it.
        Accepted = "accepted",
        /// Its agent has rejected it.
        Rejected = "rejected",
        /// It was not answered in time.
        Lapsed = "lapsed",
        /// Its agent, its customer or a supervisor has made it pointless.
        Withdrawn = "withdrawn",
    }

    /// What the desk did with a customer's message.
    DeskOutcome("outcome") {
        /// A rule named the group.
        Routed = "routed",
        /// No rule held; the tenant's default group took it.
        Default = "default",
        /// It is part of a conversation.
        Conversation = "conversation",
        /// It has come before, and is not taken twice.
        Repeated = "repeated",
        /// Its group is closed or full, and the customer was told so.
        TurnedAway = "turned_away",
        /// Its topic, payload or properties are not what the desk takes, or there is no room for it.
        Refused = "refused",
        /// No tenant of that name is configured.
        UnknownTenant = "unknown_tenant",
    }
}

impl Packet {
    /// The type in a packet's first byte.
    #[inline]
    pub fn of(first: u8) -> Self {
        match first >> 4 {
            0 => Self::Reserved,
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            _ => Self::Auth,
        }
    }
}

impl Qos {
    /// The label of QoS `level`, 0 to 2.
    #[inline]
    pub fn level(level: u8) -> Self {
        match level {
            0 => Self::Zero,
            1 => Self::One,
            _ => Self::Two,
        }
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_counted_by_the_type_in_its_first_byte() {
        for first in 0..=u8::MAX {
            assert_eq!(Packet::of(first).index(), usize::from(first >> 4));
        }
        assert_eq!(Packet::of(0x3D), Packet::Publish);
        assert_eq!(Packet::of(0xE0), Packet::Disconnect);
    }

    #[test]
    fn counts_stay_in_their_cells() {
        let mut drops = Tally::<DropReason>::default();
        drops.add(DropReason::OutboxFull, 3);
        drops.bump(DropReason::RetainedFull);
        let mut sum = drops;
        sum.merge(&drops);
        assert_eq!(sum.count(DropReason::OutboxFull), 6);
        assert_eq!(sum.count(DropReason::RetainedFull), 2);
        assert_eq!(sum.count(DropReason::Expired), 0);
        assert_eq!(sum.total(), 8);
        assert_eq!(format!("{drops:?}"), r#"{"outbox_full": 3, "retained_full": 1}"#);
    }

    fn check<L: Label + PartialEq + fmt::Debug>() {
        for (index, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), index, "{label:?}");
            assert!(
                label
                    .text()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.".contains(&b)),
                "{label:?}"
            );
            assert!(L::ALL[index + 1..].iter().all(|other| other.text() != label.text()), "{label:?} twice");
        }
    }

    #[test]
    fn label_texts_are_plain_and_distinct() {
        check::<Packet>();
        check::<Qos>();
        check::<Version>();
        check::<CloseReason>();
        check::<RefuseReason>();
        check::<DropReason>();
        check::<PublishRefusal>();
        check::<SubscribeRefusal>();
        check::<RetainedChange>();
        check::<DeskOutcome>();
        check::<DeskPhase>();
        check::<DeskOffer>();
    }
}
