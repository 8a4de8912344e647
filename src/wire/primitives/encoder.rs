//! Writing a frame as chunks.

use crate::wire::ErrorCode;
use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// Shared bytes of at least this size become their own chunk of the frame; smaller ones are copied, because a chunk
/// costs more (a vectored write's entry, a reference count) than copying so little. With batches of one record of 1,024 bytes a
/// transaction over 64 partitions takes 4 % less of the processor's time than with 4 KiB here.
pub const CHUNK_SHARED_MIN: usize = 1024;

/// quinn looks for what it sends among all chunks that are not acknowledged, one after the other: for it, smaller ones than this are
/// copied together.
const QUIC_CHUNK_MIN: usize = 4 * 1024;

/// A frame in chunks as QUIC should have it.
#[must_use]
pub fn gathered_for_quic(chunks: Vec<Bytes>) -> Vec<Bytes> {
    let is_small = |chunk: &Bytes| chunk.len() < QUIC_CHUNK_MIN;
    let mut gathered = Vec::with_capacity(chunks.len());
    let mut small =
        BytesMut::with_capacity(chunks.iter().filter(|chunk| is_small(chunk)).map(Bytes::len).sum());
    for chunk in chunks {
        if is_small(&chunk) {
            small.put_slice(&chunk);
            continue;
        }
        if !small.is_empty() {
            gathered.push(small.split().freeze());
        }
        gathered.push(chunk);
    }
    if !small.is_empty() {
        gathered.push(small.freeze());
    }
    gathered
}

/// Why a message cannot be written in a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A field holds a value that the version has no place for, and that must not be dropped in silence.
    #[error("{structure}.{field} is set, but version {version} cannot carry it")]
    FieldNotInVersion {
        /// The structure.
        structure: &'static str,
        /// Its field.
        field: &'static str,
        /// The version being written.
        version: i16,
    },
    /// A null in a field, or in a version, that has none.
    #[error("a field is null, but version {version} needs a value there")]
    NullNotInVersion {
        /// The version being written.
        version: i16,
    },
    /// A text, bytes or array longer than its length field can say.
    #[error("a value of length {length} does not fit its length field (at most {max})")]
    TooLong {
        /// The value's length.
        length: usize,
        /// The largest length.
        max: usize,
    },
    /// The message has no such version.
    #[error("there is no version {version} of {message}")]
    UnsupportedVersion {
        /// The message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
}

/// Accumulates one frame. Small values gather in a buffer; large shared [`Bytes`] are appended as they are.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Kept writable until the end: it starts with the frame's length.
    first: Option<BytesMut>,
    chunks: Vec<Bytes>,
    tail: BytesMut,
    length: usize,
    errors: ErrorCounts,
}

/// The error codes that a message carries, each with how often; those that say that all is well are left out. There are few
/// different ones in one message.
pub type ErrorCounts = Vec<(ErrorCode, u32)>;

impl Encoder {
    /// An encoder of values without a frame around them.
    #[must_use]
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// How many bytes have been written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes note of an error code.
    pub(super) fn note(&mut self, code: ErrorCode, times: u32) {
        if code == ErrorCode::None {
            return;
        }
        match self.errors.iter_mut().find(|(noted, _)| *noted == code) {
            Some((_, count)) => *count = count.saturating_add(times),
            None => self.errors.push((code, times)),
        }
    }

    /// The error codes written so far.
    pub fn take_errors(&mut self) -> ErrorCounts {
        std::mem::take(&mut self.errors)
    }

    /// Appends bytes by copying them.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
        self.length += bytes.len();
    }

    /// Appends shared bytes; large ones without copying.
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < CHUNK_SHARED_MIN {
            return self.put(bytes);
        }
        self.close_tail();
        self.chunks.push(bytes.clone());
        self.length += bytes.len();
    }

    fn close_tail(&mut self) {
        let tail = self.tail.split();
        if self.first.is_none() {
            self.first = Some(tail);
        } else if !tail.is_empty() {
            self.chunks.push(tail.freeze());
        }
    }

    /// Appends everything that another encoder holds.
    pub fn append(&mut self, mut other: Encoder) {
        other.close_tail();
        other.errors.drain(..).for_each(|(code, times)| self.note(code, times));
        if let Some(first) = other.first {
            self.put(&first);
        }
        for chunk in other.chunks {
            self.put_shared(&chunk);
        }
    }

    /// Writes an unsigned variable-length integer.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.put(&[value.to_le_bytes()[0] | 0x80]);
            value >>= 7;
        }
        self.put(&[value.to_le_bytes()[0]]);
    }

    /// Writes a 16-byte identity.
    pub fn uuid(&mut self, value: Uuid) {
        self.put(value.as_bytes());
    }

    /// Writes the length of a string, of bytes or of an array; none is null.
    pub fn put_length(
        &mut self,
        length: Option<usize>,
        flexible: bool,
        wide: bool,
    ) -> Result<(), EncodeError> {
        let max = match wide || flexible {
            true => i32::MAX as usize - 1,
            false => i16::MAX as usize,
        };
        let length = match length {
            None => -1,
            Some(length) if length <= max => i32::try_from(length).unwrap_or(i32::MAX),
            Some(length) => return Err(EncodeError::TooLong { length, max }),
        };
        match (flexible, wide) {
            (true, _) => self.unsigned_varint(length.wrapping_add(1).cast_unsigned()),
            (false, true) => self.put(&length.to_be_bytes()),
            // In range by the check above.
            (false, false) => self.put(&i16::try_from(length).unwrap_or(-1).to_be_bytes()),
        }
        Ok(())
    }

    /// The bytes as one piece; copies where there are several.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.first.is_none() {
            return self.tail.freeze();
        }
        self.close_tail();
        let mut whole = BytesMut::with_capacity(self.length);
        whole.put_slice(self.first.as_deref().unwrap_or_default());
        self.chunks.iter().for_each(|chunk| whole.put_slice(chunk));
        whole.freeze()
    }

    /// An encoder of one frame that is going to have about so many bytes in its buffer: four bytes are kept for its length,
    /// which [`Encoder::into_frame`] fills in.
    #[must_use]
    pub fn frame(buffered: usize) -> Encoder {
        let capacity = FRAME_CAPACITY.max(buffered);
        let mut encoder = Encoder { tail: BytesMut::with_capacity(capacity), ..Encoder::default() };
        encoder.put(&[0; FRAME_LENGTH_SIZE]);
        encoder
    }

    /// The finished frame, its length first, in the order to send. Only for [`Encoder::frame`].
    pub fn into_frame(mut self) -> Result<Vec<Bytes>, EncodeError> {
        self.close_tail();
        let length = self.length.saturating_sub(FRAME_LENGTH_SIZE);
        let prefix = i32::try_from(length)
            .map_err(|_| EncodeError::TooLong { length, max: i32::MAX as usize })?
            .to_be_bytes();
        let mut first = self.first.unwrap_or_default();
        if let Some(place) = first.get_mut(..FRAME_LENGTH_SIZE) {
            place.copy_from_slice(&prefix);
        }
        let mut frame = Vec::with_capacity(self.chunks.len() + 1);
        frame.push(first.freeze());
        frame.append(&mut self.chunks);
        Ok(frame)
    }
}

/// The size of a frame's length prefix, in bytes.
const FRAME_LENGTH_SIZE: usize = 4;
/// Most frames without record data are smaller than this.
const FRAME_CAPACITY: usize = 256;
