//! The last events of this process, kept for the dashboard.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::clock::{Clock, UnixMs};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// From 1, without gaps.
    pub id: u64,
    /// When.
    pub t: UnixMs,
    /// `error`, `warn` or `info`.
    pub level: &'static str,
    /// What is said, with its fields behind it.
    pub text: String,
}

/// The events with ids above `id`, oldest first, as far as they are still kept.
pub fn events_after(id: u64) -> Vec<Event> {
    kept().events.iter().filter(|event| event.id > id).cloned().collect()
}

#[derive(Debug)]
struct Kept {
    last: u64,
    events: VecDeque<Event>,
}

/// One for the process, as the subscriber is that fills it.
static KEPT: Mutex<Kept> = Mutex::new(Kept { last: 0, events: VecDeque::new() });

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what it hears.
pub(super) struct Keep(Clock);

impl Keep {
    pub(super) fn new() -> Keep {
        Keep(Clock::system())
    }
}

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        // Libraries have much to say that no operator needs.
        if !meta.target().starts_with(env!("CARGO_CRATE_NAME")) {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let level = match *meta.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => "info",
        };
        let t = self.0.now().wall;
        let mut kept = kept();
        kept.last += 1;
        let id = kept.last;
        if kept.events.len() == EVENTS_MAX {
            kept.events.pop_front();
        }
        kept.events.push_back(Event { id, t, level, text: words.text() });
    }
}

/// The message and the fields of an event.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn text(self) -> String {
        let mut text = self.message + &self.fields;
        if let Some((at, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
            text.truncate(at);
            text.push('…');
        }
        text
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// An evening's worth: what repeats is told with a count.
const EVENTS_MAX: usize = 500;
const TEXT_CHARS_MAX: usize = 600;

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_last_events_are_kept_with_their_fields() {
        let subscriber = tracing_subscriber::registry().with(Keep::new());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(server = 7, "connected to {}", "Redis");
            tracing::info!(target: "hyper", "nobody needs this");
            for n in 0..EVENTS_MAX {
                tracing::error!("event {n} {}", "x".repeat(TEXT_CHARS_MAX));
            }
        });
        let events = events_after(0);
        assert_eq!(events.len(), EVENTS_MAX);
        assert_eq!(events[0].id, 2, "the first is gone, the library's never came");
        let last = &events[EVENTS_MAX - 1];
        assert_eq!((last.level, last.id), ("error", EVENTS_MAX as u64 + 1));
        assert!(last.text.ends_with('…') && last.text.starts_with("event 499 "));
        assert_eq!(events_after(last.id - 1), std::slice::from_ref(last));

        let mut words = Words::default();
        words.message.push_str("connected");
        words.fields.push_str(" server=7");
        assert_eq!(words.text(), "connected server=7");
    }
}
