//! The journal: segment files of frames, one frame for each cut that changes something.
//!
//! The numbers of the cuts in it follow each other without gaps, so a reader knows what is missing. A cut that could not
//! be written for sure is written again to a new segment; a cut that stands in two segments is read once.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::Batch;
use super::files::{self, HEADER, Header, Kind};
use super::frame::{self, Mark};
use crate::clock::Clock;

/// How the names of segments end.
pub(super) const ENDING: &str = ".log";

/// A buffer larger than this is given back after a large cut.
const BUFFER_BYTES: usize = 4 << 20;

/// A file of the journal.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) number: u64,
    /// The last cut in it; the one before its first if it is empty.
    pub(super) last: u64,
    pub(super) bytes: u64,
}

/// The end of the journal, where it grows.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    mark: Mark,
    segment_bytes: u64,
    current: Option<(Segment, File)>,
    next_segment: u64,
    /// The last cut that is durable.
    last: u64,
    buffer: Vec<u8>,
    clock: Clock,
    /// Segments that nothing more is written to, for [`Journal::take_closed`].
    closed: Vec<Segment>,
}

/// What went wrong, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

/// A cut that is durable.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) number: u64,
    /// Bytes that the journal has grown by.
    pub(super) bytes: u64,
    /// How long the disk took to confirm it, in microseconds.
    pub(super) sync_us: u64,
}

impl Journal {
    /// Goes on behind cut `last`, in segment `current` or, without one, in a new segment `next_segment`.
    pub(super) fn new(
        directory: PathBuf,
        mark: Mark,
        segment_bytes: u64,
        current: Option<(Segment, File)>,
        next_segment: u64,
        last: u64,
    ) -> Self {
        Self {
            directory,
            mark,
            segment_bytes,
            current,
            next_segment,
            last,
            buffer: Vec::new(),
            clock: Clock::start(),
            closed: Vec::new(),
        }
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a cut's changes and has the disk confirm them. After an error the cut is not durable, as far as is known;
    /// call [`Journal::give_up_segment`] before it is written again.
    pub(super) fn append(&mut self, batches: &[Batch]) -> Result<Appended, Fault> {
        let number = self.last + 1;
        if let Some((full, _)) = self.current.take_if(|(segment, _)| segment.bytes >= self.segment_bytes) {
            self.closed.push(full);
        }
        let here = |path: &Path, error| Fault { path: path.to_owned(), error };
        let (segment, file) = match &mut self.current {
            Some(current) => current,
            none => {
                let begun = begin(&self.directory, self.mark, self.next_segment, number)
                    .map_err(|error| here(&self.directory, error))?;
                self.next_segment += 1;
                none.insert(begun)
            }
        };
        self.buffer.clear();
        let result = frame::append(&mut self.buffer, self.mark, number, batches.iter().map(Batch::as_bytes))
            .map_err(io::Error::other)
            .and_then(|()| file.write_all_at(&self.buffer, segment.bytes))
            .and_then(|()| {
                let begun = self.clock.micros();
                file.sync_data().map(|()| self.clock.micros() - begun)
            });
        let bytes = self.buffer.len() as u64;
        self.buffer.shrink_to(BUFFER_BYTES);
        let sync_us = result.map_err(|error| here(&segment.path, error))?;
        segment.bytes += bytes;
        segment.last = number;
        self.last = number;
        Ok(Appended { number, bytes, sync_us })
    }

    /// Ends the segment behind its last durable cut: the next cut begins a new one.
    pub(super) fn give_up_segment(&mut self) {
        if let Some((segment, file)) = self.current.take() {
            // As well as it goes: what is left behind the end is read again as the same cut, or as nothing.
            let _ = file.set_len(segment.bytes);
            self.closed.push(segment);
        }
    }

    /// The last cut that is durable.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Ends it.
    pub(super) fn into_segments(self) -> impl Iterator<Item = Segment> {
        self.closed.into_iter().chain(self.current.map(|(segment, _)| segment))
    }

    /// Segments that nothing more is written to since the last call.
    pub(super) fn take_closed(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.closed)
    }
}

fn begin(directory: &Path, mark: Mark, number: u64, cut: u64) -> io::Result<(Segment, File)> {
    let path = directory.join(format!("{number:010}{ENDING}"));
    let header = Header { kind: Kind::Segment, mark, number, cut };
    // What an attempt that failed has left behind.
    let _ = fs::remove_file(&path);
    let file = files::create(&path)?;
    let written = file
        .write_all_at(&header.encode(), 0)
        .and_then(|()| file.sync_all())
        .and_then(|()| files::sync_directory(directory));
    if let Err(error) = written {
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok((Segment { path, number, last: cut - 1, bytes: HEADER as u64 }, file))
}

/// Removes segments and makes that durable. Those that cannot be removed come back.
pub(super) fn remove(directory: &Path, segments: Vec<Segment>) -> (Vec<Segment>, Option<Fault>) {
    let mut left = Vec::new();
    let mut fault = None;
    for segment in segments {
        match fs::remove_file(&segment.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                fault = Some(Fault { path: segment.path.clone(), error });
                left.push(segment);
            }
        }
    }
    if let Err(error) = files::sync_directory(directory) {
        fault = Some(Fault { path: directory.to_owned(), error });
    }
    (left, fault)
}
