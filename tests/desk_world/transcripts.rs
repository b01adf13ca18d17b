//! What the transcripts say when all has come to rest: every message once, in order, by who may write it, and in the
//! inbox of whoever has the conversation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};
use switchboard::desk::Phase;
use switchboard::store::{Store, Table};

use super::oracle::{Outcome, Said};
use super::party::{Role, What};
use super::rest::name_of;
use super::shards::World;

/// Messages that make a block of a transcript: an agent that gets a conversation later is not sent them.
const BLOCK: usize = 64;

fn number_of(message: &Value) -> u32 {
    message["seq"].as_u64().unwrap_or_default() as u32
}

impl World {
    /// Conversations of which nobody may have been told before a crash: those on the floor, and those in the archive.
    fn learn_conversations(&mut self) {
        let open = self.floor().conversations().map(|(_, c)| (c.customer.to_string(), name_of(c.id)));
        let mut all: Vec<(String, String)> = open.collect();
        if let Some(store) = &self.store {
            store
                .load(Table::Archive, &mut |key, _| {
                    let (names, id) = key.split_at(key.len() - 16);
                    let customer = names.split(|byte| *byte == 0).nth(1).unwrap();
                    let id = u128::from_be_bytes(id.try_into().unwrap());
                    all.push((String::from_utf8(customer.to_vec()).unwrap(), name_of(id)));
                })
                .unwrap();
        }
        for (customer, v) in all {
            self.oracle.conversations.entry(v).or_default().customer = customer;
        }
    }

    /// All transcripts there are, by conversation.
    pub fn read_transcripts(&mut self, reader: usize) -> BTreeMap<String, Vec<Value>> {
        self.learn_conversations();
        let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut asks: Vec<(String, String, u64)> = self
            .oracle
            .conversations
            .iter()
            .filter(|(_, told)| !told.customer.is_empty())
            .map(|(v, told)| (told.customer.clone(), v.clone(), u64::from(u32::MAX)))
            .collect();
        let customers: HashMap<String, String> =
            asks.iter().map(|(customer, v, _)| (v.clone(), customer.clone())).collect();
        while !asks.is_empty() && self.failure.is_none() {
            for (customer, v, before) in std::mem::take(&mut asks) {
                let limit = self.rng.usize(1..100);
                let ask = json!({"verb": "transcript", "conversation": v, "before": before, "limit": limit});
                let topic = format!("customer/{customer}/ask");
                self.publish(reader, &topic, ask.to_string().into_bytes(), What::Other);
                while self.parties[reader].out.len() > 150 && self.failure.is_none() {
                    self.step();
                }
            }
            self.come_to_rest();
            for page in std::mem::take(&mut self.oracle.pages) {
                let Some(v) = page["conversation"].as_str() else { continue };
                let mut messages = page["messages"].as_array().cloned().unwrap_or_default();
                if page["ok"] != true {
                    self.fail(format!("{v}: {page}"));
                }
                if let Some(before) = page["before"].as_u64() {
                    asks.push((customers[v].clone(), v.to_owned(), before));
                }
                let later = all.entry(v.to_owned()).or_default();
                messages.append(later);
                *later = messages;
            }
        }
        all
    }

    pub fn judge_transcripts(&mut self, pages: &BTreeMap<String, Vec<Value>>) {
        let mut count = vec![0_usize; self.oracle.said.len()];
        let mut replies: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (v, messages) in pages {
            let mut orders: HashMap<usize, usize> = HashMap::new();
            // Without a store an open conversation has its last messages alone.
            let first = if self.plan.stored { 1 } else { messages.first().map_or(1, number_of) };
            if first > 1 && messages.len() < BLOCK {
                return self.fail(format!("{v}: {} messages are left, from {first}", messages.len()));
            }
            for (at, message) in messages.iter().enumerate() {
                if number_of(message) != first + at as u32 {
                    return self.fail(format!("{v}: the transcript's message {} is {message}", at + 1));
                }
                self.hear_message(v, message);
                if let Some(said) =
                    message["body"].as_str().and_then(|body| body.strip_prefix('m')?.parse().ok())
                {
                    let said: usize = said;
                    count[said] += 1;
                    let Said { link, agent, sends, .. } = &self.oracle.said[said];
                    if agent.is_none() && *sends == 1 {
                        // What was said once, over one connection, is in the order in which it was said.
                        let before = orders.insert(*link, said).unwrap_or_default();
                        if before > said {
                            return self.fail(format!("{v}: m{said} comes behind m{before}"));
                        }
                    }
                }
                if message["from"]["role"] == "agent" {
                    replies.entry(v).or_default().push(message["from"]["id"].as_str().unwrap());
                }
            }
            let blocks = messages.len() / BLOCK;
            self.oracle.stats.add("transcripts of several blocks", u64::from(blocks > 0));
            let most = self.oracle.conversations[v].messages.last_key_value().map_or(0, |(seq, _)| *seq);
            let last = messages.last().map_or(0, number_of);
            if last < most && (self.plan.stored || !messages.is_empty()) {
                return self
                    .fail(format!("{v}: {} messages are in the transcript of {most}", messages.len()));
            }
        }
        let lost = self
            .oracle
            .conversations
            .iter()
            .find(|(v, told)| !told.messages.is_empty() && !pages.contains_key(*v));
        if let Some((v, told)) = lost.filter(|_| self.plan.stored) {
            let what = format!("{v} has no transcript, and had {} messages", told.messages.len());
            return self.fail(what);
        }
        let kept = self.plan.stored;
        if !kept {
            // What is over has no transcript without a store; everybody has heard everything.
            count.fill(0);
            for message in self.oracle.conversations.values().flat_map(|told| told.messages.values()) {
                let said =
                    message.1.trim_matches('"').strip_prefix('m').and_then(|number| number.parse().ok());
                if let Some::<usize>(said) = said {
                    count[said] += 1;
                }
            }
        }
        self.judge_counts(&count);
        self.judge_heard(pages);
        self.judge_replies(&replies);
        self.judge_inboxes(pages);
        self.oracle.stats.add("transcripts read", pages.len() as u64);
    }

    /// The witness has heard of every message and, without a crash, of every transition.
    fn judge_heard(&mut self, pages: &BTreeMap<String, Vec<Value>>) {
        let floor = self.floor();
        let mut wrong = None;
        let on_floor: HashMap<String, u32> =
            floor.conversations().map(|(_, c)| (name_of(c.id), c.ver)).collect();
        for (v, told) in &self.oracle.conversations {
            let open = self.open_thread(&told.customer).is_some_and(|(id, _)| name_of(id) == *v);
            let messages = pages.get(v).map_or(&[][..], Vec::as_slice);
            // Of what was over before a crash not everything may have been said.
            if open || self.oracle.crashes == 0 {
                let down = messages.iter().find(|message| {
                    let seq = message["seq"].as_u64().unwrap_or_default() as u32;
                    message["from"]["role"] != "customer" && !told.down.contains(&seq)
                });
                if let Some(message) = down {
                    wrong = Some(format!("{v}: the customer was never sent {message}"));
                }
                let last = messages.last().map_or(0, number_of);
                if told.heard < last {
                    wrong = Some(format!("{v}: {} messages were said of {last}", told.heard));
                }
            }
            let last = told.events.last_key_value().map_or(0, |(last, _)| *last);
            let right = on_floor.get(v).map_or(told.ended, |ver| *ver == last);
            if self.oracle.crashes == 0 && !right {
                wrong = Some(format!("{v}: version {last} was said, {:?} is on the floor", on_floor.get(v)));
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    fn judge_counts(&mut self, count: &[usize]) {
        let mut missing = vec![0; self.customers.len()];
        let mut absent = Vec::new();
        for (number, (said, count)) in self.oracle.said.iter().zip(count).enumerate() {
            let wrong = match said.outcome {
                Outcome::Taken if *count == 0 && said.agent.is_none() => {
                    missing[said.customer] += 1;
                    absent.push(number);
                    false
                }
                Outcome::Taken => *count != 1,
                Outcome::Refused => *count > 0,
                Outcome::Unknown => *count > 1,
            };
            if wrong {
                let what = format!("message m{number} is {count} times in the transcripts: {said:?}");
                return self.fail(what);
            }
        }
        for (customer, missing) in self.customers.iter().zip(missing) {
            // Whoever is turned away is told so. What was told may be lost with a crash.
            let excused = customer.turned_away;
            let lost = self.oracle.crashes > 0 && self.plan.rules.contains("full_text");
            if missing > excused && !lost {
                let what = format!(
                    "{missing} messages of {} are in no transcript; of all {absent:?}",
                    customer.name
                );
                return self.fail(what);
            }
        }
    }

    /// Each reply came from whoever had the conversation then, and nobody else was sent its messages.
    fn judge_replies(&mut self, replies: &BTreeMap<&str, Vec<&str>>) {
        for (v, authors) in replies {
            let told = &self.oracle.conversations[*v];
            if self.oracle.crashes > 0 {
                continue;
            }
            let stranger =
                self.parties.iter().find(|p| p.desk.had.contains_key(*v) && !told.agents.contains(&p.name));
            if let Some(stranger) = stranger {
                let what = format!("{} was sent messages of {v}, which {:?} had", stranger.name, told.agents);
                return self.fail(what);
            }
            let mut had = told.agents.iter();
            let mut now = None;
            for author in authors {
                if now != Some(*author) {
                    now = had.by_ref().find(|agent| *agent == author).map(|agent| &**agent);
                }
                if now.is_none() {
                    let what = format!("{v}: replies of {authors:?}, and it was had by {:?}", told.agents);
                    return self.fail(what);
                }
            }
        }
    }

    /// Whoever has a conversation has had its messages.
    fn judge_inboxes(&mut self, pages: &BTreeMap<String, Vec<Value>>) {
        let floor = self.floor();
        let mut wrong = None;
        let mut seen = 0;
        for (_, c) in floor.conversations().filter(|(_, c)| c.phase != Phase::Wrapup) {
            let v = name_of(c.id);
            let Some(agent) =
                c.agent.and_then(|agent| floor.agent(agent)).map(|agent| Arc::clone(&agent.name))
            else {
                continue;
            };
            let party = self.parties.iter().find(|p| p.role == Role::Agent && *p.name == *agent).unwrap();
            let count = pages.get(&v).and_then(|page| page.last()).map_or(0, number_of) as usize;
            let had = party.desk.had.get(&v);
            let told = &self.oracle.conversations[&v];
            let once = told.agents.iter().filter(|had| **had == *agent).count() == 1 && !told.gaps;
            // What was in a block when it came to this agent it is not sent.
            let block = count - count % BLOCK + 1;
            let first = had.and_then(|had| had.first()).map_or(block, |first| *first as usize);
            for seq in if once { first.min(block) } else { block }..=count {
                seen += 1;
                if !had.is_some_and(|had| had.contains(&(seq as u32))) {
                    wrong =
                        Some(format!("{v}: {agent} has it and never had message {seq} of {count}: {had:?}"));
                }
            }
        }
        self.oracle.stats.add("messages in the right inbox", seen);
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }
}
