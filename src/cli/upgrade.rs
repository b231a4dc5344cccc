//! `penstock upgrade`: a running node makes way for the binary that is installed now.

use super::node::Node;
use super::{Exit, say};

/// Has a running node start the binary that is installed now, hand it its listening sockets, and drain
/// once that one serves. No request fails; if the new one does not come up, the old one goes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Wait until the new process serves, and say its number.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    node: Node,
    /// The node's JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Exit {
    let path = if args.wait { "/v1/upgrade?wait=true" } else { "/v1/upgrade" };
    match args.node.steer(path) {
        Ok(told) if args.json => say(&format!("{told:#}\n")),
        Ok(_) if !args.wait => say("the node starts its successor; its log has the end\n"),
        Ok(told) => say(&format!("process {} serves, the old one drains\n", told["pid"])),
        Err(exit) => exit,
    }
}
