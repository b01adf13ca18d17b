//! The floor as a queue, in virtual time: what theory says of a plain contact centre must come out of it.
//!
//! Arrivals and handling times are exponential, every agent takes one conversation and every offer is accepted at once:
//! that is Erlang's C. `ERLANG=600000` plays as many conversations.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use switchboard::desk::{Answer, Assigned, Floor, Opening, Phase, Presence, Show, Verb};

const EPOCH: u64 = 1_700_000_000_000;

/// The probability that a customer has to wait, of `agents` under a load of so many Erlang.
fn erlang_c(agents: u32, load: f64) -> f64 {
    let blocked = (1..=agents).fold(1.0, |b, n| load * b / (f64::from(n) + load * b));
    let part = load / f64::from(agents);
    blocked / (1.0 - part + part * blocked)
}

#[test]
fn erlang_c_is_what_the_tables_say() {
    // Load and servers with the probability of waiting, from tables of teletraffic theory.
    for (agents, load, expected) in
        [(1, 0.5, 0.5), (2, 1.0, 1.0 / 3.0), (10, 8.0, 0.4092), (100, 90.0, 0.2169)]
    {
        let found = erlang_c(agents, load);
        assert!((found - expected).abs() < 5e-4, "{agents} {load}: {found}");
    }
}

/// What happens next.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Arrival,
    Done(u128),
}

struct Centre {
    floor: Floor,
    rng: fastrand::Rng,
    events: BinaryHeap<Reverse<(u64, Next)>>,
    arrived: HashMap<u128, u64>,
    holder: HashMap<u128, Arc<str>>,
    waits: Vec<u64>,
    handling_ms: f64,
}

impl Centre {
    fn exponential(&mut self, mean_ms: f64) -> u64 {
        // Never the logarithm of zero.
        (-(1.0 - self.rng.f64()).ln() * mean_ms).round() as u64
    }

    /// Accepts what is offered, and notes what that ends.
    fn accept_all(&mut self, now: u64) {
        loop {
            let changes = self.floor.take_changes();
            let offers: Vec<_> = changes.offers.iter().map(|note| (note.agent.clone(), note.offer)).collect();
            for event in changes.events.iter().filter(|event| event.to == Phase::Assigned) {
                self.waits.push(now - self.arrived[&event.conversation]);
                self.holder.insert(event.conversation, event.agent.clone().unwrap());
                let handling = self.exponential(self.handling_ms);
                self.events.push(Reverse((now + handling, Next::Done(event.conversation))));
            }
            if offers.is_empty() {
                return;
            }
            for (agent, offer) in offers {
                self.floor.answer(now, &Answer { agent, verb: Verb::Accept(offer) }).unwrap();
            }
        }
    }
}

/// Plays so many conversations; their waits in milliseconds, in the order in which they ended.
fn play(agents: u32, load: f64, conversations: u128, seed: u64) -> Vec<u64> {
    let care = Assigned { sticky_ms: 0, max_queue: u32::MAX, ..Assigned::default() };
    let handling_ms = 300_000.0;
    let mut centre = Centre {
        floor: Floor::new([("care".into(), Arc::new(care))], 0),
        rng: fastrand::Rng::with_seed(seed),
        events: BinaryHeap::from([Reverse((EPOCH, Next::Arrival))]),
        arrived: HashMap::new(),
        holder: HashMap::new(),
        waits: Vec::new(),
        handling_ms,
    };
    for agent in 0..agents {
        let presence = Presence {
            show: Show::Ready,
            groups: Some(vec!["care".into()]),
            skills: None,
            languages: None,
            capacity: Some(1),
            bot: None,
        };
        centre.floor.presence(EPOCH, &format!("a{agent}"), &presence, Some(u64::from(agent))).unwrap();
    }
    let mut next = 0;
    while let Some(Reverse((now, what))) = centre.events.pop() {
        match what {
            Next::Arrival if next < conversations => {
                next += 1;
                centre.arrived.insert(next, now);
                let opening = Opening {
                    conversation: next,
                    customer: format!("c{next}").into(),
                    group: "care".into(),
                    priority: 0,
                    skills: Vec::new(),
                    language: None,
                    weight: 1,
                    previous: None,
                    preview: "".into(),
                    arrived: now,
                    inputs: None,
                };
                centre.floor.open(now, opening).unwrap();
                let until = centre.exponential(handling_ms / load);
                centre.events.push(Reverse((now + until, Next::Arrival)));
            }
            Next::Arrival => {}
            Next::Done(conversation) => {
                let agent = centre.holder[&conversation].clone();
                centre.floor.answer(now, &Answer { agent, verb: Verb::Complete(conversation) }).unwrap();
            }
        }
        centre.accept_all(now);
    }
    assert!(centre.floor.is_empty());
    centre.waits
}

#[test]
fn a_plain_contact_centre_is_erlangs() {
    let conversations = std::env::var("ERLANG").ok().and_then(|n| n.parse().ok()).unwrap_or(60_000);
    // The busier, the longer the run that tells anything: 600,000 conversations for the third.
    let long = conversations >= 600_000;
    let centres = [(3, 2.0), (10, 7.0), (30, 26.0)];
    for (agents, load) in centres.into_iter().take(if long { 3 } else { 2 }) {
        let waits = play(agents, load, conversations, 7);
        let settled = &waits[waits.len() / 10..];
        let waited = settled.iter().filter(|wait| **wait > 0).count() as f64 / settled.len() as f64;
        let mean = settled.iter().sum::<u64>() as f64 / settled.len() as f64 / 1000.0;
        let expected = erlang_c(agents, load);
        let expected_mean = expected * 300.0 / (f64::from(agents) - load);
        println!(
            "{agents} agents, {load} Erlang, {} conversations: {waited:.4} waited (Erlang C: {expected:.4}), on average \
             {mean:.2} s (Erlang C: {expected_mean:.2} s)",
            settled.len()
        );
        assert!((waited / expected - 1.0).abs() < 0.1, "{waited} {expected}");
        assert!((mean / expected_mean - 1.0).abs() < 0.1, "{mean} {expected_mean}");
    }
}
