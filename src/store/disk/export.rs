//! The export: all documents in one file, in the order of tables and keys, in compressed blocks with a checksum each.
//!
//! With the journal behind the cut that it names it is everything. A block holds documents of one table. Documents that
//! changed while it was written may be in it as they were before or after: the journal sets them right.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::super::Batch;
use super::super::batch::Changes;
use super::files::{self, HEADER, Header, Kind};
use super::frame::{self, Found, Frames, HEAD, Mark};
use super::{Damage, Table};

/// A block has about as many bytes before they are compressed.
const BLOCK_BYTES: usize = 64 << 10;

/// The number of the last frame: it says that the file is whole.
const TRAILER: u64 = u64::MAX;

/// An export that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    new: PathBuf,
    file: File,
    mark: Mark,
    block: Batch,
    of: Option<Table>,
    blocks: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins an export that will be complete through cut `cut`.
    pub(super) fn begin(path: &Path, mark: Mark, cut: u64) -> io::Result<Self> {
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = files::create(&new)?;
        file.write_all(&Header { kind: Kind::Export, mark, number: 0, cut }.encode())?;
        let (block, buffer) = (Batch::default(), Vec::new());
        Ok(Self { path: path.to_owned(), new, file, mark, block, of: None, blocks: 0, buffer })
    }

    /// Adds a document. They come in the order of tables and keys.
    pub(super) fn add(&mut self, table: Table, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.block.len() >= BLOCK_BYTES || self.of.is_some_and(|of| of != table) {
            self.end_block()?;
        }
        self.of = Some(table);
        self.block.put(table, |k| k.extend_from_slice(key), |v| v.extend_from_slice(value));
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let squeezed =
            snap::raw::Encoder::new().compress_vec(self.block.as_bytes()).map_err(io::Error::other)?;
        self.blocks += 1;
        self.frame(self.blocks, &squeezed)?;
        self.block.clear();
        Ok(())
    }

    fn frame(&mut self, number: u64, payload: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        frame::append(&mut self.buffer, self.mark, number, std::iter::once(payload))
            .map_err(io::Error::other)?;
        self.file.write_all(&self.buffer)
    }

    /// Puts it into the place of the last one; from then on it counts.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.end_block()?;
        let blocks = self.blocks.to_le_bytes();
        self.frame(TRAILER, &blocks)?;
        self.file.sync_all()?;
        fs::rename(&self.new, &self.path)?;
        self.path.parent().map_or(Ok(()), files::sync_directory)?;
        Ok(files::bytes_on_disk(&self.path))
    }
}

/// An export on the disk, of which it is known where its whole blocks are.
#[derive(Debug, Default)]
pub(super) struct Export {
    path: PathBuf,
    /// The cut through which it is complete; 0 without an export.
    pub(super) through: u64,
    pub(super) bytes: u64,
    /// In its whole blocks.
    pub(super) documents: u64,
    blocks: Vec<(Table, Range<u64>)>,
    /// What of it cannot be read.
    pub(super) damaged: Vec<Damage>,
    mark: Option<Mark>,
}

impl Export {
    /// Finds the whole blocks; without a file there are none, and that is no damage.
    pub(super) fn open(path: &Path, mark: Mark) -> io::Result<Self> {
        let mut export = Self { path: path.to_owned(), mark: Some(mark), ..Self::default() };
        let bytes = match files::read_whole(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(export),
            Err(error) => return Err(error),
        };
        export.bytes = bytes.len() as u64;
        match Header::decode(Kind::Export, &bytes).filter(|header| header.mark == mark) {
            Some(header) => export.through = header.cut,
            None => export.is_damaged(0..HEADER.min(bytes.len())),
        }
        let mut trailer = None;
        for found in Frames::new(&bytes, HEADER.min(bytes.len()), mark) {
            match found {
                Found::Damaged(range) => export.is_damaged(range),
                Found::Frame(frame) if frame.number == TRAILER => trailer = frame.payload.try_into().ok(),
                Found::Frame(frame) => {
                    let range = frame.end - frame.payload.len() - HEAD..frame.end;
                    if let Some((table, documents)) = about(frame.payload) {
                        export.documents += documents;
                        export.blocks.push((table, range.start as u64..range.end as u64));
                    } else {
                        export.is_damaged(range);
                    }
                }
            }
        }
        if trailer.map(u64::from_le_bytes) != Some(export.blocks.len() as u64) && export.damaged.is_empty() {
            export.is_damaged(bytes.len()..bytes.len());
        }
        Ok(export)
    }

    fn is_damaged(&mut self, range: Range<usize>) {
        let (offset, bytes) = (range.start as u64, range.len() as u64);
        self.damaged.push(Damage { file: self.path.clone(), offset, bytes });
    }

    /// Whether all that was exported can be read.
    pub(super) fn is_whole(&self) -> bool {
        self.damaged.is_empty()
    }

    /// Shows the documents of a table.
    pub(super) fn each(&self, table: Table, show: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let Some(mark) = self.mark.filter(|_| !self.blocks.is_empty()) else { return Ok(()) };
        let mut file = File::open(&self.path)?;
        let mut bytes = Vec::new();
        for (_, range) in self.blocks.iter().filter(|(of, _)| *of == table) {
            bytes.resize((range.end - range.start) as usize, 0);
            file.seek(SeekFrom::Start(range.start))?;
            file.read_exact(&mut bytes)?;
            let Some(Found::Frame(frame)) = Frames::new(&bytes, 0, mark).next() else {
                return Err(io::Error::other(format!("the block at {} has become unreadable", range.start)));
            };
            let block = snap::raw::Decoder::new().decompress_vec(frame.payload).map_err(io::Error::other)?;
            for change in Changes::new(&block) {
                let change = change.map_err(io::Error::other)?;
                show(change.key, change.value.unwrap_or_default());
            }
        }
        Ok(())
    }
}

/// The table of a block's documents and how many they are, if all of them can be read.
fn about(squeezed: &[u8]) -> Option<(Table, u64)> {
    let block = snap::raw::Decoder::new().decompress_vec(squeezed).ok()?;
    let mut changes = Changes::new(&block);
    let first = changes.next()?.ok()?;
    let others = changes.try_fold(0, |count, change| change.ok().map(|_| count + 1))?;
    Some((first.table, 1 + others))
}
