//! File descriptors: as many as we are allowed.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise();
        assert_eq!(raised, getrlimit(Resource::Nofile).maximum);
    }
}
