//! A run of everything against Switchboard in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::arguments::{Arguments, Command};
use clap::Parser;
use std::sync::Arc;
use switchboard::Server;
use switchboard::config::Settings;
use switchboard::desk::Routing;

/// A broker with the rules that are shipped with this tool.
fn broker() -> (Server, String) {
    let mut settings = Settings { shards: 2, http: None, ..Settings::default() };
    for listener in &mut settings.listeners {
        listener.bind = ([127, 0, 0, 1], 0).into();
    }
    let routing = Routing::parse(include_str!("../../desk.toml"), "desk.toml").expect("the rules are right");
    let server = Server::start(settings, Some(Arc::new(routing))).expect("the broker starts");
    let address = server.addresses().first().expect("one listener").1.to_string();
    (server, address)
}

fn play(address: &str, line: &str) -> Result<Report, Failure> {
    let words = format!("loadtest desk --addr {address} --json --warmup 0.1 --seconds 0.6 {line}");
    let command = Arguments::try_parse_from(words.split_whitespace()).unwrap().command;
    let Command::Desk(options) = command else { unreachable!("it says desk") };
    run(&options)
}

#[test]
fn customers_are_answered_and_everything_is_checked() {
    let (_broker, address) = broker();
    for options in [
        "--agents 8 --strict",
        "--v5 --strict --capacity 3 --agents 3",
        "--agents 8 --messages 1 --think 0.01",
    ] {
        let report = play(&address, &format!("--handling 0.05 --load 0.6 --stall 10 {options}"));
        let report = report.unwrap_or_else(|failure| panic!("{options}: {failure}"));
        assert_eq!(report.verdict(), None, "{options}: {report:?}");
        assert_eq!((report.lost, report.duplicates, report.stalls), (0, 0, 0), "{options}: {report:?}");
        let desk = report.desk.unwrap();
        assert!(desk.arrived > 10 && desk.answered == desk.arrived, "{options}: {desk:?}");
        assert_eq!((desk.abandoned, desk.turned_away, desk.requeued), (0, 0, 0), "{options}: {desk:?}");
        assert!(desk.assigned >= desk.answered && desk.offers == desk.assigned, "{options}: {desk:?}");
        assert!(
            desk.occupancy > 0.1 && desk.wait_us.is_some() && desk.reply_us.is_some(),
            "{options}: {desk:?}"
        );
        // Every message was replied to.
        let (up, down) = (desk.message_us.map_or(0, |up| up.samples), desk.reply_us.unwrap().samples);
        assert_eq!(up > 0, !options.contains("--messages 1"), "{options}");
        assert!(down >= up + desk.answered / 2, "{options}: {up} {down}");
        assert_eq!(desk.theory.is_some(), !options.contains("think"));
    }
}

#[test]
fn impatient_customers_leave() {
    let (_broker, address) = broker();
    let report = play(&address, "--agents 2 --handling 0.1 --load 3 --patience 0.05 --stall 10").unwrap();
    assert_eq!(report.verdict(), None, "{report:?}");
    let desk = report.desk.unwrap();
    assert!(desk.abandoned > 0 && desk.answered > 0, "{desk:?}");
    assert_eq!(desk.answered + desk.abandoned, desk.arrived);
}

#[test]
fn offers_that_are_rejected_or_ignored_go_on() {
    let (_broker, address) = broker();
    let report =
        play(&address, "--agents 6 --handling 0.02 --load 0.2 --reject 0.3 --ignore 0.02 --stall 10")
            .unwrap();
    assert_eq!(report.verdict(), None, "{report:?}");
    let desk = report.desk.unwrap();
    assert!(desk.rejected > 0, "{desk:?}");
    assert_eq!(desk.offers, desk.assigned + desk.rejected + desk.lapsed, "{desk:?}");
    assert!(desk.offers_per_assignment > 1.0);
}

#[test]
fn the_closed_loop_carries_messages() {
    let (_broker, address) = broker();
    let report =
        play(&address, "--closed-loop --agents 3 --capacity 2 --window 4 --strict --stall 10").unwrap();
    assert_eq!(report.verdict(), None, "{report:?}");
    assert_eq!((report.lost, report.duplicates, report.window), (0, 0, Some(4)), "{report:?}");
    assert!(report.delivered > 100, "{report:?}");
}

#[test]
fn what_cannot_be_is_said() {
    let (_broker, address) = broker();
    for (options, why) in [
        ("--group nowhere", "ready"),
        ("--agents 0", "--agents"),
        ("--load 1", "--patience"),
        ("--reject 0.6 --ignore 0.6", "--reject"),
        ("--handling 0", "--handling"),
        ("--size 10", "--size"),
        ("--tolerance 0.1 --think 1", "--tolerance"),
    ] {
        let error = play(&address, &format!("--stall 0.1 {options}")).unwrap_err().to_string();
        assert!(error.contains(why), "{options}: {error}");
    }
    let report = play(&address, "--agents 8 --handling 0.05 --tolerance 0.000001 --stall 10").unwrap();
    assert!(
        report.verdict().unwrap().contains("breach") && report.fault_examples.concat().contains("theory")
    );
}
