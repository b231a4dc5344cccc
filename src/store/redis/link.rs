//! One connection to one server that many use at once, made again whenever it is lost.
//!
//! Nobody waits for a connection: where there is none, a command is refused at once as not sent. A
//! supervisor connects, logs in, checks what must hold (`check`), watches the connection with a
//! heartbeat that also compares the clocks, and starts over with a growing, jittered pause. Under
//! Sentinel it asks for the master each time, and leaves a master that is one no more.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::check::{self, Expected, Found};
use super::context::Context;
use super::dial::open;
use super::fault::Fault;
use super::pace::{Backoff, Offsets};
use super::sentinel::Sentinels;
use super::target::{Peer, Server};
use crate::config::redis_url::Host;
use crate::metrics::Counter;

/// The connection for scripts and reads, or the reason why there is none.
#[derive(Debug)]
pub(super) struct Link {
    context: Arc<Context>,
    seat: Seat,
    live: ArcSwapOption<Live>,
    /// Why Redis cannot be used, or not wholly; `None` when all is well.
    trouble: Mutex<Option<String>>,
    /// What an operator should change, as it was said last.
    advice: Mutex<Vec<String>>,
    /// Wakes those who wait for the connection.
    ready: Notify,
    /// Wakes the supervisor: the server is not what it was.
    recheck: Notify,
    /// A hash tag of a slot of this master, of a cluster, to try commands on.
    probe: ArcSwapOption<String>,
    is_used: AtomicBool,
    /// Whether the first attempt to connect has ended.
    is_tried: AtomicBool,
}

/// Which server a link is to.
#[derive(Clone, Debug)]
pub(super) enum Seat {
    /// This one, whatever it is.
    Fixed(Server),
    /// This master of a cluster.
    Master(Host),
    /// The master that the Sentinels name.
    Named(Box<Sentinels>),
}

/// A connection that was checked.
struct Live {
    context: Arc<Context>,
    server: Server,
    connection: MultiplexedConnection,
    /// Cancelled when the connection is lost, from either side.
    closed: CancellationToken,
    /// Why nobody may be admitted although commands get through, such as an evicting server.
    refusal: ArcSwapOption<String>,
    offsets: Mutex<Offsets>,
    /// How far its clock is ahead of this machine's.
    offset_ms: AtomicI64,
}

/// Why a connection is given up.
enum End {
    /// It failed; the text says how.
    Lost(String),
    /// Another server may be the master by now.
    Astray(String),
}

impl Link {
    pub(super) fn new(context: Arc<Context>, seat: Seat) -> Link {
        let at = match &seat {
            Seat::Fixed(server) => server.to_string(),
            Seat::Master(host) => host.to_string(),
            Seat::Named(_) => context.target.to_string(),
        };
        let trouble = Mutex::new(Some(format!("Redis at {at}: not connected yet")));
        let (live, advice, ready, recheck, probe) = Default::default();
        let (is_used, is_tried) = Default::default();
        Link { context, seat, live, trouble, advice, ready, recheck, probe, is_used, is_tried }
    }

    /// Sends one command and waits for its answer until `end`.
    pub(super) async fn send(&self, cmd: &Cmd, end: Instant) -> Result<Value, Fault> {
        let live = self.live()?;
        let mut connection = live.connection.clone();
        self.context.sink.inc(Counter::StoreCalls);
        let answer = timeout_at(end, connection.send_packed_command(cmd)).await;
        self.settle(&live, answer).and_then(|value| self.good(value))
    }

    /// Sends several commands at once; each has an answer of its own.
    pub(super) async fn send_all(
        &self,
        all: &Pipeline,
        end: Instant,
    ) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let live = self.live()?;
        let mut connection = live.connection.clone();
        self.context.sink.add(Counter::StoreCalls, all.len() as u64);
        let answer = timeout_at(end, connection.send_packed_commands(all, 0, all.len())).await;
        let values = self.settle(&live, answer)?;
        Ok(values.into_iter().map(|value| self.good(value)).collect())
    }

    /// Sends one command to where its slot is being moved to.
    pub(super) async fn send_asking(&self, cmd: &Cmd, end: Instant) -> Result<Value, Fault> {
        let mut both = redis::pipe();
        both.cmd("ASKING");
        both.add_command(cmd.clone());
        let mut answers = self.send_all(&both, end).await?.into_iter();
        // Refused the first, it may have done the second all the same: the slot may be its own by now.
        match (answers.next(), answers.next()) {
            (Some(Err(fault)), Some(Err(_))) => Err(fault),
            (_, answer) => answer.unwrap_or(Err(Fault::Maybe)),
        }
    }

    /// Waits until `end` for the first attempt to connect: this link was made for the one who waits.
    pub(super) async fn ready(&self, end: Instant) {
        let mut ready = std::pin::pin!(self.ready.notified());
        ready.as_mut().enable();
        if !self.is_tried.load(Ordering::Acquire) {
            let _ = timeout_at(end, ready).await;
        }
    }

    /// The server that is connected, and the token of the connection's end.
    pub(super) fn connected(&self) -> Option<(Server, CancellationToken)> {
        let live = self.live.load_full().filter(|live| !live.closed.is_cancelled())?;
        Some((live.server.clone(), live.closed.clone()))
    }

    /// Why nobody may be admitted although Redis answers.
    pub(super) fn refusal(&self) -> Option<Arc<String>> {
        self.live.load().as_ref().and_then(|live| live.refusal.load_full())
    }

    /// What is wrong, if anything.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Commands are tried on keys with this hash tag.
    pub(super) fn set_probe(&self, tag: Option<String>) {
        self.probe.store(tag.map(Arc::new));
    }

    /// Keeps a connection for as long as it is polled.
    pub(super) async fn supervise(&self) {
        let mut backoff = Backoff::default();
        let mut last = None;
        loop {
            match self.connect().await {
                Ok(live) => {
                    backoff.reset();
                    self.tell_connected(&live, last.as_ref());
                    last = Some(live.server.clone());
                    let end = self.watch(&live).await;
                    self.leave(&live, end);
                }
                Err(why) => self.note(Some(why)),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = self.moved(last.as_ref()) => backoff.reset(),
            }
        }
    }

    async fn connect(&self) -> Result<Arc<Live>, String> {
        let server = match &self.seat {
            Seat::Fixed(server) => server.clone(),
            Seat::Master(host) => Server::Tcp(host.clone()),
            Seat::Named(sentinels) => Server::Tcp(sentinels.master().await?),
        };
        let target = &self.context.target;
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(COMMANDS_MAX);
        let opened = open(target, &server, Peer::Redis, ProtocolVersion::RESP2, config).await;
        let (connection, closed) = opened.map_err(|why| at(&server, &why))?;
        let (refusal, offsets, offset_ms) = Default::default();
        let context = self.context.clone();
        let live = Live { context, server, connection, closed, refusal, offsets, offset_ms };
        self.prove(&live).await.map_err(|end| match end {
            End::Lost(why) | End::Astray(why) => at(&live.server, &why),
        })?;
        Ok(Arc::new(live))
    }

    /// Reads the clock and checks everything, before anybody uses the connection.
    async fn prove(&self, live: &Live) -> Result<(), End> {
        for _ in 0..SAMPLES_AT_START {
            self.beat(live).await.map_err(End::Lost)?;
        }
        self.check(live, self.context.target.connect_timeout).await
    }

    /// Checks everything and remembers what it comes to.
    async fn check(&self, live: &Live, limit: Duration) -> Result<(), End> {
        let probe = self.probe.load_full();
        let expected = match &self.seat {
            Seat::Fixed(_) => Expected::Any,
            Seat::Named(_) => Expected::Master,
            Seat::Master(_) => Expected::ClusterMaster(probe.as_ref().map(|tag| tag.as_str())),
        };
        let mut connection = live.connection.clone();
        let found = match timeout(limit, check::whole(&mut connection, expected)).await {
            Ok(found) => found.map_err(End::Lost)?,
            Err(_) => return Err(End::Lost("no answer in time".into())),
        };
        match found {
            Found::Astray(why) => Err(End::Astray(why)),
            Found::Usable { refusal, mut advice } => {
                advice.extend(check::clock(live.offset_ms.load(Ordering::Relaxed)));
                self.tell_advice(&live.server, advice);
                live.refusal.store(refusal.map(|why| Arc::new(at(&live.server, &why))));
                Ok(())
            }
        }
    }

    /// Publishes a connection and stays until it is lost.
    async fn watch(&self, live: &Arc<Live>) -> End {
        self.live.store(Some(live.clone()));
        self.note(live.refusal.load().as_ref().map(|why| why.to_string()));
        self.context.connected.notify_one();
        let mut moved = std::pin::pin!(self.moved(Some(&live.server)));
        let limit = self.context.target.connect_timeout.max(HEARTBEAT_TIMEOUT);
        let mut beats = 0u64;
        loop {
            let is_asked = tokio::select! {
                () = live.closed.cancelled() => {
                    return End::Lost("the connection was lost".into());
                }
                () = &mut moved => {
                    return End::Astray("the Sentinels name another master".into());
                }
                () = self.recheck.notified() => true,
                () = tokio::time::sleep(HEARTBEAT) => false,
            };
            if let Err(why) = self.beat(live).await {
                return End::Lost(why);
            }
            beats += 1;
            if is_asked || beats.is_multiple_of(BEATS_PER_CHECK) {
                let was_replica = live.is_replica();
                if let Err(end) = self.check(live, limit).await {
                    return end;
                }
                self.note(live.refusal.load().as_ref().map(|why| why.to_string()));
                // Its name may lead to the master by now: looked at when it became one, and now and then.
                if live.is_replica() && is_asked != was_replica {
                    return End::Astray(check::REPLICA.into());
                }
            }
        }
    }

    /// Resolves when the Sentinels name another master than `known`; never without Sentinels.
    async fn moved(&self, known: Option<&Server>) {
        match (&self.seat, known) {
            (Seat::Named(sentinels), Some(Server::Tcp(known))) => {
                sentinels.moved_from(known).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Leaves a connection. One that is lost ends, and those who wait for an answer on it will not know
    /// what was done. A server that is no master any more still answers them, and is let.
    fn leave(&self, live: &Live, end: End) {
        self.live.store(None);
        self.context.astray.notify_one();
        let why = match end {
            End::Lost(why) => {
                live.closed.cancel();
                why
            }
            End::Astray(why) => why,
        };
        self.note(Some(at(&live.server, &why)));
    }

    /// One look at the server's clock: proves that it answers.
    async fn beat(&self, live: &Live) -> Result<(), String> {
        let mut connection = live.connection.clone();
        let clock = &self.context.clock;
        let (wall, sent_us) = (clock.now().wall, clock.mono_us());
        let time = redis::cmd("TIME");
        let answer = timeout(HEARTBEAT_TIMEOUT, connection.send_packed_command(&time)).await;
        let received_us = clock.mono_us();
        let value = match answer {
            Err(_) => return Err("no answer to the heartbeat".into()),
            Ok(Err(error)) => return Err(error.to_string()),
            Ok(Ok(Value::ServerError(error))) => return Err(Fault::of_server(&error).text()),
            Ok(Ok(value)) => value,
        };
        let Ok((secs, micros)) = redis::from_redis_value::<(u64, u64)>(value) else {
            return Err("TIME has an odd answer".into());
        };
        let server_us = secs.saturating_mul(1_000_000).saturating_add(micros);
        let away_ms = i128::from(server_us / 1_000) - i128::from(wall.0);
        live.offset_ms.store(i64::try_from(away_ms).unwrap_or(i64::MAX), Ordering::Relaxed);
        let mut offsets = live.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = offsets.add(sent_us, received_us, server_us);
        self.context.set_clock(&live.server, Some(reading));
        Ok(())
    }

    fn live(&self) -> Result<Arc<Live>, Fault> {
        match self.live.load_full() {
            Some(live) if !live.closed.is_cancelled() => Ok(live),
            _ => {
                self.context.sink.inc(Counter::StoreErrors);
                let why =
                    self.trouble().unwrap_or_else(|| "the connection to Redis was lost".into());
                Err(Fault::NotSent(why))
            }
        }
    }

    /// From what the connection says to what the caller may conclude. Once a command was handed to
    /// the connection nobody can tell whether it left.
    fn settle<T>(
        &self,
        live: &Live,
        answer: Result<Result<T, RedisError>, tokio::time::error::Elapsed>,
    ) -> Result<T, Fault> {
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => {
                live.closed.cancel();
                Err(self.count(Fault::Maybe))
            }
            Err(_) => Err(self.count(Fault::Maybe)),
        }
    }

    fn good(&self, value: Value) -> Result<Value, Fault> {
        match value {
            Value::ServerError(error) => Err(self.count(Fault::of_server(&error))),
            value => Ok(value),
        }
    }

    fn count(&self, fault: Fault) -> Fault {
        if fault.is_of_role() {
            self.recheck.notify_one();
        }
        if !fault.is_no_script() && fault.again().is_none() {
            self.context.sink.inc(Counter::StoreErrors);
        }
        fault
    }

    fn tell_connected(&self, live: &Live, last: Option<&Server>) {
        if self.is_used.swap(true, Ordering::Relaxed) {
            self.context.sink.inc(Counter::StoreReconnects);
        }
        match last {
            Some(last) if *last != live.server => {
                self.context.sink.inc(Counter::StoreRoleChanges);
                tracing::warn!(server = %live.server, was = %last, "connected to another master of Redis");
            }
            // A replica is looked at again and again: said once, as trouble.
            _ if live.refusal.load().is_some() => {}
            _ => tracing::info!(server = %live.server, "connected to Redis"),
        }
    }

    fn tell_advice(&self, server: &Server, advice: Vec<String>) {
        let mut said = self.advice.lock().unwrap_or_else(PoisonError::into_inner);
        for new in advice.iter().filter(|new| !said.contains(new)) {
            tracing::warn!(%server, "Redis is used, but: {new}");
        }
        *said = advice;
    }

    fn note(&self, trouble: Option<String>) {
        let mut held = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *held != trouble {
            if let Some(why) = &trouble {
                tracing::warn!("{why}");
            }
            *held = trouble;
        }
        drop(held);
        self.is_tried.store(true, Ordering::Release);
        self.ready.notify_waiters();
        self.context.tried.cancel();
    }
}

impl Live {
    fn is_replica(&self) -> bool {
        self.refusal.load().as_ref().is_some_and(|why| why.ends_with(check::REPLICA))
    }
}

/// Whoever gives a connection up ends it, even one that hangs, and its clock counts no more.
impl Drop for Live {
    fn drop(&mut self) {
        self.closed.cancel();
        self.context.set_clock(&self.server, None);
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("closed", &self.closed.is_cancelled()).finish_non_exhaustive()
    }
}

fn at(server: &Server, why: &str) -> String {
    format!("Redis at {server}: {why}")
}

/// Commands that wait to be written. Beyond it callers wait, each until its own deadline.
const COMMANDS_MAX: usize = 1_024;

/// Between two looks at the server's clock.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// A server that says nothing for so long is given up: the connection is made anew.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// Every how many heartbeats everything is checked again, since an operator may change it: 5 s.
const BEATS_PER_CHECK: u64 = 20;

/// Looks at the clock before a new connection is used: the quickest of them tells the time.
const SAMPLES_AT_START: usize = 8;
