//! `penstock config`: the settings as they are, as they could be, and their schema.

use super::config_file::ConfigFile;
use super::{Exit, say};
use crate::config::redis_url::RedisUrl;
use crate::config::schema::Settings;
use crate::config::{reference, shape};

/// Shows settings: the effective ones, all there are, their schema.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The effective settings, with every default. Secrets are names of files only; a password in
    /// store.url is shown as `***`.
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
            Ok(loaded) => dump(loaded.settings),
        },
    }
}

fn dump(mut settings: Settings) -> Exit {
    if let Some(url) = &mut settings.store.url
        && let Ok(read) = url.parse::<RedisUrl>()
        && read.password.is_some()
    {
        *url = read.to_string();
    }
    match toml::to_string(&settings) {
        Ok(text) => say(&text),
        Err(error) => {
            eprintln!("penstock config dump: {error}");
            Exit::Failure
        }
    }
}
