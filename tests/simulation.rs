//! Simulated runs of several shards and many clients, each from a seed; see `simulator`.
//!
//! `SIMULATION_SEEDS=5000` plays more of them, `SIMULATION_SEED=17` plays one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod simulator;

use simulator::plan::Plan;
use simulator::stats::Stats;

/// Runs of the ordinary test.
const SEEDS: u64 = 500;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn every_seed_keeps_the_promises() {
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let mut sum = Stats::default();
    let mut failures = Vec::new();
    for seed in seeds.clone() {
        match simulator::run(&Plan::short(seed)) {
            Ok(stats) => sum.add(&stats),
            Err(failure) => failures.push(failure),
        }
    }
    if let Some(first) = failures.first() {
        let heads: Vec<&str> = failures.iter().filter_map(|f| f.lines().next()).take(20).collect();
        panic!("{} of {} seeds fail\n{}\n\n{first}", failures.len(), seeds.count(), heads.join("\n"));
    }
    println!("{sum:?}");
    // A simulator that disturbs nothing proves nothing.
    if seeds.count() >= SEEDS as usize {
        for (what, count) in sum.fields() {
            assert!(*count > 0, "no run had any {what}");
        }
    }
}

/// Seeds of [`Plan::short`] without a store that failed before the broker was mended, and what was wrong.
const FOUND: [(u64, &str); 7] = [
    (2, "a resumed session was sent its group's messages before what it had to be sent again"),
    (7, "a topic alias was used that the client had not been told"),
    (9, "a packet was sent again to a connection that takes less"),
    (27, "unsubscribing from a group made room in Receive Maximum that the client did not have"),
    (43, "a will that had come due was lost when its client came back before the tick"),
    (98, "a retained message was hidden from a new subscription by an older one"),
    (12891, "a group never got back what a member had in flight that unsubscribed and subscribed again"),
];

/// The same of plans with a store.
const FOUND_WITH_STORE: [(u64, &str); 6] = [
    (10, "what a group had given to members stayed in the store when the group was over"),
    (16, "a group's delivery at QoS 2 left no trace of its packet id, which came again after a crash"),
    (23, "a repeated PUBREL was confirmed before the first one was durable"),
    (54, "a session resumed for one connection was deleted, and came back without what was confirmed since"),
    (290, "a group's delivery at QoS 2 that waited at a kept session was never assured"),
    (784, "a session's packet ids began anew after a crash, among them one that the client still held"),
];

#[test]
fn seeds_that_failed_once_pass() {
    let without = FOUND.map(|(seed, what)| (Plan::short(seed).without_store(), what));
    let with = FOUND_WITH_STORE.map(|(seed, what)| (Plan::short(seed), what));
    for (plan, what) in without.into_iter().chain(with) {
        if let Err(failure) = simulator::run(&plan) {
            panic!("{what}\n{failure}");
        }
    }
}

#[test]
fn a_crowd_of_thousands_keeps_the_promises() {
    if let Err(failure) = simulator::run(&Plan::crowd(1, 2_000)) {
        panic!("{failure}");
    }
}
