//! A small file system of its own: ext4 in a file where this user may mount it, else one in memory. It is mounted where only
//! a process that holds it can see it, so it is gone with the test, whatever becomes of that.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Heard, Process, Said};

const MOUNT_DEADLINE: Duration = Duration::from_secs(30);

/// ext4 in a file wants root and a loop device; a file system in memory wants user namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Memory,
}

pub struct SmallDisk {
    // Before `home`, so that nothing is mounted any more when that is removed.
    holder: Process,
    kind: Kind,
    home: TempDir,
}

impl SmallDisk {
    /// So many MiB, or the reason why there are none.
    pub fn new(kind: Kind, mib: u64) -> Result<SmallDisk, String> {
        let home = tempfile::Builder::new().prefix("semel-test-").tempdir().unwrap();
        let mount = home.path().join("disk");
        fs::create_dir(&mount).unwrap();
        let (unshare, script): (&[&str], _) = match kind {
            Kind::Ext4 => {
                let image = File::create(home.path().join("image")).unwrap();
                image.set_len(mib << 20).unwrap();
                (&["--mount"], "mkfs.ext4 -q -m 0 \"$1/image\" && mount -o loop \"$1/image\" \"$1/disk\"")
            }
            Kind::Memory => {
                (&["--map-root-user", "--mount"], "mount -t tmpfs -o \"size=$2m\" semel-test \"$1/disk\"")
            }
        };
        let mut command = Command::new("unshare");
        command.args(unshare).args(["sh", "-c", &format!("{script} && echo mounted && exec cat"), "sh"]);
        command.arg(home.path()).arg(mib.to_string());
        let heard = Arc::new(Heard::default());
        if Command::new("unshare").arg("--version").output().is_err() {
            return Err("there is no `unshare`".to_owned());
        }
        let mut holder = Process::spawn("a small disk", command, &heard);
        match holder.next(MOUNT_DEADLINE) {
            Said::Line(line) if line == "mounted" => Ok(SmallDisk { holder, kind, home }),
            _ => {
                holder.kill();
                Err(format!("{kind:?}: {}", heard.text().trim()))
            }
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is for a process that has entered it.
    pub fn inside(&self) -> PathBuf {
        self.home.path().join("disk")
    }

    /// The same place for everybody else.
    pub fn outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.pid()));
        root.join(self.inside().strip_prefix("/").unwrap())
    }

    /// A command that starts `program` in it. The process remains the same one.
    pub fn enter(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.holder.pid())).arg("--mount");
        if self.kind == Kind::Memory {
            command.args(["--user", "--preserve-credentials"]);
        }
        let mut directory = OsString::from("--wd=");
        directory.push(env::temp_dir());
        command.arg(directory).arg("--").arg(program);
        command
    }

    pub fn free_bytes(&self) -> u64 {
        let space = rustix::fs::statvfs(self.outside()).unwrap();
        space.f_bavail * space.f_frsize
    }

    /// Takes space until so many bytes are free.
    pub fn fill_to(&self, free: u64) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).unwrap();
        while self.free_bytes() > free {
            filler.write_all(&[0x5a; 1 << 20]).unwrap();
            filler.sync_all().unwrap();
        }
    }

    /// Takes all the space there is.
    pub fn fill(&self) {
        let Ok(mut filler) = File::options().create(true).append(true).open(self.filler()) else { return };
        let mut piece = 1 << 20;
        while piece >= 512 {
            if filler.write_all(&vec![0x5a; piece]).is_err() {
                piece /= 2;
            }
        }
        let _ = filler.sync_all();
    }

    /// Gives it back.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.outside().join("filler")
    }
}
