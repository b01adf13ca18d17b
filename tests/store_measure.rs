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
