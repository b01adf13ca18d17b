//! A desk with its customers and agents: many shards' cores, a clock and a network that obey one seed.
//!
//! [`run`] plays one plan to its end: disturbance, then calm until everybody is served as well as can be, then agents end
//! what they have. A failure is played again with its trace. `DESK_SEED=n cargo test --test desk_simulation` repeats one
//! seed, `DESK_TRACE=200` shows that much of its trace, `DESK_ONLY=text` only the lines with that text.

pub mod draining;
pub mod erasing;
pub mod oracle;
pub mod party;
pub mod people;
pub mod plan;
pub mod rest;
pub mod shards;
pub mod stats;
pub mod transcripts;
#[path = "../simulator/wire.rs"]
#[allow(dead_code, reason = "what the other simulator says besides")]
pub mod wire;

use plan::Plan;
use shards::World;
use stats::Stats;

/// Lines of the trace that a failure shows, if `DESK_TRACE` does not say how many.
const STORY: usize = 60;

/// Steps within which everything must come to rest.
const PATIENCE: usize = 3_000;

/// Longer than everything of the rules' that has an end, in milliseconds.
const LONG: u64 = 120_000;

impl World {
    /// Goes on without disturbance until nothing moves any more.
    pub fn come_to_rest(&mut self) {
        self.calm = true;
        let mut quiet = 0;
        for _ in 0..PATIENCE {
            if self.failure.is_some() {
                return;
            }
            self.step();
            quiet = if self.at_rest() { quiet + 1 } else { 0 };
            if quiet == 6 {
                return;
            }
        }
        self.fail("does not come to rest".into());
    }

    /// Goes on until nothing is due any more: each time-out brings something else about.
    fn settle(&mut self) {
        self.come_to_rest();
        self.wait(LONG, 500);
        // What is said of queues and places is said every few seconds.
        self.wait(12_000, 1_000);
        self.come_to_rest();
    }

    /// Everything that may go wrong does.
    fn disturb(&mut self) {
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
        self.note(|_| "calm".into());
    }

    fn play(&mut self) {
        self.disturb();
        if self.failure.is_some() {
            return;
        }
        self.settle();
        if self.failure.is_none() {
            self.judge_rest();
        }
        self.note(|_| "the agents end what they have".into());
        self.finishing = true;
        self.settle();
        if self.failure.is_none() {
            self.judge_rest();
        }
        if self.failure.is_none() {
            self.judge_end();
        }
    }
}

/// Plays a plan. A failure says what is wrong, the seed, and what led to it.
pub fn run(plan: &Plan) -> Result<Stats, String> {
    run_as(plan, World::play)
}

/// As [`run`], with customers who are erased.
pub fn run_with_erasure(plan: &Plan) -> Result<Stats, String> {
    run_as(plan, World::play_erasure)
}

fn run_as(plan: &Plan, play: fn(&mut World)) -> Result<Stats, String> {
    let mut world = World::new(plan.clone(), false);
    play(&mut world);
    let Some(what) = world.failure.take() else {
        world.count_wills();
        world.oracle.stats.add("conversations", world.oracle.conversations.len() as u64);
        return Ok(world.oracle.stats);
    };
    let lines = std::env::var("DESK_TRACE").ok().and_then(|lines| lines.parse().ok()).unwrap_or(STORY);
    let only = std::env::var("DESK_ONLY").unwrap_or_default();
    let mut again = World::new(plan.clone(), true);
    play(&mut again);
    let repeated = again.failure.as_ref() == Some(&what);
    let note =
        if repeated { "" } else { "\n(not the same when repeated: something depends on more than the seed)" };
    Err(format!("seed {}: {what}{note}\n{}\n{}", plan.seed, plan.rules, again.story(lines, &only)))
}
