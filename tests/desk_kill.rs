//! `kill -9` in the middle of offers, transfers and messages: what the desk has acknowledged or announced holds afterwards.
//!
//! A few kills in the ordinary run. `tests/kill.sh` makes more of them; `long_runs.md` is the ledger.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    unreachable_pub,
    reason = "tests"
)]

mod desk_crowd;
mod dialogue;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use desk_crowd::agents::agent;
use desk_crowd::customers::{customer, watch};
use desk_crowd::{
    AGENTS, Book, CUSTOMERS, FINISH, PATIENCE, PREFIX, RUN, Reply, STOP, World, customer_name, lasts, over,
};
use dialogue::{Client, Packet, message, v5};
use serde_json::{Value, json};

const RULES: &str = r#"
[[tenant]]
name = "main"

[[tenant.group]]
name = "care"
mode = "assigned"
[tenant.group.assigned]
offer = "1s"
grace = "2s"
sticky = "0s"
lapses = 100
reject = "1s"

[[tenant.group]]
name = "shop"
mode = "assigned"
[tenant.group.assigned]
offer = "1s"
grace = "2s"
sticky = "0s"
lapses = 100
reject = "1s"

[[tenant.rule]]
name = "shop"
when = 'message.topic.contains("/shop-")'
group = "shop"

[[tenant.rule]]
name = "all"
group = "care"
"#;

/// A broker in a process of its own, with a store that outlives it.
struct Broker {
    folder: PathBuf,
    child: Child,
    world: Arc<World>,
}

impl Broker {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(dialogue::unique("switchboard-desk-kill"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("routing.toml"), RULES).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let world = Arc::new(World {
            address,
            up: Mutex::new(false),
            rises: Condvar::new(),
            phase: AtomicU8::new(RUN),
            book: Mutex::default(),
            news: Condvar::new(),
        });
        let child = Self::spawn(&world, &folder);
        Self { folder, child, world }
    }

    fn spawn(world: &World, folder: &PathBuf) -> Child {
        let child = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .current_dir(folder)
            .args(["serve", "--set", "http.enabled=false", "--set", "shards=2", "--set", "log.level=warn"])
            .args(["--set", "store.directory=data", "--set", "desk.routing=routing.toml"])
            .args(["--set", "session.queue_messages=1000000", "--set", "session.queue_bytes=1GiB"])
            .args(["--set", &format!("listener.tcp.bind={}", world.address)])
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(world.address).is_err() {
            assert!(Instant::now() < until, "the broker does not start");
            thread::yield_now();
        }
        *world.up.lock().unwrap() = true;
        world.rises.notify_all();
        child
    }

    fn kill_and_restart(&mut self) {
        *self.world.up.lock().unwrap() = false;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.world, &self.folder);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// All messages of a conversation, page by page.
fn transcript(judge: &mut Client, customer: &str, v: &str) -> Vec<Value> {
    let (mut all, mut before) = (Vec::new(), Value::Null);
    loop {
        let mut wish = json!({"verb": "transcript", "conversation": v});
        if !before.is_null() {
            wish["before"] = before;
        }
        let ask = message(&format!("{PREFIX}customer/{customer}/ask"), wish.to_string());
        judge.publish(ask.qos(1).response_topic("judge"));
        let answer: Value = loop {
            if let Packet::Publish(publish) = judge.next() {
                judge.acknowledge(&publish);
                break serde_json::from_slice(&publish.payload).unwrap();
            }
        };
        assert_eq!(answer["ok"], true, "{v} of {customer}: {answer}");
        assert_eq!(answer["conversation"], v);
        let mut page = answer["messages"].as_array().unwrap().clone();
        page.append(&mut all);
        all = page;
        before = answer["before"].clone();
        if before.is_null() {
            return all;
        }
    }
}

/// What was acknowledged is in the transcripts once, numbered without gap; and so is all that anybody has seen.
fn judge_transcripts(book: &mut Book, transcripts: &BTreeMap<String, Vec<Value>>) {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for (v, all) in transcripts {
        if !all.iter().map(|m| m["seq"].as_u64().unwrap()).eq(1..=all.len() as u64) {
            let seqs: Vec<&Value> = all.iter().map(|m| &m["seq"]).collect();
            book.faults.push(format!("{v} has the numbers {seqs:?}"));
        }
        for m in all {
            book.saw("transcript", m);
            let id = m["id"].as_str().unwrap();
            *times.entry(id).or_default() += 1;
            if !book.written.contains(id) {
                book.faults.push(format!("nobody wrote {m}"));
            }
        }
    }
    let mut faults = Vec::new();
    for (id, times) in times.iter().filter(|(_, times)| **times > 1) {
        faults.push(format!("{id} is in the transcripts {times} times"));
    }
    for (v, seq) in book.ids.keys() {
        if transcripts.get(v).is_none_or(|all| all.len() < *seq as usize) {
            faults.push(format!("{seq} of {v} was seen and is not in the transcript"));
        }
    }
    for (customer, acked) in book.acked.iter().enumerate() {
        for id in acked.iter().filter(|id| !times.contains_key(id.as_str())) {
            faults.push(format!("{} wrote {id}: acknowledged and lost", customer_name(customer)));
        }
    }
    for Reply { id, conversation, agent, .. } in &book.replies {
        let from = json!({"role": "agent", "id": format!("agent-{agent}")});
        let found = transcripts.get(conversation).and_then(|all| all.iter().find(|m| m["id"] == id.as_str()));
        if found.is_none_or(|m| m["from"] != from) {
            faults.push(format!("agent {agent} replied {id} in {conversation}: acknowledged, and {found:?}"));
        }
    }
    book.faults.append(&mut faults);
}

/// What is announced of a conversation is one story, to which all confirmed acceptances and all replies belong.
fn judge_events(book: &mut Book, transcripts: &BTreeMap<String, Vec<Value>>) -> (usize, usize) {
    let (mut faults, mut missing, mut stories) = (Vec::new(), 0, 0);
    let nothing = BTreeMap::new();
    for (v, messages) in transcripts {
        let events = book.events.get(v).unwrap_or(&nothing);
        for ((ver, event), (next, after)) in events.iter().zip(events.iter().skip(1)) {
            if ver + 1 == *next && event["to"] != after["from"] {
                faults.push(format!("{event} and then {after}"));
            }
        }
        let state = book.states.get(&book.customers[v]).filter(|state| state["conversation"] == v.as_str());
        let last = events.last_key_value();
        let shown = state.and_then(|state| state["ver"].as_u64());
        // An event is announced once: one that was stored at the moment of a kill may be heard of by nobody.
        let ends = last.is_some_and(|(ver, event)| over(event) || shown == Some(*ver));
        let unheard = last.map_or(0, |(last, _)| *last as usize) - events.len();
        let gaps = if ends { unheard } else { usize::MAX };
        missing += unheard;
        for ((_, agent), offers) in book.accepted.range((v.clone(), 0)..=(v.clone(), usize::MAX)) {
            let name = format!("agent-{agent}");
            let told = events.values().filter(|e| e["reason"] == "accepted" && e["agent"] == name.as_str());
            let told = told.inspect(|e| assert_eq!(e["to"], "assigned")).count();
            if offers.len() > told.saturating_add(gaps) {
                faults.push(format!("{name} has accepted {offers:?} of {v}, and {told} are announced"));
            }
        }
        if gaps > 0 {
            continue;
        }
        // Who has replied, one after the other, is how the conversation went from one to the other.
        stories += 1;
        let mut owners = events.values().filter(|e| e["reason"] == "accepted").map(|e| &e["agent"]);
        let mut authors: Vec<&Value> =
            messages.iter().filter(|m| m["from"]["role"] == "agent").map(|m| &m["from"]["id"]).collect();
        authors.dedup();
        if !authors.iter().all(|author| owners.any(|owner| owner == *author)) {
            faults
                .push(format!("{v}: replies by {authors:?}, and {:?}", events.values().collect::<Vec<_>>()));
        }
    }
    book.faults.append(&mut faults);
    (missing, stories)
}

/// What is still to come to customers and agents.
fn owed(book: &Book, transcripts: &BTreeMap<String, Vec<Value>>) -> Vec<String> {
    let mut owed = Vec::new();
    for customer in 0..CUSTOMERS {
        let name = customer_name(customer);
        let replies = book.replies.iter().filter(|reply| book.customers[&reply.conversation] == name);
        for reply in replies.filter(|reply| !book.down[customer].contains(&reply.id)) {
            // Without a session that lasts it has what was written since it has subscribed.
            if lasts(customer) || book.subscribed[customer].is_some_and(|since| since < reply.sent_at) {
                let place = &book.places[&reply.id];
                owed.push(format!("{name} has not got {} at {place:?} by agent {}", reply.id, reply.agent));
            }
        }
        let state = book.states.get(&name).filter(|state| !state.is_null());
        let events = state.and_then(|state| book.events.get(state["conversation"].as_str().unwrap()));
        if let Some((ver, event)) = events.and_then(|events| events.last_key_value())
            && state.is_some_and(|state| state["ver"].as_u64() < Some(*ver))
        {
            owed.push(format!("{name} is shown {state:?} behind {event}"));
        }
        let Some(Some(agent)) = book.rest(customer) else { continue };
        let (v, _) = &book.places[&book.last[&customer]];
        let last = transcripts[v].len() as u64;
        // What is in a block of the transcript by now is not sent again; a block has 64 messages.
        let none = BTreeSet::new();
        let inbox = book.inboxes[agent].get(v).unwrap_or(&none);
        let first = inbox.first().copied().unwrap_or(last + 1);
        if (first - 1) % 64 != 0 || !inbox.iter().copied().eq(first..=last) {
            owed.push(format!("agent {agent} has {inbox:?} of {v}, which has {last}"));
        }
    }
    owed
}

type Play = Box<dyn FnOnce(&Arc<World>, u64) + Send>;

fn show(what: &[String]) -> String {
    format!("{} in all\n{}", what.len(), what[..what.len().min(20)].join("\n"))
}

#[test]
fn the_desk_survives_kill_9() {
    let wanted: u64 = std::env::var("KILLS").ok().map_or(6, |kills| kills.parse().unwrap());
    let mut broker = Broker::start();
    let world = broker.world.clone();
    let mut rng = fastrand::Rng::new();
    println!("seed {:#x}", rng.get_seed());
    world.note(|book| {
        book.acked = vec![HashSet::new(); CUSTOMERS];
        book.down = vec![HashSet::new(); CUSTOMERS];
        book.subscribed = vec![None; CUSTOMERS];
        book.inboxes = vec![HashMap::new(); AGENTS.len()];
    });
    let mut threads = Vec::new();
    let mut start = |play: Play| {
        let (world, seed) = (world.clone(), rng.u64(..));
        threads.push(thread::spawn(move || play(&world, seed)));
    };
    start(Box::new(watch));
    assert!(world.until(|book| book.watched), "nobody could subscribe");
    for number in 0..AGENTS.len() {
        start(Box::new(move |world, seed| agent(number, world, seed)));
    }
    for number in 0..CUSTOMERS {
        start(Box::new(move |world, seed| customer(number, world, seed)));
    }
    let (begun, mut kills) = (Instant::now(), 0);
    while kills < wanted || (begun.elapsed() < PATIENCE / 2 && !world.note(|book| book.everything_happened()))
    {
        // It lives for a time that is not the same each time.
        thread::sleep(Duration::from_millis(rng.u64(30..400)));
        broker.kill_and_restart();
        kills += 1;
    }
    world.phase.store(FINISH, Ordering::Release);
    let quiet = world.until(Book::quiet);
    world.note(|book| {
        let rests: Vec<_> = (0..CUSTOMERS).map(|customer| book.rest(customer)).collect();
        let (last, idle) = (&book.last, &book.idle);
        assert!(quiet, "{rests:?} {last:?} {idle:?} {:?}\n{}", book.states, show(&book.faults));
    });

    let mut judge = v5("judge").at(world.address).open();
    judge.subscribe("judge", 1);
    let known = world.note(|book| book.customers.clone());
    let transcripts: BTreeMap<String, Vec<Value>> =
        known.iter().map(|(v, customer)| (v.clone(), transcript(&mut judge, customer, v))).collect();
    let (missing, stories) = world.note(|book| {
        judge_transcripts(book, &transcripts);
        judge_events(book, &transcripts)
    });
    let all_came = world.until(|book| owed(book, &transcripts).is_empty());
    world.phase.store(STOP, Ordering::Release);
    for thread in threads {
        thread.join().unwrap();
    }
    world.note(|book| {
        let acked: usize = book.acked.iter().map(HashSet::len).sum();
        let accepted: usize = book.accepted.values().map(HashSet::len).sum();
        println!(
            "{kills} kills: {acked} messages and {} replies acknowledged in {} conversations, {} came again; {accepted} \
             offers accepted, {} rejected, {} transfers, {} completed, {} replies refused; {missing} events unheard, \
             {stories} whole stories; {} s",
            book.replies.len(),
            known.len(),
            book.again,
            book.rejected,
            book.transfers,
            book.completed,
            book.refused,
            begun.elapsed().as_secs(),
        );
        assert!(book.faults.is_empty(), "{}", show(&book.faults));
        assert!(all_came, "{}", show(&owed(book, &transcripts)));
        assert!(acked > 10 * kills as usize && book.replies.len() > kills as usize, "hardly any load");
        assert!(book.everything_happened() && stories > 0, "not all kinds of things happened");
    });
}
