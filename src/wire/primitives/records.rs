//! The records of a partition as they travel.

use super::encoder::CHUNK_SHARED_MIN;
use bytes::{Bytes, BytesMut};

/// Record batches of one partition, back to back. Decoding gives one slice of the frame; a fetch answer is made of
/// one chunk per batch (or more), which are sent without being copied together.
#[derive(Clone, Default)]
pub struct Records {
    first: Bytes,
    others: Vec<Bytes>,
}

impl Records {
    /// Records out of chunks, in order.
    #[must_use]
    pub fn from_chunks(chunks: Vec<Bytes>) -> Records {
        let mut chunks = chunks.into_iter();
        Records { first: chunks.next().unwrap_or_default(), others: chunks.collect() }
    }

    /// The chunks, in order. There is at least one, which may be empty.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks().map(Bytes::len).sum()
    }

    /// Bytes that are copied into a frame: those in small chunks.
    #[must_use]
    pub fn copied_bytes(&self) -> usize {
        self.chunks().map(Bytes::len).filter(|length| *length < CHUNK_SHARED_MIN).sum()
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes as one piece: shared where there is one chunk, copied together otherwise.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if self.others.is_empty() {
            return self.first.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        self.chunks().for_each(|chunk| whole.extend_from_slice(chunk));
        whole.freeze()
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records { first: bytes, others: Vec::new() }
    }
}

/// Equal bytes are equal records, however they are cut into chunks.
impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        let bytes = |records: &Records| records.to_bytes();
        self.len() == other.len() && bytes(self) == bytes(other)
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Records({} bytes)", self.len())
    }
}
