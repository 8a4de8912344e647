//! Backups on another file system than the data: files are copied, and shared among the backups.

use super::*;
use common::tools::announce;
use std::os::unix::fs::MetadataExt as _;

/// In memory on most machines, and so never where the data are.
const ELSEWHERE: &str = "/dev/shm";

/// A broker with a directory for backups that no file of its data can be linked into; none if there is no such place.
fn start_elsewhere() -> Option<(TempDir, Broker)> {
    let backups = tempfile::Builder::new().prefix("semel-backups-").tempdir_in(ELSEWHERE).ok();
    let device = |dir: &Path| fs::metadata(dir).unwrap().dev();
    let backups = backups.filter(|dir| device(dir.path()) != device(&std::env::temp_dir()));
    if backups.is_none() {
        announce(&format!("SKIPPED: backups on another file system: {ELSEWHERE} is none"));
    }
    let backups = backups?;
    let dir = format!("--backup-dir={}", backups.path().display());
    let broker = Broker::start_with(&[&[dir.as_str()], SMALL].concat());
    Some((backups, broker))
}

/// Rounds of the load, and what fills segments beside them and is kept: three rounds fill one.
async fn work(client: &Client, load: &mut Load, rounds: usize) {
    for _ in 0..rounds {
        load.round().await;
        fill(client, &name("beside"), 96).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_on_another_file_system_share_files_and_never_with_a_log_that_was_lost() {
    let Some((_backups, mut broker)) = start_elsewhere() else { return };
    let client = Client::connect(config(&broker)).await.unwrap();
    for (topic, partitions) in [(TOPIC, PARTITIONS), ("beside", 1)] {
        Admin::new(&client).create_topic(&NewTopic::new(name(topic), partitions)).await.unwrap();
    }
    let mut load = Load::new(&client).await;
    work(&client, &mut load, 4).await;
    let one = back_up(&broker, "one");
    work(&client, &mut load, 2).await;
    let two = back_up(&broker, "two");
    let told = (load.acknowledged.clone(), load.committed.clone());
    assert!(inodes(&one).intersection(&inodes(&two)).count() > 0, "what has not changed is there once");
    // The log goes on, and is backed up; all that is lost when the one before is restored.
    work(&client, &mut load, 8).await;
    let lost = back_up(&broker, "lost");
    restore(&mut broker, &two, "lost-data");
    agrees(&read(&client).await, &told.0, &told.1);

    let mut next = Load::new(&client).await;
    next.next = load.next + 100;
    // Long enough for whole segments of its own, with the numbers of some that were lost.
    work(&client, &mut next, 6).await;
    let three = back_up(&broker, "three");
    let acknowledged: BTreeMap<_, _> = told.0.into_iter().chain(next.acknowledged).collect();
    let committed: BTreeSet<_> = told.1.into_iter().chain(next.committed).collect();
    for backup in [&one, &two, &lost, &three] {
        assert_eq!(succeeds(&["verify", path(backup)]).last().unwrap()["problems"], 0, "{backup:?}");
    }
    restore(&mut broker, &three, "lost-data-again");
    agrees(&read(&client).await, &acknowledged, &committed);
}
