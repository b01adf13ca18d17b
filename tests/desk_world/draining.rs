//! Groups and agents that are drained: what the witness has had acknowledged holds until it, or the agent, says otherwise.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchboard::message::Millis;

use super::party::{Role, What};
use super::people::WITNESS;
use super::plan::{GROUPS, pick};
use super::shards::World;

/// What the witness knows of the groups that it has drained.
#[derive(Debug, Default)]
pub struct Drains {
    /// What was acknowledged last, unless something else was asked for since.
    known: BTreeMap<&'static str, bool>,
    /// From an acknowledgement to the next request: no conversation begins in between.
    spans: Vec<(&'static str, Millis, Millis)>,
}

impl World {
    /// The witness drains somebody, or has a group take conversations again.
    pub fn supervise(&mut self) {
        if self.calm || !self.plan.drains || !self.chance(25) {
            return;
        }
        let asks = |what: &What| matches!(what, What::DrainGroup(..) | What::DrainAgent(_));
        if self.parties[WITNESS].out.values().any(|out| asks(&out.what)) {
            return;
        }
        let (said, what) = if self.chance(3) {
            let agents = (0..self.parties.len()).filter(|at| self.parties[*at].role == Role::Agent);
            let agent = *pick(&mut self.rng, &agents.collect::<Vec<_>>());
            let party = &mut self.parties[agent];
            // What it has said already may arrive after.
            let silent = party.ready && !party.out.values().any(|out| out.topic.ends_with("/presence"));
            party.desk.drained_at = silent.then_some(Millis::MAX);
            (json!({"agent": party.name}), What::DrainAgent(agent))
        } else {
            let (group, drain) = (*pick(&mut self.rng, &GROUPS), self.rng.bool());
            let now = self.now;
            self.oracle.drains.known.remove(group);
            for (_, _, until) in self.oracle.drains.spans.iter_mut().filter(|(of, ..)| *of == group) {
                *until = now.min(*until);
            }
            (json!({"group": group, "drain": drain}), What::DrainGroup(group, drain))
        };
        self.publish(WITNESS, "control/drain", said.to_string().into_bytes(), what);
    }

    /// A request of the witness is acknowledged.
    pub fn drained(&mut self, what: What, reason: u8) {
        let now = self.now;
        match what {
            What::DrainGroup(..) | What::DrainAgent(_) if reason >= 0x80 => {
                self.fail(format!("{what:?} was answered with {reason:#x}"));
            }
            What::DrainGroup(group, drain) => {
                self.oracle.drains.known.insert(group, drain);
                if drain {
                    self.oracle.stats.add("groups drained", 1);
                    self.oracle.drains.spans.push((group, now, Millis::MAX));
                }
            }
            What::DrainAgent(agent) => {
                if let Some(at) = &mut self.parties[agent].desk.drained_at {
                    *at = now;
                    self.oracle.stats.add("agents drained", 1);
                }
            }
            What::Said(_) | What::Other => {}
        }
    }

    /// No conversation begins in a group that is drained, and none goes to an agent that is.
    pub fn judge_drained(&mut self, v: &str, event: &Value) {
        let agent = self.parties.iter().find(|p| p.role == Role::Agent && event["agent"] == p.name.as_str());
        let drained_at = agent.and_then(|agent| agent.desk.drained_at).unwrap_or(Millis::MAX);
        let given = matches!(event["reason"].as_str(), Some("matched" | "auto_accepted"));
        if given && event["at"].as_u64().unwrap_or_default() > drained_at {
            self.fail(format!("{v}: its agent was drained at {drained_at}: {event}"));
        }
        if event["reason"] != "arrived" {
            return;
        }
        let begun = ulid::Ulid::from_string(v).unwrap().timestamp_ms();
        let within = |from: Millis, until: Millis| from < begun && begun < until;
        let mut spans = self.oracle.drains.spans.iter();
        let wrong = spans.find(|(group, from, until)| event["group"] == *group && within(*from, *until));
        if let Some(span) = wrong.copied() {
            self.fail(format!("{v} has begun at {begun} in a group that was drained: {span:?}"));
        }
    }

    /// What was acknowledged is so.
    pub fn judge_drains(&mut self) {
        let floor = self.floor();
        let views = floor.groups().filter_map(|group| floor.queue(group));
        let is: BTreeMap<String, bool> = views.map(|view| (view.name.to_string(), view.drained)).collect();
        let wrong = self.oracle.drains.known.iter().find(|(group, drained)| is[**group] != **drained);
        if let Some(wrong) = wrong {
            self.fail(format!("{wrong:?} was acknowledged, and it is {is:?}"));
        }
    }
}
