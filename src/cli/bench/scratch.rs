//! A directory of a benchmark's own.

use super::super::CliError;
use std::path::Path;

/// Measures in a new directory below `parent`, which is removed at the end.
pub(super) async fn in_scratch<T>(
    parent: &Path,
    bench: &str,
    measure: impl AsyncFnOnce(&Path) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let dir = parent.join(format!("semel-bench-{bench}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|error| cannot_be_measured(&dir, &error))?;
    let found = measure(&dir).await;
    // What could not be removed is named by the next attempt to use it.
    let _ = std::fs::remove_dir_all(&dir);
    found
}

/// What is wrong with a directory.
pub(super) fn cannot_be_measured(dir: &Path, error: &dyn std::fmt::Display) -> CliError {
    let problem = format!("{} cannot be measured: {error}", dir.display());
    CliError::usage(problem, "name a directory on the disk in question with --dir")
}
