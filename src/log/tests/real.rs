//! The log on the system's own disk.

use super::*;
use proptest::prelude::*;
use std::sync::Arc;

fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

#[test]
fn what_was_written_is_read_and_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = small_options(&dir.path().join("log"));
    options.preparation = Preparation::Background;
    let (blocks, mut log) = open(&real(), &options, Checkpoint::START).unwrap();
    assert_eq!((blocks.len(), log.left, log.last), (0, Left::New, BlockNumber::ZERO));
    let written: Vec<_> =
        (1..=21).map(|n| append(&mut log, n, usize::try_from(n * 300).unwrap()).unwrap()).collect();
    assert!(written.last().unwrap().at.segment > SegmentNumber(3), "the test is to roll over");
    for placed in &written {
        for (read, (_, payload)) in payloads(&log.reader, placed).into_iter().zip(contents(&placed.block)) {
            assert_eq!(read.unwrap(), payload);
        }
    }
    assert!(!written[20].at.is_first(), "the last block is not to be alone in its segment");
    drop(log);

    // As after a kill: the last block is written anew, the others are where they were. Not if it is known to be durable.
    let known = LogOptions { durable: BlockNumber(21), ..options.clone() };
    let (recovered, log) = open(&real(), &known, Checkpoint::START).unwrap();
    assert_eq!((log.left, &recovered), (Left::Crashed, &written));
    drop(log);
    let (recovered, log) = open(&real(), &options, Checkpoint::START).unwrap();
    assert_eq!((log.left, log.last, log.served_time), (Left::Crashed, BlockNumber(21), ServedTime(210)));
    assert_eq!(recovered.len(), 21);
    assert_eq!(recovered[..20], written[..20]);
    assert_eq!(recovered[20].block, written[20].block);
    assert_eq!(recovered[20].at, At::start_of(written[20].at.segment.next()));
    log.writer.stop().unwrap();

    // As after a clean stop: everything is where it was, and only what is not applied is read.
    let (again, mut log) = open(&real(), &options, recovered[14].checkpoint()).unwrap();
    assert_eq!((log.left, log.last), (Left::Stopped, BlockNumber(21)));
    assert_eq!(again[..], recovered[15..]);
    assert_eq!(log.segments_below, (1..recovered[14].at.segment.0).map(SegmentNumber).collect::<Vec<_>>());
    append(&mut log, 22, 100).unwrap();
    assert!(!options.dir.join("clean").exists(), "the mark speaks of the end of the log only");
}

#[test]
fn a_freed_segment_is_used_again_and_not_read_by_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = small_options(dir.path());
    options.spares_max = 1;
    let (_, mut log) = open(&real(), &options, Checkpoint::START).unwrap();
    let mut written: Vec<_> = (1..=12).map(|n| append(&mut log, n, 6000).unwrap()).collect();
    let freed = written[0].at.segment;
    assert!(payloads(&log.reader, &written[0]).iter().all(Result::is_ok));
    let retired = log.reader.retire(freed);
    log.writer.recycler().recycle(retired, 0).unwrap();
    let retired = log.reader.retire(freed.next());
    log.writer.recycler().recycle(retired, 0).unwrap();
    assert!(
        payloads(&log.reader, &written[0]).iter().all(|read| matches!(read, Err(ReadError::Gone { .. })))
    );
    let files = || RealDisk.list(dir.path()).unwrap().len();
    let before = files();
    written.push(append(&mut log, 13, 6000).unwrap());
    assert!(written[12].at.is_first(), "the test is to roll over");
    assert_eq!(files(), before, "the spare became a segment");
    let checkpoint = written[10].checkpoint();
    drop(log);
    let (recovered, _log) = open(&real(), &options, checkpoint).unwrap();
    assert_eq!(recovered[0], written[11]);
    assert_eq!(recovered[1].block, written[12].block);
    assert_eq!(recovered.len(), 2);
}

/// A log that keeps so many pages of its newest blocks in memory.
fn remembering(dir: &Path, pages: usize) -> Log {
    let mut options = small_options(dir);
    options.recent_bytes_max = pages * PAGE as usize;
    open(&real(), &options, Checkpoint::START).unwrap().1
}

#[test]
fn recent_blocks_are_read_from_memory_within_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = remembering(dir.path(), 4);
    let written: Vec<_> = (1..=3).map(|n| append(&mut log, n, 6000).unwrap()).collect();
    for placed in &written {
        log.reader.remember(placed);
    }
    // Only memory can answer once the files are gone.
    for name in RealDisk.list(dir.path()).unwrap() {
        RealDisk.remove(&dir.path().join(name)).unwrap();
    }
    assert!(payloads(&log.reader, &written[0]).iter().all(Result::is_err), "two blocks of two pages fit");
    for placed in &written[1..] {
        for (read, (_, payload)) in payloads(&log.reader, placed).into_iter().zip(contents(&placed.block)) {
            assert_eq!(read.unwrap(), payload);
        }
    }
    let mut wrong = written[2].frames().next().unwrap().1;
    wrong.length += 1;
    assert!(log.reader.read(wrong).is_err(), "what is there is another");
}

/// Blocks over several segments, the newest of them in memory, and every payload with its place.
fn written_and_remembered(dir: &Path, pages: usize, payload_length: usize) -> (Log, Vec<(Place, Vec<u8>)>) {
    let mut log = remembering(dir, pages);
    let mut all = Vec::new();
    for number in 1..=40 {
        let placed = append(&mut log, number, payload_length).unwrap();
        log.reader.remember(&placed);
        let payloads = contents(&placed.block).into_iter().map(|(_, payload)| payload);
        all.extend(placed.frames().map(|(_, place)| place).zip(payloads));
    }
    (log, all)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// In memory and in files, in any order, some of them twice.
    #[test]
    fn payloads_that_are_read_together_are_what_was_written(
        pages in 0_usize..60, length in 0_usize..6000, picked in proptest::collection::vec(0_usize..120, 0..150),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (log, all) = written_and_remembered(dir.path(), pages, length);
        let places: Vec<_> = picked.iter().map(|at| all[*at].0).collect();
        let read = log.reader.read_all(&places);
        prop_assert_eq!(read.len(), picked.len());
        for (read, at) in read.into_iter().zip(picked) {
            prop_assert_eq!(read.unwrap(), &all[at].1);
        }
    }
}

#[test]
fn of_what_is_read_together_the_damaged_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (log, all) = written_and_remembered(dir.path(), 0, 1000);
    let places: Vec<_> = all.iter().map(|(place, _)| *place).filter(|place| place.length > 0).collect();
    let read = || log.reader.read_all(&places);
    assert!(read().iter().all(Result::is_ok));
    let at = 33;
    let damaged = places[at];
    let path = super::super::segment::segment_path(dir.path(), damaged.segment);
    let mut content = std::fs::read(&path).unwrap();
    content[damaged.position as usize + 32 + 7] ^= 1;
    std::fs::write(&path, content).unwrap();
    for (number, read) in read().into_iter().enumerate() {
        let named = matches!(&read,
            Err(ReadError::Damaged { position, finding: Finding::Payload, .. }) if *position == damaged.position);
        assert!(if number == at { named } else { read.is_ok() }, "{number}: {read:?}");
    }
    // A file that ends early has none of what would lie behind.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(u64::from(damaged.position) + 40)
        .unwrap();
    let too_short =
        |read: &Payload| matches!(read, Err(ReadError::Damaged { finding: Finding::TooShort, .. }));
    assert!(read()[..at].iter().all(Result::is_ok) && too_short(&read()[at]));
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(u64::from(damaged.position) + 4)
        .unwrap();
    assert!(read()[..at].iter().all(Result::is_ok) && too_short(&read()[at]));
}

#[test]
fn of_what_is_read_from_a_file_little_more_is_held() {
    let dir = tempfile::tempdir().unwrap();
    // Pages of which payloads fill nearly all, and some of which they fill half.
    for (length, shares) in [(3800, true), (2000, false)] {
        let (log, all) = written_and_remembered(&dir.path().join(length.to_string()), 0, length);
        let places: Vec<_> =
            all[..12].iter().map(|(place, _)| *place).filter(|place| place.length > 0).collect();
        let read = log.reader.read_all(&places);
        assert_eq!(read.iter().flatten().count(), 8);
        assert!(
            read.iter().flatten().all(|payload| payload.is_unique() != shares),
            "{length} bytes of each page"
        );
    }
}

#[test]
fn who_holds_a_payload_holds_no_block_that_is_much_larger() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = remembering(dir.path(), 64);
    for (number, length, shares) in [(1, 6000, true), (2, 2400, true), (3, 1200, false), (4, 20, false)] {
        let placed = append(&mut log, number, length).unwrap();
        log.reader.remember(&placed);
        let place = placed.frames().next().unwrap().1;
        let alone = log.reader.read(place).unwrap();
        assert_eq!(alone, contents(&placed.block)[0].1);
        assert_eq!(
            alone.is_unique(),
            !shares,
            "{length} bytes, half of them read, of a block of {:?}",
            placed.block.length()
        );
    }
    // Two of a block hold it once.
    let placed = append(&mut log, 5, 1200).unwrap();
    log.reader.remember(&placed);
    let places: Vec<_> = placed.frames().map(|(_, place)| place).filter(|place| place.length > 0).collect();
    let together = log.reader.recent(&places).all().unwrap();
    assert_eq!(together.iter().flatten().count(), 2);
    assert!(together.iter().flatten().all(|payload| !payload.is_unique()));
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"not a directory").unwrap();
    let error = recover(real(), small_options(&file.join("log")), Checkpoint::START).unwrap_err();
    assert!(matches!(error, RecoverError::Disk(_)));
    assert!(error.to_string().contains("file/log"), "{error}");
}
