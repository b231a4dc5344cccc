//! One connection to Redis that many use at once, made again whenever it is lost.
//!
//! Nobody waits for a connection: where there is none, a command is refused at once as not sent. A
//! supervisor connects, logs in, checks what must hold (`check`), watches the connection with a
//! heartbeat that also compares the clocks, and starts over with a growing, jittered pause.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisError, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::check;
use super::fault::{self, Fault};
use super::pace::{Backoff, Offsets};
use super::target::{Address, Target};
use crate::clock::Clock;
use crate::metrics::{Counter, Sink};

/// The connection for scripts and reads, or the reason why there is none.
#[derive(Debug)]
pub(super) struct Link {
    target: Target,
    clock: Clock,
    sink: Sink,
    live: ArcSwapOption<Live>,
    /// Why Redis cannot be used, or not wholly; `None` when all is well.
    trouble: Mutex<Option<String>>,
    /// Wakes the one that waits for a connection: the mirror.
    connected: tokio::sync::Notify,
    /// Cancelled when the first attempt to connect has ended, well or not.
    tried: CancellationToken,
}

/// A connection that was checked.
struct Live {
    connection: MultiplexedConnection,
    /// Cancelled when the connection is lost, from either side.
    closed: CancellationToken,
    /// Why nobody may be admitted although commands get through, such as an evicting server.
    refusal: ArcSwapOption<String>,
}

impl Link {
    pub(super) fn new(target: Target, clock: Clock, sink: Sink) -> Link {
        let trouble = Mutex::new(Some(format!("Redis at {target}: not connected yet")));
        let (live, connected, tried) = Default::default();
        Link { target, clock, sink, live, trouble, connected, tried }
    }

    /// Sends one command and waits for its answer until `end`.
    pub(super) async fn send(&self, cmd: &Cmd, end: Instant) -> Result<Value, Fault> {
        let live = self.live()?;
        let mut connection = live.connection.clone();
        self.sink.inc(Counter::StoreCalls);
        let answer = timeout_at(end, connection.send_packed_command(cmd)).await;
        match self.settle(&live, answer)? {
            Value::ServerError(error) => Err(self.count(Fault::of_server(&error))),
            value => Ok(value),
        }
    }

    /// Sends several commands at once. An error of the server stays in its place among the values.
    pub(super) async fn send_all(&self, all: &Pipeline, end: Instant) -> Result<Vec<Value>, Fault> {
        let live = self.live()?;
        let mut connection = live.connection.clone();
        self.sink.add(Counter::StoreCalls, all.len() as u64);
        let answer = timeout_at(end, connection.send_packed_commands(all, 0, all.len())).await;
        self.settle(&live, answer)
    }

    /// Why nobody may be admitted although Redis answers.
    pub(super) fn refusal(&self) -> Option<Arc<String>> {
        self.live.load().as_ref().and_then(|live| live.refusal.load_full())
    }

    /// What is wrong, if anything.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves at the next connection.
    pub(super) fn connected(&self) -> impl Future<Output = ()> + '_ {
        self.connected.notified()
    }

    /// Resolves when the first attempt to connect has ended, well or not.
    pub(super) async fn tried(&self) {
        self.tried.cancelled().await;
    }

    /// Keeps a connection for as long as it is polled.
    pub(super) async fn supervise(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.connect().await {
                Ok(live) => {
                    backoff.reset();
                    tracing::info!(address = %self.target, "connected to Redis");
                    self.watch(live).await;
                    self.live.store(None);
                }
                Err(why) => self.note(Some(why)),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn connect(&self) -> Result<Arc<Live>, String> {
        let limit = self.target.connect_timeout;
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(COMMANDS_MAX);
        let (connection, closed) =
            open(&self.target, ProtocolVersion::RESP2, config).await.map_err(|w| self.at(&w))?;
        let live = Live { connection, closed, refusal: ArcSwapOption::empty() };
        match timeout(limit, check::whole(&mut live.connection.clone())).await {
            Ok(Ok(refusal)) => live.refusal.store(refusal.map(|why| Arc::new(self.at(&why)))),
            Ok(Err(why)) => return Err(self.at(&why)),
            Err(_) => return Err(self.at("no answer in time")),
        }
        Ok(Arc::new(live))
    }

    /// Publishes a connection and stays until it is lost.
    async fn watch(&self, live: Arc<Live>) {
        let mut offsets = Offsets::default();
        for _ in 0..SAMPLES_AT_START {
            if let Err(why) = self.beat(&live, &mut offsets).await {
                return self.note(Some(self.at(&why)));
            }
        }
        self.live.store(Some(live.clone()));
        self.note(live.refusal.load().as_ref().map(|why| why.to_string()));
        self.connected.notify_one();
        let mut beats = 0u64;
        let why = loop {
            tokio::select! {
                () = live.closed.cancelled() => break "the connection was lost".to_owned(),
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
            if let Err(why) = self.beat(&live, &mut offsets).await {
                break why;
            }
            beats += 1;
            if beats.is_multiple_of(BEATS_PER_CHECK) {
                let limit = self.target.connect_timeout.max(HEARTBEAT_TIMEOUT);
                match timeout(limit, check::whole(&mut live.connection.clone())).await {
                    Ok(Ok(refusal)) => {
                        let refusal = refusal.map(|why| self.at(&why));
                        self.note(refusal.clone());
                        live.refusal.store(refusal.map(Arc::new));
                    }
                    Ok(Err(why)) => break why,
                    Err(_) => break "no answer in time".to_owned(),
                }
            }
        };
        self.note(Some(self.at(&why)));
        live.closed.cancel();
    }

    /// One look at the server's clock: proves that it answers.
    async fn beat(&self, live: &Live, offsets: &mut Offsets) -> Result<(), String> {
        let mut connection = live.connection.clone();
        let (sent, now) = (Instant::now(), self.clock.now());
        let time = redis::cmd("TIME");
        let answer = timeout(HEARTBEAT_TIMEOUT, connection.send_packed_command(&time)).await;
        let round_trip = sent.elapsed();
        let value = match answer {
            Err(_) => return Err("no answer to the heartbeat".into()),
            Ok(Err(error)) => return Err(error.to_string()),
            Ok(Ok(Value::ServerError(error))) => return Err(error.to_string()),
            Ok(Ok(value)) => value,
        };
        let Ok((secs, micros)) = redis::from_redis_value::<(u64, u64)>(value) else {
            return Err("TIME has an odd answer".into());
        };
        let server_ms = secs.saturating_mul(1000).saturating_add(micros / 1000);
        let (offset_ms, err_ms) = offsets.add(now, round_trip, server_ms);
        self.clock.set_ledger_offset(offset_ms, err_ms);
        Ok(())
    }

    fn live(&self) -> Result<Arc<Live>, Fault> {
        match self.live.load_full() {
            Some(live) if !live.closed.is_cancelled() => Ok(live),
            _ => {
                self.sink.inc(Counter::StoreErrors);
                let why = self.trouble().unwrap_or_else(|| self.at("the connection was lost"));
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

    fn count(&self, fault: Fault) -> Fault {
        if !fault.is_no_script() {
            self.sink.inc(Counter::StoreErrors);
        }
        fault
    }

    fn note(&self, trouble: Option<String>) {
        let mut held = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *held != trouble {
            if let Some(why) = &trouble {
                tracing::warn!("{why}");
            }
            *held = trouble;
        }
        self.tried.cancel();
    }

    fn at(&self, why: &str) -> String {
        format!("Redis at {}: {why}", self.target)
    }
}

/// Whoever gives a connection up ends it, even one that hangs.
impl Drop for Live {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("closed", &self.closed.is_cancelled()).finish_non_exhaustive()
    }
}

/// Connects and logs in within the target's time. The token is cancelled when the connection ends,
/// and ends it when cancelled: a server that hangs does not keep it.
pub(super) async fn open(
    target: &Target,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> Result<(MultiplexedConnection, CancellationToken), String> {
    let connecting = async {
        let login = target.login(protocol)?;
        match &target.address {
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(|e| format!("cannot connect: {e}"))?;
                // Batches are small and latency is all: never wait for more bytes.
                stream.set_nodelay(true).map_err(|e| format!("TCP_NODELAY: {e}"))?;
                drive(login, stream, config).await
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.map_err(|e| format!("cannot connect: {e}"))?;
                drive(login, stream, config).await
            }
        }
    };
    match timeout(target.connect_timeout, connecting).await {
        Ok(result) => result,
        Err(_) => Err("cannot connect: no answer in time".into()),
    }
}

async fn drive<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    login: redis::RedisConnectionInfo,
    stream: S,
    config: AsyncConnectionConfig,
) -> Result<(MultiplexedConnection, CancellationToken), String> {
    let (connection, driver) = MultiplexedConnection::new_with_config(&login, stream, config)
        .await
        .map_err(|e| fault::connecting(&e))?;
    let closed = CancellationToken::new();
    let token = closed.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = driver => {}
            () = token.cancelled() => {}
        }
        token.cancel();
    });
    Ok((connection, closed))
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
