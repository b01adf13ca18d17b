//! A view that has grown far beyond its documents is copied into a new one while it goes on serving.
//!
//! sled never gives space back. The copy is filled in the order of tables and keys, some documents at a time; what a
//! checkpoint changes before the place where it stands is changed in both. It counts only once it says through which cut
//! it is complete, and then the old one goes: a crash at any moment leaves one that is complete. While both are there
//! they take their sum.

use std::io;
use std::path::{Path, PathBuf};

use super::super::Batch;
use super::open::Home;
use super::overlay::Overlay;
use super::view::{self, Broken, View, guarded};
use super::{Table, blocks, files};

/// A view on so many times its documents' bytes, in percent, is copied...
const BLOATED_PERCENT: u64 = 120;

/// ...but only if it has grown to so many times what it took when it was new, in percent.
const GROWN_PERCENT: u64 = 140;

/// Documents copied between two looks at what else is to be done.
const STEP: usize = 2048;

/// See the module.
#[derive(Debug)]
pub(super) struct Copying {
    view: View,
    /// Everything before is copied.
    cursor: Vec<u8>,
}

impl Copying {
    /// Begins a copy of a view.
    pub(super) fn begin(home: &Home, cache_bytes: u64) -> Result<Self, Broken> {
        let view = View::open(&next_directory(&home.view())?, cache_bytes)?;
        files::sync_directory(&home.view())?;
        Ok(Self { view, cursor: Vec::new() })
    }

    /// Follows what a checkpoint has changed in the other.
    pub(super) fn follow(&mut self, changes: &Overlay) -> Result<(), Broken> {
        guarded(|| self.view.apply_before(changes, &self.cursor))
    }

    /// Copies some documents. `true`: all are there.
    pub(super) fn copy_some(&mut self, from: &View) -> Result<bool, Broken> {
        let Self { view, cursor } = self;
        guarded(|| {
            let mut some: Option<(Table, Batch)> = None;
            let next = from.scan(cursor, STEP, &mut |table, key, value| {
                if let Some((of, documents)) = some.take_if(|(of, _)| *of != table) {
                    view.fill(of, &documents)?;
                }
                let (_, documents) = some.get_or_insert_with(|| (table, Batch::default()));
                blocks::put(documents, table, key, value);
                Ok(())
            })?;
            if let Some((of, documents)) = some {
                view.fill(of, &documents)?;
            }
            let done = next.is_none();
            *cursor = next.unwrap_or_default();
            Ok(done)
        })
    }

    /// All is copied: makes it as complete as the other, if it is a copy of it.
    pub(super) fn finish(&mut self, of: &View) -> Result<(), Broken> {
        if self.view.totals != of.totals {
            return Err(Broken::Different);
        }
        guarded(|| self.view.checkpoint(of.through.unwrap_or(0)))
    }

    /// The copy.
    pub(super) fn into_view(self) -> View {
        self.view
    }

    /// Gives it up.
    pub(super) fn give_up(self) {
        remove(self.view);
    }
}

/// Where a further view is made.
pub(super) fn next_directory(parent: &Path) -> io::Result<PathBuf> {
    let number = view::newest(parent)?.first().map_or(1, |(number, _)| number + 1);
    Ok(parent.join(format!("{number:04}")))
}

/// Removes a view that nobody needs any more.
pub(super) fn remove(view: View) {
    let directory = view.directory().to_owned();
    // sled writes what it has when it is dropped, and may panic at that.
    let _ = guarded(|| {
        drop(view);
        Ok(())
    });
    if let Err(error) = view::discard(&directory) {
        tracing::warn!(path = %directory.display(), %error, "a view that is not needed cannot be removed");
    }
}

/// Whether a view takes far more room than what is in it.
#[derive(Debug, Default)]
pub(super) struct Bloat {
    /// Bytes on the disk and of documents when it was new, as far as that is known.
    new: Option<(u64, u64)>,
}

impl Bloat {
    /// Whether it is worth a copy. A view below `least` bytes is not.
    pub(super) fn is_due(&self, view: &View, least: u64) -> bool {
        let (bytes, live) = (files::bytes_on_disk(view.directory()), view.totals.bytes);
        let grown = self.new.is_none_or(|(new, of)| {
            u128::from(bytes) * u128::from(of) * 100
                > u128::from(new) * u128::from(live) * u128::from(GROWN_PERCENT)
        });
        bytes > least && bytes.saturating_mul(100) > live.saturating_mul(BLOATED_PERCENT) && grown
    }

    /// It is new, or was not copied although it was due: another try is worth it when it has grown further.
    pub(super) fn is_new(&mut self, view: &View) {
        self.new = Some((files::bytes_on_disk(view.directory()), view.totals.bytes));
    }
}
