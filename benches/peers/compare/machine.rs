//! On what and against what was measured.

use std::fs;
use std::process::Command;

use super::Outcome;
use super::server::find;

/// Processor, cores and kernel, in one line.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let models: Vec<&str> = cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    let model = models.first().copied().unwrap_or("unknown processor");
    let kernel = read("/proc/sys/kernel/osrelease");
    let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control");
    format!("{model}, {} cores, Linux {}, {}", models.len(), kernel.trim(), congestion.trim())
}

/// What a peer says of its version.
pub fn version(program: &str, flag: &str) -> Outcome<String> {
    let output = Command::new(find(program)?).arg(flag).output()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let word = text
        .split(|c: char| c.is_whitespace() || c == '/' || c == '-')
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    Ok(format!("{program} {}", word.unwrap_or("of unknown version")))
}

/// Processes that run at the moment, averaged over the last minute.
pub fn busy() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}
