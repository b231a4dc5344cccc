//! `penstock man` and `penstock completion`: what a package installs beside the binary, made from the
//! command line itself.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, say};

/// Writes the manual pages, one for each verb.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// The directory they are written to; made if it is not there.
    dir: PathBuf,
}

/// Prints what a shell needs to complete verbs and options.
#[derive(Debug, clap::Args)]
pub struct Completion {
    /// The shell.
    shell: Shell,
}

/// Runs `penstock man`.
pub fn man(args: &Man) -> Exit {
    let written = std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir));
    match written {
        Ok(()) => Exit::Ok,
        Err(cause) => {
            eprintln!("penstock man: {}: {cause}", args.dir.display());
            Exit::Failure
        }
    }
}

/// Runs `penstock completion`.
pub fn completion(args: &Completion) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "penstock", &mut text);
    say(&String::from_utf8_lossy(&text))
}
