//! What can be done with a store that no broker has open: look whether it is whole, how large it is, make it smaller.

use std::path::{Path, PathBuf};

use super::open::{Home, OpenError, at};
use super::truth::{self, Truth};
use super::view::Broken;
use super::{Damage, Options, Report, Table, files, journal, rebuild, start, view};

/// Documents of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableStats {
    /// The table.
    pub table: Table,
    /// How many documents it has.
    pub documents: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// What [`check`] has found.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// The documents that can be read, table by table.
    pub tables: Vec<TableStats>,
    /// Cuts read from the journal.
    pub cuts: u64,
    /// Cuts that export and journal should have and have not. The view may still have them: a start tells.
    pub cuts_missing: u64,
    /// The end that a crash has torn off the journal; nothing in it was durable.
    pub torn: Option<Damage>,
    /// Damage in journal and export.
    pub damaged: Vec<Damage>,
}

impl CheckReport {
    /// Whether all that was durable can be read.
    pub fn is_whole(&self) -> bool {
        self.cuts_missing == 0 && self.damaged.is_empty()
    }
}

/// How large a store is.
#[derive(Clone, Debug)]
pub struct StatsReport {
    /// Its documents, table by table.
    pub tables: Vec<TableStats>,
    /// Bytes of the journal on the disk.
    pub journal_bytes: u64,
    /// Bytes of the view on the disk.
    pub view_bytes: u64,
    /// Bytes of the export on the disk.
    pub export_bytes: u64,
    /// Bytes of what was damaged and is kept aside.
    pub damaged_bytes: u64,
}

/// What [`compact`] has done.
#[derive(Clone, Debug)]
pub struct CompactReport {
    /// What opening the store had found.
    pub opened: Report,
    /// Bytes on the disk before, without what is kept aside.
    pub bytes_before: u64,
    /// Bytes on the disk now.
    pub bytes_after: u64,
}

/// Reads export and journal of a store from end to end, and changes nothing. The view is left alone, because opening it
/// changes it: it follows from what is read here, and is made anew if it has to be.
pub fn check(directory: &Path) -> Result<CheckReport, OpenError> {
    let home = Home::existing(directory)?;
    let mut read = truth::read(&home, 0, None)?;
    let export = &read.truth.export;
    let cuts_missing = read.lost_behind(if export.is_whole() { export.through } else { 0 });
    let mut damaged = read.replay.damaged;
    damaged.extend(export.damaged.iter().cloned());
    let tables = count(&home, &read.truth)?;
    Ok(CheckReport { tables, cuts: read.replay.frames, cuts_missing, torn: read.replay.torn.take(), damaged })
}

/// Counts documents, and bytes on the disk.
pub fn stats(directory: &Path) -> Result<StatsReport, OpenError> {
    let home = Home::existing(directory)?;
    let read = truth::read(&home, 0, None)?;
    Ok(StatsReport {
        tables: count(&home, &read.truth)?,
        journal_bytes: files::bytes_on_disk(&home.journal()),
        view_bytes: files::bytes_on_disk(&home.view()),
        export_bytes: files::bytes_on_disk(&home.export()),
        damaged_bytes: files::bytes_on_disk(&home.damaged()),
    })
}

fn count(home: &Home, truth: &Truth) -> Result<Vec<TableStats>, OpenError> {
    let mut tables = Vec::new();
    for table in Table::ALL {
        let (mut documents, mut bytes) = (0, 0);
        let mut add = |key: &[u8], value: &[u8]| {
            documents += 1;
            bytes += (key.len() + value.len()) as u64;
        };
        truth.each(table, &mut add).map_err(at(&home.export()))?;
        tables.push(TableStats { table, documents, bytes });
    }
    Ok(tables)
}

/// Exports all documents, makes the view anew, and drops the journal. What is damaged is mended as a start would.
pub fn compact(directory: &Path) -> Result<CompactReport, OpenError> {
    let home = Home::existing(directory)?;
    let size = || -> u64 {
        let parts: [PathBuf; 3] = [home.journal(), home.view(), home.export()];
        parts.iter().map(|part| files::bytes_on_disk(part)).sum()
    };
    let bytes_before = size();
    let options = Options::new(directory, 0);
    let mut opened = Report::default();
    let started = start::start(&home, &options, &mut opened)?;
    let mut tables = started.tables;
    let truth = Truth { behind: tables.active, ..tables.start.take().unwrap_or_default() };
    let last = started.journal.last();
    let export = start::export_anew(&home, None, &truth, last)?;
    let truth = Truth { export, ..Truth::default() };
    opened.documents = count(&home, &truth)?.iter().map(|table| table.documents).sum();
    let unusable = |broken: Broken| at(&home.view())(broken.into_io());
    let old = started.view.directory().to_owned();
    let new = rebuild::rebuild(&home, options.cache_bytes, &truth, last).map_err(unusable)?;
    drop(started.view);
    view::discard(&old).map_err(at(&old))?;
    drop(new);
    let segments = started.journal.into_segments().chain(tables.closed).collect();
    let (_, fault) = journal::remove(&home.journal(), segments);
    match fault {
        Some(fault) => Err(at(&fault.path)(fault.error)),
        None => Ok(CompactReport { opened, bytes_before, bytes_after: size() }),
    }
}
