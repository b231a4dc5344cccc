//! Points on a purchase's way at which a test kills the process, as `kill -9` does.
//!
//! `PENSTOCK_FAULT=sent:5` in the environment ends it at the fifth passage of the point `sent`. Only builds
//! with debug assertions look, which are those of the tests: the tests need no build of their own, and in
//! a release there is nothing to switch on.

/// A place where everything may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A connection was accepted.
    Accepted,
    /// The ledger admitted a batch, and nothing is known of that outside of it.
    Admitted,
    /// Lines are about to be written to the journal.
    Journal,
    /// They were written, and whoever waits for them has not heard it.
    Journalled,
    /// The first byte of a purchase is about to leave for the shop.
    Sending,
    /// The last one has left.
    Sent,
    /// The shop's whole answer is here, and its outcome is not in the journal.
    Answered,
}

/// This point is passed.
#[inline]
pub fn pass(point: Point) {
    #[cfg(debug_assertions)]
    armed::pass(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Point;

    /// The point, and passages until the end.
    static ARMED: LazyLock<Option<(Point, AtomicU64)>> =
        LazyLock::new(|| parse(&std::env::var("PENSTOCK_FAULT").ok()?));

    pub(super) fn pass(point: Point) {
        let Some((armed, left)) = &*ARMED else { return };
        if *armed == point && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
    }

    pub(super) fn parse(text: &str) -> Option<(Point, AtomicU64)> {
        let (name, times) = text.split_once(':')?;
        let (point, _) = NAMES.into_iter().find(|(_, known)| *known == name)?;
        Some((point, AtomicU64::new(times.parse().ok()?)))
    }

    const NAMES: [(Point, &str); 7] = [
        (Point::Accepted, "accepted"),
        (Point::Admitted, "admitted"),
        (Point::Journal, "journal"),
        (Point::Journalled, "journalled"),
        (Point::Sending, "sending"),
        (Point::Sent, "sent"),
        (Point::Answered, "answered"),
    ];
}
