//! Events for the operator, on standard error: few, and never one for each request.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;

/// Shows events of `level` and above from now on. The first call of a process counts.
pub fn show(level: &str) {
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let shown = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .with_max_level(level)
        .try_init();
    // A second app in one process (a test) finds events shown already.
    drop(shown);
}
