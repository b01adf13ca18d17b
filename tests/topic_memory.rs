//! What an entry of the topic indexes costs, in bytes asked of the allocator. The broker's promise of nearly
//! free idle customers rests on these figures, so they are tests.
#![expect(unsafe_code, reason = "an allocator that counts has to be one")]
#![expect(clippy::print_stdout, reason = "the figures are of interest when the test passes, too")]
#![expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "counts of bytes in a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use switchboard::topic::{
    RetainedIndex, Subscription, SubscriptionIndex, SubscriptionOptions, Target, WildcardTrie,
};

struct Counting;

thread_local! {
    /// Bytes that this thread has allocated and not freed; each test runs on its own.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    HELD.with(|held| held.set(held.get() + bytes));
}

// SAFETY: everything is passed on to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> isize {
    HELD.with(Cell::get)
}

/// What `make` left allocated.
fn cost<R>(make: impl FnOnce() -> R) -> (R, isize) {
    let before = held();
    let made = make();
    (made, held() - before)
}

fn shared_string(text: &str) -> isize {
    cost(|| Arc::<str>::from(text)).1
}

fn sub(key: u32) -> Subscription {
    Subscription { target: Target::session(key), options: SubscriptionOptions::new(1, false, false, 0) }
}

/// The most that an entry costs beside its strings, over all sizes between two doublings of the tables: the
/// figure at one size is luck.
fn worst(upto: usize, mut add: impl FnMut(usize) -> isize) -> f64 {
    let before = held();
    let (mut strings, mut worst) = (0, 0.0_f64);
    for n in 0..upto {
        strings += add(n);
        if n > upto / 3 && n % 1000 == 0 {
            worst = worst.max((held() - before - strings) as f64 / n as f64);
        }
    }
    worst
}

#[test]
fn an_exact_subscription() {
    const COUNT: usize = 300_000;
    let topic = |n: usize| format!("cs/1/main/customer/{n}/down");
    let (mut index, empty) = cost(SubscriptionIndex::new);
    assert_eq!(empty, 0, "an index that is not used costs nothing");
    let worst = worst(COUNT, |n| {
        let (topic, sub) = (topic(n), sub(n as u32));
        index.subscribe(&topic, sub);
        shared_string(&topic)
    });
    println!("an exact subscription: {worst:.1} bytes beside its topic");
    assert!(worst <= 64.0, "{worst} bytes");

    for n in 0..COUNT {
        assert!(index.unsubscribe(&topic(n), Target::session(n as u32)).is_some());
    }
    let ((), tables) = cost(|| drop(index));
    assert!(tables > -16 * 1024, "an index that is empty again holds {} bytes", -tables);
}

#[test]
fn a_second_subscriber_and_the_hundred_thousandth() {
    const PAIRS: u32 = 10_000;
    let topic = |n: u32| format!("cs/1/main/customer/{n}/down");
    let mut index = SubscriptionIndex::new();
    (0..PAIRS).for_each(|n| drop(index.subscribe(&topic(n), sub(0))));
    let ((), pairs) = cost(|| (0..PAIRS).for_each(|n| drop(index.subscribe(&topic(n), sub(1)))));
    println!("a second subscriber: {} bytes", pairs / PAIRS as isize);
    assert!(pairs <= PAIRS as isize * 52, "{pairs} bytes");

    // The topic is there before, and its table has room for one more, which hashbrown's `entry` makes even for
    // an entry that it finds: whether a table grows is luck, and not what a subscriber costs.
    (0..2).for_each(|_| drop(index.subscribe("news", sub(100_000))));
    let ((), crowd) = cost(|| (0..100_000).for_each(|key| drop(index.subscribe("news", sub(key)))));
    println!("a subscriber in a crowd of 100,000: {:.1} bytes", crowd as f64 / 100_000.0);
    assert!(crowd <= 100_000 * 24, "{crowd} bytes");
    let ((), freed) = cost(|| {
        (0..100_000).for_each(|key| assert!(index.unsubscribe("news", Target::session(key)).is_some()));
    });
    assert!(crowd + freed < 64, "{crowd} bytes came, {} went", -freed);
}

#[test]
fn a_wildcard_subscription() {
    const COUNT: usize = 100_000;
    let filter = |n: usize| format!("cs/1/main/customer/{n}/#");
    let mut index = SubscriptionIndex::new();
    let worst = worst(COUNT, |n| {
        let (filter, sub) = (filter(n), sub(n as u32));
        index.subscribe(&filter, sub);
        shared_string(&filter)
    });
    println!("a wildcard subscription: {worst:.1} bytes beside its filter");
    assert!(worst <= 160.0, "{worst} bytes");
    let ((), freed) = cost(|| {
        (0..COUNT).for_each(|n| assert!(index.unsubscribe(&filter(n), Target::session(n as u32)).is_some()));
    });
    assert!(-freed > COUNT as isize * 100 && index.is_empty());
}

/// A hostile client gets no more memory for deep filters than it sends, but for two nodes each.
#[test]
fn deep_filters_cost_what_they_weigh() {
    let mut trie = WildcardTrie::new();
    let (mut sent, before) = (0, held());
    for n in 0..1000_u32 {
        let filter: Vec<&str> =
            (0..128).map(|level| if n >> (level % 10) & 1 == 0 { "+" } else { "a" }).collect();
        let filter = filter.join("/");
        sent += filter.len() as isize;
        trie.get_or_insert_with(&filter, || n);
        drop(black_box(filter));
    }
    let extra = (held() - before - sent) as f64 / 1000.0;
    println!("a deep filter: {extra:.1} bytes more than its own {}", sent / 1000);
    assert!(extra <= 300.0, "{extra} bytes");
}

#[test]
fn a_retained_topic() {
    const COUNT: usize = 200_000;
    for (order, step) in [("ascending", 1), ("scattered", 77_773)] {
        let mut index = RetainedIndex::<u64>::new();
        let before = held();
        let mut strings = 0;
        for n in 0..COUNT {
            let topic: Arc<str> = format!("cs/1/main/customer/{:07}/context", n * step % COUNT).into();
            strings += shared_string(&topic);
            index.insert(topic, 0);
        }
        assert_eq!(index.len(), COUNT);
        let each = (held() - before - strings) as f64 / COUNT as f64 - size_of::<u64>() as f64;
        println!("a retained topic, {order}: {each:.1} bytes beside its topic and value");
        assert!(each <= 60.0, "{each} bytes");
        let all = index.scan("#", None, usize::MAX, |_, _| ControlFlow::Continue(()));
        assert_eq!(all, None);
        for n in 0..COUNT {
            assert!(index.remove(&format!("cs/1/main/customer/{n:07}/context")).is_some());
        }
        assert!(held() - before < 1024, "an index that is empty again holds {} bytes", held() - before);
    }
}
