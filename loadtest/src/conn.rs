//! Idle connections: what each costs the broker in memory, and what keeping them alive costs in processor time.

use crate::arguments::Conn;
use crate::failure::Failure;
use crate::handshake::{Client, establish};
use crate::report::{Meter, Report, growth_each};
use crate::swarm::{LinkId, Swarm, Talk, Then};
use crate::wire::Frame;
use std::time::{Duration, Instant};

const PINGREQ: [u8; 2] = [0xC0, 0];
/// Connections that come and go before memory is first read.
const WARMING: usize = 50;
/// Time that opening all connections may take.
const SETUP: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Idle {
    pings: u64,
    answers: u64,
    lost: Vec<String>,
    strange: u64,
}

impl Talk for Idle {
    fn frame(&mut self, _: LinkId, frame: &Frame<'_>, _: &mut Vec<u8>) -> Then {
        match frame.kind() {
            13 => self.answers += 1,
            _ => self.strange += 1,
        }
        Then::GoOn
    }

    fn lost(&mut self, link: LinkId, why: &str) {
        self.lost.push(format!("connection {} lost: {why}", link.0));
    }
}

/// Runs `conn`.
pub(crate) fn run(options: &Conn) -> Result<Report, Failure> {
    let target = &options.target;
    let meter = Meter::new(target.pid);
    let clients = (0..options.count)
        .map(|index| {
            let mut client = Client::new(format!("{}-conn-{index}", target.prefix));
            client.identity.keep_alive = options.keep_alive;
            let filters =
                if options.subscribe { vec![format!("cs/1/main/customer/{index}/down")] } else { vec![] };
            client.subscribed(filters, 0)
        })
        .collect();
    let end = options.quiet()? + target.seconds()?;
    let keep_alive = Duration::from_secs(u64::from(options.keep_alive));
    if !options.ping && !keep_alive.is_zero() && end + SETUP > keep_alive {
        let why = format!("--keep-alive {}: too short for this run without --ping", options.keep_alive);
        return Err(Failure::Usage(why));
    }
    let mut swarm = Swarm::new(target.target()?)?;
    // What the first connections of all touch is not the price of each: code, tables, the allocator's own.
    let first = (0..WARMING).map(|index| {
        let filters = vec![format!("{}/warming/{index}", target.prefix)];
        Client::new(format!("{}-conn-first-{index}", target.prefix)).subscribed(filters, 0)
    });
    establish(&mut swarm, target.dialect(), first.collect())?;
    swarm.part();
    std::thread::sleep(options.quiet()?.min(Duration::from_millis(500)));
    let rss_kb_start = meter.rss_kb()?;
    target.progress(|| format!("conn: opening {} connections", options.count));
    establish(&mut swarm, target.dialect(), clients)?;
    target.progress(|| "conn: all there, quiet".to_owned());
    let mut idle = Idle::default();
    rest(&mut swarm, &mut idle, options, options.quiet()?)?;
    let rss_kb_end = meter.rss_kb()?;
    let mark = meter.mark()?;
    rest(&mut swarm, &mut idle, options, target.seconds()?)?;
    let stretch = meter.since(mark)?;
    // The last answers.
    rest(&mut swarm, &mut idle, &Conn { ping: false, ..options.clone() }, Duration::from_millis(50))?;

    let connections = swarm.count();
    let mut report = Report {
        scenario: "conn".to_owned(),
        version: target.dialect().name().to_owned(),
        connections: Some(connections),
        rss_kb_start,
        rss_kb_end,
        bytes_per_conn: growth_each(rss_kb_start, rss_kb_end, options.count),
        ..Report::default()
    };
    report.enter(&stretch, connections as u64);
    // Rates and costs of a message mean nothing here.
    (report.msgs_per_s, report.cpu_us_per_msg) = (0.0, None);
    idle.lost.into_iter().for_each(|why| report.fault(why));
    if idle.strange > 0 {
        report.fault(format!("{} packets nobody asked for", idle.strange));
    }
    if idle.answers != idle.pings {
        report.fault(format!("{} PINGREQ and {} PINGRESP", idle.pings, idle.answers));
    }
    swarm.part();
    Ok(report)
}

/// Lets time pass; with `--ping` connections send PINGREQ in turn, each at three quarters of its keep-alive.
fn rest(swarm: &mut Swarm, idle: &mut Idle, options: &Conn, length: Duration) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut sent = 0u64;
    let period = Duration::from_secs(u64::from(options.keep_alive)) * 3 / 4;
    loop {
        let elapsed = begin.elapsed();
        if elapsed >= length {
            return Ok(());
        }
        if options.ping && !period.is_zero() {
            let due = (elapsed.as_nanos() * options.count as u128 / period.as_nanos()) as u64;
            while sent < due {
                let link = LinkId((idle.pings % options.count as u64) as u32);
                if let Some(out) = swarm.out(link) {
                    out.extend_from_slice(&PINGREQ);
                    idle.pings += 1;
                }
                sent += 1;
            }
        }
        swarm.flush(idle);
        swarm.turn(Some(Duration::from_millis(20)), idle)?;
    }
}
