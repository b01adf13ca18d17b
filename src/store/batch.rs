//! Changes of documents, encoded one behind the other as they go into the journal.

use super::Table;

/// Set in the number of a table whose document is deleted.
const DELETED: u8 = 0x80;

/// Bytes before a key: table, length of the key, length of the value.
const HEAD: usize = 1 + 4 + 4;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The table.
    pub table: Table,
    /// The document's key.
    pub key: &'a [u8],
    /// Its new value; `None` deletes it.
    pub value: Option<&'a [u8]>,
}

/// Changes in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
}

/// Bytes that are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the changes break off or name an unknown table at byte {0}")]
pub(super) struct Garbled(pub usize);

impl Batch {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that a document takes.
    pub(super) fn bytes_of(key: &[u8], value: &[u8]) -> usize {
        HEAD + key.len() + value.len()
    }

    /// Sets a document, new or not. `key` and `value` append theirs.
    pub fn put(&mut self, table: Table, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) {
        let head = self.bytes.len();
        self.bytes.resize(head + HEAD, 0);
        key(&mut self.bytes);
        let key_len = self.bytes.len() - head - HEAD;
        value(&mut self.bytes);
        let value_len = self.bytes.len() - head - HEAD - key_len;
        self.write_head(head, table as u8, key_len, value_len);
    }

    /// Deletes a document, whether it is there or not.
    pub fn delete(&mut self, table: Table, key: impl FnOnce(&mut Vec<u8>)) {
        let head = self.bytes.len();
        self.bytes.resize(head + HEAD, 0);
        key(&mut self.bytes);
        let key_len = self.bytes.len() - head - HEAD;
        self.write_head(head, table as u8 | DELETED, key_len, 0);
    }

    fn write_head(&mut self, at: usize, table: u8, key_len: usize, value_len: usize) {
        let mut head = [0; HEAD];
        let (first, lengths) = head.split_at_mut(1);
        first.fill(table);
        let (key, value) = lengths.split_at_mut(4);
        key.copy_from_slice(&(key_len as u32).to_le_bytes());
        value.copy_from_slice(&(value_len as u32).to_le_bytes());
        if let Some(place) = self.bytes.get_mut(at..at + HEAD) {
            place.copy_from_slice(&head);
        }
    }

    /// The encoded changes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The changes, in order.
    pub fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        // What this type has written can be read.
        Changes::new(&self.bytes).filter_map(Result::ok)
    }

    /// Empties it and keeps its room.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// Reads encoded changes that come from a disk.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Changes<'a> {
    /// Reads `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn read(&mut self) -> Option<Change<'a>> {
        let rest = self.bytes.get(self.at..)?;
        let (&[table, k0, k1, k2, k3, v0, v1, v2, v3], rest) = rest.split_first_chunk::<HEAD>()?;
        let (key_len, value_len) =
            (u32::from_le_bytes([k0, k1, k2, k3]) as usize, u32::from_le_bytes([v0, v1, v2, v3]) as usize);
        let (key, rest) = rest.split_at_checked(key_len)?;
        let (value, _) = rest.split_at_checked(value_len)?;
        let deleted = table & DELETED != 0;
        let known = Table::from_number(table & !DELETED)?;
        self.at += HEAD + key_len + value_len;
        Some(Change { table: known, key, value: (!deleted).then_some(value) })
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<Change<'a>, Garbled>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let read = self.read().ok_or(Garbled(self.at));
        if read.is_err() {
            self.at = self.bytes.len();
        }
        Some(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn changes_come_out_as_they_went_in_and_a_cut_is_noticed_wherever_it_is() {
        let mut batch = Batch::default();
        batch.put(Table::Retained, |k| k.extend_from_slice(b"a/b"), |v| v.extend_from_slice(b"hello"));
        batch.delete(Table::Owed, |k| k.extend_from_slice(b"key"));
        batch.put(Table::Sessions, |_| {}, |_| {});
        let changes: Vec<Change<'_>> = batch.iter().collect();
        assert_eq!(
            changes,
            [
                Change { table: Table::Retained, key: b"a/b", value: Some(b"hello") },
                Change { table: Table::Owed, key: b"key", value: None },
                Change { table: Table::Sessions, key: b"", value: Some(b"") },
            ]
        );
        let whole = batch.as_bytes();
        let ends = [0, 17, 29, 38];
        for cut in 0..=whole.len() {
            let read: Vec<_> = Changes::new(whole.get(..cut).unwrap()).collect();
            assert_eq!(read.last().is_none_or(Result::is_ok), ends.contains(&cut), "{cut}");
        }
        assert!(Changes::new(&[99; HEAD]).next().unwrap().is_err(), "an unknown table");
    }
}
