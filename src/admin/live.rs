//! What the dashboard lives on: once a second the counters are read, compared with those of a second,
//! ten seconds and a minute ago, and made into one text for everybody who watches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Context;
use super::{fleet, stats};
use crate::clock::MonoMs;
use crate::ident::SaleId;
use crate::metrics::{COUNTERS, Counter, TIMINGS, Times, Timing};
use crate::outcome::{REASONS, Reason};

/// One reading of every count.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub at: MonoMs,
    counters: Vec<u64>,
    reasons: Vec<u64>,
    times: Vec<Times>,
    pub limbo: BTreeMap<SaleId, u64>,
}

impl Sample {
    fn take(context: &Context) -> Sample {
        let registry = &context.registry;
        let limbo = |sale: Arc<crate::sale::SaleSnapshot>| {
            let units = sale.state.pools.iter().map(|pool| pool.limbo).sum();
            (sale.state.id.clone(), units)
        };
        Sample {
            at: context.clock.mono(),
            counters: COUNTERS.iter().map(|row| registry.total(row.counter)).collect(),
            reasons: REASONS.iter().map(|row| registry.reason(row.reason)).collect(),
            times: TIMINGS.iter().map(|row| registry.times(row.timing)).collect(),
            limbo: context.book.all().into_iter().map(limbo).collect(),
        }
    }

    pub(super) fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    pub(super) fn reason(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize]
    }

    pub(super) fn times(&self, timing: Timing) -> &Times {
        &self.times[timing as usize]
    }
}

/// The samples of the last minute.
#[derive(Debug)]
pub(super) struct Window {
    samples: VecDeque<Sample>,
}

impl Window {
    /// With a first sample: there is always one.
    fn new(first: Sample) -> Window {
        Window { samples: VecDeque::from([first]) }
    }

    fn push(&mut self, sample: Sample) {
        if self.samples.len() > MINUTE {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    pub(super) fn now(&self) -> &Sample {
        self.before(0)
    }

    /// The sample of so many seconds ago, or the oldest there is.
    pub(super) fn before(&self, secs: usize) -> &Sample {
        &self.samples[self.samples.len().saturating_sub(1 + secs)]
    }

    /// How much a counter rose within the last minute.
    pub(super) fn in_minute(&self, counter: Counter) -> u64 {
        self.now().counter(counter).saturating_sub(self.before(MINUTE).counter(counter))
    }
}

/// One second's text for everybody who watches.
#[derive(Debug, Default)]
pub(super) struct Tick {
    /// All of `GET /v1/stats`.
    pub stats: Arc<str>,
    /// How many alarms there are.
    alarms: usize,
}

/// What is shown now, and the curve that led here.
#[derive(Debug)]
pub struct Live {
    tick: watch::Sender<Arc<Tick>>,
    points: Mutex<VecDeque<Arc<str>>>,
    /// Who may watch at once.
    pub(super) places: Arc<Semaphore>,
}

impl Default for Live {
    fn default() -> Live {
        Live {
            tick: watch::Sender::new(Arc::default()),
            points: Mutex::default(),
            places: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }
}

impl Live {
    /// The next seconds; the one that is shown now counts as seen.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Tick>> {
        self.tick.subscribe()
    }

    /// The last second's text; `None` before the first.
    pub(super) fn stats(&self) -> Option<Arc<str>> {
        let stats = self.tick.borrow().stats.clone();
        (!stats.is_empty()).then_some(stats)
    }

    /// How many things only a person can mend.
    pub(super) fn alarms(&self) -> usize {
        self.tick.borrow().alarms
    }

    /// The curve of the last ten minutes as one JSON array, a point for each second.
    pub(super) fn history(&self) -> String {
        let points: Vec<_> = self.points().iter().cloned().collect();
        format!("[{}]", points.join(","))
    }

    fn points(&self) -> MutexGuard<'_, VecDeque<Arc<str>>> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, stats: &Value) {
        let point = stats::point(stats).to_string();
        let alarms = stats["alarms"].as_array().map_or(0, Vec::len);
        let mut points = self.points();
        if points.len() == POINTS_MAX {
            points.pop_front();
        }
        points.push_back(point.into());
        drop(points);
        self.tick.send_replace(Arc::new(Tick { stats: stats.to_string().into(), alarms }));
    }
}

/// Reads and shows, every second, for as long as the process lives.
pub async fn keep_live(context: Arc<Context>) -> String {
    loop {
        // A task of its own, so that a panic in it ends here: nobody buys less without a dashboard.
        let mut task = JoinSet::new();
        let seen = context.clone();
        task.spawn(async move { tokio::join!(run(seen.clone()), fleet::keep_meeting(&seen)).0 });
        if let Some(Err(panic)) = task.join_next().await {
            context.sink.inc(Counter::Panics);
            tracing::error!("what the dashboard lives on died and is started again: {panic}");
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn run(context: Arc<Context>) {
    let mut window = Window::new(Sample::take(&context));
    let mut edges = super::edges::Edges::default();
    let mut every = tokio::time::interval(EVERY);
    // After a pause of the whole process there is one reading, not one for each missed second.
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        super::warm::unpin_ended(&context);
        edges.look(&context);
        window.push(Sample::take(&context));
        context.live.show(&stats::stats(&context, &window));
    }
}

const EVERY: Duration = Duration::from_secs(1);
/// Seconds that the window reaches back.
pub(super) const MINUTE: usize = 60;
const POINTS_MAX: usize = 600;
/// Walls and telephones of one evening.
const STREAMS_MAX: usize = 24;
