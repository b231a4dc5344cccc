//! What the process takes of the memory that it may have: the smallest limit of its control groups, or
//! the machine's memory where there is none.

use std::path::{Path, PathBuf};

/// Resident bytes, and the bytes that they may be. `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Memory {
    pub bytes: Option<u64>,
    pub bytes_max: Option<u64>,
}

impl Memory {
    /// As it is now. Reads a handful of files of the kernel's.
    pub(super) fn now() -> Memory {
        let kib = |path: &str, name: &str| kib(&read(Path::new(path))?, name);
        let machine = kib("/proc/meminfo", "MemTotal:");
        let limits = [cgroup(), machine];
        Memory {
            bytes: kib("/proc/self/status", "VmRSS:"),
            bytes_max: limits.into_iter().flatten().min(),
        }
    }

    /// Thousandths of the limit that are taken.
    pub(super) fn permille(self) -> Option<u64> {
        let max = self.bytes_max.filter(|max| *max > 0)?;
        Some(self.bytes?.saturating_mul(1_000) / max)
    }
}

/// The smallest limit of our control group and those above it.
fn cgroup() -> Option<u64> {
    let said = read(Path::new("/proc/self/cgroup"))?;
    let path = said.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut at = PathBuf::from("/sys/fs/cgroup").join(path);
    let mut least: Option<u64> = None;
    // A group that is not shown to us, as in a container, has its own limit at the root.
    while at.starts_with("/sys/fs/cgroup") {
        // "max" is no number: no limit.
        let limit = read(&at.join("memory.max")).and_then(|text| text.trim().parse().ok());
        least = least.into_iter().chain(limit).min();
        at.pop();
    }
    least
}

/// The value of a line like `VmRSS:   1234 kB`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_bytes() {
        let text = "Name:\tpenstock\nVmRSS:\t   12 kB\nVmData: x\n";
        assert_eq!(kib(text, "VmRSS:"), Some(12 * 1_024));
        assert_eq!((kib(text, "VmData:"), kib(text, "None:")), (None, None));
        let half = Memory { bytes: Some(50), bytes_max: Some(100) };
        assert_eq!((half.permille(), Memory::default().permille()), (Some(500), None));
    }
}
