//! Simulated days of a desk, each from a seed: customers, agents, several shards, lost connections and crashes; see
//! `desk_world`.
//!
//! `DESK_SEEDS=2000` plays more of them, `DESK_SEED=17` plays one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod desk_world;

use desk_world::plan::Plan;
use desk_world::stats::Stats;

/// Runs of the ordinary test.
const SEEDS: u64 = 150;

/// What must have happened in the ordinary test.
const NEEDED: [&str; 47] = [
    "wills",
    "accept: ok",
    "accept: offer_over",
    "reject: ok",
    "release: ok",
    "hold: ok",
    "resume: ok",
    "complete: ok",
    "transfer: ok",
    "transfer: agent_busy",
    "offers: queue",
    "offers: sticky",
    "offers: transfer",
    "reason: arrived",
    "reason: matched",
    "reason: auto_accepted",
    "reason: accepted",
    "reason: rejected",
    "reason: lapsed",
    "reason: withdrawn",
    "reason: released",
    "reason: held",
    "reason: resumed",
    "reason: completed",
    "reason: written_up",
    "reason: customer_left",
    "reason: waited_too_long",
    "reason: agent_lost",
    "reason: transfer",
    "reason: transfer_failed",
    "reason: step",
    "reason: restarted",
    "customers' messages refused",
    "customers turned away",
    "replies taken",
    "replies refused",
    "replies of whoever may",
    "replies of whoever may not",
    "cuts",
    "take-overs",
    "crashes",
    "restarts with another number of shards",
    "restored conversations",
    "messages sent again with DUP",
    "messages said anew with their id",
    "messages in an inbox again",
    "transcripts of several blocks",
];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn every_seed_keeps_the_promises() {
    let seeds = match number("DESK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DESK_SEEDS").unwrap_or(SEEDS),
    };
    let mut sum = Stats::default();
    let mut failures = Vec::new();
    for seed in seeds.clone() {
        match desk_world::run(&Plan::short(seed)) {
            Ok(stats) => sum.join(&stats),
            Err(failure) => failures.push(failure),
        }
    }
    if let Some(first) = failures.first() {
        let heads: Vec<&str> = failures.iter().filter_map(|f| f.lines().next()).take(20).collect();
        panic!("{} of {} seeds fail\n{}\n\n{first}", failures.len(), seeds.count(), heads.join("\n"));
    }
    if std::env::var_os("DESK_COUNTS").is_some() {
        println!("{sum:#?}");
    }
    // A simulator that disturbs nothing proves nothing.
    if seeds.count() >= SEEDS as usize {
        for what in NEEDED {
            assert!(sum.0.get(what).is_some_and(|count| *count > 0), "no run had any {what}");
        }
    }
}

/// Runs with customers who are erased.
const ERASURES: u64 = 60;

#[test]
fn who_is_erased_leaves_nothing_and_nobody_else_misses_anything() {
    let seeds = match number("DESK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DESK_SEEDS").unwrap_or(ERASURES),
    };
    let mut sum = Stats::default();
    for seed in seeds.clone() {
        let plan = Plan { stored: true, ..Plan::short(seed) };
        match desk_world::run_with_erasure(&plan) {
            Ok(stats) => sum.join(&stats),
            Err(failure) => panic!("{failure}"),
        }
    }
    if std::env::var_os("DESK_COUNTS").is_some() {
        println!("{sum:#?}");
    }
    if seeds.count() >= ERASURES as usize {
        for what in ["over", "open", "written up"] {
            let what = format!("erased {} {what}", if what == "over" { "when" } else { "while" });
            assert!(sum.0.get(&what).is_some_and(|count| *count > 0), "no run had any {what}");
        }
    }
}

/// Runs with groups and agents that are drained.
const DRAINS: u64 = 60;

#[test]
fn who_is_drained_takes_nothing_new() {
    let seeds = match number("DESK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DESK_SEEDS").unwrap_or(DRAINS),
    };
    let mut sum = Stats::default();
    for seed in seeds.clone() {
        match desk_world::run(&Plan { drains: true, ..Plan::short(seed) }) {
            Ok(stats) => sum.join(&stats),
            Err(failure) => panic!("{failure}"),
        }
    }
    if std::env::var_os("DESK_COUNTS").is_some() {
        println!("{sum:#?}");
    }
    if seeds.count() >= DRAINS as usize {
        for what in ["groups drained", "agents drained", "reason: arrived", "crashes"] {
            assert!(sum.0.get(what).is_some_and(|count| *count > 0), "no run had any {what}");
        }
    }
}

/// Seeds that fail if the broker is as it was before it was mended, and what was wrong.
const FOUND: [(u64, &str); 7] = [
    (0, "an agent's state said that what it had accepted, or held, was still offered"),
    (1, "the versions of queues' states began anew with each process"),
    (5, "the transcript of what was over was empty for whoever did not say before which message"),
    (34, "what came again was acknowledged before the first of it was durable, and lost with a crash"),
    (40, "messages were taken for announced because the customer's conversation before had more of them"),
    (116, "an agent whose connection was lost never had the messages that had just gone into a block"),
    (219, "what came again was acknowledged before the first of it was durable, and lost with a crash"),
];

#[test]
fn seeds_that_failed_once_pass() {
    for (seed, what) in FOUND {
        if let Err(failure) = desk_world::run(&Plan::short(seed)) {
            panic!("{what}\n{failure}");
        }
    }
}

#[test]
fn a_crowd_of_thousands_keeps_the_promises() {
    if let Err(failure) = desk_world::run(&Plan::crowd(1, 2_000, 100)) {
        panic!("{failure}");
    }
}
