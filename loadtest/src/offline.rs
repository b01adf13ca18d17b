//! Persistent sessions that are away: what each costs, what it costs to store messages for them, and to drain them.

use crate::arguments::Offline;
use crate::failure::Failure;
use crate::handshake::{Client, establish};
use crate::ledger::{Arrival, Ledger};
use crate::packets::{Dialect, Identity, PublishShape, describe};
use crate::report::{Meter, Report, growth_each, per_second, ratio};
use crate::swarm::{LinkId, Swarm, Talk, Then};
use crate::traffic::{Order, Plan, Shape, Traffic, drive, progress, run_number};
use crate::wire::{self, Frame, Stamp, put_ack};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the broker rests before its memory is read.
const QUIET: Duration = Duration::from_secs(2);

/// Runs `offline`.
pub(crate) fn run(options: &Offline) -> Result<Report, Failure> {
    let target = &options.target;
    if options.publishers == 0
        || options.sessions == 0
        || !options.sessions.is_multiple_of(options.publishers)
    {
        let why = "--sessions must be a multiple of --publishers, both at least 1";
        return Err(Failure::Usage(why.to_owned()));
    }
    let run = run_number();
    let meter = Meter::new(target.pid);
    let rss_kb_start = meter.rss_kb()?;
    let quiet = QUIET.min(target.seconds()?);

    target.progress(|| format!("offline: {} sessions", options.sessions));
    let mut swarm = Swarm::new(target.target()?)?;
    establish(&mut swarm, target.dialect(), sessions(options, run, true))?;
    swarm.part();
    sleep(quiet);
    let rss_kb_sessions = meter.rss_kb()?;

    let (mut report, stored) = store(options, &meter, run)?;
    let count = (options.sessions * options.messages) as u64;
    let stretch = stored;
    report.store_cpu_us_per_msg = stretch.broker.map(|cpu| ratio(cpu.total_us(), count));
    report.stores_per_s = Some(per_second(count, stretch.seconds));
    sleep(quiet);
    let rss_kb_end = meter.rss_kb()?;

    drain(options, &meter, run, &mut report)?;
    report.rss_kb_start = rss_kb_start;
    report.rss_kb_end = rss_kb_end;
    report.bytes_per_session = growth_each(rss_kb_start, rss_kb_sessions, options.sessions);
    report.bytes_per_msg = growth_each(rss_kb_sessions, rss_kb_end, count as usize);

    // Leave nothing behind.
    let mut swarm = Swarm::new(target.target()?)?;
    establish(&mut swarm, target.dialect(), sessions(options, run, false))?;
    swarm.part();
    Ok(report)
}

fn identity(options: &Offline, run: u32, index: usize) -> Identity {
    Identity { client_id: format!("{}-offline-{run}-{index}", options.target.prefix), ..Identity::default() }
}

fn topic(options: &Offline, index: usize) -> String {
    format!("{}/offline/{index}", options.target.prefix)
}

/// The clients: with a session that stays and a subscription, or with a clean one that ends it.
fn sessions(options: &Offline, run: u32, persistent: bool) -> Vec<Client> {
    (0..options.sessions)
        .map(|index| {
            let identity = Identity { persistent, ..identity(options, run, index) };
            let filters = if persistent { vec![topic(options, index)] } else { vec![] };
            Client { identity, ..Client::default() }.subscribed(filters, options.qos)
        })
        .collect()
}

/// Publishes all messages, in turn over the sessions.
fn store(options: &Offline, meter: &Meter, run: u32) -> Result<(Report, crate::report::Stretch), Failure> {
    let target = &options.target;
    let each = options.sessions / options.publishers;
    let topics = (0..options.publishers)
        .map(|publisher| {
            (0..each).map(|turn| topic(options, turn * options.publishers + publisher)).collect()
        })
        .collect();
    let clients =
        (0..options.publishers).map(|index| Client::new(format!("{}-offline-p-{index}", target.prefix)));
    let mut swarm = Swarm::new(target.target()?)?;
    let admission = establish(&mut swarm, target.dialect(), clients.collect())?;
    let window = options.window.min(usize::from(admission.receive_maximum));
    let mut traffic = Traffic::new(Plan {
        dialect: target.dialect(),
        strict: target.strict,
        run,
        shape: Shape::Nobody,
        publish: PublishShape { qos: options.qos, ..PublishShape::default() },
        size: options.size,
        window,
        topics,
        order: Order::InTurn,
        limit: Some((each * options.messages) as u64),
        timed: false,
        receivers: 0,
        first_publisher: admission.first.0,
    })?;
    let mark = meter.mark()?;
    drive(&mut swarm, &mut traffic, None, target.stall()?, progress("offline: storing", target))?;
    let stretch = meter.since(mark)?;
    let count = (options.sessions * options.messages) as u64;
    let acknowledged = traffic.acknowledged;
    let mut report = traffic.report;
    report.scenario = String::from("offline");
    report.version = String::from(target.dialect().name());
    report.qos = options.qos;
    report.size = options.size;
    report.window = Some(window);
    report.publishers = Some(options.publishers);
    report.receivers = Some(options.sessions);
    if acknowledged != count {
        report.fault(format!("{acknowledged} of {count} messages acknowledged"));
    }
    swarm.part();
    Ok((report, stretch))
}

/// Brings all sessions back and takes what is theirs.
fn drain(options: &Offline, meter: &Meter, run: u32, report: &mut Report) -> Result<(), Failure> {
    let target = &options.target;
    let count = (options.sessions * options.messages) as u64;
    let mut drain = Drain {
        dialect: target.dialect(),
        strict: target.strict,
        run,
        publishers: options.publishers as u64,
        each: (options.sessions / options.publishers) as u64,
        ledger: Ledger::new(options.sessions),
        unique: 0,
        report,
    };
    let mut swarm = Swarm::new(target.target()?)?;
    let mark = meter.mark()?;
    for index in 0..options.sessions {
        let identity = Identity { persistent: true, resume: true, ..identity(options, run, index) };
        swarm.open(target.dialect().connect(&identity)?)?;
    }
    let mut moved = (0, Instant::now());
    while drain.unique < count {
        swarm.turn(Some(Duration::from_millis(10)), &mut drain)?;
        swarm.flush(&mut drain);
        if drain.unique != moved.0 {
            moved = (drain.unique, Instant::now());
        } else if moved.1.elapsed() > target.stall()? {
            drain.report.stalls += 1;
            break;
        }
    }
    let stretch = meter.since(mark)?;
    for _ in 0..3 {
        swarm.turn(Some(Duration::from_millis(5)), &mut drain)?;
        swarm.flush(&mut drain);
    }
    let unique = drain.unique;
    swarm.part();
    report.lost += count - unique;
    report.enter(&stretch, unique);
    target.progress(|| format!("offline: drained {unique} at {:.0} messages/s", report.msgs_per_s));
    Ok(())
}

struct Drain<'a> {
    dialect: Dialect,
    strict: bool,
    run: u32,
    publishers: u64,
    /// Sessions of each publisher.
    each: u64,
    ledger: Ledger,
    unique: u64,
    report: &'a mut Report,
}

impl Drain<'_> {
    fn publish(&mut self, session: u32, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let Some(publish) = wire::publish(frame, self.dialect.is_v5()) else {
            self.report.fault("a PUBLISH whose fields do not fit");
            return;
        };
        match publish.qos {
            0 => {}
            1 => put_ack(out, 0x40, publish.id),
            _ => put_ack(out, 0x50, publish.id),
        }
        // Publisher p sends its n-th message to its session n % each, which is session (n % each) * publishers + p.
        let arrival = Stamp::take(publish.payload)
            .map(|(stamp, _)| stamp)
            .filter(|stamp| stamp.run == self.run)
            .filter(|stamp| {
                stamp.sequence % self.each * self.publishers + u64::from(stamp.publisher)
                    == u64::from(session)
            })
            .and_then(|stamp| self.ledger.arrived(session as usize, stamp.sequence / self.each));
        match arrival {
            None => self.report.fault("a message of somebody else"),
            Some(Arrival::Duplicate) => self.report.duplicates += 1,
            Some(arrival) => {
                self.unique += 1;
                self.report.out_of_order += u64::from(arrival == Arrival::Late);
            }
        }
    }
}

impl Talk for Drain<'_> {
    fn frame(&mut self, link: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Then {
        if self.strict
            && let Err(what) = self.dialect.check(frame)
        {
            self.report.fault(what);
        }
        match frame.kind() {
            2 => match self.dialect.connack(frame) {
                Ok(granted) if granted.session_present => {}
                Ok(_) => self.report.fault("a session was not kept"),
                Err(failure) => self.report.fault(failure.to_string()),
            },
            3 => self.publish(link.0, frame, out),
            6 => put_ack(out, 0x70, frame.id().unwrap_or(0)),
            _ => self.report.fault(describe(frame, self.dialect)),
        }
        Then::GoOn
    }

    fn lost(&mut self, link: LinkId, why: &str) {
        self.report.fault(format!("session {}: connection lost: {why}", link.0));
    }
}
