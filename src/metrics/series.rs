//! How a plain count becomes a series on the page: registration of held handles and their update.

use ::metrics::{Counter, Gauge, Histogram, Key, Label as Pair, Level, Metadata, Recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::label::{Label, Tally};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// Where one shard's series are registered.
pub(super) struct Page<'a> {
    recorder: &'a PrometheusRecorder,
    shard: String,
}

impl<'a> Page<'a> {
    pub(super) fn new(recorder: &'a PrometheusRecorder, shard: usize) -> Self {
        Self { recorder, shard: shard.to_string() }
    }

    fn key(&self, name: &'static str) -> Key {
        Key::from_parts(name, vec![Pair::new("shard", self.shard.clone())])
    }

    fn labelled<L: Label>(&self, name: &'static str, label: L) -> Key {
        let shard = Pair::new("shard", self.shard.clone());
        Key::from_parts(name, vec![shard, Pair::from_static_parts(L::KEY, label.text())])
    }

    pub(super) fn gauge(&self, name: &'static str) -> Gauge {
        self.recorder.register_gauge(&self.key(name), &METADATA)
    }

    pub(super) fn histogram(&self, name: &'static str) -> Histogram {
        self.recorder.register_histogram(&self.key(name), &METADATA)
    }
}

/// A plain count or tally that has held handles. A series belongs to one shard alone, so its total is published
/// as it is: publishing twice, or late, does no harm.
pub(super) trait Counted {
    type Held;
    fn register(page: &Page<'_>, name: &'static str) -> Self::Held;
    fn publish(&self, held: &Self::Held);
    fn merge(&mut self, other: &Self);
}

impl Counted for u64 {
    type Held = Counter;

    fn register(page: &Page<'_>, name: &'static str) -> Counter {
        page.recorder.register_counter(&page.key(name), &METADATA)
    }

    fn publish(&self, held: &Counter) {
        held.absolute(*self);
    }

    fn merge(&mut self, other: &Self) {
        *self += other;
    }
}

impl<L: Label> Counted for Tally<L> {
    type Held = Vec<Counter>;

    fn register(page: &Page<'_>, name: &'static str) -> Vec<Counter> {
        let counter = |label: &L| page.recorder.register_counter(&page.labelled(name, *label), &METADATA);
        L::ALL.iter().map(counter).collect()
    }

    fn publish(&self, held: &Vec<Counter>) {
        for (counter, label) in held.iter().zip(L::ALL) {
            counter.absolute(self.count(*label));
        }
    }

    fn merge(&mut self, other: &Self) {
        Tally::merge(self, other);
    }
}

/// A value of the moment.
pub(super) trait Measured: Copy {
    fn value(self) -> f64;
    fn merge(&mut self, other: Self);
}

impl Measured for u64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and Prometheus knows only f64")]
    fn value(self) -> f64 {
        self as f64
    }

    fn merge(&mut self, other: Self) {
        *self += other;
    }
}

impl Measured for f64 {
    fn value(self) -> f64 {
        self
    }

    fn merge(&mut self, other: Self) {
        *self = self.max(other);
    }
}
