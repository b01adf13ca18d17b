//! Blocks: neighbouring documents of a table, in the order of their keys, as one value of the view.
//!
//! sled keeps at most 16 entries on a page and writes each of them several times over. With a document an entry the view
//! took 2.3 to 4.2 times its documents' bytes; with a block an entry it is compressed, opens faster and stays smaller.
//!
//! A block's key is that of its first document when it was begun. A document belongs to the block with the greatest key
//! that is not behind its own.

use sled::{IVec, Tree};

use super::super::Batch;
use super::super::batch::Changes;
use super::view::{Broken, Changed, Totals};
use super::{Table, value};

/// A block that has been divided has about as many bytes before it is compressed; one of twice as many is divided.
const BLOCK_BYTES: usize = 4 << 10;

/// Bytes of blocks written at once: sled stops all its readers meanwhile.
const WRITE_BYTES: usize = 128 << 10;

/// After as many bytes sled writes out what it has: only then it uses again what was rewritten, and does not grow.
const FLUSH_BYTES: usize = 4 << 20;

/// Documents that a table is compared with are written at the latest when there are as many bytes of them.
const GROUP_BYTES: usize = 32 * BLOCK_BYTES;

/// Shows a document; `false` ends it.
type Show<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, Broken> + 'a;

/// Is shown a key, and its values before and after a change.
type ShowBoth<'a> = dyn FnMut(&[u8], Option<&[u8]>, Option<&[u8]>) + 'a;

/// Writes blocks of one table.
pub(super) struct Writer<'t> {
    table: Table,
    tree: &'t Tree,
    batch: sled::Batch,
    gathered: usize,
    unflushed: usize,
}

impl<'t> Writer<'t> {
    pub(super) fn new(table: Table, tree: &'t Tree) -> Self {
        Self { table, tree, batch: sled::Batch::default(), gathered: 0, unflushed: 0 }
    }

    /// Puts documents in the place of the block `start`, or where no block is.
    pub(super) fn replace(&mut self, start: Option<&[u8]>, documents: &Batch) -> Result<(), Broken> {
        let mut start = start;
        if let Some(start) = start.filter(|_| documents.is_empty()) {
            self.batch.remove(start);
        }
        let pieces = documents.len() / BLOCK_BYTES;
        let most = if pieces < 2 { usize::MAX } else { documents.len() / pieces + 1 };
        let (mut block, mut first) = (Batch::default(), Vec::new());
        for document in documents.iter() {
            if block.is_empty() {
                first.clear();
                first.extend_from_slice(start.take().unwrap_or(document.key));
            }
            put(&mut block, self.table, document.key, document.value.unwrap_or_default());
            if block.len() >= most {
                self.insert(&first, &block);
                block.clear();
            }
        }
        if !block.is_empty() {
            self.insert(&first, &block);
        }
        // Only now: whoever reads meanwhile finds a divided block as it was, or all of what has become of it.
        if self.gathered >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn insert(&mut self, key: &[u8], block: &Batch) {
        let packed = value::pack(block.as_bytes());
        self.gathered += key.len() + packed.len();
        self.batch.insert(key, packed);
    }

    fn write(&mut self) -> Result<(), Broken> {
        self.unflushed += std::mem::take(&mut self.gathered);
        self.tree.apply_batch(std::mem::take(&mut self.batch))?;
        if self.unflushed >= FLUSH_BYTES {
            self.unflushed = 0;
            self.tree.flush()?;
        }
        Ok(())
    }

    /// Hands sled the rest.
    pub(super) fn finish(mut self) -> Result<(), Broken> {
        self.write()
    }
}

/// Adds a document to others of its table.
pub(super) fn put(to: &mut Batch, table: Table, key: &[u8], value: &[u8]) {
    to.put(table, |k| k.extend_from_slice(key), |v| v.extend_from_slice(value));
}

/// The documents of a block.
fn unpack(table: Table, packed: &[u8]) -> Result<Vec<u8>, Broken> {
    let spoilt = |_| Broken::Spoilt(table.name());
    let bytes = value::unpack(packed, <[u8]>::to_vec).map_err(spoilt)?;
    if Changes::new(&bytes).any(|document| document.is_err()) {
        return Err(Broken::Spoilt(table.name()));
    }
    Ok(bytes)
}

fn documents(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    Changes::new(block).flatten().map(|document| (document.key, document.value.unwrap_or_default()))
}

/// The block that a key belongs to.
fn block_of(tree: &Tree, key: &[u8]) -> Result<Option<(IVec, IVec)>, Broken> {
    Ok(tree.range(..=key).next_back().transpose()?)
}

/// A block as it is stored, and its documents.
pub(super) type Last = Option<(IVec, Vec<u8>)>;

/// A document.
pub(super) fn get(
    table: Table,
    tree: &Tree,
    key: &[u8],
    last: &mut Last,
) -> Result<Option<Box<[u8]>>, Broken> {
    let Some((_, packed)) = block_of(tree, key)? else { return Ok(None) };
    if last.as_ref().is_none_or(|(of, _)| *of != packed) {
        let block = unpack(table, &packed)?;
        *last = Some((packed, block));
    }
    let block = last.as_ref().map_or(&[][..], |(_, block)| block);
    Ok(documents(block).find(|(there, _)| *there == key).map(|(_, value)| value.into()))
}

/// Shows the documents from a key on.
pub(super) fn scan(table: Table, tree: &Tree, from: &[u8], show: &mut Show<'_>) -> Result<(), Broken> {
    let first = block_of(tree, from)?.map_or_else(|| IVec::from(from), |(start, _)| start);
    for entry in tree.range(first..) {
        let block = unpack(table, &entry?.1)?;
        for (key, value) in documents(&block).filter(|(key, _)| *key >= from) {
            if !show(key, value)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Makes changes, which come in the order of their keys; `watch` is shown each document that they change.
pub(super) fn apply(
    table: Table,
    tree: &Tree,
    changes: &[(&[u8], Option<&[u8]>)],
    watch: &mut dyn FnMut(&Changed<'_>),
) -> Result<(), Broken> {
    let mut writer = Writer::new(table, tree);
    let mut rest = changes;
    let mut merged = Batch::default();
    while let Some(&(first, _)) = rest.first() {
        let here = block_of(tree, first)?;
        let next = match &here {
            Some((start, _)) => tree.get_gt(start)?,
            None => tree.first()?,
        };
        let many = next.map_or(rest.len(), |(next, _)| rest.partition_point(|(key, _)| **key < *next));
        let (some, others) = rest.split_at(many);
        rest = others;
        let old = here.as_ref().map_or(Ok(Vec::new()), |(_, packed)| unpack(table, packed))?;
        merged.clear();
        let mut any = false;
        merge(&old, some, &mut |key, old, new| {
            if old != new {
                any = true;
                watch(&Changed { table, key, old, new });
            }
            if let Some(new) = new {
                put(&mut merged, table, key, new);
            }
        });
        if any {
            writer.replace(here.as_ref().map(|(start, _)| &**start), &merged)?;
        }
    }
    writer.finish()
}

/// Shows all documents, those of `old` and those that change, with their values before and after.
fn merge(old: &[u8], changes: &[(&[u8], Option<&[u8]>)], show: &mut ShowBoth<'_>) {
    let mut changes = changes.iter().peekable();
    for (key, value) in documents(old) {
        while let Some((changed, new)) = changes.next_if(|(changed, _)| *changed < key) {
            show(changed, None, *new);
        }
        let new = changes.next_if(|(changed, _)| *changed == key).map_or(Some(value), |(_, new)| *new);
        show(key, Some(value), new);
    }
    changes.for_each(|(changed, new)| show(changed, None, *new));
}

/// Makes one tree what it is shown, in the order of keys.
pub(super) struct Reconciler<'t> {
    table: Table,
    writer: Writer<'t>,
    there: sled::Iter,
    next: Option<(IVec, IVec)>,
    /// The block whose documents come now: its key, its documents, and whether it has to be written in any case.
    here: Option<(Vec<u8>, Vec<u8>, bool)>,
    group: Batch,
    differed: u64,
}

impl<'t> Reconciler<'t> {
    pub(super) fn new(table: Table, tree: &'t Tree) -> Result<Self, Broken> {
        let mut there = tree.iter();
        let next = there.next().transpose()?;
        let writer = Writer::new(table, tree);
        Ok(Self { table, writer, there, next, here: None, group: Batch::default(), differed: 0 })
    }

    pub(super) fn add(&mut self, key: &[u8], value: &[u8], totals: &mut Totals) -> Result<(), Broken> {
        totals.add(self.table, key, value);
        while self.next.as_ref().is_some_and(|(start, _)| **start <= *key) {
            self.advance()?;
        }
        let most = if self.here.is_some() { GROUP_BYTES } else { BLOCK_BYTES };
        if self.group.len() >= most {
            self.divide(key)?;
        }
        put(&mut self.group, self.table, key, value);
        Ok(())
    }

    /// Goes on to the next block.
    fn advance(&mut self) -> Result<(), Broken> {
        self.close()?;
        if let Some((start, packed)) = self.next.take() {
            self.here = Some((start.to_vec(), unpack(self.table, &packed)?, false));
            self.next = self.there.next().transpose()?;
        }
        Ok(())
    }

    /// Writes what has gathered before a key; what the present block has from there on is still to be compared.
    fn divide(&mut self, key: &[u8]) -> Result<(), Broken> {
        let Some((start, old, _)) = self.here.take() else { return self.close() };
        let at = documents(&old).take_while(|(known, _)| *known < key);
        let at = at.map(|(key, value)| Batch::bytes_of(key, value)).sum();
        let (before, behind) = old.split_at_checked(at).unwrap_or((&old, &[]));
        let behind = behind.to_vec();
        self.here = Some((start, before.to_vec(), true));
        self.close()?;
        self.here = Some((key.to_vec(), behind, true));
        Ok(())
    }

    fn close(&mut self) -> Result<(), Broken> {
        let here = self.here.take();
        let (start, old, stale) = here.as_ref().map_or((None, &[][..], false), |(start, old, stale)| {
            (Some(start.as_slice()), old.as_slice(), *stale)
        });
        if stale || old != self.group.as_bytes() {
            self.differed += differing(old, &self.group);
            self.writer.replace(start, &self.group)?;
        }
        self.group.clear();
        Ok(())
    }

    /// All was shown: how many documents differed.
    pub(super) fn finish(mut self) -> Result<u64, Broken> {
        while self.next.is_some() {
            self.advance()?;
        }
        self.close()?;
        self.writer.finish()?;
        Ok(self.differed)
    }
}

/// How many documents are not the same in both.
fn differing(old: &[u8], new: &Batch) -> u64 {
    let new: Vec<_> = new.iter().map(|document| (document.key, document.value)).collect();
    let mut differing = 0;
    merge(old, &new, &mut |_, before, after| differing += u64::from(before != after));
    // What is not among the new ones was shown as if it stayed.
    let mut new = new.iter().map(|(key, _)| *key).peekable();
    for (key, _) in documents(old) {
        while new.next_if(|new| *new < key).is_some() {}
        differing += u64::from(new.next_if(|new| *new == key).is_none());
    }
    differing
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Documents = BTreeMap<Vec<u8>, Vec<u8>>;

    const TABLE: Table = Table::Retained;

    fn tree() -> (sled::Db, Tree) {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let tree = db.open_tree("t").unwrap();
        (db, tree)
    }

    fn found(tree: &Tree, from: &[u8]) -> Documents {
        let mut found = Documents::new();
        scan(TABLE, tree, from, &mut |key, value| {
            assert!(found.last_key_value().is_none_or(|(last, _)| **last < *key), "in order");
            found.insert(key.to_vec(), value.to_vec());
            Ok(true)
        })
        .unwrap();
        found
    }

    fn random_documents(random: &mut fastrand::Rng, many: usize) -> Documents {
        let document = |random: &mut fastrand::Rng| {
            let most = if random.u8(..20) == 0 { 9000 } else { 200 };
            let value = vec![random.u8(..); random.usize(..most)];
            (random.u16(..2000).to_be_bytes().to_vec(), value)
        };
        (0..many).map(|_| document(random)).collect()
    }

    #[test]
    fn changes_do_what_they_do_to_a_map() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (_db, tree) = tree();
            let mut model = Documents::new();
            for _ in 0..12 {
                let many = random.usize(1..800);
                let changes = random_documents(&mut random, many);
                let changes: Vec<_> =
                    changes.iter().map(|(k, v)| (k, (v.len() % 3 > 0).then_some(v))).collect();
                let mut watched = Vec::new();
                let slices: Vec<_> =
                    changes.iter().map(|(k, v)| (k.as_slice(), v.map(Vec::as_slice))).collect();
                apply(TABLE, &tree, &slices, &mut |changed| watched.push(changed.key.to_vec())).unwrap();
                let mut differ = Vec::new();
                for (key, value) in changes {
                    let old = match value {
                        Some(value) => model.insert(key.clone(), value.clone()),
                        None => model.remove(key),
                    };
                    if old.as_ref() != value {
                        differ.push(key.clone());
                    }
                }
                assert_eq!(watched, differ);
                assert!(found(&tree, &[]) == model, "seed {seed}");
                let from = random.u16(..2000).to_be_bytes();
                assert!(found(&tree, &from) == model.split_off(from.as_slice()), "seed {seed}");
                model = found(&tree, &[]);
            }
        }
    }

    #[test]
    fn whatever_is_there_becomes_what_it_should_be() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (_db, tree) = tree();
            let mut old = Documents::new();
            for most in [2000, 1, 3000, 50, 1000, 1000, 1] {
                let many = random.usize(..most);
                let mut wanted = random_documents(&mut random, many);
                if random.bool() {
                    wanted.extend(old.clone().into_iter().filter(|_| random.u8(..10) > 0));
                }
                let mut totals = Totals::default();
                let mut reconciler = Reconciler::new(TABLE, &tree).unwrap();
                for (key, value) in &wanted {
                    reconciler.add(key, value, &mut totals).unwrap();
                }
                let differed = reconciler.finish().unwrap();
                let changed = wanted.iter().filter(|(key, value)| old.get(*key) != Some(value)).count();
                let gone = old.keys().filter(|key| !wanted.contains_key(*key)).count();
                assert_eq!((differed, totals.documents), ((changed + gone) as u64, wanted.len() as u64));
                assert!(found(&tree, &[]) == wanted, "seed {seed}");
                old = wanted;
            }
        }
    }

    #[test]
    fn blocks_are_neither_many_nor_large() {
        let (_db, tree) = tree();
        for number in 0..20_u32 {
            let keys: Vec<[u8; 4]> =
                (0..500).map(|n: u32| (n * 7919 % 10_000 * 20 + number).to_be_bytes()).collect();
            let mut changes: Vec<_> = keys.iter().map(|key| (key.as_slice(), Some(&[7; 100][..]))).collect();
            changes.sort_unstable();
            apply(TABLE, &tree, &changes, &mut |_| {}).unwrap();
        }
        let bytes = 10_000 * Batch::bytes_of(&[0; 4], &[7; 100]);
        assert!((bytes / BLOCK_BYTES / 2..=bytes / BLOCK_BYTES).contains(&tree.len()), "{}", tree.len());
    }
}
