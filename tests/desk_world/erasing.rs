//! Customers who are forgotten: what is over goes at once, what is open when it ends, in memory, in the store and over
//! crashes; nobody else misses anything.

use serde_json::json;
use switchboard::desk::Phase;
use switchboard::store::{Store, Table};

use super::oracle::Outcome;
use super::party::What;
use super::people::WITNESS;
use super::plan::{PREFIX, TENANT};
use super::rest::name_of;
use super::shards::World;

/// Tables that the desk writes; the others are clients' sessions.
const OF_THE_DESK: [Table; 7] = [
    Table::Retained,
    Table::Conversations,
    Table::Agents,
    Table::Threads,
    Table::Tails,
    Table::Transcripts,
    Table::Archive,
];

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

impl World {
    /// As [`World::play`](Self), but every second customer is erased before the end.
    pub fn play_erasure(&mut self) {
        self.disturb();
        self.settle();
        let names: Vec<String> = self.customers.iter().map(|customer| customer.name.clone()).collect();
        for name in &names {
            let topic = format!("customer/{name}/context/patch");
            self.publish(WITNESS, &topic, br#"{"tier":"gold"}"#.into(), What::Other);
        }
        self.come_to_rest();
        // Something is over, something is being written up, something is open.
        self.finishing = true;
        for _ in 0..self.rng.usize(..12) {
            self.step();
        }
        self.finishing = false;
        if self.failure.is_some() {
            return;
        }
        let gone: Vec<String> = names.iter().step_by(2).cloned().collect();
        self.erase(&gone);
        self.come_to_rest();
        self.judge_erased(&gone);
        if self.chance(2) && self.failure.is_none() {
            self.crash();
            self.come_to_rest();
            self.judge_erased(&gone);
        }
        self.finishing = true;
        self.settle();
        // Nobody has come for some of them.
        for (v, _) in gone.iter().filter_map(|name| self.open_thread(name)).collect::<Vec<_>>() {
            let close = json!({"conversation": name_of(v)}).to_string();
            self.publish(WITNESS, "control/close", close.into_bytes(), What::Other);
        }
        self.settle();
        if self.failure.is_none() && gone.iter().any(|name| self.open_thread(name).is_some()) {
            self.fail("a conversation of somebody who is erased does not end".into());
        }
        self.judge_erased(&gone);
        self.judge_asked(&gone);
        self.let_go_of(&gone);
        if self.failure.is_none() {
            self.judge_rest();
        }
        if self.failure.is_none() {
            self.judge_documents(&gone);
            self.judge_end();
        }
    }

    fn erase(&mut self, names: &[String]) {
        let written_up = self.floor().conversations().filter(|(_, c)| c.phase == Phase::Wrapup);
        let written_up = written_up.filter(|(_, c)| names.iter().any(|name| **name == *c.customer)).count();
        self.oracle.stats.add("erased while written up", written_up as u64);
        for name in names {
            self.note(|_| format!("{name} is erased"));
            let mut done: Vec<_> =
                self.cores.iter_mut().map(|core| core.erase_customer(TENANT, name)).collect();
            // Elsewhere than at its home nothing is known of it.
            done.retain(|done| done.over > 0 || done.open);
            if done.len() > 1 || done.iter().any(|done| done.open) != self.open_thread(name).is_some() {
                self.fail(format!("{name}: {done:?}"));
            }
            for done in done {
                self.oracle.stats.add("erased when over", done.over as u64);
                self.oracle.stats.add("erased while open", u64::from(done.open));
            }
        }
        // Whatever is changed outside of a turn goes out with the next one.
        for shard in 0..self.cores.len() {
            self.finish_turn(shard);
        }
    }

    /// Nothing is left of what is over.
    fn judge_erased(&mut self, names: &[String]) {
        if self.failure.is_some() {
            return;
        }
        let mut wrong = Vec::new();
        for name in names {
            let open = self.open_thread(name).map(|(v, _)| v);
            let traces: usize = self.cores.iter().map(|core| core.traces_of(TENANT, name)).sum();
            if traces != usize::from(open.is_some()) {
                wrong.push(format!("{name} is remembered {traces} times, open {open:?}"));
            }
            let left = self.floor().conversations().filter(|(_, c)| *c.customer == **name);
            if let Some((_, c)) = left.into_iter().find(|(_, c)| Some(c.id) != open) {
                wrong.push(format!("{name} is on the floor: {c:?}"));
            }
            wrong.extend(self.stored_of(name, open));
        }
        if !wrong.is_empty() {
            self.fail(wrong.join("\n"));
        }
    }

    /// Documents of the desk in which a customer, or one of its conversations but for this one, can be found.
    fn stored_of(&self, name: &str, open: Option<u128>) -> Vec<String> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for (v, _) in self.oracle.conversations.iter().filter(|(_, told)| told.customer == name) {
            let v = ulid::Ulid::from_string(v).unwrap();
            if Some(v.0) != open {
                parts.extend([v.0.to_be_bytes().to_vec(), v.to_string().into_bytes()]);
            }
        }
        parts.push(format!("/customer/{name}/").into_bytes());
        if open.is_none() {
            parts.push(format!("\"customer\":\"{name}\"").into_bytes());
            parts.push(format!("{TENANT}\0{name}\0").into_bytes());
        }
        let mut found = Vec::new();
        for table in OF_THE_DESK {
            let mut look = |key: &[u8], value: &[u8]| {
                // The key may end with the customer.
                let key = [key, b"\0"].concat();
                if parts.iter().any(|part| contains(&key, part) || contains(value, part)) {
                    found.push(format!("{name} is in {}: {}", table.name(), key.escape_ascii()));
                }
            };
            self.store.as_ref().unwrap().load(table, &mut look).unwrap();
        }
        found
    }

    /// Whoever asks for their transcripts is told that there are none.
    fn judge_asked(&mut self, names: &[String]) {
        let reader = self.reader();
        self.come_to_rest();
        self.oracle.pages.clear();
        let all = self.oracle.conversations.iter().filter(|(_, told)| names.contains(&told.customer));
        let mut asks: Vec<(String, String)> = all
            .map(|(v, told)| {
                (told.customer.clone(), json!({"verb": "transcript", "conversation": v}).to_string())
            })
            .collect();
        asks.extend(names.iter().map(|name| (name.clone(), r#"{"verb":"transcript"}"#.to_owned())));
        for (name, ask) in &asks {
            let topic = format!("customer/{name}/ask");
            self.publish(reader, &topic, ask.clone().into_bytes(), What::Other);
            while self.parties[reader].out.len() > 150 && self.failure.is_none() {
                self.step();
            }
        }
        self.come_to_rest();
        let pages = std::mem::take(&mut self.oracle.pages);
        self.oracle.stats.add("transcripts asked for in vain", pages.len() as u64);
        let told = pages.iter().find(|page| page["ok"] != false || page["reason"] != "no_conversation");
        if let Some(page) = told {
            self.fail(format!("somebody who is erased has a transcript: {page}"));
        } else if pages.len() != asks.len() {
            self.fail(format!("{} answers to {} questions", pages.len(), asks.len()));
        }
        self.dismiss(reader);
        self.come_to_rest();
    }

    /// The others' documents are there.
    fn judge_documents(&mut self, gone: &[String]) {
        for name in self.customers.iter().map(|customer| customer.name.clone()).collect::<Vec<_>>() {
            let topic = format!("{PREFIX}customer/{name}/context").into_bytes();
            let mut there = false;
            let mut look = |key: &[u8], _: &[u8]| there |= contains(key, &topic);
            self.store.as_ref().unwrap().load(Table::Retained, &mut look).unwrap();
            if there == gone.contains(&name) {
                self.fail(format!("{name}: its document is there: {there}"));
            }
        }
    }

    /// From now on nothing is expected of what they have said and were told.
    fn let_go_of(&mut self, names: &[String]) {
        let oracle = &mut self.oracle;
        oracle.conversations.retain(|_, told| !names.contains(&told.customer));
        oracle.offers.retain(|_, offer| oracle.conversations.contains_key(&offer.conversation));
        for said in &mut oracle.said {
            if names.contains(&self.customers[said.customer].name) {
                said.outcome = Outcome::Unknown;
            }
        }
    }
}
