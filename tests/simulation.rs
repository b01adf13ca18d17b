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

use simulator::oracle::Stats;
use simulator::plan::Plan;

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

#[test]
fn a_crowd_of_thousands_keeps_the_promises() {
    if let Err(failure) = simulator::run(&Plan::crowd(1, 2_000)) {
        panic!("{failure}");
    }
}
