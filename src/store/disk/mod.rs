//! The store on a disk.
//!
//! The *journal* is the truth: a cut counts when its frame in it is synced. Behind it follow, on a thread of their own, the
//! *view*, all documents in sled, and the *export*, all documents in one file. The journal may go as far as both have
//! come. A start reads the export and the journal behind it; the view makes up for what is damaged there, and the other
//! way round.

mod blocks;
mod commit;
mod copying;
mod export;
mod files;
mod follow;
mod frame;
mod journal;
mod lookup;
mod open;
mod overlay;
mod progress;
mod rebuild;
mod replay;
mod shared;
mod start;
mod stopped;
mod truth;
mod value;
mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Found, Health, Lane, LoadError, Lookup, Sequence, Store, Submission, Table};
use crate::clock::Clock;
use copying::Bloat;
use follow::Follower;
pub use open::OpenError;
use open::{Home, at};
use overlay::{layered, merge};
pub use replay::Damage;
pub use shared::Wake;
use shared::{End, Shared};
pub use stopped::{CheckReport, CompactReport, StatsReport, TableStats, check, compact, stats};
use view::View;

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
    /// After as many bytes of changes, in memory or in the journal, the view is brought up to date; earlier if its
    /// documents are few.
    pub checkpoint_bytes: usize,
    /// If changes wait for as long, the view is brought up to date.
    pub checkpoint_idle: Duration,
    /// After as many bytes of journal, and at least half as many as the last export has, all documents are exported.
    pub export_bytes: u64,
    /// A view with fewer bytes on the disk is not copied to make it smaller.
    pub compact_bytes: u64,
    /// Memory for the view's cache, in bytes.
    pub cache_bytes: u64,
    /// If documents, keys and values, have more bytes than this when the view is brought up to date, the store is full
    /// until they have less.
    pub max_bytes: u64,
}

impl Options {
    /// A store in `directory` for `lanes` lanes, with the defaults.
    pub fn new(directory: impl Into<PathBuf>, lanes: usize) -> Self {
        Self {
            directory: directory.into(),
            lanes,
            commit_interval: Duration::ZERO,
            commit_batch: 1 << 20,
            segment_bytes: 8 << 20,
            checkpoint_bytes: 16 << 20,
            checkpoint_idle: Duration::from_secs(30),
            export_bytes: 16 << 20,
            compact_bytes: 32 << 20,
            cache_bytes: 64 << 20,
            max_bytes: u64::MAX,
        }
    }
}

/// What opening has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Documents in all tables, without those that only the journal has so far.
    pub documents: u64,
    /// Cuts read from the journal.
    pub cuts_replayed: u64,
    /// Cuts that should be in the journal, are nowhere else, and cannot be read.
    pub cuts_lost: u64,
    /// The end that a crash had torn off the journal.
    pub torn: Option<Damage>,
    /// Damage in journal and export.
    pub damaged: Vec<Damage>,
    /// The view was damaged, is put aside, and was made anew.
    pub view_rebuilt: bool,
    /// Documents of the view that were not as export and journal have them, and now are: a crash during a checkpoint
    /// leaves some, and so does damage that sled does not notice.
    pub view_corrected: u64,
    /// How long it took.
    pub took: Duration,
    /// Of that, until the view was open, and until the export was read: at the same time.
    pub took_view: Duration,
    /// See [`Report::took_view`].
    pub took_export: Duration,
    /// Of that, the reading of the journal.
    pub took_journal: Duration,
    /// Of that, bringing the view in line with the journal.
    pub took_mending: Duration,
}

/// What a store that is open says of itself. The bytes are as of a moment ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes of keys and values in the view.
    pub live_bytes: u64,
    /// Bytes of the journal on the disk.
    pub journal_bytes: u64,
    /// Bytes of the view on the disk; while it is copied, of both.
    pub view_bytes: u64,
    /// Bytes of the export on the disk.
    pub export_bytes: u64,
    /// Times that the view was brought up to date.
    pub checkpoints: u64,
    /// Exports of all documents.
    pub exports: u64,
    /// Copies of the view into a smaller one.
    pub compactions: u64,
    /// Times that the disk confirmed what the journal had written.
    pub syncs: u64,
    /// How long that took.
    pub sync_microseconds: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Shared>,
    /// The journal's thread, the view's, and that of the lookups.
    threads: Mutex<Option<[JoinHandle<()>; 3]>>,
    view: Arc<Mutex<Option<View>>>,
    /// Locked as long as this lives.
    _home: Arc<Home>,
}

impl Disk {
    /// Opens the store, or makes it, and brings back all that was durable. Damage is kept aside and reported; only what
    /// cannot be used at all is an error.
    pub fn open(options: Options) -> Result<(Self, Report), OpenError> {
        let clock = Clock::start();
        let home = Arc::new(Home::create(&options.directory)?);
        let mut report = Report::default();
        let started = start::start(&home, &options, &mut report)?;
        let shared = Arc::new(Shared::new(options, started.tables));
        *shared.lookups.trees.lock() = Some(started.view.trees());
        shared.has_followed(started.view.totals.bytes);
        let view = Arc::new(Mutex::new(Some(started.view)));
        let follower = Follower {
            shared: Arc::clone(&shared),
            home: Arc::clone(&home),
            view: Arc::clone(&view),
            exported: started.exported,
            export_bytes: started.export_bytes,
            exported_at: 0,
            job: None,
            copying: None,
            bloat: Bloat::default(),
            copy_is_next: false,
            clock,
            slice_ends: 0,
        };
        let (committing, journal) = (Arc::clone(&shared), started.journal);
        let committing = thread("store-journal", move || {
            let watched = catch_unwind(AssertUnwindSafe(|| commit::run(&committing, journal)));
            watched.unwrap_or_else(|_| committing.journal_health.gave_up("journal"));
        });
        let following = thread("store-view", move || {
            let shared = Arc::clone(&follower.shared);
            let watched = catch_unwind(AssertUnwindSafe(|| follower.run()));
            watched.unwrap_or_else(|_| shared.view_health.gave_up("view"));
        });
        let reading = Arc::clone(&shared);
        let reading = thread("store-lookup", move || lookup::run(&reading));
        let threads = Mutex::new(Some([committing?, following?, reading?]));
        let disk = Self { shared, threads, view, _home: home };
        report.took = Duration::from_millis(clock.mono());
        Ok((disk, report))
    }

    /// Has `wake` called, on the store's thread, for each lane whose committed number has grown. The first call counts.
    pub fn on_commit(&self, wake: Wake) {
        self.shared.set_wake(wake);
    }

    /// What it says of itself. Does not touch the disk.
    pub fn figures(&self) -> Figures {
        let figures = &self.shared.figures;
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Figures {
            live_bytes: read(&figures.live_bytes),
            journal_bytes: read(&figures.journal_bytes),
            view_bytes: read(&figures.view_bytes),
            export_bytes: read(&figures.export_bytes),
            checkpoints: read(&figures.checkpoints),
            exports: read(&figures.exports),
            compactions: read(&figures.compactions),
            syncs: read(&figures.syncs),
            sync_microseconds: read(&figures.sync_us),
        }
    }

    /// Makes durable what is whole, brings the view up to date, and ends. Submissions after it are lost.
    pub fn close(&self) {
        self.end(End::Close);
    }

    /// Ends as a crash would: with what is durable now, and nothing tidied up.
    pub fn abandon(&self) {
        self.end(End::Abandon);
    }

    fn end(&self, end: End) {
        let Some([committing, following, reading]) = self.threads.lock().take() else { return };
        self.shared.lookups.end();
        self.shared.tables.lock().end = end;
        self.shared.inbox.lock().end = end;
        self.shared.room.notify_one();
        self.shared.work.notify_one();
        let committed = committing.join();
        self.shared.tables.lock().drained = true;
        self.shared.filled.notify_one();
        if committed.and(following.join()).and(reading.join()).is_err() {
            tracing::error!(path = %self.shared.options.directory.display(), "a thread of the store had panicked");
        }
        *self.shared.lookups.trees.lock() = None;
        let _ = view::guarded(|| {
            drop(self.view.lock().take());
            Ok(())
        });
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(at(Path::new(name)))
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

    fn look_up(&self, lane: Lane, lookup: Lookup) {
        self.shared.lookups.ask(lane, lookup);
    }

    fn found(&self, lane: Lane) -> Option<Found> {
        self.shared.lookups.take(lane)
    }

    fn load(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), LoadError> {
        let failed = |why: String| LoadError { what: format!("the table {}", table.name()), why };
        let tables = self.shared.tables.lock();
        if let Some(start) = &tables.start {
            let changes = layered(&[&start.between, &tables.active], table);
            return merge(|show| start.export.each(table, show), &changes, visit)
                .map_err(|error| failed(error.to_string()));
        }
        drop(tables);
        let view = self.view.lock();
        let tables = self.shared.tables.lock();
        let Some(view) = &*view else { return Err(failed("the view is being mended".to_owned())) };
        let frozen = tables.frozen.clone().unwrap_or_default();
        let changes = layered(&[&frozen, &tables.active], table);
        let load = || merge(|show| view.each(table, show), &changes, visit);
        view::guarded(load).map_err(|broken| failed(broken.to_string()))
    }
}
