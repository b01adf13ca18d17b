//! The switchboard program: arguments, signals, exit codes.

mod access;
mod maintenance;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sd_notify::NotifyState;
use switchboard::auth::password::{OsRng, hash};
use switchboard::auth::{Principal, Role};
use switchboard::config::exposure::{Exposure, exposures};
use switchboard::config::{self, DEFAULT_FILE, Loaded, Problem};
use switchboard::net::tls::Identity;
use switchboard::{Server, telemetry};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `EX_CONFIG` of sysexits.h; systemd/switchboard.service does not restart after it.
const EXIT_CONFIG: u8 = 78;
/// `EX_SOFTWARE`: a part of the broker has failed.
const EXIT_SOFTWARE: u8 = 70;
/// What systemd adds to the drain's deadline before it would kill the process.
const DRAIN_MARGIN: Duration = Duration::from_secs(10);

/// An MQTT 3.1.1 and 5 broker with a desk that brings customers' conversations to agent groups.
#[derive(Parser)]
#[command(name = "switchboard", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Configuration,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker (what happens without a command too).
    Serve(Configuration),
    /// Show everything that is wrong with a configuration; exit code 78 if anything is.
    CheckConfig(CheckArguments),
    /// Print the entry of a user for the file that auth.users names. The password is the first line of standard input.
    Passwd(PasswdArguments),
    /// Look at the store of a broker that is stopped, or make it smaller.
    Store(StoreArguments),
    /// Ask the access rules.
    Acl(AclArguments),
}

#[derive(Args)]
struct AclArguments {
    #[command(subcommand)]
    question: AclQuestion,
}

#[derive(Subcommand)]
enum AclQuestion {
    /// Whether a client may do something, and which rule says so; exit code 3 if it may not.
    Test(AclTest),
}

#[derive(Args)]
struct AclTest {
    #[command(flatten)]
    wish: access::Wish,
    #[command(flatten)]
    like_serve: Configuration,
}

#[derive(Args)]
struct PasswdArguments {
    /// The user name.
    name: String,
    /// customer, agent, bot, supervisor, operator or device.
    #[arg(long)]
    role: Role,
    /// Its tenant.
    #[arg(long, default_value = "main")]
    tenant: String,
    /// Its id in the tenant: the customer, the agent. Without it the user name.
    #[arg(long)]
    id: Option<String>,
    /// A group that it is in. Repeatable.
    #[arg(long)]
    group: Vec<String>,
}

#[derive(Args)]
struct StoreArguments {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// Read everything, change nothing; exit code 65 if anything is damaged.
    Check(StorePlace),
    /// Documents and bytes.
    Stats(StorePlace),
    /// Rewrite the store so that it takes no more room than it needs.
    Compact(StorePlace),
}

#[derive(Args)]
struct StorePlace {
    /// The store; without it the one that the configuration names.
    directory: Option<PathBuf>,
    #[command(flatten)]
    like_serve: Configuration,
}

/// What a server is started with.
#[derive(Args)]
struct Configuration {
    /// The configuration; without it conf/switchboard.toml if that exists, otherwise the built-in defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lay one key over the configuration, e.g. listener.tcp.bind=127.0.0.1:1884. Repeatable.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Short for --set log.level=LEVEL.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

#[derive(Args)]
struct CheckArguments {
    /// Short for --config FILE.
    #[arg(conflicts_with = "config")]
    file: Option<PathBuf>,
    #[command(flatten)]
    like_serve: Configuration,
}

/// Where a configuration came from, and what it is or what is wrong with it.
type Read = Result<(Option<PathBuf>, Loaded), Vec<Problem>>;

impl Configuration {
    fn read(self) -> Read {
        let file = match self.config {
            Some(file) => Some(file),
            None => config::default_file().map_err(|problem| vec![problem])?,
        };
        let mut set = self.set;
        set.extend(self.log.map(|level| format!("log.level={level}")));
        let loaded = config::load(file.as_deref(), &set)?;
        Ok((file, loaded))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::CheckConfig(check)) => check_config(check),
        Some(Command::Serve(serve)) => run(serve),
        Some(Command::Passwd(user)) => passwd(&user),
        Some(Command::Store(store)) => maintain(store.question),
        Some(Command::Acl(AclArguments { question: AclQuestion::Test(test) })) => test_access(test),
        None => run(arguments.serve),
    }
}

fn check_config(arguments: CheckArguments) -> ExitCode {
    let config = arguments.file.or(arguments.like_serve.config);
    match (Configuration { config, ..arguments.like_serve }).read() {
        Ok((file, loaded)) => {
            let broken = broken_identities(&loaded);
            if !broken.is_empty() {
                say(&mut io::stdout(), broken);
                return ExitCode::from(EXIT_CONFIG);
            }
            say(&mut io::stdout(), [summary(file.as_deref(), &loaded)]);
            let open = exposures(&loaded.settings, &[], None);
            let doubtful = open.iter().filter(|exposure| exposure.doubtful);
            say(&mut io::stdout(), doubtful.map(|exposure| format!("beware: {exposure}")));
            ExitCode::SUCCESS
        }
        Err(problems) => refuse(&mut io::stdout(), &problems),
    }
}

/// What is wrong with the files of listeners that speak TLS.
fn broken_identities(loaded: &Loaded) -> Vec<String> {
    let listeners = loaded.settings.listeners.iter();
    let broken = listeners.filter_map(|listener| {
        let error =
            Identity::load(listener.tls.as_ref()?, listener.websocket.is_some(), &config::read_pem).err()?;
        Some(format!("listener {}: {error}", listener.name))
    });
    broken.collect()
}

fn test_access(test: AclTest) -> ExitCode {
    match test.like_serve.read() {
        Ok((_, loaded)) => {
            let (lines, code) = access::answer(&test.wish, &loaded.access, loaded.has_logins());
            say(&mut io::stdout(), lines);
            code
        }
        Err(problems) => refuse(&mut io::stderr(), &problems),
    }
}

/// Prints what goes into the file of users.
fn passwd(user: &PasswdArguments) -> ExitCode {
    let mut line = Zeroizing::new(String::new());
    if io::stdin().is_terminal() {
        say(&mut io::stderr(), ["the password, which will be seen here:"]);
    }
    if let Err(error) = io::stdin().read_line(&mut line) {
        say(&mut io::stderr(), [format!("standard input: {error}")]);
        return ExitCode::FAILURE;
    }
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        say(&mut io::stderr(), ["standard input has no password"]);
        return ExitCode::FAILURE;
    }
    let hash = match hash(password.as_bytes(), OsRng) {
        Ok(hash) => hash,
        Err(error) => {
            say(&mut io::stderr(), [error]);
            return ExitCode::FAILURE;
        }
    };
    let principal = Principal {
        user: user.name.as_str().into(),
        tenant: user.tenant.as_str().into(),
        role: user.role,
        id: user.id.as_ref().unwrap_or(&user.name).as_str().into(),
        groups: user.group.iter().map(|group| group.as_str().into()).collect(),
        expires_at: None,
    };
    let entry = [config::user_entry(&principal, &hash)];
    say(&mut io::stdout(), entry);
    ExitCode::SUCCESS
}

fn maintain(question: Question) -> ExitCode {
    let (question, place) = match question {
        Question::Check(place) => (maintenance::Question::Check, place),
        Question::Stats(place) => (maintenance::Question::Stats, place),
        Question::Compact(place) => (maintenance::Question::Compact, place),
    };
    let directory = match place.directory {
        Some(directory) => directory,
        None => match place.like_serve.read() {
            Ok((_, loaded)) => {
                let Some(directory) = loaded.settings.store.directory else {
                    say(&mut io::stderr(), ["the configuration names no store.directory; name one here"]);
                    return ExitCode::from(EXIT_CONFIG);
                };
                directory
            }
            Err(problems) => return refuse(&mut io::stderr(), &problems),
        },
    };
    match maintenance::answer(question, &directory) {
        Ok((lines, code)) => {
            say(&mut io::stdout(), lines);
            code
        }
        Err(error) => {
            say(&mut io::stderr(), [error]);
            ExitCode::FAILURE
        }
    }
}

fn run(configuration: Configuration) -> ExitCode {
    let (file, loaded) = match configuration.read() {
        Ok(read) => read,
        Err(problems) => return refuse(&mut io::stderr(), &problems),
    };
    if let Err(error) = telemetry::start(&loaded.settings.log) {
        say(&mut io::stderr(), [error]);
        return ExitCode::FAILURE;
    }
    info!(version = env!("CARGO_PKG_VERSION"), shards = loaded.settings.shards, "switchboard");
    if let Some(file) = &file {
        info!(file = %file.display(), "configuration");
    } else {
        info!("no {DEFAULT_FILE} here: the built-in defaults hold");
    }
    if let Some(file) = &loaded.settings.routing_file {
        info!(file = %file.display(), "desk");
    } else {
        info!("no desk: customers' messages are refused");
    }
    serve(loaded)
}

/// From the first listener to the end of the drain.
fn serve(loaded: Loaded) -> ExitCode {
    // The signals are taken before the first client is: none can end the process without a drain.
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, mut signals) = match waiting.and_then(|runtime| {
        let signals = Signals::take(&runtime)?;
        Ok((runtime, signals))
    }) {
        Ok(ready) => ready,
        Err(error) => {
            error!(%error, "cannot wait for signals");
            return ExitCode::FAILURE;
        }
    };
    let settings = loaded.settings.clone();
    let access = loaded.access();
    let mut server = match Server::start_guarded(loaded.settings, loaded.routing, access) {
        Ok(server) => server,
        Err(error) => {
            error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let open = exposures(&settings, server.addresses(), server.http_address());
    announce(&open);
    notify(&[NotifyState::Ready, NotifyState::Status(&listing(&open))]);

    let mut failures = server.failures();
    runtime.block_on(async {
        let failed = async {
            match &mut failures {
                Some(failures) => failures.recv().await,
                None => std::future::pending().await,
            }
        };
        let (signal, code) = tokio::select! {
            biased;
            signal = signals.next() => (signal.name(), ExitCode::SUCCESS),
            shard = failed => {
                error!(?shard, "a shard has failed: its clients are stranded, and only a restart helps");
                ("none", ExitCode::from(EXIT_SOFTWARE))
            }
        };
        info!(signal, deadline_s = settings.drain.as_secs(), "draining; once more ends at once");
        let longest = settings.drain + DRAIN_MARGIN;
        let longest_us = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
        notify(&[
            NotifyState::Stopping,
            NotifyState::Status("draining"),
            NotifyState::ExtendTimeoutUsec(longest_us),
        ]);
        let (done, drained) = oneshot::channel();
        std::thread::spawn(move || done.send(server.drain(settings.drain)));
        tokio::select! {
            biased;
            second = signals.next() => {
                warn!(signal = second.name(), "ending at once");
                std::process::exit(second.exit_code());
            }
            whole = drained => match whole {
                Ok(true) => info!("drained"),
                Ok(false) => warn!("not everything was sent by the deadline"),
                Err(_) => error!("the drain failed"),
            },
        }
        code
    })
}

/// The signals that end the program, and the one that others take for "read your files again".
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

#[derive(Clone, Copy)]
enum Ending {
    Interrupt,
    Terminate,
}

impl Signals {
    fn take(runtime: &tokio::runtime::Runtime) -> io::Result<Self> {
        let _inside = runtime.enter();
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Ending {
        loop {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => return Ending::Interrupt,
                _ = self.terminate.recv() => return Ending::Terminate,
                _ = self.hangup.recv() => {
                    // Not taken, it would end the broker without a drain.
                    warn!(
                        signal = "SIGHUP",
                        "nothing is reloaded: a changed configuration wants check-config, then a restart"
                    );
                }
            }
        }
    }
}

impl Ending {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// 128 and the number of the signal, as a shell would say it.
    fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// What is open to whom, one event each.
fn announce(open: &[Exposure]) {
    for exposure in open {
        if exposure.doubtful {
            warn!("{exposure}");
        } else {
            info!("{exposure}");
        }
    }
}

fn listing(open: &[Exposure]) -> String {
    let doors: Vec<String> = open.iter().map(|e| format!("{} on {}", e.door, e.address)).collect();
    doors.join(", ")
}

fn summary(file: Option<&Path>, loaded: &Loaded) -> String {
    let file = file.map_or("the built-in defaults".to_owned(), |file| file.display().to_string());
    let settings = &loaded.settings;
    let routing = settings
        .routing_file
        .as_ref()
        .map_or("no desk".to_owned(), |path| format!("desk by {}", path.display()));
    let open = listing(&exposures(settings, &[], None));
    let access = access::summary(&loaded.access);
    format!("{file}: no problems; {} shards, {open}, {routing}{access}", settings.shards)
}

fn refuse(out: &mut dyn Write, problems: &[Problem]) -> ExitCode {
    say(out, problems);
    ExitCode::from(EXIT_CONFIG)
}

/// One line each. Whoever does not listen any more need not be told.
fn say<T: std::fmt::Display>(out: &mut dyn Write, lines: impl IntoIterator<Item = T>) {
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

/// Tells systemd, if it asked to be told.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot tell systemd");
    }
}
