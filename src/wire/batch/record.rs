//! The bytes within a batch: variable-length integers and records.

use super::RecordFault;
use std::io::BufRead;

/// The `N` bytes at `at`; zeros beyond the end, which callers have checked.
pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

/// Why a record could not be read.
#[derive(Debug)]
pub(super) enum ReadFault {
    /// The bytes came, but are no record.
    Record(RecordFault),
    /// The decompressor failed, or a limit was reached.
    Source(std::io::Error),
}

impl From<RecordFault> for ReadFault {
    fn from(fault: RecordFault) -> ReadFault {
        ReadFault::Record(fault)
    }
}

/// Reads the parts of one record, and knows how many of its bytes are left.
pub(super) struct RecordParts<'a, R> {
    from: &'a mut R,
    left: u64,
}

/// A record's length lies outside the record, so nothing bounds it yet: at most this many bytes of varint.
const LENGTH_BYTES: u64 = 5;

impl<'a, R: BufRead> RecordParts<'a, R> {
    /// Reads the record's length and stands at its first field.
    pub(super) fn begin(from: &'a mut R) -> Result<RecordParts<'a, R>, ReadFault> {
        let mut parts = RecordParts { from, left: LENGTH_BYTES };
        let length = parts.varint()?;
        parts.left = u64::try_from(length).map_err(|_| RecordFault::InvalidLength(length.into()))?;
        Ok(parts)
    }

    /// Stands at the first field of a record of `length` bytes.
    pub(super) fn within(from: &'a mut R, length: u64) -> RecordParts<'a, R> {
        RecordParts { from, left: length }
    }

    /// How many bytes of the record are left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn byte(&mut self) -> Result<u8, ReadFault> {
        let left = self.left.checked_sub(1).ok_or(RecordFault::Truncated)?;
        let byte = *self.from.fill_buf().map_err(ReadFault::Source)?.first().ok_or(RecordFault::Truncated)?;
        self.from.consume(1);
        self.left = left;
        Ok(byte)
    }

    fn unsigned(&mut self, bits: u32) -> Result<u64, ReadFault> {
        let mut value = 0_u64;
        let mut shift = 0;
        while shift < bits {
            let byte = self.byte()?;
            let group = u64::from(byte & 0x7f);
            if shift + 7 > bits && group >> (bits - shift) != 0 {
                break;
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
        Err(RecordFault::InvalidVarint.into())
    }

    /// A zigzag integer of 32 bits.
    #[expect(clippy::cast_possible_truncation, reason = "at most 32 bits were read")]
    pub(super) fn varint(&mut self) -> Result<i32, ReadFault> {
        let raw = self.unsigned(32)? as u32;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A zigzag integer of 64 bits.
    pub(super) fn varlong(&mut self) -> Result<i64, ReadFault> {
        let raw = self.unsigned(64)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// The length of a key or value; none is null.
    pub(super) fn nullable_length(&mut self) -> Result<Option<u64>, ReadFault> {
        let length = self.varint()?;
        if length == -1 { Ok(None) } else { self.length_of(length).map(Some) }
    }

    /// A length that must not be null.
    pub(super) fn length(&mut self) -> Result<u64, ReadFault> {
        let length = self.varint()?;
        self.length_of(length)
    }

    fn length_of(&self, length: i32) -> Result<u64, ReadFault> {
        match u64::try_from(length) {
            Ok(length) if length <= self.left => Ok(length),
            _ => Err(RecordFault::InvalidLength(length.into()).into()),
        }
    }

    /// The next `count` bytes, which are at most [`RecordParts::left`], and bounded by whoever asks.
    pub(super) fn take(&mut self, count: u64) -> Result<Vec<u8>, ReadFault> {
        let mut taken = Vec::new();
        while (taken.len() as u64) < count {
            taken.push(self.byte()?);
        }
        Ok(taken)
    }

    /// Passes over `count` bytes, which are at most [`RecordParts::left`].
    pub(super) fn skip(&mut self, count: u64) -> Result<(), ReadFault> {
        let mut to_skip = count;
        while to_skip > 0 {
            let present = self.from.fill_buf().map_err(ReadFault::Source)?.len();
            if present == 0 {
                return Err(RecordFault::Truncated.into());
            }
            let step = usize::try_from(to_skip).map_or(present, |wanted| wanted.min(present));
            self.from.consume(step);
            to_skip -= step as u64;
        }
        self.left = self.left.saturating_sub(count);
        Ok(())
    }
}

/// How many bytes [`put_varlong`] takes.
pub(super) fn varlong_size(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let bits = u64::BITS - (raw | 1).leading_zeros();
    bits.div_ceil(7) as usize
}
