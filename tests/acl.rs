//! `switchboard acl test` and `acl.file`, as an operator meets them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn switchboard(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_switchboard")).current_dir(folder).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// A folder that goes away again, with a configuration in `conf`.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, rules: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("switchboard-acl-{}-{name}", std::process::id()));
        fs::create_dir_all(folder.join("conf")).unwrap();
        fs::write(folder.join("conf/switchboard.toml"), "[acl]\nfile = \"acl.toml\"\n").unwrap();
        fs::write(folder.join("conf/acl.toml"), rules).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const RULES: &str = r#"
[[rule]]
deny = ["publish"]
topics = ["sensors/secret/#"]
[[rule]]
allow = ["publish", "subscribe"]
topics = ["sensors/%c/#"]
role = ["device"]
client = ["gate-*"]
retain = false
max_qos = 1
"#;

#[test]
fn a_question_is_answered_with_the_line_that_decides() {
    let folder = Folder::new("answers", RULES);
    let device = &["--role", "device", "--user", "u", "--client", "gate-1"][..];
    let agent = &["--role", "agent", "--id", "7", "--group", "care", "--group", "sales"][..];
    let cases: &[(&[&str], &[&str], i32, &str)] = &[
        (
            device,
            &["--publish", "sensors/gate-1/t", "--qos", "1"],
            0,
            "allowed by conf/acl.toml:5, allow publish and subscribe sensors/%c/#",
        ),
        (
            device,
            &["--publish", "sensors/gate-1/t", "--qos", "2"],
            3,
            "refused by conf/acl.toml:5, allow publish and subscribe sensors/%c/#, which allows QoS 1 at most",
        ),
        (
            device,
            &["--publish", "sensors/gate-1/t", "--retain"],
            3,
            "refused by conf/acl.toml:5, allow publish and subscribe sensors/%c/#, which allows nothing retained",
        ),
        (
            device,
            &["--subscribe", "sensors/gate-1/+", "--qos", "2"],
            0,
            "allowed at QoS 1 by conf/acl.toml:5, allow publish and subscribe sensors/%c/#",
        ),
        (device, &["--subscribe", "sensors/#"], 3, "refused by no rule"),
        (
            device,
            &["--publish", "sensors/secret/x"],
            3,
            "refused by conf/acl.toml:2, deny publish sensors/secret/#, which denies it",
        ),
        (
            agent,
            &["--subscribe", "$share/sales/cs/1/main/queue/sales/messages/+", "--qos", "1"],
            0,
            "allowed at QoS 1 by default \"agent: shared queue\", allow subscribe $share/%g/cs/1/%t/queue/%g/messages/+",
        ),
        (
            agent,
            &["--subscribe", "$share/mine/cs/1/main/queue/sales/messages/+"],
            3,
            "refused by default \"agent: no other share\", deny subscribe $share/+/cs/1/#, which denies it",
        ),
        (agent, &["--receive", "cs/1/main/agent/8/offer"], 3, "refused by no rule"),
        (agent, &["--publish", "$SYS/x"], 3, "refused by default \"nobody publishes to $ topics\""),
        (
            &["--role", "supervisor", "--id", "s", "--tenant", "shop"],
            &["--subscribe", "cs/1/shop/#"],
            0,
            "allowed at QoS 0 by default \"supervisor: reads\", allow subscribe cs/1/%t/#",
        ),
        (&[], &["--publish", "a"], 0, "allowed by default \"open: no logins\", allow publish #"),
    ];
    for (who, wish, code, line) in cases {
        let output = switchboard(&folder.0, &[&["acl", "test"], *who, *wish].concat());
        assert_eq!(output.status.code(), Some(*code), "{wish:?} {output:?}");
        assert_eq!(stdout(&output), format!("{line}\n"), "{wish:?}");
    }
}

#[test]
fn every_rule_that_was_asked_is_shown() {
    let folder = Folder::new("verbose", RULES);
    let customer = ["acl", "test", "--role", "customer", "--user", "42", "--verbose"];
    let output =
        switchboard(&folder.0, &[&customer[..], &["--publish", "cs/1/main/customer/42/ask"]].concat());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        "allowed by default \"customer: writes\", allow publish cs/1/%t/customer/%i/up, cs/1/%t/customer/%i/ask, \
         cs/1/%t/customer/%i/signal
  conf/acl.toml:2: deny publish sensors/secret/#: other topics
  conf/acl.toml:5: allow publish and subscribe sensors/%c/#: of other clients: role
  default \"customer: writes\": allow publish cs/1/%t/customer/%i/up, cs/1/%t/customer/%i/ask, \
         cs/1/%t/customer/%i/signal: allows it
"
    );
    let output =
        switchboard(&folder.0, &[&customer[..], &["--subscribe", "cs/1/main/customer/42/#"]].concat());
    assert_eq!(output.status.code(), Some(3));
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert_eq!(lines.first(), Some(&"refused by no rule"));
    assert!(
        lines.iter().any(|line| line.ends_with("allows only a part of what the filter matches")),
        "{lines:?}"
    );
    assert_eq!(
        lines.last(),
        Some(
            &"  default \"responses: own\": allow subscribe response/%c/#: the client has no value that can stand for a placeholder"
        )
    );
}

#[test]
fn what_is_no_question_is_refused() {
    let folder = Folder::new("questions", RULES);
    for (arguments, said) in [
        (&["--role", "devise", "--publish", "a"][..], "no such role: \"devise\""),
        (&["--role", "device"], "--publish"),
        (&["--publish", "a", "--subscribe", "b"], "cannot be used with"),
        (&["--user", "u", "--publish", "a"], "--role"),
        (&["--subscribe", "a", "--retain"], "--retain"),
        (&["--publish", "a", "--qos", "3"], "3 is not in 0..=2"),
        (&["--publish", "a/#"], "\"a/#\": the topic name contains a wildcard character"),
        (&["--subscribe", "a/#/b"], "\"a/#/b\": # must be alone"),
    ] {
        let output = switchboard(&folder.0, &[&["acl", "test"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {output:?}");
        let all = format!("{}{}", stdout(&output), std::str::from_utf8(&output.stderr).unwrap());
        assert!(all.contains(said), "{arguments:?} {all}");
    }
}

#[test]
fn a_wrong_file_is_told_by_check_config_and_starts_nothing() {
    let folder = Folder::new("wrong", "[[rule]]\nalow = [\"publish\"]\ntopics = [\"a/#/b\"]\n");
    let problems = "conf/acl.toml:1:1  rule.allow: missing, and `deny`, too; a list of \"publish\" and \"subscribe\"\n\
         conf/acl.toml:2:1  rule.alow: unknown key; did you mean \"allow\"?\n\
         conf/acl.toml:3:11  rule.topics: \"a/#/b\": # must be alone in the last level of a topic filter\n";
    let check = switchboard(&folder.0, &["check-config"]);
    assert_eq!((check.status.code(), stdout(&check)), (Some(78), problems));
    for command in [&["serve"][..], &["acl", "test", "--publish", "a"]] {
        let refused = switchboard(&folder.0, command);
        assert_eq!(refused.status.code(), Some(78), "{refused:?}");
        assert_eq!(std::str::from_utf8(&refused.stderr).unwrap(), problems);
    }
    let elsewhere = switchboard(&folder.0, &["check-config", "--set", "acl.file=nowhere.toml"]);
    assert_eq!(
        stdout(&elsewhere),
        "--set  acl.file: nowhere.toml cannot be read: No such file or directory (os error 2)\n"
    );
    let none = switchboard(&folder.0, &["check-config", "--set", "acl.file="]);
    assert_eq!(none.status.code(), Some(0), "{none:?}");

    fs::write(folder.0.join("conf/acl.toml"), RULES).unwrap();
    let right = switchboard(&folder.0, &["check-config"]);
    assert!(stdout(&right).ends_with(", no desk, 2 access rules of conf/acl.toml\n"), "{right:?}");
}
