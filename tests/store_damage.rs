//! What a store on a disk makes of files that are not as it wrote them: it opens, and has what can be had.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "store_support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use support::{Documents, Folder, OnDisk, Subject, documents, put, small, submission};
use switchboard::store::disk::{self, OpenError, Options};
use switchboard::store::{Batch, Disk, Health, Submission, Table};

/// Bounds so large that everything stays in one segment.
fn roomy(folder: &Folder) -> Options {
    Options::new(&folder.0, 1)
}

/// One document in each of some cuts, in a journal of one segment.
fn journal_of(cuts: u8) -> Folder {
    let folder = Folder::new();
    let options = roomy(&folder);
    let subject = OnDisk::with(folder, options);
    for cut in 0..cuts {
        let last = subject.store().submit(0, submission(&[(Table::Retained, &[cut], Some(&[cut, 0, 255]))]));
        subject.settle(0, last);
    }
    let (folder, committed) = subject.stop();
    assert_eq!(committed[0], u64::from(cuts));
    folder
}

fn only_file(directory: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// Opens a copy in which one file is changed, and shows the documents.
fn with_changed(folder: &Folder, file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> (Documents, OnDisk) {
    let copy = folder.copy();
    let file = copy.0.join(file.strip_prefix(&folder.0).unwrap());
    let mut bytes = fs::read(&file).unwrap();
    change(&mut bytes);
    fs::write(&file, bytes).unwrap();
    let options = roomy(&copy);
    let subject = OnDisk::with(copy, options);
    (documents(subject.store()), subject)
}

fn keys(documents: &Documents) -> Vec<u8> {
    documents.keys().map(|(_, key)| key[0]).collect()
}

const HEADER: usize = 36;
/// Frame, change, key and value of [`journal_of`].
const FRAME: usize = 20 + 9 + 1 + 3;

#[test]
fn a_journal_cut_anywhere_has_the_cuts_before_it() {
    let folder = journal_of(4);
    let file = only_file(&folder.0.join("journal"));
    assert_eq!(fs::metadata(&file).unwrap().len() as usize, HEADER + 4 * FRAME);
    for cut in 0..HEADER + 4 * FRAME {
        let (found, subject) = with_changed(&folder, &file, |bytes| bytes.truncate(cut));
        let whole = cut.saturating_sub(HEADER) / FRAME;
        assert_eq!(keys(&found), [0, 1, 2, 3][..whole], "{cut}");
        assert_eq!(
            subject.report.torn.is_some(),
            cut > 0 && (cut < HEADER || !(cut - HEADER).is_multiple_of(FRAME)),
            "{cut}"
        );
        assert_eq!((subject.report.cuts_lost, subject.report.damaged.len()), (0, 0), "{cut}");
        // What comes behind the torn end is not lost at the next start.
        let last = subject.store().submit(0, submission(&[(Table::Retained, &[9], Some(b"new"))]));
        subject.settle(0, last);
        let subject = subject.crash(1);
        assert_eq!(keys(&documents(subject.store())), [&[0, 1, 2, 3][..whole], &[9]].concat(), "{cut}");
        assert_eq!(subject.report.cuts_lost, 0, "{cut}");
    }
}

#[test]
fn a_flipped_bit_in_the_journal_takes_one_cut_at_most() {
    let folder = journal_of(4);
    let file = only_file(&folder.0.join("journal"));
    for at in (0..HEADER + 4 * FRAME).step_by(3) {
        let (found, subject) = with_changed(&folder, &file, |bytes| bytes[at] ^= 1 << (at % 8));
        let lost = at.checked_sub(HEADER).map(|at| (at / FRAME) as u8);
        let others: Vec<u8> = (0..4).filter(|cut| Some(*cut) != lost).collect();
        assert_eq!(keys(&found), others, "{at}");
        let report = &subject.report;
        // The last cannot be told from an end that was torn off.
        assert_eq!(report.torn.is_some(), lost == Some(3), "{at}");
        assert_eq!(report.damaged.len(), usize::from(lost != Some(3)), "{at}");
        assert_eq!(report.cuts_lost, u64::from(lost.is_some_and(|lost| lost < 3)), "{at}");
        let kept = fs::read_dir(subject.folder.0.join("damaged")).unwrap().count();
        assert_eq!(kept, 1, "{at}");
        let subject = subject.crash(1);
        assert_eq!(keys(&documents(subject.store())), others, "{at}");
        assert_eq!(subject.report.cuts_lost, 0, "{at}: told once");
    }
}

#[test]
fn a_zeroed_tail_is_a_torn_end() {
    let folder = journal_of(4);
    let file = only_file(&folder.0.join("journal"));
    for zeros in [1, FRAME - 1, FRAME, 3 * FRAME + 5] {
        let (found, subject) = with_changed(&folder, &file, |bytes| {
            let from = bytes.len() - zeros;
            bytes[from..].fill(0);
            bytes.resize(from + 5000, 0);
        });
        let whole = 4 - zeros.div_ceil(FRAME);
        assert_eq!(keys(&found), [0, 1, 2, 3][..whole], "{zeros}");
        let torn = subject.report.torn.clone().unwrap();
        assert_eq!(torn.offset as usize, HEADER + whole * FRAME, "{zeros}");
        assert_eq!((subject.report.cuts_lost, subject.report.damaged.len()), (0, 0), "{zeros}");
    }
}

/// A store in which much has happened: several checkpoints and exports, documents rewritten and deleted.
fn lively() -> (Folder, Documents) {
    let mut random = fastrand::Rng::with_seed(7);
    let folder = Folder::new();
    // One view, whose file is known.
    let options = Options { compact_bytes: u64::MAX, ..small(&folder, 1) };
    let subject = OnDisk::with(folder, options);
    for _ in 0..120 {
        let mut batch = Batch::default();
        for _ in 0..8 {
            let key = random.u16(..400).to_be_bytes();
            let table = random.choice(Table::ALL).unwrap();
            let value = (0..random.usize(..2000)).map(|_| random.u8(b'a'..)).collect::<Vec<u8>>();
            if random.u8(..4) == 0 {
                batch.delete(table, |k| k.extend_from_slice(&key));
            } else {
                put(&mut batch, table, &key, &value);
            }
        }
        let last = subject.store().submit(0, Submission { batch, ..Submission::default() });
        subject.settle(0, last);
    }
    let found = documents(subject.store());
    assert!(found.len() > 500);
    let (folder, _) = subject.stop();
    (folder, found)
}

fn view_file(folder: &Folder) -> PathBuf {
    let view = only_file(&folder.0.join("view"));
    view.join("db")
}

#[test]
fn a_damaged_view_loses_nothing() {
    let (folder, want) = lively();
    let file = view_file(&folder);
    let mut random = fastrand::Rng::with_seed(3);
    let (mut rebuilt, mut corrected) = (0, 0);
    for trial in 0..12 {
        for kind in ["noise", "bit", "truncated", "zeroed"] {
            let (found, subject) = with_changed(&folder, &file, |bytes| {
                let at = random.usize(..bytes.len() - 64);
                match kind {
                    "noise" => bytes[at..at + 64].iter_mut().for_each(|byte| *byte = random.u8(..)),
                    "bit" => bytes[at] ^= 1 << random.u8(..8),
                    "truncated" => bytes.truncate(at),
                    _ => bytes[at..].fill(0),
                }
            });
            assert!(found == want, "{kind} {trial}");
            let report = &subject.report;
            rebuilt += usize::from(report.view_rebuilt);
            corrected += usize::from(report.view_corrected > 0);
            // Once the first commit is there, documents are read from the view.
            let last = subject.store().submit(0, submission(&[(Table::Owed, b"new", Some(b"1"))]));
            subject.settle(0, last);
            let mut more = want.clone();
            more.insert((Table::Owed, b"new".to_vec()), b"1".to_vec());
            let subject = OnDisk::start(subject.close(), 1);
            assert!(documents(subject.store()) == more, "{kind} {trial}, later");
        }
    }
    assert!(rebuilt > 0 && corrected > 0, "{rebuilt}, {corrected}");
}

#[test]
fn a_missing_view_is_made_anew() {
    let (folder, want) = lively();
    let copy = folder.copy();
    fs::remove_dir_all(copy.0.join("view")).unwrap();
    let subject = OnDisk::start(copy, 1);
    assert!(documents(subject.store()) == want);
    assert_eq!((subject.report.cuts_lost, subject.report.damaged.len()), (0, 0));
}

#[test]
fn before_the_first_export_the_journal_is_enough() {
    let folder = journal_of(6);
    let file = view_file(&folder);
    assert!(!folder.0.join("export/documents").exists());
    let (found, _) = with_changed(&folder, &file, |bytes| bytes.fill(0x5a));
    assert_eq!(keys(&found), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn the_view_makes_up_for_a_damaged_export() {
    let (folder, want) = lively();
    let file = folder.0.join("export/documents");
    let mut random = fastrand::Rng::with_seed(5);
    for trial in 0..12 {
        let (found, subject) = with_changed(&folder, &file, |bytes| match trial % 3 {
            0 => bytes.truncate(random.usize(..bytes.len())),
            1 => bytes.clear(),
            _ => {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
            }
        });
        assert!(found == want, "{trial}");
        assert!(!subject.report.damaged.is_empty(), "{trial}");
        assert_eq!(subject.report.cuts_lost, 0, "{trial}");
        let subject = subject.crash(1);
        assert!(documents(subject.store()) == want, "{trial}, later");
        assert!(subject.report.damaged.is_empty(), "{trial}: {:?}", subject.report.damaged);
    }
}

#[test]
fn a_missing_export_is_made_up_for_by_the_view() {
    let (folder, want) = lively();
    let copy = folder.copy();
    fs::remove_file(copy.0.join("export/documents")).unwrap();
    let subject = OnDisk::start(copy, 1);
    assert!(documents(subject.store()) == want);
    assert_eq!(subject.report.cuts_lost, 0);
}

#[test]
fn the_view_makes_up_for_a_damaged_journal_that_it_covers() {
    let folder = Folder::new();
    let options = Options { export_bytes: u64::MAX >> 1, ..small(&folder, 1) };
    let subject = OnDisk::with(folder, options.clone());
    let mut last = 0;
    for key in 0..40_u8 {
        last = subject.store().submit(0, submission(&[(Table::Bodies, &[key], Some(&[key; 700]))]));
        subject.settle(0, last);
    }
    assert_eq!(last, 40);
    // The journal is less than is worth an export, so closing brings but the view up to date.
    let folder = subject.close();
    assert!(!folder.0.join("export/documents").exists());
    let mut segments: Vec<PathBuf> =
        fs::read_dir(folder.0.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    assert!(segments.len() > 5);
    let mut bytes = fs::read(&segments[1]).unwrap();
    bytes[200..1600].fill(1);
    fs::write(&segments[1], bytes).unwrap();
    fs::remove_file(&segments[3]).unwrap();
    let (disk, report) = Disk::open(options.clone()).unwrap();
    assert_eq!(keys(&documents(&disk)), (0..40).collect::<Vec<u8>>());
    assert_eq!((report.cuts_lost, report.damaged.len()), (0, 1));
    drop(disk);
    // Now there is an export of it, and the view may go.
    fs::remove_dir_all(folder.0.join("view")).unwrap();
    let (disk, report) = Disk::open(options).unwrap();
    assert_eq!(keys(&documents(&disk)), (0..40).collect::<Vec<u8>>());
    assert_eq!(report.cuts_lost, 0);
}

#[test]
fn two_cannot_have_a_store_open() {
    let subject = OnDisk::new(1);
    let error = Disk::open(small(&subject.folder, 1)).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));
    let path = subject.folder.0.display().to_string();
    assert_eq!(
        error.to_string(),
        path + ": another process has this store open; one process at a time can use it"
    );
    OnDisk::start(subject.close(), 1);
}

#[test]
fn what_cannot_be_a_store_is_refused_with_its_path_and_why() {
    let folder = OnDisk::new(1).close();
    let format = folder.0.join("FORMAT");
    let path = folder.0.display().to_string();
    let text = fs::read_to_string(&format).unwrap();

    fs::write(&format, text.replace("version 1", "version 2")).unwrap();
    let error = Disk::open(small(&folder, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{path}: the store has format 2, and this program knows formats up to 1; \
             use the version of the program that wrote it, or a later one"
        )
    );

    fs::write(&format, "something else").unwrap();
    let error = Disk::open(small(&folder, 1)).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{path}/FORMAT: this is not the format file of a store, and no journal beside it tells more")
    );

    fs::write(folder.0.join("file"), "").unwrap();
    let options = Options::new(folder.0.join("file"), 1);
    assert_eq!(
        Disk::open(options).unwrap_err().to_string(),
        format!("{path}/file: File exists (os error 17)")
    );
    let options = Options::new(folder.0.join("file/below"), 1);
    assert_eq!(
        Disk::open(options).unwrap_err().to_string(),
        format!("{path}/file/below: Not a directory (os error 20)")
    );

    fs::write(&format, text).unwrap();
    fs::remove_dir(folder.0.join("journal")).unwrap();
    fs::write(folder.0.join("journal"), "").unwrap();
    let error = Disk::open(small(&folder, 1)).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{path}/journal: ")), "{error}");
}

#[test]
fn a_damaged_format_file_is_made_up_for_by_the_journal() {
    let folder = journal_of(3);
    let format = folder.0.join("FORMAT");
    let (found, _) = with_changed(&folder, &format, |bytes| bytes[3] ^= 1);
    assert_eq!(keys(&found), [0, 1, 2]);
    let (found, _) = with_changed(&folder, &format, Vec::clear);
    assert_eq!(keys(&found), [0, 1, 2]);
}

#[test]
fn what_the_disk_does_not_take_waits_and_is_durable_when_it_does() {
    let folder = Folder::new();
    // Each cut begins a new segment.
    let options = Options { segment_bytes: 1, ..roomy(&folder) };
    let subject = OnDisk::with(folder, options);
    let (here, away) = (subject.folder.0.join("journal"), subject.folder.0.join("away"));
    let store = subject.store();
    let first = store.submit(0, submission(&[(Table::Groups, &[1], Some(b"1"))]));
    subject.settle(0, first);
    fs::rename(&here, &away).unwrap();
    store.submit(0, submission(&[(Table::Groups, &[2], Some(b"2"))]));
    while store.health() == Health::Fine {
        thread::yield_now();
    }
    assert_eq!((store.health(), store.committed(0)), (Health::Failed, 1));
    assert!(store.waiting(0) > 0);
    let last = store.submit(0, submission(&[(Table::Groups, &[2], None), (Table::Groups, &[3], Some(b"3"))]));
    fs::rename(&away, &here).unwrap();
    subject.settle(0, last);
    assert_eq!((store.health(), store.waiting(0)), (Health::Fine, 0));
    let subject = subject.crash(1);
    assert_eq!(keys(&documents(subject.store())), [1, 3]);
    assert_eq!((subject.report.cuts_lost, subject.report.damaged.len()), (0, 0));
}

#[test]
fn a_stopped_store_can_be_checked_measured_and_made_smaller() {
    let (folder, want) = lively();
    let counted = |tables: &[disk::TableStats]| -> Vec<(Table, u64, u64)> {
        tables.iter().map(|of| (of.table, of.documents, of.bytes)).collect()
    };
    let of = |table| {
        let mine = want.iter().filter(|((of, _), _)| *of == table);
        mine.fold((table, 0, 0), |(_, n, bytes), ((_, key), value)| {
            (table, n + 1, bytes + (key.len() + value.len()) as u64)
        })
    };
    let expected: Vec<_> = Table::ALL.into_iter().map(of).collect();
    let found = disk::check(&folder.0).unwrap();
    assert!(found.is_whole() && found.cuts > 0);
    assert_eq!(counted(&found.tables), expected);
    let before = disk::stats(&folder.0).unwrap();
    assert_eq!(counted(&before.tables), expected);
    let sum = before.journal_bytes + before.view_bytes + before.export_bytes;

    let done = disk::compact(&folder.0).unwrap();
    assert_eq!(done.opened.documents, want.len() as u64);
    let after = disk::stats(&folder.0).unwrap();
    assert_eq!(counted(&after.tables), expected);
    assert_eq!((done.bytes_before, after.journal_bytes), (sum, 0));
    assert_eq!(done.bytes_after, after.view_bytes + after.export_bytes);
    assert!(done.bytes_after < sum, "{after:?}");

    // Damage is told and left as it is.
    let export = folder.0.join("export/documents");
    let mut bytes = fs::read(&export).unwrap();
    bytes[3000] ^= 4;
    fs::write(&export, &bytes).unwrap();
    let found = disk::check(&folder.0).unwrap();
    assert_eq!(found.damaged.len(), 1);
    assert_eq!(found.damaged[0].file, export);
    assert!((found.damaged[0].offset..found.damaged[0].offset + found.damaged[0].bytes).contains(&3000));
    assert!(!found.is_whole());
    assert!(fs::read(&export).unwrap() == bytes);

    let subject = OnDisk::start(folder, 1);
    assert!(documents(subject.store()) == want, "the view has it");
    assert!(matches!(disk::check(&subject.folder.0), Err(OpenError::InUse { .. })));
    let nothing = Folder::new();
    let error = disk::check(&nothing.0).unwrap_err().to_string();
    assert_eq!(error, format!("{}: there is no store here", nothing.0.display()));
}
