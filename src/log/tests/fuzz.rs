//! Segment files that are nearly right (`src/fuzz/`): the start, the inspection and the scan answer whatever is in them.

use super::super::format::{
    BLOCK_HEADER_LENGTH, BlockHeader, FILE_HEADER_LENGTH, FRAME_HEADER_LENGTH, FrameHeader,
};
use super::super::segment::segment_path;
use super::sim_disk::SimDisk;
use super::*;
use crate::fuzz::Target;
use std::sync::Arc;

const DIR: &str = "/log";
const CHECKSUM: std::ops::Range<usize> = 8..12;

/// Makes a file header, a block or a mark one that is as it was sealed.
fn seal(sealed: &mut [u8]) {
    sealed[CHECKSUM].fill(0);
    let checksum = crc32c::crc32c(sealed);
    sealed[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// Makes the checksums of a block's frames right again.
fn mend_frames(block: &mut [u8]) {
    let mut at = BLOCK_HEADER_LENGTH as usize;
    while let Some((header, rest)) =
        block.get_mut(at..).and_then(|rest| rest.split_at_mut_checked(FRAME_HEADER_LENGTH as usize))
    {
        let field = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap()) as usize;
        let (payload, event) = (field(4), field(8));
        let Some(bytes) = payload.checked_add(event).and_then(|length| rest.get(..length)) else { return };
        if payload + event == 0 {
            return;
        }
        let (payload_sum, event_sum) = (crc32c::crc32c(&bytes[..payload]), crc32c::crc32c(&bytes[payload..]));
        header[24..28].copy_from_slice(&payload_sum.to_le_bytes());
        header[28..32].copy_from_slice(&event_sum.to_le_bytes());
        let own = crc32c::crc32c(&header[4..]);
        header[..4].copy_from_slice(&own.to_le_bytes());
        if FrameHeader::decode(header).is_none() {
            return;
        }
        at += FRAME_HEADER_LENGTH as usize + payload + event;
    }
}

fn mend(file: &mut [u8]) {
    let start = FILE_HEADER_LENGTH as usize;
    if file.len() < start {
        return;
    }
    seal(&mut file[..start]);
    let mut at = start;
    while let Some(header) = file.get(at..).and_then(BlockHeader::decode) {
        let Some(block) = file.get_mut(at..at + header.length as usize) else { return };
        if block.is_empty() {
            return;
        }
        mend_frames(block);
        seal(block);
        at += header.length as usize;
    }
}

/// The files of a small log, without the zeroes at their ends.
fn segments() -> Vec<Vec<u8>> {
    let sim = SimDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let (_, mut log) = open(&disk, &small_options(Path::new(DIR)), Checkpoint::START).unwrap();
    for (number, length) in (1..).zip([40, 0, 3_000, 6_000, 10, 100, 5_000]) {
        append(&mut log, number, length).unwrap();
    }
    let files =
        Segments::find(Arc::clone(&disk), DIR.into()).unwrap().expect("the log is there").list().unwrap();
    let paths: Vec<_> = files.into_iter().map(|file| segment_path(Path::new(DIR), file)).collect();
    let mut contents: Vec<Vec<u8>> = paths.iter().map(|path| sim.content(path)).collect();
    for content in &mut contents {
        while content.pop_if(|byte| *byte == 0).is_some() {}
    }
    contents
}

fn read(bytes: &[u8]) -> String {
    let sim = SimDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let options = small_options(Path::new(DIR));
    let path = segment_path(Path::new(DIR), SegmentNumber::FIRST);
    drop(disk.create(&path, 0).unwrap());
    let mut content = bytes.to_vec();
    content.resize(content.len().max(SEGMENT_LENGTH_MIN as usize), 0);
    sim.set_content(&path, content);
    let inspected = match LogFiles::open(&*disk, Path::new(DIR)) {
        Ok(files) => {
            let pieces = files.pieces().take(100).map(|piece| match piece {
                Ok(Piece::Block(block)) => {
                    // Nothing that is called intact is otherwise when it is read.
                    for (frame, place) in block.frames() {
                        assert_eq!(files.read(place).unwrap().as_ref(), Some(&frame.payload));
                    }
                    "B"
                }
                Ok(Piece::Moved(_)) => "M",
                Ok(Piece::Absent(_)) => "A",
                Ok(Piece::Damage(_)) => "D",
                Err(_) => "E",
            });
            pieces.collect::<String>()
        }
        Err(error) => error.to_string(),
    };
    let scanned = match Segments::find(Arc::clone(&disk), DIR.into()) {
        Ok(Some(segments)) => match segments.scan(SegmentNumber::FIRST, None) {
            Ok(Some(mut scan)) => loop {
                match scan.next_frames() {
                    Ok(Some(_)) => {}
                    Ok(None) => break "whole".to_owned(),
                    Err(error) => break error.to_string(),
                }
            },
            Ok(None) => "not in use".to_owned(),
            Err(error) => error.to_string(),
        },
        Ok(None) => "no log".to_owned(),
        Err(error) => error.to_string(),
    };
    let opened = match open(&disk, &options, Checkpoint::START) {
        Ok((blocks, _)) => format!("{:?} blocks", blocks.len().min(1)),
        Err(error) => error.to_string(),
    };
    format!("{inspected} | {scanned} | {opened}")
}

#[test]
fn fuzz_segments() {
    Target { name: "segments", valid: segments(), mend: &|file| mend(file), read: &read }.fuzz();
}
