//! What a store holds, from what it can rely on: the export, and the journal behind it.

use std::io;
use std::path::Path;

use super::Table;
use super::export::Export;
use super::open::{Home, OpenError, at};
use super::overlay::{Overlay, layered, merge};
use super::replay::{self, Replay};

/// Documents of the export with the journal's changes over them.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) export: Export,
    /// Cuts that the export does not have and the view has.
    pub(super) between: Overlay,
    /// Cuts that neither has.
    pub(super) behind: Overlay,
}

/// What was read, and how whole it is.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) truth: Truth,
    pub(super) replay: Replay,
    /// The last cut that anything knows of.
    pub(super) last: u64,
}

impl Read {
    /// Whether all that was ever committed is in it, as far as is known.
    pub(super) fn is_whole(&self) -> bool {
        self.truth.export.is_whole()
            && self.replay.is_whole_from(self.truth.export.through + 1)
            && self.replay.last().max(self.truth.export.through) >= self.last
    }

    /// Cuts that are missing behind cut `through`.
    pub(super) fn lost_behind(&self, through: u64) -> u64 {
        let first = self.replay.cuts.as_ref().map_or(self.last + 1, |cuts| *cuts.start());
        let first = self.replay.lost.first().map_or(first, |lost| first.min(*lost.start()));
        let front = first.saturating_sub(through + 1);
        let gaps = self.replay.lost.iter().filter(|lost| *lost.end() > through);
        let gaps: u64 = gaps.map(|lost| lost.end() - (*lost.start()).max(through + 1) + 1).sum();
        let end = self.last.saturating_sub(self.replay.last().max(through));
        // Without any journal the front is the end.
        if self.replay.cuts.is_none() { end } else { front + gaps + end }
    }
}

/// Reads export and journal; `view` is the cut through which the view is complete. With a `repair` directory the damage
/// found is copied there, and an end that was torn off the journal is cut.
pub(super) fn read(home: &Home, view: u64, repair: Option<&Path>) -> Result<Read, OpenError> {
    read_behind(export(home)?, home, view, repair)
}

/// Reads the export.
pub(super) fn export(home: &Home) -> Result<Export, OpenError> {
    let path = home.export();
    Export::open(&path, home.mark).map_err(at(&path))
}

/// Reads the journal behind the export.
pub(super) fn read_behind(
    export: Export,
    home: &Home,
    view: u64,
    repair: Option<&Path>,
) -> Result<Read, OpenError> {
    let journal = home.journal();
    let mut truth = Truth { export, ..Truth::default() };
    let exported = if truth.export.is_whole() { truth.export.through } else { 0 };
    let replay = replay::replay(&journal, home.mark, repair, &mut |cut, changes, _| {
        let overlay = match cut {
            _ if cut > view => &mut truth.behind,
            _ if cut > exported => &mut truth.between,
            _ => return,
        };
        for change in changes.flatten() {
            overlay.apply(change.table, change.key, change.value);
        }
        overlay.through = cut;
    })
    .map_err(at(&journal))?;
    let last = replay.last().max(view).max(truth.export.through);
    Ok(Read { truth, replay, last })
}

impl Truth {
    /// Shows the documents of a table in the order of their keys.
    pub(super) fn each(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let changes = layered(&[&self.between, &self.behind], table);
        merge(|show| self.export.each(table, show), &changes, visit)
    }
}
