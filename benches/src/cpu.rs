//! What a running process has cost so far, from /proc.

use std::io;
use std::time::{Duration, Instant};

/// Processor time and memory of a process since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor. From `schedstat` of all threads, which counts nanoseconds; from
    /// `stat` where the kernel does not keep that.
    pub on_cpu: Duration,
    /// User and system time from `stat`, in clock ticks of usually 10 ms.
    pub user_and_system: Duration,
}

impl Usage {
    /// Of one process.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let user_and_system = user_and_system(pid)?;
        let on_cpu = on_cpu(pid)?.unwrap_or(user_and_system);
        Ok(Usage { on_cpu, user_and_system })
    }

    /// Of several together.
    pub fn of_all(pids: impl IntoIterator<Item = u32>) -> io::Result<Usage> {
        pids.into_iter().try_fold(Usage::default(), |sum, pid| Ok(sum + Usage::of(pid)?))
    }

    /// What was spent since `earlier`.
    pub fn since(self, earlier: Usage) -> Usage {
        let user_and_system = self.user_and_system.saturating_sub(earlier.user_and_system);
        let on_cpu = self.on_cpu.saturating_sub(earlier.on_cpu);
        // A thread that ended took its nanoseconds along; the process as a whole still has its ticks.
        let on_cpu = if on_cpu < user_and_system / 2 { user_and_system } else { on_cpu };
        Usage { on_cpu, user_and_system }
    }
}

impl std::ops::Add for Usage {
    type Output = Usage;

    fn add(self, other: Usage) -> Usage {
        Usage {
            on_cpu: self.on_cpu + other.on_cpu,
            user_and_system: self.user_and_system + other.user_and_system,
        }
    }
}

/// Waits until the processes use less than a tenth of a processor: work that is done after the
/// answer belongs to the requests that caused it. Gives up at the deadline.
pub fn wait_until_quiet(pids: &[u32], deadline: Instant) -> io::Result<Usage> {
    const LOOK: Duration = Duration::from_millis(20);
    let mut before = Usage::of_all(pids.iter().copied())?;
    loop {
        std::thread::sleep(LOOK);
        let now = Usage::of_all(pids.iter().copied())?;
        if now.since(before).on_cpu < LOOK / 10 || Instant::now() >= deadline {
            return Ok(now);
        }
        before = now;
    }
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.map(|pages| pages * rustix::param::page_size() as u64).ok_or_else(|| unexpected("statm"))
}

fn user_and_system(pid: u32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; utime and stime are the 14th and 15th field.
    let after_name = stat.rsplit_once(')').ok_or_else(|| unexpected("stat"))?.1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().map_err(|_| unexpected("stat"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

fn on_cpu(pid: u32) -> io::Result<Option<Duration>> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(schedstat) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
            return Ok(None);
        };
        let nanos = schedstat.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
        sum += nanos.ok_or_else(|| unexpected("schedstat"))?;
    }
    Ok(Some(Duration::from_nanos(sum)))
}

fn unexpected(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc/PID/{file} is not as documented"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_of_this_process_agree() {
        let pid = std::process::id();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut usage = Usage::of(pid).expect("/proc");
        while usage.user_and_system < Duration::from_millis(200) && Instant::now() < deadline {
            usage = Usage::of(pid).expect("/proc");
        }
        let apart = usage.on_cpu.abs_diff(usage.user_and_system);
        assert!(apart < Duration::from_millis(200), "{usage:?}");
        assert!(resident_bytes(pid).expect("/proc") > 0);
    }
}
