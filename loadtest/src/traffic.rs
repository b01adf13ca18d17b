//! The closed loop: publishers with a window each, receivers that count, and the four shapes of traffic.

use crate::arguments::Target;
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::ledger::{Arrival, Ledger, Rising};
use crate::packets::{Dialect, PublishShape, describe};
use crate::report::{Report, per_second};
use crate::swarm::{LinkId, Swarm, Talk, Then};
use crate::window::Window;
use crate::wire::{self, Frame, Stamp, put_ack};
use std::time::{Duration, Instant};

/// Who gets what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Every receiver gets every message.
    All,
    /// Receiver `i` gets what publisher `i` sends.
    Pairs,
    /// One of the receivers gets it.
    One,
    /// Nobody is there: only the broker acknowledges.
    Nobody,
}

/// Which of a publisher's topics the next message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Random,
    /// In turn, from the first.
    InTurn,
}

/// Everything that a run of traffic needs to be told.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) dialect: Dialect,
    pub(crate) strict: bool,
    pub(crate) run: u32,
    pub(crate) shape: Shape,
    pub(crate) publish: PublishShape,
    pub(crate) size: usize,
    pub(crate) window: usize,
    /// Each publisher's topics.
    pub(crate) topics: Vec<Vec<String>>,
    pub(crate) order: Order,
    /// Messages of each publisher, if it is to stop by itself.
    pub(crate) limit: Option<u64>,
    /// Put the time of sending into each payload and measure how long it takes.
    pub(crate) timed: bool,
    /// Receivers are the first connections of the swarm, publishers those from here on.
    pub(crate) receivers: usize,
    pub(crate) first_publisher: u32,
}

#[derive(Debug)]
struct Publisher {
    window: Window,
    /// Encoded heads, one a topic.
    heads: Vec<Vec<u8>>,
    /// The head without a topic, once the alias is known to the broker.
    alias_head: Option<Vec<u8>>,
    properties: Vec<u8>,
    queued: bool,
    lost: bool,
}

/// The state of a run.
#[derive(Debug)]
pub(crate) struct Traffic {
    plan: Plan,
    publishers: Vec<Publisher>,
    /// Publishers whose window may be open.
    ready: Vec<u32>,
    ledger: Ledger,
    /// `Shape::One`: the order that each member sees.
    members: Rising,
    filler: Vec<u8>,
    /// Payloads begin with a stamp: all but empty ones, which only nobody may be sent.
    stamped: bool,
    random: u64,
    /// When time stamps count from.
    epoch: Instant,
    /// Messages received for the first time.
    pub(crate) unique: u64,
    /// Messages acknowledged by the broker.
    pub(crate) acknowledged: u64,
    pub(crate) latency: Histogram,
    /// Where faults are written down.
    pub(crate) report: Report,
}

impl Traffic {
    /// Prepares a run.
    pub(crate) fn new(plan: Plan) -> Result<Self, Failure> {
        let stamped = plan.shape != Shape::Nobody || plan.size > 0;
        let least = match (stamped, plan.timed) {
            (false, _) => 0,
            (true, false) => Stamp::SIZE,
            (true, true) => Stamp::TIMED_SIZE,
        };
        if plan.size < least {
            return Err(Failure::Usage(format!(
                "--size {}: at least {least}, for what is checked",
                plan.size
            )));
        }
        let fan = match plan.shape {
            Shape::All => plan.receivers as u32,
            Shape::Pairs | Shape::One => 1,
            Shape::Nobody => 0,
        };
        let publishers = plan
            .topics
            .iter()
            .map(|topics| publisher(&plan, topics, fan))
            .collect::<Result<Vec<_>, Failure>>()?;
        let count = publishers.len();
        let mut traffic = Self {
            ledger: Ledger::new(if plan.shape == Shape::All { plan.receivers * count } else { count }),
            members: Rising::new(if plan.shape == Shape::One { plan.receivers * count } else { 0 }),
            filler: vec![b'.'; plan.size - least],
            stamped,
            ready: vec![],
            publishers,
            random: 0x9E37_79B9_7F4A_7C15,
            epoch: Instant::now(),
            unique: 0,
            acknowledged: 0,
            latency: Histogram::default(),
            report: Report::default(),
            plan,
        };
        traffic.wake_all();
        Ok(traffic)
    }

    /// Messages begun by all publishers.
    pub(crate) fn begun(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.window.begun()).sum()
    }

    /// Deliveries that must come for what was begun.
    fn owed(&self) -> u64 {
        self.begun()
            * match self.plan.shape {
                Shape::All => self.plan.receivers as u64,
                Shape::Pairs | Shape::One => 1,
                Shape::Nobody => 0,
            }
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.publishers.iter().all(|publisher| publisher.window.is_empty() || publisher.lost)
    }

    /// Begins measuring anew.
    pub(crate) fn reset_latency(&mut self) {
        self.latency = Histogram::default();
    }

    /// Lets every publisher whose window is open send.
    pub(crate) fn fill(&mut self, swarm: &mut Swarm) {
        while let Some(index) = self.ready.pop() {
            if let Some(publisher) = self.publishers.get_mut(index as usize) {
                publisher.queued = false;
            }
            while self.send(index, swarm) {}
        }
    }

    /// Sends the next message of one publisher; `false` if it may not now.
    pub(crate) fn send(&mut self, index: u32, swarm: &mut Swarm) -> bool {
        let Some(publisher) = self.publishers.get_mut(index as usize) else { return false };
        if publisher.lost || self.plan.limit.is_some_and(|limit| publisher.window.begun() >= limit) {
            return false;
        }
        let Some(sequence) = publisher.window.open() else { return false };
        let Some(out) = swarm.out(LinkId(self.plan.first_publisher + index)) else {
            publisher.lost = true;
            return false;
        };
        let topic = match (self.plan.order, publisher.heads.len() as u64) {
            (_, 0 | 1) => 0,
            (Order::InTurn, count) => sequence % count,
            (Order::Random, count) => {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                self.random % count
            }
        };
        let head = match &publisher.alias_head {
            Some(head) if sequence > 0 => head,
            _ => match publisher.heads.get(topic as usize) {
                Some(head) => head,
                None => return false,
            },
        };
        out.extend_from_slice(head);
        if self.plan.publish.qos > 0 {
            out.extend_from_slice(&Window::id_of(sequence).to_be_bytes());
        }
        out.extend_from_slice(&publisher.properties);
        if self.stamped {
            Stamp { run: self.plan.run, publisher: index, sequence }.put(out);
        }
        if self.plan.timed {
            let now = self.epoch.elapsed().as_nanos() as u64;
            out.extend_from_slice(&now.to_be_bytes());
        }
        out.extend_from_slice(&self.filler);
        true
    }

    /// Gives up what is under way.
    fn abandon(&mut self) {
        self.report.stalls += 1;
        self.publishers.iter_mut().for_each(|publisher| publisher.window.abandon());
        self.wake_all();
    }

    fn wake_all(&mut self) {
        self.ready.clear();
        self.publishers.iter_mut().for_each(|publisher| publisher.queued = true);
        self.ready.extend(0..self.publishers.len() as u32);
    }

    fn wake(&mut self, index: u32) {
        if let Some(publisher) = self.publishers.get_mut(index as usize)
            && !publisher.queued
        {
            publisher.queued = true;
            self.ready.push(index);
        }
    }

    #[inline]
    fn publish(&mut self, receiver: u32, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let Some(publish) = wire::publish(frame, self.plan.dialect.is_v5()) else {
            self.report.fault("a PUBLISH whose fields do not fit");
            return;
        };
        match publish.qos {
            0 => {}
            1 => put_ack(out, 0x40, publish.id),
            _ => put_ack(out, 0x50, publish.id),
        }
        if publish.qos != self.plan.publish.qos {
            self.report
                .fault(format!("a message sent at QoS {} came at {}", self.plan.publish.qos, publish.qos));
        }
        let Some((stamp, rest)) =
            Stamp::take(publish.payload).filter(|(stamp, _)| stamp.run == self.plan.run)
        else {
            self.report.fault("a message of somebody else");
            return;
        };
        if publish.payload.len() != self.plan.size {
            self.report.fault(format!("a payload of {} bytes", publish.payload.len()));
        }
        let arrival = self.enter(receiver as usize, stamp);
        if self.plan.timed
            && let Some((sent, _)) = rest.split_first_chunk::<8>()
        {
            let now = self.epoch.elapsed().as_nanos() as u64;
            self.latency.record(now.saturating_sub(u64::from_be_bytes(*sent)));
        }
        match arrival {
            None => self.report.fault("a message that this receiver did not ask for"),
            Some(Arrival::Duplicate) => self.report.duplicates += 1,
            Some(arrival) => {
                self.unique += 1;
                if arrival == Arrival::Late {
                    self.report.out_of_order += 1;
                }
                let opened = self
                    .publishers
                    .get_mut(stamp.publisher as usize)
                    .is_some_and(|publisher| publisher.window.received(stamp.sequence));
                if opened {
                    self.wake(stamp.publisher);
                }
            }
        }
    }

    #[inline]
    fn enter(&mut self, receiver: usize, stamp: Stamp) -> Option<Arrival> {
        let publisher = stamp.publisher as usize;
        let count = self.publishers.len();
        if publisher >= count {
            return None;
        }
        match self.plan.shape {
            Shape::All => self.ledger.arrived(receiver * count + publisher, stamp.sequence),
            Shape::Pairs if receiver != publisher => None,
            Shape::Pairs => self.ledger.arrived(publisher, stamp.sequence),
            Shape::One => {
                let rises = self.members.rises(receiver * count + publisher, stamp.sequence)?;
                // Members are read in any order, so only what one member sees tells of order.
                Some(match self.ledger.arrived(publisher, stamp.sequence)? {
                    Arrival::Duplicate => Arrival::Duplicate,
                    _ if rises => Arrival::InOrder,
                    _ => Arrival::Late,
                })
            }
            Shape::Nobody => None,
        }
    }

    fn acknowledged(&mut self, link: LinkId, frame: &Frame<'_>) {
        let index = link.0.wrapping_sub(self.plan.first_publisher);
        let publisher = self.publishers.get_mut(index as usize);
        match publisher.zip(frame.id()).and_then(|(publisher, id)| publisher.window.acknowledged(id)) {
            Some(opened) => {
                self.acknowledged += 1;
                if opened {
                    self.wake(index);
                }
            }
            None => {
                self.report.fault(format!("{} that nobody waits for", describe(frame, self.plan.dialect)));
            }
        }
    }

    /// An acknowledgement with a reason of 0x80 or above refuses the message (MQTT 5).
    fn refused(&mut self, frame: &Frame<'_>) {
        if let Some(&reason) = frame.body.get(2)
            && reason >= 0x80
        {
            self.report.fault(format!("{}: reason {reason:#04x}", describe(frame, self.plan.dialect)));
        }
    }
}

fn publisher(plan: &Plan, topics: &[String], fan: u32) -> Result<Publisher, Failure> {
    let parts = |topic: &str| plan.dialect.publish_parts(topic, plan.publish, plan.size);
    let mut properties = vec![];
    let heads = topics
        .iter()
        .map(|topic| {
            let parts = parts(topic)?;
            properties = parts.properties;
            Ok(parts.head)
        })
        .collect::<Result<_, Failure>>()?;
    let alias_head = if plan.publish.alias { Some(parts("")?.head) } else { None };
    let window = Window::new(plan.window, fan, plan.publish.qos > 0);
    Ok(Publisher { window, heads, alias_head, properties, queued: false, lost: false })
}

impl Talk for Traffic {
    #[inline]
    fn frame(&mut self, link: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Then {
        if self.plan.strict
            && let Err(what) = self.plan.dialect.check(frame)
        {
            self.report.fault(what);
        }
        match frame.kind() {
            3 => self.publish(link.0, frame, out),
            4 | 7 => {
                self.refused(frame);
                self.acknowledged(link, frame);
            }
            5 => {
                self.refused(frame);
                put_ack(out, 0x62, frame.id().unwrap_or(0));
            }
            6 => put_ack(out, 0x70, frame.id().unwrap_or(0)),
            13 => {}
            _ => self.report.fault(describe(frame, self.plan.dialect)),
        }
        Then::GoOn
    }

    fn lost(&mut self, link: LinkId, why: &str) {
        self.report.fault(format!("connection {} lost: {why}", link.0));
        let index = link.0.wrapping_sub(self.plan.first_publisher);
        if let Some(publisher) = self.publishers.get_mut(index as usize) {
            publisher.lost = true;
        }
    }
}

/// Runs `traffic` until `until` is there or, if it stops by itself, until all of it is done. Gives up what is under
/// way when nothing moves for `stall`.
pub(crate) fn drive(
    swarm: &mut Swarm,
    traffic: &mut Traffic,
    until: Option<Instant>,
    stall: Duration,
    mut each_turn: impl FnMut(&Traffic),
) -> Result<(), Failure> {
    let mut moved = (traffic.unique + traffic.acknowledged, Instant::now());
    loop {
        traffic.fill(swarm);
        swarm.flush(traffic);
        let now = Instant::now();
        let count = traffic.unique + traffic.acknowledged;
        if count != moved.0 {
            moved = (count, now);
        } else if now.duration_since(moved.1) > stall {
            if until.is_none() {
                traffic.report.stalls += 1;
                return Ok(());
            }
            traffic.abandon();
            moved.1 = now;
        }
        let done = match until {
            Some(end) => now >= end,
            None => {
                traffic.is_idle()
                    && traffic.plan.limit.is_none_or(|limit| {
                        traffic
                            .publishers
                            .iter()
                            .all(|publisher| publisher.lost || publisher.window.begun() >= limit)
                    })
            }
        };
        if done {
            return Ok(());
        }
        swarm.turn(Some(Duration::from_millis(10)), traffic)?;
        each_turn(traffic);
    }
}

/// Lets what is under way arrive, without anything new; then what is missing is lost.
pub(crate) fn settle(swarm: &mut Swarm, traffic: &mut Traffic, stall: Duration) -> Result<(), Failure> {
    traffic.plan.limit = Some(0);
    let mut moved = (traffic.unique + traffic.acknowledged, Instant::now());
    while !traffic.is_idle() && moved.1.elapsed() < stall {
        swarm.flush(traffic);
        swarm.turn(Some(Duration::from_millis(10)), traffic)?;
        let count = traffic.unique + traffic.acknowledged;
        if count != moved.0 {
            moved = (count, Instant::now());
        }
    }
    // A further moment, so that duplicates behind the last message are seen, and the last acknowledgements go out.
    for _ in 0..3 {
        swarm.flush(traffic);
        swarm.turn(Some(Duration::from_millis(5)), traffic)?;
    }
    swarm.flush(traffic);
    traffic.report.lost += traffic.owed().saturating_sub(traffic.unique);
    Ok(())
}

/// Says once a second how it goes.
pub(crate) fn progress<'a>(name: &'a str, target: &'a Target) -> impl FnMut(&Traffic) + use<'a> {
    let mut last = (Instant::now(), None);
    move |traffic| {
        let count =
            traffic.unique + if traffic.plan.shape == Shape::Nobody { traffic.acknowledged } else { 0 };
        let before = *last.1.get_or_insert(count);
        let elapsed = last.0.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let rate = per_second(count - before, elapsed.as_secs_f64());
            target.progress(|| format!("{name}: {rate:.0} messages/s"));
            last = (Instant::now(), Some(count));
        }
    }
}

/// Differs from run to run.
pub(crate) fn run_number() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() as u32
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::wire::{Split, split};

    const RUN: u32 = 7;

    fn traffic(shape: Shape, receivers: usize, qos: u8) -> Traffic {
        Traffic::new(Plan {
            dialect: Dialect::V311,
            strict: true,
            run: RUN,
            shape,
            publish: PublishShape { qos, ..PublishShape::default() },
            size: Stamp::SIZE,
            window: 8,
            topics: vec![vec!["t".to_owned()], vec!["u".to_owned()]],
            order: Order::Random,
            limit: None,
            timed: false,
            receivers,
            first_publisher: receivers as u32,
        })
        .unwrap()
    }

    /// A message of publisher 0 arrives; what is answered.
    fn arrive(traffic: &mut Traffic, receiver: u32, run: u32, sequence: u64, qos: u8) -> Vec<u8> {
        let mut payload = vec![];
        Stamp { run, publisher: 0, sequence }.put(&mut payload);
        let shape = PublishShape { qos, ..PublishShape::default() };
        let packet = Dialect::V311.publish("t", shape, payload).unwrap();
        let Split::Frame(frame) = split(&packet) else { return vec![] };
        let mut out = vec![];
        traffic.frame(LinkId(receiver), &frame, &mut out);
        out
    }

    fn found(traffic: &Traffic) -> (u64, u64, u64, u64) {
        (traffic.unique, traffic.report.out_of_order, traffic.report.duplicates, traffic.report.faults)
    }

    #[test]
    fn a_broker_that_swaps_or_repeats_is_found_out() {
        let mut traffic = traffic(Shape::Pairs, 2, 0);
        for sequence in [0, 2, 1, 1, 3] {
            assert!(arrive(&mut traffic, 0, RUN, sequence, 0).is_empty());
        }
        assert_eq!(found(&traffic), (4, 1, 1, 0));
    }

    #[test]
    fn so_is_one_that_delivers_to_the_wrong_receiver_or_what_was_not_sent() {
        let mut traffic = traffic(Shape::Pairs, 2, 1);
        assert_eq!(arrive(&mut traffic, 0, RUN, 0, 1), [0x40, 2, 0, 1]);
        assert_eq!(found(&traffic), (1, 0, 0, 0));
        arrive(&mut traffic, 1, RUN, 1, 1);
        arrive(&mut traffic, 0, RUN + 1, 1, 1);
        arrive(&mut traffic, 0, RUN, u64::MAX, 1);
        assert_eq!(found(&traffic), (1, 0, 0, 3), "{:?}", traffic.report.fault_examples);
        arrive(&mut traffic, 0, RUN, 1, 0);
        assert_eq!(found(&traffic), (2, 0, 0, 4), "the wrong QoS");
    }

    #[test]
    fn a_group_may_share_out_but_neither_swap_for_a_member_nor_repeat() {
        let mut traffic = traffic(Shape::One, 2, 0);
        for (member, sequence) in [(0, 0), (1, 2), (0, 1), (0, 3)] {
            arrive(&mut traffic, member, RUN, sequence, 0);
        }
        assert_eq!(found(&traffic), (4, 0, 0, 0));
        arrive(&mut traffic, 1, RUN, 3, 0);
        assert_eq!(found(&traffic), (4, 0, 1, 0), "both members had it");
        arrive(&mut traffic, 1, RUN, 5, 0);
        arrive(&mut traffic, 1, RUN, 4, 0);
        assert_eq!(found(&traffic), (6, 1, 1, 0), "one member saw 5 before 4");
    }

    #[test]
    fn everybody_must_have_everything() {
        let mut traffic = traffic(Shape::All, 3, 0);
        let mut swarm = Swarm::new("127.0.0.1:1".parse().unwrap()).unwrap();
        // Nobody is connected: sending fails, but the message counts as begun.
        assert!(!traffic.send(0, &mut swarm));
        arrive(&mut traffic, 0, RUN, 0, 0);
        arrive(&mut traffic, 2, RUN, 0, 0);
        assert!(traffic.owed() == 3 && traffic.unique == 2);
        settle(&mut swarm, &mut traffic, Duration::ZERO).unwrap();
        assert_eq!(traffic.report.lost, 1);
    }
}
