//! `penstock upgrade`: a running node makes way for the binary that is installed now.

use super::order::Order;
use super::{Exit, say};

/// Has a running node start the binary that is installed now, hand it its listening sockets, and drain
/// once that one serves. No request fails; if the new one does not come up, the old one goes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    order: Order,
}

/// Runs the verb.
pub fn run(args: &Args) -> Exit {
    args.order.give("upgrade", "the node starts its successor", |told| {
        say(&format!("process {} serves, the old one drains\n", told["pid"]))
    })
}
