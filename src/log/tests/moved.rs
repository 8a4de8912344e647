//! Files of moved frames: they are there whole or not at all, and say what they hold by themselves.

use super::sim_disk::{Fault, Sampled, SimDisk};
use super::*;
use std::sync::Arc;

/// A log of some segments on a disk, and what its frames with payloads are: event → payload.
fn log_on(disk: &SimDisk) -> Log {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (_, mut log) = open(&disk, &small_options(Path::new("/log")), Checkpoint::START).unwrap();
    for number in 1..=12 {
        append(&mut log, number, 5000).unwrap();
    }
    log
}

fn frames(segments: &Segments, segment: SegmentNumber) -> Vec<ScannedFrame> {
    let mut scan = segments.scan(segment, None).unwrap().expect("it is in use");
    let mut frames = Vec::new();
    while let Some(more) = scan.next_frames().unwrap() {
        frames.extend(more);
    }
    frames
}

/// Copies every other frame of the first segment into a file.
fn move_some(segments: &Segments) -> Result<SegmentNumber, DiskError> {
    let mut writer = segments.begin_moved(SegmentNumber::moved(1), SEGMENT_LENGTH_MIN)?;
    for (frame, _) in frames(segments, SegmentNumber(1)).iter().step_by(2) {
        assert!(writer.push(frame)?.is_some());
    }
    writer.finish()
}

#[test]
fn moved_frames_are_read_by_their_new_places_and_keep_their_origin() {
    let disk = SimDisk::default();
    let log = log_on(&disk);
    let before = frames(&log.segments, SegmentNumber(1));
    assert!(before.len() > 4);
    let file = move_some(&log.segments).unwrap();
    let after = frames(&log.segments, file);
    assert_eq!(after.len(), before.len().div_ceil(2));
    for ((moved, place), (frame, _)) in after.iter().zip(before.iter().step_by(2)) {
        assert_eq!((&moved.header, &moved.event), (&frame.header, &frame.event));
        assert_eq!(log.reader.read(*place).unwrap(), frame.payload);
    }
    assert_eq!(log.segments.list().unwrap().last(), Some(&file));

    // Freed, it is gone for those who still hold a place in it.
    log.writer.recycler().recycle(log.reader.retire(file), 0).unwrap();
    assert!(matches!(log.reader.read(after[0].1), Err(ReadError::Gone { .. })));
    assert!(!log.segments.list().unwrap().contains(&file));
}

#[test]
fn a_power_cut_leaves_a_file_of_moved_frames_whole_or_not_at_all() {
    let rehearsal = SimDisk::default();
    let log = log_on(&rehearsal);
    let expected = frames(&log.segments, SegmentNumber(1)).len().div_ceil(2);
    rehearsal.plan(None);
    move_some(&log.segments).unwrap();
    let operations = rehearsal.operations();
    assert!(operations >= 5, "create, write, write, sync, rename, sync");
    for operation in 1..=operations + 1 {
        for seed in 0..20 {
            let disk = SimDisk::default();
            let log = log_on(&disk);
            disk.plan(Some(Fault::PowerCut { operation }));
            let finished = move_some(&log.segments).is_ok();
            assert_eq!(finished, operation > operations);
            drop(log);
            disk.power_cut(&mut Sampled(seed));
            let disk: Arc<dyn Disk> = Arc::new(disk);
            let (_, log) = open(&disk, &small_options(Path::new("/log")), Checkpoint::START).unwrap();
            assert!(!finished || log.segments_moved.len() == 1, "what was finished is there");
            for file in log.segments_moved {
                assert_eq!(frames(&log.segments, file).len(), expected);
            }
        }
    }
}

#[test]
fn damage_in_a_segment_is_told_from_its_end() {
    let disk = SimDisk::default();
    let log = log_on(&disk);
    let whole = frames(&log.segments, SegmentNumber(1)).len();
    assert_eq!(whole, 9, "three blocks of three frames");
    let path = super::super::segment::segment_path(Path::new("/log"), SegmentNumber(1));
    let intact = disk.content(&path);
    // In the middle: something newer follows. At the end: only the next segment knows better.
    for (block, before, noticed) in [(1, None, true), (2, None, false), (2, Some(BlockNumber(4)), true)] {
        let mut content = intact.clone();
        content[PAGE as usize * (1 + 2 * block) + 100] ^= 1;
        disk.set_content(&path, content);
        let mut scan = log.segments.scan(SegmentNumber(1), before).unwrap().unwrap();
        let result = loop {
            match scan.next_frames() {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        assert_eq!(matches!(result, Err(ScanError::Damaged { .. })), noticed, "block {block}");
    }
}
