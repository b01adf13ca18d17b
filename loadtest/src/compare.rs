//! Runs the table against the floor and other servers, in turn, and prints medians and multiples of the floor.
//!
//! Every run has a server of its own, freshly started and ended by its process id, so that no run inherits
//! another's memory or retained messages. Runs are interleaved, and a multiple of the floor is the median of the
//! multiples of the runs made one after the other: the machine's speed drifts, its ratios hardly.

use crate::arguments::Compare;
use crate::failure::Failure;
use crate::folder::Folder;
use crate::report::Report;
use crate::table::{Bar, Figure, ROWS, Row};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const FLOOR: &str = "floor";
/// For a server to listen, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that can be started; `{port}` in its command stands for the port, `{store}` for an empty directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    name: String,
    command: Vec<String>,
}

/// A server that runs; ended when dropped.
struct Running {
    child: Child,
    address: String,
    /// Removed after the server has ended.
    _store: Folder,
}

/// The reports of one server for one row.
#[derive(Debug, Serialize)]
struct Cell {
    row: &'static str,
    server: String,
    figures: Vec<Value>,
    /// Runs that failed or found faults, in words.
    failures: Vec<String>,
    /// One entry a round; none where the run failed.
    runs: Vec<Option<Report>>,
}

/// One figure of a cell.
#[derive(Debug, Clone, Serialize)]
struct Value {
    figure: &'static str,
    median: f64,
    times_floor: Option<f64>,
    reach: String,
    reached: Option<bool>,
    each: Vec<f64>,
}

/// Runs `compare`.
pub(crate) fn run(options: &Compare) -> Result<ExitCode, Failure> {
    let wanted =
        |row: &&Row| options.only.is_empty() || options.only.iter().any(|part| row.name.contains(part));
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    if options.list {
        let lines: Vec<_> = rows.iter().map(|row| format!("{:18} {}", row.name, row.run)).collect();
        return print(&(lines.join("\n") + "\n"));
    }
    let servers = servers(options)?;
    let mut cells: Vec<Cell> = rows
        .iter()
        .flat_map(|row| {
            let takes_part = |server: &&Server| row.floor || server.name != FLOOR;
            servers.iter().filter(takes_part).map(|server| Cell {
                row: row.name,
                server: server.name.clone(),
                figures: vec![],
                failures: vec![],
                runs: vec![],
            })
        })
        .collect();
    for round in 1..=options.runs {
        for cell in &mut cells {
            let Some(row) = rows.iter().find(|row| row.name == cell.row) else { continue };
            let Some(server) = servers.iter().find(|server| server.name == cell.server) else { continue };
            match once(options, server, row) {
                Ok((report, failure)) => {
                    eprintln!(
                        "{round}/{} {:18} {:12} {}",
                        options.runs,
                        row.name,
                        server.name,
                        brief(row, &report)
                    );
                    cell.runs.push(Some(report));
                    cell.failures.extend(failure);
                }
                Err(failure) => {
                    eprintln!("{round}/{} {:18} {:12} {failure}", options.runs, row.name, server.name);
                    cell.runs.push(None);
                    cell.failures.push(failure.to_string());
                }
            }
        }
    }
    evaluate(&rows, &mut cells);
    let json =
        serde_json::to_string(&cells).map_err(std::io::Error::from).map_err(Failure::io("writing JSON"))?;
    print(&format!("{}\n{json}\n", table(&rows, &servers, &cells)))?;
    let clean = cells.iter().all(|cell| cell.failures.is_empty());
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(text: &str) -> Result<ExitCode, Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::io("writing to stdout"))?;
    Ok(ExitCode::SUCCESS)
}

/// The floor and those of the command line.
fn servers(options: &Compare) -> Result<Vec<Server>, Failure> {
    let mut servers = vec![];
    if !options.no_floor {
        let command = [own_path()?.as_str(), "floor", "--bind", "127.0.0.1:{port}"].map(str::to_owned);
        servers.push(Server { name: FLOOR.to_owned(), command: command.into() });
    }
    for text in &options.brokers {
        servers.push(server(text)?);
    }
    Ok(servers)
}

/// `NAME=COMMAND`, split at blanks.
fn server(text: &str) -> Result<Server, Failure> {
    let parsed = text.split_once('=').and_then(|(name, command)| {
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        (!name.is_empty() && !name.contains(char::is_whitespace) && name != FLOOR && !command.is_empty())
            .then(|| Server { name: name.to_owned(), command })
    });
    parsed.ok_or_else(|| Failure::Usage(format!("--broker {text:?}: NAME=COMMAND is wanted")))
}

fn own_path() -> Result<String, Failure> {
    let path = std::env::current_exe().map_err(Failure::io("looking for this program"))?;
    Ok(path.to_string_lossy().into_owned())
}

/// A command on one core, or anywhere.
fn pinned(words: &[String], core: Option<usize>) -> Command {
    let core = core.map(|core| ["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
    let mut words = core.iter().flatten().chain(words);
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words);
    command
}

/// One run against a fresh server: its report, and what was wrong with it.
fn once(options: &Compare, server: &Server, row: &Row) -> Result<(Report, Option<String>), Failure> {
    let core = |core| (!options.unpinned).then_some(core);
    let port = options.port.map_or_else(free_port, Ok)?;
    let running = Running::start(server, core(options.server_core), port, options.server_output)?;
    let (pid, seconds) = (running.child.id().to_string(), options.seconds.to_string());
    let seconds = if row.run.contains("--seconds") { vec![] } else { vec!["--seconds", &seconds] };
    let words: Vec<String> = [own_path()?.as_str()]
        .into_iter()
        .chain(row.run.split_whitespace())
        .chain(["--addr", &running.address, "--pid", &pid, "--json"])
        .chain(seconds)
        .map(str::to_owned)
        .collect();
    let output =
        pinned(&words, core(options.load_core)).output().map_err(Failure::io("starting the load"))?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match serde_json::from_slice(&output.stdout) {
        Ok(report) => Ok((report, (!output.status.success()).then_some(complaint))),
        Err(_) => Err(Failure::Broker(format!("could not be measured: {complaint}"))),
    }
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(Failure::io("looking for a free port"))
}

impl Running {
    fn start(server: &Server, core: Option<usize>, port: u16, output: bool) -> Result<Self, Failure> {
        let store = Folder::new(None)?;
        let words: Vec<String> = server.command.iter().map(|word| store.fill_in(word, port)).collect();
        let sink = || if output { Stdio::inherit() } else { Stdio::null() };
        // What a server prints must not get between our own lines.
        let child = pinned(&words, core)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(sink())
            .spawn()
            .map_err(Failure::io(format!("starting {}", server.name)))?;
        let mut running = Self { child, address: format!("127.0.0.1:{port}"), _store: store };
        let begin = Instant::now();
        while TcpStream::connect(&running.address).is_err() {
            running.must_live(server)?;
            if begin.elapsed() > PATIENCE {
                return Err(Failure::Broker(format!("{} does not listen on {port}", server.name)));
            }
            sleep(Duration::from_millis(20));
        }
        // Let it finish what starting makes it do, before its time and memory count.
        sleep(Duration::from_millis(200));
        // Somebody else may have answered on its port.
        running.must_live(server)?;
        Ok(running)
    }

    fn must_live(&mut self, server: &Server) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::Broker(format!("{} ended at once: {status}", server.name))),
            Err(error) => Err(Failure::io(format!("looking after {}", server.name))(error)),
        }
    }
}

impl Drop for Running {
    /// Asks the server to end, and ends it if it does not. Errors mean that it is gone already.
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).stderr(Stdio::null()).status();
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < PATIENCE {
            sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn brief(row: &Row, report: &Report) -> String {
    let figures = row.figures.iter().filter_map(|(figure, _)| {
        figure.of(report).map(|value| format!("{} {}", number(value), figure.name()))
    });
    figures.collect::<Vec<_>>().join(", ")
}

/// Fills in medians, multiples of the floor and whether the bars are reached.
fn evaluate(rows: &[&Row], cells: &mut [Cell]) {
    // One entry a round, so that a run is compared with the floor's of its own round.
    let each = |cells: &[Cell], row: &str, server: &str, figure: Figure| -> Vec<Option<f64>> {
        let cell = cells.iter().find(|cell| cell.row == row && cell.server == server);
        let of = |run: &Option<Report>| run.as_ref().and_then(|report| figure.of(report));
        cell.map_or_else(Vec::new, |cell| cell.runs.iter().map(of).collect())
    };
    let there = |values: &[Option<f64>]| -> Vec<f64> { values.iter().flatten().copied().collect() };
    let all: Vec<Vec<Value>> = cells
        .iter()
        .map(|cell| {
            let figures = rows.iter().find(|row| row.name == cell.row).map_or(&[][..], |row| row.figures);
            let value = |&(figure, bar): &(Figure, Bar)| {
                let own = each(cells, cell.row, &cell.server, figure);
                let median_own = median(&there(&own))?;
                let floor = each(cells, cell.row, FLOOR, figure);
                let ratio = |(own, floor): (&Option<f64>, &Option<f64>)| Some((*own)? / (*floor)?);
                let times: Vec<f64> = own.iter().zip(&floor).filter_map(ratio).collect();
                let times_floor = median(&times).filter(|times| cell.server != FLOOR && times.is_finite());
                let other = match bar {
                    Bar::TimesRow(row, _) => median(&there(&each(cells, row, &cell.server, figure))),
                    _ => None,
                };
                Some(Value {
                    figure: figure.name(),
                    median: median_own,
                    times_floor,
                    reach: bar.text(),
                    reached: bar.reached(median_own, times_floor, other).filter(|_| cell.server != FLOOR),
                    each: there(&own),
                })
            };
            figures.iter().filter_map(value).collect()
        })
        .collect();
    cells.iter_mut().zip(all).for_each(|(cell, figures)| cell.figures = figures);
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// Three figures that count.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// The Markdown table.
fn table(rows: &[&Row], servers: &[Server], cells: &[Cell]) -> String {
    let mut out = String::from("| work | figure |");
    for server in servers {
        out.extend([" ", &server.name, " |"]);
    }
    out.push_str(" reach |\n|---|---|");
    out.push_str(&"---|".repeat(servers.len() + 1));
    out.push('\n');
    for row in rows {
        for (figure, bar) in row.figures {
            // Writing into a string cannot fail.
            let _ = write!(out, "| {} | {} |", row.name, figure.name());
            for server in servers {
                let cell = cells.iter().find(|cell| cell.row == row.name && cell.server == server.name);
                let _ = write!(out, " {} |", cell.map_or("–".to_owned(), |cell| show(cell, *figure)));
            }
            let _ = writeln!(out, " {} |", bar.text());
        }
    }
    let failures: Vec<_> = cells.iter().filter(|cell| !cell.failures.is_empty()).collect();
    for cell in failures {
        let _ = writeln!(out, "\n{} of {}: {}", cell.row, cell.server, cell.failures.join("; "));
    }
    out
}

fn show(cell: &Cell, figure: Figure) -> String {
    let Some(value) = cell.figures.iter().find(|value| value.figure == figure.name()) else {
        return if cell.failures.is_empty() { "–" } else { "failed" }.to_owned();
    };
    let mut text = number(value.median);
    if let Some(times) = value.times_floor {
        let _ = write!(text, " ({times:.2} ×)");
    }
    match value.reached {
        Some(true) => text.push_str(" ✓"),
        Some(false) => text.push_str(" ✗"),
        None => {}
    }
    if !cell.failures.is_empty() {
        text.push_str(" with faults");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn medians_and_numbers() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!([0.2949, 12.34, 576_123.4].map(number), ["0.29", "12.3", "576123"]);
    }

    #[test]
    fn brokers_of_the_command_line() {
        let parsed = server("ours=target/release/switchboard serve --set listener.tcp.bind=127.0.0.1:{port}");
        let parsed = parsed.unwrap();
        assert_eq!((parsed.name.as_str(), parsed.command.len()), ("ours", 4));
        assert_eq!(parsed.command[3], "listener.tcp.bind=127.0.0.1:{port}");
        for wrong in ["ours", "=x", "ours=", "floor=x", "target/x --set a=b"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_table_compares_with_the_run_beside_it() {
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name == "fanout-w16").collect();
        let report = |cpu| Report { cpu_us_per_msg: Some(cpu), ..Report::default() };
        let cell = |server: &str, runs: [f64; 3]| Cell {
            row: "fanout-w16",
            server: server.to_owned(),
            figures: vec![],
            failures: vec![],
            runs: runs.map(report).map(Some).into(),
        };
        // The machine was half as fast in the second run; the ratio was the same.
        let mut cells = [cell(FLOOR, [0.3, 0.6, 0.3]), cell("ours", [0.33, 0.66, 0.33])];
        evaluate(&rows, &mut cells);
        assert!((cells[1].figures[0].times_floor.unwrap() - 1.1).abs() < 1e-9);
        assert_eq!(cells[1].figures[0].reached, Some(true));
        let servers = [FLOOR, "ours"].map(|name| Server { name: name.to_owned(), command: vec![] });
        let table = table(&rows, &servers, &cells);
        assert!(
            table.contains("| fanout-w16 | CPU µs/message | 0.30 | 0.33 (1.10 ×) ✓ | ≤ 1.15 × floor |"),
            "{table}"
        );
    }

    #[test]
    fn a_server_that_ends_at_once_is_named() {
        let server = Server { name: "false".to_owned(), command: vec!["false".to_owned()] };
        let error = Running::start(&server, None, 1, false).err().unwrap().to_string();
        assert!(error.contains("ended at once"), "{error}");
    }
}
