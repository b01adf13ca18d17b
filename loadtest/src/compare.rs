//! Runs the table.
use crate::arguments::Compare;
use crate::failure::Failure;
use std::process::ExitCode;

pub(crate) fn run(_: &Compare) -> Result<ExitCode, Failure> {
    Ok(ExitCode::SUCCESS)
}
