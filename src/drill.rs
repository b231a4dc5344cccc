//! The drill: an open-loop crowd against any URL.
//!
//! Open loop means that people act when they would, not when the server lets them: everyone's moments
//! are drawn before the start, and a latency is measured from the moment it was due. A server that
//! stalls for a second shows a second, for everybody who would have come in it.
//!
//! ```text
//! plan (pure, seeded) → person | bot → client → pool → wire
//!                          └→ hear (what an answer means) → tally → progress, report
//! ```
//!
//! It uses public HTTP only, so that it measures a shop without Penstock just as well.

pub mod bot;
pub mod client;
pub mod expect;
pub mod hear;
pub mod opening;
pub mod person;
pub mod plan;
pub mod pool;
pub mod progress;
pub mod report;
pub mod tally;
pub mod target;
pub mod wire;
pub mod world;

use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::clock::UnixMs;

pub use expect::Expectations;
pub use plan::{Arrival, Plan, Shape};
pub use progress::Progress;
pub use report::Report;
pub use target::{Paths, Target, TargetError};
use world::World;

/// A whole drill.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom to drill.
    pub target: Target,
    /// What is asked for there.
    pub paths: Paths,
    /// Who comes, and when.
    pub shape: Shape,
    /// When the sale opens.
    pub opens: Opens,
    /// How people and bots behave.
    pub manners: Manners,
    /// What requests look like.
    pub dress: Dress,
    /// Connections that are open at once.
    pub connections_max: usize,
    /// Whether everyone comes from a loopback address of their own, where the target is on loopback.
    pub own_addresses: bool,
    /// Milliseconds after which a request is given up.
    pub timeout_ms: u64,
    /// Milliseconds after which the drill ends, whatever is under way.
    pub duration_max_ms: u64,
    /// Milliseconds between progress reports.
    pub progress_ms: u64,
}

/// When the sale opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// The target's availability flag says it; where there is none, so many milliseconds after the
    /// start.
    Asked {
        /// Milliseconds after the start.
        or_in_ms: u64,
    },
    /// At this instant of the wall clock.
    At(UnixMs),
}

/// How people and bots behave.
#[derive(Clone, Debug)]
pub struct Manners {
    /// How often a purchase is tried again at most.
    pub retries_max: u32,
    /// Milliseconds to the first retry where the answer names no wait; doubled each time.
    pub backoff_ms: u64,
    /// Longest wait that people bear, whatever an answer advises.
    pub wait_max_ms: u64,
    /// Longest pause between two polls of those who watch, whatever the flag advises.
    pub poll_max_ms: u64,
    /// Milliseconds before T0 at which bots begin.
    pub bot_lead_ms: u64,
    /// Milliseconds between two tries of a bot.
    pub bot_every_ms: u64,
    /// How often a bot tries at most.
    pub bot_tries_max: u32,
}

/// What requests look like.
#[derive(Clone, Debug)]
pub struct Dress {
    /// Host field; absent: the URL's.
    pub host: Option<String>,
    /// Cookie that names the user.
    pub user_cookie: String,
    /// What user names begin with.
    pub user_prefix: String,
    /// More fields; `{user}` stands for the user's name.
    pub headers: Vec<(String, String)>,
    /// Cities that people are spread over; they go into the cookie `city_id`.
    pub cities: Vec<String>,
    /// Pools that people are spread over; empty: orders name none.
    pub pools: Vec<String>,
    /// Body of a purchase; `{user}`, `{pool}` and `{key}` are replaced.
    pub body: String,
    /// Whether purchases carry an `Idempotency-Key`.
    pub keys: bool,
}

impl Default for Manners {
    fn default() -> Manners {
        Manners {
            retries_max: 3,
            backoff_ms: 1_000,
            wait_max_ms: 10_000,
            poll_max_ms: 60_000,
            bot_lead_ms: 3_000,
            bot_every_ms: 250,
            bot_tries_max: 100,
        }
    }
}

impl Default for Dress {
    fn default() -> Dress {
        Dress {
            host: None,
            user_cookie: "uid".to_owned(),
            user_prefix: "u".to_owned(),
            headers: Vec::new(),
            cities: Vec::new(),
            pools: Vec::new(),
            body: "{}".to_owned(),
            keys: true,
        }
    }
}

impl Settings {
    /// The usual drill of the activity page at `target`.
    pub fn new(target: Target) -> Settings {
        Settings {
            paths: Paths::of_page(&target.path),
            target,
            shape: Shape::default(),
            opens: Opens::Asked { or_in_ms: 5_000 },
            manners: Manners::default(),
            dress: Dress::default(),
            connections_max: 4_000,
            own_addresses: true,
            timeout_ms: 10_000,
            duration_max_ms: 120_000,
            progress_ms: 1_000,
        }
    }
}

/// Why there was no drill.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// Nothing answers at the target.
    #[error("{target} cannot be reached: {cause}")]
    Unreachable {
        /// Host and port.
        target: String,
        /// Why not.
        cause: String,
    },
    /// The runtime could not be started.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
}

/// Drills the target. `seen` gets a [`Progress`] every now and then. INT and TERM end it early, with
/// its report.
pub fn run(settings: Settings, seen: impl FnMut(&Progress)) -> Result<Report, DrillError> {
    let mut settings = settings;
    // Some descriptors are not for connections: files, the runtime, a shop in this process.
    let descriptors = raise_descriptor_limit().saturating_sub(64).max(1);
    settings.connections_max = settings.connections_max.min(descriptors);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DrillError::Start)?;
    LocalSet::new().block_on(&runtime, crowd(settings, seen))
}

async fn crowd(settings: Settings, mut seen: impl FnMut(&Progress)) -> Result<Report, DrillError> {
    let address = settings.target.resolve().await?;
    let opening = opening::find(&settings, address).await?;
    let plan = Plan::new(&settings.shape, opening.lead_ms());
    let ends = opening.start + Duration::from_millis(settings.duration_max_ms);
    let tick = Duration::from_millis(settings.progress_ms.max(100));
    let world = Rc::new(World::new(settings, address, opening, &plan));

    let mut tasks = JoinSet::new();
    tasks.spawn_local(people(world.clone(), plan.people));
    for bot in plan.bots {
        tasks.spawn_local(bot::act(world.clone(), bot));
    }
    let mut progress = tokio::time::interval_at(Instant::now() + tick, tick);
    let mut stopped = std::pin::pin!(stop_signal());
    loop {
        tokio::select! {
            ended = tasks.join_next() => if ended.is_none() { break },
            _ = progress.tick() => seen(&world.progress()),
            () = &mut stopped => break,
            () = tokio::time::sleep_until(ends) => break,
        }
    }
    tasks.shutdown().await;
    seen(&world.progress());
    Ok(world.report())
}

/// Everyone comes at the planned moment, in a task of their own, whatever the others are doing.
async fn people(world: Rc<World>, people: Vec<plan::Person>) {
    let mut present = JoinSet::new();
    for person in people {
        tokio::time::sleep_until(world.at_us(person.arrives_us)).await;
        present.spawn_local(person::act(world.clone(), person));
        while present.try_join_next().is_some() {}
    }
    while present.join_next().await.is_some() {}
}

/// Ends when INT or TERM comes; never where signals cannot be had.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
}

/// A crowd needs a descriptor for each connection: take as many as the system lets us have.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // Refused: connections beyond the limit will be counted as failed, which says it too.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let got = getrlimit(Resource::Nofile).current;
    got.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
}
