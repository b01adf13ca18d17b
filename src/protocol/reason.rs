//! Reason codes (MQTT 5 section 2.4) and the error that carries one: what a peer did wrong.
//!
//! Owns the numbers, their names and the rule which packet may carry which. Decides nothing about answers:
//! whether a `Malformed` packet is answered with CONNACK, DISCONNECT or a closed socket is the connection's job.

use std::fmt;

/// An MQTT 5 reason code. Below 0x80 it is a kind of success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReasonCode(pub u8);

macro_rules! reason_codes {
    ($($constant:ident = $code:literal, $name:literal;)*) => {
        impl ReasonCode {
            $(
                #[doc = concat!($name, ", ", stringify!($code), ".")]
                pub const $constant: ReasonCode = ReasonCode($code);
            )*

            /// The standard's name, in lower case as it is logged; `"unknown"` for a number the standard does
            /// not define. 0x00 is `"success"`, also where a packet calls it otherwise.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => $name,)*
                    _ => "unknown",
                }
            }
        }
    };
}

reason_codes! {
    SUCCESS = 0x00, "success";
    GRANTED_QOS_1 = 0x01, "granted QoS 1";
    GRANTED_QOS_2 = 0x02, "granted QoS 2";
    DISCONNECT_WITH_WILL = 0x04, "disconnect with will message";
    NO_MATCHING_SUBSCRIBERS = 0x10, "no matching subscribers";
    NO_SUBSCRIPTION_EXISTED = 0x11, "no subscription existed";
    CONTINUE_AUTHENTICATION = 0x18, "continue authentication";
    RE_AUTHENTICATE = 0x19, "re-authenticate";
    UNSPECIFIED_ERROR = 0x80, "unspecified error";
    MALFORMED_PACKET = 0x81, "malformed packet";
    PROTOCOL_ERROR = 0x82, "protocol error";
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83, "implementation specific error";
    UNSUPPORTED_PROTOCOL_VERSION = 0x84, "unsupported protocol version";
    CLIENT_IDENTIFIER_NOT_VALID = 0x85, "client identifier not valid";
    BAD_USER_NAME_OR_PASSWORD = 0x86, "bad user name or password";
    NOT_AUTHORIZED = 0x87, "not authorized";
    SERVER_UNAVAILABLE = 0x88, "server unavailable";
    SERVER_BUSY = 0x89, "server busy";
    BANNED = 0x8A, "banned";
    SERVER_SHUTTING_DOWN = 0x8B, "server shutting down";
    BAD_AUTHENTICATION_METHOD = 0x8C, "bad authentication method";
    KEEP_ALIVE_TIMEOUT = 0x8D, "keep alive timeout";
    SESSION_TAKEN_OVER = 0x8E, "session taken over";
    TOPIC_FILTER_INVALID = 0x8F, "topic filter invalid";
    TOPIC_NAME_INVALID = 0x90, "topic name invalid";
    PACKET_IDENTIFIER_IN_USE = 0x91, "packet identifier in use";
    PACKET_IDENTIFIER_NOT_FOUND = 0x92, "packet identifier not found";
    RECEIVE_MAXIMUM_EXCEEDED = 0x93, "receive maximum exceeded";
    TOPIC_ALIAS_INVALID = 0x94, "topic alias invalid";
    PACKET_TOO_LARGE = 0x95, "packet too large";
    MESSAGE_RATE_TOO_HIGH = 0x96, "message rate too high";
    QUOTA_EXCEEDED = 0x97, "quota exceeded";
    ADMINISTRATIVE_ACTION = 0x98, "administrative action";
    PAYLOAD_FORMAT_INVALID = 0x99, "payload format invalid";
    RETAIN_NOT_SUPPORTED = 0x9A, "retain not supported";
    QOS_NOT_SUPPORTED = 0x9B, "QoS not supported";
    USE_ANOTHER_SERVER = 0x9C, "use another server";
    SERVER_MOVED = 0x9D, "server moved";
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E, "shared subscriptions not supported";
    CONNECTION_RATE_EXCEEDED = 0x9F, "connection rate exceeded";
    MAXIMUM_CONNECT_TIME = 0xA0, "maximum connect time";
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1, "subscription identifiers not supported";
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2, "wildcard subscriptions not supported";
}

impl ReasonCode {
    /// 0x00 where DISCONNECT calls it Normal disconnection.
    pub const NORMAL_DISCONNECTION: ReasonCode = ReasonCode::SUCCESS;
    /// 0x00 where SUBACK calls it Granted QoS 0.
    pub const GRANTED_QOS_0: ReasonCode = ReasonCode::SUCCESS;

    /// Whether the code says that the operation failed: 0x80 and above.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// The CONNACK return code of MQTT 3.1 and 3.1.1 (3.1.1 table 3.1) nearest to this reason.
    ///
    /// 0 to 5 stay what they are, so that a code decoded from a 3.1.1 CONNACK goes out as it came in. Failures
    /// that 3.1.1 has no word for become 3, Server unavailable: the only one a client may retry.
    pub const fn for_v3_connack(self) -> u8 {
        match self {
            ReasonCode(0..=5) => self.0,
            Self::UNSUPPORTED_PROTOCOL_VERSION => 1,
            Self::CLIENT_IDENTIFIER_NOT_VALID => 2,
            Self::BAD_USER_NAME_OR_PASSWORD => 4,
            Self::NOT_AUTHORIZED | Self::BANNED | Self::BAD_AUTHENTICATION_METHOD => 5,
            _ => 3,
        }
    }

    /// Whether a PUBACK or PUBREC may carry this code (MQTT 5 tables 3-4 and 3-5, which are the same).
    pub(super) const fn fits_publish_ack(self) -> bool {
        matches!(self.0, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
    }

    /// Whether a PUBREL or PUBCOMP may carry this code (tables 3-6 and 3-7).
    pub(super) const fn fits_release(self) -> bool {
        matches!(self.0, 0x00 | 0x92)
    }

    /// Whether a CONNACK may carry this code (table 3-1).
    pub(super) const fn fits_connack(self) -> bool {
        matches!(self.0, 0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
    }

    /// Whether a SUBACK may carry this code (table 3-8).
    pub(super) const fn fits_suback(self) -> bool {
        matches!(self.0, 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
    }

    /// Whether an UNSUBACK may carry this code (table 3-9).
    pub(super) const fn fits_unsuback(self) -> bool {
        matches!(self.0, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91)
    }

    /// Whether a DISCONNECT may carry this code: table 3-10, and 0x8C, which table 2-6 gives to DISCONNECT.
    pub(super) const fn fits_disconnect(self) -> bool {
        matches!(self.0, 0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x8F | 0x90 | 0x93..=0xA2)
    }

    /// Whether an AUTH may carry this code (table 3-11).
    pub(super) const fn fits_auth(self) -> bool {
        matches!(self.0, 0x00 | 0x18 | 0x19)
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02X} {}", self.0, self.name())
    }
}

/// A packet that the standard tells its receiver to refuse. The peer's fault, never ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} [{clause}]: {reason}")]
pub struct Malformed {
    /// What an MQTT 5 peer is told in CONNACK or DISCONNECT.
    pub reason: ReasonCode,
    /// The clause that was broken: `MQTT-x.y.z-n` of MQTT 5 where it has one for the rule, of 3.1.1 or 3.1 where
    /// only that version has it (then the version stands before it), and the bare section number where the rule
    /// has no number of its own.
    pub clause: &'static str,
    /// What is wrong, in a few words.
    pub what: &'static str,
}

/// A packet that cannot be parsed: reason 0x81.
#[inline]
pub(super) const fn malformed(clause: &'static str, what: &'static str) -> Malformed {
    Malformed { reason: ReasonCode::MALFORMED_PACKET, clause, what }
}

/// A packet that can be parsed but may not be sent: reason 0x82.
#[inline]
pub(super) const fn protocol_error(clause: &'static str, what: &'static str) -> Malformed {
    Malformed { reason: ReasonCode::PROTOCOL_ERROR, clause, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_return_code_of_3_1_1() {
        for (reason, code) in [
            (ReasonCode::SUCCESS, 0),
            (ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, 1),
            (ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, 2),
            (ReasonCode::SERVER_UNAVAILABLE, 3),
            (ReasonCode::QUOTA_EXCEEDED, 3),
            (ReasonCode::BAD_USER_NAME_OR_PASSWORD, 4),
            (ReasonCode::NOT_AUTHORIZED, 5),
            (ReasonCode::BANNED, 5),
            (ReasonCode(2), 2),
        ] {
            assert_eq!(reason.for_v3_connack(), code, "{reason}");
        }
        assert!((0..=u8::MAX).all(|code| ReasonCode(code).for_v3_connack() <= 5));
        assert!(
            (0x80..=u8::MAX).all(|code| ReasonCode(code).for_v3_connack() != 0),
            "no error becomes success"
        );
    }

    #[test]
    fn only_named_codes_fit_a_packet() {
        let fits: [fn(ReasonCode) -> bool; 7] = [
            ReasonCode::fits_publish_ack,
            ReasonCode::fits_release,
            ReasonCode::fits_connack,
            ReasonCode::fits_suback,
            ReasonCode::fits_unsuback,
            ReasonCode::fits_disconnect,
            ReasonCode::fits_auth,
        ];
        // How many codes the standard's tables list: 3-4, 3-6, 3-1, 3-8, 3-9, 3-10 (and 0x8C), 3-11.
        let counts = fits.map(|fits| (0..=u8::MAX).filter(|code| fits(ReasonCode(*code))).count());
        assert_eq!(counts, [9, 2, 22, 12, 7, 30, 3]);
        for code in (0..=u8::MAX).map(ReasonCode) {
            assert!(code.name() != "unknown" || !fits.iter().any(|fits| fits(code)), "{code}");
        }
    }

    #[test]
    fn a_fault_says_what_clause_and_reason() {
        let fault = malformed("MQTT-3.3.1-4", "a PUBLISH with QoS 3");
        assert_eq!(fault.to_string(), "a PUBLISH with QoS 3 [MQTT-3.3.1-4]: 0x81 malformed packet");
    }
}
