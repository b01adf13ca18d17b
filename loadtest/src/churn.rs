//! Connections that come and go: connect, subscribe, publish, receive, disconnect, step by step.

use crate::arguments::Churn;
use crate::failure::Failure;
use crate::packets::{Dialect, Identity, PublishShape, describe};
use crate::report::{Meter, Report, per_second};
use crate::swarm::{LinkId, Swarm, Talk, Then};
use crate::traffic::run_number;
use crate::wire::{self, Frame, Stamp, put_ack};
use std::time::{Duration, Instant};

/// What a client waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Awaiting {
    admission: bool,
    subscription: bool,
    message: bool,
    /// QoS > 0: the end of our own publication.
    acknowledgement: bool,
    /// QoS 2: the PUBREL of the message received.
    release: bool,
}

struct Client {
    identity: Identity,
    topic: String,
    awaiting: Awaiting,
    cycle: u64,
    began: Instant,
}

struct Cycles {
    dialect: Dialect,
    strict: bool,
    run: u32,
    qos: u8,
    size: usize,
    clients: Vec<Client>,
    done: u64,
    /// To be opened again.
    gone: Vec<LinkId>,
    report: Report,
}

impl Cycles {
    /// Begins a cycle: what to write first.
    fn hello(&mut self, link: LinkId) -> Result<Vec<u8>, Failure> {
        let Some(client) = self.clients.get_mut(link.0 as usize) else { return Ok(vec![]) };
        client.awaiting = Awaiting { admission: true, ..Awaiting::default() };
        client.cycle += 1;
        client.began = Instant::now();
        self.dialect.connect(&client.identity)
    }

    fn step(&mut self, link: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<Then, Failure> {
        let Some(client) = self.clients.get_mut(link.0 as usize) else { return Ok(Then::GoOn) };
        let awaiting = &mut client.awaiting;
        let id = frame.id().unwrap_or(0);
        match frame.kind() {
            2 if awaiting.admission => {
                self.dialect.connack(frame)?;
                awaiting.admission = false;
                awaiting.subscription = true;
                let filter = [client.topic.clone()];
                out.extend_from_slice(&self.dialect.subscribe(1, &filter, self.qos)?);
                return Ok(Then::GoOn);
            }
            9 if awaiting.subscription => {
                self.dialect.suback(frame, self.qos)?;
                awaiting.subscription = false;
                awaiting.message = true;
                awaiting.acknowledgement = self.qos > 0;
                awaiting.release = self.qos == 2;
                let mut payload = Vec::with_capacity(self.size);
                Stamp { run: self.run, publisher: link.0, sequence: client.cycle }.put(&mut payload);
                payload.resize(self.size, b'.');
                let shape = PublishShape { qos: self.qos, ..PublishShape::default() };
                out.extend_from_slice(&self.dialect.publish(&client.topic, shape, payload)?);
                return Ok(Then::GoOn);
            }
            3 => {
                let publish = wire::publish(frame, self.dialect.is_v5());
                let stamp = publish.and_then(|publish| Stamp::take(publish.payload));
                let ours = Stamp { run: self.run, publisher: link.0, sequence: client.cycle };
                match (stamp, publish.map_or(0, |publish| publish.qos)) {
                    (Some((stamp, _)), _) if stamp != ours => self.report.fault("a message of another cycle"),
                    (None, _) => self.report.fault("a PUBLISH whose fields do not fit"),
                    _ if !awaiting.message => self.report.duplicates += 1,
                    (_, 1) => put_ack(out, 0x40, publish.map_or(0, |publish| publish.id)),
                    (_, 2) => put_ack(out, 0x50, publish.map_or(0, |publish| publish.id)),
                    _ => {}
                }
                awaiting.message = false;
            }
            4 | 7 if awaiting.acknowledgement => awaiting.acknowledgement = false,
            5 => put_ack(out, 0x62, id),
            6 => {
                put_ack(out, 0x70, id);
                awaiting.release = false;
            }
            _ => return Err(Failure::Broker(format!("sent {}", describe(frame, self.dialect)))),
        }
        if client.awaiting != Awaiting::default() {
            return Ok(Then::GoOn);
        }
        self.done += 1;
        out.extend_from_slice(&[0xE0, 0]);
        Ok(Then::Close)
    }
}

impl Talk for Cycles {
    fn frame(&mut self, link: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Then {
        if self.strict
            && let Err(what) = self.dialect.check(frame)
        {
            self.report.fault(what);
        }
        self.step(link, frame, out).unwrap_or_else(|failure| {
            self.report.fault(failure.to_string());
            Then::Close
        })
    }

    fn lost(&mut self, link: LinkId, why: &str) {
        self.report.fault(format!("connection {} lost: {why}", link.0));
        self.gone.push(link);
    }
}

/// Runs `churn`.
pub(crate) fn run(options: &Churn) -> Result<Report, Failure> {
    let target = &options.target;
    if options.size < Stamp::SIZE {
        return Err(Failure::Usage(format!("--size {}: at least {}", options.size, Stamp::SIZE)));
    }
    let dialect = target.dialect();
    let meter = Meter::new(target.pid);
    let rss_kb_start = meter.rss_kb()?;
    let mut cycles = Cycles {
        dialect,
        strict: target.strict,
        run: run_number(),
        qos: options.qos,
        size: options.size,
        clients: (0..options.clients)
            .map(|index| Client {
                identity: Identity {
                    client_id: format!("{}-churn-{index}", target.prefix),
                    keep_alive: 60,
                    ..Identity::default()
                },
                topic: format!("{}/churn/{index}", target.prefix),
                awaiting: Awaiting::default(),
                cycle: 0,
                began: Instant::now(),
            })
            .collect(),
        done: 0,
        gone: vec![],
        report: Report {
            scenario: "churn".to_owned(),
            version: dialect.name().to_owned(),
            qos: options.qos,
            size: options.size,
            connections: Some(options.clients),
            rss_kb_start,
            ..Report::default()
        },
    };
    let mut swarm = Swarm::new(target.target()?)?;
    for index in 0..options.clients as u32 {
        let hello = cycles.hello(LinkId(index))?;
        swarm.open(hello)?;
    }
    target.progress(|| "churn: warming up".to_owned());
    let stall = target.stall()?;
    go_round(&mut swarm, &mut cycles, target.warmup()?, stall)?;
    let before = cycles.done;
    let mark = meter.mark()?;
    go_round(&mut swarm, &mut cycles, target.seconds()?, stall)?;
    let stretch = meter.since(mark)?;
    let delivered = cycles.done - before;
    target.progress(|| format!("churn: {:.0} cycles/s", per_second(delivered, stretch.seconds)));
    let mut report = cycles.report;
    report.enter(&stretch, delivered);
    report.rss_kb_end = meter.rss_kb()?;
    swarm.part();
    Ok(report)
}

fn go_round(
    swarm: &mut Swarm,
    cycles: &mut Cycles,
    length: Duration,
    stall: Duration,
) -> Result<(), Failure> {
    let end = Instant::now() + length;
    let mut next_look = Instant::now() + stall;
    loop {
        swarm.turn(Some(Duration::from_millis(10)), cycles)?;
        swarm.flush(cycles);
        let now = Instant::now();
        let mut again = swarm.take_closed();
        again.append(&mut cycles.gone);
        if now >= next_look {
            next_look = now + stall;
            for (index, client) in cycles.clients.iter().enumerate() {
                if now.duration_since(client.began) > stall {
                    cycles.report.stalls += 1;
                    cycles.report.lost += u64::from(client.awaiting.message);
                    swarm.cut(LinkId(index as u32));
                    again.push(LinkId(index as u32));
                }
            }
        }
        for link in again {
            let hello = cycles.hello(link)?;
            swarm.reopen(link, hello)?;
        }
        if now >= end {
            return Ok(());
        }
    }
}
