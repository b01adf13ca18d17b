//! The store on a disk: a journal that is the truth, and behind it a view and an export of all documents.

mod commit;
mod files;
mod frame;
mod journal;
mod open;
mod overlay;
mod replay;
mod shared;
mod value;

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Health, Lane, LoadError, Sequence, Store, Submission, Table};
use crate::clock::Clock;
use journal::Journal;
pub use open::OpenError;
use open::{Home, at};
use overlay::{Overlay, layered, merge};
pub use replay::Damage;
pub use shared::Wake;
use shared::{End, Shared, Tables};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is. It is created, for its owner alone, if it is not there.
    pub directory: PathBuf,
    /// How many lanes submit.
    pub lanes: usize,
    /// How long submissions gather before they are made durable; zero: as soon as the last commit is done.
    pub commit_interval: Duration,
    /// If as many bytes of changes wait, they are made durable before the interval is over.
    pub commit_batch: usize,
    /// A file of the journal that has as many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// After as many bytes of changes, in memory or in the journal, the view is brought up to date.
    pub checkpoint_bytes: usize,
    /// If changes wait for as long, the view is brought up to date.
    pub checkpoint_idle: Duration,
    /// After as many bytes of journal, and at least as many as the last export has, all documents are exported.
    pub export_bytes: u64,
    /// Memory for the view's cache, in bytes.
    pub cache_bytes: u64,
}

impl Options {
    /// A store in `directory` for `lanes` lanes, with the defaults.
    pub fn new(directory: impl Into<PathBuf>, lanes: usize) -> Self {
        Self {
            directory: directory.into(),
            lanes,
            commit_interval: Duration::ZERO,
            commit_batch: 1 << 20,
            segment_bytes: 64 << 20,
            checkpoint_bytes: 64 << 20,
            checkpoint_idle: Duration::from_secs(30),
            export_bytes: 64 << 20,
            cache_bytes: 64 << 20,
        }
    }
}

/// What opening has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Documents in all tables.
    pub documents: u64,
    /// Cuts read from the journal.
    pub cuts_replayed: u64,
    /// Cuts that should be in the journal, are nowhere else, and cannot be read.
    pub cuts_lost: u64,
    /// The end that a crash had torn off the journal.
    pub torn: Option<Damage>,
    /// Damage in the journal.
    pub damaged: Vec<Damage>,
    /// How long it took.
    pub took: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Shared>,
    threads: Mutex<Option<JoinHandle<()>>>,
    _home: Home,
}

impl Disk {
    /// Opens the store, or makes it, and brings back all that was durable. Damage is kept aside and reported; only what
    /// cannot be used at all is an error.
    pub fn open(options: Options) -> Result<(Self, Report), OpenError> {
        let clock = Clock::start();
        let home = Home::create(&options.directory)?;
        let mut active = Overlay::default();
        let journal = home.journal();
        let mut replayed =
            replay::replay(&journal, home.mark, Some(&home.damaged()), &mut |cut, changes, _| {
                for change in changes.flatten() {
                    active.apply(change.table, change.key, change.value);
                }
                active.through = cut;
            })
            .map_err(at(&journal))?;
        let next_segment = replayed.segments.last().map_or(1, |segment| segment.number + 1);
        let last = replayed.segments.pop_if(|_| replayed.appendable);
        let current = match last {
            Some(segment) => {
                let file = OpenOptions::new().read(true).write(true).open(&segment.path);
                Some((segment.clone(), file.map_err(at(&segment.path))?))
            }
            None => None,
        };
        let last = replayed.last();
        let tables = Tables { active, closed: replayed.segments, ..Tables::default() };
        let journal = Journal::new(journal, home.mark, options.segment_bytes, current, next_segment, last);
        let shared = Arc::new(Shared::new(options, tables));
        let committing = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("store-journal".to_owned())
            .spawn(move || commit::run(&committing, journal))
            .map_err(at(&shared.options.directory))?;
        let disk = Self { shared, threads: Mutex::new(Some(thread)), _home: home };
        let mut report = Report {
            cuts_replayed: replayed.frames,
            torn: replayed.torn,
            damaged: replayed.damaged,
            ..Report::default()
        };
        for table in Table::ALL {
            let _ = disk.load(table, &mut |_, _| report.documents += 1);
        }
        report.took = Duration::from_millis(clock.mono());
        Ok((disk, report))
    }

    /// Has `wake` called, on the store's thread, for each lane whose committed number has grown. The first call counts.
    pub fn on_commit(&self, wake: Wake) {
        self.shared.set_wake(wake);
    }

    /// Makes durable what is whole, and ends. Submissions after it are lost.
    pub fn close(&self) {
        self.end(End::Close);
    }

    /// Ends as a crash would: with what is durable now, and nothing tidied up.
    pub fn abandon(&self) {
        self.end(End::Abandon);
    }

    fn end(&self, end: End) {
        let Some(thread) = self.threads.lock().take() else { return };
        self.shared.tables.lock().end = end;
        self.shared.inbox.lock().end = end;
        self.shared.room.notify_one();
        self.shared.work.notify_one();
        if thread.join().is_err() {
            tracing::error!("the journal's thread had panicked");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for Disk {
    fn submit(&self, lane: Lane, submission: Submission) -> Sequence {
        self.shared.submit(lane, submission)
    }

    fn committed(&self, lane: Lane) -> Sequence {
        self.shared.committed(lane)
    }

    fn waiting(&self, lane: Lane) -> usize {
        self.shared.waiting(lane)
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    fn load(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), LoadError> {
        let tables = self.shared.tables.lock();
        merge(|_| Ok(()), &layered(&[&tables.active], table), visit)
    }
}
