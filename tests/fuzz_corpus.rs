//! Every input in the corpora of the fuzz targets, and every crash that was put there, on each ordinary test run.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

#[path = "fuzz/checks/decode.rs"]
mod decode;
#[path = "fuzz/checks/topic_filter.rs"]
mod topic_filter;

/// Gives every file of a corpus to `check`; a failure names the file.
fn replay(target: &str, at_least: usize, check: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| check(&data));
        assert!(outcome.is_ok(), "{} breaks the promise above", path.display());
        files += 1;
    }
    assert!(files >= at_least, "{} holds {files} inputs of at least {at_least}", corpus.display());
}

#[test]
fn decode_corpus() {
    replay("decode", 40, decode::decode_stream);
}

#[test]
fn topic_filter_corpus() {
    replay("topic_filter", 40, topic_filter::filter_and_name);
}
