//! What a start tells of itself while it takes its time.

use crate::clock::Clock;

/// How often at most.
const INTERVAL_MS: u64 = 1_000;

/// Documents between two looks at the clock.
const DOCUMENTS: u64 = 4_096;

/// A start under way.
#[derive(Debug)]
pub(super) struct Progress {
    clock: Clock,
    told: u64,
    documents: u64,
}

impl Progress {
    /// It begins now.
    pub(super) fn begin() -> Self {
        Self { clock: Clock::start(), told: 0, documents: 0 }
    }

    /// u64econds since it began.
    pub(super) fn ms(&self) -> u64 {
        self.clock.mono()
    }

    /// Calls `tell` with the milliseconds since the beginning, if nothing was told for a while.
    pub(super) fn step(&mut self, tell: impl FnOnce(u64)) {
        let now = self.clock.mono();
        if now - self.told >= INTERVAL_MS {
            self.told = now;
            tell(now);
        }
    }

    /// One more document was compared with what the view has of it.
    pub(super) fn document(&mut self, table: &'static str) {
        self.documents += 1;
        if self.documents.is_multiple_of(DOCUMENTS) {
            let documents = self.documents;
            self.step(|ms| {
                tracing::info!(table, documents, ms, "bringing the view in line with the journal");
            });
        }
    }
}
