//! What all files of a store have in common: a header that says what they are, and how they get onto the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::frame::Mark;

/// Bytes of a file's header.
pub(super) const HEADER: usize = 36;

/// The format of the files, in each header.
const VERSION: u32 = 1;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Segment,
    Export,
}

impl Kind {
    const fn magic(self) -> [u8; 8] {
        match self {
            Self::Segment => *b"SWBJRNL\n",
            Self::Export => *b"SWBEXPT\n",
        }
    }
}

/// The first bytes of a segment or an export: magic (8), version (4), mark (4), number (8), cut (8), CRC-32 (4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) mark: Mark,
    /// A segment's number; 0 for an export.
    pub(super) number: u64,
    /// Segment: the first cut that it may hold. Export: the cut through which it is complete.
    pub(super) cut: u64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&self.kind.magic());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.mark.0.to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.cut.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// The header of a file of this kind, if it is whole.
    pub(super) fn decode(kind: Kind, bytes: &[u8]) -> Option<Self> {
        let (head, crc) = bytes.get(..HEADER)?.split_last_chunk::<4>()?;
        let (magic, rest) = head.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (mark, rest) = rest.split_first_chunk::<4>()?;
        let (number, cut) = rest.split_first_chunk::<8>()?;
        let whole = *magic == kind.magic()
            && u32::from_le_bytes(*version) == VERSION
            && crc32fast::hash(head) == u32::from_le_bytes(*crc);
        let header = Self {
            kind,
            mark: Mark(u32::from_le_bytes(*mark)),
            number: u64::from_le_bytes(*number),
            cut: u64::from_le_bytes(cut.try_into().ok()?),
        };
        whole.then_some(header)
    }
}

/// Creates a file that is not there yet, for its owner alone.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Puts a file with these bytes into place, so that after a crash it is there wholly or as it was.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Reads a file. Blocks that the disk cannot read are zeros: what they held is found to be damaged later.
pub(super) fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    const BLOCK: usize = 4096;
    let unreadable = |error: &io::Error| error.raw_os_error() == Some(5);
    match fs::read(path) {
        Err(error) if unreadable(&error) => {}
        read => return read,
    }
    let file = File::open(path)?;
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    for (block, at) in bytes.chunks_mut(BLOCK).zip((0..).step_by(BLOCK)) {
        match file.read_exact_at(block, at) {
            Err(error) if unreadable(&error) => block.fill(0),
            read => read?,
        }
    }
    Ok(bytes)
}

/// The files of a directory whose names are numbers with this ending, by number.
pub(super) fn numbered(directory: &Path, ending: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(ending)?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort_unstable();
    Ok(found)
}

/// Bytes on the disk of a file, or of all files below a directory; 0 for what is not there.
pub(super) fn bytes_on_disk(path: &Path) -> u64 {
    let Ok(about) = fs::symlink_metadata(path) else { return 0 };
    if !about.is_dir() {
        return about.len();
    }
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries.flatten().map(|entry| bytes_on_disk(&entry.path())).sum()
}

/// Keeps a copy of damaged bytes. The same bytes again replace the copy.
pub(super) fn keep(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let path = directory.join(name);
    replace(&path, bytes)?;
    Ok(path)
}

/// Moves a file or directory among the damaged ones, under a name that is free.
pub(super) fn set_aside(path: &Path, directory: &Path, name: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let mut to = directory.join(name);
    for number in 2.. {
        if !to.exists() {
            break;
        }
        to = directory.join(format!("{name}-{number}"));
    }
    fs::rename(path, &to)?;
    sync_directory(directory)?;
    path.parent().map_or(Ok(()), sync_directory)?;
    Ok(to)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_whole_or_none() {
        let header = Header { kind: Kind::Segment, mark: Mark(77), number: 3, cut: 12 };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER);
        assert_eq!(Header::decode(Kind::Segment, &bytes), Some(header));
        assert_eq!(Header::decode(Kind::Export, &bytes), None);
        for at in 0..HEADER * 8 {
            let mut spoilt = bytes.clone();
            spoilt[at / 8] ^= 1 << (at % 8);
            assert_eq!(Header::decode(Kind::Segment, &spoilt), None, "bit {at}");
        }
        assert_eq!(Header::decode(Kind::Segment, &bytes[..HEADER - 1]), None);
    }
}
