//! The golden data directories (`tests/golden`): what an earlier semel has written, every later one serves.
//!
//! None of them is ever made anew. When a format takes a new version, or data directories have something in them that none of
//! these has, one more is added: `cargo test --lib golden -- --ignored`.

use super::contents::Contents;
use super::workload::{Workload, open_tiny, scratch};
use super::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

const COMPRESSED: &str = "zst";

/// The directories there are, by their numbers.
fn golden() -> BTreeMap<u32, PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let paths = std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().to_str().unwrap().parse().unwrap(), path)).collect()
}

/// All files below a directory, by their paths in it.
fn below(dir: &Path) -> Vec<PathBuf> {
    let (mut dirs, mut found) = (vec![dir.to_path_buf()], Vec::new());
    while let Some(next) = dirs.pop() {
        for path in std::fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn unpack(packed: &Path, into: &Path) {
    for file in below(packed) {
        assert!(file.extension().is_some_and(|extension| extension == COMPRESSED));
        let target = into.join(&file).with_extension("");
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let content = zstd::decode_all(&std::fs::read(packed.join(&file)).unwrap()[..]).unwrap();
        std::fs::write(target, content).unwrap();
    }
}

/// Transactions that a row of open ones has no room for, and partitions that the row of a transaction has none for.
const MANY: usize = 70;

/// What the ground of the tests of damage does without: a transaction over many partitions that is prepared, many that are
/// open in one partition, a record with an idempotency key.
async fn write_further(dir: &Path) -> Contents {
    let running = open_tiny(dir).unwrap();
    let wide = create_topic(&running, "wide", u32::try_from(MANY).unwrap()).await;
    let partition = |index| PartitionId { topic: wide, index: PartitionIndex(i32::try_from(index).unwrap()) };
    let everywhere = init(&running, Some("everywhere")).await;
    for index in 0..MANY {
        produce(&running, partition(index), Some((everywhere, 0, true)), Some("everywhere"), 1)
            .await
            .unwrap();
    }
    let producer = TransactionalProducer {
        transactional_id: TransactionalId::new("everywhere").unwrap(),
        identity: everywhere,
        connection: CLIENT,
    };
    let reply = ask(&running, Command::PrepareTxn(PrepareTxn { producer, timeout: None }), vec![]).await;
    assert_eq!(reply, Reply::Done(Ok(())));
    for number in 0..MANY {
        let id = format!("one of many, {number}");
        let holder = init(&running, Some(&id)).await;
        produce(&running, partition(0), Some((holder, 0, true)), Some(&id), 1).await.unwrap();
    }
    let config = [(topic_settings::KEY_HEADER, "payment")];
    let config = config.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let keyed = PartitionId {
        topic: create_topic_with(&running, "keyed", 1, config).await,
        index: PartitionIndex(0),
    };
    let (mut facts, bytes) = batch(None, 1);
    let key = IdempotencyKey::new(Bytes::from_static(b"payment 1")).unwrap();
    facts.keys.push(RecordKey { record: 0, key });
    produce_batch(&running, keyed, None, (facts, bytes)).await.unwrap();
    let contents = Contents::of(&running).await;
    running.stop().await.unwrap();
    contents
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes one more golden data directory"]
async fn write_a_golden_data_directory() {
    let workload = Workload::make().await;
    let contents = write_further(&workload.clean).await;
    let (newest, path) = golden().pop_last().unwrap();
    let golden = path.with_file_name((newest + 1).to_string());
    let packed = golden.join("data");
    for file in below(&workload.clean) {
        let mut target = packed.join(&file).into_os_string();
        target.push(".");
        target.push(COMPRESSED);
        let target = PathBuf::from(target);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let content = std::fs::read(workload.clean.join(&file)).unwrap();
        std::fs::write(target, zstd::encode_all(&content[..], 19).unwrap()).unwrap();
    }
    std::fs::write(golden.join("contents.txt"), contents.readable()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_data_directories_are_served_as_they_were_with_their_rows_and_without() {
    for (number, golden) in golden() {
        let expected = std::fs::read_to_string(golden.join("contents.txt")).unwrap();
        for with_rows in [true, false] {
            let dir = scratch();
            unpack(&golden.join("data"), dir.path());
            if !with_rows {
                std::fs::remove_dir_all(dir.path().join("rows")).unwrap();
            }
            let running = open_tiny(dir.path()).unwrap();
            let served = Contents::of(&running).await.readable();
            let differs = served.lines().zip(expected.lines()).find(|(served, expected)| served != expected);
            assert!(served == expected, "{number}, with rows: {with_rows}; first difference: {differs:?}");
            running.stop().await.unwrap();
        }
    }
}
