//! The ledger of the standards' normative statements: `ledger.toml` names the tests that hold each, this checks that
//! they exist. It reads sources as text, so a renamed test fails here, not silently.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::doc_markdown,
    clippy::print_stdout,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The clauses of one standard by their identifier. A duplicate identifier does not parse.
type Standard = BTreeMap<String, Clause>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clause {
    binds: Binds,
    says: String,
    #[serde(default)]
    tests: Vec<String>,
    #[serde(default)]
    reader: Vec<String>,
    reason: Option<String>,
    open: Option<String>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Binds {
    Server,
    Client,
    Both,
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn ledger() -> BTreeMap<String, Standard> {
    let path = tests_folder().join("ledger.toml");
    toml::from_str(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of all functions under `#[test]` in a source.
fn tests_in(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" {
            marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            if marked {
                found.extend(rest.split('(').next().map(str::to_owned));
            }
            marked = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            marked = false;
        }
    }
    found
}

#[test]
fn every_clause_of_a_server_is_accounted_for() {
    let mut wrong = Vec::new();
    let mut open = Vec::new();
    for (standard, clauses) in ledger() {
        let mut tested = 0;
        let mut exempt = 0;
        let mut clients = 0;
        let mut opened = 0;
        for (id, clause) in &clauses {
            let held = !clause.tests.is_empty();
            let answers = [held, clause.reason.is_some(), clause.open.is_some()];
            let given = answers.iter().filter(|answer| **answer).count();
            match clause.binds {
                Binds::Client if given == 0 => clients += 1,
                Binds::Client => {
                    wrong.push(format!("{standard} [{id}]: binds clients, and yet is tested or excused"));
                }
                _ if given != 1 => {
                    wrong.push(format!("{standard} [{id}]: needs tests, a reason, or to be open"));
                }
                _ if held => tested += 1,
                _ if clause.open.is_some() => opened += 1,
                _ => exempt += 1,
            }
            if clause.says.is_empty() || !clause.reader.is_empty() && !held {
                wrong.push(format!("{standard} [{id}]: says nothing, or only the reader holds it"));
            }
            if let Some(why) = &clause.open {
                open.push(format!("{standard} [{id}] {}: {why}", clause.says));
            }
        }
        println!(
            "{standard}: {} clauses, {clients} of clients alone; of the rest {tested} tested, {exempt} do not apply, \
             {opened} open",
            clauses.len()
        );
    }
    println!("{} open:\n{}", open.len(), open.join("\n"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_of_the_ledger_exists() {
    let mut sources: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let reader = read(&tests_folder().join("dialogue/wire.rs"));
    let mut missing = Vec::new();
    for (standard, clauses) in ledger() {
        for (id, clause) in clauses {
            for name in &clause.tests {
                let (file, function) = name.split_once("::").unwrap_or_else(|| panic!("[{id}]: {name}"));
                let tests = sources
                    .entry(file.to_owned())
                    .or_insert_with(|| tests_in(&read(&tests_folder().join(format!("{file}.rs")))));
                if !tests.contains(function) {
                    missing.push(format!("{standard} [{id}]: no test {name}"));
                }
            }
            for name in &clause.reader {
                if !reader.contains(&format!("fn {name}(")) {
                    missing.push(format!("{standard} [{id}]: no function {name} in tests/dialogue/wire.rs"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// The standards number the statements of a section from 1; what does not occur there must not be missing here.
#[test]
fn no_clause_is_left_out() {
    // Numbers that the standards themselves skip.
    let skipped = [("MQTT 5.0", "MQTT-2.2.1-1")];
    for (standard, clauses) in ledger() {
        let mut sections: BTreeMap<&str, u32> = BTreeMap::new();
        for id in clauses.keys() {
            let (section, number) = id.rsplit_once('-').unwrap_or_else(|| panic!("{standard} [{id}]"));
            let number: u32 = number.parse().unwrap_or_else(|_| panic!("{standard} [{id}]"));
            let last = sections.entry(section).or_default();
            *last = number.max(*last);
        }
        for (section, last) in sections {
            for number in 1..=last {
                let id = format!("{section}-{number}");
                let known = clauses.contains_key(&id) || skipped.contains(&(standard.as_str(), id.as_str()));
                assert!(known, "{standard}: [{id}] is not in the ledger");
            }
        }
    }
}

#[test]
fn tests_are_found_in_sources() {
    let source = "#[test]\nfn one() {}\nfn two() {}\n    #[test]\n    #[should_panic]\n    fn three() {}\n";
    assert_eq!(tests_in(source).into_iter().collect::<Vec<_>>(), ["one", "three"]);
}
