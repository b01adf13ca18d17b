//! `[limits]`: how fast clients may send and come. Pure.

use std::time::Duration;

use super::raw::RawLimits;
use super::settings::{GuardSettings, OverloadSettings, RateSettings};
use super::values::{PLENTY, Values};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// More than anybody comes to in a second or a minute.
const FAST: u32 = 1_000_000_000;
const MANY: usize = 100_000_000;
/// Bytes of a Server Reference.
const MAX_REFERENCE: usize = 1024;

/// Reads `limits.key`, which is one path in the file and in the raw structure.
macro_rules! read {
    ($values:ident.$kind:ident $raw:ident.$key:ident else $default:expr, $allowed:expr) => {
        $values.$kind(concat!("limits.", stringify!($key)), &$raw.$key, $default, $allowed)
    };
}

/// How fast one client may send.
pub(super) fn rate(values: &mut Values<'_>, raw: &RawLimits) -> RateSettings {
    let default = RateSettings::default();
    RateSettings {
        messages: read!(values.count raw.message_rate else default.messages, 0..=FAST),
        message_burst: read!(values.count raw.message_burst else default.message_burst, 0..=FAST),
        bytes: read!(values.size raw.byte_rate else default.bytes, 0..=PLENTY),
        byte_burst: read!(values.size raw.byte_burst else default.byte_burst, 0..=PLENTY),
        patience: read!(values.duration raw.rate_patience else default.patience, Duration::ZERO..=HOUR),
    }
}

/// How often clients may come, by address and by client id.
pub(super) fn guard(values: &mut Values<'_>, raw: &RawLimits) -> GuardSettings {
    let default = GuardSettings::default();
    GuardSettings {
        connections: read!(values.count raw.address_connections else default.connections, 0..=MANY),
        connects: read!(values.count raw.address_connects else default.connects, 0..=FAST),
        failed_logins: read!(values.count raw.address_failed_logins else default.failed_logins, 0..=FAST),
        ban: read!(values.duration raw.address_ban else default.ban, SECOND..=DAY),
        client_connects: read!(values.count raw.client_connects else default.client_connects, 0..=FAST),
        client_ban: read!(values.duration raw.client_ban else default.client_ban, SECOND..=DAY),
    }
}

/// When a shard lets nobody new in.
pub(super) fn overload(values: &mut Values<'_>, raw: &RawLimits) -> OverloadSettings {
    let default = OverloadSettings::default();
    let redirect = raw.overload_redirect.as_ref().map_or(default.redirect, |to| to.get_ref().clone());
    if let Some(written) = &raw.overload_redirect
        && (redirect.len() > MAX_REFERENCE || redirect.chars().any(char::is_control))
    {
        let right = format!("names of servers, at most {MAX_REFERENCE} bytes without control characters");
        values.problem(&written.span(), "limits.overload_redirect", "no reference to a server", right);
    }
    OverloadSettings {
        drift: read!(values.duration raw.overload_drift else default.drift, Duration::ZERO..=MINUTE),
        redirect,
    }
}
