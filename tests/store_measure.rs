//! What the store on a disk costs. Run with `cargo test --release --test store_measure -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "store_support/mod.rs"]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use support::{Folder, OnDisk, Subject, put};
use switchboard::store::disk::{self, Options};
use switchboard::store::{Batch, Disk, Store, Submission, Table};

fn opened(folder: Folder) -> OnDisk {
    let options = Options::new(&folder.0, 1);
    OnDisk::with(folder, options)
}

#[test]
#[ignore = "measures"]
fn commits() {
    for per_cut in [1_u64, 16, 64, 500] {
        let subject = opened(Folder::new());
        let start = Instant::now();
        let mut number = 0_u64;
        let mut took = Vec::new();
        while start.elapsed() < Duration::from_secs(3) {
            let from = Instant::now();
            let mut last = 0;
            for _ in 0..per_cut {
                number += 1;
                let mut batch = Batch::default();
                put(&mut batch, Table::Owed, &number.to_be_bytes(), &[7; 300]);
                batch.delete(Table::Owed, |k| {
                    k.extend_from_slice(&number.saturating_sub(1000).to_be_bytes());
                });
                last = subject.store().submit(0, Submission { batch, ..Submission::default() });
            }
            subject.settle(0, last);
            took.push(from.elapsed());
        }
        took.sort_unstable();
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{per_cut} submissions at once: {:.0} rounds/s, {:.0} documents/s, p50 {:?}, p99 {:?}",
            took.len() as f64 / seconds,
            number as f64 / seconds,
            took[took.len() / 2],
            took[took.len() * 99 / 100]
        );
    }
}

const TABLES: [Table; 3] = [Table::Sessions, Table::Subscriptions, Table::Retained];

fn rewrite(subject: &OnDisk, many: u32, round: u8) -> u64 {
    let mut last = 0;
    for table in TABLES {
        for some in 0..many / 500 {
            let mut batch = Batch::default();
            for number in some * 500..some * 500 + 500 {
                let key = format!("{:010}/customer/{number}", number.wrapping_mul(2_654_435_761));
                let value = format!(
                    "{round} {number} {:x} {{\"state\":\"{}\"}}",
                    u64::from(number) * 0x9e37_79b9_7f4a,
                    number % 977
                );
                put(&mut batch, table, key.as_bytes(), format!("{value:70}").as_bytes());
            }
            last = subject.store().submit(0, Submission { batch, ..Submission::default() });
            // As a broker that minds what waits.
            if subject.store().waiting(0) > 4 << 20 {
                subject.settle(0, last);
            }
        }
    }
    last
}

#[test]
#[ignore = "measures"]
fn start_with_millions_and_their_room() {
    let many: u32 = std::env::var("MANY").map_or(1_000_000, |many| many.parse().unwrap());
    let mut folder = Folder::new();
    for round in 0..std::env::var("ROUNDS").map_or(2, |rounds| rounds.parse().unwrap()) {
        let subject = opened(folder);
        let from = Instant::now();
        let last = rewrite(&subject, many, round);
        subject.settle(0, last);
        let committed = from.elapsed();
        folder = subject.close();
        println!("round {round}: written in {committed:?}, closed after {:?}", from.elapsed());
        let stats = disk::stats(&folder.0).unwrap();
        let live: u64 = stats.tables.iter().map(|table| table.bytes).sum();
        let all = stats.journal_bytes + stats.view_bytes + stats.export_bytes;
        println!("live {live}, on disk {all}: {:.2} times; {stats:?}", all as f64 / live as f64);
        let _ = fs::write("/proc/sys/vm/drop_caches", "3");
        let from = Instant::now();
        let (opened, report) = Disk::open(Options::new(&folder.0, 1)).unwrap();
        let open = from.elapsed();
        let (mut documents, mut bytes) = (0_u64, 0);
        for table in Table::ALL {
            opened
                .load(table, &mut |key, value| {
                    documents += 1;
                    bytes += key.len() + value.len();
                })
                .unwrap();
        }
        println!(
            "open {open:?}, open and load {:?}, {documents} documents of {bytes} bytes; {report:?}",
            from.elapsed()
        );
        opened.abandon();
    }
}

/// What is kept, and how many bytes of keys and values that is.
struct Churn {
    random: fastrand::Rng,
    batch: Batch,
    /// Bytes of the value in each place, 0 without one.
    sizes: [Vec<u32>; 4],
    live: u64,
    written: u64,
}

const WORDS: [&str; 12] = [
    "order",
    "invoice",
    "please",
    "parcel",
    "not",
    "arrived",
    "since",
    "customer",
    "thank you",
    "agent",
    "call",
    "back",
];

impl Churn {
    fn value(&mut self) -> String {
        let mut text = format!("{{\"from\":\"{:x}\",\"text\":\"", self.random.u64(..));
        for _ in 0..self.random.usize(2..40) {
            text += WORDS[self.random.usize(..WORDS.len())];
            text.push(' ');
        }
        text + "\"}"
    }

    fn set(&mut self, kind: usize, place: u64, there: bool) {
        let tables = [Table::Sessions, Table::Subscriptions, Table::Retained, Table::Owed];
        let (table, number) = (tables[kind], place % self.sizes[kind].len() as u64);
        let key = match table {
            Table::Retained => format!("cs/1/main/customer/{number}/state").into_bytes(),
            Table::Subscriptions => {
                [&number.to_be_bytes()[..], b"cs/1/main/customer/", number.to_string().as_bytes()].concat()
            }
            _ => place.to_be_bytes().to_vec(),
        };
        let value = if there { self.value() } else { String::new() };
        if there {
            put(&mut self.batch, table, &key, value.as_bytes());
        } else {
            self.batch.delete(table, |k| k.extend_from_slice(&key));
        }
        let size = if there { (key.len() + value.len()) as u32 } else { 0 };
        let old = std::mem::replace(&mut self.sizes[kind][number as usize], size);
        self.live = self.live + u64::from(size) - u64::from(old);
        self.written += u64::from(there);
    }
}

fn bytes_below(path: &std::path::Path) -> u64 {
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_below(&entry.path()),
        about => about.map_or(0, |about| about.len()),
    };
    fs::read_dir(path).map_or(0, |entries| entries.flatten().map(size).sum())
}

/// Live data are the bytes of the keys and values of all documents that there are; all else on the disk counts as use.
#[test]
#[ignore = "measures"]
fn room_under_churn() {
    let variable =
        |name, default| std::env::var(name).map_or(default, |value: String| value.parse().unwrap());
    let (live, seconds): (u64, u64) = (variable("LIVE", 300_000), variable("SECONDS", 110));
    let pace = variable("PACE", 60_000);
    let subject = opened(Folder::new());
    let parts = [live / 6, live / 6, live / 3, live / 3].map(|part| vec![0; part as usize]);
    let mut churn = Churn {
        random: fastrand::Rng::with_seed(1),
        batch: Batch::default(),
        sizes: parts,
        live: 0,
        written: 0,
    };
    let start = Instant::now();
    let mut told = start;
    let (mut max, mut max_alone, mut turn) = (0.0_f64, 0.0_f64, 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        // Messages are queued and consumed in order; the rest is overwritten anywhere, or comes and goes.
        for _ in 0..100 {
            turn += 1;
            let waits = churn.sizes[3].len() as u64;
            churn.set(3, turn, true);
            if turn > waits {
                churn.batch.delete(Table::Owed, |k| k.extend_from_slice(&(turn - waits).to_be_bytes()));
            }
            for kind in [0, 1, 2, 2] {
                let place =
                    if turn <= waits { turn } else { churn.random.u64(..) % churn.sizes[kind].len() as u64 };
                let there = turn <= waits || churn.random.u8(..10) > 0;
                let number = place % churn.sizes[kind].len() as u64;
                churn.set(kind, number, there);
            }
        }
        while start.elapsed() < Duration::from_micros(churn.written * 1_000_000 / pace) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let batch = std::mem::take(&mut churn.batch);
        let last = subject.store().submit(0, Submission { batch, ..Submission::default() });
        if subject.store().waiting(0) > 4 << 20 {
            subject.settle(0, last);
        }
        if turn.is_multiple_of(2_000) && churn.written > live {
            let ratio = bytes_below(&subject.folder.0) as f64 / churn.live as f64;
            max = max.max(ratio);
            let views = fs::read_dir(subject.folder.0.join("view")).map_or(0, Iterator::count);
            if views == 1 {
                max_alone = max_alone.max(ratio);
            }
            if told.elapsed() > Duration::from_secs(4) {
                told = Instant::now();
                let of = subject.disk().figures();
                println!(
                    "{:>4} s, {:>5.1} rewrites: live {} MB, {ratio:.2} times on disk ({views} views {} MB, journal {} MB, \
                     export {} MB), {} checkpoints, {} exports, {} copies",
                    start.elapsed().as_secs(),
                    churn.written as f64 / live as f64,
                    churn.live / 1_000_000,
                    of.view_bytes / 1_000_000,
                    of.journal_bytes / 1_000_000,
                    of.export_bytes / 1_000_000,
                    of.checkpoints,
                    of.exports,
                    of.compactions,
                );
            }
        }
    }
    println!("at most {max:.2} times, {max_alone:.2} while there was one view");
}
