//! Worlds of agents and customers against what must be true of every floor.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::*;
use crate::desk::assigned::{Change, Step, Weights};
use crate::desk::model::{Inputs, Scorer};

const EPOCH: u64 = 1_700_000_000_000;

fn names(all: &[&str]) -> Vec<Arc<str>> {
    all.iter().map(|name| Arc::from(*name)).collect()
}

fn opening(number: u128, group: &str) -> Opening {
    Opening {
        conversation: number,
        customer: format!("c{number}").into(),
        group: group.into(),
        priority: 0,
        skills: Vec::new(),
        language: None,
        weight: 1,
        previous: None,
        preview: "hello".into(),
        arrived: u64::MAX,
        inputs: None,
    }
}

fn ready(groups: &[&str], capacity: u16) -> Presence {
    Presence {
        show: Show::Ready,
        groups: Some(names(groups)),
        skills: None,
        languages: None,
        capacity: Some(capacity),
        bot: None,
    }
}

fn shows(show: Show) -> Presence {
    Presence { show, groups: None, skills: None, languages: None, capacity: None, bot: None }
}

/// A floor, and what was announced of it.
#[derive(Clone)]
struct World {
    floor: Floor,
    now: u64,
    /// Phase and version of each conversation, as its events say.
    told: BTreeMap<u128, (Phase, u32)>,
    /// Offers that were made and are not over, with the agent.
    open: BTreeMap<u128, (Arc<str>, u128)>,
    /// Who has each conversation, as the orders say.
    given: BTreeMap<u128, Arc<str>>,
    over: BTreeSet<u128>,
    /// Agents that were given something beyond their capacity, or whose capacity has been lowered.
    exempt: BTreeSet<Arc<str>>,
}

impl World {
    fn new(groups: &[(&str, Assigned)]) -> Self {
        let groups = groups.iter().map(|(name, settings)| ((*name).into(), Arc::new(settings.clone())));
        Self {
            floor: Floor::new(groups, 0),
            now: EPOCH,
            told: BTreeMap::new(),
            open: BTreeMap::new(),
            given: BTreeMap::new(),
            over: BTreeSet::new(),
            exempt: BTreeSet::new(),
        }
    }

    /// Takes in what has changed, and looks whether all is as it must be.
    fn check(&mut self) -> Vec<Event> {
        let changes = self.floor.take_changes();
        for event in &changes.events {
            let before = self.told.get(&event.conversation).copied().unwrap_or((Phase::New, 0));
            assert_eq!((event.from, event.ver), (before.0, before.1 + 1), "{event:?} after {before:?}");
            self.told.insert(event.conversation, (event.to, event.ver));
            if event.reason == Reason::Accepted {
                let offer =
                    self.open.iter().find(|(_, (_, of))| *of == event.conversation).map(|(id, _)| *id);
                self.open.remove(&offer.unwrap());
            }
        }
        for note in &changes.offers {
            match note.why {
                OfferWhy::Over(_) => assert!(self.open.remove(&note.offer).is_some(), "{note:?}"),
                _ => assert!(
                    self.open.insert(note.offer, (note.agent.clone(), note.conversation)).is_none(),
                    "{note:?}"
                ),
            }
        }
        for order in &changes.orders {
            match &order.what {
                Instruction::Give { agent, .. } => drop(self.given.insert(order.conversation, agent.clone())),
                Instruction::Again => assert!(self.given.contains_key(&order.conversation)),
                Instruction::Take { .. } => drop(self.given.remove(&order.conversation)),
                Instruction::Close { .. } => {
                    assert!(self.over.insert(order.conversation), "{order:?} is over twice");
                    self.given.remove(&order.conversation);
                }
            }
        }
        let mut seen = HashSet::new();
        assert!(changes.conversations.iter().all(|key| seen.insert(*key)), "dirty twice");
        self.check_floor();
        changes.events
    }

    fn check_floor(&self) {
        let floor = &self.floor;
        let mut used: HashMap<u32, u32> = HashMap::new();
        let mut queued: HashMap<u16, u32> = HashMap::new();
        for (key, c) in floor.conversations() {
            let told = self.told[&c.id];
            assert_eq!(told, (c.phase, c.ver), "{c:?}");
            for agent in [c.agent, c.offered_to()].into_iter().flatten() {
                *used.entry(agent).or_default() += u32::from(c.weight);
            }
            let has_agent =
                matches!(c.phase, Phase::Assigned | Phase::Held | Phase::Transferring | Phase::Wrapup);
            assert_eq!(c.agent.is_some(), has_agent, "{c:?}");
            let name = c.agent.map(|agent| floor.agent(agent).unwrap().name.clone());
            if c.phase != Phase::Wrapup {
                assert_eq!(self.given.get(&c.id), name.as_ref(), "{c:?}");
            }
            assert_eq!(c.offer.is_some(), self.open.values().any(|(_, of)| *of == c.id), "{c:?}");
            let waits = c.offer.is_none() && (c.phase == Phase::Queued || c.transfer.is_some());
            assert_eq!(waits, !c.spots.is_empty() || c.reserved.is_some(), "{c:?}");
            if waits {
                *queued.entry(c.queue()).or_default() += 1;
                // 6. No conversation waits while an eligible agent has room.
                for (agent, state) in floor.agents() {
                    let alone = c.reserved.is_some_and(|(for_whom, _)| for_whom != agent);
                    assert!(alone || !floor.could_take(agent, key), "{c:?} waits, and {state:?} has room");
                }
            }
            if let Some((agent, _)) = c.reserved {
                assert!(floor.agent(agent).unwrap().attends(), "{c:?} waits for nobody");
            }
        }
        for (key, agent) in floor.agents() {
            let used = used.get(&key).copied().unwrap_or(0);
            assert_eq!(agent.used, used, "{agent:?}");
            // 2. An agent's load never exceeds its capacity without an override.
            assert!(
                used <= u32::from(agent.capacity) || self.exempt.contains(&agent.name),
                "{agent:?} has too much"
            );
        }
        for group in floor.groups() {
            assert_eq!(floor.depth(group), queued.get(&group).copied().unwrap_or(0));
        }
        assert!(floor.seeking.is_empty() && floor.free.is_empty());
        assert!(floor.next_due().is_none_or(|due| due > floor.now), "something is due and was not done");
    }

    /// A process ends, and another begins with what was stored.
    fn restart(&mut self, groups: &[(&str, Assigned)]) {
        let (mut agents, mut conversations) = (Vec::new(), Vec::new());
        for (key, _) in self.floor.agents() {
            let mut record = Vec::new();
            self.floor.agent_record(key, &mut record);
            agents.push(record);
        }
        for (key, _) in self.floor.conversations() {
            let mut record = Vec::new();
            self.floor.conversation_record(key, &mut record);
            conversations.push(record);
        }
        let settings = groups.iter().map(|(name, settings)| ((*name).into(), Arc::new(settings.clone())));
        self.floor = Floor::new(settings, 1 << 32);
        for record in agents {
            self.floor.restore_agent(self.now, &record).unwrap();
        }
        for record in conversations {
            assert_eq!(self.floor.restore_conversation(self.now, &record).unwrap(), Restored::Whole);
        }
        self.open.clear();
        self.floor.tick(self.now);
        self.exempt.extend(self.floor.agents().map(|(_, agent)| agent.name.clone()));
        self.check();
    }
}

/// Something that happens in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Open(u128, usize),
    Leave(u128),
    Shows(usize, Show),
    Lost(usize),
    Will(usize),
    Accept(usize),
    Reject(usize),
    Release(usize),
    Hold(usize),
    Resume(usize),
    Complete(usize),
    ToGroup(usize, usize),
    ToAgent(usize, usize),
    PutBack(u128),
    End(u128),
    TakeOver(u128, usize),
    Drain(usize),
    Pass(u64),
    Restart,
}

struct Cast<'c> {
    groups: &'c [(&'c str, Assigned)],
    agents: &'c [(&'c str, Presence)],
}

impl World {
    fn act(&mut self, cast: &Cast<'_>, act: Act) {
        let now = self.now;
        let name = |agent: usize| -> Arc<str> { cast.agents[agent].0.into() };
        let first_held = |world: &Self, agent: usize| {
            let key = world.floor.agent_key(cast.agents[agent].0)?;
            let state = world.floor.agent(key)?;
            state.holds.iter().next().map(|key| world.floor.conversation(*key).unwrap().id)
        };
        let offered = |world: &Self, agent: usize| {
            world.open.iter().find(|(_, (to, _))| **to == *cast.agents[agent].0).map(|(offer, _)| *offer)
        };
        let say = |world: &mut Self, agent: usize, verb: Option<Verb>| {
            if let Some(verb) = verb {
                let _ = world.floor.answer(now, &Answer { agent: name(agent), verb });
            }
        };
        match act {
            Act::Open(number, group) => {
                if !self.told.contains_key(&number) {
                    let mut opening = opening(number, cast.groups[group].0);
                    opening.priority = (number % 3) as u16;
                    opening.weight = 1 + u16::from(number % 4 == 3);
                    opening.skills = names(if number % 5 == 1 { &["x"] } else { &[] });
                    opening.previous = (number % 2 == 1).then(|| name(0));
                    self.floor.open(now, opening).unwrap();
                }
            }
            Act::Leave(number) => drop(self.floor.leave(now, number)),
            Act::Shows(agent, show) => {
                let presence = Presence { show, ..cast.agents[agent].1.clone() };
                self.floor.presence(now, cast.agents[agent].0, &presence, Some(agent as u64)).unwrap();
            }
            Act::Will(agent) => {
                self.floor.presence(now, cast.agents[agent].0, &shows(Show::Offline), None).unwrap();
            }
            Act::Lost(agent) => self.floor.lost(now, cast.agents[agent].0, agent as u64),
            Act::Accept(agent) => say(self, agent, offered(self, agent).map(Verb::Accept)),
            Act::Reject(agent) => say(self, agent, offered(self, agent).map(Verb::Reject)),
            Act::Release(agent) => say(self, agent, first_held(self, agent).map(Verb::Release)),
            Act::Hold(agent) => say(self, agent, first_held(self, agent).map(Verb::Hold)),
            Act::Resume(agent) => say(self, agent, first_held(self, agent).map(Verb::Resume)),
            Act::Complete(agent) => say(self, agent, first_held(self, agent).map(Verb::Complete)),
            Act::ToGroup(agent, group) => {
                let to = Destination::Group(cast.groups[group].0.into());
                say(self, agent, first_held(self, agent).map(|held| Verb::Transfer(held, to)));
            }
            Act::ToAgent(agent, other) => {
                let to = Destination::Agent(name(other));
                say(self, agent, first_held(self, agent).map(|held| Verb::Transfer(held, to)));
            }
            Act::PutBack(number) => drop(self.floor.put_back(now, number)),
            Act::End(number) => drop(self.floor.end(now, number)),
            Act::TakeOver(number, agent) => {
                if self.floor.take_over(now, number, cast.agents[agent].0, true).is_ok() {
                    self.exempt.insert(name(agent));
                }
            }
            Act::Drain(agent) => drop(self.floor.drain_agent(now, cast.agents[agent].0)),
            Act::Pass(ms) => {
                self.now += ms;
                self.floor.tick(self.now);
            }
            Act::Restart => return self.restart(cast.groups),
        }
        self.check();
    }
}

fn settings() -> Assigned {
    Assigned {
        wrapup_ms: 5_000,
        max_wait_ms: 600_000,
        steps: vec![
            Step { after_ms: 30_000, change: Change::DropSkill("x".into()) },
            Step { after_ms: 60_000, change: Change::Raise(5) },
        ],
        ..Assigned::default()
    }
}

fn random_act(rng: &mut fastrand::Rng, cast: &Cast<'_>, conversations: u128) -> Act {
    let (agents, groups) = (cast.agents.len(), cast.groups.len());
    let (agent, group) = (rng.usize(..agents), rng.usize(..groups));
    let number = rng.u128(1..=conversations);
    match rng.u8(..40) {
        0..=7 => Act::Open(number, group),
        8 => Act::Leave(number),
        9..=12 => Act::Shows(agent, Show::Ready),
        13 => Act::Shows(
            agent,
            *[Show::Away, Show::Busy, Show::Wrapup, Show::Offline].get(rng.usize(..4)).unwrap(),
        ),
        14 => Act::Lost(agent),
        15 => Act::Will(agent),
        16..=20 => Act::Accept(agent),
        21..=22 => Act::Reject(agent),
        23 => Act::Release(agent),
        24 => Act::Hold(agent),
        25 => Act::Resume(agent),
        26..=29 => Act::Complete(agent),
        30 => Act::ToGroup(agent, group),
        31 => Act::ToAgent(agent, rng.usize(..agents)),
        32 => Act::PutBack(number),
        33 => Act::End(number),
        34 => Act::TakeOver(number, agent),
        35 if rng.u8(..4) == 0 => Act::Restart,
        36 => Act::Drain(agent),
        _ => Act::Pass(*[100, 1_000, 10_000, 30_000, 61_000].get(rng.usize(..5)).unwrap()),
    }
}

#[test]
fn whatever_happens_the_invariants_hold() {
    let care = settings();
    let auto = Assigned { auto_accept: true, sticky_ms: 0, ..Assigned::default() };
    let ladder = Assigned {
        steps: vec![
            Step { after_ms: 10_000, change: Change::AddGroup("care".into()) },
            Step { after_ms: 90_000, change: Change::MoveTo("auto".into()) },
        ],
        ..Assigned::default()
    };
    let groups = [("care", care), ("auto", auto), ("ladder", ladder)];
    let mut skilled = ready(&["care", "ladder"], 3);
    skilled.skills = Some(vec![("x".into(), 4)]);
    let agents = [
        ("anna", skilled),
        ("ben", ready(&["care"], 1)),
        ("cleo", ready(&["auto", "care"], 2)),
        ("dora", ready(&["ladder", "auto"], 2)),
    ];
    let cast = Cast { groups: &groups, agents: &agents };
    let seeds = std::env::var("FLOOR_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150_u64);
    for seed in 0..seeds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(&groups);
        let mut acts = Vec::new();
        for _ in 0..200 {
            acts.push(random_act(&mut rng, &cast, 40));
            let act = *acts.last().unwrap();
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.act(&cast, act)));
            if let Err(panic) = played {
                println!("seed {seed}: {acts:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl World {
    /// What tells worlds apart: all moments as they lie from now.
    fn fingerprint(&self) -> u64 {
        let now = i64::try_from(self.now).unwrap();
        let from_now = |at: u64| {
            if at == u64::MAX { None } else { Some((i64::try_from(at).unwrap() - now).max(-700_000)) }
        };
        let conversations: Vec<_> = self
            .floor
            .conversations()
            .map(|(_, c)| {
                let refused: Vec<_> = c.refused.iter().map(|r| (r.agent, from_now(r.until))).collect();
                let times =
                    (from_now(c.arrived), from_now(c.queued_at), from_now(c.due), from_now(c.orphan_at));
                let offer = c.offer.map(|offer| (offer.agent, from_now(offer.deadline)));
                (
                    c.id,
                    c.phase,
                    c.group,
                    c.agent,
                    offer,
                    c.transfer,
                    c.reserved.map(|r| r.0),
                    refused,
                    times,
                    c.step,
                )
            })
            .collect();
        let agents: Vec<_> = self
            .floor
            .agents()
            .map(|(_, a)| {
                let times = (a.lost_at.and_then(from_now), from_now(a.idle_since), from_now(a.due));
                (a.name.clone(), a.declared, a.aside, a.used, a.link, a.lapses, times)
            })
            .collect();
        let over: Vec<_> = self.over.iter().collect();
        let text = format!("{conversations:?}{agents:?}{over:?}");
        ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(text)
    }
}

/// Two agents, two groups, three conversations, and everything that can happen to them, so many acts deep.
#[test]
fn every_small_world_holds_the_invariants() {
    let quick = Assigned {
        offer_ms: 20_000,
        grace_ms: 30_000,
        reject_ms: 40_000,
        sticky_ms: 20_000,
        wrapup_ms: 20_000,
        lapses: 1,
        ..Assigned::default()
    };
    let groups = [("a", quick.clone()), ("b", Assigned { wrapup_ms: 0, ..quick })];
    let agents = [("ann", ready(&["a"], 2)), ("bob", ready(&["a", "b"], 1))];
    let cast = Cast { groups: &groups, agents: &agents };
    let mut acts = vec![Act::Pass(20_000), Act::Restart];
    for agent in 0..2 {
        acts.extend([
            Act::Shows(agent, Show::Ready),
            Act::Shows(agent, Show::Away),
            Act::Drain(agent),
            Act::Lost(agent),
            Act::Will(agent),
            Act::Accept(agent),
            Act::Reject(agent),
            Act::Release(agent),
            Act::Hold(agent),
            Act::Resume(agent),
            Act::Complete(agent),
            Act::ToGroup(agent, 1),
            Act::ToAgent(agent, 1 - agent),
        ]);
    }
    for number in 1..=3 {
        acts.extend([Act::Open(number, (number % 2) as usize), Act::Leave(number), Act::TakeOver(number, 0)]);
    }
    let depth = std::env::var("FLOOR_DEPTH").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let mut start = World::new(&groups);
    for act in [Act::Shows(0, Show::Ready), Act::Open(1, 0), Act::Open(2, 1)] {
        start.act(&cast, act);
    }
    let mut seen = HashSet::from([start.fingerprint()]);
    let mut worlds = vec![start];
    for level in 0..depth {
        let mut next = Vec::new();
        for world in &worlds {
            for act in &acts {
                let mut after = world.clone();
                after.act(&cast, *act);
                if seen.insert(after.fingerprint()) {
                    next.push(after);
                }
            }
        }
        println!("{} worlds after {} acts", next.len(), level + 1);
        worlds = next;
    }
    assert!(seen.len() > 1_000, "{} worlds", seen.len());
}

/// Two splits: by the size of the message, and by how idle the agent is or how many years the customer has.
const MODEL: &str = r#"{"version":[3,2,0],"learner":{"objective":{"name":"binary:logistic"},
    "learner_model_param":{"base_score":"[5E-1]","num_feature":"4"},
    "gradient_booster":{"name":"gbtree","model":{"gbtree_model_param":{"num_trees":"2"},"tree_info":[0,0],"trees":[
    {"tree_param":{"num_nodes":"5"},"left_children":[1,3,-1,-1,-1],"right_children":[2,4,-1,-1,-1],
    "split_indices":[0,1,0,0,0],"split_conditions":[50,400,0.3,-1.5,1.5],"default_left":[1,0,0,0,0],"split_type":[0,0,0,0,0]},
    {"tree_param":{"num_nodes":"5"},"left_children":[1,3,-1,-1,-1],"right_children":[2,4,-1,-1,-1],
    "split_indices":[2,3,0,0,0],"split_conditions":[40,0.6,-0.7,0.9,-0.4],"default_left":[0,0,0,0,0],"split_type":[0,0,0,0,0]}
    ]}}}}"#;

fn scorer() -> Arc<Scorer> {
    let features = ["message.size", "agent.idle_s", "customer.age", "agent.spare"];
    let features = features.map(|name| name.parse().unwrap()).to_vec();
    Arc::new(Scorer::parse(MODEL.as_bytes(), features).unwrap())
}

fn inputs(rng: &mut fastrand::Rng) -> Inputs {
    let age = rng.bool().then(|| f32::from(rng.u8(..90)));
    Inputs { size: Some(rng.u32(..100)), length: None, hour: 9, weekday: 1, customer: Box::new([age]) }
}

/// All agents of a floor by the whole formula, each looked at; the best first.
fn all_by_formula(floor: &Floor, opening: &Opening) -> Vec<(i64, Arc<str>)> {
    let weights = floor.queues[0].settings.weights;
    let able = floor.agents().filter(|(_, agent)| agent.has_room(1) && agent.has_skills(&opening.skills));
    let mut all: Vec<_> = able
        .map(|(_, agent)| {
            let fit = agent.fit(&opening.skills, opening.language.as_deref());
            let idle_ms = floor.now - agent.idle_since;
            let known = opening.previous.as_ref() == Some(&agent.name);
            let model = floor.queues[0].settings.scorer.as_ref().map_or(0, |scorer| {
                let inputs = opening.inputs.as_ref().unwrap();
                let score = scorer.score(&crate::desk::Features {
                    message_size: inputs.size.map(|size| size as f32),
                    agent_idle_s: Some(idle_ms as f32 / 1000.0),
                    agent_spare: Some(fit.spare.0 as f32 / fit.spare.1 as f32),
                    customer: &inputs.customer,
                    ..crate::desk::Features::default()
                });
                (f64::from(weights.model) * 1000.0 * f64::from(score)).round() as i64
            });
            let fixed = fit.terms(&weights).iter().sum::<i64>()
                + model
                + i64::from(weights.affinity) * 1000 * i64::from(known);
            let gained = i64::from(weights.idle) * 1000 * idle_ms.min(weights.idle_full_ms) as i64;
            let whole = weights.idle_full_ms as i64;
            (-(fixed * whole + gained), agent.idle_since, agent.name.clone(), fixed + gained / whole)
        })
        .collect();
    all.sort();
    all.into_iter().map(|(_, _, name, score)| (score, name)).collect()
}

/// Whoever is asked is whom the formula says, found by looking through all; with a model, too, while there are no more
/// agents than are asked about.
#[test]
fn the_one_who_is_asked_is_the_best_of_all() {
    let plain = Assigned { sticky_ms: 0, ..Assigned::default() };
    let weights = Weights { model: 150, ..Weights::default() };
    let model = Assigned { weights, scorer: Some(scorer()), ..plain.clone() };
    for (care, most) in [(plain, 30), (model, scoring::ASKED)] {
        let mut asked = 0;
        for seed in 0..60 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut world = World::new(&[("care", care.clone())]);
            for agent in 0..rng.usize(1..=most) {
                let mut presence = ready(&["care"], rng.u16(1..4));
                let skill = |name: &str, rng: &mut fastrand::Rng| (Arc::from(name), rng.u8(1..=5));
                presence.skills = Some(vec![skill("x", &mut rng), skill("y", &mut rng)]);
                presence.languages = Some(if rng.bool() { names(&["de"]) } else { Vec::new() });
                let name = format!("a{agent}");
                world.floor.presence(world.now, &name, &presence, Some(agent as u64)).unwrap();
                world.now += rng.u64(0..200_000);
            }
            for number in 1..80 {
                let mut opening = opening(number, "care");
                opening.skills = names(rng.choice([&[][..], &["x"], &["x", "y"]].iter()).unwrap());
                opening.language = rng.bool().then(|| "de".into());
                opening.previous = rng.bool().then(|| format!("a{}", rng.u8(..30)).into());
                opening.inputs = care.scorer.is_some().then(|| inputs(&mut rng).into());
                world.floor.tick(world.now);
                world.check();
                let best = all_by_formula(&world.floor, &opening);
                let prospect = world.floor.prospect(&opening, 100).unwrap();
                let told: Vec<_> =
                    prospect.candidates.iter().map(|one| (one.score, one.agent.clone())).collect();
                assert_eq!(told, best, "seed {seed}, {number}");
                for one in &prospect.candidates {
                    assert_eq!(one.terms.iter().map(|term| term.points).sum::<i64>(), one.score);
                }
                world.floor.open(world.now, opening).unwrap();
                let key = world.floor.key_of(number).unwrap();
                let offer = world.floor.conversation(key).unwrap().offer;
                let agent =
                    offer.map(|offer| (offer.score, world.floor.agent(offer.agent).unwrap().name.clone()));
                assert_eq!(agent, best.first().cloned(), "seed {seed}, {number}: {best:?}");
                let position = world.floor.standing(key).unwrap().position;
                assert_eq!(position, Some(prospect.position));
                asked += usize::from(offer.is_some());
                world.check();
                world.now += rng.u64(0..30_000);
            }
        }
        assert!(asked > 400, "{asked}");
    }
}

/// However many agents have room, a model is asked about a few of them.
#[test]
fn a_model_is_asked_about_a_bounded_number_of_agents() {
    let weights = Weights { model: 1000, ..Weights::default() };
    let scorer = scorer();
    let care = Assigned { sticky_ms: 0, weights, scorer: Some(scorer), ..Assigned::default() };
    let unweighted = Assigned { weights: Weights { model: 0, ..weights }, sticky_ms: 0, ..care.clone() };
    let evaluated = || scoring::EVALUATED.with(|count| count.replace(0));
    for (care, most) in [(care, scoring::ASKED + 1), (unweighted, 0)] {
        let mut world = World::new(&[("care", care)]);
        for agent in 0..200 {
            world.floor.presence(world.now, &format!("a{agent}"), &ready(&["care"], 1), Some(agent)).unwrap();
            world.now += 1_000;
        }
        world.check();
        evaluated();
        let mut rng = fastrand::Rng::with_seed(1);
        for number in 1..=200 {
            let mut opening = opening(number, "care");
            opening.previous = Some("a150".into());
            opening.inputs = Some(inputs(&mut rng).into());
            world.floor.open(world.now, opening).unwrap();
            let count = evaluated();
            assert!(count <= most && (number > 1 || count == most), "{number}: {count}");
            world.check();
            world.now += 10;
        }
        // One who takes the head of a line is only scored for it.
        let mut opening = opening(201, "care");
        opening.inputs = Some(inputs(&mut rng).into());
        world.floor.open(world.now, opening).unwrap();
        world.floor.leave(world.now, 1).unwrap();
        assert_eq!(evaluated(), usize::from(most > 0));
        world.check();
    }
}

#[test]
fn what_a_model_is_told_survives_a_restart() {
    let weights = Weights { model: 500, ..Weights::default() };
    let care = Assigned { weights, scorer: Some(scorer()), ..Assigned::default() };
    let groups = [("care", care)];
    let mut world = World::new(&groups);
    let mut rng = fastrand::Rng::with_seed(7);
    for number in 1..20 {
        let mut opening = opening(number, "care");
        opening.inputs = Some(inputs(&mut rng).into());
        world.floor.open(world.now, opening).unwrap();
    }
    world.check();
    let told = |world: &World| -> BTreeMap<u128, Inputs> {
        world.floor.conversations().map(|(_, c)| (c.id, *c.inputs.clone().unwrap())).collect()
    };
    let before = told(&world);
    world.restart(&groups);
    assert_eq!(told(&world), before);
    // Another file has no model: nothing is lost but what it would have been told of the customer.
    world.restart(&[("care", Assigned::default())]);
    assert!(told(&world).values().all(|inputs| inputs.customer.is_empty() && inputs.size.is_some()));
}

#[test]
fn the_longest_rank_is_served_first() {
    let care = Assigned { sticky_ms: 0, ..settings() };
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(&[("care", care.clone())]);
        for number in 1..60 {
            let mut opening = opening(number, "care");
            opening.priority = rng.u16(..4);
            opening.skills = names(rng.choice([&[][..], &["y"], &["z"]].iter()).unwrap());
            world.floor.open(world.now, opening).unwrap();
            world.now += rng.u64(0..8_000);
        }
        world.floor.tick(world.now);
        world.check();
        let mut waiting: Vec<(i64, u64, u128)> = world
            .floor
            .conversations()
            .filter(|(_, c)| !c.skills.contains(&"z".into()))
            .map(|(key, c)| (-world.floor.rank(key).unwrap(), c.arrived, c.id))
            .collect();
        waiting.sort_unstable();
        for (position, (_, _, id)) in waiting.iter().enumerate() {
            let place = world.floor.standing(world.floor.key_of(*id).unwrap()).unwrap();
            assert!(place.position.unwrap() > position, "{place:?} at {position}");
        }
        let mut presence = ready(&["care"], 10);
        presence.skills = Some(vec![("y".into(), 1)]);
        world.floor.presence(world.now, "anna", &presence, Some(1)).unwrap();
        let anna = world.floor.agent_key("anna").unwrap();
        let mut served: Vec<u128> = world.floor.load(anna).map(|c| c.id).collect();
        served.sort_unstable();
        let mut first: Vec<u128> = waiting.iter().take(10).map(|(_, _, id)| *id).collect();
        first.sort_unstable();
        assert_eq!(served, first, "seed {seed}");
    }
}

#[test]
fn who_is_drained_takes_nothing_new_until_it_is_ready_again() {
    let groups = [("care", Assigned { reject_ms: 0, ..settings() })];
    let mut world = World::new(&groups);
    assert_eq!(world.floor.drain_agent(world.now, "anna"), Err(Wrong::NoAgent));
    world.floor.presence(world.now, "anna", &ready(&["care"], 3), Some(1)).unwrap();
    let anna = world.floor.agent_key("anna").unwrap();
    for (number, previous) in [(1, None), (2, None)] {
        world.floor.open(world.now, Opening { previous, ..opening(number, "care") }).unwrap();
    }
    world.check();
    let offer = world.open.iter().find(|(_, (_, of))| *of == 1).map(|(id, _)| *id).unwrap();
    let accept = Answer { agent: "anna".into(), verb: Verb::Accept(offer) };
    world.floor.answer(world.now, &accept).unwrap();
    world.check();
    world.floor.drain_agent(world.now, "anna").unwrap();
    let events = world.check();
    let withdrawn = |e: &Event| (e.conversation, e.to, e.reason) == (2, Phase::Queued, Reason::Withdrawn);
    assert!(events.iter().any(withdrawn) && world.open.is_empty(), "{events:?}");
    assert_eq!((world.floor.shows(anna), world.floor.load(anna).count()), (Show::Away, 1));
    world.floor.drain_agent(world.now, "anna").unwrap();
    assert!(world.floor.take_changes().is_empty(), "the same again changes nothing");
    // One that waits for her alone does not either.
    let previous = Some("anna".into());
    world.floor.open(world.now, Opening { previous, ..opening(3, "care") }).unwrap();
    world.check();
    assert_eq!(world.floor.depth(0), 2);
    let transfer = Destination::Agent("anna".into());
    world.floor.presence(world.now, "ben", &ready(&["care"], 1), Some(2)).unwrap();
    world.check();
    let ben = world.floor.agent_key("ben").unwrap();
    let held = world.open.iter().next().map(|(id, (_, of))| (*id, *of)).unwrap();
    world.floor.answer(world.now, &Answer { agent: "ben".into(), verb: Verb::Accept(held.0) }).unwrap();
    let hand_over = Answer { agent: "ben".into(), verb: Verb::Transfer(held.1, transfer) };
    assert_eq!(world.floor.answer(world.now, &hand_over), Err(Wrong::AgentBusy));
    world.check();
    assert_eq!(world.floor.load(ben).count(), 1);
    world.restart(&groups);
    let anna = world.floor.agent_key("anna").unwrap();
    assert!(world.floor.agent(anna).unwrap().aside, "over a restart, too");
    world.floor.presence(world.now, "anna", &shows(Show::Busy), Some(3)).unwrap();
    world.floor.presence(world.now, "anna", &shows(Show::Ready), Some(3)).unwrap();
    world.check();
    assert_eq!((world.floor.shows(anna), world.floor.load(anna).count()), (Show::Ready, 2));
}

#[test]
fn a_group_that_is_drained_says_so_and_its_queue_is_served() {
    let mut world = World::new(&[("care", settings()), ("shop", settings())]);
    assert_eq!(world.floor.drain_group(world.now, "none", true), Err(Wrong::NoGroup));
    world.floor.open(world.now, opening(1, "care")).unwrap();
    world.check();
    world.floor.drain_group(world.now, "care", true).unwrap();
    world.floor.drain_group(world.now, "care", true).unwrap();
    let changes = world.floor.take_changes();
    assert_eq!((changes.drained, changes.groups), (vec![("care".into(), true)], vec![0]));
    let shown = |floor: &Floor| {
        let prospects = ["care", "shop"].map(|group| floor.prospect(&opening(9, group), 1).unwrap().drained);
        let queues = [0, 1].map(|place| floor.queue(place).unwrap().drained);
        assert_eq!(queues, prospects);
        queues
    };
    assert_eq!(shown(&world.floor), [true, false]);
    world.floor.presence(world.now, "anna", &ready(&["care"], 1), Some(1)).unwrap();
    world.check();
    assert_eq!(world.open.len(), 1, "what waits is offered");
    world.floor.drain_group(world.now, "care", false).unwrap();
    assert_eq!(world.floor.take_changes().drained, [("care".into(), false)]);
    assert_eq!(shown(&world.floor), [false, false]);
    assert!(world.floor.restore_drained("shop") && !world.floor.restore_drained("none"));
    assert_eq!(shown(&world.floor), [false, true]);
}

#[test]
fn who_is_gone_makes_room_for_somebody_new() {
    let mut world = World::new(&[("care", settings())]);
    let presence = |world: &mut World, agent: u64, said: &Presence, link| {
        let told = world.floor.presence(world.now, &format!("a{agent}"), said, link);
        world.now += 10;
        told
    };
    for agent in 0..300 {
        presence(&mut world, agent, &ready(&["care"], 1), Some(agent)).unwrap();
    }
    assert_eq!(presence(&mut world, 300, &ready(&["care"], 1), Some(300)), Err(Wrong::TooMany));
    world.floor.open(world.now, opening(1, "care")).unwrap();
    world.check();
    presence(&mut world, 3, &shows(Show::Offline), Some(3)).unwrap();
    presence(&mut world, 300, &ready(&["care"], 1), Some(300)).unwrap();
    let changes = world.floor.take_changes();
    assert_eq!(changes.forgotten, ["a3".into()]);
    assert!(world.floor.agent_key("a3").is_none() && world.floor.agent_key("a300").is_some());
    assert_eq!(world.floor.queue(0).unwrap().agents.iter().sum::<u32>(), 300);
    world.check_floor();
}
