//! Latencies in buckets of less than 1 % width, in constant memory.

/// Buckets per power of two.
const STEPS: u64 = 64;
/// Enough for every `u64`.
const BUCKETS: usize = 58 * 64 + 64;

/// Counts values; percentiles are exact to 1/64.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    largest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, largest: 0 }
    }
}

/// Values under 128 have a bucket each; above, the top seven bits decide.
fn bucket(value: u64) -> usize {
    let shift = (value | 64).ilog2() - 6;
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The largest value that falls into a bucket.
fn upper_edge(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let top = bucket - shift * STEPS;
    (u128::from(top + 1) << shift).saturating_sub(1).min(u128::from(u64::MAX)) as u64
}

impl Histogram {
    /// Counts one value.
    pub(crate) fn record(&mut self, value: u64) {
        if let Some(count) = self.buckets.get_mut(bucket(value)) {
            *count += 1;
        }
        self.count += 1;
        self.largest = self.largest.max(value);
    }

    /// Values counted so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The largest value counted.
    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }

    /// The value that `per_mille` of 1000 values do not exceed; `None` while empty.
    pub(crate) fn per_mille(&self, per_mille: u64) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(per_mille)).div_ceil(1000).max(1) as u64;
        let mut seen = 0;
        self.buckets.iter().enumerate().find_map(|(index, &count)| {
            seen += count;
            (count > 0 && seen >= rank).then(|| upper_edge(index).min(self.largest))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_continuous_and_narrow() {
        let mut last = 0;
        for shift in 0..64 {
            for add in [0, 1, 2] {
                let value = (1u64 << shift).saturating_add((1 << shift) / 3 * add);
                let this = bucket(value);
                assert!(this >= last, "{value} falls behind");
                assert!(this < BUCKETS, "{value} has no bucket");
                last = this;
                let edge = upper_edge(this);
                assert!(edge >= value, "{value} lies above its bucket's edge {edge}");
                assert!(edge - value <= value / 64, "{value}: edge {edge} is too far");
            }
        }
        assert_eq!(bucket(127) + 1, bucket(128));
        assert_eq!(bucket(255) + 1, bucket(256));
        assert_eq!(upper_edge(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn percentiles_of_a_known_set() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.per_mille(500), None);
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        for (per_mille, exact) in [(1, 1000), (500, 500_000), (950, 950_000), (999, 999_000)] {
            let got = histogram.per_mille(per_mille).unwrap();
            assert!(got >= exact && got <= exact + exact / 64, "{per_mille}: {got}");
        }
        assert_eq!(histogram.per_mille(1000), Some(1_000_000));
        assert_eq!((histogram.count(), histogram.largest()), (1000, 1_000_000));
    }

    #[test]
    fn one_outlier_moves_only_the_tail() {
        let mut histogram = Histogram::default();
        (0..999).for_each(|_| histogram.record(100));
        histogram.record(1 << 40);
        assert_eq!(histogram.per_mille(500), Some(100));
        assert_eq!(histogram.per_mille(999), Some(100));
        assert_eq!(histogram.per_mille(1000), Some(1 << 40));
    }
}
