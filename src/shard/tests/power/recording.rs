//! What a program has done to the files below a directory, as `tests/power/record.c` writes it down.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// One thing that was done. Files are named by their numbers (inodes), which an `Opened` before has given a path.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Opened { path: PathBuf, file: u64, created: bool, emptied: bool },
    MadeDir { path: PathBuf },
    Written { path: PathBuf, file: u64, position: u64, data: Vec<u8>, durable: bool },
    Grown { file: u64, length: u64 },
    Cut { file: u64, length: u64 },
    Synced { file: u64 },
    SyncFailed { file: u64 },
    Renamed { from: PathBuf, to: PathBuf },
    Removed { path: PathBuf },
    SyncedAll,
}

impl Deed {
    /// The path that it made, renamed to, wrote to or removed.
    pub(super) fn named(&self) -> Option<&Path> {
        match self {
            Deed::Opened { path, .. } | Deed::MadeDir { path } | Deed::Removed { path } => Some(path),
            Deed::Renamed { to, .. } => Some(to),
            Deed::Written { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// A deed, and when it began and had ended, on one clock.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) deed: Deed,
}

/// A program's deeds, in the order in which they ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Recording {
    pub(super) events: Vec<Event>,
}

impl Recording {
    /// Reads a recording of what was done below `root`; paths are as seen from there.
    pub(super) fn read(file: &Path, root: &Path) -> Recording {
        let bytes = std::fs::read(file).unwrap();
        let mut rest = &bytes[..];
        let mut events = Vec::new();
        while !rest.is_empty() {
            events.push(Event::take(&mut rest, root));
        }
        Recording { events }
    }

    /// When it was over.
    pub(super) fn end(&self) -> u64 {
        let ended =
            self.events.iter().map(|event| if event.end == u64::MAX { event.begin } else { event.end });
        ended.max().unwrap_or(0)
    }
}

impl Event {
    fn take(rest: &mut &[u8], root: &Path) -> Event {
        let [kind, path, other, data] =
            [(); 4].map(|()| u32::from_le_bytes(take(rest, 4).try_into().unwrap()));
        let [begin, end, file, position, length] =
            [(); 5].map(|()| u64::from_le_bytes(take(rest, 8).try_into().unwrap()));
        let mut path_of = |length: u32| {
            let path = PathBuf::from(std::str::from_utf8(take(rest, length)).unwrap());
            path.strip_prefix(root).map(Path::to_path_buf).unwrap_or(path)
        };
        let (path, other) = (path_of(path), path_of(other));
        let data = take(rest, data).to_vec();
        let flags = position;
        let deed = match kind {
            1 => Deed::Opened { path, file, created: flags & 1 != 0, emptied: flags & 2 != 0 },
            2 => Deed::MadeDir { path },
            3 => Deed::Written { path, file, position, data, durable: length >> 56 == 4 },
            4 => Deed::Grown { file, length },
            5 => Deed::Cut { file, length },
            6 => Deed::Synced { file },
            7 => Deed::SyncFailed { file },
            8 => Deed::Renamed { from: path, to: other },
            9 => Deed::Removed { path },
            10 => Deed::SyncedAll,
            other => panic!("a record of kind {other}"),
        };
        Event { begin, end, deed }
    }
}

fn take<'b>(rest: &mut &'b [u8], length: u32) -> &'b [u8] {
    let (head, tail) = rest.split_at(length as usize);
    *rest = tail;
    head
}

/// The recorder, built once; none, with the reason, where it does not run.
pub(super) fn recorder() -> Result<&'static Path, &'static str> {
    static RECORDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    RECORDER.get_or_init(build).as_deref().map_err(String::as_str)
}

fn build() -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the recorder is for Linux on x86-64".to_owned());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/record.c");
    let target = std::env::current_exe().unwrap().with_file_name("power-record");
    // Two test runs at once each build their own and rename it.
    let own = target.with_extension(std::process::id().to_string());
    let built = Command::new("cc").args(["-O2", "-Wall", "-Werror", "-o"]).arg(&own).arg(source).output();
    let built = built.map_err(|error| format!("there is no C compiler: {error}"))?;
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::rename(&own, &target).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tried = Command::new(&target).arg("/dev/null").arg(dir.path()).args(["--", "true"]).output().unwrap();
    match tried.status.success() {
        true => Ok(target),
        false => {
            Err(format!("system calls cannot be traced here: {}", String::from_utf8_lossy(&tried.stderr)))
        }
    }
}
