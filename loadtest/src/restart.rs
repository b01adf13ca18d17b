//! A broker with a store that starts again: how long until it answers, what it holds then, and whether it is all there.

use crate::arguments::Restart;
use crate::compare::free_port;
use crate::failure::Failure;
use crate::folder::Folder;
use crate::handshake::{Client, establish};
use crate::packets::{Dialect, Identity, PublishShape, describe};
use crate::process::Process;
use crate::report::{Meter, Report, Started, growth_each};
use crate::retained::{Fill, store};
use crate::swarm::{LinkId, Swarm, Talk, Then};
use crate::traffic::run_number;
use crate::wire::{self, Frame, Split, Stamp};
use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Sessions that are made at the same time: a process may have 20,000 files here.
const WAVE: usize = 5_000;

/// For a broker to listen, to answer, or to end.
const PATIENCE: Duration = Duration::from_mins(5);

/// How often somebody knocks at a broker that starts.
const KNOCK: Duration = Duration::from_millis(5);

/// How long the broker rests before its memory is read.
const QUIET: Duration = Duration::from_secs(2);

/// How a broker is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Kill,
    Stop,
}

/// Runs `restart`.
pub(crate) fn run(options: &Restart) -> Result<Report, Failure> {
    if options.sessions == 0 || options.topics == 0 || options.samples == 0 {
        return Err(Failure::Usage("--sessions, --topics and --samples are at least 1".to_owned()));
    }
    let store = Folder::new(options.directory.as_deref())?;
    let port = free_port()?;
    let words: Vec<String> =
        options.broker.split_whitespace().map(|word| store.fill_in(word, port)).collect();
    let mut target = options.target.clone();
    target.addr = format!("127.0.0.1:{port}");
    let options = &Restart { target, ..options.clone() };
    let address = options.target.target()?;

    let (mut broker, _) = Broker::start(&words, address, options)?;
    let mut report = fill(options, &mut broker)?;
    for ending in [Ending::Kill, Ending::Stop] {
        let name = if ending == Ending::Kill { "kill" } else { "stop" };
        let before = broker.rss_kb();
        let ended = broker.end(ending)?;
        let store_bytes = bytes_below(&store.0);
        let (again, mut started) = Broker::start(&words, address, options)?;
        broker = again;
        name.clone_into(&mut started.after);
        started.stopped_s = ended.as_secs_f64();
        started.store_bytes = store_bytes;
        started.rss_kb_before = before.unwrap_or(0);
        started.rss_kb = broker.rss_kb()?;
        options.target.progress(|| {
            format!(
                "restart: after {name} (ended in {:.1} s, {store_bytes} bytes) it answers after {:.2} s with {} KiB",
                started.stopped_s, started.connack_s, started.rss_kb
            )
        });
        check(options, report.run, &mut started, &mut report)?;
        report.started.push(started);
    }
    let last = report.started.last().map_or(0.0, |last| last.connack_s);
    report.seconds = last;
    Ok(report)
}

/// Makes all sessions and retained messages.
fn fill(options: &Restart, broker: &mut Broker) -> Result<Report, Failure> {
    let target = &options.target;
    let meter = Meter::new(Some(broker.child.id()));
    let rss_kb_start = meter.rss_kb()?;
    let mark = meter.mark()?;
    let mut from = 0;
    while from < options.sessions {
        let to = (from + WAVE).min(options.sessions);
        let clients = (from..to).map(|index| client(options, index)).collect();
        let mut swarm = Swarm::new(target.target()?)?;
        establish(&mut swarm, target.dialect(), clients)?;
        swarm.part();
        from = to;
        if from.is_multiple_of(20 * WAVE) {
            target.progress(|| format!("restart: {from} sessions"));
        }
    }
    let made = meter.since(mark)?;
    sleep(QUIET);
    let rss_kb_sessions = meter.rss_kb()?;
    let run = run_number();
    let fill = Fill {
        target,
        topics: options.topics,
        publishers: options.publishers,
        window: options.window,
        size: options.size,
    };
    let (stored, mut report) = store(&fill, &meter, &retained_name(options), run, options.size)?;
    sleep(QUIET);
    let rss_kb_end = meter.rss_kb()?;
    target.progress(|| format!("restart: filled in {:.0} s and {:.0} s", made.seconds, stored.seconds));
    report.run = run;
    report.scenario = String::from("restart");
    report.receivers = Some(options.sessions);
    report.rss_kb_start = rss_kb_start;
    report.rss_kb_end = rss_kb_end;
    report.bytes_per_session = growth_each(rss_kb_start, rss_kb_sessions, options.sessions);
    report.bytes_per_msg = growth_each(rss_kb_sessions, rss_kb_end, options.topics);
    Ok(report)
}

fn identity(options: &Restart, index: usize) -> Identity {
    let client_id = format!("{}-restart-{index}", options.target.prefix);
    Identity { client_id, persistent: true, resume: true, ..Identity::default() }
}

fn own_topic(options: &Restart, index: usize) -> String {
    format!("{}/restart/s/{index}", options.target.prefix)
}

fn client(options: &Restart, index: usize) -> Client {
    Client { identity: identity(options, index), ..Client::default() }
        .subscribed(vec![own_topic(options, index)], 1)
}

fn retained_name(options: &Restart) -> String {
    format!("{}/restart/r", options.target.prefix)
}

/// Brings back a sample of the sessions, each of which must be there and get what it sends itself; and asks for a sample
/// of the retained messages.
fn check(options: &Restart, run: u32, started: &mut Started, report: &mut Report) -> Result<(), Failure> {
    let target = &options.target;
    let spread = |all: usize| -> Vec<usize> {
        let samples = options.samples.min(all);
        (0..samples).map(|sample| sample * all / samples).collect()
    };
    let (sessions, topics) = (spread(options.sessions), spread(options.topics));
    let name = retained_name(options);
    let mut swarm = Swarm::new(target.target()?)?;
    let reader = Client::new(format!("{}-restart-reader", target.prefix));
    let mut talk = Check {
        dialect: target.dialect(),
        run,
        publishers: options.publishers as u64,
        own: sessions.iter().map(|&index| own_topic(options, index)).collect(),
        topics: topics.iter().map(|&index| (index as u64, false)).collect(),
        present: 0,
        echoed: 0,
        retained: 0,
        report,
    };
    for &index in &sessions {
        swarm.open(talk.dialect.connect(&identity(options, index))?)?;
    }
    let reading = swarm.open(talk.dialect.connect(&reader.identity)?)?;
    let filters: Vec<String> = topics.iter().map(|index| format!("{name}/{index}")).collect();
    for some in filters.chunks(64) {
        let packet = talk.dialect.subscribe(1, some, 0)?;
        swarm.out(reading).into_iter().for_each(|out| out.extend_from_slice(&packet));
    }
    let wanted = (sessions.len(), topics.len());
    let mut moved = ((0, 0), Instant::now());
    while (talk.echoed, talk.retained) != wanted {
        swarm.turn(Some(Duration::from_millis(10)), &mut talk)?;
        swarm.flush(&mut talk);
        let now = (talk.present + talk.echoed, talk.retained);
        if now != moved.0 {
            moved = (now, Instant::now());
        } else if moved.1.elapsed() > target.stall()? {
            break;
        }
    }
    let (present, echoed, retained) = (talk.present, talk.echoed, talk.retained);
    swarm.part();
    (started.sessions_present, started.retained_back) = (present, retained);
    report.delivered += (echoed + retained) as u64;
    if (present, echoed, retained) != (wanted.0, wanted.0, wanted.1) {
        let after = &started.after;
        report.fault(format!(
            "after {after}: of {} sessions {present} were kept and {echoed} subscribed; of {} retained messages {retained} came",
            wanted.0, wanted.1
        ));
    }
    Ok(())
}

struct Check<'a> {
    dialect: Dialect,
    run: u32,
    publishers: u64,
    /// What each sampled session has subscribed to; the reader comes behind them.
    own: Vec<String>,
    /// Sampled retained topics, and whether they came.
    topics: HashMap<u64, bool>,
    present: usize,
    echoed: usize,
    retained: usize,
    report: &'a mut Report,
}

impl Check<'_> {
    fn connected(&mut self, link: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        let granted = self.dialect.connack(frame)?;
        if let Some(topic) = self.own.get(link.0 as usize) {
            self.present += usize::from(granted.session_present);
            let payload = topic.as_bytes().to_vec();
            out.extend_from_slice(&self.dialect.publish(topic, PublishShape::default(), payload)?);
        }
        Ok(())
    }

    fn publish(&mut self, link: LinkId, frame: &Frame<'_>) {
        let Some(publish) = wire::publish(frame, self.dialect.is_v5()) else {
            return self.report.fault("a PUBLISH whose fields do not fit");
        };
        if let Some(own) = self.own.get(link.0 as usize) {
            if publish.topic == own.as_bytes() && publish.payload == own.as_bytes() {
                self.echoed += 1;
            } else {
                self.report.fault("a message of somebody else");
            }
            return;
        }
        let stamp = Stamp::take(publish.payload).filter(|(stamp, _)| stamp.run == self.run && publish.retain);
        let topic = stamp.map(|(stamp, _)| stamp.sequence * self.publishers + u64::from(stamp.publisher));
        match topic.and_then(|topic| self.topics.get_mut(&topic)) {
            Some(seen) if !*seen => {
                *seen = true;
                self.retained += 1;
            }
            Some(_) => self.report.duplicates += 1,
            None => self.report.fault("a retained message that was not asked for"),
        }
    }
}

impl Talk for Check<'_> {
    fn frame(&mut self, link: LinkId, frame: &Frame<'_>, out: &mut Vec<u8>) -> Then {
        match frame.kind() {
            2 => {
                if let Err(failure) = self.connected(link, frame, out) {
                    self.report.fault(failure.to_string());
                }
            }
            3 => self.publish(link, frame),
            9 => {}
            _ => self.report.fault(describe(frame, self.dialect)),
        }
        Then::GoOn
    }

    fn lost(&mut self, link: LinkId, why: &str) {
        self.report.fault(format!("connection {} lost: {why}", link.0));
    }
}

/// Bytes of all files below a directory.
fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_below(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// The broker under test; killed when dropped.
struct Broker {
    child: Child,
}

impl Broker {
    /// Starts it, and waits until it has answered a CONNECT.
    fn start(words: &[String], address: SocketAddr, options: &Restart) -> Result<(Self, Started), Failure> {
        let (program, rest) =
            words.split_first().ok_or_else(|| Failure::Usage("--broker names no program".to_owned()))?;
        let output = if options.server_output { Stdio::inherit() } else { Stdio::null() };
        let begin = Instant::now();
        let child = Command::new(program)
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .map_err(Failure::io(format!("starting {program}")))?;
        let mut broker = Self { child };
        let mut stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(error) if begin.elapsed() > PATIENCE => {
                    return Err(Failure::io(format!("connecting to {address}"))(error));
                }
                Err(_) => broker.must_live()?,
            }
            sleep(KNOCK);
        };
        let listening_s = begin.elapsed().as_secs_f64();
        let dialect = options.target.dialect();
        let hello = dialect.connect(&Client::new("restart-knock".to_owned()).identity)?;
        let talking = Failure::io("waiting for CONNACK");
        let answered = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.write_all(&hello))
            .and_then(|()| answer(&mut stream));
        let answer = answered.map_err(talking)?;
        if let Split::Frame(frame) = wire::split(&answer) {
            dialect.connack(&frame)?;
        }
        let connack_s = begin.elapsed().as_secs_f64();
        Ok((broker, Started { listening_s, connack_s, ..Started::default() }))
    }

    fn must_live(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::Broker(format!("ended while it started: {status}"))),
            Err(error) => Err(Failure::io("looking after the broker")(error)),
        }
    }

    fn rss_kb(&self) -> Result<u64, Failure> {
        Process::new(self.child.id()).rss_kb()
    }

    /// Ends it, and says how long that took.
    fn end(&mut self, ending: Ending) -> Result<Duration, Failure> {
        let begin = Instant::now();
        match ending {
            Ending::Kill => self.child.kill().map_err(Failure::io("killing the broker"))?,
            Ending::Stop => {
                let asked = Command::new("kill").arg(self.child.id().to_string()).status();
                asked.map_err(Failure::io("stopping the broker"))?;
            }
        }
        loop {
            match self.child.try_wait() {
                Ok(Some(_)) => return Ok(begin.elapsed()),
                Ok(None) if begin.elapsed() > PATIENCE => {
                    return Err(Failure::Broker("does not end".to_owned()));
                }
                Ok(None) => sleep(KNOCK),
                Err(error) => return Err(Failure::io("waiting for the broker's end")(error)),
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first packet that comes.
fn answer(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 256];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
        if matches!(wire::split(&bytes), Split::Frame(_)) {
            return Ok(bytes);
        }
    }
}
