//! What a backup says of itself. It is written last, so what has one was whole.

use super::error::{BackupError, Tried as _};
use crate::store::{ReadView, StoreError};
use crate::types::TopicId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The manifest's name.
const NAME: &str = "manifest";
/// Its name while it is being written.
const UNFINISHED_NAME: &str = "manifest.unfinished";
/// What its first line begins with.
const MAGIC: &str = "semel-backup";
const VERSION: u32 = 1;

/// What a backup is of, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The backup's own name.
    pub name: String,
    /// When it was taken, in milliseconds of wall time.
    pub taken_ms: i64,
    /// Which log's, in hexadecimal.
    pub log_id: String,
    /// Which shard's.
    pub shard: u32,
    /// The restore that the log was last made by; none if it never was. From there on it has blocks and segments of its own,
    /// under numbers that others of the log have too.
    #[serde(default)]
    pub restored: Option<String>,
    /// Everything up to this block is in it, and nothing behind.
    pub last_block: u64,
    /// Served time of that moment, at least.
    pub served_ms: u64,
    /// Its files.
    pub files: Vec<BackupFile>,
    /// Where each partition begins and ends.
    pub partitions: Vec<PartitionEnd>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its path in the backup, and in the data directory.
    pub path: String,
    /// How many bytes it has here.
    pub bytes: u64,
    /// How long it must be in a data directory; what is not here is not written yet.
    pub length: u64,
    /// Whether it is complete: it will never change in the log that it is from.
    pub complete: bool,
}

/// What a partition holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEnd {
    /// Its topic's name.
    pub topic: String,
    /// Its topic.
    #[serde(with = "as_text")]
    pub topic_id: uuid::Uuid,
    /// Its number.
    pub partition: i32,
    /// Its first offset.
    pub start: i64,
    /// The offset behind its last record.
    pub end: i64,
}

impl Manifest {
    /// Whether a directory has one: then it is a backup, and no data directory.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        dir.join(NAME).exists()
    }

    /// Reads a backup's manifest, and looks whether its files are there.
    pub fn open(dir: &Path) -> Result<Manifest, BackupError> {
        let manifest = Manifest::read(dir)?;
        for file in &manifest.files {
            let path = dir.join(&file.path);
            let found = match fs::metadata(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(BackupError::Missing(path));
                }
                other => other.tried("look at", &path)?.len(),
            };
            if found != file.bytes {
                return Err(BackupError::Length { path, found, expected: file.bytes });
            }
        }
        Ok(manifest)
    }

    pub(super) fn read(dir: &Path) -> Result<Manifest, BackupError> {
        let path = dir.join(NAME);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(BackupError::NoManifest(dir.to_path_buf()));
            }
            other => other.tried("read", &path)?,
        };
        let damaged = |reason: &str| BackupError::Manifest { path: path.clone(), reason: reason.to_owned() };
        let (first, body) = text.split_once('\n').ok_or_else(|| damaged("it ends too early"))?;
        let mut words = first.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(damaged("it does not begin as a manifest does"));
        }
        let version = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| damaged("no version"))?;
        if version != VERSION {
            return Err(BackupError::Version { path: dir.to_path_buf(), version });
        }
        let checksum = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
        if checksum != Some(crc32c::crc32c(body.as_bytes())) {
            return Err(damaged("it does not match its checksum"));
        }
        let manifest: Manifest =
            serde_json::from_str(body).map_err(|error| damaged(&format!("it cannot be read: {error}")))?;
        match manifest.files.iter().find(|file| !is_inside(&file.path)) {
            Some(file) => Err(damaged(&format!("it names a file outside of it: {}", file.path))),
            None => Ok(manifest),
        }
    }

    /// Writes the manifest, and makes it durable: whole when its name is there, whose directory is still to be synced.
    pub(super) fn write(&self, dir: &Path) -> Result<(), BackupError> {
        let path = dir.join(UNFINISHED_NAME);
        let body = serde_json::to_string_pretty(self)
            .map_err(|error| BackupError::Manifest { path: path.clone(), reason: error.to_string() })?;
        let text = format!("{MAGIC} {VERSION} {:08x}\n{body}", crc32c::crc32c(body.as_bytes()));
        let mut file = fs::File::create(&path).tried("create", &path)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).tried("write", &path)?;
        fs::rename(&path, dir.join(NAME)).tried("rename", &path)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Where the partitions that a view has begin and end.
    pub(super) fn partitions_of(view: &ReadView) -> Result<Vec<PartitionEnd>, StoreError> {
        let names: BTreeMap<TopicId, String> = view
            .topics()
            .map(|topic| topic.map(|(id, row)| (id, row.name.as_str().to_owned())))
            .collect::<Result<_, _>>()?;
        let mut partitions = Vec::new();
        for partition in view.all_partitions() {
            let (partition, row) = partition?;
            partitions.push(PartitionEnd {
                topic: names.get(&partition.topic).cloned().unwrap_or_default(),
                topic_id: partition.topic.0,
                partition: partition.index.0,
                start: row.log_start.0,
                end: row.next_offset.0,
            });
        }
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(partitions)
    }
}

/// Whether a path names something below where it is joined to: nothing else is read or written for a backup.
fn is_inside(path: &str) -> bool {
    let path = PathBuf::from(path);
    path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Identities as people write them.
pub(super) mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use uuid::Uuid;

    pub(in crate::shard::backup) fn serialize<S: Serializer>(id: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(in crate::shard::backup) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Uuid, D::Error> {
        Uuid::parse_str(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}
