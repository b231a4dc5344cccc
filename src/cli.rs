//! The verbs: one file each, an `Args` and a `run` that returns an [`Exit`].

pub mod audit;
pub mod check;
pub mod classify;
pub mod config;
pub mod config_file;
pub mod ctl;
pub mod demo;
pub mod drill;
pub mod explain;
pub mod init;
pub mod limbo;
pub mod node;
mod order;
pub mod pages;
pub mod purge;
pub mod reload;
pub mod run;
pub mod sale;
pub mod shop;
pub mod stats;
pub mod table;
pub mod upgrade;
pub mod warm;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use config_file::ConfigFile;

/// How a verb ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Ok = 0,
    /// A run-time failure.
    Failure = 1,
    /// The command line was wrong (clap's own code).
    Usage = 2,
    /// The node could not be reached.
    Unreachable = 3,
    /// The state of the sale or node forbids it.
    Refused = 4,
    /// An assertion failed: an invariant, a drill's expectation.
    Assertion = 5,
    /// The configuration is invalid (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Reverse proxy and edge cache with an exact admission gate for flash sales.
#[derive(Debug, Parser)]
#[command(name = "penstock", version, about, propagate_version = true)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    /// Check the config and stop, like `penstock check`.
    #[arg(short = 't')]
    test: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Audit(audit::Args),
    Check(check::Args),
    Classify(classify::Args),
    Completion(pages::Completion),
    Config(config::Args),
    Ctl(ctl::Args),
    Demo(demo::Args),
    Drill(Box<drill::Args>),
    Explain(explain::Args),
    Init(init::Args),
    Limbo(limbo::Args),
    Man(pages::Man),
    Purge(purge::Args),
    Reload(reload::Args),
    Run(run::Args),
    Sale(Box<sale::Args>),
    Shop(shop::Args),
    Stats(stats::Args),
    Upgrade(upgrade::Args),
    Warm(Box<warm::Args>),
}

/// Parses the command line and runs the verb.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.verb {
        Some(verb) => dispatch(verb),
        None if cli.test => check::check(&cli.config, false),
        None => {
            eprintln!("{}", Cli::command().render_help());
            Exit::Usage
        }
    }
    .into()
}

fn dispatch(verb: Verb) -> Exit {
    match verb {
        Verb::Audit(args) => audit::run(args),
        Verb::Check(args) => check::run(args),
        Verb::Classify(args) => classify::run(args),
        Verb::Completion(args) => pages::completion(&args),
        Verb::Config(args) => config::run(args),
        Verb::Ctl(args) => ctl::run(args),
        Verb::Demo(args) => demo::run(args),
        Verb::Drill(args) => drill::run(*args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Init(args) => init::run(args),
        Verb::Limbo(args) => limbo::run(args),
        Verb::Man(args) => pages::man(&args),
        Verb::Purge(args) => purge::run(args),
        Verb::Reload(args) => reload::run(&args),
        Verb::Run(args) => run::run(args),
        Verb::Sale(args) => sale::run(*args),
        Verb::Shop(args) => shop::run(args),
        Verb::Stats(args) => stats::run(&args),
        Verb::Upgrade(args) => upgrade::run(&args),
        Verb::Warm(args) => warm::run(*args),
    }
}

/// `1 page`, `2 pages`.
fn count(number: &serde_json::Value, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no failure.
fn say(text: &str) -> Exit {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("penstock: cannot write to standard output: {error}");
            Exit::Failure
        }
        _ => Exit::Ok,
    }
}

/// Waits for INT or TERM. For tools that have no runtime of their own.
fn wait_for_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// What stands behind `penstock` in the code of a text: lines of a shell, and code within a line.
    fn commands(text: &str) -> Vec<Vec<String>> {
        let text = text.replace("\\\n", " ");
        let code = text.split('`').skip(1).step_by(2).flat_map(str::lines);
        let ends = |c: char| matches!(c, '|' | '#' | '&' | ';' | '>');
        code.flat_map(|line| line.split(ends).take(1))
            .filter_map(|line| line.trim().strip_prefix("penstock "))
            .map(|rest| rest.replace(['[', ']'], " "))
            .filter(|rest| !rest.contains('…'))
            .map(|rest| {
                let parts = rest.split('\'').enumerate();
                let words = parts.flat_map(|(at, part)| match at % 2 {
                    0 => part.split_whitespace().map(str::to_owned).collect(),
                    _ => vec![part.to_owned()],
                });
                words.collect()
            })
            .collect()
    }

    #[test]
    fn every_command_of_the_docs_is_one() {
        use clap::error::ErrorKind::{ArgumentConflict, InvalidSubcommand, UnknownArgument};
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let docs =
            std::fs::read_dir(root.join("docs")).expect("docs").map(|file| file.unwrap().path());
        let pages = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
        let all = ["README.md", "README.zh.md", "CHANGELOG.md"].map(|name| root.join(name));
        let mut tried = 0;
        for page in pages.chain(all) {
            let text = std::fs::read_to_string(&page).expect("text");
            for words in commands(&text) {
                let named = std::iter::once("penstock".to_owned()).chain(words.clone());
                let wrong = Cli::try_parse_from(named).err().map(|error| error.kind());
                let is_wrong =
                    matches!(wrong, Some(ArgumentConflict | InvalidSubcommand | UnknownArgument));
                assert!(!is_wrong, "{}: penstock {words:?}: {wrong:?}", page.display());
                tried += 1;
            }
        }
        assert!(tried > 100, "{tried}");
    }
}
