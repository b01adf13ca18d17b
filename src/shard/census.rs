//! What the shard holds, counted a little at a time: a look at every session at once would stall a shard of a million.

use super::Core;
use crate::metrics::Gauges;
use crate::session::Phase;

/// Sessions and connections looked at in one tick.
const STRIDE: usize = 4096;

/// A count under way, and the last that was finished.
#[derive(Debug, Default)]
pub(super) struct Census {
    next: usize,
    counting: Gauges,
    finished: Gauges,
}

impl Core {
    /// Counts the next few; once a tick.
    pub(super) fn take_census(&mut self) {
        let Self { census, clients, groups, .. } = self;
        let all = clients.connections.capacity().max(clients.sessions.capacity());
        let until = all.min(census.next + STRIDE);
        for key in census.next..until {
            if let Some(client) = clients.connections.get(key) {
                census.counting.clients_connected += u64::from(client.link.phase == Phase::Open);
                census.counting.output_bytes += client.out.len() as u64;
            }
            if let Some(session) = clients.sessions.get(key) {
                census.counting.subscriptions += session.filters.len() as u64;
                census.counting.shared_subscriptions +=
                    session.memberships.iter().flat_map(|all| all.iter()).filter(|m| !m.ended).count() as u64;
                if let Some(outbox) = &session.outbox {
                    census.counting.inflight_messages += u64::from(outbox.in_flight());
                    census.counting.queued_messages += outbox.waiting() as u64;
                    census.counting.queued_bytes += outbox.waiting_bytes() as u64;
                }
            }
        }
        census.next = until;
        if until < all {
            return;
        }
        for group in groups.iter() {
            let (messages, bytes) = group.waiting();
            census.counting.queued_messages += messages as u64;
            census.counting.queued_bytes += bytes as u64;
        }
        census.next = 0;
        census.finished = std::mem::take(&mut census.counting);
    }

    /// What this shard holds: numbers of connections, sessions and retained messages as they are, the rest as last
    /// counted, which takes a tenth of a second for every 4,096 sessions.
    pub fn gauges(&self) -> Gauges {
        let (desk_conversations, desk_waiting, desk_agents) = self.count_floors();
        Gauges {
            desk_conversations,
            desk_waiting,
            desk_agents,
            connections: self.clients.connections.len() as u64,
            handshakes: self.handshakes.total() as u64,
            overload: u64::from(self.is_overloaded()),
            sessions: self.clients.sessions.len() as u64,
            retained_messages: self.retained.len() as u64,
            retained_bytes: self.retained.bytes() as u64,
            mailbox_bytes: self
                .exchange
                .mailboxes
                .get(usize::from(self.id))
                .map_or(0, super::mailbox::Mailbox::depth) as u64,
            store_waiting_bytes: self.clients.ledger.pending() as u64,
            ..self.census.finished.clone()
        }
    }
}
