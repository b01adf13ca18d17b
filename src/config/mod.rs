//! TOML to the settings of each part; problems as data.
//!
//! Owns `conf/switchboard.toml` and the `--set` arguments laid over it: [`load`] reads them, the routing
//! file they name and the models that one names, the access rules, and gives either settings or everything that is wrong. The one part that knows TOML keys.

mod acl;
mod arguments;
mod auth;
pub mod exposure;
mod fit;
mod limits;
mod listener;
pub mod problem;
mod raw;
mod resolve;
mod routing;
pub mod settings;
mod units;
mod unread;
mod values;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use std::sync::Arc;

pub use acl::AccessRules;
pub use auth::{parse_users, user_entry};
pub use problem::Problem;
pub use settings::Settings;

use crate::auth::{Access, Chain};
use crate::desk::{Routing, Scorer};
use arguments::Joined;
use problem::Problems;
use raw::RawFile;

/// Where a server looks for its configuration if nobody says, relative to its working directory.
pub const DEFAULT_FILE: &str = "conf/switchboard.toml";

/// The longest file that is read, in bytes: a hundred times the shipped ones is no configuration.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Revocation lists may be long.
const MAX_PEM_BYTES: u64 = 16 << 20;

/// A configuration without a problem.
#[derive(Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The rules of [`Settings::routing_file`], if it names one.
    pub routing: Option<Arc<Routing>>,
    /// The rules of the file that `acl.file` names.
    pub access: AccessRules,
    /// How clients prove who they are, by listener.
    pub chains: Vec<Chain>,
}

impl Loaded {
    /// Whether any listener asks who comes.
    pub fn has_logins(&self) -> bool {
        self.chains.iter().any(|chain| !chain.is_empty())
    }

    /// Who may come in, and what clients may.
    pub fn access(&self) -> Access {
        Access { acl: self.access.acl(self.has_logins()), chains: self.chains.clone() }
    }
}

/// Reads `file`, or nothing but the defaults, lays the `--set` arguments (`PATH=VALUE`) over it, and reads the
/// files that it names.
///
/// # Errors
/// What is wrong in all files and in the arguments, sorted by file and line: the first
/// [`MAX_PROBLEMS`](problem::MAX_PROBLEMS), and a word about the others.
pub fn load(file: Option<&Path>, arguments: &[String]) -> Result<Loaded, Vec<Problem>> {
    let Some(file) = file else { return parse("", Path::new(""), arguments) };
    match read_file(file) {
        Ok(text) => parse(&text, file, arguments),
        Err(error) => Err(vec![unreadable(file, &error)]),
    }
}

fn unreadable(file: &Path, error: &Unreadable) -> Problem {
    Problem {
        file: file.display().to_string(),
        line: 0,
        column: 0,
        key: String::new(),
        wrong: error.to_string(),
        right: error.right(),
    }
}

/// As [`load`], from the text of `file`.
fn parse(text: &str, file: &Path, arguments: &[String]) -> Result<Loaded, Vec<Problem>> {
    let name = file.display().to_string();
    read(text, file, &name, arguments).map_err(|problems| problems.sorted(&name))
}

fn read(text: &str, file: &Path, name: &str, arguments: &[String]) -> Result<Loaded, Problems> {
    let joined = Joined::new(text, arguments);
    let source = &joined.source(name);
    let mut problems = Problems::default();
    let mut table = source.table()?;
    joined.lay_over(table.get_mut(), source, &mut problems);
    let (raw, unread) = source.fit::<RawFile>(table);
    problems.extend(unread);
    let raw = raw.unwrap_or_default();
    let (mut settings, mut problems) = resolve::resolve(source, &raw, file.parent(), problems);

    let chains = auth::load(source, file, &raw, &settings.listeners, &mut problems);
    let access = acl::load(source, file, raw.acl.file.as_ref(), &mut problems);
    let mut routing = None;
    if let Some(written) = raw.desk.routing.as_ref().filter(|written| !written.get_ref().is_empty()) {
        // A path in a file is relative to that file, one in an argument to the working directory.
        let beside = file.parent().filter(|_| !source.is_argument(&written.span()));
        let path = beside.unwrap_or(Path::new("")).join(written.get_ref());
        match read_file(&path) {
            Ok(text) => match read_routing(&text, &path) {
                Ok(rules) => routing = Some(Arc::new(rules)),
                Err(wrong) => problems.extend(wrong),
            },
            Err(error) => {
                let wrong = format!("{} {error}", path.display());
                problems.push(source.problem(&written.span(), "desk.routing", wrong, error.right()));
            }
        }
        settings.routing_file = Some(path);
    }
    if problems.is_empty() { Ok(Loaded { settings, routing, access, chains }) } else { Err(problems) }
}

/// The rules of a routing file, with the models that it names: their paths are relative to its folder.
fn read_routing(text: &str, path: &Path) -> Result<Routing, Problems> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let models = |name: &str| {
        let mut bytes = Vec::new();
        File::open(folder.join(name))?.take(Scorer::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    routing::read(text, &path.display().to_string(), Some(&models))
}

/// A file whose text cannot be had.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("cannot be read: {0}")]
    System(#[from] io::Error),
    #[error("cannot be read: it is no UTF-8 text")]
    Encoding(#[from] FromUtf8Error),
    #[error("is too large")]
    Size,
}

impl Unreadable {
    /// What would be right.
    fn right(&self) -> String {
        match self {
            Self::System(_) | Self::Encoding(_) => String::new(),
            Self::Size => format!("at most {}", units::show_bytes(MAX_FILE_BYTES)),
        }
    }
}

/// The text of a file. Of one that is too large, or has no end, no more than that is read.
fn read_file(path: &Path) -> Result<String, Unreadable> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Unreadable::Size);
    }
    Ok(String::from_utf8(bytes)?)
}

/// What a file of certificates, keys or revocations holds.
///
/// # Errors
/// The system's, and one for a file that is larger than any of these is.
pub fn read_pem(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        return Err(io::Error::other(format!("more than {}", units::show_bytes(MAX_PEM_BYTES))));
    }
    Ok(bytes)
}

/// [`DEFAULT_FILE`], if it is there.
///
/// # Errors
/// It cannot be told whether it is there: then a server that ran on the defaults might not be the one that was meant.
pub fn default_file() -> Result<Option<PathBuf>, Problem> {
    // Of a link itself, so that one that leads nowhere is told when the file is read.
    match fs::symlink_metadata(DEFAULT_FILE) {
        Ok(_) => Ok(Some(PathBuf::from(DEFAULT_FILE))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(Path::new(DEFAULT_FILE), &Unreadable::System(error))),
    }
}

#[cfg(test)]
mod tests;
