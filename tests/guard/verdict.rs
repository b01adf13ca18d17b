//! Holds the instruction counts that `bench.rs` has just found against those in `baseline.json`.
//!
//! `guard-verdict [--accept] BASELINE COUNTS`; started by `run.sh`. COUNTS is what gungraun prints with
//! `--output-format=json`: one object a line for each scene.

#![allow(clippy::print_stdout, reason = "a program that reports")]

mod cast;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How much worse, in per cent, is too much.
const TOLERANCE: f64 = 5.0;

/// What was accepted before.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// Compiler and counter; other versions count otherwise.
    made_with: BTreeMap<String, String>,
    /// Instructions of each scene's counted rounds.
    instructions: BTreeMap<String, u64>,
}

/// A scene as it was counted.
struct Counted {
    instructions: u64,
    /// Where callgrind has left the profile.
    profile: String,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // `cargo bench` adds --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let accept = arguments.iter().any(|a| a == "--accept");
    let files: Vec<&str> = arguments.iter().filter(|a| *a != "--accept").map(String::as_str).collect();
    let [baseline, counts] = files.as_slice() else {
        println!("usage: guard-verdict [--accept] BASELINE COUNTS");
        return ExitCode::from(2);
    };
    match if accept { replace(baseline, counts) } else { compare(baseline, counts) } {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("guard: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(baseline: &str, counts: &str) -> Result<bool, Failure> {
    let known: Baseline = std::fs::read_to_string(baseline)
        .map_err(Failure::from)
        .and_then(|text| Ok(serde_json::from_str(&text)?))
        .map_err(|error| format!("{baseline}: {error}"))?;
    let counted = read(counts)?;
    let mut worse = Vec::new();
    let (mut better, mut unknown) = (false, false);
    println!("instructions a delivery            accepted       now");
    for (name, now) in &counted {
        let Some(&before) = known.instructions.get(name) else {
            println!(
                "{name:<30}        none {:>9.1}           not in the baseline",
                each(name, now.instructions)
            );
            unknown = true;
            continue;
        };
        let change = percent(before, now.instructions);
        let verdict = if change > TOLERANCE { "  WORSE" } else { "" };
        let (before, after) = (each(name, before), each(name, now.instructions));
        println!("{name:<30} {before:>12.1} {after:>9.1} {change:>+8.2} %{verdict}");
        better |= change < -TOLERANCE;
        if change > TOLERANCE {
            worse.push(now);
        }
    }
    for gone in known.instructions.keys().filter(|name| !counted.contains_key(*name)) {
        println!("{gone:<30} is in the baseline and was not counted");
        unknown = true;
    }
    let ours = versions();
    if known.made_with != ours && (!worse.is_empty() || better) {
        println!("\nThe baseline was counted with {:?}, this with {ours:?}.", known.made_with);
        println!("If nothing else has changed, that is why: accept it in a commit of its own.");
    }
    if !worse.is_empty() {
        println!("\nMore than {TOLERANCE} % worse. To see where the instructions go:");
        for scene in &worse {
            println!("  callgrind_annotate --show=Ir --auto=no {}", scene.profile);
        }
        println!(
            "--auto=yes shows them at the lines. The same in a worktree of the commit before gives the list to"
        );
        println!("compare with.");
    }
    if !worse.is_empty() || unknown {
        println!("\nIf it is worth it, say in the commit why, with the baseline that this rewrites:");
        println!("  tests/guard/run.sh --accept");
    } else if better {
        println!("\nMore than {TOLERANCE} % better: hold it with tests/guard/run.sh --accept");
    }
    Ok(worse.is_empty() && !unknown)
}

fn replace(baseline: &str, counts: &str) -> Result<bool, Failure> {
    let counted = read(counts)?;
    let instructions = counted.iter().map(|(name, scene)| (name.clone(), scene.instructions)).collect();
    let text = serde_json::to_string_pretty(&Baseline { made_with: versions(), instructions })?;
    std::fs::write(baseline, text + "\n")?;
    println!("{baseline}: accepted {} scenes", counted.len());
    Ok(true)
}

fn read(counts: &str) -> Result<BTreeMap<String, Counted>, Failure> {
    let text = std::fs::read_to_string(counts).map_err(|error| format!("{counts}: {error}"))?;
    let mut scenes = BTreeMap::new();
    for line in text.lines() {
        let summary: Value = serde_json::from_str(line)?;
        let text = |path: &str| summary.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, function) = (text("/id"), text("/function_name"));
        let profile = format!("{}/callgrind.{function}.{name}.out", text("/output_dir"));
        let instructions = summary
            .pointer("/profiles/0/data/total/metrics/Ir/values/new")
            .and_then(Value::as_u64)
            .filter(|&count| count > 0)
            .ok_or_else(|| {
                format!("{counts}: no instructions of {name}: has the runner's version changed?")
            })?;
        scenes.insert(name, Counted { instructions, profile });
    }
    if scenes.is_empty() {
        return Err(format!("{counts}: nothing was counted").into());
    }
    Ok(scenes)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn percent(before: u64, now: u64) -> f64 {
    (now as f64 / before.max(1) as f64 - 1.0) * 100.0
}

/// Instructions for one delivery.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn each(name: &str, instructions: u64) -> f64 {
    let cast = [cast::FANOUT, cast::POINT_TO_POINT].into_iter().find(|cast| name.starts_with(cast.name));
    let deliveries = cast.map_or(1, |cast| cast.deliveries() * u64::from(cast::ROUNDS));
    instructions as f64 / deliveries as f64
}

fn versions() -> BTreeMap<String, String> {
    let of = |program: &str| {
        let told = Command::new(program).arg("--version").output().ok();
        let line = told.and_then(|told| String::from_utf8(told.stdout).ok()).unwrap_or_default();
        (program.to_owned(), line.lines().next().unwrap_or("?").to_owned())
    };
    [of("rustc"), of("valgrind")].into()
}
