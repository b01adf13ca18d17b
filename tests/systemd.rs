//! systemd's own opinion of systemd/switchboard.service. Passes with a note where systemd-analyze is not there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNIT: &str = include_str!("../systemd/switchboard.service");
const INSTALLED: &str = "/usr/bin/switchboard";
/// Ten times what `systemd-analyze security` calls exposure (0 to 10); what is left is the network.
const MOST_EXPOSURE: &str = "15";

/// The unit in a folder of its own, with the program just built for the installed one.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("switchboard-unit-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(UNIT.contains(INSTALLED), "the unit runs another program");
        let unit = UNIT.replace(INSTALLED, env!("CARGO_BIN_EXE_switchboard"));
        fs::write(folder.join("switchboard.service"), unit).unwrap();
        Self(folder)
    }

    fn unit(&self) -> PathBuf {
        self.0.join("switchboard.service")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `None` where there is no systemd-analyze.
fn analyze(arguments: &[&str], unit: &Path) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).arg(unit).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("note: no systemd-analyze here, the unit is not checked");
            None
        }
        Err(error) => panic!("systemd-analyze: {error}"),
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn systemd_finds_nothing_wrong() {
    let copy = Copy::new("verify");
    let Some(output) = analyze(&["--man=no", "--recursive-errors=no", "verify"], &copy.unit()) else {
        return;
    };
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    // Settings it does not know are only warned of.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("switchboard")).collect();
    assert!(ours.is_empty(), "{said}");
}

#[test]
fn systemd_would_see_something_wrong() {
    let copy = Copy::new("wrong");
    let unit = fs::read_to_string(copy.unit()).unwrap().replace("ProtectHome=yes", "ProtectHme=yes");
    fs::write(copy.unit(), unit).unwrap();
    let Some(output) = analyze(&["--man=no", "--recursive-errors=no", "verify"], &copy.unit()) else {
        return;
    };
    assert!(text(&output).contains("ProtectHme"), "{}", text(&output));
}

#[test]
fn little_is_exposed() {
    let copy = Copy::new("security");
    let threshold = format!("--threshold={MOST_EXPOSURE}");
    let Some(output) = analyze(&["security", "--offline=yes", "--no-pager", &threshold], &copy.unit()) else {
        return;
    };
    assert!(output.status.success(), "{}", text(&output));
}
