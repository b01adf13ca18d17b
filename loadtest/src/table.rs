//! The rows of the comparison: what is run, which figure counts, and what it should reach.

use crate::report::Report;

/// One piece of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Arguments of this program.
    pub(crate) run: &'static str,
    /// Whether the floor can do it.
    pub(crate) floor: bool,
    pub(crate) figures: &'static [(Figure, Bar)],
}

/// A figure of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    CpuPerMessage,
    CpuPerStore,
    BytesPerConnection,
    BytesPerSession,
    BytesPerMessage,
    MessagesPerSecond,
    StoresPerSecond,
    LatencyP50,
    CpuPercent,
}

/// What a figure should reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    None,
    /// At most so many times the floor's.
    TimesFloor(f64),
    /// At most so many times the same server's figure in another row.
    TimesRow(&'static str, f64),
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    /// The figure's value in a report, if it was measured.
    pub(crate) fn of(self, report: &Report) -> Option<f64> {
        match self {
            Self::CpuPerMessage => report.cpu_us_per_msg,
            Self::CpuPerStore => report.store_cpu_us_per_msg,
            Self::BytesPerConnection => report.bytes_per_conn,
            Self::BytesPerSession => report.bytes_per_session,
            Self::BytesPerMessage => report.bytes_per_msg,
            Self::MessagesPerSecond => Some(report.msgs_per_s),
            Self::StoresPerSecond => report.stores_per_s,
            Self::LatencyP50 => report.latency_us.as_ref().map(|latency| latency.p50),
            Self::CpuPercent => report.cpu_percent,
        }
    }

    /// What it is, with its unit.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CpuPerMessage => "CPU µs/message",
            Self::CpuPerStore => "CPU µs/store",
            Self::BytesPerConnection => "bytes/connection",
            Self::BytesPerSession => "bytes/session",
            Self::BytesPerMessage => "bytes/message",
            Self::MessagesPerSecond => "messages/s",
            Self::StoresPerSecond => "stores/s",
            Self::LatencyP50 => "p50 µs",
            Self::CpuPercent => "% of a core",
        }
    }
}

impl Bar {
    /// As the table says it.
    pub(crate) fn text(self) -> String {
        match self {
            Self::None => "–".to_owned(),
            Self::TimesFloor(times) => format!("≤ {times} × floor"),
            Self::TimesRow(row, times) => format!("≤ {times} × {row}"),
            Self::AtMost(value) => format!("≤ {value}"),
            Self::AtLeast(value) => format!("≥ {value}"),
        }
    }

    /// Whether it is reached; `None` if that cannot be said.
    pub(crate) fn reached(self, value: f64, times_floor: Option<f64>, other: Option<f64>) -> Option<bool> {
        match self {
            Self::None => None,
            Self::TimesFloor(bar) => times_floor.map(|times| times <= bar),
            Self::TimesRow(_, bar) => other.map(|other| value <= other * bar),
            Self::AtMost(bar) => Some(value <= bar),
            Self::AtLeast(bar) => Some(value >= bar),
        }
    }
}

use Bar::{AtLeast, AtMost, TimesFloor, TimesRow};
use Figure::{
    BytesPerConnection, BytesPerMessage, BytesPerSession, CpuPerMessage, CpuPerStore, CpuPercent, LatencyP50,
    MessagesPerSecond, StoresPerSecond,
};

const fn row(name: &'static str, run: &'static str, figures: &'static [(Figure, Bar)]) -> Row {
    Row { name, run, floor: true, figures }
}

const fn without_floor(row: Row) -> Row {
    Row { floor: false, ..row }
}

/// Everything that is compared.
pub(crate) const ROWS: &[Row] = &[
    row(
        "fanout-w16",
        "fanout --subscribers 1000 --size 64 --window 16",
        &[(CpuPerMessage, TimesFloor(1.15))],
    ),
    row("fanout-w1", "fanout --subscribers 1000 --size 64 --window 1", &[(CpuPerMessage, TimesFloor(1.15))]),
    row(
        "fanout-qos1-w16",
        "fanout --subscribers 1000 --size 64 --window 16 --qos 1",
        &[(CpuPerMessage, TimesFloor(2.0))],
    ),
    row(
        "fanout10-1k-w64",
        "fanout --subscribers 10 --size 1024 --window 64",
        &[(CpuPerMessage, TimesFloor(1.2))],
    ),
    row("p2p-w8", "p2p --pairs 500 --size 256 --window 8", &[(CpuPerMessage, TimesFloor(1.3))]),
    row("p2p-w1", "p2p --pairs 500 --size 256 --window 1", &[(CpuPerMessage, TimesFloor(1.15))]),
    row("p2p-qos1-w8", "p2p --pairs 500 --size 256 --window 8 --qos 1", &[(CpuPerMessage, TimesFloor(1.8))]),
    row("p2p-qos1-w1", "p2p --pairs 500 --size 256 --window 1 --qos 1", &[(CpuPerMessage, TimesFloor(1.3))]),
    row("p2p-qos2-w8", "p2p --pairs 500 --size 256 --window 8 --qos 2", &[(CpuPerMessage, TimesFloor(3.0))]),
    without_floor(row(
        "p2p-v5-alias-w8",
        "p2p --pairs 500 --size 256 --window 8 --v5 --alias --user-properties 2",
        &[(CpuPerMessage, TimesRow("p2p-w8", 1.4))],
    )),
    without_floor(row(
        "durable-qos1-w8",
        "p2p --pairs 500 --size 256 --window 8 --qos 1 --persistent",
        &[(MessagesPerSecond, AtLeast(20_000.0))],
    )),
    without_floor(row(
        "durable-retained",
        "retained --topics 100000 --size 64 --rounds 1",
        &[(CpuPerStore, AtMost(9.0)), (StoresPerSecond, AtLeast(20_000.0))],
    )),
    row("fanin-w8", "fanin --publishers 500 --size 64 --window 8", &[(CpuPerMessage, TimesFloor(1.6))]),
    row(
        "shared-qos1-w8",
        "shared --publishers 500 --members 10 --size 64 --window 8 --qos 1",
        &[(CpuPerMessage, TimesFloor(2.0))],
    ),
    row("conn", "conn --count 10000", &[(BytesPerConnection, AtMost(400.0))]),
    row("conn-sub", "conn --count 10000 --subscribe", &[(BytesPerConnection, AtMost(900.0))]),
    row("idle", "conn --count 15000 --keep-alive 60 --seconds 20", &[(CpuPercent, AtMost(0.5))]),
    row("idle-ping", "conn --count 15000 --keep-alive 60 --seconds 20 --ping", &[(CpuPercent, Bar::None)]),
    without_floor(row(
        "retained",
        "retained --topics 100000 --size 64",
        &[
            (CpuPerStore, AtMost(4.5)),
            (BytesPerMessage, AtMost(300.0)),
            (MessagesPerSecond, AtLeast(600_000.0)),
            (CpuPerMessage, Bar::None),
        ],
    )),
    without_floor(row(
        "offline",
        "offline --sessions 500 --messages 100",
        &[(CpuPerStore, AtMost(7.6)), (CpuPerMessage, AtMost(6.4)), (BytesPerMessage, Bar::None)],
    )),
    without_floor(row(
        "offline-sessions",
        "offline --sessions 10000 --messages 1",
        &[(BytesPerSession, AtMost(400.0))],
    )),
    row("churn", "churn --clients 50", &[(CpuPerMessage, TimesFloor(1.25))]),
    row("latency", "latency --rate 1000", &[(LatencyP50, TimesFloor(1.1))]),
];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::arguments::Arguments;
    use clap::Parser;

    #[test]
    fn every_row_can_be_run() {
        for row in ROWS {
            let words = ["loadtest"].into_iter().chain(row.run.split_whitespace());
            assert!(Arguments::try_parse_from(words).is_ok(), "{}", row.name);
            for (figure, bar) in row.figures {
                assert!(row.floor || !matches!(bar, TimesFloor(_)), "{} has no floor", row.name);
                if let TimesRow(other, _) = bar {
                    let other = ROWS.iter().find(|row| row.name == *other).unwrap();
                    assert!(other.figures.iter().any(|(other, _)| other == figure), "{}", row.name);
                }
            }
        }
    }

    #[test]
    fn bars() {
        assert_eq!(TimesFloor(1.3).reached(9.0, Some(1.2), None), Some(true));
        assert_eq!(TimesFloor(1.3).reached(9.0, Some(1.4), None), Some(false));
        assert_eq!(TimesFloor(1.3).reached(9.0, None, None), None);
        assert_eq!(TimesRow("p2p-w8", 1.4).reached(1.3, None, Some(1.0)), Some(true));
        assert_eq!(AtMost(400.0).reached(401.0, Some(0.1), None), Some(false));
        assert_eq!(AtLeast(600.0).reached(600.0, None, None), Some(true));
        assert_eq!(Bar::None.reached(1.0, Some(1.0), Some(1.0)), None);
    }
}
