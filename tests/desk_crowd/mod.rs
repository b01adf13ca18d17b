//! Customers and agents of a broker that is killed again and again, each in a thread with a blocking socket, and a
//! watcher; all that they see goes into one [`Book`].

pub mod agents;
pub mod customers;
pub mod peer;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const CUSTOMERS: usize = 8;
/// The groups of each agent.
pub const AGENTS: [&[&str]; 4] = [&["care"], &["care"], &["care", "shop"], &["shop"]];
/// Within this all that is owed must have come.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const RUN: u8 = 0;
/// Customers write one last message, agents only accept and have their replies taken.
pub const FINISH: u8 = 1;
pub const STOP: u8 = 2;

pub const PREFIX: &str = "cs/1/main/";

/// A reply that was acknowledged.
pub struct Reply {
    pub id: String,
    pub conversation: String,
    pub agent: usize,
    pub sent_at: Instant,
}

/// All that anybody has seen or done.
#[derive(Default)]
pub struct Book {
    /// What went wrong.
    pub faults: Vec<String>,
    /// The id at each place, the place of each id.
    pub ids: HashMap<(String, u64), String>,
    pub places: HashMap<String, (String, u64)>,
    /// Whose each conversation is.
    pub customers: BTreeMap<String, String>,
    /// Of each conversation, by `ver`.
    pub events: BTreeMap<String, BTreeMap<u64, Value>>,
    /// Of each customer, the retained one.
    pub states: HashMap<String, Value>,
    pub watched: bool,
    pub written: HashSet<String>,
    pub acked: Vec<HashSet<String>>,
    pub down: Vec<HashSet<String>>,
    pub subscribed: Vec<Option<Instant>>,
    /// The last message of each customer, once all are acknowledged.
    pub last: BTreeMap<usize, String>,
    pub replies: Vec<Reply>,
    /// What came to each agent over its last connection.
    pub inboxes: Vec<HashMap<String, BTreeSet<u64>>>,
    pub idle: BTreeSet<usize>,
    /// Offers whose acceptance was confirmed, by conversation and agent.
    pub accepted: BTreeMap<(String, usize), HashSet<String>>,
    pub rejected: usize,
    pub transfers: usize,
    pub completed: usize,
    /// Replies refused: the conversation was somebody else's by then, or over.
    pub refused: usize,
    /// Messages and events that came more than once to somebody.
    pub again: usize,
}

impl Book {
    /// Somebody has seen a message of a conversation.
    pub fn saw(&mut self, by: &str, m: &Value) {
        let (Some(v), Some(seq), Some(id)) =
            (m["conversation"].as_str(), m["seq"].as_u64(), m["id"].as_str())
        else {
            return self.faults.push(format!("{by}: no message: {m}"));
        };
        let place = (v.to_owned(), seq);
        if let Some(before) = self.ids.insert(place.clone(), id.to_owned()).filter(|before| before != id) {
            self.faults.push(format!("{by}: {place:?} is {id} and was {before}"));
        }
        if let Some(before) = self.places.insert(id.to_owned(), place.clone()).filter(|b| *b != place) {
            self.faults.push(format!("{by}: {id} is at {place:?} and was at {before:?}"));
        }
        if m["from"]["role"] == "customer" {
            self.belongs(v, m["from"]["id"].as_str().unwrap());
        }
    }

    pub fn belongs(&mut self, v: &str, customer: &str) {
        let before = self.customers.insert(v.to_owned(), customer.to_owned());
        if let Some(before) = before.filter(|before| before != customer) {
            self.faults.push(format!("{v} is of {customer} and was of {before}"));
        }
    }

    pub fn event(&mut self, event: Value) {
        let (v, ver) = (event["conversation"].as_str().unwrap().to_owned(), event["ver"].as_u64().unwrap());
        self.belongs(&v, event["customer"].as_str().unwrap());
        let known = self.events.entry(v).or_default();
        if let Some(before) = known.get(&ver) {
            self.again += 1;
            if *before != event {
                self.faults.push(format!("announced anew otherwise: {before} then {event}"));
            }
            return;
        }
        if let Some((_, last)) = known.last_key_value().filter(|(last, _)| **last > ver) {
            self.faults.push(format!("ver goes back: {last} then {event}"));
        }
        known.insert(ver, event);
    }

    /// Who has a customer's last conversation. `None`: not all is quiet.
    #[expect(clippy::option_option, reason = "nobody, or not known yet")]
    pub fn rest(&self, customer: usize) -> Option<Option<usize>> {
        let (v, _) = self.places.get(self.last.get(&customer)?)?;
        if self.events.get(v).and_then(|events| events.last_key_value()).is_some_and(|(_, e)| over(e)) {
            return Some(None);
        }
        let state = self.states.get(&customer_name(customer)).filter(|s| s["conversation"] == v.as_str())?;
        state["agent"].as_str().filter(|_| state["state"] == "assigned").map(|name| Some(agent_of(name)))
    }

    pub fn quiet(&self) -> bool {
        self.idle.len() == AGENTS.len() && (0..CUSTOMERS).all(|customer| self.rest(customer).is_some())
    }

    pub fn everything_happened(&self) -> bool {
        let accepted = self.accepted.values().map(HashSet::len).sum::<usize>();
        accepted > 0 && self.rejected > 0 && self.transfers > 0 && self.completed > 0 && self.again > 0
    }
}

pub fn over(event: &Value) -> bool {
    ["wrapup", "closed", "abandoned", "expired"].iter().any(|phase| event["to"] == *phase)
}

pub fn customer_name(number: usize) -> String {
    format!("{}-{number}", if number.is_multiple_of(3) { "shop" } else { "care" })
}

pub fn agent_of(name: &str) -> usize {
    name.strip_prefix("agent-").unwrap().parse().unwrap()
}

/// Half of the customers have sessions that last.
pub fn lasts(customer: usize) -> bool {
    customer.is_multiple_of(2)
}

/// What all threads share.
pub struct World {
    pub address: SocketAddr,
    pub up: Mutex<bool>,
    pub rises: Condvar,
    pub phase: AtomicU8,
    pub book: Mutex<Book>,
    pub news: Condvar,
}

impl World {
    pub fn note<T>(&self, what: impl FnOnce(&mut Book) -> T) -> T {
        let done = what(&mut self.book.lock().unwrap());
        self.news.notify_all();
        done
    }

    /// Waits until the book says so; `false`: it does not within our patience.
    pub fn until(&self, mut so: impl FnMut(&Book) -> bool) -> bool {
        let book = self.book.lock().unwrap();
        !self.news.wait_timeout_while(book, PATIENCE, |book| !so(book)).unwrap().1.timed_out()
    }

    pub fn phase(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }
}
