//! Every interleaving of the parts that threads share without a lock, and every value that a relaxed read
//! may return: `loom` gives them its own atomics in place of `crate::sync`. The files are the program's own.
//!
//! The queue of a batch is not among them: it is a channel of tokio's, which tokio checks with `loom`.

mod sync {
    pub use loom::sync::atomic;
}

use penstock::clock::UnixMs;
use penstock::{clock, config};

#[path = "../../src/sale/heard.rs"]
#[allow(dead_code)]
mod heard;
#[path = "../../src/gate/rate/slots.rs"]
#[allow(dead_code)]
mod slots;
#[path = "../../src/upstream/circuit/state.rs"]
#[allow(dead_code)]
mod state;

#[path = "../../src/clock/offset.rs"]
#[allow(dead_code)]
mod offset;

mod circuit;
mod flag;
mod gcra;
mod time;
