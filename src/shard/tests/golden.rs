//! The golden data directory (`tests/golden`): what an earlier semel has written, every later one serves.
//!
//! It is made anew only when the log's format takes a new version that older data cannot be read in (never after a release):
//! `cargo test --lib golden -- --ignored`.

use super::contents::Contents;
use super::workload::{Workload, open_tiny, scratch};
use super::*;
use std::path::PathBuf;

const COMPRESSED: &str = "zst";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
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

fn unpack(into: &Path) {
    let packed = golden().join("data");
    for file in below(&packed) {
        assert!(file.extension().is_some_and(|extension| extension == COMPRESSED));
        let target = into.join(&file).with_extension("");
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let content = zstd::decode_all(&std::fs::read(packed.join(&file)).unwrap()[..]).unwrap();
        std::fs::write(target, content).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the golden data directory: only when the format takes a version that cannot be read any more"]
async fn write_the_golden_data_directory() {
    let workload = Workload::make().await;
    let packed = golden().join("data");
    if packed.exists() {
        std::fs::remove_dir_all(&packed).unwrap();
    }
    for file in below(&workload.clean) {
        let mut target = packed.join(&file).into_os_string();
        target.push(".");
        target.push(COMPRESSED);
        let target = PathBuf::from(target);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let content = std::fs::read(workload.clean.join(&file)).unwrap();
        std::fs::write(target, zstd::encode_all(&content[..], 19).unwrap()).unwrap();
    }
    std::fs::write(golden().join("contents.txt"), workload.whole.readable()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_data_directory_is_served_as_it_was_with_its_rows_and_without() {
    let expected = std::fs::read_to_string(golden().join("contents.txt")).unwrap();
    for with_rows in [true, false] {
        let dir = scratch();
        unpack(dir.path());
        if !with_rows {
            std::fs::remove_dir_all(dir.path().join("rows")).unwrap();
        }
        let running = open_tiny(dir.path()).unwrap();
        let served = Contents::of(&running).await.readable();
        let differs = served.lines().zip(expected.lines()).find(|(served, expected)| served != expected);
        assert!(served == expected, "with its rows: {with_rows}; first difference: {differs:?}");
        running.stop().await.unwrap();
    }
}
