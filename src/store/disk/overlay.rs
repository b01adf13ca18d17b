//! Changes held in memory: the newest value, or the deletion, of each document that they touch.

use hashbrown::HashMap;

use super::Table;

/// What an entry takes besides its key and value, roughly: two boxes and a slot of a table that is not full.
const ENTRY_BYTES: usize = 80;

/// A new value, or a deletion.
type Change = Option<Box<[u8]>>;

/// A document has not changed.
#[derive(Debug)]
pub(super) struct Untouched;

/// Net changes over documents that are elsewhere.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// By the number of the table and the key.
    entries: HashMap<Box<[u8]>, Change, ahash::RandomState>,
    bytes: usize,
    /// The last cut whose changes are in it; 0 if none is.
    pub(super) through: u64,
}

/// One document's table and key in one piece, in the order of tables and keys.
pub(super) fn place(table: Table, key: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(1 + key.len());
    place.push(table as u8);
    place.extend_from_slice(key);
    place
}

impl Overlay {
    /// Sets or deletes a document.
    pub(super) fn apply(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        let place = place(table, key);
        let value_len = value.map_or(0, <[u8]>::len);
        let value = value.map(Box::from);
        if let Some(old) = self.entries.get_mut(place.as_slice()) {
            self.bytes = self.bytes + value_len - old.as_ref().map_or(0, |old| old.len());
            *old = value;
        } else {
            self.bytes += place.len() + value_len + ENTRY_BYTES;
            self.entries.insert(place.into(), value);
        }
    }

    /// What has become of a document, `None` if it was deleted. An error: it was not touched.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, Untouched> {
        self.entries.get(place(table, key).as_slice()).map(Option::as_deref).ok_or(Untouched)
    }

    /// Whether it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds what is newer.
    pub(super) fn absorb(&mut self, newer: Self) {
        for (place, value) in newer.entries {
            let value_len = value.as_ref().map_or(0, |value| value.len());
            let place_len = place.len();
            match self.entries.insert(place, value) {
                Some(old) => self.bytes = self.bytes + value_len - old.map_or(0, |old| old.len()),
                None => self.bytes += place_len + value_len + ENTRY_BYTES,
            }
        }
        self.through = self.through.max(newer.through);
    }

    /// The changes of one table in the order of their keys.
    pub(super) fn sorted(&self, table: Table) -> Vec<(&[u8], Option<&[u8]>)> {
        let mut sorted: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(place, value)| {
                let (&of, key) = place.split_first()?;
                (of == table as u8).then_some((key, value.as_deref()))
            })
            .collect();
        sorted.sort_unstable_by_key(|&(key, _)| key);
        sorted
    }
}

/// Changes of several overlays in the order of their keys, the later overlay's where both have one.
pub(super) fn layered<'a>(overlays: &[&'a Overlay], table: Table) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
    let mut all: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
    for overlay in overlays.iter().rev() {
        all.extend(overlay.sorted(table));
    }
    // Stable: what came from a later overlay stays before its elders.
    all.sort_by_key(|&(key, _)| key);
    all.dedup_by_key(|&mut (key, _)| key);
    all
}

/// Shows documents in the order of their keys: those of `base`, which come in that order, with `changes` laid over them.
pub(super) fn merge<E>(
    mut base: impl FnMut(&mut dyn FnMut(&[u8], &[u8])) -> Result<(), E>,
    changes: &[(&[u8], Option<&[u8]>)],
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), E> {
    let mut changes = changes.iter().peekable();
    base(&mut |key, value| {
        while let Some((changed, new)) = changes.next_if(|(changed, _)| *changed < key) {
            if let Some(new) = new {
                visit(changed, new);
            }
        }
        match changes.next_if(|(changed, _)| *changed == key) {
            Some((_, new)) => new.iter().for_each(|new| visit(key, new)),
            None => visit(key, value),
        }
    })?;
    for (key, value) in changes.filter_map(|(key, value)| Some((key, (*value)?))) {
        visit(key, value);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_last_change_counts_and_bytes_follow_it() {
        let mut overlay = Overlay::default();
        overlay.apply(Table::Owed, b"k", Some(b"12345"));
        overlay.apply(Table::Owed, b"k", Some(b"1"));
        assert_eq!(overlay.bytes(), 3 + ENTRY_BYTES);
        overlay.apply(Table::Owed, b"k", None);
        assert_eq!(overlay.bytes(), 2 + ENTRY_BYTES);
        let mut newer = Overlay { through: 9, ..Overlay::default() };
        newer.apply(Table::Owed, b"k", Some(b"123"));
        newer.apply(Table::Bodies, b"k", None);
        overlay.absorb(newer);
        assert_eq!(overlay.bytes(), 7 + 2 * ENTRY_BYTES);
        assert_eq!(overlay.sorted(Table::Owed), [(&b"k"[..], Some(&b"123"[..]))]);
        assert_eq!((overlay.through, overlay.is_empty()), (9, false));
    }

    #[test]
    fn changes_lie_over_documents_in_order() {
        let (mut old, mut new) = (Overlay::default(), Overlay::default());
        for (key, value) in [(b"a", Some(&b"1"[..])), (b"c", None), (b"e", Some(b"1")), (b"f", Some(b"1"))] {
            old.apply(Table::Owed, key, value);
        }
        new.apply(Table::Owed, b"e", None);
        new.apply(Table::Owed, b"g", Some(b"2"));
        let changes = layered(&[&old, &new], Table::Owed);
        let mut seen = String::new();
        merge(
            |show| {
                for key in [b"b", b"c", b"d", b"e"] {
                    show(key, b"0");
                }
                Ok::<(), ()>(())
            },
            &changes,
            &mut |key, value| {
                seen += std::str::from_utf8(key).unwrap();
                seen += std::str::from_utf8(value).unwrap();
            },
        )
        .unwrap();
        assert_eq!(seen, "a1b0d0f1g2");
    }
}
