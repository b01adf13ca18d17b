//! What a run found: one line of JSON.

use crate::desk::Figures;
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::process::{Cpu, Process};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Figures of one run. Fields that a scenario does not have are left out of its line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) version: String,
    pub(crate) qos: u8,
    /// Payload bytes.
    pub(crate) size: usize,
    /// Messages a publisher had under way at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) publishers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) receivers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<usize>,
    /// Messages received (`churn`: cycles) within the measured time.
    pub(crate) delivered: u64,
    /// Length of the measured time.
    pub(crate) seconds: f64,
    pub(crate) msgs_per_s: f64,
    /// Processor time of the broker per delivered message (`churn`: per cycle).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_us_per_msg: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_user_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_sys_us: Option<u64>,
    /// The broker's processor time over the measured time; 100 is one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_percent: Option<f64>,
    /// The same of this program: near 100 it, not the broker, sets the rate.
    pub(crate) load_cpu_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rss_kb_start: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rss_kb_end: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_conn: Option<f64>,
    /// `retained`, `offline`: growth of resident memory per stored message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_msg: Option<f64>,
    /// `offline`: growth of resident memory per session without a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_session: Option<f64>,
    /// `retained`, `offline`: processor time of the broker to take a message in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store_cpu_us_per_msg: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stores_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_us: Option<Percentiles>,
    /// `restart`: each start of the broker.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) started: Vec<Started>,
    /// `desk`: how the queue did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) desk: Option<Box<Figures>>,
    /// What the payloads say that they belong to.
    #[serde(skip)]
    pub(crate) run: u32,
    /// Messages that came after a later one of the same publisher.
    pub(crate) out_of_order: u64,
    pub(crate) duplicates: u64,
    /// Messages sent and never received.
    pub(crate) lost: u64,
    /// How often everything stood still and what was under way was given up.
    pub(crate) stalls: u64,
    /// Other breaches of the protocol.
    pub(crate) faults: u64,
    /// The first few of them in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) fault_examples: Vec<String>,
}

/// How a broker has started again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// How it was ended before: `kill` or `stop`.
    pub(crate) after: String,
    /// How long that took.
    pub(crate) stopped_s: f64,
    /// Bytes of its store then.
    pub(crate) store_bytes: u64,
    /// From its start to the first connection that was taken.
    pub(crate) listening_s: f64,
    /// From its start to the first CONNACK.
    pub(crate) connack_s: f64,
    /// Resident memory before the end, and after the start.
    pub(crate) rss_kb_before: u64,
    pub(crate) rss_kb: u64,
    /// Sampled sessions that were there, and sampled retained messages that came.
    pub(crate) sessions_present: usize,
    pub(crate) retained_back: usize,
}

/// Percentiles of a latency in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
    pub(crate) samples: u64,
}

impl Percentiles {
    /// Of a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram) -> Option<Self> {
        let at = |per_mille| histogram.per_mille(per_mille).map(|ns| ratio(ns, 1000));
        Some(Self {
            p50: at(500)?,
            p95: at(950)?,
            p99: at(990)?,
            p99_9: at(999)?,
            max: ratio(histogram.largest(), 1000),
            samples: histogram.count(),
        })
    }
}

impl Report {
    /// Why the run counts as failed, if it does.
    pub(crate) fn verdict(&self) -> Option<String> {
        let checks = [
            (self.delivered == 0, "no message arrived".to_owned()),
            (self.out_of_order > 0, format!("{} messages out of order", self.out_of_order)),
            (self.qos > 0 && self.lost > 0, format!("{} messages lost at QoS {}", self.lost, self.qos)),
            (self.qos == 2 && self.duplicates > 0, format!("{} duplicates at QoS 2", self.duplicates)),
            (self.faults > 0, format!("{} breaches of the protocol", self.faults)),
        ];
        let failed: Vec<_> = checks.into_iter().filter_map(|(failed, why)| failed.then_some(why)).collect();
        (!failed.is_empty()).then(|| failed.join(", "))
    }

    /// Writes down a fault of the broker.
    pub(crate) fn fault(&mut self, what: impl Into<String>) {
        self.faults += 1;
        if self.fault_examples.len() < 5 {
            self.fault_examples.push(what.into());
        }
    }

    /// Enters a measured stretch in which `delivered` messages came.
    pub(crate) fn enter(&mut self, stretch: &Stretch, delivered: u64) {
        self.delivered = delivered;
        self.seconds = stretch.seconds;
        self.msgs_per_s = per_second(delivered, stretch.seconds);
        self.load_cpu_percent = percent(stretch.own, stretch.seconds);
        if let Some(cpu) = stretch.broker {
            self.cpu_user_us = Some(cpu.user_us);
            self.cpu_sys_us = Some(cpu.system_us);
            self.cpu_percent = Some(percent(cpu, stretch.seconds));
            self.cpu_us_per_msg = (delivered > 0).then(|| ratio(cpu.total_us(), delivered));
        }
    }
}

/// Takes the time, and the processor time of the broker and of this program.
#[derive(Debug)]
pub(crate) struct Meter {
    broker: Option<Process>,
    own: Process,
}

/// A moment taken by a meter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    at: Instant,
    broker: Option<Cpu>,
    own: Cpu,
}

/// What happened between two moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) seconds: f64,
    pub(crate) broker: Option<Cpu>,
    pub(crate) own: Cpu,
}

impl Meter {
    /// A meter of the broker with this process id, if it is known.
    pub(crate) fn new(pid: Option<u32>) -> Self {
        Self { broker: pid.map(Process::new), own: Process::own() }
    }

    /// This moment.
    pub(crate) fn mark(&self) -> Result<Mark, Failure> {
        let broker = self.broker.as_ref().map(Process::cpu).transpose()?;
        Ok(Mark { at: Instant::now(), broker, own: self.own.cpu()? })
    }

    /// What happened since `mark`.
    pub(crate) fn since(&self, mark: Mark) -> Result<Stretch, Failure> {
        let now = self.mark()?;
        Ok(Stretch {
            seconds: now.at.duration_since(mark.at).as_secs_f64(),
            broker: now.broker.zip(mark.broker).map(|(now, then)| now.since(then)),
            own: now.own.since(mark.own),
        })
    }

    /// The broker's resident memory in KiB.
    pub(crate) fn rss_kb(&self) -> Result<Option<u64>, Failure> {
        self.broker.as_ref().map(Process::rss_kb).transpose()
    }
}

/// Growth of memory in bytes for each of `count`; shrinking counts as negative.
pub(crate) fn growth_each(start_kb: Option<u64>, end_kb: Option<u64>, count: usize) -> Option<f64> {
    let (start, end) = start_kb.zip(end_kb)?;
    let (sign, kb) = if end >= start { (1.0, end - start) } else { (-1.0, start - end) };
    Some(sign * ratio(kb * 1024, count as u64))
}

/// `part / whole`.
#[expect(clippy::cast_precision_loss, reason = "figures for people; far under 2^53")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Events a second.
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { ratio(count, 1) / seconds } else { 0.0 }
}

fn percent(cpu: Cpu, seconds: f64) -> f64 {
    per_second(cpu.total_us(), seconds) / 10_000.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_run_fails_for_what_the_standard_forbids() {
        let good = Report { delivered: 5, lost: 1, duplicates: 1, ..Report::default() };
        assert_eq!(good.verdict(), None, "QoS 0 may lose");
        let fails = |change: fn(&mut Report)| {
            let mut report = Report { delivered: 5, ..Report::default() };
            change(&mut report);
            report.verdict()
        };
        assert!(fails(|report| report.delivered = 0).is_some());
        assert!(fails(|report| report.out_of_order = 1).is_some());
        assert!(fails(|report| (report.qos, report.lost) = (1, 1)).is_some());
        assert!(fails(|report| (report.qos, report.duplicates) = (2, 1)).is_some());
        assert!(fails(|report| (report.qos, report.duplicates) = (1, 1)).is_none());
        assert!(fails(|report| report.fault("a PUBACK nobody waits for")).unwrap().contains("1 breach"));
    }

    #[test]
    fn figures_of_a_stretch() {
        let mut report = Report::default();
        let broker = Some(Cpu { user_us: 300_000, system_us: 700_000 });
        report.enter(&Stretch { seconds: 2.0, broker, own: Cpu::default() }, 4_000_000);
        assert_eq!(report.cpu_us_per_msg, Some(0.25));
        assert_eq!(report.cpu_percent, Some(50.0));
        assert!((report.msgs_per_s - 2_000_000.0).abs() < 1e-6);
        let line = serde_json::to_string(&report).unwrap();
        assert!(!line.contains("latency_us") && !line.contains('\n'), "{line}");
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
    }

    #[test]
    fn memory_growth_may_be_negative() {
        assert_eq!(growth_each(Some(1000), Some(2000), 1024), Some(1000.0));
        assert_eq!(growth_each(Some(2000), Some(1000), 1024), Some(-1000.0));
        assert_eq!(growth_each(None, Some(1), 1), None);
    }
}
