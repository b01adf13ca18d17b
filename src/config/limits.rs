//! What bounds how fast clients come and send. Pure.

use std::time::Duration;

use super::raw::RawLimits;
use super::settings::RateSettings;
use super::values::{PLENTY, Values};

const HOUR: Duration = Duration::from_hours(1);
/// More in a second than anybody sends.
const FAST: u32 = 1_000_000_000;

/// How fast one client may send.
pub(super) fn rate(values: &mut Values<'_>, raw: &RawLimits) -> RateSettings {
    let default = RateSettings::default();
    RateSettings {
        messages: values.count("limits.message_rate", &raw.message_rate, default.messages, 0..=FAST),
        message_burst: values.count(
            "limits.message_burst",
            &raw.message_burst,
            default.message_burst,
            0..=FAST,
        ),
        bytes: values.size("limits.byte_rate", &raw.byte_rate, default.bytes, 0..=PLENTY),
        byte_burst: values.size("limits.byte_burst", &raw.byte_burst, default.byte_burst, 0..=PLENTY),
        patience: values.duration(
            "limits.rate_patience",
            &raw.rate_patience,
            default.patience,
            Duration::ZERO..=HOUR,
        ),
    }
}
