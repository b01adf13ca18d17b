//! Customers who come as they like, wait and give up, and agents who answer them, all over real connections.
//!
//! Everything is drawn before the run: when a customer comes, how long it waits at most, how long its agent has to do.
//! So what the desk makes of it can be laid beside what theory expects and beside what agents would have done who lose
//! no time. A customer's wait counts from when it was to come, not from when this program got round to it.

mod people;
mod queue;
mod said;

use crate::arguments::Desk;
use crate::failure::Failure;
use crate::handshake::{Client, establish};
use crate::report::{Meter, Percentiles, Report};
use crate::swarm::Swarm;
use people::{People, Plan};
use queue::{Centre, Draw, Queue, ideal};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Longer than any run.
const NEVER: u64 = u64::MAX / 4;

/// How a desk did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Conversations that began in the measured time, and a second.
    pub(crate) arrived: u64,
    pub(crate) arrivals_per_s: f64,
    /// Of these: given to an agent, left by their customers, ended by the desk.
    pub(crate) answered: u64,
    pub(crate) abandoned: u64,
    pub(crate) turned_away: u64,
    /// The part of the agents' capacity that was in use.
    pub(crate) occupancy: f64,
    /// Of the whole run, by the conversations' events: offers, and how they ended.
    pub(crate) offers: u64,
    pub(crate) assigned: u64,
    pub(crate) rejected: u64,
    pub(crate) lapsed: u64,
    /// Conversations that were taken from an agent and waited again.
    pub(crate) requeued: u64,
    pub(crate) offers_per_assignment: f64,
    /// The wait of those who were answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wait_us: Option<Percentiles>,
    /// How much longer each waited than with agents who lose no time: what desk, network and this program add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) beyond_ideal_us: Option<Percentiles>,
    /// From a customer's write to its agent, while that is at work, and from an agent's reply to its customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_us: Option<Percentiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reply_us: Option<Percentiles>,
    /// The queue as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<Queue>,
    /// The same customers with agents who lose no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ideal: Option<Queue>,
    /// Erlang's C, with `--patience` Erlang A; not where agents think, reject or ignore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) theory: Option<Queue>,
}

/// A time of this mean, exponentially distributed, in nanoseconds.
fn exponential(rng: &mut fastrand::Rng, mean_s: f64) -> u64 {
    // Never the logarithm of zero.
    let seconds = -(1.0 - rng.f64()).ln() * mean_s;
    Duration::try_from_secs_f64(seconds).map_or(NEVER, nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER).min(NEVER)
}

impl Desk {
    /// The options' contact centre.
    fn centre(&self) -> Result<Centre, Failure> {
        let usage = |why: String| Err(Failure::Usage(why));
        let part = |part: f64| (0.0..=1.0).contains(&part);
        let mean = |seconds: f64| (0.0..=86_400.0).contains(&seconds);
        if self.agents == 0 || self.capacity == 0 || self.agents > 100_000 || self.capacity > 1000 {
            return usage("--agents: 1 to 100000, --capacity: 1 to 1000".to_owned());
        }
        if !mean(self.handling)
            || self.handling == 0.0
            || !mean(self.patience)
            || !mean(self.think)
            || !mean(self.within)
        {
            return usage(
                "--handling, --patience, --think, --within: seconds, up to a day; --handling not 0"
                    .to_owned(),
            );
        }
        if !part(self.reject) || !part(self.ignore) || self.reject + self.ignore > 0.99 {
            return usage("--reject and --ignore: parts of 1, together at most 0.99".to_owned());
        }
        if self.messages == 0 || self.size < people::STAMP {
            return usage(format!("--messages: at least 1, --size: at least {}", people::STAMP));
        }
        let places = self.agents * self.capacity;
        let patience = (self.patience > 0.0).then_some(self.patience);
        let open = self.load > 0.0 && self.load.is_finite() && (self.load < 1.0 || patience.is_some());
        if !self.closed_loop && !open {
            return usage(format!("--load {}: between 0 and 1; 1 and more only with --patience", self.load));
        }
        if self.tolerance.is_some() && (self.closed_loop || self.think + self.reject + self.ignore > 0.0) {
            return usage(
                "--tolerance: theory knows nothing of --closed-loop, --think, --reject, --ignore".to_owned(),
            );
        }
        let rate = self.load * f64::from(places) / self.handling;
        Ok(Centre { places, rate, handling: self.handling, patience, target: self.within })
    }

    /// All customers of a run of `length` nanoseconds, by the time that they come.
    fn draws(&self, centre: &Centre, length: u64) -> Vec<Draw> {
        if self.closed_loop {
            let held = Draw { arrives: 0, handling: NEVER, patience: NEVER };
            return vec![held; centre.places as usize];
        }
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut draws = vec![];
        let mut arrives = exponential(&mut rng, centre.rate.recip());
        while arrives < length {
            let handling = exponential(&mut rng, self.handling);
            let patience = centre.patience.map_or(NEVER, |mean| exponential(&mut rng, mean));
            draws.push(Draw { arrives, handling, patience });
            arrives += exponential(&mut rng, centre.rate.recip());
        }
        draws
    }

    /// Connections enough that there is always a customer without a conversation: those in conversations and in the
    /// queue, with a wide margin, as far as a process can open files.
    fn crowd(&self, draws: &[Draw], places: u32) -> usize {
        if self.customers > 0 || self.closed_loop {
            return self.customers.max(if self.closed_loop { draws.len() } else { 0 });
        }
        let waits = ideal(draws, places);
        let mut leave: Vec<_> = draws
            .iter()
            .zip(waits)
            .map(|(draw, wait)| draw.arrives + wait.map_or(draw.patience, |wait| wait + draw.handling))
            .collect();
        leave.sort_unstable();
        let mut gone = leave.into_iter().peekable();
        let (mut present, mut most) = (0usize, 0);
        for draw in draws {
            present += 1;
            while gone.next_if(|leaves| *leaves <= draw.arrives).is_some() {
                present -= 1;
            }
            most = most.max(present);
        }
        // Between the end of a conversation and the customer's news of it lies the desk's time.
        most * 2 + 50
    }
}

/// Runs `desk`.
pub(crate) fn run(options: &Desk) -> Result<Report, Failure> {
    let target = &options.target;
    let centre = options.centre()?;
    let (warmup, seconds) = (target.warmup()?, target.seconds()?);
    let length = nanoseconds(warmup + seconds);
    let draws = options.draws(&centre, length);
    let customers = options.crowd(&draws, centre.places);
    let meter = Meter::new(target.pid);
    let rss_kb_start = meter.rss_kb()?;
    let mut people = People::new(Plan::new(options, customers), draws);
    let mut swarm = Swarm::new(target.target()?)?;
    target.progress(|| format!("desk: connecting {} agents and {customers} customers", options.agents));
    let clients: Vec<Client> = people.clients();
    establish(&mut swarm, target.dialect(), clients)?;
    people.sign_in()?;
    let stall = target.stall()?;
    let patience = Instant::now() + stall * 5;
    while !people.ready() {
        turn(&mut swarm, &mut people)?;
        if Instant::now() > patience {
            return Err(Failure::Broker(
                "has not made the agents ready: does it have a desk with this tenant and group? See loadtest/desk.toml"
                    .to_owned(),
            ));
        }
    }

    people.begin();
    let mut said = Instant::now();
    let mut until = |swarm: &mut Swarm, people: &mut People, end: u64| -> Result<(), Failure> {
        while people.now() < end {
            turn(swarm, people)?;
            if said.elapsed() >= Duration::from_secs(1) {
                said = Instant::now();
                target.progress(|| people.progress());
            }
        }
        Ok(())
    };
    if options.closed_loop {
        // The warm-up begins when everybody has an agent.
        let patience = people.now() + nanoseconds(stall * 5);
        while !people.all_talking() && people.now() < patience {
            turn(&mut swarm, &mut people)?;
        }
        people.flow();
    }
    let base = if options.closed_loop { people.now() } else { 0 };
    until(&mut swarm, &mut people, base + nanoseconds(warmup))?;
    people.measure();
    let mark = meter.mark()?;
    let before = people.delivered;
    until(&mut swarm, &mut people, base + length)?;
    let stretch = meter.since(mark)?;
    let delivered = people.delivered - before;
    let (message_us, reply_us) = (Percentiles::of(&people.message), Percentiles::of(&people.reply));
    people.finish();
    let mut moved = (people.moves(), Instant::now());
    while !people.is_over() && moved.1.elapsed() < stall {
        turn(&mut swarm, &mut people)?;
        if people.moves() != moved.0 || people.awaits_time() {
            moved = (people.moves(), Instant::now());
        }
    }
    people.sign_out(&mut swarm)?;

    let mut figures = people.figures(&centre, nanoseconds(warmup));
    (figures.message_us, figures.reply_us) = (message_us, reply_us);
    let mut report = people.close();
    "desk".clone_into(&mut report.scenario);
    target.dialect().name().clone_into(&mut report.version);
    (report.qos, report.size) = (1, options.size);
    report.connections = Some(swarm.count());
    report.window = options.closed_loop.then_some(options.window);
    (report.rss_kb_start, report.rss_kb_end) = (rss_kb_start, meter.rss_kb()?);
    report.enter(&stretch, delivered);
    if let Some((tolerance, (queue, ideal))) = options.tolerance.zip(figures.queue.zip(figures.ideal)) {
        let (far, what) = queue.distance(&ideal);
        if far > tolerance {
            let (far, most) = (100.0 * far, 100.0 * tolerance);
            report
                .fault(format!("{what} is {far:.1} % from what it would be by theory; at most {most:.1} %"));
        }
    }
    report.desk = Some(Box::new(figures));
    swarm.part();
    Ok(report)
}

/// Does what is due, writes, and reads what comes until something else is due.
fn turn(swarm: &mut Swarm, people: &mut People) -> Result<(), Failure> {
    people.fire()?;
    people.send(swarm);
    swarm.flush(people);
    // The system waits in whole milliseconds: the last one is spent looking, so that nobody comes late.
    let wait = people.until_due().map_or(10, |wait| (wait / 1_000_000).min(10));
    swarm.turn(Some(Duration::from_millis(wait)), people)
}

#[cfg(test)]
mod tests;
