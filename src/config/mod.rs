//! TOML to the settings of each part; problems as data.
//!
//! Owns `conf/switchboard.toml` and the `--set` arguments laid over it: [`load`] reads them, and the routing
//! file they name, and gives either settings or everything that is wrong. The one part that knows TOML keys.

mod arguments;
pub mod exposure;
pub mod problem;
mod raw;
mod resolve;
mod routing;
pub mod settings;
mod units;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use problem::Problem;
pub use settings::Settings;

use crate::desk::Routing;
use arguments::Joined;
use raw::RawFile;

/// Where a server looks for its configuration if nobody says, relative to its working directory.
pub const DEFAULT_FILE: &str = "conf/switchboard.toml";

/// A configuration without a problem.
#[derive(Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The rules of [`Settings::routing_file`], if it names one.
    pub routing: Option<Arc<Routing>>,
}

/// Reads `file`, or nothing but the defaults, lays the `--set` arguments (`PATH=VALUE`) over it, and reads the
/// routing file that it names.
///
/// # Errors
/// All that is wrong in both files and in the arguments, sorted by file and line.
pub fn load(file: Option<&Path>, arguments: &[String]) -> Result<Loaded, Vec<Problem>> {
    let Some(file) = file else { return parse("", Path::new(""), arguments) };
    match fs::read_to_string(file) {
        Ok(text) => parse(&text, file, arguments),
        Err(error) => Err(vec![Problem {
            file: file.display().to_string(),
            line: 0,
            column: 0,
            key: String::new(),
            wrong: format!("cannot be read: {error}"),
            right: String::new(),
        }]),
    }
}

/// As [`load`], from the text of `file`.
fn parse(text: &str, file: &Path, arguments: &[String]) -> Result<Loaded, Vec<Problem>> {
    let name = file.display().to_string();
    let joined = Joined::new(text, arguments);
    let source = joined.source(&name);
    let mut problems = Vec::new();
    let mut table = source.table()?;
    joined.lay_over(table.get_mut(), source, &mut problems);
    let (raw, unread) = source.fit::<RawFile>(table);
    problems.extend(unread);
    let raw = raw.unwrap_or_default();
    let (mut settings, mut problems) = resolve::resolve(source, &raw, problems);

    let mut routing = None;
    if let Some(written) = raw.desk.routing.as_ref().filter(|written| !written.get_ref().is_empty()) {
        // A path in a file is relative to that file, one in an argument to the working directory.
        let beside = file.parent().filter(|_| !source.is_argument(&written.span()));
        let path = beside.unwrap_or(Path::new("")).join(written.get_ref());
        match fs::read_to_string(&path) {
            Ok(text) => match Routing::parse(&text, &path.display().to_string()) {
                Ok(rules) => routing = Some(Arc::new(rules)),
                Err(wrong) => problems.extend(wrong),
            },
            Err(error) => {
                let wrong = format!("{} cannot be read: {error}", path.display());
                problems.push(source.problem(&written.span(), "desk.routing", wrong, ""));
            }
        }
        settings.routing_file = Some(path);
    }
    if problems.is_empty() {
        return Ok(Loaded { settings, routing });
    }
    problems.sort();
    Err(problems)
}

/// [`DEFAULT_FILE`], if it is there.
pub fn default_file() -> Option<PathBuf> {
    Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists())
}

#[cfg(test)]
mod tests;
