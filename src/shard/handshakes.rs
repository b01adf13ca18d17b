//! Connections whose CONNECT has not come: how many each listener has on this shard.

use super::Core;

/// By listener.
#[derive(Debug, Default)]
pub(super) struct Handshakes(Vec<usize>);

impl Handshakes {
    pub(super) fn begin(&mut self, listener: u16) {
        let at = usize::from(listener);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        if let Some(count) = self.0.get_mut(at) {
            *count += 1;
        }
    }

    /// CONNECT was accepted, or the connection is over or goes to another shard.
    pub(super) fn end(&mut self, listener: u16) {
        if let Some(count) = self.0.get_mut(usize::from(listener)) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

impl Core {
    /// Connections of a listener whose CONNECT has not come.
    pub fn handshakes(&self, listener: usize) -> usize {
        self.handshakes.0.get(listener).copied().unwrap_or_default()
    }
}
