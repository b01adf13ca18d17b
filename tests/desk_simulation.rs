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
const SEEDS: u64 = 70;

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
}
