//! The demo: a whole flash sale over real sockets, as separate processes of this binary.
//!
//! ```text
//! act 1   crowd ───────────────▶ shop      oversells
//! act 2   crowd ──▶ edge ──────▶ shop      T0 · kill -9 of the edge · sold out · restock · audit
//! ```
//!
//! It starts the mock shop, the edge and the crowd, tells what happens, and ends with a report in
//! which every figure names who counted it. It uses what an operator has: the verbs, the config file,
//! the journal, and the shop's own books.

pub mod act;
pub mod crowd;
pub mod edge;
pub mod facts;
pub mod http;
pub mod journal;
pub mod place;
pub mod process;
pub mod report;
pub mod screen;
pub mod shop;
pub mod stop;

use std::path::PathBuf;

pub use facts::Facts;
pub use report::Verdict;

/// How the demo is played.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A smaller crowd and shorter waits.
    pub fast: bool,
    /// Whether the edge is killed and the shop makes errors.
    pub faults: bool,
    /// Port of the edge; absent: 8080, or a free one if that is taken.
    pub port: Option<u16>,
    /// Seed of the crowd and the shop.
    pub seed: u64,
}

/// Sizes and times, by which the fast demo differs.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// People who go straight to the shop.
    pub people_without: u32,
    /// Milliseconds to their T0.
    pub lead_without_ms: u64,
    /// Milliseconds of act 1 at most.
    pub act_one_ms: u64,
    /// People who come to the edge.
    pub people_with: u32,
    /// Bots among them.
    pub bots: u32,
    /// Milliseconds to their T0.
    pub lead_with_ms: u64,
    /// Milliseconds within which they act.
    pub spread_ms: u64,
    /// Milliseconds after T0 at which the edge is killed.
    pub kill_after_ms: u64,
    /// Milliseconds it stays dead.
    pub down_ms: u64,
    /// Units that cancelled orders return.
    pub returned: u64,
}

impl Settings {
    /// The sizes and times of this demo.
    pub fn script(&self) -> Script {
        if self.fast {
            Script {
                people_without: 800,
                lead_without_ms: 1_500,
                act_one_ms: 7_000,
                people_with: 6_000,
                bots: 20,
                lead_with_ms: 7_000,
                spread_ms: 2_000,
                kill_after_ms: 1_200,
                down_ms: 800,
                returned: 3,
            }
        } else {
            Script {
                people_without: 2_000,
                lead_without_ms: 3_000,
                act_one_ms: 12_000,
                people_with: 20_000,
                bots: 40,
                lead_with_ms: 15_000,
                spread_ms: 4_000,
                kill_after_ms: 1_200,
                down_ms: 2_000,
                returned: 3,
            }
        }
    }
}

/// Why the demo could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// INT or TERM came.
    #[error("stopped; every process it had started is gone")]
    Interrupted,
    /// A file, a socket or a process could not be had.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// A process ended that should have gone on.
    #[error("{name} ended too early; see {log}")]
    Died {
        /// Which.
        name: &'static str,
        /// Its output.
        log: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {after_ms} ms; see {log}")]
    Late {
        /// What.
        what: String,
        /// How long it was waited for.
        after_ms: u64,
        /// Where to look.
        log: String,
    },
    /// A verb failed.
    #[error("`{verb}` failed: {said}")]
    Verb {
        /// The command.
        verb: String,
        /// Its last words.
        said: String,
    },
    /// A program's answer was not understood.
    #[error("{what} was not understood: {said}")]
    Unreadable {
        /// Whose.
        what: String,
        /// What it said.
        said: String,
    },
}

impl DemoError {
    /// Wraps a system error with what was tried.
    pub fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DemoError {
        let what = what.into();
        move |cause| DemoError::System { what, cause }
    }
}

/// What the demo leaves behind.
#[derive(Debug)]
pub struct Played {
    /// Everything that was counted.
    pub facts: Facts,
    /// What it comes to.
    pub verdict: Verdict,
    /// Where config, state, logs and `report.json` are.
    pub dir: PathBuf,
}

/// Plays the demo. Every process that it starts is gone when it returns.
pub fn run(settings: &Settings) -> Result<Played, DemoError> {
    let stop = stop::Stop::watch()?;
    let mut screen = screen::Screen::new();
    let facts = act::play(settings, &stop, &mut screen);
    screen.close();
    let (facts, dir) = facts?;
    let verdict = Verdict::of(&facts);
    let text = serde_json::to_vec_pretty(&facts).unwrap_or_default();
    let path = dir.join("report.json");
    std::fs::write(&path, text).map_err(DemoError::system(format!("{}", path.display())))?;
    Ok(Played { facts, verdict, dir })
}
