//! What happened in a run: a simulator that disturbs nothing proves nothing.

/// What a run has seen, to be sure that it has seen something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub delivered: u64,
    pub redelivered: u64,
    pub redispatched: u64,
    pub resumed: u64,
    pub taken_over: u64,
    pub wills: u64,
    pub wills_not: u64,
    pub retained_shown: u64,
    pub owed: u64,
    pub owed_shared: u64,
    pub owed_retained: u64,
    pub aliased: u64,
    pub compressed: u64,
    pub expanded: u64,
    pub too_large: u64,
    pub queue_full: u64,
    pub expired: u64,
    pub crashes: u64,
    pub owed_over_crash: u64,
    pub shared_over_crash: u64,
    pub restored_sessions: u64,
    pub restored_deliveries: u64,
    pub restored_in_groups: u64,
    pub restored_retained: u64,
}

impl Stats {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (mine, theirs) in self.fields().into_iter().zip(other.fields()) {
            *mine.1 += *theirs.1;
        }
    }

    /// All by name.
    pub fn fields(&mut self) -> [(&'static str, &mut u64); 24] {
        [
            ("delivered", &mut self.delivered),
            ("redelivered", &mut self.redelivered),
            ("redispatched", &mut self.redispatched),
            ("resumed", &mut self.resumed),
            ("taken_over", &mut self.taken_over),
            ("wills", &mut self.wills),
            ("wills_not", &mut self.wills_not),
            ("retained_shown", &mut self.retained_shown),
            ("owed", &mut self.owed),
            ("owed_shared", &mut self.owed_shared),
            ("owed_retained", &mut self.owed_retained),
            ("aliased", &mut self.aliased),
            ("compressed", &mut self.compressed),
            ("expanded", &mut self.expanded),
            ("too_large", &mut self.too_large),
            ("queue_full", &mut self.queue_full),
            ("expired", &mut self.expired),
            ("crashes", &mut self.crashes),
            ("messages owed over a crash", &mut self.owed_over_crash),
            ("shared messages owed over a crash", &mut self.shared_over_crash),
            ("restored sessions", &mut self.restored_sessions),
            ("restored deliveries", &mut self.restored_deliveries),
            ("restored messages of groups", &mut self.restored_in_groups),
            ("restored retained messages", &mut self.restored_retained),
        ]
    }
}
