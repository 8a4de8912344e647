//! Reading a frame: bounds, budget and typed errors.

use bytes::Bytes;

/// How many bytes of decoded structure one byte of a frame may become. An array element that takes one byte on the
/// wire may take a hundred in memory; honest requests stay below a third of this.
const STRUCTURE_BYTES_PER_FRAME_BYTE: usize = 32;
/// What every frame may use whatever its size, so that small requests are never refused.
const STRUCTURE_BYTES_MIN: usize = 16 * 1024;
/// The most decoded structure of one frame, record data and other bytes fields not counted (they are slices of the
/// frame): half a million partitions with their topic names.
const STRUCTURE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why bytes are not the message they should be, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {fault} at byte {offset}{}", in_field(self.structure, self.field))]
pub struct DecodeError {
    /// The message being read, such as `ProduceRequest`; empty where a lone primitive was read.
    pub message: &'static str,
    /// The declared structure that holds the field.
    pub structure: &'static str,
    /// The field that could not be read; empty if the fault lies between fields.
    pub field: &'static str,
    /// Where in the body, in bytes from its start.
    pub offset: usize,
    /// What is wrong there.
    pub fault: DecodeFault,
}

fn in_field(structure: &str, field: &str) -> String {
    if field.is_empty() { String::new() } else { format!(" (field {structure}.{field})") }
}

/// What can be wrong with the bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFault {
    /// The bytes end before the value does.
    #[error("{needed} bytes are needed and {remaining} remain")]
    Truncated {
        /// How many bytes the value takes.
        needed: usize,
        /// How many there are.
        remaining: usize,
    },
    /// A length below −1, or one that does not fit.
    #[error("{0} is no length")]
    InvalidLength(i64),
    /// An array of more elements than the remaining bytes can hold.
    #[error("an array of {elements} elements cannot stand in the {remaining} bytes that remain")]
    ArrayTooLong {
        /// The declared number of elements.
        elements: usize,
        /// How many bytes there are.
        remaining: usize,
    },
    /// A null where the declaration has none.
    #[error("null where a value must be")]
    UnexpectedNull,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    InvalidText,
    /// A variable-length integer of more bytes than its type has.
    #[error("a variable-length integer that does not end")]
    InvalidVarint,
    /// The decoded structure would take too much memory.
    #[error("the message would need more than {budget} bytes of memory")]
    BudgetExceeded {
        /// What this frame may use, in bytes.
        budget: usize,
    },
    /// Tagged fields out of order, or one twice (KIP-482 orders them).
    #[error("tagged field {0} is out of order")]
    TagOutOfOrder(u32),
    /// A tagged field whose value does not end where its size says.
    #[error("tagged field {tag} does not fill its {size} bytes")]
    TagSizeMismatch {
        /// The field's tag.
        tag: u32,
        /// Its declared size in bytes.
        size: usize,
    },
    /// Bytes after the end of the message.
    #[error("{0} bytes follow the end of the message")]
    TrailingBytes(usize),
    /// The message has no such version.
    #[error("there is no version {0} of this message")]
    UnsupportedVersion(i16),
}

impl DecodeError {
    /// Names the field, unless an inner one is named already.
    #[must_use]
    pub fn in_field(mut self, structure: &'static str, field: &'static str) -> DecodeError {
        if self.field.is_empty() {
            self.structure = structure;
            self.field = field;
        }
        self
    }

    /// Names the message.
    #[must_use]
    pub fn in_message(mut self, message: &'static str) -> DecodeError {
        self.message = message;
        self
    }
}

/// Reads one frame's values in order. It never reads past the end, never allocates what the bytes do not justify, and
/// keeps `bytes` and `records` fields as slices of the frame.
#[derive(Debug)]
pub struct Decoder {
    frame: Bytes,
    at: usize,
    end: usize,
    budget: usize,
    budget_left: usize,
}

impl Decoder {
    /// A decoder at the start of `frame`.
    #[must_use]
    pub fn new(frame: Bytes) -> Decoder {
        let end = frame.len();
        let budget = end
            .saturating_mul(STRUCTURE_BYTES_PER_FRAME_BYTE)
            .saturating_add(STRUCTURE_BYTES_MIN)
            .min(STRUCTURE_BYTES_MAX);
        Decoder { frame, at: 0, end, budget, budget_left: budget }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// The bytes not read yet.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.frame.slice(self.at..self.end)
    }

    /// An error here.
    #[must_use]
    pub fn fault(&self, fault: DecodeFault) -> DecodeError {
        DecodeError { message: "", structure: "", field: "", offset: self.at, fault }
    }

    /// Succeeds if every byte has been read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            trailing => Err(self.fault(DecodeFault::TrailingBytes(trailing))),
        }
    }

    /// Takes `bytes` of decoded structure out of the frame's budget, before they are allocated.
    pub fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        match self.budget_left.checked_sub(bytes) {
            Some(left) => {
                self.budget_left = left;
                Ok(())
            }
            None => Err(self.fault(DecodeFault::BudgetExceeded { budget: self.budget })),
        }
    }

    fn take(&mut self, length: usize) -> Result<&[u8], DecodeError> {
        let remaining = self.remaining();
        let from = self.at;
        if length > remaining {
            return Err(self.fault(DecodeFault::Truncated { needed: length, remaining }));
        }
        self.at += length;
        // `from + length <= end <= frame.len()` was just checked.
        Ok(self.frame.get(from..from + length).unwrap_or_default())
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    /// The next `length` bytes as a slice of the frame.
    pub fn bytes(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let from = self.at;
        self.take(length)?;
        Ok(self.frame.slice(from..from + length))
    }

    /// The next `length` bytes as text.
    pub fn text(&mut self, length: usize) -> Result<String, DecodeError> {
        if length > self.remaining() {
            return Err(self.fault(DecodeFault::Truncated { needed: length, remaining: self.remaining() }));
        }
        self.charge(length)?;
        let text = std::str::from_utf8(self.take(length)?).map(str::to_owned);
        text.map_err(|_| self.fault(DecodeFault::InvalidText))
    }

    /// An unsigned variable-length integer of at most 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array::<1>()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.fault(DecodeFault::InvalidVarint))
    }

    /// The length of a string, of bytes or of an array: none is null. `wide` is a plain length's width: 4 bytes
    /// instead of 2.
    pub fn length(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            let length = self.unsigned_varint()?.checked_sub(1);
            return length.map(|length| self.length_of(i64::from(length))).transpose();
        }
        let length = match wide {
            true => i64::from(i32::from_be_bytes(self.array()?)),
            false => i64::from(i16::from_be_bytes(self.array()?)),
        };
        if length == -1 { Ok(None) } else { self.length_of(length).map(Some) }
    }

    fn length_of(&self, length: i64) -> Result<usize, DecodeError> {
        // A length beyond i32 cannot be written in the plain encoding, so it is none in the compact one either.
        match i32::try_from(length).ok().and_then(|length| usize::try_from(length).ok()) {
            Some(length) => Ok(length),
            None => Err(self.fault(DecodeFault::InvalidLength(length))),
        }
    }

    /// The element count of an array whose elements take at least `wire_size_min` bytes each and `memory_size` in
    /// memory; charged to the budget, so that the caller may allocate it at once.
    pub fn elements(
        &mut self,
        count: usize,
        wire_size_min: usize,
        memory_size: usize,
    ) -> Result<usize, DecodeError> {
        let remaining = self.remaining();
        if count.saturating_mul(wire_size_min.max(1)) > remaining {
            return Err(self.fault(DecodeFault::ArrayTooLong { elements: count, remaining }));
        }
        self.charge(count.saturating_mul(memory_size))?;
        Ok(count)
    }

    /// Reads the tagged fields that end a flexible structure. `known` reads the field of a tag and says whether it
    /// knows it; unknown ones are skipped.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Decoder, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        let mut lowest_next = 0;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            if tag < lowest_next || tag == u32::MAX {
                return Err(self.fault(DecodeFault::TagOutOfOrder(tag)));
            }
            lowest_next = tag + 1;
            self.tagged_field(tag, &mut known)?;
        }
        Ok(())
    }

    fn tagged_field(
        &mut self,
        tag: u32,
        known: &mut impl FnMut(&mut Decoder, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let size = self.unsigned_varint()?;
        let size = self.length_of(i64::from(size))?;
        let remaining = self.remaining();
        if size > remaining {
            return Err(self.fault(DecodeFault::Truncated { needed: size, remaining }));
        }
        let outer_end = std::mem::replace(&mut self.end, self.at + size);
        if !known(self, tag)? {
            self.at = self.end;
        }
        if self.at != self.end {
            return Err(self.fault(DecodeFault::TagSizeMismatch { tag, size }));
        }
        self.end = outer_end;
        Ok(())
    }
}
