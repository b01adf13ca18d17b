//! Stores for tests, and what is in them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "tests, of which each uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};

use switchboard::store::disk::{Options, Report};
use switchboard::store::{Batch, Disk, Lane, Memory, Sequence, Store, Submission, Table};

pub type Documents = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Everything in a store.
pub fn documents(store: &dyn Store) -> Documents {
    let mut found = Documents::new();
    for table in Table::ALL {
        store
            .load(table, &mut |key, value| {
                assert!(found.insert((table, key.to_vec()), value.to_vec()).is_none(), "shown twice");
            })
            .unwrap();
    }
    found
}

pub fn put(batch: &mut Batch, table: Table, key: &[u8], value: &[u8]) {
    batch.put(table, |k| k.extend_from_slice(key), |v| v.extend_from_slice(value));
}

/// Table, key, new value.
pub type Change<'a> = (Table, &'a [u8], Option<&'a [u8]>);

pub fn submission(changes: &[Change<'_>]) -> Submission {
    let mut batch = Batch::default();
    for &(table, key, value) in changes {
        match value {
            Some(value) => put(&mut batch, table, key, value),
            None => batch.delete(table, |k| k.extend_from_slice(key)),
        }
    }
    Submission { batch, ..Submission::default() }
}

/// A store under test.
pub trait Subject: Sized {
    /// What a crash leaves.
    type Left;
    fn store(&self) -> &dyn Store;
    /// Waits until this is durable.
    fn settle(&self, lane: Lane, sequence: Sequence);
    /// Crashes it. Says what was committed for each lane, to its knowledge, before.
    fn stop(self) -> (Self::Left, Vec<Sequence>);
    fn start(left: Self::Left, lanes: usize) -> Self;
    fn crash(self, lanes: usize) -> Self {
        Self::start(self.stop().0, lanes)
    }
}

impl Subject for Memory {
    type Left = Self;

    fn store(&self) -> &dyn Store {
        self
    }

    fn settle(&self, lane: Lane, sequence: Sequence) {
        self.commit();
        assert!(self.committed(lane) >= sequence);
    }

    fn stop(self) -> (Self, Vec<Sequence>) {
        let committed = (0..8).map(|lane| self.committed(lane)).collect();
        (self, committed)
    }

    fn start(left: Self, lanes: usize) -> Self {
        Memory::crash(&left, lanes)
    }
}

/// A directory that is removed in the end.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("switchboard-store-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn copy(&self) -> Self {
        let to = Self::new();
        copy(&self.0, &to.0);
        to
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A store on a disk, so small in all its bounds that everything happens.
pub struct OnDisk {
    disk: Disk,
    commits: Receiver<Lane>,
    pub report: Report,
    pub folder: Folder,
}

/// Bounds that small tests reach.
pub fn small(folder: &Folder, lanes: usize) -> Options {
    Options {
        segment_bytes: 4 << 10,
        checkpoint_bytes: 8 << 10,
        export_bytes: 16 << 10,
        compact_bytes: 1,
        cache_bytes: 1 << 20,
        ..Options::new(&folder.0, lanes)
    }
}

impl OnDisk {
    pub fn new(lanes: usize) -> Self {
        Self::start(Folder::new(), lanes)
    }

    pub fn with(folder: Folder, options: Options) -> Self {
        let (disk, report) = Disk::open(options).unwrap();
        let (send, commits) = mpsc::channel();
        disk.on_commit(Box::new(move |lane| {
            let _ = send.send(lane);
        }));
        Self { disk, commits, report, folder }
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Ends it with everything in order.
    pub fn close(self) -> Folder {
        self.disk.close();
        self.folder
    }
}

impl Subject for OnDisk {
    type Left = Folder;

    fn store(&self) -> &dyn Store {
        &self.disk
    }

    fn settle(&self, lane: Lane, sequence: Sequence) {
        while self.disk.committed(lane) < sequence {
            self.commits.recv().unwrap();
        }
    }

    fn stop(self) -> (Folder, Vec<Sequence>) {
        let committed = (0..8).map(|lane| self.disk.committed(lane)).collect();
        self.disk.abandon();
        (self.folder, committed)
    }

    fn start(left: Folder, lanes: usize) -> Self {
        let options = small(&left, lanes);
        Self::with(left, options)
    }
}
