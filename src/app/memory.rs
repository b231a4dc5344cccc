//! The memory guard: looks at what the process takes of what it may, and has less done before the
//! kernel ends it.
//!
//! ```text
//! limit     [memory] limit, and memory.high or nine tenths of memory.max of every control group above us
//! look      20 ms to 100 ms apart, the sooner the nearer
//! levels    shed idle connections → shrink the cache → refuse new connections
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::schema;
use crate::listener::{Caps, Pressure, Steps};
use crate::metrics::{Counter, Sink};
use crate::page::Cache;

/// What the guard moves.
pub(super) struct Reach {
    caps: Arc<Caps>,
    cache: Arc<Cache>,
    pressure: watch::Sender<Pressure>,
    sink: Sink,
}

/// What was seen last, for metrics.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Bytes taken, of the limit that is nearest.
    pub bytes: AtomicU64,
    /// That limit; 0: none.
    pub limit: AtomicU64,
    /// The level, from 0.
    pub level: AtomicU64,
}

/// The guard, before it begins.
pub(super) struct Guard {
    settings: watch::Receiver<schema::Memory>,
    reach: Reach,
    seen: Arc<Seen>,
}

impl Guard {
    /// Goes by the newest of `settings`.
    pub(super) fn new(
        settings: watch::Receiver<schema::Memory>,
        reach: Reach,
        seen: Arc<Seen>,
    ) -> Guard {
        Guard { settings, reach, seen }
    }

    /// Begins, as one of `tasks`; workers hear here how short memory is.
    pub(super) fn start(self, tasks: &mut JoinSet<String>) -> watch::Receiver<Pressure> {
        let pressure = self.reach.pressure.subscribe();
        tasks.spawn(self.watch());
        pressure
    }

    /// Guards for ever.
    async fn watch(mut self) -> String {
        let (mut places, mut steps) = self.rules();
        let mut level = Pressure::Calm;
        let mut moved_at = Instant::now();
        loop {
            // The sender lives as long as the node.
            if self.settings.has_changed().unwrap_or(false) {
                (places, steps) = self.rules();
            }
            let taken = places.look().unwrap_or_default();
            let permille = taken.permille();
            let next = level.next(permille, &steps);
            if next != level {
                tell(level, next, taken);
                self.reach.sink.inc(Counter::MemoryChanges);
                self.reach.pressure.send_replace(next);
                level = next;
            }
            self.reach.refuse(level);
            self.seen.note(taken, level);
            let every = if level == Pressure::Calm { GROW_EVERY } else { SHRINK_EVERY };
            if moved_at.elapsed() >= every
                && self.reach.fit_cache(level, taken.below(steps.calm_permille()))
            {
                moved_at = Instant::now();
            }
            let pause = if permille >= NEAR_PERMILLE { LOOK_SOON } else { LOOK_LATER };
            tokio::time::sleep(pause).await;
        }
    }

    /// Where limits are and where levels begin, as the settings say now. It is said, too.
    fn rules(&mut self) -> (Places, Steps) {
        let settings = self.settings.borrow_and_update().clone();
        let places = Places::new(settings.limit.map(|limit| limit.bytes));
        match places.look() {
            Some(taken) => tracing::info!(
                "memory: {} MiB of {} MiB are taken; {}",
                taken.bytes >> 20,
                taken.limit >> 20,
                "idle connections, the cache and new connections make way before it runs out"
            ),
            None => tracing::info!(
                "memory: no limit is set and no control group has one, so there is no guard; \
                 set memory.limit, or MemoryMax= of the unit"
            ),
        }
        (places, Steps::new(&settings))
    }
}

impl Seen {
    fn note(&self, taken: Use, level: Pressure) {
        self.bytes.store(taken.bytes, Ordering::Relaxed);
        self.limit.store(taken.limit, Ordering::Relaxed);
        self.level.store(level as u64, Ordering::Relaxed);
    }
}

impl Reach {
    /// Everything.
    pub(super) fn new(caps: Arc<Caps>, cache: Arc<Cache>, sink: Sink) -> Reach {
        Reach { caps, cache, pressure: watch::Sender::new(Pressure::Calm), sink }
    }

    /// Memory that few connections hold does not come back by refusing others: the allocator kept it, and
    /// has it for those who come.
    fn refuse(&self, level: Pressure) {
        self.caps.refuse(level == Pressure::Refuse && self.caps.open() > FEW);
    }

    /// Makes the cache smaller while that is called for, and larger again afterwards, little by
    /// little and only into what is `free`: it may be what was too much. Says whether it changed.
    fn fit_cache(&self, level: Pressure, free: u64) -> bool {
        match level {
            Pressure::Calm => self.cache.grow(free),
            Pressure::Shed => false,
            Pressure::Shrink | Pressure::Refuse => {
                let shrunk = self.cache.shrink(&self.sink);
                if shrunk {
                    self.sink.inc(Counter::MemoryShrinks);
                }
                shrunk
            }
        }
    }
}

fn tell(before: Pressure, now: Pressure, taken: Use) {
    let (took, limit) = (taken.bytes >> 20, taken.limit >> 20);
    let said = now.label();
    if now > before {
        tracing::warn!(took_mib = took, limit_mib = limit, "memory is short: {said}");
    } else {
        tracing::info!(took_mib = took, limit_mib = limit, "memory is less short: {said}");
    }
}

/// What is taken of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    bytes: u64,
    limit: u64,
}

impl Use {
    fn permille(self) -> u64 {
        self.bytes.saturating_mul(1_000).checked_div(self.limit).unwrap_or(0)
    }

    /// Bytes that are left until `permille` of the limit are taken.
    fn below(self, permille: u64) -> u64 {
        (self.limit / 1_000 * permille).saturating_sub(self.bytes)
    }
}

/// Where limits are.
#[derive(Debug)]
struct Places {
    /// Of the process alone.
    limit: Option<u64>,
    page_bytes: u64,
    /// Our control group and those above it.
    groups: Vec<PathBuf>,
}

impl Places {
    fn new(limit: Option<u64>) -> Places {
        let said = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let page_bytes = rustix::param::page_size() as u64;
        Places { limit, page_bytes, groups: groups(Path::new(GROUPS), &said) }
    }

    /// The limit that is nearest.
    fn look(&self) -> Option<Use> {
        let process = self.limit.and_then(|limit| {
            let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
            Some(Use { bytes: unshared_pages(&statm)? * self.page_bytes, limit })
        });
        let groups = self.groups.iter().filter_map(|group| use_of(group));
        process.into_iter().chain(groups).max_by_key(|taken| taken.permille())
    }
}

/// Directories of the control group that `/proc/self/cgroup` names and of those above it, as far as
/// there are any: in a container they are not all shown, and the limit stands at the root.
fn groups(root: &Path, said: &str) -> Vec<PathBuf> {
    let Some(path) = said.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let is_plain = !path.split('/').any(|part| part == "..");
    let own = if is_plain { root.join(path) } else { root.to_owned() };
    let within = own.ancestors().take_while(|dir| dir.starts_with(root));
    within
        .filter(|dir| dir.join("memory.max").exists() || *dir == root)
        .map(Path::to_owned)
        .collect()
}

/// What a control group takes of its limit, if it has one. Pages of files are not counted: the kernel
/// takes them back before it ends anybody.
fn use_of(group: &Path) -> Option<Use> {
    let read = |name| std::fs::read_to_string(group.join(name)).ok();
    // "max" is no number: no limit.
    let number = |name| read(name)?.trim().parse::<u64>().ok();
    let limit =
        number("memory.high").into_iter().chain(number("memory.max").map(|max| max / 10 * 9));
    let limit = limit.min()?;
    let all = Use { bytes: number("memory.current")?, limit };
    if all.permille() < NEAR_PERMILLE {
        return Some(all);
    }
    let stat = read("memory.stat").unwrap_or_default();
    let field = |name: &str| {
        stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    let files = ["inactive_file ", "active_file "].into_iter().filter_map(field).sum::<u64>();
    Some(Use { bytes: all.bytes.saturating_sub(files), limit })
}

/// Resident pages that are no file's, from `/proc/self/statm`.
fn unshared_pages(statm: &str) -> Option<u64> {
    let mut numbers = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(resident.saturating_sub(shared))
}

const GROUPS: &str = "/sys/fs/cgroup";
/// From here on it is looked at more often and more closely.
const NEAR_PERMILLE: u64 = 700;
const LOOK_LATER: Duration = Duration::from_millis(100);
/// So many connections are let in however short memory is.
const FEW: usize = 64;
const LOOK_SOON: Duration = Duration::from_millis(20);
/// What was given back shows after a moment.
const SHRINK_EVERY: Duration = Duration::from_millis(100);
const GROW_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn a_group_has_its_limit_and_files_do_not_count() {
        let use_of = |files: &[_]| use_of(group(files).path());
        let most = ("memory.max", "1000\n");
        assert_eq!(
            use_of(&[most, ("memory.current", "100\n")]),
            Some(Use { bytes: 100, limit: 900 })
        );
        let stat = ("memory.stat", "anon 5\nfile 400\ninactive_file 300\nactive_file 100\n");
        let full = ("memory.current", "950\n");
        assert_eq!(use_of(&[most, full, stat]), Some(Use { bytes: 550, limit: 900 }));
        assert_eq!(use_of(&[most, full]), Some(Use { bytes: 950, limit: 900 }));
        let high = ("memory.high", "800\n");
        assert_eq!(use_of(&[most, high, full, stat]), Some(Use { bytes: 550, limit: 800 }));
        assert_eq!(use_of(&[("memory.max", "max\n"), ("memory.high", "max\n"), full]), None);
        assert_eq!(use_of(&[]), None);
    }

    #[test]
    fn groups_are_ours_and_those_above() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("system.slice/penstock.service");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join("memory.max"), "max\n").unwrap();
        let said = "4:memory:/x\n0::/system.slice/penstock.service\n";
        assert_eq!(groups(root.path(), said), [own, root.path().to_owned()]);
        // A container: its own group is the root, whatever it is called outside.
        assert_eq!(groups(root.path(), "0::/\n"), [root.path()]);
        assert_eq!(groups(root.path(), "0::/../../docker/1\n"), [root.path()]);
        assert!(groups(root.path(), "4:memory:/x\n").is_empty());
    }

    #[test]
    fn the_process_is_looked_at_itself() {
        assert_eq!(unshared_pages("1000 300 120 1 0 5 0\n"), Some(180));
        assert_eq!(unshared_pages("1000"), None);
        let places = Places { groups: Vec::new(), ..Places::new(Some(1 << 30)) };
        let taken = places.look().unwrap();
        assert!(taken.bytes > 1 << 16 && taken.bytes < 1 << 30, "{taken:?}");
        assert_eq!(Places { limit: None, ..places }.look(), None);
    }

    #[test]
    fn the_nearest_limit_counts() {
        let dir = group(&[("memory.max", "1000\n"), ("memory.current", "600\n")]);
        let groups = vec![dir.path().to_owned()];
        let places = Places { groups, ..Places::new(Some(1 << 40)) };
        assert_eq!(places.look(), Some(Use { bytes: 600, limit: 900 }));
    }
}
