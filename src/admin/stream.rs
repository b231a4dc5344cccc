//! `GET /v1/stream`: server-sent events. First the curve so far and the last events, then every second
//! what `GET /v1/stats` says, and the events that came.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Context;
use super::live::Tick;
use super::reply::{Reply, Result};
use crate::clock::UnixMs;
use crate::log::{Event, events_after};

/// One client's stream.
#[derive(Debug)]
pub(super) struct Stream {
    ticks: watch::Receiver<Arc<Tick>>,
    /// The last event that was sent.
    last: u64,
    /// What goes before the first second.
    greeting: Option<String>,
    _place: OwnedSemaphorePermit,
}

/// Begins a stream; `seen` is the `Last-Event-ID` of a client that comes back.
pub(super) fn begin(context: &Context, seen: Option<&str>) -> Result {
    let Ok(place) = context.live.places.clone().try_acquire_owned() else {
        return Err(Reply::unavailable("too many watch already: close a dashboard"));
    };
    let mut ticks = context.live.watch();
    // The second that is shown now is sent at once.
    ticks.mark_changed();
    let greeting = format!("retry: 2000\nevent: history\ndata: {}\n\n", context.live.history());
    let last = seen.map_or(0, last_seen);
    Ok(Reply::stream(Stream { ticks, last, greeting: Some(greeting), _place: place }))
}

/// The last of our events that a client has seen who remembers `T-ID`. Ids begin anew with the process,
/// times do not.
fn last_seen(said: &str) -> u64 {
    let parsed = said.split_once('-').and_then(|(t, id)| Some((t.parse().ok()?, id.parse().ok()?)));
    let Some((t, id)) = parsed else { return 0 };
    let seen = |event: &Event| (event.t, event.id) <= (UnixMs(t), id);
    events_after(0).iter().filter(|event| seen(event)).map(|event| event.id).max().unwrap_or(0)
}

impl Stream {
    /// What to send next, and the stream; `None` at the end of the process.
    pub(super) async fn next(mut self) -> Option<(Bytes, Stream)> {
        if let Some(mut text) = self.greeting.take() {
            self.events(&mut text);
            return Some((text.into(), self));
        }
        self.ticks.changed().await.ok()?;
        let stats = self.ticks.borrow_and_update().stats.clone();
        let mut text = String::new();
        self.events(&mut text);
        if !stats.is_empty() {
            // JSON of ours has no line ends.
            let _ = write!(text, "event: stats\ndata: {stats}\n\n");
        }
        Some((text.into(), self))
    }

    fn events(&mut self, text: &mut String) {
        for event in events_after(self.last) {
            self.last = event.id;
            let _ = write!(
                text,
                "id: {}-{}\nevent: log\ndata: {}\n\n",
                event.t.0,
                event.id,
                json(&event)
            );
        }
    }
}

fn json(event: &Event) -> String {
    // Numbers and texts: it always renders.
    serde_json::to_string(event).unwrap_or_default()
}
