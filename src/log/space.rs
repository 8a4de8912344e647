//! The space that is kept free.

use super::disk::{Disk, DiskError, Tried};
use std::path::Path;

/// How the free space of the data directory's file system stands to the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// There is more than the reserve.
    Enough {
        /// Free bytes.
        free: u64,
    },
    /// What is left is the reserve, which is for ending transactions, for the rows' journal and compaction, and for
    /// deleting: producing and creating topics are to be refused with an error that clients retry.
    Reserved {
        /// Free bytes.
        free: u64,
        /// The reserve in bytes.
        reserve: u64,
    },
}

impl Space {
    /// Looks at the file system of `dir`. Space set aside for segments counts as used already.
    pub fn look(disk: &dyn Disk, dir: &Path, reserve: u64) -> Result<Space, DiskError> {
        let free = disk.free_space(dir).tried("measure the free space of", dir)?;
        Ok(if free > reserve { Space::Enough { free } } else { Space::Reserved { free, reserve } })
    }
}

#[cfg(test)]
mod tests {
    use super::super::RealDisk;
    use super::*;

    #[test]
    fn the_reserve_is_what_decides() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Space::look(&RealDisk, dir.path(), 0).unwrap(), Space::Enough { free } if free > 0));
        let space = Space::look(&RealDisk, dir.path(), u64::MAX).unwrap();
        assert!(matches!(space, Space::Reserved { reserve: u64::MAX, .. }));
        let missing = Space::look(&RealDisk, &dir.path().join("nowhere"), 0).unwrap_err();
        assert!(missing.to_string().contains("nowhere"), "{missing}");
    }
}
