//! What the frames of a connection say that HTTP/2's own state does not tell us: floods, who is waiting
//! for whom, and whether anything is going on.
//!
//! The watch never changes what HTTP/2 sees. It keeps a list of open requests with their windows, so
//! that a client that takes no byte of its response is noticed even when the whole response is in
//! HTTP/2's hands already.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Head, Met, PADDED, PING,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, Walker,
};
use crate::http::h1::stall::Stall;
use crate::http::limits::Limits;
use crate::outcome::CloseReason;

/// The watch over one connection.
#[derive(Debug)]
pub(in crate::http) struct Watch {
    limits: Rc<Limits>,
    inward: Walker,
    outward: Walker,
    /// Bytes of the client's preface that are to come.
    preface_left: usize,
    /// Whether the client's first frame came.
    has_begun: bool,
    /// Since when a head, or a frame that is no DATA, is not whole.
    open_since: Option<Instant>,
    in_head: bool,
    continuations: u32,
    counts: Counts,
    verdict: Option<CloseReason>,
    streams: Vec<Stream>,
    last_stream: u32,
    /// What the client takes on the whole connection, and on each new stream.
    window: i64,
    initial_window: i64,
    /// The first byte of a padded frame.
    padding: Option<u8>,
    /// When the last request ended.
    idle_since: Instant,
    /// With which code HTTP/2 said goodbye.
    said_goodbye: Option<u32>,
}

/// A request that is not over.
#[derive(Debug)]
struct Stream {
    id: u32,
    window: i64,
    /// Whether its response has begun.
    is_answered: bool,
    stall: Stall,
}

/// Frames that ask for nothing, since the count began.
#[derive(Debug)]
struct Counts {
    since: Instant,
    resets: u32,
    pings: u32,
    settings: u32,
    empty: u32,
    idle: u32,
    /// Frames that were for something.
    useful: u32,
}

impl Watch {
    pub(in crate::http) fn new(limits: Rc<Limits>, now: Instant) -> Watch {
        Watch {
            limits,
            inward: Walker::default(),
            outward: Walker::default(),
            preface_left: PREFACE_BYTES,
            has_begun: false,
            open_since: None,
            in_head: false,
            continuations: 0,
            counts: Counts::new(now),
            verdict: None,
            streams: Vec::new(),
            last_stream: 0,
            window: WINDOW,
            initial_window: WINDOW,
            padding: None,
            idle_since: now,
            said_goodbye: None,
        }
    }

    /// Looks at what the client sent. Says how much of it HTTP/2 may see: not what comes behind a frame
    /// too many.
    pub(in crate::http) fn reads(&mut self, bytes: &[u8]) -> usize {
        let now = Instant::now();
        if now.duration_since(self.counts.since) >= COUNTED {
            self.counts = Counts::new(now);
        }
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        let mut inward = std::mem::take(&mut self.inward);
        let walked = inward.walk(&bytes[preface..], |met| {
            self.hears(met, now);
            self.verdict.is_none()
        });
        self.inward = inward;
        let in_control = self.inward.open().is_some_and(|head| head.kind != DATA);
        let is_cut = !self.inward.is_between() && self.inward.open().is_none();
        let is_open = self.in_head || in_control || is_cut;
        self.open_since = is_open.then(|| self.open_since.unwrap_or(now));
        preface + walked
    }

    /// Looks at what is sent to the client.
    pub(in crate::http) fn writes(&mut self, bytes: &[u8]) {
        let mut outward = std::mem::take(&mut self.outward);
        outward.walk(bytes, |met| {
            self.says(met);
            true
        });
        self.outward = outward;
    }

    fn hears(&mut self, met: Met<'_>, now: Instant) {
        match met {
            Met::Begin(head) => self.begins(head, now),
            Met::Piece(head, piece) => self.piece(head, piece),
            Met::End(head) => self.ends(head, now),
        }
        let (counts, limits) = (&self.counts, &self.limits.http2);
        let idle_max = limits.idle_frames_max.saturating_add(counts.useful.saturating_mul(4));
        let flooded = counts.resets > limits.resets_max
            || counts.pings > limits.pings_max
            || counts.settings > limits.settings_max
            || counts.empty > limits.empty_data_max
            || counts.idle > idle_max
            || self.continuations > limits.continuations_max;
        if flooded && self.verdict.is_none() {
            self.verdict = Some(CloseReason::Flood);
        }
    }

    fn begins(&mut self, head: Head, now: Instant) {
        // RFC 9113 3.4: SETTINGS is part of the preface.
        if !self.has_begun && (head.kind != SETTINGS || head.has(ACK)) {
            self.verdict = Some(CloseReason::Protocol);
        }
        self.has_begun = true;
        self.padding = None;
        match head.kind {
            HEADERS => {
                self.counts.useful += 1;
                (self.in_head, self.continuations) = (!head.has(END_HEADERS), 0);
                // The client's numbers are odd and rise; all others are mistakes or trailers.
                if head.stream > self.last_stream && head.stream % 2 == 1 {
                    self.last_stream = head.stream;
                    let (id, window) = (head.stream, self.initial_window);
                    let stall = Stall::default();
                    self.streams.push(Stream { id, window, is_answered: false, stall });
                }
            }
            CONTINUATION => {
                self.continuations += 1;
                self.in_head &= !head.has(END_HEADERS);
            }
            RST_STREAM => {
                self.counts.resets += 1;
                self.close(head.stream, now);
            }
            SETTINGS if !head.has(ACK) => self.counts.settings += 1,
            PING => self.counts.pings += 1,
            DATA | SETTINGS | GOAWAY => {}
            _ => self.counts.idle += 1,
        }
    }

    fn piece(&mut self, head: Head, piece: &[u8]) {
        match (head.kind, piece) {
            (SETTINGS, [0, INITIAL_WINDOW_SIZE, value @ ..]) if !head.has(ACK) => {
                let Ok(value) = <[u8; 4]>::try_from(value) else { return };
                let value = i64::from(u32::from_be_bytes(value));
                let more = value - self.initial_window;
                self.initial_window = value;
                self.streams.iter_mut().for_each(|stream| stream.window += more);
            }
            (WINDOW_UPDATE, piece) => {
                let Ok(more) = <[u8; 4]>::try_from(piece) else { return };
                let more = i64::from(u32::from_be_bytes(more) & 0x7fff_ffff);
                if head.stream == 0 {
                    self.window += more;
                } else if let Some(stream) = self.stream(head.stream) {
                    stream.window += more;
                }
            }
            (DATA, [first, ..]) if head.has(PADDED) && self.padding.is_none() => {
                self.padding = Some(*first);
            }
            _ => {}
        }
    }

    fn ends(&mut self, head: Head, _: Instant) {
        if head.kind == DATA && !head.has(END_STREAM) {
            let padding = self.padding.map_or(0, |padding| 1 + u32::from(padding));
            if head.len <= padding {
                self.counts.empty += 1;
            } else {
                self.counts.useful += 1;
            }
        }
    }

    fn says(&mut self, met: Met<'_>) {
        match met {
            Met::Begin(head) => match head.kind {
                HEADERS => {
                    self.counts.useful += 1;
                    if let Some(stream) = self.stream(head.stream) {
                        stream.is_answered = true;
                    }
                }
                DATA => {
                    self.counts.useful += 1;
                    self.window -= i64::from(head.len);
                    if let Some(stream) = self.stream(head.stream) {
                        stream.window -= i64::from(head.len);
                        stream.stall.took(head.len as usize);
                    }
                }
                GOAWAY => self.said_goodbye = Some(HEARD_NOTHING),
                _ => {}
            },
            Met::Piece(head, [a, b, c, d]) if head.kind == RST_STREAM => {
                // What the client did not take, we gave up; what it did wrong, it did wrong.
                let code = u32::from_be_bytes([*a, *b, *c, *d]);
                if !matches!(code, NO_ERROR | CANCEL | INTERNAL_ERROR) {
                    self.counts.resets += 1;
                }
            }
            Met::Piece(head, piece) if head.kind == GOAWAY => {
                // The code stands behind the last stream's number, four bytes each, across two pieces.
                self.said_goodbye = match (self.said_goodbye, piece) {
                    (Some(HEARD_NOTHING), _) => Some(HEARD_HALF),
                    (Some(HEARD_HALF), [c, d, ..]) => Some(u32::from(u16::from_be_bytes([*c, *d]))),
                    (said, _) => said,
                };
            }
            Met::End(head) => {
                let is_last = matches!(head.kind, HEADERS | DATA) && head.has(END_STREAM);
                if is_last || head.kind == RST_STREAM {
                    self.close(head.stream, Instant::now());
                }
            }
            Met::Piece(..) => {}
        }
    }

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    fn close(&mut self, id: u32, now: Instant) {
        if let Some(at) = self.streams.iter().position(|stream| stream.id == id) {
            self.streams.swap_remove(at);
            if self.streams.is_empty() {
                self.idle_since = now;
            }
        }
    }

    /// Why the connection has to end, if it has to: more of something than anybody needs, or no
    /// beginning.
    pub(in crate::http) fn verdict(&self) -> Option<CloseReason> {
        self.verdict
    }

    /// Whether HTTP/2 would read the next byte as the beginning of a frame.
    pub(in crate::http) fn is_between_reads(&self) -> bool {
        self.preface_left == 0 && self.inward.is_between() && !self.in_head
    }

    /// Whether the next byte that is written begins a frame of its own.
    pub(in crate::http) fn is_between_writes(&self) -> bool {
        self.outward.is_between()
    }

    /// The last request's number.
    pub(in crate::http) fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Whether the client has said all that a connection begins with.
    pub(in crate::http) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether a byte came.
    pub(in crate::http) fn has_heard(&self) -> bool {
        self.preface_left < PREFACE_BYTES
    }

    /// Since when something that the client began is not whole.
    pub(in crate::http) fn open_since(&self) -> Option<Instant> {
        self.open_since
    }

    /// Since when no request is open.
    pub(in crate::http) fn idle_since(&self) -> Option<Instant> {
        self.streams.is_empty().then_some(self.idle_since)
    }

    /// With which code the connection was given up, if that was said.
    pub(in crate::http) fn said_goodbye(&self) -> Option<u32> {
        self.said_goodbye
    }

    /// The response that has waited longest for its client, and when to give it up.
    pub(in crate::http) fn starving(&mut self) -> Option<(Instant, u32)> {
        let is_shut = self.window <= 0;
        let mut first = None;
        for stream in self.streams.iter_mut().filter(|stream| stream.is_answered) {
            if is_shut || stream.window <= 0 {
                stream.stall.waits();
                let due = stream.stall.due(&self.limits).map(|due| (due, stream.id));
                first = first.into_iter().chain(due).min();
            }
        }
        first
    }

    /// Forgets a request that was given up.
    pub(in crate::http) fn gave_up(&mut self, stream: u32) {
        self.close(stream, Instant::now());
    }
}

impl Counts {
    fn new(since: Instant) -> Counts {
        Counts { since, resets: 0, pings: 0, settings: 0, empty: 0, idle: 0, useful: 0 }
    }
}

/// Over how long is counted.
const COUNTED: Duration = Duration::from_secs(10);
/// `PRI * HTTP/2.0`, and on.
const PREFACE_BYTES: usize = 24;
/// Windows before anybody said anything (RFC 9113 6.9.2).
const WINDOW: i64 = 65_535;
const INITIAL_WINDOW_SIZE: u8 = 4;
/// A code that is on its way: no code of HTTP/2 is so large.
const HEARD_NOTHING: u32 = u32::MAX;
const HEARD_HALF: u32 = u32::MAX - 1;
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;
