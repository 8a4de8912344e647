//! Memory for blocks.

use super::format::PAGE;
use bytes::Bytes;

const PAGE_BYTES: usize = PAGE as usize;

/// Bytes that begin on a page boundary in memory, so that a disk can take them without their being copied (`O_DIRECT`).
#[derive(Debug, Default)]
pub(super) struct PageBuffer {
    memory: Vec<u8>,
    /// Where the bytes begin: the first page boundary in `memory`.
    start: usize,
}

impl PageBuffer {
    /// An empty buffer in memory that was used before.
    pub(super) fn reusing(mut memory: Vec<u8>) -> PageBuffer {
        memory.clear();
        let start = Self::first_page(&memory);
        if start <= memory.capacity() {
            memory.resize(start, 0);
            PageBuffer { memory, start }
        } else {
            PageBuffer::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.memory.len() - self.start
    }

    /// Bytes that there is memory for.
    fn capacity(&self) -> usize {
        self.memory.capacity() - self.start
    }

    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..).unwrap_or_default()
    }

    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory.extend_from_slice(bytes);
    }

    /// Makes it `length` long, with zeroes where it grows.
    pub(super) fn resize(&mut self, length: usize) {
        self.reserve(length.saturating_sub(self.len()));
        self.memory.resize(self.start + length, 0);
    }

    /// Makes room for so many bytes more. Memory that grows may lie elsewhere, where page boundaries do.
    fn reserve(&mut self, additional: usize) {
        if self.capacity() - self.len() >= additional {
            return;
        }
        let wanted = (self.len() + additional).max(self.len() * 2);
        self.move_to(wanted.next_multiple_of(PAGE_BYTES));
    }

    fn move_to(&mut self, capacity: usize) {
        let mut moved = PageBuffer::reusing(Vec::with_capacity(capacity + PAGE_BYTES));
        moved.memory.extend_from_slice(self.as_mut());
        *self = moved;
    }

    /// The bytes. A few in memory that was made for many would hold much more than they account for, so they move.
    pub(super) fn into_bytes(mut self) -> Bytes {
        if self.capacity() / 2 > self.len().max(PAGE_BYTES) {
            self.move_to(self.len());
        }
        Bytes::from(self.memory).slice(self.start..)
    }

    /// The memory behind bytes, if nobody else holds a part of it.
    pub(super) fn reclaim(bytes: Bytes) -> Option<Vec<u8>> {
        let mut memory = bytes.try_into_mut().ok()?;
        memory.clear();
        Some(Vec::from(memory))
    }

    fn first_page(memory: &[u8]) -> usize {
        memory.as_ptr().align_offset(PAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_in_and_begins_on_a_page(
            pieces in proptest::collection::vec(1usize..20_000, 1..12),
            used in 0usize..100_000,
        ) {
            let mut buffer = PageBuffer::reusing(Vec::with_capacity(used));
            let mut expected = Vec::new();
            for (byte, length) in (1u8..).zip(pieces) {
                buffer.extend_from_slice(&vec![byte; length]);
                expected.resize(expected.len() + length, byte);
            }
            let whole = expected.len().next_multiple_of(PAGE_BYTES);
            buffer.resize(whole);
            expected.resize(whole, 0);
            prop_assert_eq!(&*buffer.as_mut(), &*expected);
            let bytes = buffer.into_bytes();
            prop_assert_eq!(&*bytes, &*expected);
            prop_assert!(bytes.as_ptr().align_offset(PAGE_BYTES) == 0);
            let held = bytes.clone();
            prop_assert!(PageBuffer::reclaim(bytes).is_none());
            prop_assert!(PageBuffer::reclaim(held).is_some_and(|memory| memory.is_empty()));
        }
    }
}
