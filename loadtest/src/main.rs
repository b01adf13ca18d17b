//! The load tool: drives an MQTT broker through a scenario, checks that order and delivery hold, and says what the
//! broker spent on it in processor time and memory. `README.md` explains every scenario and figure.

mod arguments;
mod churn;
mod compare;
mod conn;
mod desk;
mod failure;
mod floor;
mod folder;
mod handshake;
mod histogram;
mod latency;
mod ledger;
mod offline;
mod packets;
mod process;
mod report;
mod restart;
mod retained;
mod scenario;
mod swarm;
mod table;
mod traffic;
#[cfg(test)]
mod trials;
mod window;
mod wire;

use arguments::{Arguments, Command};
use clap::Parser;
use failure::Failure;
use report::Report;
use scenario::Scenario;
use std::io::Write;
use std::process::ExitCode;
use traffic::Shape;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A run that found faults.
const FAULTY: u8 = 1;
/// A run that could not be carried through.
const IMPOSSIBLE: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Floor(options) => serve_floor(&options),
        Command::Compare(options) => compare::run(&options),
        command => measure(&command).and_then(|report| print(&report)),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("loadtest: {failure}");
        ExitCode::from(IMPOSSIBLE)
    })
}

/// Runs one scenario.
fn measure(command: &Command) -> Result<Report, Failure> {
    let scenario = |name, shape, publishers, receivers| Scenario {
        name,
        shape,
        publishers,
        receivers,
        persistent: false,
    };
    match command {
        Command::Conn(options) => conn::run(options),
        Command::Fanout(options) => {
            scenario("fanout", Shape::All, options.publishers, options.subscribers).run(&options.flow)
        }
        Command::P2p(options) => {
            let pairs = scenario("p2p", Shape::Pairs, options.pairs, options.pairs);
            scenario::Scenario { persistent: options.persistent, ..pairs }.run(&options.flow)
        }
        Command::Fanin(options) => {
            scenario("fanin", Shape::All, options.publishers, options.subscribers).run(&options.flow)
        }
        Command::Shared(options) => {
            scenario("shared", Shape::One, options.publishers, options.members).run(&options.flow)
        }
        Command::Churn(options) => churn::run(options),
        Command::Retained(options) => retained::run(options),
        Command::Offline(options) => offline::run(options),
        Command::Restart(options) => restart::run(options),
        Command::Latency(options) => latency::run(options),
        Command::Desk(options) => desk::run(options),
        Command::Floor(_) | Command::Compare(_) => Err(Failure::Usage("nothing is measured here".to_owned())),
    }
}

/// Prints a run's line, and says on stderr what was wrong.
fn print(report: &Report) -> Result<ExitCode, Failure> {
    let line =
        serde_json::to_string(report).map_err(std::io::Error::from).map_err(Failure::io("writing JSON"))?;
    writeln!(std::io::stdout(), "{line}").map_err(Failure::io("writing to stdout"))?;
    let Some(why) = report.verdict() else { return Ok(ExitCode::SUCCESS) };
    eprintln!("loadtest: {}: {why}", report.scenario);
    report.fault_examples.iter().for_each(|example| eprintln!("  the broker: {example}"));
    Ok(ExitCode::from(FAULTY))
}

fn serve_floor(options: &arguments::Floor) -> Result<ExitCode, Failure> {
    let floor = floor::Floor::bind(options.bind)?;
    eprintln!("floor on {}", floor.address()?);
    floor.run()?;
    Ok(ExitCode::SUCCESS)
}
