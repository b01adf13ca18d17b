//! What a client's rules put in place of `%c`, `%u`, `%t`, `%i` and `%g`.

use super::{Acl, Subject};

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Client,
    User,
    Tenant,
    Id,
    Group,
}

impl Slot {
    /// What stands behind `%`.
    pub(super) fn of(letter: char) -> Option<Self> {
        match letter {
            'c' => Some(Self::Client),
            'u' => Some(Self::User),
            't' => Some(Self::Tenant),
            'i' => Some(Self::Id),
            'g' => Some(Self::Group),
            _ => None,
        }
    }

    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Every [`Slot`].
pub(super) const ALL: u8 = u8::MAX;

/// A client's values: one text, and where each ends. Every client that is not alone in its topics has one of these for
/// as long as it is connected.
///
/// A value that is empty or could be more than one level of a topic (`/ + #` and U+0000) is not here: a rule with it
/// reaches nothing, so that no name that a client chooses makes a filter wider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Values {
    text: Box<str>,
    /// Client, user, tenant, id.
    ends: [u32; 4],
    groups: Box<[u32]>,
    usable: u8,
}

impl Values {
    /// The values of a client, those that are needed: a bit for each [`Slot`].
    pub(super) fn new(subject: &Subject<'_>, needed: u8) -> Self {
        let (mut text, mut usable) = (String::new(), 0);
        let ends = SINGLE.map(|slot| {
            let value = single(subject, slot).filter(|_| needed & slot.bit() != 0);
            if let Some(value) = value.filter(|value| is_level(value)) {
                text.push_str(value);
                usable |= slot.bit();
            }
            text.len() as u32
        });
        let mut groups = Vec::new();
        let all = subject.principal.filter(|_| needed & Slot::Group.bit() != 0);
        let all = all.map_or(&[][..], |principal| &principal.groups);
        for group in all.iter().filter(|group| is_level(group)).take(Acl::MAX_GROUPS) {
            text.push_str(group);
            groups.push(text.len() as u32);
            usable |= Slot::Group.bit();
        }
        Self { text: text.into(), ends, groups: groups.into(), usable }
    }

    /// Whether all of these slots have a value.
    #[inline]
    pub(super) fn has(&self, slots: u8) -> bool {
        slots & !self.usable == 0
    }

    /// How many groups there are.
    #[inline]
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// A value; of [`Slot::Group`] the one with this number.
    #[inline]
    pub(super) fn get(&self, slot: Slot, group: usize) -> &str {
        let [client, user, tenant, id] = self.ends;
        let (start, end) = match slot {
            Slot::Client => (0, client),
            Slot::User => (client, user),
            Slot::Tenant => (user, tenant),
            Slot::Id => (tenant, id),
            Slot::Group => {
                let before = group.checked_sub(1).and_then(|before| self.groups.get(before));
                (before.copied().unwrap_or(id), self.groups.get(group).copied().unwrap_or(id))
            }
        };
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.groups)
    }
}

/// What a client has one of, in the order of [`Values::ends`].
const SINGLE: [Slot; 4] = [Slot::Client, Slot::User, Slot::Tenant, Slot::Id];

fn single<'a>(subject: &Subject<'a>, slot: Slot) -> Option<&'a str> {
    match slot {
        Slot::Client => Some(subject.client_id),
        Slot::User => subject.principal.map(|principal| &*principal.user),
        Slot::Tenant => subject.principal.map(|principal| &*principal.tenant),
        Slot::Id => subject.principal.map(|principal| &*principal.id),
        Slot::Group => None,
    }
}

/// Whether a value can stand in a topic filter and be nothing but (part of) one level.
fn is_level(value: &str) -> bool {
    !value.is_empty() && !value.contains(['/', '+', '#', '\0'])
}
