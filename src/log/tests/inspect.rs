//! The inspection of damaged logs: everything that is intact is found, and nothing else.

use super::sim_disk::SimDisk;
use super::*;
use proptest::prelude::*;
use std::sync::Arc;

/// A log of these blocks over several segments, stopped in order or not.
fn written(appends: &[usize], clean: bool) -> (SimDisk, LogOptions, Vec<PlacedBlock>) {
    let sim = SimDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let options = small_options(Path::new("/log"));
    let (_, mut log) = open(&disk, &options, Checkpoint::START).unwrap();
    let blocks =
        (1..).zip(appends).map(|(number, length)| append(&mut log, number, *length).unwrap()).collect();
    if clean {
        log.writer.stop().unwrap();
    }
    (sim, options, blocks)
}

type Found = (Vec<PlacedBlock>, Vec<Damage>, Vec<std::ops::Range<u64>>);

fn pieces(sim: &SimDisk, options: &LogOptions) -> Found {
    let files = LogFiles::open(sim, &options.dir).unwrap();
    let (mut blocks, mut damages, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for piece in files.pieces() {
        match piece.unwrap() {
            Piece::Block(block) => blocks.push(block),
            Piece::Damage(damage) => damages.push(damage),
            Piece::Moved(_) => panic!("nothing was moved"),
            Piece::Absent(blocks) => absent.push(blocks),
        }
    }
    (blocks, damages, absent)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_flipped_byte_costs_the_frame_it_lies_in(
        appends in prop::collection::vec(0usize..6_000, 1..24),
        at in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        bits in 1..=255u8,
        clean in any::<bool>(),
    ) {
        let (sim, options, mut blocks) = written(&appends, clean);
        let (found, damages, absent) = pieces(&sim, &options);
        prop_assert!(found == blocks, "all of it, and nothing else");
        prop_assert!(damages.is_empty() && absent.is_empty(), "{:?}", damages);

        let hit = at.index(blocks.len());
        let last = hit + 1 == blocks.len();
        let victim = blocks.remove(hit);
        let path = options.dir.join(format!("{:020}.log", victim.at.segment.0));
        let mut content = sim.content(&path);
        let position = victim.at.position as usize + byte.index(victim.block.length() as usize);
        content[position] ^= bits;
        sim.set_content(&path, content);
        let (found, damages, absent) = pieces(&sim, &options);
        prop_assert!(found == blocks && absent.is_empty(), "everything else");
        if last && !clean {
            prop_assert!(damages.is_empty(), "nothing speaks for the last block of a crash");
            return Ok(());
        }
        prop_assert_eq!(damages.len(), 1);
        let number = victim.block.number().0;
        prop_assert_eq!(damages[0].blocks.clone(), number..number + 1);
        prop_assert!(damages[0].bytes.contains(&u32::try_from(position).unwrap()));
        let untouched: Vec<_> = victim
            .frames()
            .filter(|(frame, place)| {
                let start = place.position as usize;
                !(start..start + frame.header.frame_length().unwrap() as usize).contains(&position)
            })
            .map(|(frame, place)| (frame.event, frame.payload, place))
            .collect();
        let saved = damages[0].saved.iter().cloned();
        let saved: Vec<_> = saved.map(|(frame, place)| (frame.event, frame.payload, place)).collect();
        prop_assert!(saved == untouched, "the frames that were not hit");
    }
}

#[test]
fn a_missing_file_and_a_lost_header_are_told_apart_and_the_rest_is_found() {
    let (sim, options, blocks) = written(&[7_000; 24], true);
    let last = blocks.last().unwrap().at.segment.0;
    assert!(last >= 5, "several segments: {last}");
    let path = |segment: u64| options.dir.join(format!("{segment:020}.log"));
    let of_segment = |segment: u64| blocks.iter().filter(move |block| block.at.segment.0 == segment);
    let mut content = sim.content(&path(2));
    content[100] ^= 1;
    sim.set_content(&path(2), content);
    sim.remove(&path(4)).unwrap();
    let (found, damages, absent) = pieces(&sim, &options);
    let kept: Vec<_> = blocks.iter().filter(|block| block.at.segment.0 != 4).cloned().collect();
    let numbers = |blocks: &[PlacedBlock]| blocks.iter().map(|b| b.block.number().0).collect::<Vec<_>>();
    assert_eq!(numbers(&found), numbers(&kept));
    assert_eq!(damages.len(), 1);
    assert_eq!((damages[0].path.clone(), damages[0].bytes.clone()), (path(2), 0..PAGE));
    let missing: Vec<u64> = of_segment(4).map(|block| block.block.number().0).collect();
    assert_eq!(absent, vec![missing[0]..missing[missing.len() - 1] + 1]);
}

#[test]
fn moved_frames_are_found_around_what_is_damaged() {
    let (sim, options, blocks) = written(&[3_000; 8], true);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let segments = Segments::find(Arc::clone(&disk), options.dir.clone()).unwrap().unwrap();
    let mut file = segments.begin_moved(SegmentNumber::moved(1), SEGMENT_LENGTH_MIN).unwrap();
    let frames: Vec<Frame> = blocks[..3].iter().flat_map(|block| block.block.frames()).collect();
    let places: Vec<Place> = frames.iter().map(|frame| file.push(frame).unwrap().unwrap()).collect();
    file.finish().unwrap();
    let found = |sim: &SimDisk| {
        let files = LogFiles::open(sim, &options.dir).unwrap();
        let (mut moved, mut damages) = (Vec::new(), 0);
        for piece in files.pieces() {
            match piece.unwrap() {
                Piece::Moved(frames) => moved.extend(frames),
                Piece::Damage(_) => damages += 1,
                Piece::Block(_) | Piece::Absent(_) => {}
            }
        }
        for (frame, place) in &moved {
            assert_eq!(files.read(*place).unwrap().unwrap(), frame.payload);
        }
        (moved.into_iter().map(|(frame, place)| (frame.event, place)).collect::<Vec<_>>(), damages)
    };
    let mut expected: Vec<_> = frames.iter().map(|frame| frame.event.clone()).zip(places.clone()).collect();
    assert_eq!(found(&sim), (expected.clone(), 0));
    let path = options.dir.join("moved-00000000000000000001.log");
    let mut content = sim.content(&path);
    content[places[4].position as usize + 20] ^= 4;
    sim.set_content(&path, content);
    expected.remove(4);
    assert_eq!(found(&sim), (expected, 1));
}
