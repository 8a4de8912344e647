//! `semel backup` and `semel restore`.

use super::CliError;
use super::connect::ConnectArgs;
use super::log::verify::check;
use super::log::{Where, is_json};
use super::output::{Progress, bytes_text, number, print_table, text};
use super::topic::TableFormat;
use crate::client::{Admin, BackupProgress, BackupTaken};
use crate::log::{Disk, RealDisk};
use crate::shard::{Manifest, PartitionEnd, restore};
use clap::Args;
use serde_json::json;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often to ask how far a backup is.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// `semel backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// What to call it, in the broker's backup-dir [default: the time]
    name: Option<String>,
    /// How to write it [default: text on a terminal, JSON elsewhere]
    #[arg(long, value_enum)]
    output: Option<TableFormat>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `semel restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup's directory
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// The data directory to make: empty, or not there yet
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// How to write where each partition ends [default: a table on a terminal, JSON elsewhere]
    #[arg(long, value_enum)]
    output: Option<TableFormat>,
}

pub(super) async fn backup(arguments: BackupArgs) -> Result<(), CliError> {
    let client = arguments.connect.connect().await?;
    let admin = Admin::new(&client);
    let name = arguments.name.unwrap_or_else(now_as_name);
    let progress = Progress::of_bytes(0);
    let taken = loop {
        match admin.take_backup(&name).await? {
            BackupProgress::Complete(taken) => break taken,
            BackupProgress::Running { done, total } => {
                progress.total(total);
                progress.reach(done.min(total));
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    };
    drop(progress);
    report_taken(&name, &taken, is_json(arguments.output))?;
    client.close().await;
    Ok(())
}

fn now_as_name() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn report_taken(name: &str, taken: &BackupTaken, json: bool) -> io::Result<()> {
    let BackupTaken { path, last_block, files, bytes, partitions } = taken;
    let line = match json {
        true => json!({
            "backup": name,
            "path": path,
            "last_block": last_block,
            "files": files,
            "bytes": bytes,
            "partitions": partitions,
        })
        .to_string(),
        false => format!(
            "{path}\n  up to block {last_block}: {partitions} partitions in {files} files, {}",
            bytes_text(*bytes as f64)
        ),
    };
    writeln!(io::stdout(), "{line}")
}

/// Checks the backup, copies it, and says where its partitions end.
pub(super) fn restore_backup(arguments: &RestoreArgs) -> Result<(), CliError> {
    let manifest = Manifest::open(&arguments.backup)?;
    let json = is_json(arguments.output);
    let opened = Where::new(arguments.backup.clone()).open()?;
    let checked = check(&opened.files, &mut io::stderr().lock(), json)?;
    checked.verdict()?;
    if checked.last_block != manifest.last_block {
        let problem = format!(
            "the backup is of block {}, and its log ends at block {}",
            manifest.last_block, checked.last_block
        );
        let advice = "restore another backup".to_owned();
        return Err(CliError::Refused { problem, advice });
    }
    let progress = Progress::of_bytes(manifest.bytes());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (from, to) = (&arguments.backup, &arguments.data_dir);
    let restored = restore(&disk, from, &manifest, to, |bytes| progress.add(bytes))?;
    drop(progress);
    report_ends(&manifest.partitions, json)?;
    writeln!(
        io::stderr(),
        "restored the backup {} of block {} into {}; producers that wrote after it begin anew",
        restored.backup,
        manifest.last_block,
        arguments.data_dir.display()
    )?;
    Ok(())
}

fn report_ends(partitions: &[PartitionEnd], json: bool) -> io::Result<()> {
    if json {
        let mut out = io::stdout().lock();
        for PartitionEnd { topic, partition, start, end, .. } in partitions {
            let line = json!({"topic": topic, "partition": partition, "start": start, "end": end});
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    let columns = [text("TOPIC"), number("PARTITION"), number("FIRST OFFSET"), number("NEXT OFFSET")];
    let row = |end: &PartitionEnd| {
        vec![end.topic.clone(), end.partition.to_string(), end.start.to_string(), end.end.to_string()]
    };
    print_table(&columns, &partitions.iter().map(row).collect::<Vec<_>>())
}
