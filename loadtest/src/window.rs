//! The closed loop: how many messages of one publisher are under way, and when the next may go.

/// Set while the broker's acknowledgement is awaited; below it the receivers still to be reached.
const UNACKNOWLEDGED: u32 = 1 << 31;

/// Messages of one publisher under way, oldest first.
#[derive(Debug)]
pub(crate) struct Window {
    /// Outstanding parts of message `n` at `n % slots.len()`; 0 = complete.
    slots: Box<[u32]>,
    oldest: u64,
    next: u64,
    /// Outstanding parts of a fresh message.
    fresh: u32,
}

impl Window {
    /// A window of `width` messages (at least 1, under 65,535), each awaited by `receivers` and, if so, by an
    /// acknowledgement.
    pub(crate) fn new(width: usize, receivers: u32, acknowledged: bool) -> Self {
        let fresh = receivers | if acknowledged { UNACKNOWLEDGED } else { 0 };
        Self { slots: vec![0; width.clamp(1, 65_534)].into(), oldest: 0, next: 0, fresh }
    }

    /// The number of the next message, if it may go now.
    pub(crate) fn open(&mut self) -> Option<u64> {
        let number = self.next;
        if number - self.oldest >= self.slots.len() as u64 {
            return None;
        }
        let fresh = self.fresh;
        *self.slot(number)? = fresh;
        self.next += 1;
        Some(number)
    }

    /// Messages begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.next
    }

    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.oldest == self.next
    }

    /// The packet identifier of a message, 1 to 65,535.
    pub(crate) fn id_of(number: u64) -> u16 {
        (number % 65_535) as u16 + 1
    }

    /// One receiver has the message; `true` if the window opened.
    #[inline]
    pub(crate) fn received(&mut self, number: u64) -> bool {
        if number < self.oldest || number >= self.next {
            return false;
        }
        if let Some(slot) = self.slot(number)
            && *slot & !UNACKNOWLEDGED > 0
        {
            *slot -= 1;
        }
        self.advance()
    }

    /// The broker has acknowledged the message with this identifier: whether the window opened, or `None` if no
    /// message awaits that.
    pub(crate) fn acknowledged(&mut self, id: u16) -> Option<bool> {
        let ahead = (u64::from(id) + 65_535 - u64::from(Self::id_of(self.oldest))) % 65_535;
        let number = self.oldest + ahead;
        if number >= self.next {
            return None;
        }
        let slot = self.slot(number)?;
        if *slot & UNACKNOWLEDGED == 0 {
            return None;
        }
        *slot &= !UNACKNOWLEDGED;
        Some(self.advance())
    }

    /// Gives up on all that is under way.
    pub(crate) fn abandon(&mut self) {
        self.slots.fill(0);
        self.oldest = self.next;
    }

    fn slot(&mut self, number: u64) -> Option<&mut u32> {
        let width = self.slots.len() as u64;
        self.slots.get_mut((number % width) as usize)
    }

    fn advance(&mut self) -> bool {
        let before = self.oldest;
        while self.oldest < self.next && self.slot(self.oldest).is_some_and(|slot| *slot == 0) {
            self.oldest += 1;
        }
        self.oldest > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_when_all_receivers_have_the_oldest() {
        let mut window = Window::new(2, 2, false);
        assert_eq!((window.open(), window.open(), window.open()), (Some(0), Some(1), None));
        assert!(!window.received(1) && !window.received(1), "the oldest is still under way");
        assert_eq!(window.open(), None);
        assert!(!window.received(0));
        assert!(window.received(0), "both are complete now");
        assert_eq!((window.open(), window.open(), window.open()), (Some(2), Some(3), None));
    }

    #[test]
    fn needs_the_acknowledgement_too() {
        let mut window = Window::new(1, 1, true);
        assert_eq!(window.open(), Some(0));
        assert!(!window.received(0));
        assert_eq!(window.acknowledged(2), None, "no message has that identifier");
        assert_eq!(window.acknowledged(1), Some(true));
        assert_eq!(window.acknowledged(1), None, "acknowledged twice");
    }

    #[test]
    fn identifiers_wrap_around_without_zero() {
        let mut window = Window::new(3, 0, true);
        for _ in 0..70_000 {
            let number = window.open();
            let id = number.map_or(0, Window::id_of);
            assert_ne!(id, 0);
            assert_eq!(window.acknowledged(id), Some(true));
        }
        assert!(window.is_empty());
        assert_eq!(window.begun(), 70_000);
    }

    #[test]
    fn abandoning_opens_it_and_late_ones_do_no_harm() {
        let mut window = Window::new(2, 1, false);
        window.open();
        window.open();
        window.abandon();
        assert!(window.is_empty());
        assert!(!window.received(0));
        assert_eq!(window.open(), Some(2));
        assert!(window.received(2));
        assert!(!window.received(7), "never sent");
    }
}
