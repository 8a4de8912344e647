//! TakeBackup: has the shard take a backup, and says where it stands (`spec/backup.md`). It goes into the directory that the
//! broker's own settings name: whoever asks says what it is called there, and nothing else.

use super::authorise::Operation;
use super::failure::Failure;
use super::session::Context;
use crate::shard::{BackupRefused, BackupStanding};
use crate::wire::ErrorCode;
use crate::wire::messages::*;

pub(super) async fn answer(cx: Context, request: TakeBackupRequest) -> Result<TakeBackupResponse, Failure> {
    if !cx.may(Operation::TakeBackups) {
        let message = "only those in `admins` may have a backup taken".to_owned();
        return Ok(refused(ErrorCode::ClusterAuthorizationFailed, message));
    }
    let standing = match cx.node.shard.back_up(request.name).await {
        Ok(standing) => standing,
        Err(error) => {
            let code = match error {
                BackupRefused::NoDirectory | BackupRefused::Name => ErrorCode::InvalidRequest,
                BackupRefused::Busy(_) => ErrorCode::OperationNotAttempted,
                BackupRefused::Failed(_) | BackupRefused::Damaged(_) => ErrorCode::UnknownServerError,
            };
            return Ok(refused(code, error.to_string()));
        }
    };
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    Ok(match standing {
        BackupStanding::Running { done, total } => TakeBackupResponse {
            state: backup_state::RUNNING,
            bytes_done: number(done),
            bytes_total: number(total),
            ..Default::default()
        },
        BackupStanding::Complete { path, manifest } => TakeBackupResponse {
            state: backup_state::COMPLETE,
            bytes_done: number(manifest.bytes()),
            bytes_total: number(manifest.bytes()),
            path: path.display().to_string(),
            last_block: number(manifest.last_block),
            files: count(manifest.files.len()),
            partitions: count(manifest.partitions.len()),
            ..Default::default()
        },
    })
}

fn refused(error_code: ErrorCode, message: String) -> TakeBackupResponse {
    TakeBackupResponse { error_code, error_message: Some(message), ..Default::default() }
}
