//! `-c FILE`, the same for every verb that reads the config.

use std::path::PathBuf;

use crate::config::{self, Loaded, Problem, Settings};

use super::Exit;

/// Where the config is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigFile {
    /// The config; absent: ./penstock.toml, else /etc/penstock/penstock.toml.
    #[arg(short = 'c', long = "config", env = "PENSTOCK_CONFIG", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl ConfigFile {
    /// The file's path.
    pub fn path(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(config::default_path)
    }

    /// Reads the config; only mistakes are shown: whoever asks about a running node knows the warnings.
    pub fn settings(&self) -> Result<Settings, Exit> {
        config::load(&self.path()).map(|loaded| loaded.settings).map_err(|problems| {
            show(&problems);
            Exit::Config
        })
    }

    /// Reads the config; mistakes and warnings are shown on standard error.
    pub fn load(&self) -> Result<Loaded, Exit> {
        match config::load(&self.path()) {
            Ok(loaded) => {
                show(&loaded.warnings);
                Ok(loaded)
            }
            Err(problems) => {
                show(&problems);
                Err(Exit::Config)
            }
        }
    }
}

/// Shows problems on standard error, and how many there are if it is more than one.
pub fn show(problems: &[Problem]) {
    for problem in problems {
        eprintln!("{problem}");
    }
    let errors = problems.iter().filter(|problem| !problem.is_warning).count();
    if errors > 1 {
        eprintln!("{errors} errors");
    }
}
