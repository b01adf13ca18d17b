//! The customers, the agents, and one who watches: what they do, and what they check.
//!
//! Knows packets and time, and no socket: what is to be written waits in `outgoing`.

use super::queue::{Centre, Draw, Queue, ideal};
use super::said::{AgentState, Answer, CustomerState, Event, Message, Offer, Outcome, Presence, Reply};
use super::{Figures, NEVER, exponential};
use crate::arguments::Desk;
use crate::failure::Failure;
use crate::handshake::Client;
use crate::histogram::Histogram;
use crate::packets::{Dialect, PublishShape, describe};
use crate::report::{Percentiles, Report, per_second, ratio};
use crate::swarm::{LinkId, Swarm, Talk, Then};
use crate::traffic::run_number;
use crate::window::Window;
use crate::wire::{self, Frame, put_ack};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Instant;

/// Bytes of what a text begins with, at most.
pub(super) const STAMP: usize = 64;
/// Messages that a customer has under way in a conversation that is handled; what does not fit is a fault.
const UNDER_WAY: usize = 256;

const QOS1: PublishShape = PublishShape { qos: 1, retain: false, user_properties: 0, alias: false };
const QOS0: PublishShape = PublishShape { qos: 0, ..QOS1 };

/// Who does what, and how often.
pub(super) struct Plan {
    dialect: Dialect,
    strict: bool,
    prefix: String,
    tenant: String,
    group: String,
    agents: usize,
    capacity: u32,
    customers: usize,
    messages: u32,
    size: usize,
    think_s: f64,
    reject: f64,
    ignore: f64,
    target: u64,
    closed_loop: bool,
    window: usize,
    seed: u64,
}

impl Plan {
    pub(super) fn new(options: &Desk, customers: usize) -> Self {
        let target = &options.target;
        Self {
            dialect: target.dialect(),
            strict: target.strict,
            prefix: target.prefix.clone(),
            tenant: options.tenant.clone(),
            group: options.group.clone(),
            agents: options.agents as usize,
            capacity: options.capacity,
            customers,
            messages: options.messages,
            size: options.size,
            think_s: options.think,
            reject: options.reject,
            ignore: options.ignore,
            target: super::nanoseconds(std::time::Duration::from_secs_f64(options.within)),
            closed_loop: options.closed_loop,
            window: if options.closed_loop { options.window.clamp(1, 60_000) } else { UNDER_WAY },
            seed: options.seed,
        }
    }

    fn agent(&self, index: usize) -> String {
        format!("{}-agent-{index}", self.prefix)
    }

    fn customer(&self, index: usize) -> String {
        format!("{}-customer-{index}", self.prefix)
    }

    fn topic(&self, rest: &str) -> String {
        format!("cs/1/{}/{rest}", self.tenant)
    }

    fn presence(&self, show: &str) -> Result<Vec<u8>, Failure> {
        json(&Presence { show, groups: [&self.group], capacity: self.capacity })
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(std::io::Error::from).map_err(Failure::io("writing JSON"))
}

/// What is to be done at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Arrive(usize),
    GiveUp(usize),
    Decide(usize),
    Write(usize),
    Complete(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    ToCome,
    Waiting,
    /// With this agent.
    Talking(usize),
    /// The agent has said that it is done.
    Ending,
    /// The customer has left.
    Left,
    /// Everybody knows that it is over.
    Over,
}

/// One conversation.
#[derive(Debug)]
struct Call {
    draw: Draw,
    stage: Stage,
    customer: usize,
    conversation: String,
    /// The offer that is open as far as we know, and whose.
    offer: Option<(usize, String)>,
    /// All agents were busy when it came.
    had_to_wait: bool,
    /// When its agent was told that it is its own; from the beginning of the run.
    answered: Option<u64>,
    /// Messages of the customer still to come.
    left: u32,
    last_seq: u64,
    /// Messages that its agent has read before it knew that the conversation is its own.
    unreplied: u32,
    /// What has to be done is done, and the agent has not read everything.
    completes_when_read: bool,
}

#[derive(Debug)]
struct Customer {
    topic: String,
    call: Option<usize>,
    window: Window,
    /// The next message that its agent should see, and the next reply that it should get.
    read: u64,
    replies: u64,
    heard: u64,
}

#[derive(Debug)]
struct Agent {
    answer: String,
    presence: String,
    ready: bool,
    next_id: u16,
}

pub(super) struct People {
    plan: Plan,
    run: u32,
    epoch: Instant,
    rng: fastrand::Rng,
    agents: Vec<Agent>,
    customers: Vec<Customer>,
    calls: Vec<Call>,
    /// Which call a conversation is.
    of: HashMap<String, usize>,
    idle: VecDeque<usize>,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    outgoing: Vec<(LinkId, Vec<u8>)>,
    /// Conversations that have come and are not done.
    present: u32,
    over: usize,
    begun: bool,
    flowing: bool,
    /// QoS 1 packets that are not acknowledged.
    unacknowledged: i64,
    /// The last `ver` of each conversation.
    versions: HashMap<String, u32>,
    figures: Figures,
    leftovers: u64,
    /// Messages that came to agents and customers, for the first time.
    pub(super) delivered: u64,
    pub(super) message: Histogram,
    pub(super) reply: Histogram,
    report: Report,
}

impl People {
    pub(super) fn new(plan: Plan, draws: Vec<Draw>) -> Self {
        let agents = (0..plan.agents).map(|index| {
            let topic = |what| plan.topic(&format!("agent/{}/{what}", plan.agent(index)));
            Agent { answer: topic("answer"), presence: topic("presence"), ready: false, next_id: 0 }
        });
        let customers = (0..plan.customers).map(|index| Customer {
            topic: plan.topic(&format!("customer/{}", plan.customer(index))),
            call: None,
            window: Window::new(plan.window, u32::from(plan.closed_loop), true),
            read: 0,
            replies: 0,
            heard: 0,
        });
        let due = draws.iter().enumerate().map(|(index, draw)| Reverse((draw.arrives, Due::Arrive(index))));
        let messages = if plan.closed_loop { 1 } else { plan.messages };
        Self {
            run: run_number(),
            epoch: Instant::now(),
            rng: fastrand::Rng::with_seed(plan.seed ^ 0xA6E7),
            agents: agents.collect(),
            customers: customers.collect(),
            idle: (0..plan.customers).collect(),
            due: due.collect(),
            calls: draws
                .into_iter()
                .map(|draw| Call {
                    draw,
                    stage: Stage::ToCome,
                    customer: 0,
                    conversation: String::new(),
                    offer: None,
                    had_to_wait: false,
                    answered: None,
                    left: messages,
                    last_seq: 0,
                    unreplied: 0,
                    completes_when_read: false,
                })
                .collect(),
            of: HashMap::new(),
            outgoing: vec![],
            present: 0,
            over: 0,
            begun: false,
            flowing: false,
            unacknowledged: 0,
            versions: HashMap::new(),
            figures: Figures::default(),
            leftovers: 0,
            delivered: 0,
            message: Histogram::default(),
            reply: Histogram::default(),
            report: Report::default(),
            plan,
        }
    }

    /// Agents, then customers, then who watches.
    pub(super) fn clients(&self) -> Vec<Client> {
        let client = |id: String, filters: &[String]| {
            let filters = filters.iter().map(|filter| self.plan.topic(filter)).collect();
            Client { overhears: true, ..Client::new(id) }.subscribed(filters, 1)
        };
        let agents = self.agents.iter().enumerate().map(|(index, agent)| {
            let name = self.plan.agent(index);
            let own = ["offer", "result", "state", "inbox/+"].map(|what| format!("agent/{name}/{what}"));
            let mut client = client(name, &own);
            client.identity.will = Some((agent.presence.clone(), r#"{"show":"offline"}"#.to_owned()));
            client
        });
        let customers = (0..self.plan.customers).map(|index| {
            let name = self.plan.customer(index);
            client(name.clone(), &["down", "state"].map(|what| format!("customer/{name}/{what}")))
        });
        let watcher = client(format!("{}-watcher", self.plan.prefix), &["conversation/+/events".to_owned()]);
        agents.chain(customers).chain([watcher]).collect()
    }

    fn publish(
        &mut self,
        link: usize,
        id: u16,
        topic: &str,
        shape: PublishShape,
        payload: Vec<u8>,
    ) -> Result<(), Failure> {
        let packet = self.plan.dialect.publish_as(id, topic, shape, payload)?;
        self.unacknowledged += i64::from(shape.qos);
        self.outgoing.push((LinkId(link as u32), packet));
        Ok(())
    }

    fn publish_as_agent(&mut self, agent: usize, topic: &str, payload: Vec<u8>) -> Result<(), Failure> {
        let Some(one) = self.agents.get_mut(agent) else { return Ok(()) };
        one.next_id = one.next_id.checked_add(1).unwrap_or(1);
        let id = one.next_id;
        self.publish(agent, id, topic, QOS1, payload)
    }

    fn show(&mut self, agent: usize, show: &str) -> Result<(), Failure> {
        let payload = self.plan.presence(show)?;
        let Some(topic) = self.agents.get(agent).map(|agent| agent.presence.clone()) else { return Ok(()) };
        self.publish_as_agent(agent, &topic, payload)
    }

    /// All agents say that they are there.
    pub(super) fn sign_in(&mut self) -> Result<(), Failure> {
        (0..self.agents.len()).try_for_each(|agent| self.show(agent, "ready"))
    }

    /// All agents say that they go.
    pub(super) fn sign_out(&mut self, swarm: &mut Swarm) -> Result<(), Failure> {
        (0..self.agents.len()).try_for_each(|agent| self.show(agent, "offline"))?;
        let patience = Instant::now();
        while self.unacknowledged > 0 && patience.elapsed().as_secs() < 2 {
            super::turn(swarm, self)?;
        }
        Ok(())
    }

    /// All agents are ready.
    pub(super) fn ready(&self) -> bool {
        self.agents.iter().all(|agent| agent.ready)
    }

    /// The run begins now.
    pub(super) fn begin(&mut self) {
        self.epoch = Instant::now();
        self.begun = true;
    }

    /// What has been measured so far does not count.
    pub(super) fn measure(&mut self) {
        (self.message, self.reply) = (Histogram::default(), Histogram::default());
    }

    /// Nanoseconds since the beginning.
    pub(super) fn now(&self) -> u64 {
        super::nanoseconds(self.epoch.elapsed())
    }

    /// Nanoseconds until something is due.
    pub(super) fn until_due(&self) -> Option<u64> {
        self.due.peek().filter(|_| self.begun).map(|Reverse((at, _))| at.saturating_sub(self.now()))
    }

    /// Something will be due that does not depend on the broker.
    pub(super) fn awaits_time(&self) -> bool {
        self.due.peek().is_some_and(|Reverse((at, _))| *at < NEVER / 2)
    }

    /// Changes with everything that happens.
    pub(super) fn moves(&self) -> u64 {
        self.delivered + self.figures.offers + self.over as u64 + self.unacknowledged.unsigned_abs()
    }

    /// All conversations are over, and nothing is under way.
    pub(super) fn is_over(&self) -> bool {
        self.over == self.calls.len() && self.unacknowledged == 0
    }

    pub(super) fn all_talking(&self) -> bool {
        self.calls.iter().all(|call| matches!(call.stage, Stage::Talking(_)))
    }

    /// One line for people.
    pub(super) fn progress(&self) -> String {
        if self.plan.closed_loop {
            return format!("desk: {} messages delivered", self.delivered);
        }
        let places = self.plan.agents as u32 * self.plan.capacity;
        format!(
            "desk: {} over, {} with agents, {} waiting",
            self.over,
            self.present.min(places),
            self.present.saturating_sub(places)
        )
    }

    /// Does what is due.
    pub(super) fn fire(&mut self) -> Result<(), Failure> {
        while let Some(Reverse((at, due))) = self.due.peek().copied().filter(|_| self.begun) {
            if at > self.now() {
                break;
            }
            self.due.pop();
            match due {
                Due::Arrive(call) => self.arrive(call)?,
                Due::GiveUp(call) => self.give_up(call)?,
                Due::Decide(call) => self.decide(call)?,
                Due::Write(call) => self.write_on(call)?,
                Due::Complete(call) => self.complete(call)?,
            }
        }
        Ok(())
    }

    /// Hands what is to be written to the connections.
    pub(super) fn send(&mut self, swarm: &mut Swarm) {
        for (link, packet) in self.outgoing.drain(..) {
            if let Some(out) = swarm.out(link) {
                out.extend_from_slice(&packet);
            }
        }
    }

    /// Every customer of the closed loop sends as much as it may.
    pub(super) fn flow(&mut self) {
        self.flowing = true;
        (0..self.customers.len()).for_each(|customer| self.fill(customer));
    }

    fn fill(&mut self, customer: usize) {
        while self.flowing && self.customers.get(customer).is_some_and(|one| one.call.is_some()) {
            match self.write(customer) {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) => return self.report.fault(failure.to_string()),
            }
        }
    }

    /// A customer writes its next message; `false`: its window is full.
    fn write(&mut self, customer: usize) -> Result<bool, Failure> {
        let now = self.now();
        let Some(one) = self.customers.get_mut(customer) else { return Ok(false) };
        let Some(number) = one.window.open() else { return Ok(false) };
        let topic = format!("{}/up", one.topic);
        let text = stamped(self.run, customer, number, now, self.plan.size);
        self.publish(self.plan.agents + customer, Window::id_of(number), &topic, QOS1, text.into_bytes())?;
        Ok(true)
    }

    fn arrive(&mut self, index: usize) -> Result<(), Failure> {
        let Some(customer) = self.idle.pop_front() else {
            self.report.fault("no customer is without a conversation: more --customers are needed");
            self.over += 1;
            return Ok(());
        };
        let places = self.plan.agents as u32 * self.plan.capacity;
        let Some(call) = self.calls.get_mut(index) else { return Ok(()) };
        call.stage = Stage::Waiting;
        call.customer = customer;
        call.left -= 1;
        call.had_to_wait = self.present >= places;
        self.present += 1;
        if call.draw.patience < NEVER {
            self.due.push(Reverse((call.draw.arrives + call.draw.patience, Due::GiveUp(index))));
        }
        if let Some(one) = self.customers.get_mut(customer) {
            one.call = Some(index);
        }
        if !self.write(customer)? {
            self.report.fault("a customer's messages are not acknowledged");
        }
        Ok(())
    }

    fn give_up(&mut self, index: usize) -> Result<(), Failure> {
        let Some(call) = self.calls.get_mut(index).filter(|call| call.stage == Stage::Waiting) else {
            return Ok(());
        };
        call.stage = Stage::Left;
        let customer = call.customer;
        self.present -= 1;
        let Some(one) = self.customers.get(customer) else { return Ok(()) };
        let topic = format!("{}/ask", one.topic);
        self.publish(self.plan.agents + customer, 0, &topic, QOS0, br#"{"verb":"leave"}"#.to_vec())
    }

    /// An agent answers an offer that it has looked at.
    fn decide(&mut self, index: usize) -> Result<(), Failure> {
        let Some((agent, offer)) = self.calls.get_mut(index).and_then(|call| call.offer.take()) else {
            return Ok(());
        };
        let chance = self.rng.f64();
        let verb = if chance < self.plan.reject {
            "reject"
        } else if chance < self.plan.reject + self.plan.ignore {
            return Ok(());
        } else {
            "accept"
        };
        self.answer(agent, &Answer { verb, offer: Some(&offer), conversation: None })
    }

    fn answer(&mut self, agent: usize, answer: &Answer<'_>) -> Result<(), Failure> {
        let Some(topic) = self.agents.get(agent).map(|agent| agent.answer.clone()) else { return Ok(()) };
        self.publish_as_agent(agent, &topic, json(answer)?)
    }

    /// The customer writes while its agent is at work.
    fn write_on(&mut self, index: usize) -> Result<(), Failure> {
        let Some(call) = self.calls.get_mut(index).filter(|call| matches!(call.stage, Stage::Talking(_)))
        else {
            return Ok(());
        };
        call.left = call.left.saturating_sub(1);
        let customer = call.customer;
        if !self.write(customer)? {
            self.report.fault("a customer's messages do not reach its agent");
        }
        Ok(())
    }

    /// What there was to do is done; but an agent reads everything first.
    fn complete(&mut self, index: usize) -> Result<(), Failure> {
        let Some(call) = self.calls.get_mut(index) else { return Ok(()) };
        let Stage::Talking(agent) = call.stage else { return Ok(()) };
        call.completes_when_read =
            self.customers.get(call.customer).is_some_and(|one| one.read < one.window.begun());
        if call.completes_when_read {
            return Ok(());
        }
        call.stage = Stage::Ending;
        self.present -= 1;
        let conversation = call.conversation.clone();
        self.answer(agent, &Answer { verb: "complete", offer: None, conversation: Some(&conversation) })
    }

    /// Nothing new; what the closed loop holds is let go.
    pub(super) fn finish(&mut self) {
        self.flowing = false;
        let now = self.now();
        if self.plan.closed_loop {
            self.due.extend((0..self.calls.len()).map(|call| Reverse((now, Due::Complete(call)))));
        }
    }

    fn offered(&mut self, agent: usize, payload: &[u8]) -> Result<(), Failure> {
        let Some(offer) = self.said::<Offer<'_>>("an offer", payload) else { return Ok(()) };
        if offer.over.is_some() {
            let call = self.of.get(offer.conversation).and_then(|call| self.calls.get_mut(*call));
            if let Some(call) = call
                && call.offer.as_ref().is_some_and(|(_, id)| id == offer.id)
            {
                call.offer = None;
            }
            return Ok(());
        }
        let index = self
            .customer_called(&offer.customer)
            .and_then(|customer| self.customers.get(customer))
            .and_then(|customer| customer.call);
        let call = index.and_then(|index| self.calls.get_mut(index)).filter(|call| {
            call.stage == Stage::Waiting
                && (call.conversation.is_empty() || call.conversation == offer.conversation)
        });
        let Some((index, call)) = index.zip(call) else {
            if !self.of.contains_key(offer.conversation) {
                // Of an earlier run: out of the way.
                self.leftovers += 1;
                self.answer(agent, &Answer { verb: "accept", offer: Some(offer.id), conversation: None })?;
            }
            return Ok(());
        };
        if call.conversation.is_empty() {
            offer.conversation.clone_into(&mut call.conversation);
            self.of.insert(offer.conversation.to_owned(), index);
        }
        call.offer = Some((agent, offer.id.to_owned()));
        if self.plan.think_s > 0.0 {
            let at = self.now() + exponential(&mut self.rng, self.plan.think_s);
            self.due.push(Reverse((at, Due::Decide(index))));
            return Ok(());
        }
        self.decide(index)
    }

    fn customer_called(&self, name: &str) -> Option<usize> {
        name.strip_prefix(&self.plan.prefix)?.strip_prefix("-customer-")?.parse().ok()
    }

    fn resulted(&mut self, agent: usize, payload: &[u8]) -> Result<(), Failure> {
        let Some(result) = self.said::<Outcome<'_>>("a result", payload) else { return Ok(()) };
        let index = result.conversation.and_then(|conversation| self.of.get(conversation)).copied();
        let Some((index, call)) = index.and_then(|index| Some((index, self.calls.get_mut(index)?))) else {
            let Some(conversation) = result.conversation.filter(|_| result.ok && result.verb == "accept")
            else {
                return Ok(());
            };
            return self
                .answer(agent, &Answer { verb: "complete", offer: None, conversation: Some(conversation) });
        };
        match (result.verb, result.ok, call.stage) {
            ("accept", true, Stage::Waiting) => {
                let now = super::nanoseconds(self.epoch.elapsed());
                call.stage = Stage::Talking(agent);
                call.answered = Some(now);
                let handling = call.draw.handling;
                let unreplied = std::mem::take(&mut call.unreplied);
                if handling < NEVER {
                    let part = handling / u64::from(call.left + 1);
                    let writes =
                        (1..=u64::from(call.left)).map(|n| Reverse((now + n * part, Due::Write(index))));
                    self.due.extend(writes);
                    self.due.push(Reverse((now + handling, Due::Complete(index))));
                }
                (0..unreplied).try_for_each(|_| self.reply(agent, index))?;
            }
            ("accept", true, Stage::Talking(other)) => {
                self.report.fault(format!("a conversation was given to agent {other} and to agent {agent}"));
            }
            // Its customer has left meanwhile, or somebody else was quicker.
            ("accept", ..) | ("reject", false, _) | (_, true, _) => {}
            (verb, false, _) => {
                self.report.fault(format!("{verb} was refused: {}", result.reason.unwrap_or("no reason")));
            }
        }
        Ok(())
    }

    fn agent_shows(&mut self, agent: usize, payload: &[u8]) -> Result<(), Failure> {
        let Some(state) = self.said::<AgentState<'_>>("an agent's state", payload) else { return Ok(()) };
        let Some(one) = self.agents.get_mut(agent) else { return Ok(()) };
        one.ready |= state.show == "ready";
        // It has not answered, and counts as away; it is not.
        if state.show == "away" && self.begun {
            self.show(agent, "ready")?;
        }
        Ok(())
    }

    fn customer_is(&mut self, customer: usize, payload: &[u8]) {
        let Some(state) = self.said::<CustomerState<'_>>("a customer's state", payload) else { return };
        if !["closed", "abandoned", "expired"].contains(&state.state) {
            return;
        }
        let Some(one) = self.customers.get_mut(customer) else { return };
        let Some((index, call)) = one.call.and_then(|index| Some((index, self.calls.get_mut(index)?))) else {
            return;
        };
        if !call.conversation.is_empty() && call.conversation != state.conversation {
            return;
        }
        match call.stage {
            Stage::Waiting => {
                self.figures.turned_away += 1;
                self.present -= 1;
            }
            Stage::Talking(_) => {
                self.present -= 1;
                self.report.fault("a conversation was over while its agent was at work");
            }
            _ => {}
        }
        call.stage = Stage::Over;
        // A conversation that was never offered has nobody who reads.
        one.read = one.window.begun();
        one.call = None;
        self.over += 1;
        self.of.entry(state.conversation.to_owned()).or_insert(index);
        self.idle.push_back(customer);
    }

    /// An agent reads a message.
    fn read(&mut self, agent: usize, payload: &[u8]) -> Result<(), Failure> {
        let Some(message) = self.said::<Message<'_>>("a message", payload) else { return Ok(()) };
        let Some(index) = self.of.get(message.conversation).copied() else { return Ok(()) };
        let Some(call) = self.calls.get_mut(index) else { return Ok(()) };
        if message.seq <= call.last_seq {
            self.report.duplicates += 1;
            return Ok(());
        }
        if message.seq != call.last_seq + 1 {
            self.report.out_of_order += 1;
        }
        call.last_seq = message.seq;
        if message.from.role != "customer" {
            return Ok(());
        }
        let Some((customer, number, sent)) =
            message.body.as_deref().and_then(|body| unstamped(self.run, body))
        else {
            self.report.fault("a message that nobody of this run has written");
            return Ok(());
        };
        let finishes = call.completes_when_read;
        let at_once = call.answered.is_some_and(|answered| sent >= answered);
        call.unreplied += u32::from(call.stage == Stage::Waiting);
        let Some(one) = self.customers.get_mut(customer).filter(|_| call.customer == customer) else {
            self.report
                .fault(format!("a message of customer {customer} in the conversation of {}", call.customer));
            return Ok(());
        };
        match number.cmp(&one.read) {
            std::cmp::Ordering::Less => self.report.duplicates += 1,
            order => {
                self.report.out_of_order += u64::from(order.is_gt());
                one.read = number + 1;
                self.delivered += 1;
                let opened = one.window.received(number);
                let all = one.read == one.window.begun();
                let now = self.now();
                if at_once {
                    self.message.record(now.saturating_sub(sent));
                }
                if opened {
                    self.fill(customer);
                }
                self.reply(agent, index)?;
                if finishes && all {
                    self.complete(index)?;
                }
            }
        }
        Ok(())
    }

    /// An agent replies to what it has read.
    fn reply(&mut self, agent: usize, index: usize) -> Result<(), Failure> {
        let now = self.now();
        let talking = |call: &&Call| call.stage == Stage::Talking(agent);
        let call = self.calls.get(index).filter(talking).filter(|_| !self.plan.closed_loop);
        let Some(call) = call else { return Ok(()) };
        let topic = self.plan.topic(&format!("conversation/{}/reply", call.conversation));
        let customer = call.customer;
        let Some(one) = self.customers.get_mut(customer) else { return Ok(()) };
        let text = stamped(self.run, customer, one.replies, now, self.plan.size);
        one.replies += 1;
        self.publish_as_agent(agent, &topic, json(&Reply { body: &text })?)
    }

    /// A customer gets a reply.
    fn hear(&mut self, customer: usize, payload: &[u8]) {
        let Some(message) = self.said::<Message<'_>>("a reply", payload) else { return };
        if message.from.role == "system" {
            return;
        }
        let stamp = message.body.as_deref().and_then(|body| unstamped(self.run, body));
        let now = self.now();
        match (stamp, self.customers.get_mut(customer)) {
            (Some((to, number, sent)), Some(one)) if to == customer => match number.cmp(&one.heard) {
                std::cmp::Ordering::Less => self.report.duplicates += 1,
                order => {
                    self.report.out_of_order += u64::from(order.is_gt());
                    one.heard = number + 1;
                    self.delivered += 1;
                    self.reply.record(now.saturating_sub(sent));
                }
            },
            _ => self.report.fault("a customer got what was not written to it"),
        }
    }

    /// Who watches sees a transition.
    fn watch(&mut self, payload: &[u8]) {
        let Some(event) = self.said::<Event<'_>>("an event", payload) else { return };
        match (event.from, event.to) {
            (_, "offered") => self.figures.offers += 1,
            ("offered", "assigned") => self.figures.assigned += 1,
            ("assigned" | "held" | "transferring", "queued") => self.figures.requeued += 1,
            _ => {}
        }
        match event.reason {
            "rejected" => self.figures.rejected += 1,
            "lapsed" => self.figures.lapsed += 1,
            _ => {}
        }
        let known = self.versions.get_mut(event.conversation);
        if let Some(last) = known {
            if event.ver != *last + 1 {
                self.report.fault(format!("an event with ver {} behind {last}", event.ver));
            }
            *last = event.ver;
        } else {
            self.versions.insert(event.conversation.to_owned(), event.ver);
        }
    }

    fn said<'a, T: Deserialize<'a>>(&mut self, what: &str, payload: &'a [u8]) -> Option<T> {
        let said = serde_json::from_slice(payload);
        said.map_err(|error| self.report.fault(format!("{what} that is none: {error}"))).ok()
    }

    fn publication(&mut self, link: usize, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(publish) = wire::publish(frame, self.plan.dialect.is_v5()) else {
            self.report.fault("a PUBLISH whose fields do not fit");
            return Ok(());
        };
        if publish.qos == 1 {
            put_ack(out, 0x40, publish.id);
        }
        let (agents, customers) = (self.agents.len(), self.customers.len());
        let last = publish.topic.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        match last {
            // Retained, and taken away.
            _ if publish.payload.is_empty() => {}
            b"offer" if link < agents => self.offered(link, publish.payload)?,
            b"result" if link < agents => self.resulted(link, publish.payload)?,
            b"state" if link < agents => self.agent_shows(link, publish.payload)?,
            b"state" if link < agents + customers => self.customer_is(link - agents, publish.payload),
            b"down" if link >= agents => self.hear(link - agents, publish.payload),
            b"events" => self.watch(publish.payload),
            _ if link < agents => self.read(link, publish.payload)?,
            _ => self.report.fault("a message that nobody has asked for"),
        }
        Ok(())
    }

    fn acknowledged(&mut self, link: usize, frame: &Frame<'_>) {
        self.unacknowledged -= 1;
        if let Some(&reason) = frame.body.get(2)
            && reason >= 0x80
        {
            self.report.fault(format!("{}: reason {reason:#04x}", describe(frame, self.plan.dialect)));
        }
        let Some(customer) = link.checked_sub(self.agents.len()) else { return };
        let Some(one) = self.customers.get_mut(customer) else { return };
        match frame.id().and_then(|id| one.window.acknowledged(id)) {
            None => self.report.fault("a PUBACK that nobody waits for"),
            Some(true) => self.fill(customer),
            Some(false) => {}
        }
    }

    /// What became of the conversations that came behind the warm-up.
    pub(super) fn figures(&mut self, centre: &Centre, warmup: u64) -> Figures {
        let mut figures = std::mem::take(&mut self.figures);
        figures.offers_per_assignment = ratio(figures.offers, figures.assigned.max(1));
        if self.plan.closed_loop {
            return figures;
        }
        let draws: Vec<_> = self.calls.iter().map(|call| call.draw).collect();
        let perfect = ideal(&draws, centre.places);
        let wait = |call: &Call| call.answered.map(|at| at.saturating_sub(call.draw.arrives));
        let (mut waits, mut beyond, mut busy) = (Histogram::default(), Histogram::default(), 0);
        let counted = || self.calls.iter().zip(&perfect).filter(|(call, _)| call.draw.arrives >= warmup);
        for (call, perfect) in counted() {
            figures.arrived += 1;
            figures.abandoned += u64::from(call.answered.is_none());
            let Some(wait) = wait(call) else { continue };
            figures.answered += 1;
            busy += call.draw.handling / 1000;
            waits.record(wait);
            if let Some(perfect) = perfect {
                beyond.record(wait.saturating_sub(*perfect));
            }
        }
        figures.abandoned = figures.abandoned.saturating_sub(figures.turned_away);
        let last = self.calls.last().map_or(0, |call| call.draw.arrives);
        let seconds = ratio(last.saturating_sub(warmup), 1_000_000_000);
        figures.arrivals_per_s = per_second(figures.arrived, seconds);
        figures.occupancy = per_second(busy, seconds) / 1e6 / f64::from(centre.places);
        (figures.wait_us, figures.beyond_ideal_us) = (Percentiles::of(&waits), Percentiles::of(&beyond));
        let was = counted().map(|(call, _)| (call.draw, call.had_to_wait, wait(call)));
        figures.queue = Some(Queue::of(was, self.plan.target));
        let would = counted().map(|(call, perfect)| (call.draw, *perfect != Some(0), *perfect));
        figures.ideal = Some(Queue::of(would, self.plan.target));
        let plain = self.plan.think_s + self.plan.reject + self.plan.ignore == 0.0;
        figures.theory = if plain { centre.expected() } else { None };
        figures
    }

    /// What was wrong.
    pub(super) fn close(&mut self) -> Report {
        let mut report = std::mem::take(&mut self.report);
        let waits = self.calls.len() - self.over;
        if waits > 0 {
            report.stalls += 1;
            report.fault(format!("{waits} conversations did not come to an end"));
        }
        if self.unacknowledged > 0 {
            report.fault(format!("{} messages were not acknowledged", self.unacknowledged));
        }
        if self.leftovers > 0 {
            report.fault(format!("{} conversations of somebody else were in the queue", self.leftovers));
        }
        let lost = |one: &Customer| one.window.begun() - one.read + one.replies - one.heard;
        report.lost = self.customers.iter().map(lost).sum();
        report
    }
}

impl Talk for People {
    fn frame(&mut self, link: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Then {
        if self.plan.strict
            && let Err(what) = self.plan.dialect.check(frame)
        {
            self.report.fault(what);
        }
        match frame.kind() {
            3 => {
                if let Err(failure) = self.publication(link.0 as usize, frame, out) {
                    self.report.fault(failure.to_string());
                }
            }
            4 => self.acknowledged(link.0 as usize, frame),
            _ => self.report.fault(describe(frame, self.plan.dialect)),
        }
        Then::GoOn
    }

    fn lost(&mut self, link: LinkId, why: &str) {
        self.report.fault(format!("connection {} lost: {why}", link.0));
    }
}

/// A text that says whose it is, the how-manieth, and when it was written.
fn stamped(run: u32, customer: usize, number: u64, now: u64, size: usize) -> String {
    format!("{:.<size$}", format_args!("{run:x}/{customer:x}/{number:x}/{now:x}/").to_string())
}

/// The customer, the number and the time in a text of this run.
fn unstamped(run: u32, text: &str) -> Option<(usize, u64, u64)> {
    let mut parts = text.splitn(5, '/');
    let mut part = || u64::from_str_radix(parts.next()?, 16).ok();
    (part()? == u64::from(run)).then_some(())?;
    Some((part()? as usize, part()?, part()?))
}
