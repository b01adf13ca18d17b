//! Retained messages: storing many, and replaying them to a subscriber of all.

use crate::arguments::{Retained, Target};
use crate::failure::Failure;
use crate::handshake::{Client, establish};
use crate::packets::{Dialect, Identity, PublishShape, describe};
use crate::process::Cpu;
use crate::report::{Meter, Report, Stretch, growth_each, per_second, ratio};
use crate::swarm::{LinkId, Swarm, Talk, Then};
use crate::traffic::{Order, Plan, Shape, Traffic, drive, progress, run_number};
use crate::wire::{self, Frame, Stamp, put_ack};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the broker rests before its memory is read.
const QUIET: Duration = Duration::from_secs(2);

/// Runs `retained`.
pub(crate) fn run(options: &Retained) -> Result<Report, Failure> {
    let target = &options.target;
    let name = format!("{}/retained", target.prefix);
    let run = run_number();
    let meter = Meter::new(target.pid);
    let rss_kb_start = meter.rss_kb()?;

    let Retained { topics, publishers, window, size, .. } = *options;
    let fill = Fill { target, topics, publishers, window, size };
    let (stored, mut report) = store(&fill, &meter, &name, run, size)?;
    sleep(QUIET.min(target.seconds()?));
    let rss_kb_end = meter.rss_kb()?;

    let mut replay = Replay {
        dialect: target.dialect(),
        strict: target.strict,
        run,
        filter: format!("{name}/+"),
        qos: options.replay_qos,
        seen: vec![],
        publishers: options.publishers as u64,
        unique: 0,
        report: Report::default(),
    };
    let mut sum = Stretch { seconds: 0.0, broker: target.pid.map(|_| Cpu::default()), own: Cpu::default() };
    let mut delivered = 0;
    for round in 0..options.rounds.max(1) {
        replay.seen = vec![false; options.topics];
        replay.unique = 0;
        let stretch = replay.round(options, &meter, round)?;
        delivered += replay.unique;
        replay.report.lost += options.topics as u64 - replay.unique;
        sum.seconds += stretch.seconds;
        sum.own = add(sum.own, stretch.own);
        sum.broker = sum.broker.zip(stretch.broker).map(|(sum, part)| add(sum, part));
    }
    // An empty retained payload takes the message out again; what is measured then must not be.
    let (_, cleaning) = store(&fill, &Meter::new(None), &name, run, 0)?;

    let found = replay.report;
    report.enter(&sum, delivered);
    report.qos = options.replay_qos;
    report.rss_kb_start = rss_kb_start;
    report.rss_kb_end = rss_kb_end;
    report.bytes_per_msg = growth_each(rss_kb_start, rss_kb_end, options.topics);
    report.store_cpu_us_per_msg = stored.broker.map(|cpu| ratio(cpu.total_us(), options.topics as u64));
    report.stores_per_s = Some(per_second(options.topics as u64, stored.seconds));
    report.duplicates += found.duplicates;
    report.lost += found.lost;
    report.stalls += found.stalls + cleaning.stalls;
    report.faults += found.faults + cleaning.faults;
    report.fault_examples.extend(found.fault_examples.into_iter().chain(cleaning.fault_examples));
    Ok(report)
}

fn add(one: Cpu, other: Cpu) -> Cpu {
    Cpu { user_us: one.user_us + other.user_us, system_us: one.system_us + other.system_us }
}

/// Retained messages to be stored.
pub(crate) struct Fill<'a> {
    pub(crate) target: &'a Target,
    pub(crate) topics: usize,
    pub(crate) publishers: usize,
    pub(crate) window: usize,
    /// Payload bytes, as reported.
    pub(crate) size: usize,
}

/// Publishes one retained message (with `size` 0: the absence of one) to every topic at QoS 1.
pub(crate) fn store(
    options: &Fill<'_>,
    meter: &Meter,
    name: &str,
    run: u32,
    size: usize,
) -> Result<(Stretch, Report), Failure> {
    let target = options.target;
    let mut topics = vec![vec![]; options.publishers];
    for index in 0..options.topics {
        if let Some(own) = topics.get_mut(index % options.publishers.max(1)) {
            own.push(format!("{name}/{index}"));
        }
    }
    let limit = topics.first().map_or(0, Vec::len) as u64;
    if options.publishers == 0 || !(options.topics as u64).is_multiple_of(limit) || limit == 0 {
        return Err(Failure::Usage(
            "--topics must be a multiple of --publishers, both at least 1".to_owned(),
        ));
    }
    let clients =
        (0..options.publishers).map(|index| Client::new(format!("{}-retained-p-{index}", target.prefix)));
    let mut swarm = Swarm::new(target.target()?)?;
    let admission = establish(&mut swarm, target.dialect(), clients.collect())?;
    let window = options.window.min(usize::from(admission.receive_maximum));
    let mut traffic = Traffic::new(Plan {
        dialect: target.dialect(),
        strict: target.strict,
        run,
        shape: Shape::Nobody,
        publish: PublishShape { qos: 1, retain: true, ..PublishShape::default() },
        size,
        window,
        topics,
        order: Order::InTurn,
        limit: Some(limit),
        timed: false,
        receivers: 0,
        first_publisher: admission.first.0,
    })?;
    let mark = meter.mark()?;
    drive(&mut swarm, &mut traffic, None, target.stall()?, progress("retained: storing", target))?;
    let stretch = meter.since(mark)?;
    let mut report = traffic.report;
    report.scenario = String::from("retained");
    report.version = String::from(target.dialect().name());
    report.size = options.size;
    report.window = Some(window);
    report.publishers = Some(options.publishers);
    let missing = options.topics as u64 - traffic.acknowledged.min(options.topics as u64);
    if missing > 0 {
        report.fault(format!("{missing} stores without PUBACK"));
    }
    swarm.part();
    Ok((stretch, report))
}

/// One subscriber that gets everything.
struct Replay {
    dialect: Dialect,
    strict: bool,
    run: u32,
    filter: String,
    qos: u8,
    seen: Vec<bool>,
    publishers: u64,
    unique: u64,
    report: Report,
}

impl Replay {
    fn round(&mut self, options: &Retained, meter: &Meter, round: usize) -> Result<Stretch, Failure> {
        let target = &options.target;
        let identity =
            Identity { client_id: format!("{}-retained-r-{round}", target.prefix), ..Identity::default() };
        let mut swarm = Swarm::new(target.target()?)?;
        let mark = meter.mark()?;
        swarm.open(self.dialect.connect(&identity)?)?;
        let mut moved = (0, Instant::now());
        while self.unique < self.seen.len() as u64 {
            swarm.turn(Some(Duration::from_millis(10)), self)?;
            swarm.flush(self);
            if self.unique != moved.0 {
                moved = (self.unique, Instant::now());
            } else if moved.1.elapsed() > target.stall()? {
                self.report.stalls += 1;
                break;
            }
        }
        let stretch = meter.since(mark)?;
        let rate = per_second(self.unique, stretch.seconds);
        target.progress(|| format!("retained: replayed {} at {rate:.0} messages/s", self.unique));
        swarm.flush(self);
        swarm.part();
        Ok(stretch)
    }

    fn publish(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let Some(publish) = wire::publish(frame, self.dialect.is_v5()) else {
            self.report.fault("a PUBLISH whose fields do not fit");
            return;
        };
        match publish.qos {
            0 => {}
            1 => put_ack(out, 0x40, publish.id),
            _ => put_ack(out, 0x50, publish.id),
        }
        if !publish.retain {
            self.report.fault("a replayed message without the retain flag");
        }
        let stamp = Stamp::take(publish.payload).filter(|(stamp, _)| stamp.run == self.run);
        let topic = stamp.map(|(stamp, _)| stamp.sequence * self.publishers + u64::from(stamp.publisher));
        match topic.and_then(|topic| self.seen.get_mut(topic as usize)) {
            None => self.report.fault("a message of somebody else"),
            Some(true) => self.report.duplicates += 1,
            Some(seen) => {
                *seen = true;
                self.unique += 1;
            }
        }
    }
}

impl Talk for Replay {
    fn frame(&mut self, _: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Then {
        if self.strict
            && let Err(what) = self.dialect.check(frame)
        {
            self.report.fault(what);
        }
        let filter = std::slice::from_ref(&self.filter);
        let answer = match frame.kind() {
            2 => self
                .dialect
                .connack(frame)
                .and_then(|_| self.dialect.subscribe(1, filter, self.qos))
                .map(|packet| out.extend_from_slice(&packet)),
            9 => self.dialect.suback(frame, self.qos).map(|_| ()),
            3 => {
                self.publish(frame, out);
                Ok(())
            }
            // At QoS 1 a retained message may also come at QoS 1 to a QoS 2 subscriber: the lesser of the two.
            6 => {
                put_ack(out, 0x70, frame.id().unwrap_or(0));
                Ok(())
            }
            _ => Err(Failure::Broker(format!("sent {}", describe(frame, self.dialect)))),
        };
        if let Err(failure) = answer {
            self.report.fault(failure.to_string());
        }
        Then::GoOn
    }

    fn lost(&mut self, _: LinkId, why: &str) {
        self.report.fault(format!("the subscriber's connection lost: {why}"));
    }
}
