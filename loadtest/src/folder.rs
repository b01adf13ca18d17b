//! A directory for a broker's store, removed in the end.

use crate::failure::Failure;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// A new one in `parent`, or where the system has its temporary files.
    pub(crate) fn new(parent: Option<&Path>) -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("loadtest-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(Failure::io(format!("making {}", path.display())))?;
        Ok(Self(path))
    }

    /// A command with this directory for `{store}`, and the port for `{port}`.
    pub(crate) fn fill_in(&self, word: &str, port: u16) -> String {
        word.replace("{port}", &port.to_string()).replace("{store}", &self.0.to_string_lossy())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
