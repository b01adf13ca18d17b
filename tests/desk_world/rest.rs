//! What must be true of the desk itself: after each step, behind a crash, and when all has come to rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};
use switchboard::desk::{Conversation, Floor, Opening, Phase};

use super::oracle::Outcome;
use super::party::Role;
use super::plan::TENANT;
use super::shards::World;

pub fn name_of(id: u128) -> String {
    ulid::Ulid(id).to_string()
}

impl World {
    pub fn floor(&self) -> &Floor {
        self.cores.iter().find_map(|core| core.floor(TENANT)).unwrap()
    }

    /// No agent has more than it takes, by the desk's own count or by counting.
    pub fn judge_now(&mut self) {
        let floor = self.floor();
        let wrong = floor.agents().find_map(|(key, agent)| {
            let load = floor.load(key).count() as u32;
            (agent.used != load || load > u32::from(agent.capacity)).then(|| {
                format!("{} has {load}, counts {}, takes {}", agent.name, agent.used, agent.capacity)
            })
        });
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// Everything is forgotten but what was durable: nothing of what was told may be taken back.
    pub fn judge_back(&mut self) {
        let floor = self.floor();
        let back: HashMap<String, u32> = floor.conversations().map(|(_, c)| (name_of(c.id), c.ver)).collect();
        let mut wrong = None;
        for (v, told) in &self.oracle.conversations {
            match back.get(v) {
                Some(ver) if told.ended => wrong = Some(format!("{v} was over and is back in version {ver}")),
                Some(&ver) if ver < told.ver => {
                    wrong = Some(format!("{v} was told in version {} and is back in {ver}", told.ver));
                }
                _ => {}
            }
        }
        for (v, told) in self.oracle.conversations.iter().filter(|(_, told)| !told.gaps) {
            let known = |done: &str| {
                told.events
                    .values()
                    .any(|e| e["reason"] == done || (done == "completed" && e["reason"] == "written_up"))
            };
            let last = told.events.last_key_value().map_or(0, |(ver, _)| *ver);
            if let Some(done) = told.done.iter().find(|done| !known(done))
                && back.get(v).is_some_and(|ver| *ver <= last)
            {
                wrong = Some(format!("{v} was {done}, and is back in version {last}, where it was not"));
            }
        }
        if let Some(wrong) = wrong {
            self.fail(format!("after a crash: {wrong}"));
        }
        self.judge_drains();
    }

    pub fn open_thread(&self, customer: &str) -> Option<(u128, u32)> {
        self.cores.iter().find_map(|core| core.conversation_of(TENANT, customer))
    }

    /// Everything is at rest, everybody is there and does its duty.
    pub fn judge_rest(&mut self) {
        self.judge_waiting();
        self.judge_threads();
        self.judge_offers();
        self.judge_drains();
        if self.failure.is_none() {
            self.judge_who_replies();
        }
        if self.failure.is_some() {
            return;
        }
        self.oracle.retained.clear();
        self.oracle.pages.clear();
        let reader = self.reader();
        self.come_to_rest();
        if self.failure.is_none() {
            self.judge_retained();
        }
        if self.failure.is_none() {
            let pages = self.read_transcripts(reader);
            self.judge_transcripts(&pages);
        }
        self.dismiss(reader);
        self.come_to_rest();
    }

    /// Nobody waits for whom an agent has room.
    fn judge_waiting(&mut self) {
        let (floor, now) = (self.floor(), self.now);
        let mut wrong = None;
        for (_, c) in floor.conversations().filter(|(_, c)| c.phase == Phase::Queued) {
            let group = floor.name_of(c.group);
            // The steps of a group have been taken by now; one adds another group.
            let groups = if &*group == "care" { &["care", "sales"][..] } else { &[&*group] };
            for group in groups {
                let opening = Opening {
                    conversation: 0,
                    customer: c.customer.clone(),
                    group: (*group).into(),
                    priority: c.priority,
                    skills: c.skills.to_vec(),
                    language: None,
                    weight: c.weight,
                    previous: None,
                    preview: "".into(),
                    arrived: now,
                    inputs: None,
                };
                let able =
                    floor.prospect(&opening, 99).map(|prospect| prospect.candidates).unwrap_or_default();
                if !able.is_empty() {
                    wrong = Some(format!("{} of {} waits in {group}: {able:?}", name_of(c.id), c.customer));
                }
            }
        }
        if let Some((_, c)) = floor.conversations().find(|(_, c)| c.phase == Phase::Offered) {
            wrong = Some(format!("{} is still offered", name_of(c.id)));
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// The customers' shards and the floor know the same conversations.
    fn judge_threads(&mut self) {
        let floor = self.floor();
        let on_floor: BTreeMap<String, String> = floor
            .conversations()
            .filter(|(_, c)| c.phase != Phase::Wrapup)
            .map(|(_, c)| (c.customer.to_string(), name_of(c.id)))
            .collect();
        let here: BTreeMap<String, String> = self
            .customers
            .iter()
            .filter_map(|c| Some((c.name.clone(), name_of(self.open_thread(&c.name)?.0))))
            .collect();
        if on_floor != here {
            self.fail(format!("on the floor {on_floor:?}, with messages {here:?}"));
        }
    }

    /// Whoever has a conversation may write in it, and nobody else.
    fn judge_who_replies(&mut self) {
        let floor = self.floor();
        let agent = |key| floor.agent(key).map(|agent| agent.name.to_string());
        let all: Vec<(String, String, Option<String>)> = floor
            .conversations()
            .map(|(_, c)| {
                let writes = c.agent.filter(|_| c.phase != Phase::Wrapup).and_then(agent);
                (name_of(c.id), c.customer.to_string(), writes)
            })
            .collect();
        let mut tried = Vec::new();
        for (v, customer, may) in all {
            let customer = self.customers.iter().position(|c| c.name == customer).unwrap();
            for party in self.those_who_try(may.as_deref()) {
                tried.push((self.oracle.said.len(), may.as_ref() == Some(&self.parties[party].name)));
                self.write_reply(party, customer, &v);
            }
        }
        self.come_to_rest();
        for (message, may) in tried {
            let said = &self.oracle.said[message];
            if said.outcome != (if may { Outcome::Taken } else { Outcome::Refused }) {
                return self.fail(format!("may reply: {may}, and m{message} is {said:?}"));
            }
            self.oracle
                .stats
                .add(if may { "replies of whoever may" } else { "replies of whoever may not" }, 1);
        }
    }

    /// All agents, or of many only the one that may and some.
    fn those_who_try(&mut self, may: Option<&str>) -> Vec<usize> {
        let (few, some) = (self.plan.agents < 20, self.rng.usize(..self.plan.agents));
        let agents = self.parties.iter().enumerate().filter(|(_, p)| p.role == Role::Agent);
        let chosen = agents.filter(|(at, p)| few || at % self.plan.agents == some || may == Some(&p.name));
        chosen.map(|(at, _)| at).collect()
    }

    /// Each offer has one outcome, and each reply came from whoever had the conversation.
    fn judge_offers(&mut self) {
        let mut wrong = None;
        let mut events: HashMap<(&str, &str), usize> = HashMap::new();
        for (v, told) in &self.oracle.conversations {
            for event in told.events.values().filter(|e| e["reason"] == "accepted") {
                *events.entry((v, event["agent"].as_str().unwrap())).or_default() += 1;
            }
        }
        let mut accepted: HashMap<(&str, &str), usize> = HashMap::new();
        for (id, offer) in self.oracle.offers.iter().filter(|(_, offer)| offer.crashes == self.oracle.crashes)
        {
            match (&offer.over, offer.accepted) {
                (Some(over), true) => wrong = Some(format!("offer {id} is accepted and over: {over}")),
                (None, _) => *accepted.entry((&offer.conversation, &offer.agent)).or_default() += 1,
                _ => {}
            }
        }
        if self.oracle.crashes == 0 {
            // Every offer that is not over was accepted.
            for ((v, agent), count) in &accepted {
                let told = events.get(&(*v, *agent)).copied().unwrap_or_default();
                if told != *count {
                    wrong =
                        Some(format!("{v}: {count} offers to {agent} are not over, {told} were accepted"));
                }
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// Whoever comes now is shown what is.
    fn judge_retained(&mut self) {
        let floor = self.floor();
        let mut should: BTreeMap<String, Value> = BTreeMap::new();
        for (key, c) in floor.conversations() {
            let (group, v) = (floor.name_of(c.group), name_of(c.id));
            let agent = c.agent.and_then(|agent| floor.agent(agent)).map(|agent| agent.name.to_string());
            let position = floor.standing(key).and_then(|standing| standing.position);
            let text = json!({"state": c.phase.name(), "conversation": v, "group": &*group, "agent": agent,
                "position": position, "ver": c.ver});
            if c.phase != Phase::Wrapup {
                should.insert(format!("customer/{}/state", c.customer), text);
            }
            if c.phase.waits() {
                let text = json!({"customer": &*c.customer, "priority": c.priority, "ver": c.ver});
                should.insert(format!("queue/{group}/waiting/{v}"), text);
            }
        }
        for group in floor.groups() {
            let view = floor.queue(group).unwrap();
            let [available, busy, away] = view.agents;
            let text = json!({"depth": view.depth, "drain": view.drained, "capacity": {"used": view.capacity.0, "max": view.capacity.1},
                "agents": {"available": available, "busy": busy, "away": away}});
            should.insert(format!("queue/{}/state", view.name), text);
        }
        for (key, agent) in floor.agents() {
            let phase = |c: &Conversation| if c.agent == Some(key) { c.phase } else { Phase::Offered };
            let load: BTreeMap<String, &str> =
                floor.load(key).map(|c| (name_of(c.id), phase(c).name())).collect();
            let text = json!({"show": floor.shows(key).name(), "used": agent.used, "max": agent.capacity,
                "conversations": load, "ver": agent.ver});
            should.insert(format!("agent/{}/state", agent.name), text);
        }
        let shown: BTreeMap<String, Value> = self
            .oracle
            .retained
            .iter()
            .map(|(topic, value)| {
                let mut value = value.clone();
                let object = value.as_object_mut().unwrap();
                let kept: &[&str] = match topic.split('/').next_back() {
                    Some("state") if topic.starts_with("customer") => {
                        for absent in ["agent", "position"] {
                            object.entry(absent).or_insert(Value::Null);
                        }
                        &["state", "conversation", "group", "agent", "position", "ver"]
                    }
                    Some("state") if topic.starts_with("queue") => &["depth", "drain", "capacity", "agents"],
                    Some("state") => {
                        let held = object["conversations"].as_array().unwrap().iter();
                        let held: BTreeMap<&str, &Value> = held
                            .map(|held| (held["conversation"].as_str().unwrap(), &held["state"]))
                            .collect();
                        object["conversations"] = json!(held);
                        &["show", "used", "max", "conversations", "ver"]
                    }
                    _ => &["customer", "priority", "ver"],
                };
                object.retain(|field, _| kept.contains(&&**field));
                (topic.clone(), value)
            })
            .collect();
        let topics: BTreeSet<&String> = should.keys().chain(shown.keys()).collect();
        let wrong = topics.into_iter().find(|topic| should.get(*topic) != shown.get(*topic));
        self.oracle.stats.0.entry("retained states compared".into()).and_modify(|n| *n += 1).or_insert(1);
        if let Some(topic) = wrong {
            let (should, shown) = (should.get(topic), shown.get(topic));
            self.fail(format!("{topic} should be {should:?} and is {shown:?}"));
        }
    }

    /// Everybody has gone: nobody has a conversation.
    pub fn judge_end(&mut self) {
        let left = self.floor().conversations().filter(|(_, c)| c.agent.is_some()).count();
        if left > 0 {
            self.fail(format!("{left} conversations do not end"));
        }
    }
}
