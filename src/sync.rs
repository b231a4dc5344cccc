//! The standard library's atomics under a name that `tests/loom` gives to its own, so that every
//! interleaving of what is written with them can be tried.

pub use std::sync::atomic;
