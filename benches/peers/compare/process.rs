//! A server's processes: where they run, what they cost, and that they end.

use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Outcome;

/// The processors of the comparison: one for the measured server, another for load and origin.
#[derive(Clone, Copy)]
pub struct Cpus {
    /// The measured server's.
    pub server: usize,
    /// The load's and the origin's.
    pub load: usize,
}

impl Cpus {
    /// The first and the last that we may use.
    pub fn choose() -> Outcome<Cpus> {
        let allowed = sched_getaffinity(None)?;
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        match usable[..] {
            [server, .., load] => Ok(Cpus { server, load }),
            _ => Err("two processors are needed, one for the server and one for the load".into()),
        }
    }
}

/// Binds this thread, and what it starts from now on, to one processor.
pub fn pin(cpu: usize) -> Outcome<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// A started command with everything that it started.
pub struct Running {
    child: Child,
}

/// CPU time of a server up to now.
#[derive(Default)]
pub struct Cost {
    /// Run time of each thread of all processes, in nanoseconds, by its id.
    threads: HashMap<String, u64>,
    /// The time of each process outside the kernel, in clock ticks of 10 ms.
    user_ticks: HashMap<u32, u64>,
}

impl Cost {
    /// Nanoseconds since `before`. What a thread did that has ended since is lost, not taken off.
    pub fn cpu_ns_since(&self, before: &Cost) -> u64 {
        since(&self.threads, &before.threads)
    }

    /// Clock ticks outside the kernel since `before`.
    pub fn user_ticks_since(&self, before: &Cost) -> u64 {
        since(&self.user_ticks, &before.user_ticks)
    }
}

fn since<K: Eq + Hash>(after: &HashMap<K, u64>, before: &HashMap<K, u64>) -> u64 {
    after.iter().map(|(key, now)| now.saturating_sub(before.get(key).copied().unwrap_or(0))).sum()
}

impl Running {
    /// Starts `command` on `cpu`; what it says goes to `log`.
    pub fn start(mut command: Command, cpu: usize, back_to: usize, log: &Path) -> Outcome<Running> {
        let out = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        pin(cpu)?;
        let child = command.spawn();
        pin(back_to)?;
        let child = child.map_err(|cause| format!("{:?}: {cause}", command.get_program()))?;
        Ok(Running { child })
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What all its processes have cost so far.
    pub fn cost(&self) -> Outcome<Cost> {
        let mut cost = Cost::default();
        for pid in self.pids() {
            // A thread may end between being listed and being read.
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                let ran = text.split(' ').next().unwrap_or_default().parse()?;
                cost.threads.insert(task.file_name().to_string_lossy().into_owned(), ran);
            }
            let ticks = stat(pid).and_then(|fields| fields.get(UTIME)?.parse().ok());
            cost.user_ticks.insert(pid, ticks.unwrap_or(0));
        }
        Ok(cost)
    }

    /// Resident memory of all its processes, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let resident = |pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        self.pids().into_iter().filter_map(resident).sum::<u64>() * 1024
    }

    /// The command and its descendants.
    fn pids(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let all: Vec<(u32, u32)> = entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, stat(pid)?.get(PARENT)?.parse().ok()?)))
            .collect();
        let mut pids = vec![self.child.id()];
        let mut at = 0;
        while at < pids.len() {
            let parent = pids[at];
            pids.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        pids
    }
}

impl Drop for Running {
    /// Asks first, so that a manager ends its workers; then insists.
    fn drop(&mut self) {
        let pids = self.pids();
        signal(self.child.id(), Signal::TERM);
        let ends = Instant::now() + Duration::from_secs(3);
        while self.is_alive() && Instant::now() < ends {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.is_alive() {
            for pid in pids {
                signal(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The fields of `/proc/PID/stat` after the name, which may have spaces.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// Places in [`stat`].
const PARENT: usize = 1;
const UTIME: usize = 11;
