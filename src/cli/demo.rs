//! `penstock demo`: a whole flash sale on this machine, in about 90 seconds.

use super::Exit;
use crate::demo::{self, Settings, report};

/// Plays a whole flash sale on this machine: a mock shop, one edge, a crowd, a kill -9, an audit.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A smaller crowd and shorter waits: about 35 seconds.
    #[arg(long)]
    fast: bool,
    /// Kill nothing, and let the shop make no errors.
    #[arg(long)]
    no_faults: bool,
    /// Port of the edge; absent: 8080, or a free one if that is taken.
    #[arg(long)]
    port: Option<u16>,
    /// Seed of the crowd and the shop.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let settings =
        Settings { fast: args.fast, faults: !args.no_faults, port: args.port, seed: args.seed };
    match demo::run(&settings) {
        Ok(played) => {
            for line in report::lines(&played.facts, &played.verdict) {
                println!("{line}");
            }
            for broken in &played.verdict.broken {
                eprintln!("penstock demo: broken: {broken} (see {})", played.dir.display());
            }
            if played.verdict.holds() { Exit::Ok } else { Exit::Assertion }
        }
        Err(error) => {
            eprintln!("penstock demo: {error}");
            Exit::Failure
        }
    }
}
