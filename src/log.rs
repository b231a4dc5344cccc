//! The access log, one JSON object a line, and the operator's events on standard error.
//!
//! A worker never waits for the log: lines go through a bounded queue to a thread that writes them,
//! and what does not fit is dropped and counted. (The journal is another thing: nothing of it is ever
//! dropped.)

mod events;
mod text;
mod writer;

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use serde::Serialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::UnixMs;
use crate::config::schema;
use crate::ident::RequestId;
use crate::metrics::{Counter, Sink};

pub use events::{Event, events_after};
pub use text::Text;

use writer::{Orders, Target, Writer};

/// One line: one exchange with a client. What is absent is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// When the head was complete, in milliseconds since 1970.
    pub t: UnixMs,
    /// The request's id, as in `Penstock-Request`.
    pub request: RequestId,
    /// The client's address, by trust.
    pub client: Text,
    /// The method.
    pub method: Text,
    /// The validated Host.
    pub host: Text,
    /// Path and query as they were sent.
    pub path: Text,
    /// What the request turned out to be.
    pub route: &'static str,
    /// Status that was sent, 0 if none was; of an admission, the shop's.
    pub status: u16,
    /// Body bytes that were sent; of an admission, those of the shop's answer.
    pub bytes: u64,
    /// Milliseconds from the complete head to the last byte.
    pub took_ms: u64,
    /// Whether the answer did not get to the client whole.
    #[serde(skip_serializing_if = "is_false")]
    pub cut: bool,
    /// Why the edge answered itself, or `admitted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What the cache did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Text>,
    /// The sale, as `site/sale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sale: Option<Text>,
    /// What an admitted purchase came to: `confirmed`, `failed`, `unknown` or `pending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// The claim of an admitted purchase: the key to its lines in the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Text>,
    /// `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text>,
    /// `Referer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referer: Option<Text>,
}

/// The access log. Cheap to clone; the thread ends when [`AccessLog::finish`] is called or the last
/// clone is gone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    open: Option<Arc<Open>>,
    sink: Sink,
}

#[derive(Debug)]
struct Open {
    queue: SyncSender<Entry>,
    orders: Arc<Orders>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread is sent: a line, or a nudge to look at its orders.
#[derive(Debug)]
enum Entry {
    Line(Box<Line>),
    Nudge,
}

impl AccessLog {
    /// Opens `log.access` and starts the thread that writes it. Without the setting there is no log,
    /// and [`AccessLog::write`] does nothing.
    pub fn start(settings: &schema::Log, sink: Sink) -> io::Result<AccessLog> {
        let Some(access) = &settings.access else { return Ok(AccessLog { open: None, sink }) };
        let target = Target::open(access)?;
        let (queue, entries) = sync_channel(settings.queue_max as usize);
        let orders = Arc::new(Orders::default());
        let writer = Writer::new(target, entries, settings.queue_max, orders.clone(), sink.clone());
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run())?;
        let thread = Mutex::new(Some(thread));
        Ok(AccessLog { open: Some(Arc::new(Open { queue, orders, thread })), sink })
    }

    /// The same log for other settings: this one where it goes to the same file, else a new one.
    pub fn next(
        &self,
        old: &schema::Log,
        new: &schema::Log,
        sink: Sink,
    ) -> io::Result<Option<AccessLog>> {
        let same = (&old.access, old.queue_max) == (&new.access, new.queue_max);
        if same { Ok(None) } else { AccessLog::start(new, sink).map(Some) }
    }

    /// Whether lines go anywhere.
    pub fn is_on(&self) -> bool {
        self.open.is_some()
    }

    /// Queues a line; drops and counts it if the queue is full.
    pub fn write(&self, line: Line) {
        let Some(open) = &self.open else { return };
        if open.queue.try_send(Entry::Line(Box::new(line))).is_err() {
            self.sink.inc(Counter::LogDropped);
        }
    }

    /// Opens the file anew, after a rotation. Lines that are queued already may still go to the old
    /// file; none is lost. Where the new one cannot be opened the old one stays, and an event says so.
    pub fn reopen(&self) {
        if let Some(open) = &self.open {
            open.orders.reopen();
            open.nudge();
        }
    }

    /// Writes what is queued and ends the thread. Lines that come later are dropped and counted.
    pub fn finish(&self) {
        let Some(open) = &self.open else { return };
        open.orders.finish();
        open.nudge();
        let thread = open.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of the access log panicked; lines may be missing");
        }
    }
}

impl Open {
    /// A full queue needs no nudge: the thread looks at its orders between lines.
    fn nudge(&self) {
        match self.queue.try_send(Entry::Nudge) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// Which lines are wanted: one in `every`, by counting, so that it costs nothing. One for each kind
/// and worker.
#[derive(Debug)]
pub struct Sampler {
    every: u32,
    left: Cell<u32>,
}

impl Sampler {
    /// Takes the first and then one in `every`; 0 takes none.
    pub fn new(every: u32) -> Sampler {
        Sampler { every, left: Cell::new(0) }
    }

    /// Whether this one is wanted.
    pub fn is_due(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.checked_sub(1).unwrap_or(self.every.saturating_sub(1)));
        left == 0 && self.every > 0
    }
}

/// Sends the operator's events to standard error, those of `level` (`error`, `warn`, `info` or
/// `debug`) and above, and of the libraries' only errors; coloured on a terminal only. The last ones are kept for [`events_after`],
/// whatever the level. An error says what is wrong with the setting.
pub fn init_events(level: &str) -> Result<(), String> {
    let level = match level {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        _ => return Err(format!("log.level: `{level}` is none of error, warn, info, debug")),
    };
    // What libraries warn of, clients can bring about as often as they like: a PING that nobody sent.
    let of = |level| Targets::new().with_default(LevelFilter::ERROR).with_target("penstock", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_filter(of(level));
    tracing_subscriber::registry()
        .with(lines)
        .with(events::Keep::new().with_filter(of(LevelFilter::INFO)))
        .try_init()
        .map_err(|error| error.to_string())
}

// serde asks with a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests;
