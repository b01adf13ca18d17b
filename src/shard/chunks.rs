//! A slab that grows by whole chunks: what is in it never moves, so growing to a million entries neither copies what
//! is there nor leaves freed halves behind, as a doubling vector does.

/// Entries of one chunk.
const CHUNK: usize = 256;

/// No free entry.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Entry<T> {
    Vacant(u32),
    Occupied(T),
}

/// Values under small keys that are used again.
#[derive(Debug)]
pub struct Chunks<T> {
    entries: Vec<Box<[Entry<T>]>>,
    free: u32,
    len: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: NONE, len: 0 }
    }
}

impl<T> Chunks<T> {
    /// Values in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no value is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the largest key that was ever used, rounded up to a chunk.
    pub fn capacity(&self) -> usize {
        self.entries.len() * CHUNK
    }

    #[inline]
    fn entry(&self, key: usize) -> Option<&Entry<T>> {
        self.entries.get(key / CHUNK)?.get(key % CHUNK)
    }

    #[inline]
    fn entry_mut(&mut self, key: usize) -> Option<&mut Entry<T>> {
        self.entries.get_mut(key / CHUNK)?.get_mut(key % CHUNK)
    }

    /// The value under a key.
    #[inline]
    pub fn get(&self, key: usize) -> Option<&T> {
        match self.entry(key)? {
            Entry::Occupied(value) => Some(value),
            Entry::Vacant(_) => None,
        }
    }

    /// The value under a key.
    #[inline]
    pub fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        match self.entry_mut(key)? {
            Entry::Occupied(value) => Some(value),
            Entry::Vacant(_) => None,
        }
    }

    /// Whether a value is under the key.
    pub fn contains(&self, key: usize) -> bool {
        self.get(key).is_some()
    }

    /// Puts a value in and says under which key.
    pub fn insert(&mut self, value: T) -> usize {
        if self.free == NONE {
            self.grow();
        }
        let key = self.free as usize;
        if let Some(entry) = self.entry_mut(key)
            && let Entry::Vacant(next) = std::mem::replace(entry, Entry::Occupied(value))
        {
            self.free = next;
            self.len += 1;
        }
        key
    }

    /// Adds a chunk, its entries free in the order of their keys.
    fn grow(&mut self) {
        let first = self.capacity();
        let next = |at: usize| if at + 1 == CHUNK { NONE } else { (first + at + 1) as u32 };
        self.entries.push((0..CHUNK).map(|at| Entry::Vacant(next(at))).collect());
        self.free = first as u32;
    }

    /// Takes a value out.
    pub fn try_remove(&mut self, key: usize) -> Option<T> {
        let free = self.free;
        let entry = self.entry_mut(key)?;
        match std::mem::replace(entry, Entry::Vacant(free)) {
            Entry::Occupied(value) => {
                self.free = key as u32;
                self.len -= 1;
                Some(value)
            }
            vacant @ Entry::Vacant(_) => {
                *entry = vacant;
                None
            }
        }
    }

    /// All values with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.entries.iter().flatten().enumerate().filter_map(|(key, entry)| match entry {
            Entry::Occupied(value) => Some((key, value)),
            Entry::Vacant(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_used_again_and_values_found_across_chunks() {
        let mut slab = Chunks::default();
        let keys: Vec<usize> = (0..3 * CHUNK).map(|n| slab.insert(n)).collect();
        assert_eq!(keys, (0..3 * CHUNK).collect::<Vec<_>>());
        assert_eq!(slab.try_remove(300), Some(300));
        assert_eq!(slab.try_remove(300), None);
        assert_eq!(slab.try_remove(9_999), None);
        assert!(!slab.contains(300));
        assert_eq!(slab.len(), 3 * CHUNK - 1);
        assert_eq!(slab.insert(7), 300);
        assert_eq!(slab.get(300), Some(&7));
        assert_eq!(slab.iter().count(), 3 * CHUNK);
        assert_eq!(slab.capacity(), 3 * CHUNK);
        for key in 0..3 * CHUNK {
            assert!(slab.try_remove(key).is_some());
        }
        assert!(slab.is_empty());
    }
}
