//! Which files are written full of zeroes before they are used.

use super::sim_disk::SimDisk;
use super::*;
use std::sync::Arc;

/// How many of the segments that were prepared while so many were filled with blocks of about so many bytes got zeroes.
fn zeroed(segments: u64, block_bytes: u32) -> (u64, u64) {
    let disk = SimDisk::default();
    let mut options = small_options(Path::new("/log"));
    options.segment_length = 4 * BLOCK_LENGTH_MAX;
    options.preparation = Preparation::Background;
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = open(&shared, &options, Checkpoint::START).unwrap().1;
    let mut blocks = 0;
    while log.cursor.next().segment.0 <= segments {
        blocks += 1;
        // Headers and padding take a page.
        append(&mut log, blocks, usize::try_from(block_bytes - PAGE).unwrap()).unwrap();
    }
    // Its end is that of the thread that prepares segments.
    drop(log);
    let (used, prepared) = (segments + 1, segments + 2);
    // A block or a header is a write and a sync; so are zeroes. A file is made, synced and renamed, and the directory synced.
    (prepared, (disk.operations() - 2 * (blocks + used) - 4 * prepared) / 2)
}

#[test]
fn new_files_for_short_blocks_are_written_full_of_zeroes() {
    let (prepared, with_zeroes) = zeroed(5, 16 << 10);
    assert_eq!(with_zeroes, prepared);
}

#[test]
fn new_files_for_long_blocks_are_not() {
    // The first two are made before there is a block.
    assert_eq!(zeroed(5, 60 << 10).1, 2);
}
