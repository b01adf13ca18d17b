//! The closed-loop scenarios: from the command line's options to clients, topics and filters, and a run of traffic.

use crate::arguments::Flow;
use crate::failure::Failure;
use crate::handshake::{Client, establish};
use crate::packets::PublishShape;
use crate::report::{Meter, Report};
use crate::swarm::Swarm;
use crate::traffic::{Order, Plan, Shape, Traffic, drive, progress, run_number, settle};
use std::time::Instant;

/// A scenario of the closed loop, before its options are applied.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) publishers: usize,
    pub(crate) receivers: usize,
    /// Receivers' sessions outlive their connections.
    pub(crate) persistent: bool,
}

impl Scenario {
    fn topic(&self, flow: &Flow, index: usize) -> String {
        format!("{}/{}/{index}", flow.target.prefix, self.name)
    }

    /// Each publisher's topics.
    fn topics(&self, flow: &Flow) -> Vec<Vec<String>> {
        let publishers = self.publishers;
        let mut topics = vec![vec![]; publishers];
        match self.shape {
            // All publishers share all topics, so that each subscriber has few subscriptions.
            Shape::All if self.name == "fanout" => {
                let all: Vec<_> = (0..flow.topics.max(1)).map(|index| self.topic(flow, index)).collect();
                topics.fill(all);
            }
            _ => {
                for index in 0..flow.topics.max(publishers) {
                    if let Some(own) = topics.get_mut(index % publishers) {
                        own.push(self.topic(flow, index));
                    }
                }
            }
        }
        topics
    }

    /// The filters of receiver `index`.
    fn filters(&self, flow: &Flow, index: usize, topics: &[Vec<String>]) -> Vec<String> {
        let wildcard = format!("{}/{}/+", flow.target.prefix, self.name);
        match self.shape {
            Shape::One => vec![format!("$share/g/{wildcard}")],
            Shape::All if self.name == "fanin" => vec![wildcard],
            Shape::All => topics.first().cloned().unwrap_or_default(),
            Shape::Pairs | Shape::Nobody => topics.get(index).cloned().unwrap_or_default(),
        }
    }

    /// Connects everybody; the swarm then is ready for traffic.
    pub(crate) fn prepare(&self, flow: &Flow, timed: bool) -> Result<(Swarm, Traffic), Failure> {
        let target = &flow.target;
        self.check(flow)?;
        let dialect = target.dialect();
        let topics = self.topics(flow);
        let run = run_number();
        let name = |role: &str, index: usize| format!("{}-{}-{role}-{index}", target.prefix, self.name);
        let receivers = (0..self.receivers)
            .map(|index| {
                let mut client =
                    Client::new(name("r", index)).subscribed(self.filters(flow, index, &topics), flow.qos);
                client.identity.alias_maximum = if flow.alias { 16 } else { 0 };
                client.identity.persistent = self.persistent;
                client
            })
            .collect();
        let publishers = (0..self.publishers).map(|index| Client::new(name("p", index))).collect();
        let mut swarm = Swarm::new(target.target()?)?;
        target.progress(|| format!("{}: connecting", self.name));
        establish(&mut swarm, dialect, receivers)?;
        let admission = establish(&mut swarm, dialect, publishers)?;
        if flow.alias && admission.alias_maximum == 0 {
            return Err(Failure::Broker("takes no topic alias".to_owned()));
        }
        let mut window = flow.window;
        if flow.qos > 0 && window > usize::from(admission.receive_maximum) {
            window = usize::from(admission.receive_maximum);
            target.progress(|| {
                format!("{}: the broker's receive maximum makes the window {window}", self.name)
            });
        }
        let mut traffic = Traffic::new(Plan {
            dialect,
            strict: target.strict,
            run,
            shape: self.shape,
            publish: PublishShape {
                qos: flow.qos,
                retain: false,
                user_properties: flow.user_properties,
                alias: flow.alias,
            },
            size: flow.size,
            window,
            topics,
            order: Order::Random,
            limit: None,
            timed,
            receivers: self.receivers,
            first_publisher: admission.first.0,
        })?;
        traffic.report = Report {
            scenario: self.name.to_owned(),
            version: dialect.name().to_owned(),
            qos: flow.qos,
            size: flow.size,
            window: Some(window),
            publishers: Some(self.publishers),
            receivers: Some(self.receivers),
            connections: Some(swarm.count()),
            ..Report::default()
        };
        Ok((swarm, traffic))
    }

    fn check(&self, flow: &Flow) -> Result<(), Failure> {
        let wrong = if self.publishers == 0 || self.receivers == 0 {
            "at least one publisher and one receiver are needed"
        } else if flow.alias && !flow.target.v5 {
            "--alias needs --v5"
        } else if flow.user_properties > 0 && !flow.target.v5 {
            "--user-properties needs --v5"
        } else if flow.alias && flow.topics > 0 {
            "--alias goes with one topic for each publisher, not with --topics"
        } else {
            return Ok(());
        };
        Err(Failure::Usage(wrong.to_owned()))
    }

    /// The whole scenario.
    pub(crate) fn run(&self, flow: &Flow) -> Result<Report, Failure> {
        let target = &flow.target;
        let meter = Meter::new(target.pid);
        let rss = meter.rss_kb()?;
        let (mut swarm, mut traffic) = self.prepare(flow, false)?;
        let stall = target.stall()?;
        target.progress(|| format!("{}: warming up", self.name));
        drive(&mut swarm, &mut traffic, Some(Instant::now() + target.warmup()?), stall, |_| {})?;
        let before = traffic.unique;
        let mark = meter.mark()?;
        let end = Instant::now() + target.seconds()?;
        drive(&mut swarm, &mut traffic, Some(end), stall, progress(self.name, target))?;
        let stretch = meter.since(mark)?;
        let delivered = traffic.unique - before;
        settle(&mut swarm, &mut traffic, stall)?;
        let mut report = traffic.report;
        report.rss_kb_start = rss;
        report.rss_kb_end = meter.rss_kb()?;
        report.enter(&stretch, delivered);
        swarm.part();
        Ok(report)
    }
}
