//! Backups: have the broker take one, and ask where it stands.

use super::admin::Admin;
use super::error::ClientError;
use crate::wire::messages::{TakeBackupRequest, backup_state};

/// Where a backup stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupProgress {
    /// It is being taken.
    Running {
        /// Bytes done.
        done: u64,
        /// Bytes in all, about.
        total: u64,
    },
    /// It is complete.
    Complete(BackupTaken),
}

/// A complete backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupTaken {
    /// Where it is, on the broker's machine.
    pub path: String,
    /// The last block of the log that is in it.
    pub last_block: u64,
    /// How many files it has.
    pub files: u32,
    /// Their bytes, together with those that it shares with the log and other backups.
    pub bytes: u64,
    /// How many partitions are in it.
    pub partitions: u32,
}

impl Admin {
    /// Has the broker take a backup of this name, if there is none, and says where it stands. So asking again, also after a
    /// lost answer, takes no other one.
    pub async fn take_backup(&self, name: &str) -> Result<BackupProgress, ClientError> {
        let request = &TakeBackupRequest { name: name.to_owned() };
        let client = self.client();
        let ask = || async { client.any_broker().await?.call(request).await };
        let answer = client.retry("taking a backup", ask).await?;
        let context = format!("taking the backup {name}");
        answer.error_code.ok().map_err(|code| ClientError::broker(context, code, answer.error_message))?;
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let count = |count: i32| u32::try_from(count).unwrap_or(0);
        Ok(match answer.state {
            backup_state::COMPLETE => BackupProgress::Complete(BackupTaken {
                path: answer.path,
                last_block: number(answer.last_block),
                files: count(answer.files),
                bytes: number(answer.bytes_total),
                partitions: count(answer.partitions),
            }),
            _ => {
                BackupProgress::Running { done: number(answer.bytes_done), total: number(answer.bytes_total) }
            }
        })
    }
}
