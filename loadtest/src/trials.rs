//! Every scenario, for a moment, against the floor in this process: the tool itself is tested.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use crate::arguments::{Arguments, Command};
use crate::floor::Floor;
use crate::report::Report;
use clap::Parser;
use std::thread::{JoinHandle, spawn};

/// A floor on a thread.
struct Running {
    address: String,
    stopper: mio::Waker,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        let floor = Floor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = floor.address().unwrap().to_string();
        let stopper = floor.stopper().unwrap();
        let thread = Some(spawn(move || floor.run().unwrap()));
        Self { address, stopper, thread }
    }

    fn measure(&self, line: &str) -> Report {
        let own = std::process::id().to_string();
        let words = ["loadtest"].into_iter().chain(line.split_whitespace()).chain([
            "--addr",
            &self.address,
            "--pid",
            &own,
            "--warmup",
            "0.05",
            "--seconds",
            "0.15",
            "--json",
        ]);
        let command: Command = Arguments::try_parse_from(words).unwrap().command;
        let report = crate::measure(&command).unwrap();
        assert_eq!(report.verdict(), None, "{line}: {report:?}");
        assert_eq!((report.lost, report.duplicates, report.stalls), (0, 0, 0), "{line}: {report:?}");
        report
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.wake().unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the floor broke");
    }
}

#[test]
fn fanout() {
    let floor = Running::start();
    for options in ["--qos 0", "--qos 1", "--qos 2 --v5", "--strict --v5 --user-properties 3", "--topics 7"] {
        let report = floor.measure(&format!("fanout --subscribers 20 --publishers 2 --window 4 {options}"));
        assert!(report.delivered > 20, "{options}");
        assert_eq!((report.publishers, report.receivers), (Some(2), Some(20)));
        assert!(report.cpu_us_per_msg.is_some() && report.rss_kb_end > Some(0));
    }
}

#[test]
fn p2p() {
    let floor = Running::start();
    for options in
        ["--qos 0", "--qos 1 --v5", "--qos 2", "--strict --window 1", "--topics 100", "--size 100000"]
    {
        floor.measure(&format!("p2p --pairs 10 {options}"));
    }
}

#[test]
fn fanin_and_shared() {
    let floor = Running::start();
    floor.measure("fanin --publishers 30");
    floor.measure("fanin --publishers 30 --qos 1 --strict");
    floor.measure("shared --publishers 30 --members 3 --qos 1 --strict");
    floor.measure("shared --publishers 30 --members 3 --qos 1 --v5");
}

#[test]
fn churn() {
    let floor = Running::start();
    for options in ["--qos 0", "--qos 1 --strict", "--qos 2 --v5"] {
        floor.measure(&format!("churn --clients 10 {options}"));
    }
}

#[test]
fn conn() {
    let floor = Running::start();
    let report = floor.measure("conn --count 300 --subscribe --quiet 0.05 --keep-alive 1 --ping");
    assert_eq!(report.connections, Some(300));
    assert!(report.bytes_per_conn.is_some());
    floor.measure("conn --count 30 --v5 --quiet 0.05");
}

#[test]
fn latency() {
    let floor = Running::start();
    let report = floor.measure("latency --rate 2000 --pairs 4 --qos 1");
    let latency = report.latency_us.unwrap();
    assert!(latency.samples >= report.delivered.min(250), "{latency:?}");
    assert!(latency.p50 > 0.0 && latency.p50 <= latency.p99 && latency.p99 <= latency.max, "{latency:?}");
}

#[test]
fn what_the_floor_cannot_is_found_out() {
    let floor = Running::start();
    let measure = |line: &str| {
        let words = ["loadtest"].into_iter().chain(line.split_whitespace());
        let timing =
            ["--addr", &floor.address, "--warmup", "0", "--seconds", "0.1", "--stall", "0.1", "--json"];
        crate::measure(&Arguments::try_parse_from(words.chain(timing)).unwrap().command)
    };
    // It retains nothing and keeps no session: both must fail, not pass with nothing delivered.
    let report = measure("retained --topics 50 --publishers 5 --rounds 1 --replay-qos 1").unwrap();
    assert!(report.verdict().unwrap().contains("50 messages lost"), "{report:?}");
    let report = measure("offline --sessions 5 --messages 2 --publishers 5").unwrap();
    assert!(report.verdict().unwrap().contains("10 messages lost"), "{report:?}");
    assert!(report.fault_examples.iter().any(|fault| fault.contains("not kept")), "{report:?}");
    // It grants no topic alias.
    assert!(measure("p2p --pairs 1 --alias --v5").unwrap_err().to_string().contains("alias"));
    assert!(measure("p2p --pairs 1 --alias").unwrap_err().to_string().contains("--v5"));
    assert!(measure("p2p --pairs 1 --size 8").unwrap_err().to_string().contains("at least 16"));
    assert!(measure("p2p --pairs 0").is_err());
    assert!(measure("conn --count 1 --keep-alive 5").unwrap_err().to_string().contains("--ping"));
}

#[test]
fn nobody_there() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let words = format!("loadtest p2p --pairs 1 --json --addr 127.0.0.1:{port}");
    let command = Arguments::try_parse_from(words.split_whitespace()).unwrap().command;
    let error = crate::measure(&command).unwrap_err().to_string();
    assert!(error.contains("lost connection"), "{error}");
}
