//! CONNECT, sessions and keep alive: who may connect, what is resumed, what ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_imports,
    clippy::doc_markdown,
    reason = "tests"
)]

mod dialogue;

use dialogue::*;

#[test]
fn ping_is_answered() {
    for version in VERSIONS {
        let mut client = connect(version, &unique("ping")).open();
        client.expect_quiet();
        client.disconnect();
    }
}
