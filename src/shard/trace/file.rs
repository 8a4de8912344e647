//! A trace in a file, bounded in size.

use super::Sink;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

/// Bytes of a trace file: about half a million steps. What comes after is not written, and the last line says so.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// Appends to a file, so that the lives of a process that is killed and started again are one trace.
pub(in crate::shard) fn file(path: &Path) -> io::Result<Sink> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut left = FILE_BYTES_MAX.saturating_sub(file.metadata()?.len());
    Ok(Box::new(move |line| {
        if left == 0 {
            return;
        }
        let mut text = format!("{line}\n");
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if length > left {
            "{\"do\":\"End\",\"why\":\"the file is full\"}\n".clone_into(&mut text);
        }
        left = left.saturating_sub(length);
        // One write for a line, so that a process that is killed leaves whole lines.
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::warn!(%error, "the trace goes no further");
            left = 0;
        }
    }))
}
