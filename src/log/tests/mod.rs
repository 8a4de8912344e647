//! Tests of the log as a whole: on the system's disk, and on one that crashes and fails as the test wishes.

mod ahead;
mod crash;
mod damage;
mod fuzz;
mod inspect;
mod moved;
mod real;
pub(crate) mod sim_disk;

use super::*;
use crate::types::{BlockNumber, LeaderEpoch, ServedTime};
use std::path::Path;

/// More than any test's block.
const BLOCK_LENGTH_MAX: u32 = 64 << 10;

/// A log in small segments whose files are prepared inline.
fn small_options(dir: &Path) -> LogOptions {
    let mut options = LogOptions::new(dir.to_path_buf(), ShardNumber(3), LogId(0x0123_4567_89ab_cdef));
    options.segment_length = SEGMENT_LENGTH_MIN;
    options.preparation = Preparation::Inline;
    options.recent_bytes_max = 0;
    options.open_files_max = 2;
    options
}

/// The frames of a block: content that belongs to no other `seed`, `payload_length` bytes altogether.
fn frames_of(seed: u64, payload_length: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let filler = |ordinal: u8, length: usize| -> Vec<u8> {
        let pattern = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        (0..length).map(|i| pattern[i % 8] ^ ordinal ^ u8::try_from(i / 8 % 251).unwrap()).collect()
    };
    let half = payload_length / 2;
    vec![
        (format!("first {seed}").into_bytes(), filler(1, half)),
        (format!("second {seed}").into_bytes(), filler(2, payload_length - half)),
        (format!("no payload {seed}").into_bytes(), Vec::new()),
    ]
}

/// Block `number` with the frames of `seed`, built as the shard builds it.
fn block(identity: Identity, number: u64, seed: u64, payload_length: usize) -> Block {
    let stamp = BlockStamp {
        identity,
        term: LeaderEpoch(0),
        number: BlockNumber(number),
        last_durable: BlockNumber(number - 1),
        served_time: ServedTime(number * 10),
    };
    let mut builder = BlockBuilder::new(stamp, BLOCK_LENGTH_MAX);
    for (event, payload) in frames_of(seed, payload_length) {
        builder.push(&event, &payload).unwrap();
    }
    builder.finish()
}

/// The frames of a block as [`frames_of`] has them.
fn contents(block: &Block) -> Vec<(Vec<u8>, Vec<u8>)> {
    block.frames().map(|frame| (frame.event.to_vec(), frame.payload.to_vec())).collect()
}

/// The payloads of a block, read by their places.
fn payloads(reader: &Reader, placed: &PlacedBlock) -> Vec<Payload> {
    placed.frames().map(|(_, place)| reader.read(place)).collect()
}

/// Gives block `number`, with the frames of `seed`, its place and writes it.
fn append_seeded(
    log: &mut Log,
    number: u64,
    seed: u64,
    payload_length: usize,
) -> Result<PlacedBlock, WriteError> {
    let block = block(log.writer.identity(), number, seed, payload_length);
    let at = log.cursor.assign(block.length()).unwrap();
    let placed = PlacedBlock { block, at };
    log.writer.write(&placed).map(|()| placed)
}

/// The same, with the frames that are the block's own.
fn append(log: &mut Log, number: u64, payload_length: usize) -> Result<PlacedBlock, WriteError> {
    append_seeded(log, number, number, payload_length)
}

/// Every block above `applied`, and the log.
fn open(
    disk: &std::sync::Arc<dyn Disk>,
    options: &LogOptions,
    applied: Checkpoint,
) -> Result<(Vec<PlacedBlock>, Log), RecoverError> {
    let mut recovery = recover(std::sync::Arc::clone(disk), options.clone(), applied)?;
    let mut blocks = Vec::new();
    while let Some(block) = recovery.next_block()? {
        blocks.push(block);
    }
    Ok((blocks, recovery.into_log()?))
}
