//! Whether a lenient server would read a path as a purchase.

use crate::config::pattern::Pattern;
use crate::http::Head;

/// Whether the loosest reading of `head` is a purchase.
pub fn reads_as(head: &Head<'_>, purchase: &Pattern) -> bool {
    purchase.matches_loosely(head.path)
}
