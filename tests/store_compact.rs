//! A store whose view is copied while it runs: whatever moment a crash picks, all that was committed is there.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "store_support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use support::{Documents, Folder, OnDisk, Subject, documents, put};
use switchboard::store::disk::{self, Options};
use switchboard::store::{Batch, Submission, Table};

const DOCUMENTS: u16 = 6_000;

fn eager(folder: &Folder) -> Options {
    Options {
        segment_bytes: 64 << 10,
        checkpoint_bytes: 256 << 10,
        checkpoint_idle: Duration::from_millis(20),
        export_bytes: 512 << 10,
        compact_bytes: 1,
        cache_bytes: 1 << 20,
        ..Options::new(&folder.0, 1)
    }
}

/// Rewrites many documents and deletes some. Returns when all of it is durable.
fn rewrite(subject: &OnDisk, model: &mut Documents, random: &mut fastrand::Rng) {
    let mut last = 0;
    for _ in 0..40 {
        let mut batch = Batch::default();
        for _ in 0..100 {
            let table = random.choice([Table::Sessions, Table::Owed, Table::Retained]).unwrap();
            let key = random.u16(..DOCUMENTS).to_be_bytes();
            if random.u8(..10) == 0 {
                batch.delete(table, |k| k.extend_from_slice(&key));
                model.remove(&(table, key.to_vec()));
            } else {
                let value: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
                put(&mut batch, table, &key, &value);
                model.insert((table, key.to_vec()), value);
            }
        }
        last = subject.store().submit(0, Submission { batch, ..Submission::default() });
    }
    subject.settle(0, last);
}

/// Copies a directory, part by part, of which files may come and go.
fn copy_what_is_there(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else { return };
    for entry in entries.flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_what_is_there(&entry.path(), &target);
        } else {
            let _ = fs::copy(entry.path(), target);
        }
    }
}

/// What a crash at this moment would leave, while nothing is committed. The export comes last: what the journal has let go
/// of since it was copied is in it. The view is copied while it changes, so it is worse off than after any crash.
fn image(folder: &Folder) -> Folder {
    let to = Folder::new();
    fs::copy(folder.0.join("FORMAT"), to.0.join("FORMAT")).unwrap();
    for part in ["journal", "view", "export"] {
        fs::create_dir(to.0.join(part)).unwrap();
        copy_what_is_there(&folder.0.join(part), &to.0.join(part));
    }
    to
}

fn views(folder: &Folder) -> usize {
    fs::read_dir(folder.0.join("view")).unwrap().count()
}

#[test]
fn a_crash_at_any_stage_of_a_copy_loses_nothing() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut model = Documents::new();
    let folder = Folder::new();
    let options = eager(&folder);
    let subject = OnDisk::with(folder, options);
    let begun = Instant::now();
    let mut stages = [0, 0];
    // Before, during and after copies; while they go on, documents change in front of them and behind them.
    while subject.disk().figures().compactions < 4 || stages.contains(&0) {
        assert!(begun.elapsed() < Duration::from_mins(2), "{stages:?}, {:?}", subject.disk().figures());
        rewrite(&subject, &mut model, &mut random);
        for _ in 0..3 {
            let crashed = image(&subject.folder);
            stages[usize::from(views(&crashed) > 1)] += 1;
            let options = eager(&crashed);
            let after = OnDisk::with(crashed, options);
            assert_eq!(after.report.cuts_lost, 0);
            assert!(documents(after.store()) == model, "{stages:?}");
            let (left, _) = after.stop();
            assert_eq!(views(&left), 1, "{stages:?}");
        }
    }
    assert!(documents(subject.store()) == model, "from the copy, with what came since");
    let folder = subject.close();
    assert_eq!(views(&folder), 1);
    assert!(disk::check(&folder.0).unwrap().is_whole());
    let options = eager(&folder);
    let subject = OnDisk::with(folder, options);
    assert!(documents(subject.store()) == model);
    assert!(!subject.report.view_rebuilt && subject.report.view_corrected == 0, "{:?}", subject.report);
}

#[test]
fn a_store_abandoned_in_the_middle_of_a_copy_goes_on_with_the_view_that_is_complete() {
    let mut random = fastrand::Rng::with_seed(12);
    let mut model = Documents::new();
    let mut folder = Folder::new();
    let mut interrupted = 0;
    let begun = Instant::now();
    while interrupted < 3 {
        assert!(begun.elapsed() < Duration::from_mins(2));
        let options = eager(&folder);
        let subject = OnDisk::with(folder, options);
        assert!(documents(subject.store()) == model, "after {interrupted}");
        rewrite(&subject, &mut model, &mut random);
        let moment = Instant::now();
        while views(&subject.folder) < 2 && moment.elapsed() < Duration::from_millis(300) {
            std::thread::yield_now();
        }
        (folder, _) = subject.stop();
        interrupted += usize::from(views(&folder) > 1);
    }
    let options = eager(&folder);
    let subject = OnDisk::with(folder, options);
    assert!(documents(subject.store()) == model);
}
