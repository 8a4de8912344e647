//! A disk that is nearly full.

use super::harness::*;
use crate::log::{Disk, DiskFile, RealDisk};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The system's disk, but for how much room is left on it.
#[derive(Clone, Debug)]
struct Narrow {
    free: Arc<AtomicU64>,
}

impl Disk for Narrow {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn create(&self, path: &Path, length: u64) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.create(path, length)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn free_space(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::Relaxed))
    }
}

/// Produces until the answer is `wanted`: the free space is looked at now and then.
async fn produce_until(client: &mut Client, to: (&str, crate::types::TopicId, i32), wanted: ErrorCode) {
    let waiting = async {
        while client.produce(9, to, None, batch(None, &["v"])).await.error_code != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the free space is noticed");
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_takes_no_more_until_there_is_room_again() {
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let harness = Harness::on(Arc::new(Narrow { free: Arc::clone(&free) }), |_| {});
    let (mut client, id) = harness.with_topic("t", 1).await;
    let to = ("t", id, 0);
    let producer = client.init(Some("tx")).await;
    let stored = client.produce(12, to, Some("tx"), batch(Some((producer, 0, true)), &["in time"])).await;
    assert_eq!(stored.error_code, ErrorCode::None);

    free.store(0, Ordering::Relaxed);
    produce_until(&mut client, to, ErrorCode::KafkaStorageError).await;
    let topic = CreatableTopic {
        name: "more".to_owned(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let refused = client.call(7, &request).await.topics.remove(0);
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError);
    assert!(refused.error_message.is_some_and(|message| message.contains("nearly full")));
    // What gives space back, and what others wait for, goes on.
    assert_eq!(client.end(5, "tx", producer, true).await.error_code, ErrorCode::None);
    let values = values(&client.fetch(12, to, 0, true).await);
    assert_eq!(values[0], "in time");

    free.store(u64::MAX, Ordering::Relaxed);
    produce_until(&mut client, to, ErrorCode::None).await;
    client.create_topic("more", 1).await;
    free.store(0, Ordering::Relaxed);
    produce_until(&mut client, to, ErrorCode::KafkaStorageError).await;
    let state = DeleteTopicState { name: Some("more".to_owned()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![state], ..Default::default() };
    let deleted = client.call(6, &request).await.responses.remove(0);
    assert_eq!(deleted.error_code, ErrorCode::None);
}
