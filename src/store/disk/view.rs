//! The view: all documents in sled, through a cut of the journal that it names itself.
//!
//! sled does not promise what it has written, panics on damage, and never gives space back (`ARCHITECTURE.md`). So nothing
//! depends on it alone: it tells whether it is whole by counts and a sum over its documents, and it can be made anew.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::super::Batch;
use super::Table;
use super::blocks::{self, Reconciler};
use super::files;
use super::overlay::{Overlay, place};
use super::progress::Progress;
use super::truth::Truth;
use super::value;

/// Where in the tree `meta` a view says what it is.
const POSITION: &[u8] = b"position";

/// How the names of trees of blocks end.
const BLOCKS: &str = "-blocks";

/// Number, bytes and a sum of checksums of documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// How many.
    pub(super) documents: u64,
    /// Bytes of their keys and values.
    pub(super) bytes: u64,
    sum: u64,
}

impl Totals {
    pub(super) fn add(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.documents = self.documents.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add((key.len() + value.len()) as u64);
        self.sum = self.sum.wrapping_add(sum(table, key, value));
    }

    fn take(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.documents = self.documents.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub((key.len() + value.len()) as u64);
        self.sum = self.sum.wrapping_sub(sum(table, key, value));
    }
}

fn sum(table: Table, key: &[u8], value: &[u8]) -> u64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[table as u8]);
    crc.update(key);
    crc.update(value);
    u64::from(crc.finalize())
}

/// Is shown a document.
type Show<'a> = dyn FnMut(Table, &[u8], &[u8]) -> Result<(), Broken> + 'a;

/// Why the view cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("sled panicked: {0}")]
    Panicked(String),
    #[error("{0} has a value whose checksum does not fit")]
    Spoilt(&'static str),
    #[error("its documents are not those that it had been given")]
    Different,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Broken {
    /// The error to judge the disk by.
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Self::Io(error) | Self::Sled(sled::Error::Io(error)) => error,
            other => io::Error::other(other.to_string()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct View {
    directory: PathBuf,
    db: sled::Db,
    trees: Vec<(Table, sled::Tree)>,
    meta: sled::Tree,
    /// The cut through which it is complete; `None`: it is being filled for the first time.
    pub(super) through: Option<u64>,
    pub(super) totals: Totals,
    /// A checkpoint was under way when it ended: some documents may be newer than it says, and the totals do not fit them.
    pub(super) torn: bool,
}

/// Runs something that sled may panic in.
pub(super) fn guarded<R>(run: impl FnOnce() -> Result<R, Broken>) -> Result<R, Broken> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        Err(Broken::Panicked(text.to_owned()))
    })
}

/// The view's tables, to be read beside what it is written with.
#[derive(Clone, Debug)]
pub(super) struct Trees(Vec<(Table, sled::Tree)>);

impl Trees {
    /// A document. `last` is the block that was read last: of neighbours it is read once.
    pub(super) fn get(
        &self,
        table: Table,
        key: &[u8],
        last: &mut blocks::Last,
    ) -> Result<Option<Box<[u8]>>, Broken> {
        let Some((_, tree)) = self.0.iter().find(|(of, _)| *of == table) else { return Ok(None) };
        blocks::get(table, tree, key, last)
    }
}

impl View {
    /// What it can be read with by others. sled ends only with the last of these.
    pub(super) fn trees(&self) -> Trees {
        Trees(self.trees.clone())
    }

    /// Opens the view in a directory, or begins one.
    pub(super) fn open(directory: &Path, cache_bytes: u64) -> Result<Self, Broken> {
        guarded(|| {
            let db = sled::Config::new()
                .path(directory)
                .mode(sled::Mode::HighThroughput)
                .cache_capacity(cache_bytes)
                .flush_every_ms(Some(500))
                .open()?;
            let meta = db.open_tree("meta")?;
            let mut trees = Vec::new();
            for table in Table::ALL {
                trees.push((table, db.open_tree(format!("{}{BLOCKS}", table.name()))?));
            }
            let directory = directory.to_owned();
            let mut view =
                Self { directory, db, trees, meta, through: None, totals: Totals::default(), torn: false };
            view.read_position()?;
            Ok(view)
        })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn read_position(&mut self) -> Result<(), Broken> {
        let Some(packed) = self.meta.get(POSITION)? else { return Ok(()) };
        let numbers = value::unpack(&packed, |bytes| {
            let mut numbers = bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
            Some((
                numbers.next()?,
                numbers.next()? != 0,
                Totals { documents: numbers.next()?, bytes: numbers.next()?, sum: numbers.next()? },
            ))
        });
        let Ok(Some((through, torn, totals))) = numbers else { return Err(Broken::Spoilt("meta")) };
        self.through = Some(through);
        self.torn = torn;
        self.totals = totals;
        Ok(())
    }

    fn write_position(&mut self, through: u64, torn: bool) -> Result<(), Broken> {
        let Totals { documents, bytes, sum } = self.totals;
        let numbers = [through, u64::from(torn), documents, bytes, sum].map(u64::to_le_bytes);
        self.meta.insert(POSITION, value::pack(numbers.as_flattened()))?;
        self.sync()?;
        (self.through, self.torn) = (Some(through), torn);
        Ok(())
    }

    /// Applies net changes; `watch` is shown each document that they change.
    pub(super) fn apply(
        &mut self,
        changes: &Overlay,
        watch: &mut dyn FnMut(&Changed<'_>),
    ) -> Result<(), Broken> {
        if let Some(through) = self.through {
            self.write_position(through, true)?;
        }
        let Self { trees, totals, .. } = self;
        for (table, tree) in trees {
            blocks::apply(*table, tree, &changes.sorted(*table), &mut |changed| {
                changed.count(totals);
                watch(changed);
            })?;
        }
        Ok(())
    }

    /// Applies, to a view that is being filled, the changes of what it was filled with before a place.
    pub(super) fn apply_before(&mut self, changes: &Overlay, end: &[u8]) -> Result<(), Broken> {
        let (last, key) = end.split_first().map_or((0, end), |(table, key)| (*table, key));
        let Self { trees, totals, .. } = self;
        for (table, tree) in trees.iter().filter(|(table, _)| *table as u8 <= last) {
            let mut changes = changes.sorted(*table);
            if *table as u8 == last {
                changes.truncate(changes.partition_point(|(changed, _)| *changed < key));
            }
            blocks::apply(*table, tree, &changes, &mut |changed| changed.count(totals))?;
        }
        Ok(())
    }

    /// Fills an empty view, or goes on with it, behind all that is in it.
    pub(super) fn fill(&mut self, table: Table, documents: &Batch) -> Result<(), Broken> {
        let Self { trees, totals, .. } = self;
        for (_, tree) in trees.iter().filter(|(of, _)| *of == table) {
            for document in documents.iter() {
                totals.add(table, document.key, document.value.unwrap_or_default());
            }
            let mut writer = blocks::Writer::new(table, tree);
            writer.replace(None, documents)?;
            writer.finish()?;
        }
        Ok(())
    }

    /// Makes durable what was applied, and then that it is complete through this cut.
    pub(super) fn checkpoint(&mut self, through: u64) -> Result<(), Broken> {
        self.sync()?;
        self.write_position(through, false)
    }

    /// sled's own flush leaves the file to the system; a handle of ours has the disk confirm it.
    fn sync(&self) -> Result<(), Broken> {
        self.db.flush()?;
        File::open(self.directory.join("db"))?.sync_data()?;
        files::sync_directory(&self.directory)?;
        Ok(())
    }

    /// Makes it what `truth` shows, whatever it was, complete through this cut. Returns how many documents differed.
    pub(super) fn reconcile(&mut self, truth: &Truth, through: u64) -> Result<u64, Broken> {
        guarded(|| {
            if let Some(through) = self.through {
                self.write_position(through, true)?;
            }
            let mut totals = Totals::default();
            let mut differed = 0;
            let mut progress = Progress::begin();
            for (table, tree) in &self.trees {
                let mut reconciler = Reconciler::new(*table, tree)?;
                let mut added = Ok(());
                truth.each(*table, &mut |key, value| {
                    if added.is_ok() {
                        progress.document(table.name());
                        added = reconciler.add(key, value, &mut totals);
                    }
                })?;
                added?;
                differed += reconciler.finish()?;
            }
            self.totals = totals;
            self.checkpoint(through)?;
            Ok(differed)
        })
    }

    /// Shows stored documents from a place on, at most `most`, and returns the place to go on from; `None` at the end.
    pub(super) fn scan(
        &self,
        from: &[u8],
        most: usize,
        show: &mut Show<'_>,
    ) -> Result<Option<Vec<u8>>, Broken> {
        let mut left = most;
        let (first, key) = from.split_first().map_or((0, from), |(table, key)| (*table, key));
        for (table, tree) in self.trees.iter().filter(|(table, _)| *table as u8 >= first) {
            let start = if *table as u8 == first { key } else { &[] };
            let mut next = None;
            blocks::scan(*table, tree, start, &mut |key, value| {
                if left == 0 {
                    next = Some(place(*table, key));
                    return Ok(false);
                }
                left -= 1;
                show(*table, key, value)?;
                Ok(true)
            })?;
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    /// Shows the documents of a table.
    pub(super) fn each(&self, table: Table, show: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Broken> {
        for (_, tree) in self.trees.iter().filter(|(of, _)| *of == table) {
            blocks::scan(table, tree, &[], &mut |key, value| {
                show(key, value);
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// Reads everything: whether it has just the documents that it was given, as far as it can tell.
    pub(super) fn verify(&self) -> Result<(), Broken> {
        guarded(|| {
            let mut seen = Totals::default();
            self.scan(&[], usize::MAX, &mut |table, key, value| {
                seen.add(table, key, value);
                Ok(())
            })?;
            if self.torn || seen == self.totals { Ok(()) } else { Err(Broken::Different) }
        })
    }
}

/// One document's change.
pub(super) struct Changed<'a> {
    pub(super) table: Table,
    pub(super) key: &'a [u8],
    pub(super) old: Option<&'a [u8]>,
    pub(super) new: Option<&'a [u8]>,
}

impl Changed<'_> {
    fn count(&self, totals: &mut Totals) {
        self.old.iter().for_each(|old| totals.take(self.table, self.key, old));
        self.new.iter().for_each(|new| totals.add(self.table, self.key, new));
    }

    fn is_before(&self, place: &[u8]) -> bool {
        place.split_first().is_some_and(|(table, key)| (self.table as u8, self.key) < (*table, key))
    }
}

/// Counts documents that a scan has shown, while others change in front of it and behind it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Where the scan goes on; everything before was shown.
    pub(super) cursor: Vec<u8>,
    shown: Totals,
}

impl Tally {
    pub(super) fn show(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.shown.add(table, key, value);
    }

    /// A document has changed: if it was shown already, the tally is as if it had been shown as it is now.
    pub(super) fn changed(&mut self, changed: &Changed<'_>) {
        if changed.is_before(&self.cursor) {
            changed.count(&mut self.shown);
        }
    }

    /// At the end: whether the view has shown all that it was given.
    pub(super) fn fits(&self, totals: &Totals) -> bool {
        self.shown == *totals
    }
}

/// The view that is complete, or the newest: there are two while one is made anew. Directories have numbers.
pub(super) fn newest(parent: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = files::numbered(parent, "")?;
    found.reverse();
    Ok(found)
}

/// Removes a view that another has replaced, or that was never complete.
pub(super) fn discard(directory: &Path) -> io::Result<()> {
    fs::remove_dir_all(directory)
}
