//! Customers and agents, and what they do at random.

use serde_json::{Value, json};

use super::oracle::Said;
use super::party::{Desk, Party, Role, What};
use super::plan::{GROUPS, pick};
use super::shards::World;
use super::wire;

/// The client that is disturbed by nothing but crashes and sees everything.
pub const WITNESS: usize = 0;

/// A customer, with one device or two.
#[derive(Clone, Debug, Default)]
pub struct Customer {
    pub name: String,
    /// Messages of both sides that were taken, or may have been: the broker remembers so many.
    pub marks: usize,
    /// Messages from the desk that belong to no conversation.
    pub turned_away: usize,
}

/// Messages behind which nobody says one again: the broker knows the last 32 of a conversation.
const MEMORY: usize = 24;

impl World {
    /// Makes the clients. The witness comes first and connects at once.
    pub fn people(&mut self) {
        let filters = ["conversation/#", "agent/#", "queue/#", "customer/+/state", "customer/+/down"];
        let filters = filters.map(str::to_owned).to_vec();
        self.parties.push(Party::new(Role::Witness, "witness".into(), String::new(), filters));
        for number in 0..self.plan.customers {
            let name = format!("{}{number}", pick(&mut self.rng, &["n", "s", "s", "c", "c", "x"]));
            for device in 0..self.rng.usize(1..=2) {
                let filters =
                    ["down", "state", "answer"].map(|what| format!("customer/{name}/{what}")).to_vec();
                let id = format!("customer-{name}-{device}");
                let lasting = self.rng.bool();
                self.parties
                    .push(Party { lasting, ..Party::new(Role::Device(number), id, name.clone(), filters) });
            }
            self.customers.push(Customer { name, ..Customer::default() });
        }
        for number in 0..self.plan.agents {
            let name = format!("a{number}");
            let groups = self.some_groups();
            let desk = Desk {
                groups,
                capacity: self.rng.u16(1..=4),
                skilled: self.rng.bool(),
                show: "offline",
                ..Desk::default()
            };
            let filters = vec![format!("agent/{name}/#")];
            let (lasting, will) = (self.rng.bool(), self.rng.u8(..4) > 0);
            let party = Party::new(Role::Agent, format!("agent-{name}"), name, filters);
            self.parties.push(Party { lasting, will, desk, ..party });
        }
        self.connect(WITNESS);
        self.calm = true;
        for _ in 0..20 {
            self.step();
        }
        self.calm = false;
    }

    fn some_groups(&mut self) -> Vec<&'static str> {
        let mut groups: Vec<&'static str> = GROUPS.iter().copied().filter(|_| self.rng.bool()).collect();
        if groups.is_empty() {
            groups.push(*pick(&mut self.rng, &GROUPS));
        }
        groups
    }

    /// Something that a client might do now.
    pub fn act(&mut self, party: usize) {
        self.acknowledge(party);
        let p = &self.parties[party];
        match (p.role, p.link, p.ready) {
            (Role::Witness, None, _) => self.connect(party),
            (Role::Witness, _, true) => self.supervise(),
            (Role::Witness | Role::Reader, ..) => {}
            (_, None, _) => self.come(party),
            _ if self.disturbed(party) => {}
            (Role::Device(customer), _, true) => self.act_as_customer(party, customer),
            (Role::Agent, _, true) => self.act_as_agent(party),
            _ => {}
        }
    }

    /// Whoever is not there may come.
    fn come(&mut self, party: usize) {
        if self.calm || self.chance(6) {
            self.connect(party);
        }
    }

    /// Something happens to the client's connection.
    fn disturbed(&mut self, party: usize) -> bool {
        let (cuts, now) = (self.plan.cuts, self.now);
        if self.calm {
            return false;
        }
        match self.rng.u32(..1000) {
            n if n < cuts => self.cut(party),
            n if n < cuts + 2 => {
                let reason = *pick(&mut self.rng, &[0, 4]);
                self.leave(party, reason);
            }
            n if n < cuts + 5 => {
                // It comes over another connection, and the broker may still hold the one before.
                self.oracle.stats.add("take-overs", 1);
                self.connect(party);
            }
            n if n < cuts + 15 => {
                if let Some(link) = self.parties[party].link {
                    self.links[link].stalled_until = now + self.rng.u64(..3_000);
                }
            }
            _ => return false,
        }
        true
    }

    fn act_as_customer(&mut self, party: usize, customer: usize) {
        if self.calm {
            return;
        }
        let name = self.customers[customer].name.clone();
        let writes = self.plan.writes;
        match self.rng.u32(..1000) {
            n if n < writes => {
                let room = self.parties[party].out.len() < 3 && self.has_memory(customer);
                if room {
                    self.say(party, customer);
                }
            }
            990.. => self.publish(
                party,
                &format!("customer/{name}/ask"),
                br#"{"verb":"leave"}"#.into(),
                What::Other,
            ),
            986.. => self.publish(
                party,
                &format!("customer/{name}/ask"),
                br#"{"verb":"join"}"#.into(),
                What::Other,
            ),
            _ => {}
        }
    }

    /// Whether the broker still knows every message of which the customer, or its agent, has not heard.
    fn has_memory(&self, customer: usize) -> bool {
        let said = &self.oracle.said;
        let oldest = self.parties.iter().flat_map(|p| p.out.values()).filter_map(|out| match out.what {
            What::Said(message) if said[message].customer == customer => Some(said[message].marks),
            _ => None,
        });
        oldest.min().is_none_or(|oldest| self.customers[customer].marks - oldest < MEMORY)
    }

    fn say(&mut self, party: usize, customer: usize) {
        let number = self.oracle.said.len();
        let text = format!("m{number}");
        let has_id = self.chance(2);
        let link = self.parties[party].link.unwrap_or_default();
        let payload = if has_id {
            json!({"id": self.new_id(), "body": text}).to_string().into_bytes()
        } else {
            text.clone().into_bytes()
        };
        let marks = self.customers[customer].marks;
        self.customers[customer].marks += 1;
        self.oracle.said.push(Said { customer, has_id, marks, sends: 1, link, ..Said::default() });
        let name = self.customers[customer].name.clone();
        self.publish(party, &format!("customer/{name}/up"), payload, What::Said(number));
    }

    fn new_id(&mut self) -> String {
        ulid::Ulid(self.rng.u128(..)).to_string()
    }

    /// All filters of a client are granted.
    pub fn subscribed(&mut self, party: usize) {
        if self.parties[party].role == Role::Agent {
            let show = if self.calm || !self.chance(8) { "ready" } else { "away" };
            self.show(party, show);
        }
    }

    fn show(&mut self, party: usize, show: &'static str) {
        if !self.calm && self.chance(6) {
            // It serves other groups from now on, and may have learned something.
            self.parties[party].desk.groups = self.some_groups();
            self.parties[party].desk.skilled = self.rng.bool();
        }
        let Party { name, desk, .. } = &mut self.parties[party];
        desk.show = show;
        desk.drained_at = desk.drained_at.filter(|_| show != "ready");
        if show == "offline" {
            desk.offers.clear();
        }
        let skills: &[&str] = if desk.skilled { &["x"] } else { &[] };
        let said = json!({"show": show, "groups": desk.groups, "capacity": desk.capacity, "skills": skills});
        let topic = format!("agent/{name}/presence");
        self.publish(party, &topic, said.to_string().into_bytes(), What::Other);
    }

    fn answer(&mut self, party: usize, answer: &Value) {
        let topic = format!("agent/{}/answer", self.parties[party].name);
        self.publish(party, &topic, answer.to_string().into_bytes(), What::Other);
    }

    fn act_as_agent(&mut self, party: usize) {
        if self.calm {
            return self.act_in_calm(party);
        }
        let desk = &self.parties[party].desk;
        if desk.show != "ready" && self.chance(5) {
            return self.show(party, "ready");
        }
        let offers: Vec<String> = self.parties[party].desk.offers.keys().cloned().collect();
        let holds: Vec<(String, String)> = self.parties[party].desk.holds.clone().into_iter().collect();
        match self.rng.u32(..100) {
            0..40 if !offers.is_empty() => {
                let offer = pick(&mut self.rng, &offers).clone();
                let verb = *pick(&mut self.rng, &["accept", "accept", "accept", "reject"]);
                // One in eight is not answered at all.
                self.parties[party].desk.offers.remove(&offer);
                if !self.chance(8) {
                    self.answer(party, &json!({"verb": verb, "offer": offer}));
                }
            }
            40..80 if !holds.is_empty() => {
                let (conversation, phase) = pick(&mut self.rng, &holds).clone();
                self.work(party, &conversation, &phase);
            }
            80..82 => {
                let show = *pick(&mut self.rng, &["away", "away", "busy", "offline"]);
                self.show(party, show);
            }
            82 => {
                // Somebody else's conversation, or one that is over.
                let all: Vec<String> = self.oracle.conversations.keys().cloned().collect();
                if !all.is_empty() {
                    let conversation = pick(&mut self.rng, &all).clone();
                    self.reply(party, &conversation);
                }
            }
            _ => {}
        }
    }

    fn work(&mut self, party: usize, conversation: &str, phase: &str) {
        if self.plan.lasting && !self.chance(20) {
            return self.reply(party, conversation);
        }
        let verb = match (phase, self.rng.u32(..100)) {
            ("offered", _) => return,
            ("wrapup", 0..50) => "complete",
            ("held", 0..40) | ("transferring", 0..15) | (_, 95..) => "resume",
            (_, 0..55) => return self.reply(party, conversation),
            (_, 55..65) => "hold",
            (_, 65..70) => "release",
            (_, 70..80) => "transfer",
            _ => "complete",
        };
        let mut answer = json!({"verb": verb, "conversation": conversation});
        if verb == "transfer" && self.rng.bool() {
            answer["group"] = (*pick(&mut self.rng, &GROUPS)).into();
        } else if verb == "transfer" {
            answer["agent"] = format!("a{}", self.rng.usize(..self.plan.agents)).into();
        }
        self.answer(party, &answer);
    }

    fn reply(&mut self, party: usize, conversation: &str) {
        let Some(told) = self.oracle.conversations.get(conversation) else { return };
        let Some(customer) = self.customers.iter().position(|c| c.name == told.customer) else { return };
        if self.parties[party].out.len() > 6 || !self.has_memory(customer) {
            return;
        }
        self.write_reply(party, customer, conversation);
    }

    /// An agent writes to a customer, whether it may or not.
    pub fn write_reply(&mut self, party: usize, customer: usize, conversation: &str) {
        let number = self.oracle.said.len();
        let marks = self.customers[customer].marks;
        self.customers[customer].marks += 1;
        let agent = Some(self.parties[party].name.clone());
        self.oracle.said.push(Said { customer, agent, marks, sends: 1, ..Said::default() });
        let topic = format!("conversation/{conversation}/reply");
        self.publish(party, &topic, format!("m{number}").into_bytes(), What::Said(number));
    }

    /// An agent that does its duty.
    fn act_in_calm(&mut self, party: usize) {
        if self.parties[party].desk.show != "ready" {
            return self.show(party, "ready");
        }
        // It may count as away for want of attention.
        let p = &mut self.parties[party];
        if p.desk.seen_as == "away" && p.out.is_empty() {
            p.desk.seen_as.clear();
            return self.show(party, "ready");
        }
        let offers = std::mem::take(&mut self.parties[party].desk.offers);
        for offer in offers.into_keys() {
            self.answer(party, &json!({"verb": "accept", "offer": offer}));
        }
        if self.finishing && self.parties[party].out.is_empty() {
            let holds = self.parties[party].desk.holds.clone();
            for (conversation, _) in holds.iter().filter(|(_, phase)| *phase != "offered") {
                self.answer(party, &json!({"verb": "complete", "conversation": conversation}));
            }
        }
    }

    /// The reader, with what it is to see.
    pub fn reader(&mut self) -> usize {
        let filters = ["customer/+/state", "customer/+/answer", "queue/#", "agent/+/state"];
        let filters = filters.map(str::to_owned).to_vec();
        let number = self.parties.len();
        let reader = Party::new(Role::Reader, format!("reader-{number}"), String::new(), filters);
        self.parties.push(Party { lasting: false, ..reader });
        self.connect(number);
        number
    }

    /// The reader leaves.
    pub fn dismiss(&mut self, party: usize) {
        if let Some(link) = self.parties[party].link {
            self.links[link].send(&wire::disconnect(true, 0, None));
            self.links[link].up_closed = Some(self.now);
        }
        self.let_go(party);
    }
}
