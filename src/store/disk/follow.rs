//! The view's thread: brings the view up to date, exports all documents, and lets go of the journal that both cover.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::copying::{self, Bloat, Copying};
use super::export::Writer;
use super::open::Home;
use super::shared::{End, Shared};
use super::view::{Broken, Tally, View, guarded};
use super::{files, journal, rebuild, truth};
use crate::clock::Clock;

/// How long a disk that has failed is left alone.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Documents that are exported between two looks at what else is to be done.
const STEP: usize = 2048;

/// What is exported or copied gets as long between two checkpoints, or as long as the first of them took, before it waits
/// again: the journal would grow without end if changes came faster than the view follows.
const SLICE_MS: u64 = 500;

/// A journal shorter than this is not worth an export at the end, in bytes.
const EXPORT_AT_END: u64 = 1 << 20;

/// What the thread works with.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) shared: Arc<Shared>,
    pub(super) home: Arc<Home>,
    /// `None` while it is being mended.
    pub(super) view: Arc<Mutex<Option<View>>>,
    /// The cut through which the last export is complete.
    pub(super) exported: u64,
    /// Bytes of that export.
    pub(super) export_bytes: u64,
    /// What [`super::shared::Tables::appended`] was then.
    pub(super) exported_at: u64,
    pub(super) job: Option<Job>,
    /// A copy of the view under way.
    pub(super) copying: Option<Copying>,
    pub(super) bloat: Bloat,
    /// The last was an export: a copy goes before the next.
    pub(super) copy_is_next: bool,
    pub(super) clock: Clock,
    /// Until then no checkpoint gets between what is exported or copied.
    pub(super) slice_ends: u64,
}

/// An export under way.
#[derive(Debug)]
pub(super) struct Job {
    writer: Writer,
    tally: Tally,
    through: u64,
    at: u64,
}

enum Turn {
    Checkpoint,
    /// A lookup has met with damage.
    Broken(Broken),
    Export,
    Copy,
    Finish,
    Stop,
}

impl Follower {
    /// Runs until the store ends.
    pub(super) fn run(mut self) {
        loop {
            self.shared.figures.measure(&self.home);
            let done = match self.wait() {
                Turn::Stop => return,
                Turn::Finish => return self.finish(),
                Turn::Checkpoint => self.checkpoint_in_turn(),
                Turn::Export => self.export_some(),
                Turn::Broken(broken) => Err(broken),
                Turn::Copy => self.copy_some(),
            };
            if let Err(broken) = done {
                self.failed(broken);
            } else {
                self.shared.view_health.recovered("view", &self.home.view());
            }
        }
    }

    fn wait(&self) -> Turn {
        let checkpoint_bytes = self.shared.checkpoint_bytes();
        let mut tables = self.shared.tables.lock();
        loop {
            match tables.end {
                End::Abandon => return Turn::Stop,
                End::Close if tables.drained => return Turn::Finish,
                _ => {}
            }
            if let Some(broken) = tables.unreadable.take() {
                return Turn::Broken(broken);
            }
            // As long as the start may still be reading, nothing moves.
            let reading = tables.start.is_some() && tables.end == End::NotYet;
            let due = tables.active.bytes() >= checkpoint_bytes || tables.journal_is_long(checkpoint_bytes);
            let other = match (&self.job, &self.copying) {
                (Some(_), _) => Some(Turn::Export),
                (None, Some(_)) => Some(Turn::Copy),
                (None, None) => None,
            };
            let has_slice = other.is_some() && self.clock.mono() < self.slice_ends;
            if !reading && !has_slice && (due || tables.frozen.is_some()) {
                return Turn::Checkpoint;
            }
            if let Some(other) = other.filter(|_| !reading) {
                return other;
            }
            let idle = self.shared.options.checkpoint_idle;
            let idle = if self.shared.is_full() { idle.min(BACK_OFF) } else { idle };
            let waited = self.shared.filled.wait_for(&mut tables, idle);
            if waited.timed_out() && !tables.active.is_empty() && tables.start.is_none() {
                return Turn::Checkpoint;
            }
        }
    }

    fn checkpoint_in_turn(&mut self) -> Result<(), Broken> {
        let begun = self.clock.mono();
        self.checkpoint()?;
        let ended = self.clock.mono();
        self.slice_ends = ended + SLICE_MS.max(ended - begun);
        self.begin_what_is_due()
    }

    /// Applies what has gathered.
    fn checkpoint(&mut self) -> Result<(), Broken> {
        let (frozen, at) = {
            let mut tables = self.shared.tables.lock();
            tables.start = None;
            if tables.frozen.is_none() {
                tables.frozen = Some(Arc::new(std::mem::take(&mut tables.active)));
                tables.frozen_at = tables.appended;
            }
            (tables.frozen.clone().unwrap_or_default(), tables.frozen_at)
        };
        let held = Arc::clone(&self.view);
        let mut held = held.lock();
        let view = match &mut *held {
            Some(view) => view,
            none => none.insert(self.mend()?),
        };
        // What leaves memory below is found there.
        *self.shared.lookups.trees.lock() = Some(view.trees());
        if frozen.through > view.through.unwrap_or(0) {
            let job = &mut self.job;
            guarded(|| {
                view.apply(&frozen, &mut |changed| {
                    if let Some(job) = job {
                        job.tally.changed(changed);
                    }
                })?;
                view.checkpoint(frozen.through)
            })?;
            if let Some(Err(broken)) = self.copying.as_mut().map(|copying| copying.follow(&frozen)) {
                give_up(&mut self.copying, &mut self.bloat, view, &broken);
            }
        }
        let through = view.through.unwrap_or(0);
        self.shared.has_followed(view.totals.bytes);
        self.shared.figures.checkpoints.fetch_add(1, Ordering::Relaxed);
        // A load that waits for the view must find the changes there, or still here.
        {
            let mut tables = self.shared.tables.lock();
            tables.frozen = None;
            tables.checkpoint_at = at;
        }
        drop(held);
        self.shared.room.notify_one();
        self.let_go(through)
    }

    /// Makes the view anew from export and journal, all of which was read again.
    fn mend(&mut self) -> Result<View, Broken> {
        self.job = None;
        let read = truth::read(&self.home, 0, None).map_err(|error| io::Error::other(error.to_string()))?;
        let through = read.replay.last().max(read.truth.export.through);
        let options = &self.shared.options;
        let (view, _) = rebuild::open_or_rebuild(&self.home, options.cache_bytes, &read.truth, through)?;
        Ok(view)
    }

    fn failed(&mut self, broken: Broken) {
        self.job = None;
        *self.shared.lookups.trees.lock() = None;
        if let Some(copying) = self.copying.take() {
            copying.give_up();
        }
        let view = self.view.lock().take();
        if let Some(view) = view {
            rebuild::leave(&self.home, view, &broken);
        }
        self.shared.view_health.failed("view", &self.home.view(), &broken.into_io());
        let mut tables = self.shared.tables.lock();
        if tables.end == End::NotYet {
            self.shared.filled.wait_for(&mut tables, BACK_OFF);
        }
    }

    /// An export and a copy wait for each other.
    fn begin_what_is_due(&mut self) -> Result<(), Broken> {
        if self.job.is_some() || self.copying.is_some() {
            return Ok(());
        }
        let least = self.shared.options.export_bytes.max(self.export_bytes / 2);
        let at = self.shared.tables.lock().checkpoint_at;
        let export = at - self.exported_at >= least;
        if export && !self.copy_is_next {
            return self.begin_export(at);
        }
        self.begin_copy_if_due();
        if export && self.copying.is_none() { self.begin_export(at) } else { Ok(()) }
    }

    fn begin_copy_if_due(&mut self) {
        self.copy_is_next = false;
        let held = self.view.lock();
        let Some(view) = held.as_ref() else { return };
        if self.bloat.is_due(view, self.shared.options.compact_bytes) {
            match Copying::begin(&self.home, self.shared.options.cache_bytes) {
                Ok(copying) => self.copying = Some(copying),
                Err(broken) => give_up(&mut self.copying, &mut self.bloat, view, &broken),
            }
        }
    }

    /// Copies some documents; with the last, the copy takes the view's place.
    fn copy_some(&mut self) -> Result<(), Broken> {
        let mut held = self.view.lock();
        let (Some(view), Some(copying)) = (held.as_mut(), self.copying.as_mut()) else {
            return Ok(());
        };
        match copying.copy_some(view) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(broken) => {
                give_up(&mut self.copying, &mut self.bloat, view, &broken);
                // It may be the view that cannot be read.
                return guarded(|| view.verify());
            }
        }
        let Some(mut copying) = self.copying.take() else { return Ok(()) };
        if let Err(broken) = copying.finish(view) {
            copying.give_up();
            self.bloat.is_new(view);
            return Err(broken);
        }
        let before = files::bytes_on_disk(view.directory());
        let old = std::mem::replace(view, copying.into_view());
        *self.shared.lookups.trees.lock() = Some(view.trees());
        self.bloat.is_new(view);
        let (after, documents) = (files::bytes_on_disk(view.directory()), view.totals.documents);
        drop(held);
        copying::remove(old);
        tracing::info!(documents, before, after, "the view was copied, for it had grown");
        self.shared.figures.compactions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn begin_export(&mut self, at: u64) -> Result<(), Broken> {
        let through = self.view.lock().as_ref().and_then(|view| view.through).unwrap_or(0);
        let writer = Writer::begin(&self.home.export(), self.home.mark, through)?;
        self.job = Some(Job { writer, tally: Tally::default(), through, at });
        Ok(())
    }

    /// Exports some documents; ends the export with the last.
    fn export_some(&mut self) -> Result<(), Broken> {
        let Some(job) = &mut self.job else { return Ok(()) };
        let held = self.view.lock();
        let Some(view) = &*held else { return Ok(()) };
        let Job { writer, tally, .. } = job;
        let from = std::mem::take(&mut tally.cursor);
        let next = guarded(|| {
            view.scan(&from, STEP, &mut |table, key, value| {
                tally.show(table, key, value);
                Ok(writer.add(table, key, value)?)
            })
        })?;
        if let Some(next) = next {
            tally.cursor = next;
            return Ok(());
        }
        if !tally.fits(&view.totals) {
            return Err(Broken::Different);
        }
        let covered = view.through.unwrap_or(0);
        drop(held);
        if let Some(job) = self.job.take() {
            self.export_bytes = job.writer.finish()?;
            (self.exported, self.exported_at) = (job.through, job.at);
            self.copy_is_next = true;
            self.shared.figures.exports.fetch_add(1, Ordering::Relaxed);
        }
        self.let_go(covered)
    }

    /// Removes segments that view and export cover.
    fn let_go(&self, viewed: u64) -> Result<(), Broken> {
        let covered = viewed.min(self.exported);
        let segments = std::mem::take(&mut self.shared.tables.lock().closed);
        let (covered, mut left): (Vec<_>, Vec<_>) = segments.into_iter().partition(|s| s.last <= covered);
        let (stuck, fault) =
            if covered.is_empty() { (covered, None) } else { journal::remove(&self.home.journal(), covered) };
        left.extend(stuck);
        self.shared.tables.lock().closed.extend(left);
        fault.map_or(Ok(()), |fault| Err(fault.error.into()))
    }

    /// The journal's thread has ended: everything into the view, and into an export if that is worth it.
    fn finish(&mut self) {
        if let Some(copying) = self.copying.take() {
            copying.give_up();
        }
        let done = self.checkpoint().and_then(|()| {
            let at = self.shared.tables.lock().checkpoint_at;
            if at - self.exported_at > EXPORT_AT_END {
                // One under way would leave all the journal behind its beginning.
                self.begin_export(at)?;
            }
            while self.job.is_some() {
                self.export_some()?;
            }
            Ok(())
        });
        if let Err(broken) = done {
            // The journal has it all: the next start mends the view.
            tracing::error!(path = %self.home.view().display(), error = %broken, "the view was not brought up to date");
        }
    }
}

/// A copy could not be made. What is copied is as good as it was.
fn give_up(copying: &mut Option<Copying>, bloat: &mut Bloat, view: &View, broken: &Broken) {
    if let Some(copying) = copying.take() {
        copying.give_up();
    }
    bloat.is_new(view);
    tracing::warn!(error = %broken, "the view has grown and could not be copied; it is tried again when it has grown more");
}
