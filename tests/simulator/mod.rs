//! The simulator: many shards' cores, many clients, a clock and a network that obey one seed. No socket, no thread.
//!
//! [`run`] plays one plan to its end: disturbance, then calm until all that is owed has come, then everybody leaves.
//! A failure is played again with its trace. `SIMULATION_SEED=n cargo test --test simulation` repeats one seed.

pub mod client;
pub mod crash;
pub mod hearing;
pub mod oracle;
pub mod plan;
pub mod rest;
pub mod stats;
pub mod wire;
pub mod world;

use client::WITNESS;
use plan::Plan;
use stats::Stats;
use wire::Options;
use world::World;

/// Lines of the trace that a failure shows, if `SIMULATION_TRACE` does not say how many.
const STORY: usize = 60;

/// Steps within which everything must come to rest.
const PATIENCE: usize = 4_000;

impl World {
    /// Goes on without disturbance until nothing moves any more.
    fn settle(&mut self) {
        self.calm = true;
        let mut quiet = 0;
        for _ in 0..PATIENCE {
            if self.failure.is_some() {
                return;
            }
            self.step();
            let all_back = (1..self.clients.len()).all(|c| self.clients[c].open || !self.holds(c));
            quiet = if self.at_rest() && all_back { quiet + 1 } else { 0 };
            if quiet == 8 {
                return;
            }
        }
        self.fail("does not come to rest".into());
    }

    fn play(&mut self) {
        for step in 0..self.plan.steps {
            if self.store.is_some() && self.plan.crashes.contains(&step) {
                self.crash();
                // Before anything of the restart is durable, too.
                while self.chance(4) {
                    self.crash();
                }
            }
            self.step();
            if self.failure.is_some() {
                return;
            }
        }
        self.note(|| "calm".into());
        self.settle();
        if self.failure.is_none() {
            self.judge_rest();
        }
        self.note(|| "all leave".into());
        for client in 1..self.clients.len() {
            self.depart(client);
        }
        self.wait(120_000);
        if self.failure.is_none() {
            self.judge_wills();
        }
        let options = Options { qos: 1, no_local: false, retain_as_published: false, handling: 0, id: None };
        self.subscribe(WITNESS, "r/#", options);
        self.wait(10_000);
        if self.failure.is_none() {
            self.judge_retained_values();
        }
        self.over = true;
        self.depart(WITNESS);
        self.wait(if self.plan.stored { 120_000 } else { 60_000 });
        if self.failure.is_none() {
            self.judge_nothing_left();
        }
    }
}

/// Plays a plan. A failure says what is wrong, the seed, and what led to it.
pub fn run(plan: &Plan) -> Result<Stats, String> {
    let mut world = World::new(plan.clone(), false);
    world.play();
    let Some(what) = world.failure.take() else { return Ok(world.oracle.stats) };
    let lines = std::env::var("SIMULATION_TRACE").ok().and_then(|lines| lines.parse().ok()).unwrap_or(STORY);
    let mut again = World::new(plan.clone(), true);
    again.play();
    let repeated = again.failure.as_ref() == Some(&what);
    let note =
        if repeated { "" } else { "\n(not the same when repeated: something depends on more than the seed)" };
    Err(format!("seed {}: {what}{note}\n{:#?}\n{}", plan.seed, plan.settings.session, again.story(lines)))
}
