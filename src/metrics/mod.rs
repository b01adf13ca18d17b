//! Every metric as a typed field. A shard counts in plain [`Counters`] that it alone owns and publishes them once
//! a second through [`Handles`], made once, to a [`Registry`] that renders the Prometheus page. A series carries
//! the labels `shard` and at most one of the closed sets of [`label`]; never anything a client chose.
//!
//! A registry belongs to one server and none is installed for the whole process, so that several servers can run
//! in one process (tests do) without adding up.

pub mod label;
mod process;
mod series;
mod store;
mod table;

use std::fmt;
use std::time::Duration;

use ::metrics::{Histogram, Recorder};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub use label::{
    CloseReason, DeskOffer, DeskOutcome, DeskPhase, DropReason, Label, Packet, PublishRefusal, Qos,
    RefuseReason, RetainedChange, SubscribeRefusal, Tally, Version,
};
pub use store::{StoreFigures, StoreHandles};
pub use table::{Counters, Gauges};

use series::Page;
use table::{COUNTERS, CounterHandles, GAUGES, GaugeHandles, HISTOGRAMS, LONGEST_TURN, TICK_DELAY};

/// How often [`Registry::upkeep`] must run: histograms keep every sample until then.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds, in seconds, of the buckets of every histogram: from a turn nobody notices to a stalled shard.
const BUCKETS: [f64; 13] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// All series of one server.
pub struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: process::Handles,
}

impl Registry {
    /// An empty page with all its descriptions.
    pub fn new() -> Result<Self, BuildError> {
        // Without buckets the exporter would render histograms as summaries.
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.build_recorder();
        for &(name, help) in COUNTERS {
            recorder.describe_counter(name.into(), None, help.into());
        }
        for &(name, help) in GAUGES {
            recorder.describe_gauge(name.into(), None, help.into());
        }
        for &(name, help) in HISTOGRAMS {
            recorder.describe_histogram(name.into(), None, help.into());
        }
        let process = process::Handles::new(&recorder);
        Ok(Self { handle: recorder.handle(), process, recorder })
    }

    /// The held handles of shard number `shard`. All its series are on the page from now on, at zero.
    pub fn shard(&self, shard: usize) -> Handles {
        let page = Page::new(&self.recorder, shard);
        Handles {
            counters: CounterHandles::new(&page),
            gauges: GaugeHandles::new(&page),
            tick_delay: page.histogram(TICK_DELAY),
            longest_turn: page.histogram(LONGEST_TURN),
        }
    }

    /// The held handles of the store's figures, which are on the page from now on.
    pub fn store(&self) -> StoreHandles {
        StoreHandles::new(&self.recorder)
    }

    /// The page in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        self.process.sample();
        self.handle.render()
    }

    /// Folds the histograms' samples into their buckets. [`crate::http::serve`] calls it every
    /// [`UPKEEP_INTERVAL`]; a server without an HTTP listener has to do so itself, or the samples pile up.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// One shard's way to the page.
pub struct Handles {
    counters: CounterHandles,
    gauges: GaugeHandles,
    tick_delay: Histogram,
    longest_turn: Histogram,
}

impl Handles {
    /// Puts a shard's totals and present values on the page. For once a second: it touches some 160
    /// atomics and takes 0.7 µs.
    pub fn publish(&self, counters: &Counters, gauges: &Gauges) {
        self.counters.publish(counters);
        self.gauges.publish(gauges);
    }

    /// Records a tick of the loop's timer: how late it came, and the longest turn since the tick before.
    /// One sample a tick and not one a turn, because a sample costs about 60 ns and a turn may cost 5 µs.
    pub fn ticked(&self, late: Duration, longest_turn: Duration) {
        self.tick_delay.record(late.as_secs_f64());
        self.longest_turn.record(longest_turn.as_secs_f64());
    }
}

impl fmt::Debug for Handles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handles").finish_non_exhaustive()
    }
}
