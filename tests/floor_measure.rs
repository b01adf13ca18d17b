//! What a decision on the floor costs while more and more conversations wait:
//! `cargo test --release --test floor_measure -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "figures for people")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard::desk::{
    Answer, Assigned, Floor, OfferWhy, Opening, Order, Presence, Scorer, Show, Verb, Weights,
};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EPOCH: u64 = 1_700_000_000_000;
const AGENTS: u64 = 10_000;
const BATCHES: usize = 80;
const BATCH: u32 = 200;
const LANGUAGES: [&str; 3] = ["de", "en", "fr"];

/// `care`: everybody has their hands full and conversations wait. `shop`: nobody waits and everybody has room.
struct World {
    floor: Floor,
    now: u64,
    number: u128,
    rng: fastrand::Rng,
}

impl World {
    fn new(waiting: u32, scorer: Option<Arc<Scorer>>) -> Self {
        // Nobody becomes urgent while it is measured: all stand in one list for each kind of conversation.
        let order = Order { target_ms: 24 * 3_600_000, ..Order::default() };
        let care = Assigned { order, max_queue: 10_000_000, ..Assigned::default() };
        let weights = Weights { model: 100, ..Weights::default() };
        let shop = Assigned { scorer, weights, ..care.clone() };
        let groups = [("care".into(), Arc::new(care)), ("shop".into(), Arc::new(shop))];
        let mut world = Self {
            floor: Floor::new(groups, 0),
            now: EPOCH,
            number: 0,
            rng: fastrand::Rng::with_seed(u64::from(waiting)),
        };
        for group in ["care", "shop"] {
            for agent in 0..AGENTS {
                world.enters(group, agent);
            }
        }
        for _ in 0..AGENTS {
            world.open("care", 0);
            world.accept();
        }
        for _ in 0..waiting {
            let age = world.rng.u64(..3_600_000);
            world.open("care", age);
            world.floor.take_changes();
        }
        assert_eq!(world.floor.depth(0), waiting);
        world
    }

    fn enters(&mut self, group: &str, number: u64) {
        let mut level = || self.rng.u8(1..=5);
        let presence = Presence {
            show: Show::Ready,
            groups: Some(vec![group.into()]),
            skills: Some(vec![("x".into(), level()), ("y".into(), level())]),
            languages: Some(vec![(*self.rng.choice(LANGUAGES.iter()).unwrap()).into()]),
            capacity: Some(if group == "care" { 1 } else { 100 }),
            bot: None,
        };
        self.now += 50;
        self.floor.presence(self.now, &format!("{group}-{number}"), &presence, Some(number)).unwrap();
        self.floor.take_changes();
    }

    fn opening(&mut self, group: &str, age: u64) -> Opening {
        self.number += 1;
        let skills = *self.rng.choice([&[][..], &["x"], &["x", "y"]].iter()).unwrap();
        Opening {
            // As far apart as the random half of a ULID makes them.
            conversation: u128::from(self.now) << 80 | self.rng.u128(..) >> 48,
            customer: format!("customer-{}", self.number).into(),
            group: group.into(),
            // Worth up to an hour: it comes to stand anywhere.
            priority: self.rng.u16(..60),
            skills: skills.iter().map(|skill| Arc::from(*skill)).collect(),
            language: Some((*self.rng.choice(LANGUAGES.iter()).unwrap()).into()),
            weight: 1,
            previous: None,
            preview: "hello".into(),
            arrived: self.now - age,
            inputs: Some(Box::default()),
        }
    }

    fn open(&mut self, group: &str, age: u64) -> u128 {
        let opening = self.opening(group, age);
        let id = opening.conversation;
        self.floor.open(self.now, opening).unwrap();
        id
    }

    /// Accepts the offer that was made; its conversation, and who has it.
    fn accept(&mut self) -> (u128, Arc<str>) {
        let changes = self.floor.take_changes();
        let note = changes.offers.iter().find(|note| !matches!(note.why, OfferWhy::Over(_))).unwrap();
        let answer = Answer { agent: note.agent.clone(), verb: Verb::Accept(note.offer) };
        self.floor.answer(self.now, &answer).unwrap();
        self.floor.take_changes();
        (note.conversation, note.agent.clone())
    }

    /// a: a conversation is opened while nobody has room. It leaves again unmeasured.
    fn opened(&mut self) -> Duration {
        self.now += 1;
        let opening = self.opening("care", 0);
        let id = opening.conversation;
        let begun = Instant::now();
        self.floor.open(self.now, opening).unwrap();
        black_box(self.floor.take_changes());
        let took = begun.elapsed();
        self.floor.leave(self.now, id).unwrap();
        self.floor.take_changes();
        took
    }

    /// b: an agent completes one, is offered the next, and accepts it. Another one comes for it unmeasured.
    fn completed(&mut self, held: &mut [(u128, Arc<str>)]) -> Duration {
        self.now += 1;
        let at = self.rng.usize(..held.len());
        let (conversation, agent) = held[at].clone();
        let begun = Instant::now();
        let answer = Answer { agent, verb: Verb::Complete(conversation) };
        self.floor.answer(self.now, &answer).unwrap();
        let next = self.accept();
        let took = begun.elapsed();
        held[at] = next;
        let age = self.rng.u64(..3_600_000);
        self.open("care", age);
        self.floor.take_changes();
        took
    }

    /// c: a conversation is opened while 10,000 agents have room.
    fn chosen(&mut self) -> Duration {
        self.now += 1;
        let opening = self.opening("shop", 0);
        let begun = Instant::now();
        self.floor.open(self.now, opening).unwrap();
        let (id, agent) = self.accept();
        let took = begun.elapsed();
        self.floor.answer(self.now, &Answer { agent, verb: Verb::Complete(id) }).unwrap();
        self.floor.take_changes();
        took
    }

    /// d: where a customer stands.
    fn placed(&mut self, waiting: &[u32]) -> Duration {
        let key = waiting[self.rng.usize(..waiting.len())];
        let begun = Instant::now();
        assert!(black_box(self.floor.standing(key)).unwrap().position.is_some());
        begun.elapsed()
    }
}

/// A model of 100 full trees of depth 6.
fn scorer() -> Arc<Scorer> {
    let sources =
        ["agent.idle_s", "agent.used", "agent.spare", "agent.skill"].map(|name| name.parse().unwrap());
    let mut rng = fastrand::Rng::with_seed(1);
    let list = |of: &mut dyn FnMut(usize) -> String| (0..127).map(of).collect::<Vec<_>>().join(",");
    let mut tree = || {
        format!(
            r#"{{"tree_param":{{"num_nodes":"127"}},"left_children":[{}],"right_children":[{}],"split_indices":[{}],
            "split_conditions":[{}],"default_left":[{zero}],"split_type":[{zero}]}}"#,
            list(&mut |node| if node < 63 { (2 * node + 1).to_string() } else { "-1".into() }),
            list(&mut |node| if node < 63 { (2 * node + 2).to_string() } else { "-1".into() }),
            list(&mut |_| rng.u32(..4).to_string()),
            list(&mut |node| (node as f32 / 100.0 - 0.5).to_string()),
            zero = list(&mut |_| "0".into()),
        )
    };
    let trees = (0..100).map(|_| tree()).collect::<Vec<_>>().join(",");
    let text = format!(
        r#"{{"version":[3,2,0],"learner":{{"objective":{{"name":"binary:logistic"}},
        "learner_model_param":{{"base_score":"[5E-1]","num_feature":"4"}},
        "gradient_booster":{{"name":"gbtree","model":{{"gbtree_model_param":{{"num_trees":"100"}},
        "tree_info":[{}],"trees":[{trees}]}}}}}}}}"#,
        ["0"; 100].join(",")
    );
    Arc::new(Scorer::parse(text.as_bytes(), sources.to_vec()).unwrap())
}

/// The mean that a quarter of the batches do not exceed, in microseconds: others use this machine too.
fn quarter_us(mut one: impl FnMut() -> Duration) -> f64 {
    let mut means: Vec<f64> = (0..BATCHES)
        .map(|_| (0..BATCH).map(|_| one()).sum::<Duration>().as_nanos() as f64 / f64::from(BATCH) / 1000.0)
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    means[BATCHES / 4]
}

#[test]
#[ignore = "measures: cargo test --release --test floor_measure -- --ignored --nocapture"]
fn what_a_decision_costs() {
    let kinds = ["opened, nobody has room", "completed, given the next", "opened, all have room", "position"];
    let mut all = Vec::new();
    for waiting in [1_000, 10_000, 100_000, 1_000_000] {
        let mut world = World::new(waiting, None);
        let of = |world: &World, queued: bool| -> Vec<u32> {
            let all = world.floor.conversations();
            all.filter(|(_, c)| c.agent.is_none() == queued).map(|(key, _)| key).collect()
        };
        let name = |c: &switchboard::desk::Conversation| {
            (c.id, world.floor.agent(c.agent.unwrap()).unwrap().name.clone())
        };
        let held = of(&world, false).into_iter();
        let mut held: Vec<_> = held.map(|key| name(world.floor.conversation(key).unwrap())).collect();
        let opened = quarter_us(|| world.opened());
        let completed = quarter_us(|| world.completed(&mut held));
        let chosen = quarter_us(|| world.chosen());
        let queued = of(&world, true);
        let placed = quarter_us(|| world.placed(&queued));
        println!("{waiting:>9} wait: {opened:.2} / {completed:.2} / {chosen:.2} / {placed:.2} µs");
        all.push([opened, completed, chosen, placed]);
    }
    let mut world = World::new(1_000, Some(scorer()));
    println!("opened, all have room, with a model: {:.2} µs", quarter_us(|| world.chosen()));
    for (kind, name) in kinds.iter().enumerate() {
        let (first, last) = (all[0][kind], all[3][kind]);
        println!("{name}: {first:.2} µs at 1,000, {last:.2} µs at 1,000,000: {:.2} times", last / first);
        // What a customer is told of its place is no decision.
        if *name != "position" {
            assert!(last <= 3.0 * first, "{name}: {:.2} times", last / first);
        }
    }
}
