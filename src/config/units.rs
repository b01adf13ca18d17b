//! Numbers with units: `"256KiB"`, `"30s"`. Pure.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};

/// Bytes, largest unit first.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Milliseconds, largest unit first.
const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A number with its unit, as written. A bare number is taken too, so that whoever reads it can say that its
/// unit is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quantity(pub(super) String);

impl Quantity {
    /// The bytes of `"256KiB"`.
    pub(super) fn bytes(&self) -> Option<u64> {
        parse(&self.0, &SIZES)
    }

    /// The time of `"30s"`.
    pub(super) fn duration(&self) -> Option<Duration> {
        parse(&self.0, &DURATIONS).map(Duration::from_millis)
    }

    /// Whether all that is missing is the unit.
    pub(super) fn is_bare(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_digit())
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number with its unit in quotes")
            }

            fn visit_str<E>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
        }
        deserializer.deserialize_any(Written)
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, times) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*times)
}

/// In the largest unit that divides it: `1MiB`.
pub(super) fn show_bytes(bytes: u64) -> String {
    show(bytes, &SIZES, "0B")
}

/// In the largest unit that divides it: `90s`, `7d`.
pub(super) fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS, "0s")
}

fn show(number: u64, units: &[(&str, u64)], zero: &str) -> String {
    units
        .iter()
        .find(|(_, times)| number > 0 && number.is_multiple_of(*times))
        .map_or_else(|| zero.to_owned(), |(name, times)| format!("{}{name}", number / times))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<u64> {
        Quantity(text.to_owned()).bytes()
    }

    fn millis(text: &str) -> Option<u128> {
        Quantity(text.to_owned()).duration().map(|duration| duration.as_millis())
    }

    #[test]
    fn sizes_are_whole_numbers_with_a_binary_unit() {
        assert_eq!(bytes("0B"), Some(0));
        assert_eq!(bytes("17B"), Some(17));
        assert_eq!(bytes("256KiB"), Some(262_144));
        assert_eq!(bytes("2 GiB"), Some(2 << 30));
        assert_eq!(bytes("17179869183GiB"), Some(17_179_869_183 << 30));
        for wrong in
            ["", "B", "1", "1KB", "1kib", "1.5MiB", "-1B", "1MiB ", "17179869184GiB", "99999999999999999999B"]
        {
            assert_eq!(bytes(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        assert_eq!(millis("250ms"), Some(250));
        assert_eq!(millis("0s"), Some(0));
        assert_eq!(millis("90s"), Some(90_000));
        assert_eq!(millis("5m"), Some(300_000));
        assert_eq!(millis("2h"), Some(7_200_000));
        assert_eq!(millis("7 d"), Some(604_800_000));
        for wrong in ["", "s", "10", "10 sec", "1h30m", "-1s", "0.5s", "10S", "213503982335d"] {
            assert_eq!(millis(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 1023, 1024, 1025, 1 << 20, 3 << 19, 1 << 30, u64::MAX] {
            assert_eq!(Quantity(show_bytes(bytes)).bytes(), Some(bytes));
        }
        for millis in [0, 1, 999, 1000, 60_000, 90_000, 86_400_000, 604_800_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(Quantity(show_duration(duration)).duration(), Some(duration));
        }
        assert_eq!(show_bytes(1536), "1536B");
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
    }

    #[test]
    fn a_bare_number_lacks_only_its_unit() {
        assert!(Quantity("10".to_owned()).is_bare());
        assert!(!Quantity(String::new()).is_bare());
        assert!(!Quantity("-10".to_owned()).is_bare());
        assert!(!Quantity("10s".to_owned()).is_bare());
    }
}
