//! Brings a store back: what is there, how whole it is, and what it takes to make it whole.

use std::fs::{self, OpenOptions};
use std::io;
use std::thread;
use std::time::Duration;

use super::export::{Export, Writer};
use super::journal::{Journal, Segment};
use super::open::{Home, OpenError, at};
use super::overlay::{layered, merge};
use super::progress::Progress;
use super::shared::Tables;
use super::truth::{self, Read, Truth};
use super::view::{Broken, View};
use super::{Options, Report, Table, files, rebuild};

/// The parts of a store that is whole again.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) journal: Journal,
    pub(super) tables: Tables,
    pub(super) view: View,
    pub(super) exported: u64,
    pub(super) export_bytes: u64,
}

/// See the module.
pub(super) fn start(home: &Home, options: &Options, report: &mut Report) -> Result<Started, OpenError> {
    let cache_bytes = options.cache_bytes;
    let unusable = |broken: Broken| at(&home.view())(broken.into_io());
    let had_view = !files::numbered(&home.view(), "").map_err(at(&home.view()))?.is_empty();
    // sled takes as long to open as the export takes to be read.
    let progress = Progress::begin();
    let (view, export) = thread::scope(|scope| {
        let view = scope.spawn(|| (rebuild::existing(home, cache_bytes), progress.ms()));
        let export = truth::export(home);
        report.took_export = Duration::from_millis(progress.ms());
        let panicked = |_| (Err(Broken::Panicked("while it was opened".to_owned())), 0);
        let (view, ms) = view.join().unwrap_or_else(panicked);
        report.took_view = Duration::from_millis(ms);
        (view, export)
    });
    let opened_ms = progress.ms();
    tracing::info!(ms = opened_ms, "view and export are read");
    let mut view = view.map_err(unusable)?;
    report.view_rebuilt = had_view && view.is_none();
    let viewed = view.as_ref().and_then(|view| view.through);
    let mut read = truth::read_behind(export?, home, viewed.unwrap_or(0), Some(&home.damaged()))?;
    tell(&mut read, report);
    let replayed_ms = progress.ms();
    report.took_journal = Duration::from_millis(replayed_ms - opened_ms);
    let whole = read.is_whole();
    let last = read.last;
    if !whole {
        let filling = view.as_ref().filter(|view| fills(view, &read));
        let behind = match filling {
            Some(view) => view.through.unwrap_or(0),
            None if read.truth.export.is_whole() => read.truth.export.through,
            None => 0,
        };
        report.cuts_lost = read.lost_behind(behind);
        if report.cuts_lost > 0 {
            tracing::error!(
                cuts = report.cuts_lost,
                "changes that were committed are lost; nothing has them any more"
            );
        }
        let export = export_anew(home, filling, &read.truth, last)?;
        read.truth = Truth { export, ..Truth::default() };
    }
    let fresh = |view: &View| {
        whole && !view.torn && view.through.is_some_and(|through| read.replay.is_whole_from(through + 1))
    };
    let usable = view.as_ref().is_some_and(fresh);
    let view = if let Some(view) = view.take_if(|_| usable) {
        view
    } else {
        // Compared with the truth, or made of it; either way there is nothing left to apply.
        let (view, anew, differed) = renew(home, cache_bytes, view, &read.truth, last).map_err(unusable)?;
        report.view_rebuilt |= anew && had_view;
        report.view_corrected = differed;
        let behind = std::mem::take(&mut read.truth.behind);
        read.truth.between.absorb(behind);
        view
    };
    report.took_mending = Duration::from_millis(progress.ms() - replayed_ms);
    let (journal, closed, journal_bytes) = go_on(home, options, &mut read, whole)?;
    let (exported, export_bytes) = (read.truth.export.through, read.truth.export.bytes);
    report.documents = view.totals.documents;
    let active = std::mem::take(&mut read.truth.behind);
    let tables = Tables {
        active,
        start: Some(read.truth),
        closed,
        appended: journal_bytes,
        checkpoint_at: journal_bytes,
        ..Tables::default()
    };
    Ok(Started { journal, tables, view, exported, export_bytes })
}

/// Logs what was found and puts it into the report.
fn tell(read: &mut Read, report: &mut Report) {
    report.cuts_replayed = read.replay.frames;
    report.torn = read.replay.torn.take();
    report.damaged = std::mem::take(&mut read.replay.damaged);
    report.damaged.extend(read.truth.export.damaged.iter().cloned());
    if let Some(torn) = &report.torn {
        tracing::warn!(
            file = %torn.file.display(), offset = torn.offset, bytes = torn.bytes,
            "the journal's end was torn off; it is cut behind its last whole frame"
        );
    }
    for damage in &report.damaged {
        tracing::warn!(
            file = %damage.file.display(), offset = damage.offset, bytes = damage.bytes,
            "damaged bytes are kept aside"
        );
    }
}

/// Whether the view has what export and journal have lost.
fn fills(view: &View, read: &Read) -> bool {
    let Some(through) = view.through else { return false };
    let export = &read.truth.export;
    let lost_without = read.lost_behind(if export.is_whole() { export.through } else { 0 });
    let better = !export.is_whole() || read.lost_behind(through) < lost_without;
    better && view.verify().inspect_err(|error| tracing::warn!(%error, "the view is no help")).is_ok()
}

/// Exports all that is left: the view's documents, or else the truth's, and what the journal has behind them.
pub(super) fn export_anew(
    home: &Home,
    view: Option<&View>,
    truth: &Truth,
    last: u64,
) -> Result<Export, OpenError> {
    let path = home.export();
    let write = || -> io::Result<Export> {
        if path.exists() && !truth.export.is_whole() {
            fs::create_dir_all(home.damaged())?;
            fs::copy(&path, home.damaged().join(format!("export-{}", truth.export.through)))?;
        }
        let mut writer = Writer::begin(&path, home.mark, last)?;
        for table in Table::ALL {
            let mut written = Ok(());
            let mut add = |key: &[u8], value: &[u8]| {
                if written.is_ok() {
                    written = writer.add(table, key, value);
                }
            };
            if let Some(view) = view {
                let changes = layered(&[&truth.behind], table);
                merge(|show| view.each(table, show), &changes, &mut add).map_err(Broken::into_io)?;
            } else {
                truth.each(table, &mut add)?;
            }
            written?;
        }
        writer.finish()?;
        Export::open(&path, home.mark)
    };
    write().map_err(at(&path))
}

/// The view as the truth has it; whether it is a new one for damage; else how many documents differed.
fn renew(
    home: &Home,
    cache_bytes: u64,
    view: Option<View>,
    truth: &Truth,
    last: u64,
) -> Result<(View, bool, u64), Broken> {
    let Some(mut old) = view else { return Ok((rebuild::rebuild(home, cache_bytes, truth, last)?, true, 0)) };
    match old.reconcile(truth, last) {
        Ok(differed) => Ok((old, false, differed)),
        Err(broken) => {
            rebuild::leave(home, old, &broken);
            Ok((rebuild::rebuild(home, cache_bytes, truth, last)?, true, 0))
        }
    }
}

/// The journal's end, its other segments, and the bytes of journal that the export does not cover.
fn go_on(
    home: &Home,
    options: &Options,
    read: &mut Read,
    whole: bool,
) -> Result<(Journal, Vec<Segment>, u64), OpenError> {
    let mut segments = std::mem::take(&mut read.replay.segments);
    let next_segment = segments.last().map_or(1, |segment| segment.number + 1);
    let exported = read.truth.export.through;
    let journal_bytes = segments.iter().filter(|s| s.last > exported).map(|s| s.bytes).sum();
    // Behind a gap a new segment begins: its header says that nothing is missing there.
    let current = match segments.pop_if(|_| whole && read.replay.appendable) {
        Some(segment) => {
            let file = OpenOptions::new().read(true).write(true).open(&segment.path);
            let file = file.map_err(at(&segment.path))?;
            Some((segment, file))
        }
        None => None,
    };
    let journal =
        Journal::new(home.journal(), home.mark, options.segment_bytes, current, next_segment, read.last);
    Ok((journal, segments, journal_bytes))
}
