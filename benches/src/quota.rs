//! A share of a processor for a process, by a control group: where servers do not compete for processors, as on
//! machines of their own, the slowest of them is what limits the throughput.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The least time that the kernel hands out, in microseconds.
const SLICE_US: u64 = 1_000;
const ROOT: &str = "/sys/fs/cgroup";

/// A control group with one process. Dropping it removes it, once the process has ended.
#[derive(Debug)]
pub struct Quota(PathBuf);

impl Quota {
    /// Holds a process, with all its threads, to `share` of one processor: above 0, at most 1.
    ///
    /// Errors: there are no control groups, or this is not root.
    pub fn of(pid: u32, share: f64) -> io::Result<Quota> {
        let period = (SLICE_US as f64 / share) as u64;
        let first = Path::new(ROOT).join("cpu");
        let name = format!("quorate-bench-{pid}");
        if first.join("cpu.cfs_quota_us").exists() || first.join("cpu.shares").exists() {
            let group = Quota(make(&first.join(name))?);
            group.set("cpu.cfs_period_us", period)?;
            group.set("cpu.cfs_quota_us", SLICE_US)?;
            group.set("cgroup.procs", pid)?;
            return Ok(group);
        }
        fs::write(Path::new(ROOT).join("cgroup.subtree_control"), "+cpu").map_err(explained)?;
        let group = Quota(make(&Path::new(ROOT).join(name))?);
        group.set("cpu.max", format!("{SLICE_US} {period}"))?;
        group.set("cgroup.procs", pid)?;
        Ok(group)
    }

    fn set(&self, file: &str, value: impl ToString) -> io::Result<()> {
        fs::write(self.0.join(file), value.to_string()).map_err(explained)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // An empty folder in a file system that is not on any disk is left behind at worst.
        let _ = fs::remove_dir(&self.0);
    }
}

fn make(path: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(path).map_err(explained)?;
    Ok(path.to_path_buf())
}

fn explained(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("a share of a processor needs control groups and root: {error}"))
}
