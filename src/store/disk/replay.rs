//! Reads the journal from its first segment to its last, past any damage.

use std::fs::OpenOptions;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use super::super::batch::Changes;
use super::files::{self, HEADER, Header, Kind};
use super::frame::{Found, Frames, HEAD, Mark};
use super::journal::{ENDING, Segment};
use super::progress::Progress;

/// Bytes that are not as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it they start.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
}

/// What the journal holds.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Its files.
    pub(super) segments: Vec<Segment>,
    /// Whether the last of them can be gone on with.
    pub(super) appendable: bool,
    /// The first cut that can be read, and the last.
    pub(super) cuts: Option<RangeInclusive<u64>>,
    /// Frames read.
    pub(super) frames: u64,
    /// Cuts that should be there and are not.
    pub(super) lost: Vec<RangeInclusive<u64>>,
    /// Damage that is not an end that a crash has torn off.
    pub(super) damaged: Vec<Damage>,
    /// The end that a crash has torn off, if it has.
    pub(super) torn: Option<Damage>,
}

impl Replay {
    /// Whether all cuts from `from` on can be read, as far as is known.
    pub(super) fn is_whole_from(&self, from: u64) -> bool {
        self.cuts.as_ref().is_none_or(|cuts| *cuts.start() <= from)
            && self.lost.iter().all(|lost| *lost.end() < from)
    }

    /// The last cut; 0 without any.
    pub(super) fn last(&self) -> u64 {
        self.cuts.as_ref().map_or(0, |cuts| *cuts.end())
    }
}

/// Shows the changes of every cut from `from` on, in order and each once, and the bytes that the cut takes in the journal.
/// With a `repair` directory, damaged bytes are copied there and a torn end is cut off.
pub(super) fn replay(
    directory: &Path,
    mark: Mark,
    repair: Option<&Path>,
    apply: &mut dyn FnMut(u64, Changes<'_>, u64),
) -> io::Result<Replay> {
    let files = files::numbered(directory, ENDING)?;
    let mut reader = Reader { replay: Replay::default(), expected: None, tail: None, repair };
    let count = files.len();
    let mut progress = Progress::begin();
    for (index, (number, path)) in files.into_iter().enumerate() {
        let cuts = reader.replay.frames;
        progress.step(|ms| tracing::info!(files = index, of = count, cuts, ms, "reading the journal"));
        reader.segment(number, &path, mark, index + 1 == count, apply)?;
    }
    Ok(reader.replay)
}

struct Reader<'a> {
    replay: Replay,
    /// The next cut's number, once it is known.
    expected: Option<u64>,
    /// The unreadable end of the segment before: damage if cuts are missing behind it, otherwise what a write that failed
    /// left, before it went on in the next segment.
    tail: Option<Tail>,
    repair: Option<&'a Path>,
}

struct Tail {
    path: PathBuf,
    number: u64,
    offset: usize,
    bytes: Vec<u8>,
}

impl Reader<'_> {
    fn segment(
        &mut self,
        number: u64,
        path: &Path,
        mark: Mark,
        is_last: bool,
        apply: &mut dyn FnMut(u64, Changes<'_>, u64),
    ) -> io::Result<()> {
        let bytes = files::read_whole(path)?;
        let header = Header::decode(Kind::Segment, &bytes).filter(|header| header.mark == mark);
        if let Some(header) = header {
            self.expect(header.cut)?;
        }
        let mut end = HEADER.min(bytes.len());
        let mut pending: Option<Range<usize>> = header.is_none().then_some(0..end);
        for found in Frames::new(&bytes, end, mark) {
            let frame = match found {
                Found::Damaged(range) => {
                    let from = pending.map_or(range.start, |before| before.start);
                    pending = Some(from..range.end);
                    continue;
                }
                Found::Frame(frame) => frame,
            };
            if let Some(range) = pending.take() {
                self.damaged(path, number, range.start, bytes.get(range).unwrap_or_default())?;
            }
            let start = frame.end - HEAD - frame.payload.len();
            if Changes::new(frame.payload).any(|change| change.is_err()) {
                // Its checksum fits, so another program has written it: it is kept aside like damage.
                pending = Some(start..frame.end);
                continue;
            }
            end = frame.end;
            if self.expected.is_some_and(|expected| frame.number < expected) {
                continue;
            }
            self.expect(frame.number)?;
            self.expected = Some(frame.number + 1);
            let first = self.replay.cuts.as_ref().map_or(frame.number, |cuts| *cuts.start());
            self.replay.cuts = Some(first..=frame.number);
            self.replay.frames += 1;
            apply(frame.number, Changes::new(frame.payload), (frame.end - start) as u64);
        }
        let last = self.expected.map_or(0, |expected| expected - 1);
        let mut segment = Segment { path: path.to_owned(), number, last, bytes: bytes.len() as u64 };
        self.replay.appendable = is_last && header.is_some();
        match pending {
            Some(range) if is_last => self.torn(&mut segment, &bytes, range, end)?,
            Some(range) => {
                let (path, offset) = (path.to_owned(), range.start);
                let bytes = bytes.get(range).unwrap_or_default().to_vec();
                self.tail = Some(Tail { path, number, offset, bytes });
            }
            None => {}
        }
        self.replay.segments.push(segment);
        Ok(())
    }

    /// The next cut is said to be `number`: those between are lost.
    fn expect(&mut self, number: u64) -> io::Result<()> {
        let expected = self.expected.unwrap_or(number);
        let tail = self.tail.take();
        if number > expected {
            self.replay.lost.push(expected..=number - 1);
            if let Some(Tail { path, number, offset, bytes }) = tail {
                self.damaged(&path, number, offset, &bytes)?;
            }
        }
        self.expected = Some(expected.max(number));
        Ok(())
    }

    fn damaged(&mut self, path: &Path, number: u64, offset: usize, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            self.keep(number, offset, bytes)?;
            let (offset, bytes) = (offset as u64, bytes.len() as u64);
            self.replay.damaged.push(Damage { file: path.to_owned(), offset, bytes });
        }
        Ok(())
    }

    /// The last segment's end is cut off behind its last whole frame.
    fn torn(
        &mut self,
        segment: &mut Segment,
        bytes: &[u8],
        range: Range<usize>,
        end: usize,
    ) -> io::Result<()> {
        let (offset, torn) = (range.start, bytes.get(range).unwrap_or_default());
        if !torn.is_empty() {
            self.keep(segment.number, offset, torn)?;
            let (offset, bytes) = (offset as u64, torn.len() as u64);
            self.replay.torn = Some(Damage { file: segment.path.clone(), offset, bytes });
        }
        if self.repair.is_some() && self.replay.appendable {
            let file = OpenOptions::new().write(true).open(&segment.path)?;
            file.set_len(end as u64)?;
            file.sync_all()?;
            segment.bytes = end as u64;
        }
        Ok(())
    }

    fn keep(&self, number: u64, offset: usize, spoilt: &[u8]) -> io::Result<()> {
        if let Some(directory) = self.repair {
            files::keep(directory, &format!("{number:010}-{offset}"), spoilt)?;
        }
        Ok(())
    }
}
