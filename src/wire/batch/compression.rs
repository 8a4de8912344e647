//! Compressed records: as a stream within limits, and the other way.

use super::BatchError;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952, one member or several.
    Gzip,
    /// Snappy, in the framing of Java's library or bare.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Every compression.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// From the lowest three bits of a batch's attributes.
    pub(super) fn from_attributes(bits: i16) -> Result<Compression, BatchError> {
        match bits {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            unknown => Err(BatchError::UnknownCompression(unknown)),
        }
    }

    /// The lowest three bits of a batch's attributes.
    pub(super) fn attributes(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The name in Kafka's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The largest zstd window, as a power of two: 8 MiB, which is what the library's levels up to 19 use. Each batch being
/// checked may need that much memory, so the levels made for archives (up to 128 MiB) are refused.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// How much of a decompressor's output is held at once, in bytes.
const EXPAND_BUFFER: usize = 16 * 1024;
/// Snappy's densest element makes 64 bytes out of 2, so a block that promises more than this many bytes for each of its
/// own is lying, and nothing is allocated for it.
const SNAPPY_RATIO_MAX: usize = 33;
/// How much plain data one snappy block holds when it is written here; Java's library uses the same.
const SNAPPY_BLOCK: usize = 32 * 1024;
/// What Java's snappy framing begins with: a magic, its version and the oldest compatible version.
const SNAPPY_JAVA_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const SNAPPY_JAVA_MAGIC: usize = 8;

/// Compressed records being expanded. Reading ends with an error once more than `limit` bytes have come out.
pub(super) struct Expander<'a> {
    source: Source<'a>,
    expanded: u64,
    limit: u64,
}

enum Source<'a> {
    Plain(&'a [u8]),
    Gzip(Box<BufReader<flate2::bufread::MultiGzDecoder<&'a [u8]>>>),
    Snappy(SnappyReader<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(Box<BufReader<zstd::stream::read::Decoder<'static, &'a [u8]>>>),
}

/// The text of the error that says that the limit was reached; [`Expander::error`] recognises it by its kind.
const LIMIT_REACHED: io::ErrorKind = io::ErrorKind::FileTooLarge;

impl<'a> Expander<'a> {
    /// Starts expanding `compressed`.
    pub(super) fn new(
        compression: Compression,
        compressed: &'a [u8],
        limit: u64,
    ) -> io::Result<Expander<'a>> {
        let source = match compression {
            Compression::None => Source::Plain(compressed),
            Compression::Gzip => Source::Gzip(Box::new(BufReader::with_capacity(
                EXPAND_BUFFER,
                flate2::bufread::MultiGzDecoder::new(compressed),
            ))),
            Compression::Snappy => Source::Snappy(SnappyReader::new(compressed, limit)),
            Compression::Lz4 => {
                Source::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(check_lz4(compressed)?)))
            }
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Source::Zstd(Box::new(BufReader::with_capacity(EXPAND_BUFFER, decoder)))
            }
        };
        Ok(Expander { source, expanded: 0, limit })
    }

    /// How many bytes have been taken out.
    pub(super) fn expanded(&self) -> u64 {
        self.expanded
    }

    /// Whether everything has come out and nothing of the compressed bytes is left over.
    pub(super) fn at_end(&mut self) -> io::Result<bool> {
        let empty = self.fill_buf()?.is_empty();
        let unread = match &self.source {
            Source::Plain(rest) => rest.len(),
            Source::Gzip(reader) => reader.get_ref().get_ref().len(),
            Source::Snappy(reader) => reader.rest.len(),
            Source::Lz4(reader) => reader.get_ref().len(),
            Source::Zstd(reader) => reader.get_ref().get_ref().len(),
        };
        Ok(empty && unread == 0)
    }

    /// What an I/O error of this stream means.
    pub(super) fn error(compression: Compression, limit: u64, error: &io::Error) -> BatchError {
        if error.kind() == LIMIT_REACHED {
            BatchError::Expansion { limit }
        } else {
            BatchError::Decompression { compression, reason: error.to_string() }
        }
    }
}

impl Read for Expander<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let present = self.fill_buf()?;
        let count = present.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..count), present.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Expander<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let present = match &mut self.source {
            Source::Plain(rest) => Ok(*rest),
            Source::Gzip(reader) => reader.fill_buf(),
            Source::Snappy(reader) => reader.fill_buf(),
            Source::Lz4(reader) => reader.fill_buf(),
            Source::Zstd(reader) => reader.fill_buf(),
        }?;
        if self.expanded >= self.limit && !present.is_empty() {
            return Err(LIMIT_REACHED.into());
        }
        Ok(present)
    }

    fn consume(&mut self, count: usize) {
        self.expanded += count as u64;
        match &mut self.source {
            Source::Plain(rest) => rest.consume(count),
            Source::Gzip(reader) => reader.consume(count),
            Source::Snappy(reader) => reader.consume(count),
            Source::Lz4(reader) => reader.consume(count),
            Source::Zstd(reader) => reader.consume(count),
        }
    }
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Lets through what Java's consumers can read: version 1 frames of independent blocks without a dictionary. Accepting
/// more would store batches that no Java client gets past.
fn check_lz4(frame: &[u8]) -> io::Result<&[u8]> {
    const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
    const VERSION: u8 = 0b1100_0000;
    const VERSION_1: u8 = 0b0100_0000;
    const INDEPENDENT_BLOCKS: u8 = 0b0010_0000;
    const DICTIONARY: u8 = 0b0000_0001;
    let Some((magic, [flags, ..])) = frame.split_first_chunk::<4>() else {
        return Err(invalid("the LZ4 frame is cut off"));
    };
    if *magic != MAGIC || flags & VERSION != VERSION_1 {
        return Err(invalid("not an LZ4 frame of version 1"));
    }
    if flags & INDEPENDENT_BLOCKS == 0 || flags & DICTIONARY != 0 {
        return Err(invalid("LZ4 frames with linked blocks or a dictionary are not part of the protocol"));
    }
    Ok(frame)
}

/// Snappy, block by block.
struct SnappyReader<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    at: usize,
    limit: u64,
}

impl<'a> SnappyReader<'a> {
    fn new(compressed: &'a [u8], limit: u64) -> SnappyReader<'a> {
        let magic = SNAPPY_JAVA_HEADER.get(..SNAPPY_JAVA_MAGIC).unwrap_or_default();
        let framed = compressed.starts_with(magic);
        let skipped = if framed { SNAPPY_JAVA_HEADER.len() } else { 0 };
        let rest = compressed.get(skipped..).unwrap_or_default();
        SnappyReader { rest, framed, block: Vec::new(), at: 0, limit }
    }

    /// Takes the next compressed block off the input.
    fn next_block(&mut self) -> io::Result<&'a [u8]> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (length, rest) = self.rest.split_first_chunk().ok_or_else(|| invalid("a block is cut off"))?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(invalid)?;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(|| invalid("a block is cut off"))?;
        self.rest = rest;
        Ok(block)
    }

    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.block.len() && !self.rest.is_empty() {
            let compressed = self.next_block()?;
            let length = snap::raw::decompress_len(compressed).map_err(invalid)?;
            if length as u64 > self.limit {
                return Err(LIMIT_REACHED.into());
            }
            if length > compressed.len().saturating_mul(SNAPPY_RATIO_MAX) {
                return Err(invalid("a block promises more than it can hold"));
            }
            self.at = 0;
            self.block.resize(length, 0);
            let written =
                snap::raw::Decoder::new().decompress(compressed, &mut self.block).map_err(invalid)?;
            self.block.truncate(written);
        }
        Ok(self.block.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.block.len());
    }
}

/// Appends `plain`, compressed, to `to`.
pub(super) fn compress(compression: Compression, plain: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    match compression {
        Compression::None => to.extend_from_slice(plain),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()?;
        }
        Compression::Snappy => {
            to.extend_from_slice(&SNAPPY_JAVA_HEADER);
            let mut encoder = snap::raw::Encoder::new();
            for block in plain.chunks(SNAPPY_BLOCK) {
                let block = encoder.compress_vec(block).map_err(invalid)?;
                to.extend_from_slice(&i32::try_from(block.len()).map_err(invalid)?.to_be_bytes());
                to.extend_from_slice(&block);
            }
        }
        Compression::Lz4 => {
            let format = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(format, to);
            encoder.write_all(plain)?;
            encoder.finish().map_err(invalid)?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            encoder.write_all(plain)?;
            encoder.finish()?;
        }
    }
    Ok(())
}
