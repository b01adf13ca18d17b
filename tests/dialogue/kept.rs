//! A broker that is ended and started again, with its store on disk.

use std::fs;
use std::path::{Path, PathBuf};

use switchboard::config::Settings;

use super::own::{Own, own};
use super::unique;

/// How the broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Drain,
    Crash,
}

pub const BOTH: [Ending; 2] = [Ending::Drain, Ending::Crash];

/// A folder for stores that goes away again.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(unique("switchboard-restart"));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker with a store, which can be ended and started again.
pub struct Kept {
    folder: Folder,
    number: u32,
    routing: Option<&'static str>,
    change: fn(&mut Settings),
}

impl Kept {
    pub fn new(routing: Option<&'static str>, change: fn(&mut Settings)) -> Self {
        Self { folder: Folder::new(), number: 0, routing, change }
    }

    pub fn directory(&self) -> PathBuf {
        self.folder.0.join(self.number.to_string())
    }

    pub fn start(&self) -> Own {
        let directory = self.directory();
        own(self.routing, |settings| {
            settings.store.directory = Some(directory);
            (self.change)(settings);
        })
    }

    /// Ends a broker and starts the next one. A crash is seen as it would be on disk: the files are copied while the
    /// broker runs.
    pub fn restart(&mut self, broker: Own, ending: Ending) -> Own {
        let before = self.directory();
        self.number += 1;
        match ending {
            Ending::Drain => {
                broker.close();
                fs::rename(&before, self.directory()).unwrap();
            }
            Ending::Crash => {
                copy(&before, &self.directory());
                broker.close();
            }
        }
        self.start()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if let Err(error) = fs::copy(entry.path(), &target) {
            // The store may have replaced a file meanwhile, as it may in a crash.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}
