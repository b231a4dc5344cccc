//! `penstock run`: a node, in the foreground, until TERM.

use super::Exit;
use super::config_file::ConfigFile;
use crate::app::{self, AppError};
use crate::log;

/// Runs a node in the foreground. TERM and INT drain it, a second one ends it at once; HUP reads the
/// config again, USR1 opens the logs again, USR2 makes way for the binary that is installed now.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    let file = args.config.path();
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    if let Err(said) = log::init_events(&loaded.settings.log.level) {
        eprintln!("penstock run: {said}");
        return Exit::Config;
    }
    match app::run(loaded.settings, &file) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            eprintln!("penstock run: {error}");
            match error {
                AppError::Config(_) => Exit::Config,
                AppError::Boot(_) | AppError::Died(_) => Exit::Failure,
            }
        }
    }
}
