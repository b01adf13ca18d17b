//! What every store does: one set of tests for the one in memory and the one on a disk.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "store_support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use support::{Documents, OnDisk, Subject, documents, put, submission};
use switchboard::store::{Batch, Health, Lane, Lookup, Memory, Sequence, Store, Submission, Table};

/// The same test for each store.
macro_rules! each {
    ($($name:ident)*) => {
        mod memory { $(#[test] fn $name() { super::$name(&mut |lanes| super::Memory::new(lanes)); })* }
        mod disk { $(#[test] fn $name() { super::$name(&mut |lanes| super::OnDisk::new(lanes)); })* }
    };
}

each! {
    what_is_committed_is_there_after_a_crash_and_nothing_else
    the_last_change_of_a_document_counts
    documents_come_in_the_order_of_their_keys_table_by_table
    work_across_lanes_is_durable_wholly_or_not_at_all
    a_submission_without_changes_is_committed_too
    documents_are_found_while_it_runs
    waiting_says_what_is_not_durable_yet
    a_random_history_survives_crashes
}

fn what_is_committed_is_there_after_a_crash_and_nothing_else<S: Subject>(new: &mut dyn FnMut(usize) -> S) {
    let subject = new(1);
    assert_eq!(subject.store().committed(0), 0);
    let first = subject.store().submit(0, submission(&[(Table::Sessions, b"a", Some(b"1"))]));
    assert_eq!(first, 1);
    subject.settle(0, first);
    // Expects a join that never comes.
    let mut held = submission(&[(Table::Sessions, b"b", Some(b"2"))]);
    held.expects = 1;
    assert_eq!(subject.store().submit(0, held), 2);
    assert_eq!(subject.store().committed(0), 1);
    let subject = subject.crash(1);
    assert_eq!(documents(subject.store()), [((Table::Sessions, b"a".to_vec()), b"1".to_vec())].into());
    assert_eq!(subject.store().committed(0), 0, "numbers start again");
    assert_eq!(subject.store().submit(0, Submission::default()), 1);
    assert_eq!(subject.store().health(), Health::Fine);
}

fn the_last_change_of_a_document_counts<S: Subject>(new: &mut dyn FnMut(usize) -> S) {
    let subject = new(1);
    let store = subject.store();
    store.submit(0, submission(&[(Table::Bodies, b"a", Some(b"1")), (Table::Bodies, b"b", Some(b"1"))]));
    store.submit(0, submission(&[(Table::Bodies, b"a", None), (Table::Bodies, b"b", None)]));
    let last = store.submit(0, submission(&[(Table::Bodies, b"b", Some(b"2")), (Table::Bodies, b"c", None)]));
    subject.settle(0, last);
    let want: Documents = [((Table::Bodies, b"b".to_vec()), b"2".to_vec())].into();
    assert_eq!(documents(subject.store()), want);
    let subject = subject.crash(1);
    assert_eq!(documents(subject.store()), want);
    let last = subject.store().submit(0, submission(&[(Table::Bodies, b"b", None)]));
    subject.settle(0, last);
    assert_eq!(documents(subject.crash(1).store()), Documents::new());
}

fn documents_are_found_while_it_runs<S: Subject>(new: &mut dyn FnMut(usize) -> S) {
    const LANES: Lane = 2;
    let subject = new(usize::from(LANES));
    let store = subject.store();
    let mut random = fastrand::Rng::with_seed(5);
    let mut model = Documents::new();
    for round in 0..60_u64 {
        let mut changes = Vec::new();
        for _ in 0..20 {
            let key = (random.choice(Table::ALL).unwrap(), vec![random.u8(..40)]);
            let value = (random.u8(..3) > 0).then(|| vec![random.u8(..); random.usize(..600)]);
            changes.push((key, value));
        }
        let shown: Vec<_> =
            changes.iter().map(|((table, key), value)| (*table, &key[..], value.as_deref())).collect();
        subject.settle(0, store.submit(0, submission(&shown)));
        for (key, value) in changes {
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        let asked: Vec<(Table, Vec<u8>)> =
            (0..30).map(|_| (random.choice(Table::ALL).unwrap(), vec![random.u8(..40)])).collect();
        for lane in 0..LANES {
            let keys = asked.iter().map(|(table, key)| (*table, key[..].into())).collect();
            store.look_up(lane, Lookup { ticket: round * 10 + u64::from(lane), keys });
        }
        for lane in (0..LANES).rev() {
            let found = std::iter::repeat_with(|| store.found(lane)).flatten().next().unwrap();
            assert_eq!(found.ticket, round * 10 + u64::from(lane));
            let found: Vec<_> = found.values.iter().map(Option::as_deref).collect();
            let want: Vec<_> = asked.iter().map(|key| model.get(key).map(|value| &value[..])).collect();
            assert_eq!(found, want, "round {round}");
            assert!(store.found(lane).is_none());
        }
    }
}

fn documents_come_in_the_order_of_their_keys_table_by_table<S: Subject>(new: &mut dyn FnMut(usize) -> S) {
    let subject = new(1);
    let mut last = 0;
    for round in 0..40_u32 {
        let mut batch = Batch::default();
        for table in Table::ALL {
            let key = (round * 37 % 40).to_be_bytes();
            batch.put(table, |k| k.extend_from_slice(&key[..=round as usize % 4]), |v| v.push(round as u8));
        }
        last = subject.store().submit(0, Submission { batch, ..Submission::default() });
    }
    subject.settle(0, last);
    let subject = subject.crash(1);
    for table in Table::ALL {
        let mut keys = Vec::new();
        subject.store().load(table, &mut |key, _| keys.push(key.to_vec())).unwrap();
        assert!(keys.is_sorted(), "{table:?}");
        assert_eq!(keys.len(), 1 + 1 + 1 + 10, "{table:?}");
    }
}

fn work_across_lanes_is_durable_wholly_or_not_at_all<S: Subject>(new: &mut dyn FnMut(usize) -> S) {
    let subject = new(3);
    let store = subject.store();
    let mut origin = submission(&[(Table::Owed, b"origin", Some(b"1"))]);
    origin.expects = 1;
    assert_eq!(store.submit(0, origin), 1);
    // Something of another lane says how far the store has come.
    let sign = store.submit(2, submission(&[(Table::Owed, b"sign", Some(b"1"))]));
    subject.settle(2, sign);
    assert_eq!(store.committed(0), 0);
    let mut join = submission(&[(Table::Owed, b"join", Some(b"1"))]);
    join.joined = vec![(0, 1)];
    assert_eq!(store.submit(1, join), 1);
    subject.settle(0, 1);
    subject.settle(1, 1);
    let subject = subject.crash(3);
    let keys: Vec<Vec<u8>> = documents(subject.store()).into_keys().map(|(_, key)| key).collect();
    assert_eq!(keys, [b"join".to_vec(), b"origin".to_vec(), b"sign".to_vec()]);
}

fn a_submission_without_changes_is_committed_too<S: Subject>(new: &mut dyn FnMut(usize) -> S) {
    let subject = new(2);
    assert_eq!(subject.store().submit(1, Submission::default()), 1);
    subject.settle(1, 1);
    assert_eq!(subject.store().committed(0), 0);
    assert_eq!(subject.store().submit(1, submission(&[(Table::Groups, b"", Some(b""))])), 2);
    subject.settle(1, 2);
    assert_eq!(documents(subject.crash(2).store()), [((Table::Groups, vec![]), vec![])].into());
}

fn waiting_says_what_is_not_durable_yet<S: Subject>(new: &mut dyn FnMut(usize) -> S) {
    let subject = new(1);
    let mut held = submission(&[(Table::Owed, b"k", Some(&[7; 500]))]);
    let bytes = held.batch.len();
    held.joined = vec![(1, 1)];
    subject.store().submit(0, held);
    assert_eq!(subject.store().waiting(0), bytes);
    assert_eq!(subject.store().waiting(9), 0, "no such lane");
    let subject = new(1);
    let last = subject.store().submit(0, submission(&[(Table::Owed, b"k", Some(&[7; 500]))]));
    subject.settle(0, last);
    assert_eq!(subject.store().waiting(0), 0);
}

/// One submission of the random history.
#[derive(Clone)]
struct Step {
    changes: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
    /// All submissions of its group are durable or none.
    group: usize,
}

const LANES: usize = 3;

/// What lanes have submitted since the last crash, over what was there then.
struct History {
    base: Documents,
    lanes: Vec<Vec<Step>>,
    groups: usize,
}

impl History {
    fn step(&mut self, random: &mut fastrand::Rng, lane: usize, group: usize) -> Step {
        let own = [lane as u8];
        let mut changes: Vec<_> = (0..random.usize(..6))
            .map(|_| {
                let key = [&own[..], &[random.u8(..24)]].concat();
                let value =
                    random.bool().then(|| vec![random.u8(..); random.usize(..2500) / random.usize(1..50)]);
                (random.choice(Table::ALL).unwrap(), key, value)
            })
            .collect();
        // Tells after a crash how far the lane had come.
        let number = self.lanes[lane].len() as u64 + 1;
        changes.push((Table::Sessions, own.to_vec(), Some(number.to_be_bytes().to_vec())));
        let step = Step { changes, group };
        self.lanes[lane].push(step.clone());
        step
    }

    /// Submits work of one lane, or of two of which the other may answer before the first has submitted its own.
    fn act(&mut self, random: &mut fastrand::Rng, store: &dyn Store) {
        let group = self.groups;
        self.groups += 1;
        let lane = random.usize(..LANES);
        let submit = |step: &Step, expects, joined: Vec<(Lane, Sequence)>, lane| {
            let mut batch = Batch::default();
            for (table, key, value) in &step.changes {
                match value {
                    Some(value) => put(&mut batch, *table, key, value),
                    None => batch.delete(*table, |k| k.extend_from_slice(key)),
                }
            }
            store.submit(lane as Lane, Submission { batch, expects, joined })
        };
        if random.bool() {
            let step = self.step(random, lane, group);
            submit(&step, 0, Vec::new(), lane);
            return;
        }
        let other = (lane + 1 + random.usize(..LANES - 1)) % LANES;
        let (mine, theirs) = (self.step(random, lane, group), self.step(random, other, group));
        let number = self.lanes[lane].len() as Sequence;
        let joined = vec![(lane as Lane, number)];
        if random.bool() {
            assert_eq!(submit(&mine, 1, Vec::new(), lane), number);
            submit(&theirs, 0, joined, other);
        } else {
            submit(&theirs, 0, joined, other);
            assert_eq!(submit(&mine, 1, Vec::new(), lane), number);
        }
    }

    /// What is there has to be all that was durable, wholly, and no more than was submitted.
    fn check(&mut self, found: &Documents, committed: &[Sequence]) {
        let mut want = self.base.clone();
        let mut groups: BTreeMap<usize, Vec<bool>> = BTreeMap::new();
        for (lane, steps) in self.lanes.iter_mut().enumerate() {
            let marker = |documents: &Documents| documents.get(&(Table::Sessions, vec![lane as u8])).cloned();
            let through = match marker(found) {
                Some(number) if !steps.is_empty() && marker(&self.base).as_ref() != Some(&number) => {
                    u64::from_be_bytes(number.try_into().unwrap())
                }
                same => {
                    // As before, or the lane has come as far as in the life before.
                    let number = same.map_or(0, |number| u64::from_be_bytes(number.try_into().unwrap()));
                    if committed[lane] > 0 { number } else { 0 }
                }
            };
            assert!(through >= committed[lane], "lane {lane}: {through} of {}", committed[lane]);
            for (number, step) in (1..).zip(steps.drain(..)) {
                groups.entry(step.group).or_default().push(number <= through);
                for (table, key, value) in step.changes.into_iter().filter(|_| number <= through) {
                    match value {
                        Some(value) => want.insert((table, key), value),
                        None => want.remove(&(table, key)),
                    };
                }
            }
        }
        for (group, durable) in groups {
            assert!(durable.iter().all(|one| *one == durable[0]), "group {group}: {durable:?}");
        }
        assert!(*found == want, "documents differ");
        self.base = want;
        self.groups = 0;
    }
}

fn a_random_history_survives_crashes<S: Subject>(new: &mut dyn FnMut(usize) -> S) {
    // More of them for a longer run.
    for seed in 0..std::env::var("SEEDS").map_or(8, |s| s.parse().unwrap()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut subject = new(LANES);
        let mut history = History { base: Documents::new(), lanes: vec![Vec::new(); LANES], groups: 0 };
        for crash in 0..6 {
            for _ in 0..random.usize(1..80) {
                history.act(&mut random, subject.store());
                if random.u8(..10) == 0 {
                    let lane = random.usize(..LANES);
                    subject.settle(lane as Lane, history.lanes[lane].len() as Sequence);
                }
            }
            let (store, committed) = subject.stop();
            subject = S::start(store, LANES);
            history.check(&documents(subject.store()), &committed);
            // The markers would be ambiguous if a lane came as far as before: they start from nothing.
            let mut clean = Batch::default();
            for lane in 0..LANES as u8 {
                clean.delete(Table::Sessions, |k| k.push(lane));
                history.base.remove(&(Table::Sessions, vec![lane]));
            }
            let (store, _) = {
                let last = subject.store().submit(0, Submission { batch: clean, ..Submission::default() });
                subject.settle(0, last);
                subject.stop()
            };
            subject = S::start(store, LANES);
            assert!(documents(subject.store()) == history.base, "seed {seed}, crash {crash}");
        }
    }
}

#[test]
fn a_copy_taken_while_it_runs_has_all_that_was_committed_before() {
    let folder = support::Folder::new();
    let options = switchboard::store::disk::Options::new(&folder.0, 1);
    let subject = OnDisk::with(folder, options);
    let mut last: u64 = 0;
    for round in 0..5_u64 {
        for _ in 0..100 {
            last = subject
                .store()
                .submit(0, submission(&[(Table::Owed, &(last + 1).to_be_bytes(), Some(b"x"))]));
        }
        subject.settle(0, last - 50);
        let committed = subject.store().committed(0);
        // The rest is being committed meanwhile.
        let image = OnDisk::start(subject.folder.copy(), 1);
        let found: Vec<u64> = documents(image.store())
            .into_keys()
            .map(|(_, key)| u64::from_be_bytes(key.try_into().unwrap()))
            .collect();
        assert!(found.len() as u64 >= committed, "round {round}: {} of {committed}", found.len());
        assert!(found.iter().copied().eq(1..=found.len() as u64), "round {round}: a prefix");
    }
}
