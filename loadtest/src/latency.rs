//! Latency at a fixed rate that the broker reaches easily: from the sender's write to the receiver's read.
//!
//! The loop spins instead of sleeping, so that it adds neither its own wake-up nor a timer's millisecond; it wants
//! a core to itself. The time is taken when a message is written, which nothing of the broker's can delay.

use crate::arguments::Latency;
use crate::failure::Failure;
use crate::report::{Meter, Percentiles, Report};
use crate::scenario::Scenario;
use crate::swarm::Swarm;
use crate::traffic::{Shape, Traffic, settle};
use crate::wire::Stamp;
use std::time::{Duration, Instant};

/// Messages that one publisher may have under way before its turn is left out (and counted as a stall).
const WINDOW: usize = 4096;

/// Runs `latency`.
pub(crate) fn run(options: &Latency) -> Result<Report, Failure> {
    let mut flow = options.flow.clone();
    flow.window = WINDOW;
    flow.size = flow.size.max(Stamp::TIMED_SIZE);
    if options.rate == 0 {
        return Err(Failure::Usage("--rate 0: at least one message a second".to_owned()));
    }
    let scenario = Scenario {
        persistent: false,
        name: "latency",
        shape: Shape::Pairs,
        publishers: options.pairs,
        receivers: options.pairs,
    };
    let meter = Meter::new(flow.target.pid);
    let (mut swarm, mut traffic) = scenario.prepare(&flow, true)?;
    flow.target.progress(|| "latency: warming up".to_owned());
    at_rate(&mut swarm, &mut traffic, options, flow.target.warmup()?)?;
    traffic.reset_latency();
    flow.target.progress(|| format!("latency: {} messages/s", options.rate));
    let before = traffic.unique;
    let mark = meter.mark()?;
    at_rate(&mut swarm, &mut traffic, options, flow.target.seconds()?)?;
    let stretch = meter.since(mark)?;
    let delivered = traffic.unique - before;
    let latency = Percentiles::of(&traffic.latency);
    settle(&mut swarm, &mut traffic, flow.target.stall()?)?;
    let mut report = traffic.report;
    report.window = None;
    report.latency_us = latency;
    report.enter(&stretch, delivered);
    swarm.part();
    Ok(report)
}

/// Sends one message after the other, each by the next publisher, on a schedule.
fn at_rate(
    swarm: &mut Swarm,
    traffic: &mut Traffic,
    options: &Latency,
    length: Duration,
) -> Result<(), Failure> {
    let gap = Duration::from_secs(1) / options.rate;
    let begin = Instant::now();
    let mut sent = 0u32;
    loop {
        let elapsed = begin.elapsed();
        if elapsed >= length {
            return Ok(());
        }
        if elapsed >= gap * sent {
            if !traffic.send(sent % options.pairs as u32, swarm) {
                traffic.report.stalls += 1;
            }
            sent += 1;
        }
        swarm.flush(traffic);
        swarm.turn(Some(Duration::ZERO), traffic)?;
    }
}
