//! File descriptors: as many as we are allowed.

use std::os::fd::RawFd;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Returns how many descriptors there may be then, `None`:
/// unlimited.
pub fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    // A refusal leaves what there was; whoever asked compares it with what is needed.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current
}

/// The first descriptor that is not for clients: what is left is for the shop's connections, the
/// operator, the journal and the logs.
pub fn reserved_from() -> RawFd {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return RawFd::MAX };
    let limit = RawFd::try_from(limit).unwrap_or(RawFd::MAX);
    limit - (limit / 8).min(RESERVE_MAX)
}

/// Enough for the operator and for some of the shop's connections.
const RESERVE_MAX: RawFd = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise();
        assert_eq!(raised, getrlimit(Resource::Nofile).maximum);
    }
}
