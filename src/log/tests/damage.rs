//! Damage anywhere: it is either beyond what anybody was told is durable, and cut, or named; never served.

use super::sim_disk::SimDisk;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

const PAGE_LENGTH: usize = PAGE as usize;

/// What happens to the files behind the log's back. Positions are shares of all that is there.
#[derive(Clone, Debug)]
enum Damage {
    Flip { at: prop::sample::Index, bits: u8 },
    Zero { at: prop::sample::Index, pages: usize },
    Swap { one: prop::sample::Index, other: prop::sample::Index },
    Truncate { at: prop::sample::Index },
    Remove { file: prop::sample::Index },
}

fn damages() -> impl Strategy<Value = Damage> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip { at, bits }),
        (any::<Index>(), 1..4usize).prop_map(|(at, pages)| Damage::Zero { at, pages }),
        any::<(Index, Index)>().prop_map(|(one, other)| Damage::Swap { one, other }),
        any::<Index>().prop_map(|at| Damage::Truncate { at }),
        any::<Index>().prop_map(|file| Damage::Remove { file }),
    ]
}

/// A log, what is in it, and its files.
struct Damaged {
    disk: SimDisk,
    options: LogOptions,
    written: Vec<PlacedBlock>,
    paths: Vec<PathBuf>,
    before: Vec<Vec<u8>>,
}

impl Damaged {
    fn new(appends: &[usize], clean: bool) -> Damaged {
        let sim = SimDisk::default();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let options = small_options(Path::new("/log"));
        let (_, mut log) = open(&disk, &options, Checkpoint::START).unwrap();
        let written: Vec<_> =
            (1..).zip(appends).map(|(number, length)| append(&mut log, number, *length).unwrap()).collect();
        if clean {
            log.writer.stop().unwrap();
        }
        let mut paths: Vec<_> =
            disk.list(&options.dir).unwrap().iter().map(|name| options.dir.join(name)).collect();
        paths.sort();
        let before = paths.iter().map(|path| sim.content(path)).collect();
        Damaged { disk: sim, options, written, paths, before }
    }

    /// File and position of a share of all bytes.
    fn locate(&self, at: &prop::sample::Index) -> (usize, usize) {
        let mut rest = at.index(self.before.iter().map(Vec::len).sum());
        for (file, content) in self.before.iter().enumerate() {
            if rest < content.len() {
                return (file, rest);
            }
            rest -= content.len();
        }
        unreachable!("the index is below the sum")
    }

    fn inflict(&self, damage: &Damage) {
        let edit = |file: usize, change: &dyn Fn(&mut Vec<u8>)| {
            let mut content = self.disk.content(&self.paths[file]);
            change(&mut content);
            self.disk.set_content(&self.paths[file], content);
        };
        match damage {
            Damage::Flip { at, bits } => {
                let (file, position) = self.locate(at);
                edit(file, &|content| content[position] ^= bits);
            }
            Damage::Zero { at, pages } => {
                let (file, position) = self.locate(at);
                let start = position - position % PAGE_LENGTH;
                edit(file, &|content| {
                    let end = (start + pages * PAGE_LENGTH).min(content.len());
                    content[start..end].fill(0);
                });
            }
            Damage::Swap { one, other } => {
                let ((one_file, one), (other_file, other)) = (self.locate(one), self.locate(other));
                let (one, other) = (one - one % PAGE_LENGTH, other - other % PAGE_LENGTH);
                let page = |file: usize, at: usize| {
                    let content = &self.before[file];
                    content[at..(at + PAGE_LENGTH).min(content.len())].to_vec()
                };
                let (one_page, other_page) = (page(one_file, one), page(other_file, other));
                edit(one_file, &|content| put(content, one, &other_page));
                edit(other_file, &|content| put(content, other, &one_page));
            }
            Damage::Truncate { at } => {
                let (file, position) = self.locate(at);
                edit(file, &|content| content.truncate(position));
            }
            Damage::Remove { file } => {
                self.disk.remove(&self.paths[file.index(self.paths.len())]).unwrap();
            }
        }
    }

    /// The blocks whose bytes are no longer where they were.
    fn damaged_blocks(&self) -> BTreeSet<u64> {
        let content = |placed: &PlacedBlock| {
            let name = super::super::segment::segment_path(&self.options.dir, placed.at.segment);
            let there = self.disk.list(&self.options.dir).unwrap();
            let name_there = there.iter().any(|file| name.ends_with(file));
            if name_there { self.disk.content(&name) } else { Vec::new() }
        };
        let damaged = self.written.iter().filter(|placed| {
            let start = placed.at.position as usize;
            content(placed).get(start..start + placed.block.bytes().len()) != Some(&placed.block.bytes()[..])
        });
        damaged.map(|placed| placed.block.number().0).collect()
    }

    /// The last segment, if it has lost its end.
    fn cut_segment(&self, damage: &Damage) -> Option<SegmentNumber> {
        let Damage::Truncate { at } = damage else { return None };
        let path = &self.paths[self.locate(at).0];
        let last = self.written.last()?.at.segment;
        (*path == super::super::segment::segment_path(&self.options.dir, last)).then_some(last)
    }

    /// Whether anything is other than it was.
    fn is_changed(&self) -> bool {
        let names = self.disk.list(&self.options.dir).unwrap();
        names.len() != self.paths.len()
            || self.paths.iter().zip(&self.before).any(|(path, before)| self.disk.content(path) != *before)
    }
}

fn put(content: &mut [u8], at: usize, page: &[u8]) {
    let end = (at + page.len()).min(content.len());
    content[at..end].copy_from_slice(&page[..end - at]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn damage_is_cut_where_nobody_relied_on_it_and_named_elsewhere(
        appends in prop::collection::vec(prop_oneof![0..3800usize, 4000..7000usize], 1..12),
        clean in any::<bool>(),
        applied in any::<prop::sample::Index>(),
        damage in damages(),
    ) {
        let log = Damaged::new(&appends, clean);
        let applied = applied.index(appends.len() + 1);
        let checkpoint = applied.checked_sub(1).map_or(Checkpoint::START, |i| log.written[i].checkpoint());
        log.inflict(&damage);
        let damaged: BTreeSet<u64> =
            log.damaged_blocks().into_iter().filter(|number| *number >= applied as u64).collect();
        let mark_is_there = log.disk.list(&log.options.dir).unwrap().contains(&"clean".to_owned());
        let last = appends.len() as u64;
        let changed = log.is_changed();
        let cut = log.cut_segment(&damage).is_some_and(|segment| segment >= checkpoint.at.segment);
        let disk: Arc<dyn Disk> = Arc::new(log.disk.clone());
        let unchanged = log.disk.fork();
        match open(&disk, &log.options, checkpoint) {
            Ok((blocks, opened)) => {
                for (placed, written) in blocks.iter().zip(&log.written[applied..]) {
                    prop_assert_eq!(&placed.block, &written.block);
                }
                prop_assert!(!cut, "a file that was cut off has lost its blocks");
                let first_damaged = damaged.first().copied().unwrap_or(last + 1);
                prop_assert_eq!(opened.last.0, first_damaged - 1, "only what is damaged is cut");
                let durable = if clean && mark_is_there { last } else { applied as u64 };
                prop_assert!(first_damaged > durable, "block {} was known to be durable", first_damaged);
                let intact_after = (first_damaged..=last).find(|number| !damaged.contains(number));
                prop_assert_eq!(intact_after, None, "the block is intact, so an earlier one was durable");
                for placed in &blocks {
                    for (read, (_, payload)) in payloads(&opened.reader, placed).into_iter().zip(contents(&placed.block)) {
                        prop_assert_eq!(read.unwrap(), payload);
                    }
                }
                // What lies below the checkpoint is found out when it is read.
                for placed in &log.written[..applied] {
                    for (read, (_, payload)) in payloads(&opened.reader, placed).into_iter().zip(contents(&placed.block)) {
                        prop_assert!(read.is_err() || read.is_ok_and(|read| read == payload));
                    }
                }
            }
            Err(RecoverError::Corruption(corruption)) => {
                prop_assert!(changed, "a false alarm: {}", corruption);
                prop_assert_eq!(corruption.path.parent(), Some(&*log.options.dir));
                for path in log.paths.iter().filter(|path| disk.open(path).is_ok()) {
                    prop_assert_eq!(log.disk.content(path), unchanged.content(path), "the files are kept");
                }
            }
            Err(error) => prop_assert!(matches!(error, RecoverError::UnknownVersion { .. }), "{}", error),
        }
    }
}

/// The damage, the place and the evidence that recovery names.
fn refusal(log: &Damaged, applied: Checkpoint) -> Corruption {
    let disk: Arc<dyn Disk> = Arc::new(log.disk.clone());
    match open(&disk, &log.options, applied) {
        Err(RecoverError::Corruption(corruption)) => *corruption,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_refusal_names_file_position_block_and_reason() {
    let log = Damaged::new(&[100, 100, 100, 100], false);
    let path = log.paths[0].clone();
    let second = log.written[1].at;
    let mut content = log.disk.content(&path);
    content[second.position as usize + 90] ^= 1;
    log.disk.set_content(&path, content);
    let corruption = refusal(&log, Checkpoint::START);
    let newer = Evidence::NewerBlock {
        block: BlockNumber(3),
        path: path.clone(),
        position: log.written[2].at.position,
    };
    let expected = Corruption { path, position: second.position, block: BlockNumber(2), evidence: newer };
    assert_eq!(corruption, expected);
    assert_eq!(
        corruption.to_string(),
        "the log is damaged: /log/00000000000000000001.log should hold block 2 at byte 8192, but it does not, although \
         the later block 3 is intact in /log/00000000000000000001.log at byte 12288. Nothing has been changed and \
         nothing is served. Keep the files; restore a backup, or export what is intact: `semel log verify DIR` says \
         what is damaged, `semel log export DIR --topic T --partition P` writes a partition's intact records"
    );
}

#[test]
fn the_last_block_is_covered_by_the_mark_and_by_the_store() {
    let damage_last = |log: &Damaged| {
        let at = log.written[1].at;
        let mut content = log.disk.content(&log.paths[0]);
        content[at.position as usize..][..PAGE_LENGTH].fill(0);
        log.disk.set_content(&log.paths[0], content);
    };
    let log = Damaged::new(&[100, 100], true);
    damage_last(&log);
    assert_eq!(refusal(&log, Checkpoint::START).evidence, Evidence::Stopped { stopped: BlockNumber(2) });
    let log = Damaged::new(&[100, 100], false);
    damage_last(&log);
    let applied = log.written[1].checkpoint();
    assert_eq!(refusal(&log, applied).evidence, Evidence::Applied { applied: BlockNumber(2) });
    // The window: nothing speaks of the last block, so its damage looks like a crash.
    let disk: Arc<dyn Disk> = Arc::new(log.disk.clone());
    let (blocks, opened) = open(&disk, &log.options, Checkpoint::START).unwrap();
    assert_eq!((blocks.len(), opened.last), (1, BlockNumber(1)));
}

#[test]
fn a_file_of_another_log_is_refused() {
    let log = Damaged::new(&[100], false);
    let other = Damaged::new(&[100], false);
    let mut options = other.options.clone();
    options.id_if_new = LogId(99);
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
    let (_, mut foreign) = open(&disk, &options, Checkpoint::START).unwrap();
    append(&mut foreign, 1, 6000).unwrap();
    drop(foreign);
    let file = disk.open(&log.paths[0]).unwrap();
    let mut content = Vec::new();
    file.read_at(0, usize::MAX / 2, &mut content).unwrap();
    // As the second segment of the first log.
    let second = super::super::segment::segment_path(&log.options.dir, SegmentNumber(2));
    log.disk.create(&second, 0).unwrap();
    log.disk.set_content(&second, content);
    assert_eq!(refusal(&log, Checkpoint::START).evidence, Evidence::Foreign);
}

/// A log whose block 2 is torn but for what a producer wrote into its payload: an intact block 9 of `forged`.
fn torn_around_a_forgery(forged: impl Fn(Identity) -> Identity) -> (Damaged, At) {
    let log = Damaged::new(&[100], false);
    let disk: Arc<dyn Disk> = Arc::new(log.disk.clone());
    let (_, mut opened) = open(&disk, &log.options, log.written[0].checkpoint()).unwrap();
    let identity = opened.writer.identity();
    let stamp = BlockStamp {
        identity,
        term: LeaderEpoch(0),
        number: BlockNumber(2),
        last_durable: BlockNumber(1),
        served_time: ServedTime(0),
    };
    let mut builder = BlockBuilder::new(stamp, log.options.block_length_max());
    // Begins where the second page does, as a block could.
    let mut payload = vec![0; builder.room() as usize - PAGE_LENGTH - 32];
    payload.extend_from_slice(block(forged(identity), 9, 9, 100).bytes());
    builder.push(b"", &payload).unwrap();
    let block = builder.finish();
    let at = opened.cursor.assign(block.length()).unwrap();
    opened.writer.write(&PlacedBlock { block, at }).unwrap();
    let mut content = log.disk.content(&log.paths[0]);
    content[at.position as usize..][..PAGE_LENGTH].fill(0);
    log.disk.set_content(&log.paths[0], content);
    (log, at)
}

#[test]
fn a_payload_that_looks_like_a_block_is_not_taken_for_one() {
    let guess = Identity { log: LogId(1), shard: ShardNumber(3) };
    let (log, _) = torn_around_a_forgery(|_| guess);
    let disk: Arc<dyn Disk> = Arc::new(log.disk.clone());
    let (blocks, opened) = open(&disk, &log.options, log.written[0].checkpoint()).unwrap();
    assert_eq!((blocks.len(), opened.last), (0, BlockNumber(1)));
    // Only the log's secret identity makes the difference.
    let (log, at) = torn_around_a_forgery(|identity| identity);
    let evidence = refusal(&log, log.written[0].checkpoint()).evidence;
    let path = log.paths[0].clone();
    let block = BlockNumber(9);
    assert_eq!(evidence, Evidence::NewerBlock { block, path, position: at.position + PAGE });
}

#[test]
fn an_intact_batch_that_lies_where_another_one_should_is_not_served() {
    let sim = SimDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let mut options = small_options(Path::new("/log"));
    options.recent_bytes_max = 0;
    let (_, mut log) = open(&disk, &options, Checkpoint::START).unwrap();
    let written: Vec<_> = (1..=2).map(|number| append(&mut log, number, 100).unwrap()).collect();
    let [one, other] = [&written[0], &written[1]];
    assert_eq!((one.at.segment, one.block.length()), (other.at.segment, other.block.length()));
    let path = super::super::segment::segment_path(&options.dir, one.at.segment);
    let mut content = sim.content(&path);
    for byte in 0..one.block.length() as usize {
        content.swap(one.at.position as usize + byte, other.at.position as usize + byte);
    }
    sim.set_content(&path, content);
    let with_payload = |placed: &PlacedBlock| placed.frames().filter(|(_, place)| place.length > 0).count();
    assert!(with_payload(one) > 0);
    for placed in &written {
        for (_, place) in placed.frames().filter(|(_, place)| place.length > 0) {
            let read = log.reader.read(place);
            assert!(matches!(read, Err(ReadError::Damaged { finding: Finding::OtherFrame, .. })), "{read:?}");
        }
    }
}

#[test]
fn what_the_disk_cannot_read_keeps_nobody_from_what_lies_beside_it() {
    let sim = SimDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let mut options = small_options(Path::new("/log"));
    options.recent_bytes_max = 0;
    let (_, mut log) = open(&disk, &options, Checkpoint::START).unwrap();
    let written: Vec<_> = (1..=3).map(|number| append(&mut log, number, 100).unwrap()).collect();
    let places: Vec<_> = written
        .iter()
        .flat_map(|placed| placed.frames().map(|(_, place)| place))
        .filter(|place| place.length > 0)
        .collect();
    let whole = log.reader.read_all(&places);
    let page = |place: &Place| place.position / PAGE;
    let spoilt = page(&places[2]);
    sim.spoil(u64::from(places[2].position));
    let mut lost = 0;
    for ((place, read), before) in places.iter().zip(log.reader.read_all(&places)).zip(whole) {
        if page(place) == spoilt {
            assert!(matches!(read, Err(ReadError::Disk(_))), "{read:?}");
            lost += 1;
        } else {
            assert_eq!(read.unwrap(), before.unwrap());
        }
    }
    assert!((2..places.len()).contains(&lost), "{lost} of {}", places.len());
    // It may also be another's, between two that are wanted.
    let others: Vec<_> = places.into_iter().filter(|place| page(place) != spoilt).collect();
    assert!(log.reader.read_all(&others).iter().all(Result::is_ok));
}
