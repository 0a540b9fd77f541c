//! The process in figures, as Prometheus' client libraries name them: what it takes of the machine. On Linux, from `/proc`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Ticks of `/proc/self/stat` in a second: Linux gives programs 100 on every machine that Rust's standard library is for.
const TICKS: f64 = 100.0;

/// What the process takes. `None` is what this system does not say.
#[derive(Debug, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    /// In seconds after 1970.
    pub(super) started: f64,
}

impl Process {
    /// Of this process, as it is now.
    pub(super) fn now(started: SystemTime) -> Self {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        Self {
            cpu_seconds: cpu_seconds(&file("stat")),
            resident_bytes: resident_bytes(&file("status")),
            open_fds: open_fds(),
            max_fds: max_fds(&file("limits")),
            started: started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        }
    }
}

/// User and system time: fields 14 and 15 of proc_pid_stat(5). The name before them may have blanks and brackets in it.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11).map(|ticks| ticks.parse::<f64>().ok());
    Some((times.next()?? + times.next()??) / TICKS)
}

/// `VmRSS` of proc_pid_status(5), which is in KiB.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// All but the one by which they are counted.
fn open_fds() -> Option<u64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as u64)
}

/// The soft limit of proc_pid_limits(5); `unlimited` is no number.
fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_the_manual_pages_have_them() {
        let stat = "4242 (a (bad) name) S 1 4242 4242 0 -1 4194560 900 0 3 0 250 75 0 0 20 0 4 0 12345 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(3.25));
        assert_eq!(resident_bytes("VmPeak:\t  9 kB\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096 files";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!(max_fds("Max open files            unlimited            unlimited            files"), None);
        for nothing in ["", "x", "1 (x) S"] {
            let figures = (cpu_seconds(nothing), resident_bytes(nothing), max_fds(nothing));
            assert_eq!(figures, (None, None, None), "{nothing:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_takes_memory_and_files() {
        let before = Process::now(SystemTime::now());
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let process = Process::now(SystemTime::now());
        drop(file);
        assert!(process.resident_bytes.unwrap() > 100_000 && process.max_fds.unwrap() > 0, "{process:?}");
        assert!(process.open_fds.unwrap() >= 4 && before.open_fds.unwrap() >= 3, "{process:?}");
        assert!(process.cpu_seconds.unwrap() >= before.cpu_seconds.unwrap() && process.started > 1e9, "{process:?}");
    }
}
