//! The table of all metrics: field, name, help. A metric cannot exist without its line here, and its line makes
//! the plain field a shard counts in, the held handles it is published through, and the HELP text of the page.

use super::label::{
    CloseReason, DeskOffer, DeskOutcome, DeskPhase, DropReason, Packet, PublishRefusal, Qos, RefuseReason,
    RetainedChange, SubscribeRefusal, Tally, Version,
};
use super::series::{Counted, Measured, Page};

macro_rules! counters {
    ($($field:ident: $kind:ty, $name:literal, $help:literal;)*) => {
        /// What one shard has counted since it started. Plain fields: the shard owns it and adds without atomics;
        /// [`super::Handles::publish`] carries it to the page.
        #[derive(Clone, Debug, Default)]
        pub struct Counters { $(#[doc = $help] pub $field: $kind,)* }

        impl Counters {
            /// Adds another shard's counts.
            pub fn merge(&mut self, other: &Self) {
                $(Counted::merge(&mut self.$field, &other.$field);)*
            }
        }

        /// The held handles of [`Counters`].
        pub(super) struct CounterHandles { $($field: <$kind as Counted>::Held,)* }

        impl CounterHandles {
            pub(super) fn new(page: &Page<'_>) -> Self {
                Self { $($field: <$kind as Counted>::register(page, $name),)* }
            }

            pub(super) fn publish(&self, counters: &Counters) {
                $(counters.$field.publish(&self.$field);)*
            }
        }

        /// Name and help of each counter.
        pub(super) const COUNTERS: &[(&str, &str)] = &[$(($name, $help),)*];
    };
}

macro_rules! gauges {
    ($($field:ident: $kind:ty, $name:literal, $help:literal;)*) => {
        /// What one shard holds at this moment.
        #[derive(Clone, Debug, Default)]
        pub struct Gauges { $(#[doc = $help] pub $field: $kind,)* }

        impl Gauges {
            /// Adds another shard's; of times it keeps the longest.
            pub fn merge(&mut self, other: &Self) {
                $(Measured::merge(&mut self.$field, other.$field);)*
            }
        }

        /// The held handles of [`Gauges`].
        pub(super) struct GaugeHandles { $($field: ::metrics::Gauge,)* }

        impl GaugeHandles {
            pub(super) fn new(page: &Page<'_>) -> Self {
                Self { $($field: page.gauge($name),)* }
            }

            pub(super) fn publish(&self, gauges: &Gauges) {
                $(self.$field.set(gauges.$field.value());)*
            }
        }

        /// Name and help of each gauge.
        pub(super) const GAUGES: &[(&str, &str)] = &[$(($name, $help),)*];
    };
}

counters! {
    // Connections
    connections_accepted: u64, "switchboard_connections_accepted_total",
        "Network connections accepted.";
    accept_failures: u64, "switchboard_accept_failures_total",
        "Calls to accept that failed, for want of file descriptors for example.";
    accept_pauses: u64, "switchboard_accept_pauses_total",
        "Times that connections were left waiting in the kernel, because of a listener's rate or its handshakes.";
    address_bans: u64, "switchboard_address_bans_total",
        "Addresses from which nobody is let in for a while, because too many logins were wrong.";
    connections_closed: Tally<CloseReason>, "switchboard_connections_closed_total",
        "Network connections that ended, by reason.";
    connects_accepted: Tally<Version>, "switchboard_connects_accepted_total",
        "CONNECT packets answered with success, by protocol version.";
    connects_refused: Tally<RefuseReason>, "switchboard_connects_refused_total",
        "CONNECT packets refused, by reason.";
    handovers: u64, "switchboard_handovers_total",
        "Connections handed to the shard that is the home of their client id.";
    takeovers: u64, "switchboard_takeovers_total",
        "Connections ended because their client id connected again.";
    sessions_resumed: u64, "switchboard_sessions_resumed_total",
        "Connections that found their session present.";
    sessions_expired: u64, "switchboard_sessions_expired_total",
        "Sessions removed because their expiry interval passed.";
    wills_published: u64, "switchboard_wills_published_total",
        "Will messages published.";

    // Bytes, packets, messages
    bytes_received: u64, "switchboard_received_bytes_total",
        "Bytes read from clients.";
    bytes_sent: u64, "switchboard_sent_bytes_total",
        "Bytes written to clients.";
    packets_received: Tally<Packet>, "switchboard_packets_received_total",
        "MQTT packets received, by type.";
    packets_sent: Tally<Packet>, "switchboard_packets_sent_total",
        "MQTT packets sent, by type.";
    messages_received: Tally<Qos>, "switchboard_messages_received_total",
        "Application messages received from clients, by quality of service.";
    messages_sent: Tally<Qos>, "switchboard_messages_sent_total",
        "Application messages sent to clients, by quality of service, redeliveries included.";
    payload_bytes_received: u64, "switchboard_payload_received_bytes_total",
        "Payload bytes of the application messages received.";
    payload_bytes_sent: u64, "switchboard_payload_sent_bytes_total",
        "Payload bytes of the application messages sent.";
    messages_redelivered: u64, "switchboard_messages_redelivered_total",
        "Application messages sent again after a session was resumed.";
    messages_unmatched: u64, "switchboard_messages_unmatched_total",
        "Application messages that no subscription of this shard or another matched.";
    messages_dropped: Tally<DropReason>, "switchboard_messages_dropped_total",
        "Deliveries given up, one for each receiver, by reason.";
    publishes_refused: Tally<PublishRefusal>, "switchboard_publishes_refused_total",
        "PUBLISH packets refused, by reason.";

    // Compressed payloads
    compressed_messages_received: u64, "switchboard_compressed_messages_received_total",
        "Application messages received whose payload was compressed, and is what it says.";
    compressed_bytes_received: u64, "switchboard_compressed_received_bytes_total",
        "Payload bytes of those as they came.";
    compressed_bytes_announced: u64, "switchboard_compressed_received_expanded_bytes_total",
        "Payload bytes of those if they were expanded.";
    compressed_messages_sent: u64, "switchboard_compressed_messages_sent_total",
        "Application messages handed on compressed, as they came.";
    compressed_bytes_sent: u64, "switchboard_compressed_sent_bytes_total",
        "Payload bytes of those.";
    expansions: u64, "switchboard_expansions_total",
        "Times that a payload was expanded, once for all receivers of a shard.";
    expanded_messages_sent: u64, "switchboard_expanded_messages_sent_total",
        "Application messages sent expanded, to clients that take no compressed ones.";
    expanded_bytes_sent: u64, "switchboard_expanded_sent_bytes_total",
        "Payload bytes of those.";

    // Subscriptions and retained messages
    subscriptions_granted: u64, "switchboard_subscriptions_granted_total",
        "Topic filters granted, replacements included.";
    subscriptions_refused: Tally<SubscribeRefusal>, "switchboard_subscriptions_refused_total",
        "Topic filters refused, by reason.";
    retained_changes: Tally<RetainedChange>, "switchboard_retained_changes_total",
        "Changes of retained topics, by kind.";
    retained_replayed: u64, "switchboard_retained_replayed_total",
        "Retained messages sent because of a new subscription.";
    shared_redispatched: u64, "switchboard_shared_redispatched_total",
        "Messages of shared groups given to another member because theirs was lost.";

    // The loop
    turns: u64, "switchboard_turns_total",
        "Turns of the shard's loop.";
    overloads: u64, "switchboard_overloads_total",
        "Times that the shard became overloaded.";
    reads_paused: u64, "switchboard_reads_paused_total",
        "Times a connection was not read for a while, because what it feeds was full.";
    rate_pauses: u64, "switchboard_rate_pauses_total",
        "Times a client was not read for a while, because it was over its rate.";
    mailbox_batches_sent: u64, "switchboard_mailbox_batches_sent_total",
        "Batches handed to other shards.";
    mailbox_messages_sent: u64, "switchboard_mailbox_messages_sent_total",
        "Messages in the batches handed to other shards.";
    mailbox_congested: u64, "switchboard_mailbox_congested_total",
        "Times another shard's mailbox was full.";

    // The store
    store_submissions: u64, "switchboard_store_submissions_total",
        "Turns that had something for the store.";
    store_bytes: u64, "switchboard_store_bytes_total",
        "Bytes of changes handed to the store.";
    answers_held: u64, "switchboard_answers_held_total",
        "Acknowledgements that waited until what they promise was durable.";

    // The desk
    desk_messages: Tally<DeskOutcome>, "switchboard_desk_messages_total",
        "Customers' messages that came to the desk, by outcome.";
    desk_replies: u64, "switchboard_desk_replies_total",
        "Agents' replies to customers.";
    desk_transitions: Tally<DeskPhase>, "switchboard_desk_transitions_total",
        "Transitions of conversations, by the phase they lead into.";
    desk_offers: Tally<DeskOffer>, "switchboard_desk_offers_total",
        "Offers of conversations to agents, by outcome.";
    desk_rule_errors: u64, "switchboard_desk_rule_errors_total",
        "Conditions of routing rules that could not be evaluated.";
    desk_context_invalid: u64, "switchboard_desk_context_invalid_total",
        "Customer contexts, and patches of them, that were no JSON object or too large.";
    desk_context_patches: u64, "switchboard_desk_context_patches_total",
        "Patches applied to customer contexts.";
    desk_context_expired: u64, "switchboard_desk_context_expired_total",
        "Times that a customer context, or fields of it, expired.";
}

gauges! {
    connections: u64, "switchboard_connections",
        "Open network connections.";
    handshakes: u64, "switchboard_handshakes",
        "Open network connections whose CONNECT has not come.";
    clients_connected: u64, "switchboard_clients_connected",
        "Clients with a connection whose CONNECT was accepted.";
    sessions: u64, "switchboard_sessions",
        "Sessions, connected or not.";
    subscriptions: u64, "switchboard_subscriptions",
        "Subscriptions, without the shared ones.";
    shared_subscriptions: u64, "switchboard_shared_subscriptions",
        "Shared subscriptions.";
    retained_messages: u64, "switchboard_retained_messages",
        "Retained messages.";
    retained_bytes: u64, "switchboard_retained_bytes",
        "Topic and payload bytes of the retained messages.";
    queued_messages: u64, "switchboard_queued_messages",
        "Messages that wait in sessions and in backlogs of shared groups.";
    queued_bytes: u64, "switchboard_queued_bytes",
        "Topic and payload bytes of the messages that wait.";
    inflight_messages: u64, "switchboard_inflight_messages",
        "Messages sent with QoS 1 or 2 whose acknowledgement is due.";
    output_bytes: u64, "switchboard_output_bytes",
        "Bytes that wait in output buffers for sockets to take them.";
    mailbox_bytes: u64, "switchboard_mailbox_bytes",
        "Bytes that other shards have posted to this one and it has not opened.";
    store_waiting_bytes: u64, "switchboard_store_waiting_bytes",
        "Bytes handed to the store that are not durable yet.";
    desk_conversations: u64, "switchboard_desk_conversations",
        "Conversations that are not over, or are being written up.";
    desk_waiting: u64, "switchboard_desk_waiting",
        "Conversations that wait and are not being offered.";
    desk_agents: u64, "switchboard_desk_agents",
        "Agents with a connection.";
    overload: u64, "switchboard_overload",
        "1 while the shard lets nobody new in, because it cannot serve in time those who are there.";
    loop_drift_seconds: f64, "switchboard_loop_drift_seconds",
        "How much later than due the loop's last tick came.";
}

/// Name and help of each histogram; its handle is a field of [`super::Handles`].
pub(super) const HISTOGRAMS: &[(&str, &str)] = &[
    (TICK_DELAY, "How much later than due the ticks of the loop came."),
    (LONGEST_TURN, "The longest turn of the loop between two ticks."),
];
pub(super) const TICK_DELAY: &str = "switchboard_tick_delay_seconds";
pub(super) const LONGEST_TURN: &str = "switchboard_longest_turn_seconds";
