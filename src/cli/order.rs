//! A word to a running node about itself: begun and left to it, or waited for.

use serde_json::Value;

use super::node::Node;
use super::{Exit, say};

/// How it is said.
#[derive(Debug, clap::Args)]
pub struct Order {
    /// Wait until it is done, and say what came of it.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    node: Node,
    /// The node's JSON.
    #[arg(long)]
    json: bool,
}

impl Order {
    /// Tells the node `verb`; `begun` is said where nobody waits, else `shown` says what came of it.
    pub fn give(&self, verb: &str, begun: &str, shown: impl FnOnce(&Value) -> Exit) -> Exit {
        let wait = if self.wait { "?wait=true" } else { "" };
        match self.node.steer(&format!("/v1/{verb}{wait}")) {
            Ok(told) if self.json => say(&format!("{told:#}\n")),
            Ok(_) if !self.wait => say(&format!("{begun}; its log has the end\n")),
            Ok(told) => shown(&told),
            Err(exit) => exit,
        }
    }
}
