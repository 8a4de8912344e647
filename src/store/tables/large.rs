//! What the store costs and gives when it holds more than fits into memory: its layout, and who waits for whom.

use super::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use tempfile::TempDir;

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: u64 = 100;
const PREFIX: u8 = 7;

/// No cache: what is read is read from files.
const LIMITS: StoreLimits =
    StoreLimits { cache_bytes: 1, memtable_bytes: 256 << 10, journal_bytes: 128 << 20 };

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The key of a producer's row, about: those of a partition lie beside each other.
fn key(number: u64) -> Vec<u8> {
    let partition = u32::try_from(number % PARTITIONS).unwrap();
    [&[PREFIX][..], &[1; 16], &partition.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// A row that cannot be guessed from others, as far as compression goes.
fn row(number: u64) -> Vec<u8> {
    (1..=8u64).flat_map(|part| (number * part).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect()
}

fn spaces(tables: &Tables) -> &Keyspaces {
    match tables {
        Tables::Fjall(spaces) => spaces,
        Tables::Model(_) => unreachable!("a store on disk"),
    }
}

fn open(dir: &TempDir) -> Tables {
    Tables::open(&dir.path().join("rows"), LIMITS).unwrap()
}

fn put(tables: &Tables, rows: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) {
    let mut batch = tables.batch();
    for (key, row) in rows {
        match row {
            Some(row) => batch.insert(Space::Rows, &key, &row),
            None => batch.remove(Space::Rows, &key),
        }
    }
    batch.commit().unwrap();
}

/// Has everything in tables that are merged, as they are after a while.
fn settle(tables: &Tables) {
    let rows = &spaces(tables).rows;
    rows.rotate_memtable_and_wait().unwrap();
    let begun = Instant::now();
    while rows.l0_table_count() > 0 {
        // Nothing happens while fjall's thread merges them itself.
        rows.tree.compact(Arc::new(merging().with_l0_threshold(1)), 0).unwrap();
        assert!(begun.elapsed() < PATIENCE);
    }
}

/// Bytes that this thread has read from files.
fn read_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// Bytes read for a row, on average, in a store of so many.
fn bytes_for_a_row(count: u64) -> u64 {
    let dir = TempDir::new().unwrap();
    let tables = open(&dir);
    for first in (0..count).step_by(1_000) {
        put(&tables, (first..first + 1_000).map(|number| (key(number), Some(row(number)))));
    }
    settle(&tables);
    let looks = 100;
    let before = read_bytes();
    for look in 0..looks {
        let there = look * (count / looks);
        assert_eq!(tables.get(Space::Rows, &key(there)).unwrap().as_deref(), Some(&row(there)[..]));
    }
    (read_bytes() - before) / looks
}

#[test]
fn what_is_read_for_a_row_does_not_grow_with_the_store() {
    for count in [10_000, 200_000] {
        let bytes = bytes_for_a_row(count);
        // A part of the filter, a part of the index, and the rows beside this one, of about 4 KiB each.
        assert!((4_000..16_000).contains(&bytes), "{bytes} bytes for each of {count} rows");
    }
}

#[test]
fn filters_and_indices_in_parts_show_what_is_there() {
    let dir = TempDir::new().unwrap();
    let tables = open(&dir);
    let count = 40_000;
    let mut rows = Rows::new();
    for first in (0..count).step_by(1_000) {
        let mut changes: BTreeMap<_, _> =
            (first..first + 1_000).map(|number| (key(number), Some(row(number)))).collect();
        // Of the earlier ones some change and some go.
        changes.extend((0..first).step_by(61).map(|number| (key(number), Some(row(number + first)))));
        changes.extend((0..first).step_by(97).map(|number| (key(number), None)));
        for (key, row) in &changes {
            match row {
                Some(row) => rows.insert(key.clone(), row.clone()),
                None => rows.remove(key),
            };
        }
        put(&tables, changes.into_iter());
    }
    settle(&tables);
    let found = |entries: Entries| -> Vec<(Vec<u8>, Vec<u8>)> {
        entries.map(|entry| entry.map(|(key, row)| (key, row.to_vec())).unwrap()).collect()
    };
    let expected = |from: Bound<&[u8]>, to: Bound<&[u8]>| -> Vec<_> {
        rows.range::<[u8], _>((from, to)).map(|(key, row)| (key.clone(), row.clone())).collect()
    };
    let snapshot = tables.snapshot();
    assert!(found(snapshot.prefix(Space::Rows, &[PREFIX])) == expected(Bound::Unbounded, Bound::Unbounded));
    for number in (0..count + 500).step_by(7) {
        assert_eq!(
            snapshot.get(Space::Rows, &key(number)).unwrap().as_deref(),
            rows.get(&key(number)).map(|row| &row[..])
        );
    }
    for step in 0..500u64 {
        let from = key(step * 7_919 % count);
        // From within a block to beyond many of them, and between keys.
        for length in [0, 1, 300, 30_000, 3_000_000] {
            let mut to = from.clone();
            let last = u64::from_be_bytes(to[21..].try_into().unwrap());
            to[21..].copy_from_slice(&(last + length).to_be_bytes());
            let found = found(snapshot.range(Space::Rows, &from, Bound::Excluded(&to)));
            assert!(found == expected(Bound::Included(&from), Bound::Excluded(&to)), "{from:?} {to:?}");
        }
        let partition = &from[..21];
        if step % 10 == 0 {
            let found = found(snapshot.prefix(Space::Rows, partition));
            let expected: Vec<_> = rows
                .range(partition.to_vec()..)
                .take_while(|(key, _)| key.starts_with(partition))
                .map(|(key, row)| (key.clone(), row.clone()))
                .collect();
            assert!(found == expected, "{partition:?}");
        }
    }
}

#[test]
fn who_reads_for_long_sees_what_was_there_and_keeps_no_memory() {
    let dir = TempDir::new().unwrap();
    let tables = open(&dir);
    let count = 1_000;
    let all = |turn: u64| (0..count).map(move |number| (key(number), Some(row(number + turn * count))));
    put(&tables, all(0));
    let mut reading = tables.snapshot().lasting(Space::Rows);
    let mut seen: Vec<_> = reading.by_ref().take(10).map(Result::unwrap).collect();
    // Many memtables full, which are written out and merged.
    for turn in 1..50 {
        put(&tables, all(turn));
    }
    put(&tables, (0..count / 2).map(|number| (key(number), None)));
    let rows = &spaces(&tables).rows;
    rows.rotate_memtable_and_wait().unwrap();
    rows.tree.compact(Arc::new(merging().with_l0_threshold(1)), tables.snapshot().age()).unwrap();
    // Each memtable that was filled, written out or merged made a state of the tree, and those that are kept keep it in memory.
    let kept = rows.tree.get_version_history_lock().len();
    assert!(kept < 15, "{kept} states");
    seen.extend(reading.map(Result::unwrap));
    let expected: Rows = (0..count).map(|number| (key(number), row(number))).collect();
    assert!(seen.into_iter().map(|(key, row)| (key, row.to_vec())).eq(expected));
}

#[test]
fn while_nothing_is_written_out_whoever_writes_waits() {
    let dir = TempDir::new().unwrap();
    let tables = open(&dir);
    let rows = &spaces(&tables).rows;
    let (largest, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let memtable = || rows.tree.active_memtable().size();
    thread::scope(|scope| {
        // fjall's thread is as good as merging: it does not come to what else there is to do.
        let busy = rows.tree.get_flush_lock();
        scope.spawn(|| {
            for batch in 0..400u64 {
                put(&tables, (batch * 100..batch * 100 + 100).map(|number| (key(number), Some(row(number)))));
                largest.fetch_max(memtable(), Ordering::Relaxed);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let begun = Instant::now();
        while rows.sealed_memtable_count() < SEALED_MAX || memtable() <= LIMITS.memtable_bytes {
            assert!(!is_over.load(Ordering::Relaxed), "it has not waited");
            assert!(begun.elapsed() < PATIENCE);
            thread::yield_now();
        }
        drop(busy);
    });
    let batch = 100 * 1_000;
    assert!((1..LIMITS.memtable_bytes + batch).contains(&largest.load(Ordering::Relaxed)), "{largest:?}");
    assert!((0..40_000).all(|number| tables.get(Space::Rows, &key(number)).unwrap().is_some()));
}

#[test]
fn who_waits_hears_that_nothing_will_be_written_out() {
    let dir = TempDir::new().unwrap();
    let tables = open(&dir);
    let keyspaces = dir.path().join("rows/keyspaces");
    for keyspace in std::fs::read_dir(keyspaces).unwrap() {
        std::fs::remove_dir_all(keyspace.unwrap().path().join("tables")).unwrap();
    }
    let failed = (0..2_000u64).find_map(|number| {
        let mut batch = tables.batch();
        (number * 100..number * 100 + 100)
            .for_each(|number| batch.insert(Space::Rows, &key(number), &row(number)));
        batch.commit().err()
    });
    assert!(matches!(failed, Some(fjall::Error::Poisoned)), "{failed:?}");
}
