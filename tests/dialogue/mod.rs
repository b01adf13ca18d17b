//! Dialogues with a real broker over TCP: what a client sends, and what must come back.
//!
//! ```ignore
//! let mut alice = v5("alice").persistent().open();
//! alice.subscribe("a/+", 1);
//! let mut bob = v311("bob").open();
//! bob.deliver(message("a/b", "hello").qos(1));
//! let hello = alice.expect("a/b", "hello");
//! alice.acknowledge(&hello);
//! alice.expect_quiet();
//! ```
//!
//! No dialogue sleeps. A test that something does not happen sends what must come after it and sees that come first;
//! where only time can tell, `expect_silence_for` reads for that long. Topics and client identifiers come from
//! `unique`, so tests share one broker and run at once. A failing step prints the whole dialogue.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::doc_markdown,
    clippy::struct_field_names,
    clippy::should_implement_trait,
    clippy::print_stdout,
    clippy::cast_sign_loss,
    clippy::allow_attributes_without_reason,
    reason = "test support, of which each test program uses a part"
)]

mod broker;
mod client;
mod connect;
mod kept;
mod own;
mod packets;
mod raw;
mod second;
mod wire;

use std::sync::atomic::{AtomicU32, Ordering};

#[allow(unused_imports, reason = "each test program uses a part")]
pub use {
    broker::{Broker, broker},
    client::Client,
    connect::{Connect, Will, will},
    kept::{BOTH, Ending, Kept},
    own::{Others, Own, own, resident_bytes},
    packets::{Message, Subscribe, disconnect, message, subscription, unsubscribe},
    raw::{Raw, hex},
    wire::{
        Ack, Codes, ConnAck, Ended, Packet, Properties, Publish, VERSIONS, Value, Version, property, take,
    },
};

/// A name that no other test, process or run uses: letters and digits only.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let run = clock.as_millis() & 0xFF_FFFF;
    format!("{name}{:x}x{run:x}x{:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A CONNECT of MQTT 3.1.1 with Clean Session 1 and a keep alive of a minute.
pub fn v311(id: &str) -> Connect {
    Connect::new(Version::V311, id)
}

/// A CONNECT of MQTT 5 with Clean Start 1 and a keep alive of a minute.
pub fn v5(id: &str) -> Connect {
    Connect::new(Version::V5, id)
}

/// The same in either version.
pub fn connect(version: Version, id: &str) -> Connect {
    Connect::new(version, id)
}

/// A client with a name of its own, to publish from.
pub fn publisher() -> Client {
    v5(&unique("publisher")).open()
}
