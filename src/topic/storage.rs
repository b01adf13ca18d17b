//! Where the indexes keep things: storage that grows and shrinks in small steps.
//!
//! One big hash table or vector moves all that it holds when it grows. With a million entries that takes a
//! tenth of a second, in which every connection of the shard stands still.

use hashbrown::HashTable;

/// A hash table in 256 parts that grow each on its own.
#[derive(Debug)]
pub(super) struct Tables<T> {
    /// Empty, or [`Tables::PARTS`].
    parts: Vec<HashTable<T>>,
}

impl<T> Tables<T> {
    const PARTS: usize = 256;

    pub(super) const fn new() -> Self {
        Tables { parts: Vec::new() }
    }

    /// A table takes places from the bottom of the hash and tags from its top seven bits; these are neither.
    #[inline]
    fn part(hash: u64) -> usize {
        (hash >> 40) as usize % Self::PARTS
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts.get(Self::part(hash))?.find(hash, is_it)
    }

    /// The table for this hash, to be changed.
    #[expect(clippy::indexing_slicing, reason = "a part is below PARTS")]
    pub(super) fn table(&mut self, hash: u64) -> &mut HashTable<T> {
        if self.parts.is_empty() {
            self.parts.resize_with(Self::PARTS, HashTable::new);
        }
        &mut self.parts[Self::part(hash)]
    }

    /// Gives memory back when the table for this hash has become much too large.
    pub(super) fn shrink(&mut self, hash: u64, hasher: impl Fn(&T) -> u64) {
        let table = self.table(hash);
        if table.len() <= table.capacity() / 4 {
            table.shrink_to(table.len() * 2, hasher);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }
}

/// Values by small numbers, which are used again; in blocks that never move.
#[derive(Debug)]
pub(super) struct Arena<T> {
    blocks: Vec<Vec<Option<T>>>,
    vacant: Vec<u32>,
    len: usize,
}

impl<T> Arena<T> {
    const BLOCK: usize = 512;

    pub(super) const fn new() -> Self {
        Arena { blocks: Vec::new(), vacant: Vec::new(), len: 0 }
    }

    /// The number of the value. There are fewer values than filters on one shard, and memory ends long
    /// before 32 bits do.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(at) = self.vacant.pop()
            && let Some(place) = self.place(at)
        {
            *place = Some(value);
            return at;
        }
        let full = self.blocks.last().is_none_or(|block| block.len() == Self::BLOCK);
        if full {
            self.blocks.push(Vec::new());
        }
        let before = (self.blocks.len() - 1) * Self::BLOCK;
        let Some(block) = self.blocks.last_mut() else { unreachable!("a block has just been made") };
        block.push(Some(value));
        (before + block.len() - 1) as u32
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.blocks.get(at as usize / Self::BLOCK)?.get(at as usize % Self::BLOCK)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.place(at)?.as_mut()
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let value = self.place(at)?.take()?;
        self.len -= 1;
        self.vacant.push(at);
        if self.len == 0 {
            *self = Self::new();
        }
        Some(value)
    }

    fn place(&mut self, at: u32) -> Option<&mut Option<T>> {
        self.blocks.get_mut(at as usize / Self::BLOCK)?.get_mut(at as usize % Self::BLOCK)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.blocks.iter().flatten()).filter_map(|(at, value)| Some((at, value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_uses_its_numbers_again() {
        let mut arena = Arena::new();
        let count = 3 * Arena::<u32>::BLOCK as u32 + 7;
        for n in 0..count {
            assert_eq!(arena.insert(n), n);
        }
        for n in (0..count).step_by(3) {
            assert_eq!(arena.remove(n), Some(n));
            assert_eq!((arena.remove(n), arena.get(n)), (None, None));
        }
        for n in (0..count).step_by(3) {
            assert!(arena.insert(count + n) < count);
        }
        assert_eq!(arena.len(), count as usize);
        assert_eq!(arena.insert(0), count);
        assert_eq!(arena.get(1), Some(&1));
        assert_eq!(arena.get(count + 1), None);
        let all: Vec<u32> = arena.iter().map(|(at, _)| at).collect();
        for at in all {
            assert!(arena.remove(at).is_some());
        }
        assert!(arena.blocks.capacity() == 0 && arena.vacant.capacity() == 0);
    }

    #[test]
    fn tables_spread_and_shrink() {
        let mut tables = Tables::new();
        let hash = |n: &u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for n in 0..100_000_u64 {
            tables.table(hash(&n)).insert_unique(hash(&n), n, hash);
        }
        assert!(tables.parts.iter().all(|part| (200..800).contains(&part.len())));
        for n in 0..100_000_u64 {
            assert_eq!(tables.find(hash(&n), |&it| it == n), Some(&n));
            let Ok(entry) = tables.table(hash(&n)).find_entry(hash(&n), |&it| it == n) else {
                unreachable!("it has just been found")
            };
            entry.remove();
            tables.shrink(hash(&n), hash);
        }
        assert_eq!(tables.parts.iter().map(HashTable::capacity).sum::<usize>(), 0);
        assert_eq!(tables.len(), 0);
    }
}
