//! What the shards, the journal's thread and the view's thread share.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use parking_lot::{Condvar, Mutex};

use super::super::{Health, Lane, Lanes, Sequence, Submission};
use super::journal::{Appended, Segment};
use super::lookup::Desk;
use super::open::Home;
use super::overlay::Overlay;
use super::truth::Truth;
use super::view::Broken;
use super::{Options, files};

/// Called with a lane whose committed number has grown, or that has something found.
pub type Wake = Box<dyn Fn(Lane) + Send + Sync>;

/// How the threads are to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    #[default]
    NotYet,
    /// With everything durable and in the view.
    Close,
    /// Where they are.
    Abandon,
}

/// What the journal's thread does: whether a submission has to rouse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleep {
    /// Waits for a submission.
    Idle,
    /// Waits until the interval is over or enough has gathered.
    Gathering,
    /// Does not wait for submissions.
    Busy,
}

/// Submissions on their way to the journal's thread.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) lanes: Lanes,
    /// Bytes of changes in `lanes`.
    pub(super) bytes: usize,
    pub(super) sleep: Sleep,
    pub(super) end: End,
}

/// Committed changes on their way to the view.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Cuts of the journal since the last checkpoint began.
    pub(super) active: Overlay,
    /// What the checkpoint under way applies.
    pub(super) frozen: Option<Arc<Overlay>>,
    /// Only until the first commit, for the load: all that is not in `active`.
    pub(super) start: Option<Truth>,
    /// Bytes of journal that the export at the start did not cover, and those added since.
    pub(super) appended: u64,
    /// What it was when `frozen` was taken, and when the last checkpoint was.
    pub(super) frozen_at: u64,
    pub(super) checkpoint_at: u64,
    /// Segments that nothing more is written to.
    pub(super) closed: Vec<Segment>,
    /// What a lookup has met with.
    pub(super) unreadable: Option<Broken>,
    pub(super) end: End,
    /// The journal's thread has ended.
    pub(super) drained: bool,
}

impl Tables {
    /// Whether the journal has grown by so much since the last checkpoint.
    pub(super) fn journal_is_long(&self, checkpoint_bytes: usize) -> bool {
        self.appended - self.checkpoint_at >= checkpoint_bytes as u64
    }

    /// Bytes of memory that wait for the view.
    pub(super) fn bytes(&self) -> usize {
        self.active.bytes() + self.frozen.as_ref().map_or(0, |frozen| frozen.bytes())
    }
}

/// However few documents there are, as many bytes of changes may wait for the view.
const CHECKPOINT_LEAST: usize = 8 << 20;

/// What is counted while the store runs.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Bytes of keys and values in the view.
    pub(super) live_bytes: AtomicU64,
    /// Bytes on the disk.
    pub(super) journal_bytes: AtomicU64,
    pub(super) view_bytes: AtomicU64,
    pub(super) export_bytes: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    pub(super) exports: AtomicU64,
    pub(super) compactions: AtomicU64,
    /// Times that the journal had the disk confirm what it wrote, and microseconds that this took.
    pub(super) syncs: AtomicU64,
    pub(super) sync_us: AtomicU64,
}

impl Figures {
    pub(super) fn has_synced(&self, appended: &Appended) {
        self.journal_bytes.fetch_add(appended.bytes, Ordering::Relaxed);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_us.fetch_add(appended.sync_us, Ordering::Relaxed);
    }

    /// Looks how large the parts are.
    pub(super) fn measure(&self, home: &Home) {
        let bytes = |part: &Path| files::bytes_on_disk(part);
        self.journal_bytes.store(bytes(&home.journal()), Ordering::Relaxed);
        self.view_bytes.store(bytes(&home.view()), Ordering::Relaxed);
        self.export_bytes.store(bytes(&home.export()), Ordering::Relaxed);
    }
}

/// See the module.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) inbox: Mutex<Inbox>,
    /// Rouses the journal's thread.
    pub(super) work: Condvar,
    pub(super) tables: Mutex<Tables>,
    /// Rouses the view's thread.
    pub(super) filled: Condvar,
    /// Rouses the journal's thread when the view has caught up.
    pub(super) room: Condvar,
    pub(super) journal_health: Unwell,
    pub(super) view_health: Unwell,
    pub(super) lookups: Desk,
    pub(super) figures: Figures,
    /// After as many bytes of changes the view is brought up to date.
    checkpoint_bytes: AtomicUsize,
    /// Documents have more bytes than they may.
    full: AtomicBool,
    committed: Box<[AtomicU64]>,
    waiting: Box<[AtomicUsize]>,
    wake: OnceLock<Wake>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(options: Options, tables: Tables) -> Self {
        let (lanes, checkpoint_bytes) = (options.lanes, options.checkpoint_bytes);
        let inbox = Inbox { lanes: Lanes::new(lanes), bytes: 0, sleep: Sleep::Busy, end: End::NotYet };
        Self {
            options,
            inbox: Mutex::new(inbox),
            work: Condvar::new(),
            tables: Mutex::new(tables),
            filled: Condvar::new(),
            room: Condvar::new(),
            journal_health: Unwell::default(),
            view_health: Unwell::default(),
            lookups: Desk::new(lanes),
            figures: Figures::default(),
            checkpoint_bytes: AtomicUsize::new(checkpoint_bytes),
            full: AtomicBool::new(false),
            committed: (0..lanes).map(|_| AtomicU64::new(0)).collect(),
            waiting: (0..lanes).map(|_| AtomicUsize::new(0)).collect(),
            wake: OnceLock::new(),
        }
    }

    /// After how many bytes of changes the view is brought up to date.
    pub(super) fn checkpoint_bytes(&self) -> usize {
        self.checkpoint_bytes.load(Ordering::Relaxed)
    }

    /// The view is up to date: the fewer bytes its documents have, the less may wait before it is again.
    pub(super) fn has_followed(&self, live: u64) {
        let most = self.options.checkpoint_bytes;
        let part = usize::try_from(live / 4).unwrap_or(usize::MAX);
        self.checkpoint_bytes.store(part.clamp(most.min(CHECKPOINT_LEAST), most), Ordering::Relaxed);
        self.figures.live_bytes.store(live, Ordering::Relaxed);
        let (full, most) = (live > self.options.max_bytes, self.options.max_bytes);
        if self.full.swap(full, Ordering::Release) != full {
            if full {
                tracing::error!(
                    live,
                    most,
                    "the store holds more than it may: what has to be kept is refused"
                );
            } else {
                tracing::info!(live, most, "the store has room again");
            }
        }
    }

    /// Whether documents have more bytes than they may.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    pub(super) fn submit(&self, lane: Lane, submission: Submission) -> Sequence {
        let bytes = submission.batch.len();
        if let Some(waiting) = self.waiting.get(usize::from(lane)) {
            waiting.fetch_add(bytes, Ordering::Relaxed);
        }
        let mut inbox = self.inbox.lock();
        let sequence = inbox.lanes.submit(lane, submission);
        inbox.bytes += bytes;
        let rouse = match inbox.sleep {
            Sleep::Idle => true,
            Sleep::Gathering => inbox.bytes >= self.options.commit_batch,
            Sleep::Busy => false,
        };
        if rouse {
            inbox.sleep = Sleep::Busy;
            drop(inbox);
            self.work.notify_one();
        }
        sequence
    }

    pub(super) fn committed(&self, lane: Lane) -> Sequence {
        self.committed.get(usize::from(lane)).map_or(0, |committed| committed.load(Ordering::Acquire))
    }

    pub(super) fn waiting(&self, lane: Lane) -> usize {
        self.waiting.get(usize::from(lane)).map_or(0, |waiting| waiting.load(Ordering::Relaxed))
    }

    pub(super) fn health(&self) -> Health {
        match (self.journal_health.get(), self.view_health.get()) {
            (Health::Fine, Health::Fine) if self.is_full() => Health::Full,
            (Health::Fine, view) => view,
            (journal, _) => journal,
        }
    }

    /// Tells a lane that there is something for it.
    pub(super) fn wake(&self, lane: Lane) {
        if let Some(wake) = self.wake.get() {
            wake(lane);
        }
    }

    /// Whoever comes first is called.
    pub(super) fn set_wake(&self, wake: Wake) {
        let _ = self.wake.set(wake);
    }

    /// Says which submissions have become durable.
    pub(super) fn publish(&self, through: &[Option<Sequence>], weights: &[usize]) {
        for (waiting, weight) in self.waiting.iter().zip(weights) {
            waiting.fetch_sub(*weight, Ordering::Relaxed);
        }
        for (committed, through) in self.committed.iter().zip(through) {
            if let Some(through) = through {
                committed.store(*through, Ordering::Release);
            }
        }
        let Some(wake) = self.wake.get() else { return };
        for (lane, through) in (0..).zip(through) {
            if through.is_some() {
                wake(lane);
            }
        }
    }
}

/// The health of one part, and what is logged of it: each change once.
#[derive(Debug, Default)]
pub(super) struct Unwell(AtomicU8);

impl Unwell {
    pub(super) fn get(&self) -> Health {
        match self.0.load(Ordering::Acquire) {
            0 => Health::Fine,
            1 => Health::Full,
            _ => Health::Failed,
        }
    }

    fn set(&self, health: Health) -> Health {
        let before = self.get();
        self.0.store(health as u8, Ordering::Release);
        before
    }

    /// Something could not be written.
    pub(super) fn failed(&self, what: &'static str, path: &Path, error: &io::Error) {
        let health = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Health::Full,
            _ => Health::Failed,
        };
        if self.set(health) != health {
            tracing::error!(path = %path.display(), %error, "the {what} cannot be written; it is tried again");
        }
    }

    /// Its thread has ended before its time: nothing more becomes durable until a restart.
    pub(super) fn gave_up(&self, what: &'static str) {
        self.set(Health::Failed);
        tracing::error!("the thread of the {what} has panicked; the store needs a restart");
    }

    /// Something could be written.
    pub(super) fn recovered(&self, what: &'static str, path: &Path) {
        if self.get() != Health::Fine {
            self.set(Health::Fine);
            tracing::info!(path = %path.display(), "the {what} can be written again");
        }
    }
}
