//! The journal's thread: takes the largest cut, makes it durable, says so.

use std::time::Duration;

use super::super::Cut;
use super::journal::Journal;
use super::shared::{End, Shared, Sleep};

/// How long a disk that has failed is left alone.
const BACK_OFF: Duration = Duration::from_millis(250);

/// Runs until the store ends, and until everything is durable that can be if it is closed.
pub(super) fn run(shared: &Shared, mut journal: Journal) {
    while let Some(cut) = next(shared) {
        if !cut.batches.is_empty() && !write(shared, &mut journal, &cut) {
            return;
        }
        shared.publish(&cut.through, &cut.weights);
    }
    // If all of it is in the export at the end, the last segment may go too.
    journal.give_up_segment();
    shared.tables.lock().closed.append(&mut journal.take_closed());
}

/// Waits for a cut; `None` at the end.
fn next(shared: &Shared) -> Option<Cut> {
    let interval = shared.options.commit_interval;
    let mut gathered = interval.is_zero();
    wait_for_room(shared);
    let mut inbox = shared.inbox.lock();
    loop {
        if inbox.end == End::Abandon {
            return None;
        }
        let may_gather = inbox.bytes > 0 && inbox.bytes < shared.options.commit_batch;
        if !gathered && may_gather && inbox.end == End::NotYet {
            inbox.sleep = Sleep::Gathering;
            shared.work.wait_for(&mut inbox, interval);
            inbox.sleep = Sleep::Busy;
            gathered = true;
            continue;
        }
        if let Some(cut) = inbox.lanes.cut() {
            inbox.bytes -= cut.weights.iter().sum::<usize>();
            return Some(cut);
        }
        if inbox.end == End::Close {
            return None;
        }
        inbox.sleep = Sleep::Idle;
        shared.work.wait(&mut inbox);
        inbox.sleep = Sleep::Busy;
    }
}

/// Waits while the view is too far behind: submissions gather meanwhile, and their senders see them waiting.
fn wait_for_room(shared: &Shared) {
    let mut tables = shared.tables.lock();
    let bound = 2 * shared.options.checkpoint_bytes;
    // The view does not move before the first commit.
    while tables.bytes() > bound && tables.start.is_none() && tables.end == End::NotYet {
        shared.filled.notify_one();
        shared.room.wait(&mut tables);
    }
}

/// Writes a cut, however often that takes. `false`: the store ended while the disk did not take it.
fn write(shared: &Shared, journal: &mut Journal, cut: &Cut) -> bool {
    loop {
        match journal.append(&cut.batches) {
            Ok(appended) => {
                shared.journal_health.recovered("journal", journal.directory());
                shared.figures.has_synced(&appended);
                let mut tables = shared.tables.lock();
                tables.closed.append(&mut journal.take_closed());
                tables.start = None;
                tables.appended += appended.bytes;
                for change in cut.batches.iter().flat_map(super::super::Batch::iter) {
                    tables.active.apply(change.table, change.key, change.value);
                }
                tables.active.through = appended.number;
                let bound = shared.checkpoint_bytes();
                if tables.active.bytes() >= bound || tables.journal_is_long(bound) {
                    shared.filled.notify_one();
                }
                return true;
            }
            Err(fault) => {
                shared.journal_health.failed("journal", &fault.path, &fault.error);
                journal.give_up_segment();
            }
        }
        let mut inbox = shared.inbox.lock();
        if inbox.end == End::NotYet {
            shared.work.wait_for(&mut inbox, BACK_OFF);
        }
        if inbox.end != End::NotYet {
            // One more try would have to be one of many: what is not durable was never acknowledged.
            return false;
        }
    }
}
