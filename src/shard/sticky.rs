//! Which member of a shared group a key's messages go to, as long as it is remembered.

use hashbrown::HashMap;

/// Sticky keys remembered in each of the two generations of [`Sticky`].
const STICKY_KEYS: usize = 65_536;

/// Which member a key's messages go to, remembered for the keys used most recently.
#[derive(Debug, Default)]
pub(super) struct Sticky {
    young: HashMap<u64, Choice, ahash::RandomState>,
    old: HashMap<u64, Choice, ahash::RandomState>,
}

/// A member's slot and stay: whoever has the slot later is not meant.
pub(super) type Choice = (u32, u32);

impl Sticky {
    pub(super) fn get(&mut self, key: u64) -> Option<Choice> {
        if let Some(&choice) = self.young.get(&key) {
            return Some(choice);
        }
        let choice = self.old.remove(&key)?;
        self.set(key, choice);
        Some(choice)
    }

    pub(super) fn set(&mut self, key: u64, choice: Choice) {
        if self.young.len() >= STICKY_KEYS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, choice);
    }
}
