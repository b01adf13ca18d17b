//! `switchboard store …`: what an operator can ask of a store that no broker has open.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use switchboard::store::disk::{
    self, CheckReport, CompactReport, Damage, OpenError, StatsReport, TableStats,
};

/// `EX_DATAERR` of sysexits.h: there is damage.
const EXIT_DAMAGED: u8 = 65;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    Check,
    Stats,
    Compact,
}

/// Lines for people, and how the program ends.
pub(crate) type Answer = Result<(Vec<String>, ExitCode), OpenError>;

/// Answers a question about the store in `directory`.
pub(crate) fn answer(question: Question, directory: &Path) -> Answer {
    match question {
        Question::Check => disk::check(directory).map(|report| checked(&report)),
        Question::Stats => disk::stats(directory).map(|report| (measured(&report), ExitCode::SUCCESS)),
        Question::Compact => disk::compact(directory).map(|report| (compacted(&report), ExitCode::SUCCESS)),
    }
}

fn checked(report: &CheckReport) -> (Vec<String>, ExitCode) {
    let mut lines = tables(&report.tables);
    lines.push(line("cuts in the journal", report.cuts));
    lines.extend(
        report.torn.iter().map(|torn| format!("torn end, to be cut at the next start: {}", place(torn))),
    );
    lines.extend(report.damaged.iter().map(|damage| format!("damaged: {}", place(damage))));
    if report.cuts_missing > 0 {
        lines.push(line("cuts lost", report.cuts_missing));
    }
    let whole = report.is_whole();
    lines.push(if whole { "whole".to_owned() } else { "NOT WHOLE".to_owned() });
    (lines, if whole { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DAMAGED) })
}

fn measured(report: &StatsReport) -> Vec<String> {
    let mut lines = tables(&report.tables);
    lines.extend([
        line("bytes of the journal", report.journal_bytes),
        line("bytes of the view", report.view_bytes),
        line("bytes of the export", report.export_bytes),
        line("bytes of damaged files set aside", report.damaged_bytes),
    ]);
    lines
}

fn compacted(report: &CompactReport) -> Vec<String> {
    vec![line("bytes before", report.bytes_before), line("bytes after", report.bytes_after)]
}

fn tables(tables: &[TableStats]) -> Vec<String> {
    let row = |name: &str, documents: &dyn Display, bytes: &dyn Display| {
        format!("{name:<34}{documents:>12}{bytes:>16}")
    };
    let mut lines = vec![row("", &"documents", &"bytes")];
    lines.extend(tables.iter().map(|table| row(table.table.name(), &table.documents, &table.bytes)));
    lines
}

fn line(name: &str, value: u64) -> String {
    format!("{name:<34}{value:>12}")
}

fn place(damage: &Damage) -> String {
    format!("{} bytes at {} of {}", damage.bytes, damage.offset, damage.file.display())
}
