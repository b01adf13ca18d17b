//! A store's directory: whose it is, in which format, and what opening it can come to.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::files::{self, HEADER, Header, Kind};
use super::frame::Mark;
use super::journal;

/// The format that this program writes.
pub(super) const VERSION: u32 = 1;

const MAGIC: &str = "switchboard store";

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory cannot be used.
    #[error("{path}: {error}", path = path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process has it open.
    #[error("{path}: another process has this store open; one process at a time can use it", path = directory.display())]
    InUse {
        /// The store.
        directory: PathBuf,
    },
    /// It was written by a later program.
    #[error(
        "{path}: the store has format {found}, and this program knows formats up to {VERSION}; \
         use the version of the program that wrote it, or a later one",
        path = directory.display()
    )]
    Newer {
        /// The store.
        directory: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The directory holds something else.
    #[error("{path}: this is not the format file of a store, and no journal beside it tells more", path = path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// Nothing is there; told only by what does not create a store.
    #[error("{path}: there is no store here", path = directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
    },
}

/// Says which path an error is about.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    move |error| OpenError::Unusable { path: path.to_owned(), error }
}

/// A directory that is ours alone while this lives.
#[derive(Debug)]
pub(super) struct Home {
    directory: PathBuf,
    pub(super) mark: Mark,
    /// Locked until it is dropped.
    _lock: File,
}

impl Home {
    /// Takes the directory, and makes a store there if none is.
    pub(super) fn create(directory: &Path) -> Result<Self, OpenError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))?;
        let lock = lock(directory)?;
        for part in [directory.join("journal"), directory.join("view"), directory.join("export")] {
            if !part.is_dir() {
                DirBuilder::new().mode(0o700).create(&part).map_err(at(&part))?;
            }
        }
        files::sync_directory(directory).map_err(at(directory))?;
        let mark = match read_format(directory)? {
            Some(mark) => mark,
            None => write_format(directory)?,
        };
        Ok(Self { directory: directory.to_owned(), mark, _lock: lock })
    }

    /// Takes the directory of a store that is there.
    pub(super) fn existing(directory: &Path) -> Result<Self, OpenError> {
        if !directory.join("FORMAT").exists() && !directory.join("journal").exists() {
            return Err(OpenError::Missing { directory: directory.to_owned() });
        }
        let lock = lock(directory)?;
        let mark = read_format(directory)?.unwrap_or(Mark(1));
        Ok(Self { directory: directory.to_owned(), mark, _lock: lock })
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.directory.join("journal")
    }

    pub(super) fn view(&self) -> PathBuf {
        self.directory.join("view")
    }

    pub(super) fn export(&self) -> PathBuf {
        self.directory.join("export").join("documents")
    }

    pub(super) fn damaged(&self) -> PathBuf {
        self.directory.join("damaged")
    }
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("LOCK");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { directory: directory.to_owned() }),
        Err(TryLockError::Error(error)) => Err(at(&path)(error)),
    }
}

/// The mark in the format file, or of the journal where that file is damaged; `None` for a new store.
fn read_format(directory: &Path) -> Result<Option<Mark>, OpenError> {
    let path = directory.join("FORMAT");
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(at(&path)(error)),
    };
    let mut lines = text.lines();
    let known = lines.next() == Some(MAGIC);
    let version = lines.next().and_then(|line| line.strip_prefix("version ")?.parse::<u32>().ok());
    let mark = lines.next().and_then(|line| u32::from_str_radix(line.strip_prefix("mark ")?, 16).ok());
    match (known, version, mark) {
        (true, Some(VERSION), Some(mark)) => Ok(Some(Mark(mark))),
        // Older formats are migrated here, one after the other, once there are any.
        (true, Some(found), _) if found != VERSION => {
            Err(OpenError::Newer { directory: directory.to_owned(), found })
        }
        _ => match mark_of_headers(directory) {
            Some(mark) => {
                tracing::warn!(path = %path.display(), "the format file is damaged or missing; the journal tells the format");
                Ok(Some(mark))
            }
            None if text.is_empty() => Ok(None),
            None => Err(OpenError::NotAStore { path }),
        },
    }
}

fn mark_of_headers(directory: &Path) -> Option<Mark> {
    let segments = files::numbered(&directory.join("journal"), journal::ENDING).unwrap_or_default();
    let header = |kind, path: &Path| {
        let bytes = files::read_whole(path).ok()?;
        Header::decode(kind, bytes.get(..HEADER)?)
    };
    let of_segments = segments.iter().find_map(|(_, path)| header(Kind::Segment, path));
    of_segments.or_else(|| header(Kind::Export, &directory.join("export").join("documents"))).map(|h| h.mark)
}

fn write_format(directory: &Path) -> Result<Mark, OpenError> {
    let path = directory.join("FORMAT");
    // Every byte of it is set, so that no run of zeros begins like a frame.
    let mark = RandomState::new().hash_one(std::process::id()) as u32 | 0x0101_0101;
    let text = format!("{MAGIC}\nversion {VERSION}\nmark {mark:08x}\n");
    files::replace(&path, text.as_bytes()).map_err(at(&path))?;
    Ok(Mark(mark))
}
