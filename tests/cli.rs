//! The program as an operator meets it: what it prints and how it ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn switchboard(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_switchboard")).current_dir(folder).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An empty folder that goes away again.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("switchboard-cli-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn version_and_help() {
    let version = switchboard(root(), &["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(stdout(&version), format!("switchboard {}\n", env!("CARGO_PKG_VERSION")));

    let help = switchboard(root(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for word in
        ["serve", "check-config", "--config <FILE>", "--set <PATH=VALUE>", "--log <LEVEL>", "--version"]
    {
        assert!(stdout(&help).contains(word), "{word} is not in\n{}", stdout(&help));
    }
    let wrong = switchboard(root(), &["--wrong"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("--wrong"));
}

#[test]
fn the_shipped_configuration_passes() {
    for arguments in [
        &["check-config"][..],
        &["check-config", "conf/switchboard.toml", "--set", "shards=3"],
        &["check-config", "--config", "conf/switchboard.toml", "--log", "debug"],
    ] {
        let output = switchboard(root(), arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(stderr(&output), "");
        let said = stdout(&output);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("conf/switchboard.toml: no problems; "), "{said}");
        assert!(
            said.ends_with(
                " shards, listener tcp on 127.0.0.1:1883, http on 127.0.0.1:9883, desk by conf/routing.toml\n"
            ),
            "{said}"
        );
    }
}

#[test]
fn without_a_file_the_built_in_defaults_are_checked() {
    let folder = Folder::new("defaults");
    let output = switchboard(&folder.0, &["check-config"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with("the built-in defaults: no problems; "), "{output:?}");
    for arguments in [&["check-config", "nowhere.toml"][..], &["check-config", "--config", "nowhere.toml"]] {
        let missing = switchboard(&folder.0, arguments);
        assert_eq!(missing.status.code(), Some(78));
        let said = "nowhere.toml  cannot be read: No such file or directory (os error 2)\n";
        assert_eq!(stdout(&missing), said);
    }
    let both = switchboard(&folder.0, &["check-config", "a.toml", "--config", "b.toml"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn a_default_file_that_cannot_be_read_is_no_reason_for_the_defaults() {
    let folder = Folder::new("unreadable");
    let told = |expected: &str| {
        let check = switchboard(&folder.0, &["check-config"]);
        assert_eq!((check.status.code(), stdout(&check)), (Some(78), expected));
        let serve = switchboard(&folder.0, &["serve"]);
        assert_eq!((serve.status.code(), stderr(&serve)), (Some(78), expected));
    };
    let conf = folder.0.join("conf");
    fs::write(&conf, "").unwrap();
    told("conf/switchboard.toml  cannot be read: Not a directory (os error 20)\n");
    fs::remove_file(&conf).unwrap();
    fs::create_dir(&conf).unwrap();
    std::os::unix::fs::symlink("nowhere", conf.join("switchboard.toml")).unwrap();
    told("conf/switchboard.toml  cannot be read: No such file or directory (os error 2)\n");
}

/// The number behind `name` in a listing.
fn number(listing: &str, name: &str) -> u64 {
    let line = listing.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{listing}"));
    line.get(name.len()..).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_stopped_store_is_checked_measured_and_made_smaller() {
    let folder = Folder::new("store");
    let none = switchboard(&folder.0, &["store", "check", "data"]);
    assert_eq!((none.status.code(), stderr(&none)), (Some(1), "data: there is no store here\n"));
    let unnamed = switchboard(&folder.0, &["store", "stats"]);
    assert_eq!(unnamed.status.code(), Some(78), "{unnamed:?}");

    let set = ["listener.tcp.bind=127.0.0.1:0", "drain=0s", "store.directory=data"];
    let running = Running::start("store-broker", &set);
    let data = running.folder.0.join("data").display().to_string();
    let in_use = switchboard(&folder.0, &["store", "check", &data]);
    assert_eq!(in_use.status.code(), Some(1));
    assert!(stderr(&in_use).ends_with("one process at a time can use it\n"), "{in_use:?}");
    running.signal("TERM");
    let (code, log, _folder) = running.end_with_folder();
    assert_eq!(code, Some(0), "{log}");

    let check = switchboard(&folder.0, &["store", "check", "--set", &format!("store.directory={data}")]);
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    assert!(stdout(&check).ends_with("whole\n"), "{check:?}");
    assert_eq!(number(stdout(&check), "sessions"), 0);
    let stats = switchboard(&folder.0, &["store", "stats", &data]);
    assert!(stats.status.success() && number(stdout(&stats), "bytes of the view") > 0, "{stats:?}");
    let compact = switchboard(&folder.0, &["store", "compact", &data]);
    assert!(compact.status.success() && number(stdout(&compact), "bytes after") > 0, "{compact:?}");
}

#[test]
fn every_problem_is_shown_and_the_exit_code_is_78() {
    let folder = Folder::new("problems");
    let file =
        "[session]\nreceive_maximum = 0\n\n[limits]\nmax_paket = \"1MiB\"\n[desk]\nrouting = \"r.toml\"\n";
    fs::write(folder.0.join("s.toml"), file).unwrap();
    fs::write(folder.0.join("r.toml"), "tenat = 1\n").unwrap();
    let expected = "\
--set  drain: 10 has no unit; a whole number with ms, s, m, h or d, 0s to 10m
r.toml:1:1  tenant: missing; at least one [[tenant]]
r.toml:1:1  tenat: unknown key; did you mean \"tenant\"?
s.toml:2:19  session.receive_maximum: 0 is not allowed; 1 to 65535
s.toml:5:1  limits.max_paket: unknown key; did you mean \"max_packet\"?
";
    let check = switchboard(&folder.0, &["check-config", "s.toml", "--set", "drain=10"]);
    assert_eq!((check.status.code(), stdout(&check), stderr(&check)), (Some(78), expected, ""));
    let serve = switchboard(&folder.0, &["serve", "--config", "s.toml", "--set", "drain=10"]);
    assert_eq!((serve.status.code(), stdout(&serve), stderr(&serve)), (Some(78), "", expected));
    let bare = switchboard(&folder.0, &["--config", "s.toml", "--set", "drain=10"]);
    assert_eq!((bare.status.code(), stdout(&bare), stderr(&bare)), (Some(78), "", expected));
}

/// A model stands beside the routing file that names it.
#[test]
fn models_are_checked_with_the_rules_that_name_them() {
    let folder = Folder::new("models");
    fs::create_dir(folder.0.join("conf")).unwrap();
    fs::write(folder.0.join("s.toml"), "[desk]\nrouting = \"conf/r.toml\"\n").unwrap();
    let rules = "[[tenant]]\nname = \"main\"\n[[tenant.group]]\nname = \"care\"\nmode = \"assigned\"\n\
        [tenant.group.model]\nfile = \"care.json\"\nfeatures = [\"agent.idle_s\"]\n\
        [[tenant.rule]]\nname = \"rest\"\ngroup = \"care\"\n";
    fs::write(folder.0.join("conf/r.toml"), rules).unwrap();
    let at = "conf/r.toml:7:8  tenant.group.model.file: \"care.json\"";
    let check = || switchboard(&folder.0, &["check-config", "s.toml"]);
    let missing = check();
    let expected = format!("{at} cannot be read: No such file or directory (os error 2)\n");
    assert_eq!((missing.status.code(), stdout(&missing)), (Some(78), expected.as_str()));
    let model = r#"{"version":[3,2,0],"learner":{"objective":{"name":"binary:logistic"},
        "learner_model_param":{"base_score":"[5E-1]","num_feature":"1"},
        "gradient_booster":{"name":"gbtree","model":{"gbtree_model_param":{"num_trees":"1"},"tree_info":[0],"trees":[
        {"tree_param":{"num_nodes":"1"},"left_children":[-1],"right_children":[-1],"split_indices":[0],
        "split_conditions":[2],"default_left":[0],"split_type":[0]}]}}}}"#;
    fs::write(folder.0.join("conf/care.json"), model.replace("[-1]", "[7]")).unwrap();
    let bad = check();
    let path = "learner.gradient_booster.model.trees[0]";
    assert_eq!(bad.status.code(), Some(78));
    assert!(stdout(&bad).starts_with(&format!("{at}: {path}")), "{}", stdout(&bad));
    fs::write(folder.0.join("conf/care.json"), model).unwrap();
    let good = check();
    assert!(good.status.success(), "{}", stdout(&good));
    let empty = File::create(folder.0.join("conf/care.json")).unwrap();
    empty.set_len((16 << 20) + 5).unwrap();
    let expected = format!("{at}: the model file: 16777217 bytes; at most 16777216\n");
    assert_eq!(stdout(&check()), expected);
}

#[test]
fn a_wrong_log_level_is_a_problem_like_any_other() {
    let folder = Folder::new("level");
    let expected = "--set  log.level: \"inof\" is no log level; did you mean \"info\"?\n";
    let serve = switchboard(&folder.0, &["serve", "--log", "inof"]);
    assert_eq!((serve.status.code(), stderr(&serve)), (Some(78), expected));
    let check = switchboard(&folder.0, &["check-config", "--log", "inof"]);
    assert_eq!((check.status.code(), stdout(&check)), (Some(78), expected));
}

/// A broker that runs, and what it tells systemd.
struct Running {
    child: Child,
    systemd: UnixDatagram,
    folder: Folder,
}

impl Running {
    fn start(name: &str, set: &[&str]) -> Self {
        let folder = Folder::new(name);
        let socket = folder.0.join("notify");
        let systemd = UnixDatagram::bind(&socket).unwrap();
        systemd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .current_dir(&folder.0)
            .arg("serve")
            .args(["--set", "http.bind=127.0.0.1:0"])
            .args(set.iter().flat_map(|&set| ["--set", set]))
            .env("NOTIFY_SOCKET", &socket)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let running = Self { child, systemd, folder };
        let ready = running.told();
        assert!(ready.starts_with("READY=1\nSTATUS=listener tcp on "), "{ready}");
        running
    }

    /// The next thing told to systemd.
    fn told(&self) -> String {
        let mut message = [0; 1024];
        let length = self.systemd.recv(&mut message).unwrap();
        String::from_utf8(message.get(..length).unwrap().to_vec()).unwrap()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Reads the log up to `text`.
    fn log_until(&mut self, text: &str) {
        let log = self.child.stderr.as_mut().unwrap();
        let (mut read, mut byte) = (Vec::new(), [0]);
        while !read.ends_with(text.as_bytes()) {
            let more = log.read(&mut byte).unwrap();
            assert_eq!(more, 1, "it ended: {}", String::from_utf8_lossy(&read));
            read.push(byte[0]);
        }
    }

    /// How it ended, and what of its log was not read yet.
    fn end(self) -> (Option<i32>, String) {
        let (code, log, _) = self.end_with_folder();
        (code, log)
    }

    /// The same, and what it left behind.
    fn end_with_folder(self) -> (Option<i32>, String, Folder) {
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap(), self.folder)
    }
}

#[test]
fn either_signal_drains_and_ends_with_0() {
    for name in ["TERM", "INT"] {
        let running = Running::start(name, &["listener.tcp.bind=127.0.0.1:0", "drain=2s"]);
        running.signal(name);
        assert_eq!(running.told(), "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=12000000\n");
        let (code, log) = running.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains(" INFO no conf/switchboard.toml here: the built-in defaults hold\n"), "{log}");
        assert!(
            log.contains(&format!(" INFO draining; once more ends at once signal=\"SIG{name}\"")),
            "{log}"
        );
        assert!(log.ends_with(" INFO drained\n"), "{log}");
    }
}

#[test]
fn a_hangup_is_no_end_and_reloads_nothing() {
    let mut running = Running::start("hangup", &["listener.tcp.bind=127.0.0.1:0"]);
    running.signal("HUP");
    let said = " WARN nothing is reloaded: a changed configuration wants check-config, then a restart signal=\"SIGHUP\"";
    running.log_until(said);
    running.signal("TERM");
    let (code, log) = running.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.ends_with(" INFO drained\n"), "{log}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let running = Running::start("twice", &["listener.tcp.bind=127.0.0.1:0"]);
    // Both are there when it goes on. Which of two it sees first nobody can say.
    for name in ["STOP", "INT", "TERM", "CONT"] {
        running.signal(name);
    }
    let (code, log) = running.end();
    let last = if log.contains("draining; once more ends at once signal=\"SIGINT\"") {
        (143, "SIGTERM")
    } else {
        (130, "SIGINT")
    };
    assert_eq!(code, Some(last.0), "{log}");
    assert!(log.ends_with(&format!(" WARN ending at once signal=\"{}\"\n", last.1)), "{log}");
}

#[test]
fn the_log_says_what_is_open_to_whom() {
    let set = ["listener.tcp.bind=0.0.0.0:0", "listener.tcp.allow_anonymous=true", "log.format=json"];
    let running = Running::start("banner", &set);
    running.signal("TERM");
    let (code, log) = running.end();
    assert_eq!(code, Some(0), "{log}");
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |level: &str, start: &str, end: &str| {
        events.iter().any(|event| {
            let message = event.get("message").and_then(|m| m.as_str()).unwrap_or_default();
            event.get("level").is_some_and(|l| l == level)
                && message.starts_with(start)
                && message.ends_with(end)
        })
    };
    let anyone = ": MQTT, plain text; open to anyone who can reach this address, without a login";
    assert!(said("WARN", "listener tcp on 0.0.0.0:", anyone), "{log}");
    let here = ": metrics and health, plain text; open to anyone on this machine";
    assert!(said("INFO", "http on 127.0.0.1:", here), "{log}");
}

#[test]
fn an_address_in_use_ends_the_start_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = format!("listener.tcp.bind={}", taken.local_addr().unwrap());
    let folder = Folder::new("taken");
    let output = switchboard(&folder.0, &["--set", &bind, "--set", "http.bind=127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains(&taken.local_addr().unwrap().to_string()), "{output:?}");
}

/// A broker that is full still says that it is well: who asks would otherwise restart it.
#[test]
fn http_answers_when_no_file_is_left_for_clients() {
    let folder = Folder::new("files");
    let program = env!("CARGO_BIN_EXE_switchboard");
    let set = "serve --set shards=1 --set listener.tcp.bind=127.0.0.1:0 --set http.bind=127.0.0.1:0";
    let mut broker = Command::new("sh")
        .args(["-c", &format!("ulimit -n 300; exec {program} {set}")])
        .current_dir(&folder.0)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(broker.stderr.take().unwrap());
    let mut address = |door: &str| -> String {
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the broker ended");
            if let Some((_, rest)) = line.split_once(door) {
                return rest.split_once(": ").unwrap().0.to_owned();
            }
        }
    };
    let (mqtt, http) = (address("listener tcp on "), address("http on "));
    let clients: Vec<TcpStream> = (0..400).map_while(|_| TcpStream::connect(&mqtt).ok()).collect();
    assert_eq!(clients.len(), 400);
    // The last of them is told by being closed.
    let mut last = clients.last().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0);
    let mut health = TcpStream::connect(&http).unwrap();
    health.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    health.write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    health.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    broker.kill().unwrap();
    broker.wait().unwrap();
}
