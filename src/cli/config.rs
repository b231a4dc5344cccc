//! `penstock config`: the settings as they are, as they could be, and their schema.

use super::config_file::ConfigFile;
use super::{Exit, say};
use crate::config::{reference, shape};

/// Shows settings: the effective ones, all there are, their schema.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The effective settings, with every default. Secrets are names of files only.
    Dump {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Every setting with what it means, its default and range: conf/reference.toml.
    Reference,
    /// The JSON schema, for editors.
    Schema,
}

/// Runs the verb.
pub fn run(args: Args) -> Exit {
    match args.what {
        What::Reference => say(&reference::text()),
        What::Schema => say(&format!("{:#}\n", shape::json_schema())),
        What::Dump { config } => match config.load() {
            Err(exit) => exit,
            Ok(loaded) => match toml::to_string(&loaded.settings) {
                Ok(text) => say(&text),
                Err(error) => {
                    eprintln!("penstock config dump: {error}");
                    Exit::Failure
                }
            },
        },
    }
}
